// The arithmetic of a cell on one image: depthwise convolutions, matrix products and poolings, NHWC.
//
// Every pixel has c channels, a multiple of 4. Images that are convolved carry a border of zeros and so need no special
// cases at their edges.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include "lanes.h"

template <typename T>
struct Kernels {
    // U neighbouring outputs, one vector of channels. With U sums in registers each weight is read once for all of them.
    template <typename L, int K, int U, bool ADD>
    static inline void depthwise_block(const T* in, long line, long tap, long step, const T* weight, long c, T* out) {
        typename L::Vec sum[U];
        for (int u = 0; u < U; u++) sum[u] = ADD ? L::at(out + u * c) : typename L::Vec{};
        for (int ky = 0; ky < K; ky++)
            for (int kx = 0; kx < K; kx++) {
                const typename L::Vec w = L::at(weight + (ky * K + kx) * c);
                const T* p = in + ky * line + kx * tap;
                for (int u = 0; u < U; u++) sum[u] += L::at(p + u * step) * w;
            }
        for (int u = 0; u < U; u++) L::at(out + u * c) = sum[u];
    }

    // The same where outputs, and taps D times as far apart, lie side by side: each input is read once for all taps.
    template <typename L, int K, int U, int D, bool ADD>
    static inline void depthwise_window(const T* in, long line, const T* weight, long c, T* out) {
        constexpr int WIDTH = U + D * (K - 1);
        typename L::Vec sum[U], input[WIDTH];
        for (int u = 0; u < U; u++) sum[u] = ADD ? L::at(out + u * c) : typename L::Vec{};
        for (int ky = 0; ky < K; ky++) {
            for (int x = 0; x < WIDTH; x++) input[x] = L::at(in + ky * line + x * c);
            for (int kx = 0; kx < K; kx++) {
                const typename L::Vec w = L::at(weight + (ky * K + kx) * c);
                for (int u = 0; u < U; u++) sum[u] += input[u + D * kx] * w;
            }
        }
        for (int u = 0; u < U; u++) L::at(out + u * c) = sum[u];
    }

