// The arithmetic of a cell on one image: depthwise convolutions, matrix products and poolings, NHWC.
//
// Every pixel has c channels, c a multiple of V, so that all loops run over whole vectors of V numbers. Images that are
// convolved carry a border of zeros and so need no special cases at their edges.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

template <typename T, int V>
struct Kernels {
    // aligned(sizeof(T)): loads and stores of any address
    typedef T Vec __attribute__((vector_size(V * sizeof(T)), aligned(sizeof(T)), may_alias));
    static Vec& at(T* p) { return *reinterpret_cast<Vec*>(p); }
    static const Vec& at(const T* p) { return *reinterpret_cast<const Vec*>(p); }

    // U neighbouring outputs, V channels. Keeping U sums in registers reads each weight once for all of them.
    template <int K, int U, bool ADD>
    static inline void depthwise_block(const T* in, long line, long tap, long step, const T* weight, long c, T* out) {
        Vec sum[U];
        for (int u = 0; u < U; u++) sum[u] = ADD ? at(out + u * c) : Vec{};
        for (int ky = 0; ky < K; ky++)
            for (int kx = 0; kx < K; kx++) {
                const Vec w = at(weight + (ky * K + kx) * c);
                const T* p = in + ky * line + kx * tap;
                for (int u = 0; u < U; u++) sum[u] += at(p + u * step) * w;
            }
        for (int u = 0; u < U; u++) at(out + u * c) = sum[u];
    }

    // One row of a depthwise convolution. in: the input of output 0's first tap; line, tap, step: distances of two
    // taps' lines, of two taps in a line, of the inputs of two outputs. weight: [K * K, c]. out: [width, c].
    template <int K, bool ADD>
    static void depthwise_row(const T* in, long line, long tap, long step, const T* weight, long c, T* out, long width) {
        for (long v = 0; v < c; v += V) {
            long x = 0;
            for (; x + 8 <= width; x += 8)
                depthwise_block<K, 8, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
            for (; x + 4 <= width; x += 4)
                depthwise_block<K, 4, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
            for (; x < width; x++)
                depthwise_block<K, 1, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
        }
    }

    // The transposed convolution of a row with a stride: adds to the inputs what the outputs' gradients say.
    template <int K>
    static void depthwise_scatter(T* in, long line, long tap, long step, const T* weight, long c, const T* grad, long width) {
        for (long v = 0; v < c; v += V)
            for (int ky = 0; ky < K; ky++)
                for (int kx = 0; kx < K; kx++) {
                    const Vec w = at(weight + (ky * K + kx) * c + v);
                    T* p = in + v + ky * line + kx * tap;
                    for (long x = 0; x < width; x++) at(p + x * step) += at(grad + x * c + v) * w;
                }
    }

    // R lines of a depthwise convolution's weight gradient, from one row of outputs.
    template <int K, int R>
    static inline void depthwise_weight_lines(const T* in, long line, long tap, long step, const T* grad, long c,
                                              long width, T* out) {
        Vec sum[R * K];
        for (int k = 0; k < R * K; k++) sum[k] = at(out + k * c);
        for (long x = 0; x < width; x++) {
            const Vec g = at(grad + x * c);
            const T* p = in + x * step;
            for (int ky = 0; ky < R; ky++)
                for (int kx = 0; kx < K; kx++) sum[ky * K + kx] += g * at(p + ky * line + kx * tap);
        }
        for (int k = 0; k < R * K; k++) at(out + k * c) = sum[k];
    }

    // Adds one row's share to a weight gradient [K * K, c].
    template <int K>
    static void depthwise_weight_row(const T* in, long line, long tap, long step, const T* grad, long c, long width, T* out) {
        for (long v = 0; v < c; v += V) {
            if (K == 3) {
                depthwise_weight_lines<K, 3>(in + v, line, tap, step, grad + v, c, width, out + v);
                continue;
            }
            for (int ky = 0; ky + 2 <= K; ky += 2)
                depthwise_weight_lines<K, 2>(in + v + ky * line, line, tap, step, grad + v, c, width, out + v + ky * K * c);
            depthwise_weight_lines<K, 1>(in + v + (K - 1) * line, line, tap, step, grad + v, c, width,
                                         out + v + (K - 1) * K * c);
        }
    }

    template <int P, int N>
    static inline void product_tile(const T* a, long lda, const T* b, long ldb, long depth, T* out, long ldo) {
        Vec sum[P][N];
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) sum[p][n] = Vec{};
        for (long k = 0; k < depth; k++)
            for (int n = 0; n < N; n++) {
                const Vec w = at(b + k * ldb + n * V);
                for (int p = 0; p < P; p++) sum[p][n] += a[p * lda + k] * w;
            }
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) at(out + p * ldo + n * V) = sum[p][n];
    }

    template <int N>
    static void product_columns(const T* a, long lda, long rows, const T* b, long ldb, long depth, T* out, long ldo) {
        long p = 0;
        for (; N == 1 && p + 8 <= rows; p += 8) product_tile<8, N>(a + p * lda, lda, b, ldb, depth, out + p * ldo, ldo);
        for (; p + 4 <= rows; p += 4) product_tile<4, N>(a + p * lda, lda, b, ldb, depth, out + p * ldo, ldo);
        for (; p < rows; p++) product_tile<1, N>(a + p * lda, lda, b, ldb, depth, out + p * ldo, ldo);
    }

    // out[rows, columns] = a[rows, depth] b[depth, columns]; columns is a multiple of V.
    static void product(const T* a, long lda, long rows, const T* b, long columns, long depth, T* out, long ldo) {
        long n = 0;
        for (; n + 2 * V <= columns; n += 2 * V) product_columns<2>(a, lda, rows, b + n, columns, depth, out + n, ldo);
        for (; n < columns; n += V) product_columns<1>(a, lda, rows, b + n, columns, depth, out + n, ldo);
    }

    template <int P, int N>
    static inline void outer_tile(const T* a, long lda, const T* b, long ldb, long rows, T* out, long ldo) {
        Vec sum[P][N];
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) sum[p][n] = at(out + p * ldo + n * V);
        for (long r = 0; r < rows; r++)
            for (int n = 0; n < N; n++) {
                const Vec g = at(b + r * ldb + n * V);
                for (int p = 0; p < P; p++) sum[p][n] += a[r * lda + p] * g;
            }
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) at(out + p * ldo + n * V) = sum[p][n];
    }

    // out[depth, columns] += a[rows, depth]^T b[rows, columns]; depth is a multiple of 4, columns of V.
    static void outer(const T* a, long lda, const T* b, long columns, long rows, long depth, T* out) {
        for (long p = 0; p < depth; p += 4) {
            long n = 0;
            for (; n + 2 * V <= columns; n += 2 * V)
                outer_tile<4, 2>(a + p, lda, b + n, columns, rows, out + p * columns + n, columns);
            for (; n < columns; n += V)
                outer_tile<4, 1>(a + p, lda, b + n, columns, rows, out + p * columns + n, columns);
        }
    }

    // relu(image * scale + shift) (no scale: relu(image)) with a border of zeros. NaN stays NaN, as in PyTorch.
    static void pad_relu(const T* image, long pixel, long h, long w, long c, const T* scale, const T* shift, long pad,
                         T* out) {
        const long wide = (w + 2 * pad) * c;
        std::fill(out, out + pad * wide, T(0));
        std::fill(out + (pad + h) * wide, out + (2 * pad + h) * wide, T(0));
        for (long y = 0; y < h; y++) {
            T* row = out + (pad + y) * wide;
            std::fill(row, row + pad * c, T(0));
            std::fill(row + (pad + w) * c, row + wide, T(0));
            for (long x = 0; x < w; x++)
                for (long v = 0; v < c; v += V) {
                    Vec value = at(image + (y * w + x) * pixel + v);
                    if (scale) value = value * at(scale + v) + at(shift + v);
                    at(row + (pad + x) * c + v) = value < 0 ? Vec{} : value;
                }
        }
    }

    struct Window {
        long y0, y1, x0, x1;
        Window(long y, long x, long stride, long h, long w)
            : y0(std::max(0L, y * stride - 1)), y1(std::min(h, y * stride + 2)),
              x0(std::max(0L, x * stride - 1)), x1(std::min(w, x * stride + 2)) {}
        // Calls f(pixel) from first to last; whole windows in a form that the compiler can unroll.
        template <typename F>
        inline void each(long w, F f) const {
            if (y1 - y0 == 3 && x1 - x0 == 3) {
                for (long y = 0; y < 3; y++)
                    for (long x = 0; x < 3; x++) f((y0 + y) * w + x0 + x);
                return;
            }
            for (long y = y0; y < y1; y++)
                for (long x = x0; x < x1; x++) f(y * w + x);
        }
        T share() const { return T(1) / T((y1 - y0) * (x1 - x0)); }
    };

    // Maximum and mean of the 3x3 window, V channels; the mean counts the image's own pixels only.
    static inline void pool(const T* image, long pixel, long w, const Window& window, Vec& largest, Vec& mean) {
        largest = Vec{} - std::numeric_limits<T>::infinity();
        mean = Vec{};
        window.each(w, [&](long at_pixel) {
            const Vec value = at(image + at_pixel * pixel);
            largest = ((value > largest) | (value != value)) ? value : largest;
            mean += value;
        });
        mean *= window.share();
    }

    // The gradients of both: the first largest pixel takes the maximum's, as in PyTorch.
    static inline void pool_backward(const T* image, long pixel, long w, const Window& window, const Vec& grad_largest,
                                     const Vec& grad_mean, T* grad, long grad_pixel) {
        Vec largest, mean;
        pool(image, pixel, w, window, largest, mean);
        Vec left = grad_largest;
        const Vec share = grad_mean * window.share();
        window.each(w, [&](long at_pixel) {
            const auto here = at(image + at_pixel * pixel) == largest;
            at(grad + at_pixel * grad_pixel) += share + (here ? left : Vec{});
            left = here ? Vec{} : left;
        });
    }
};