    // One row of a depthwise convolution. in: the input of output 0's first tap; line, tap, step: distances of two
    // taps' lines, of two taps in a line, of the inputs of two outputs. weight: [K * K, c]. out: [width, c].
    template <int K, bool ADD>
    static void depthwise_row(const T* in, long line, long tap, long step, const T* weight, long c, T* out, long width) {
        // inputs and sums have to fit into the registers: 32, or 16 of the narrower ones
        constexpr int U = REGISTER_BYTES == 64 ? 8 : 4;
        const bool near = step == c && tap == c, far = step == c && tap == 2 * c && (REGISTER_BYTES == 64 || K == 3);
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            long x = 0;
            for (; near && x + U <= width; x += U)
                depthwise_window<L, K, U, 1, ADD>(in + v + x * c, line, weight + v, c, out + v + x * c);
            for (; far && x + U <= width; x += U)
                depthwise_window<L, K, U, 2, ADD>(in + v + x * c, line, weight + v, c, out + v + x * c);
            for (; x + 8 <= width; x += 8)
                depthwise_block<L, K, 8, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
            for (; x + 4 <= width; x += 4)
                depthwise_block<L, K, 4, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
            for (; x < width; x++)
                depthwise_block<L, K, 1, ADD>(in + v + x * step, line, tap, step, weight + v, c, out + v + x * c);
        });
    }

    // The transposed convolution of a row with a stride: adds to the inputs what the outputs' gradients say.
    template <int K>
    static void depthwise_scatter(T* in, long line, long tap, long step, const T* weight, long c, const T* grad, long width) {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            for (int ky = 0; ky < K; ky++)
                for (int kx = 0; kx < K; kx++) {
                    const typename L::Vec w = L::at(weight + (ky * K + kx) * c + v);
                    T* p = in + v + ky * line + kx * tap;
                    for (long x = 0; x < width; x++) L::at(p + x * step) += L::at(grad + x * c + v) * w;
                }
        });
    }

    // R lines of a depthwise convolution's weight gradient, from one row of outputs.
    template <typename L, int K, int R>
    static inline void depthwise_weight_lines(const T* in, long line, long tap, long step, const T* grad, long c,
                                              long width, T* out) {
        // unrolled by force: sums that a loop chooses between are in memory, not in registers
        typename L::Vec sum[R * K];
#pragma GCC unroll 25
        for (int k = 0; k < R * K; k++) sum[k] = L::at(out + k * c);
        for (long x = 0; x < width; x++) {
            const typename L::Vec g = L::at(grad + x * c);
            const T* p = in + x * step;
#pragma GCC unroll 5
            for (int ky = 0; ky < R; ky++)
#pragma GCC unroll 5
                for (int kx = 0; kx < K; kx++) sum[ky * K + kx] += g * L::at(p + ky * line + kx * tap);
        }
#pragma GCC unroll 25
        for (int k = 0; k < R * K; k++) L::at(out + k * c) = sum[k];
    }

    // Adds one row's share to a weight gradient [K * K, c]. All sums stay in registers: 9 or, of 25, as many as fit.
    template <int K>
    static void depthwise_weight_row(const T* in, long line, long tap, long step, const T* grad, long c, long width, T* out) {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            constexpr int R = K == 3 || REGISTER_BYTES == 64 ? K : 2;
            int ky = 0;
            for (; ky + R <= K; ky += R)
                depthwise_weight_lines<L, K, R>(in + v + ky * line, line, tap, step, grad + v, c, width, out + v + ky * K * c);
            for (; ky < K; ky++)
                depthwise_weight_lines<L, K, 1>(in + v + ky * line, line, tap, step, grad + v, c, width, out + v + ky * K * c);
        });
    }

    // Rows of numbers `step` apart, in `lines` that are `line` apart.
    struct Rows { const T* data; long step, lines = 1, line = 0; };

    template <typename L, int P, int N, bool ADD>
    static inline void product_tile(const Rows& a, long row, const T* b, long ldb, long depth, T* out, long ldo) {
        constexpr int V = L::WIDTH;
        typename L::Vec sum[P][N];
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) sum[p][n] = ADD ? L::at(out + p * ldo + n * V) : typename L::Vec{};
        for (long line = 0; line < a.lines; line++) {
            const T* in = a.data + row * a.step + line * a.line;
            for (long k = 0; k < depth; k++, b += ldb)
                for (int n = 0; n < N; n++) {
                    const typename L::Vec w = L::at(b + n * V);
                    for (int p = 0; p < P; p++) sum[p][n] += in[p * a.step + k] * w;
                }
        }
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) L::at(out + p * ldo + n * V) = sum[p][n];
    }

    template <typename L, int N, bool ADD>
    static void product_columns(const Rows& a, long rows, const T* b, long ldb, long depth, T* out, long ldo) {
        constexpr int P = N == 1 || REGISTER_BYTES == 64 ? 8 : 4;
        long p = 0;
        for (; p + P <= rows; p += P) product_tile<L, P, N, ADD>(a, p, b, ldb, depth, out + p * ldo, ldo);
        for (; p + 4 <= rows; p += 4) product_tile<L, 4, N, ADD>(a, p, b, ldb, depth, out + p * ldo, ldo);
        for (; p < rows; p++) product_tile<L, 1, N, ADD>(a, p, b, ldb, depth, out + p * ldo, ldo);
    }

    // out[rows, columns] = (ADD: +=) a[rows, lines * depth] b[lines * depth, columns]: row r of a is, in every line,
    // the `depth` numbers from r * step on. columns is a multiple of 4.
    template <bool ADD>
    static void product(const Rows& a, long rows, const T* b, long columns, long depth, T* out, long ldo) {
        using Wide = Lanes<T, REGISTER_BYTES / sizeof(T)>;
        long done = 0;
        for (; done + 2 * Wide::WIDTH <= columns; done += 2 * Wide::WIDTH)
            product_columns<Wide, 2, ADD>(a, rows, b + done, columns, depth, out + done, ldo);
        each_lanes<T>(columns - done, [&](auto lanes, long v) {
            product_columns<decltype(lanes), 1, ADD>(a, rows, b + done + v, columns, depth, out + done + v, ldo);
        });
    }

    template <typename L, int P, int N>
    static inline void outer_tile(const Rows& a, long first, const Rows& b, long column, long rows, T* out, long ldo) {
        constexpr int V = L::WIDTH;
        typename L::Vec sum[P][N];
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) sum[p][n] = L::at(out + p * ldo + n * V);
        for (long line = 0; line < a.lines; line++) {
            const T *left = a.data + line * a.line + first, *right = b.data + line * b.line + column;
            for (long r = 0; r < rows; r++)
                for (int n = 0; n < N; n++) {
                    const typename L::Vec g = L::at(right + r * b.step + n * V);
                    for (int p = 0; p < P; p++) sum[p][n] += left[r * a.step + p] * g;
                }
        }
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) L::at(out + p * ldo + n * V) = sum[p][n];
    }

    template <typename L, int N>
    static void outer_columns(const Rows& a, const Rows& b, long column, long columns, long rows, long depth, T* out) {
        constexpr int P = N == 1 || REGISTER_BYTES == 64 ? 8 : 4;
        long p = 0;
        for (; p + P <= depth; p += P) outer_tile<L, P, N>(a, p, b, column, rows, out + p * columns + column, columns);
        for (; p < depth; p += 4) outer_tile<L, 4, N>(a, p, b, column, rows, out + p * columns + column, columns);
    }

    // out[depth, columns] += the sum over `rows` in every line of a's numbers, [depth], times b's, [columns]. The sums
    // stay in registers throughout. depth and columns are multiples of 4.
    static void outer(const Rows& a, const Rows& b, long columns, long rows, long depth, T* out) {
        using Wide = Lanes<T, REGISTER_BYTES / sizeof(T)>;
        long done = 0;
        for (; done + 2 * Wide::WIDTH <= columns; done += 2 * Wide::WIDTH)
            outer_columns<Wide, 2>(a, b, done, columns, rows, depth, out);
        each_lanes<T>(columns - done, [&](auto lanes, long v) {
            outer_columns<decltype(lanes), 1>(a, b, done + v, columns, rows, depth, out);
        });
    }

    // The border of an image, [h + 2 pad, w + 2 pad, c], becomes zero.
    static void clear_border(T* image, long h, long w, long c, long pad) {
        const long wide = (w + 2 * pad) * c;
        std::fill(image, image + pad * wide, T(0));
        std::fill(image + (pad + h) * wide, image + (2 * pad + h) * wide, T(0));
        for (T* row = image + pad * wide; row < image + (pad + h) * wide; row += wide) {
            std::fill(row, row + pad * c, T(0));
            std::fill(row + (pad + w) * c, row + wide, T(0));
        }
    }

    // relu(image * scale + shift) within a border that is there already; null: no scale, or neither. NaN stays NaN, as
    // in PyTorch.
    static void relu_into(const T* image, long pixel, long h, long w, long c, const T* scale, const T* shift, long pad,
                          T* out) {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            using Vec = typename L::Vec;
            const auto convert = [&](auto norm) {
                for (long y = 0; y < h; y++) {
                    const T* in = image + y * w * pixel + v;
                    T* row = out + ((pad + y) * (w + 2 * pad) + pad) * c + v;
                    for (long x = 0; x < w; x++) {
                        const Vec value = norm(L::at(in + x * pixel));
                        L::at(row + x * c) = value < 0 ? Vec{} : value;
                    }
                }
            };
            if (!shift) return convert([](const Vec& value) { return value; });
            const Vec by = scale ? L::at(scale + v) : Vec{} + 1, plus = L::at(shift + v);
            convert([&](const Vec& value) { return value * by + plus; });
        });
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

    // Mean and, with MAX, maximum of the 3x3 window, one vector of channels; the mean counts the image's own pixels only.
    template <typename L, bool MAX>
    static inline void pool(const T* image, long pixel, long w, const Window& window, typename L::Vec& largest,
                            typename L::Vec& mean) {
        largest = typename L::Vec{} - std::numeric_limits<T>::infinity();
        mean = typename L::Vec{};
        window.each(w, [&](long at_pixel) {
            const typename L::Vec value = L::at(image + at_pixel * pixel);
            if constexpr (MAX) largest = replaces<L>(value, largest) ? value : largest;
            mean += value;
        });
        mean *= window.share();
    }

    // Whether a pixel is the largest so far, as PyTorch sees it: the first of equal ones, and the last NaN.
    template <typename L>
    static inline auto replaces(const typename L::Vec& value, const typename L::Vec& largest) {
        return (value > largest) | (value != value);
    }

    // The gradients of both: the largest pixel takes the maximum's.
    template <typename L, bool MAX>
    static inline void pool_backward(const T* image, long pixel, long w, const Window& window,
                                     const typename L::Vec& grad_largest, const typename L::Vec& grad_mean, T* grad,
                                     long grad_pixel) {
        using Vec = typename L::Vec;
        using Places = decltype(Vec{} == Vec{});
        const Vec share = grad_mean * window.share();
        if constexpr (!MAX) {
            window.each(w, [&](long at_pixel) { L::at(grad + at_pixel * grad_pixel) += share; });
            return;
        }
        Vec largest = Vec{} - std::numeric_limits<T>::infinity();
        Places place = Places{}, here = Places{};  // of the largest pixel; of this one, counted within the window
        window.each(w, [&](long at_pixel) {
            const Vec value = L::at(image + at_pixel * pixel);
            const Places is_larger = replaces<L>(value, largest);
            largest = is_larger ? value : largest;
            place = is_larger ? here : place;
            here += 1;
        });
        here = Places{};
        window.each(w, [&](long at_pixel) {
            L::at(grad + at_pixel * grad_pixel) += share + (here == place ? grad_largest : Vec{});
            here += 1;
        });
    }
};
