// ReLU, 1x1 convolution, batch norm: what brings a cell's input to the cell's width, with `stride` 2 also to half its
// resolution (the pixels (2y, 2x) and (2y + 1, 2x + 1) side by side, each with its own weight for half the outputs).
#pragma once
#include <memory>
#include "norm.h"

template <typename T>
struct ProjectionCall {
    int64_t n, h, w;            // images; height and width of the output
    int64_t c, channels;        // of the output: in memory (a multiple of 4) and real
    int64_t in_c, in_channels;  // of the input
    int64_t stride, parts, threads, training, weight_gradients;
    double eps, momentum;
    const T *weight, *weight2;  // [channels / stride, in_channels]
    Norm<T> norm;
    const T* input;             // [n, h * stride, w * stride, in_c]
    T *output, *z;              // [n, h, w, c]; z is null where nothing will be asked of it: inference
    T *mean, *inv_std;          // [c]
    const T* grad_output;
    T *grad_input, *grad_weight, *grad_weight2;  // grad_input is zero before
};

template <typename T>
class Projection {
    using K = Kernels<T>;
    const ProjectionCall<T>& call;
    const long n, h, w, c, in_c, depth, pixels;
    Array<T> pointwise, transposed, scale, shift;  // [depth, c], [c, depth]
    std::vector<double> moments;
    NormStep<T> norm;

  public:
    explicit Projection(const ProjectionCall<T>& call)
        : call(call), n(call.n), h(call.h), w(call.w), c(call.c), in_c(call.in_c), depth(call.stride * call.in_c),
          pixels(h * w), pointwise(depth * c), transposed(depth * c), scale(c), shift(c), moments(2 * n * c),
          norm{call.norm, n, pixels, c, call.channels, bool(call.training), call.eps, call.momentum,
               call.mean, call.inv_std, scale.data(), shift.data()} {
        each_weight([&](long out, long in, const T* weight, T*, long index) {
            pointwise[in * c + out] = transposed[out * depth + in] = weight[index];
        });
    }

    void forward() {
        if (!call.training) norm.use_running_statistics();
        if (!call.z) return infer();
#pragma omp parallel num_threads(call.threads)
        {
            Array<T> row(w * depth), sums(2 * c);
#pragma omp for schedule(static)
            for (long i = 0; i < n; i++) {
                T* z = call.z + i * pixels * c;
                std::fill(sums.begin(), sums.end(), T(0));
                for (long y = 0; y < h; y++) {
                    read_row(i, y, row.data());
                    K::template product<false>({row.data(), depth}, w, pointwise.data(), c, depth, z + y * w * c, c);
                    if (call.training) norm.add_row(z + y * w * c, w, z, c, sums.data());
                }
                norm.image_moments(z, sums.data(), pixels, c, &moments[2 * i * c]);
            }
#pragma omp single
            if (call.training) norm.finish_statistics(moments.data());
#pragma omp for schedule(static)
            for (long p = 0; p < n * pixels; p++)
                each_lanes<T>(c, [&](auto lanes, long v) {
                    using L = decltype(lanes);
                    L::at(call.output + p * c + v) = L::at(call.z + p * c + v) * L::at(&scale[v]) + L::at(&shift[v]);
                });
        }
    }

    // The batch norm's scale in the weights, its shift in the output before the product is added.
    void infer() {
        for (long in = 0; in < depth; in++)
            for (long out = 0; out < c; out++) pointwise[in * c + out] *= scale[out];
#pragma omp parallel num_threads(call.threads)
        {
            Array<T> row(w * depth);
#pragma omp for schedule(static)
            for (long line = 0; line < n * h; line++) {
                T* out = call.output + line * w * c;
                for (long x = 0; x < w; x++) std::copy(shift.begin(), shift.end(), out + x * c);
                read_row(line / h, line % h, row.data());
                K::template product<true>({row.data(), depth}, w, pointwise.data(), c, depth, out, c);
            }
        }
    }

    void backward() {
        norm.set_scale();
        Slopes<T> slopes;
        std::vector<Array<T>> sums(call.parts);
#pragma omp parallel num_threads(call.threads)
        {
            Array<T> row(w * depth), row_grad(w * depth), z_grad(w * c);
#pragma omp for schedule(static)
            for (long i = 0; i < n; i++)
                norm.gradient_sums(call.z + i * pixels * c, call.grad_output + i * pixels * c, c, 1, &moments[2 * i * c]);
#pragma omp single
            norm.finish_gradients(moments.data(), 1, slopes);
#pragma omp for schedule(static)
            for (long part = 0; part < call.parts; part++) {
                if (call.weight_gradients) sums[part].assign(depth * c, T(0));
                each_in_part(n, call.parts, part, [&](long i) {
                    for (long y = 0; y < h; y++) {
                        const long at = (i * h + y) * w * c;
                        norm.z_gradient(slopes, 1, call.z + at, call.grad_output + at, c, w, c, z_grad.data());
                        read_row(i, y, row.data());
                        if (call.weight_gradients)
                            K::outer({row.data(), depth}, {z_grad.data(), c}, c, w, depth, sums[part].data());
                        if (!call.grad_input) continue;
                        K::template product<false>({z_grad.data(), c}, w, transposed.data(), depth, c, row_grad.data(),
                                                   depth);
                        write_row(i, y, row.data(), row_grad.data());
                    }
                });
            }
        }
        if (!call.weight_gradients) return;
        each_weight([&](long out, long in, const T*, T* grad, long index) {
            if (!grad) return;
            grad[index] = 0;
            for (const auto& part : sums) grad[index] += part[in * c + out];
        });
    }

  private:
    // Calls f(output channel, input position, weight, its gradient, index in both) for every weight.
    template <typename F>
    void each_weight(F f) const {
        const long outputs = call.channels / call.stride;
        for (long half = 0; half < call.stride; half++)
            for (long out = 0; out < outputs; out++)
                for (long in = 0; in < call.in_channels; in++)
                    f(half * outputs + out, half * in_c + in, half ? call.weight2 : call.weight,
                      half ? call.grad_weight2 : call.grad_weight, out * call.in_channels + in);
    }

    // Where output (y, 0) finds its first input channel: of pixel (2y, 0) for stride 2.
    long place(long i, long y) const { return (i * h * call.stride + y * call.stride) * w * call.stride * in_c; }

    // The rectified inputs of a row of outputs, [w, depth].
    void read_row(long i, long y, T* row) const {
        each_input(i, y, [&](auto lanes, long from, long to) {
            using L = decltype(lanes);
            const typename L::Vec value = L::at(call.input + from);
            L::at(row + to) = value < 0 ? typename L::Vec{} : value;
        });
    }

    void write_row(long i, long y, const T* row, const T* grad) const {
        each_input(i, y, [&](auto lanes, long to, long from) {
            using L = decltype(lanes);
            L::at(call.grad_input + to) = L::at(row + from) <= 0 ? typename L::Vec{} : L::at(grad + from);
        });
    }

    template <typename F>
    void each_input(long i, long y, F f) const {
        const long line = (w * call.stride + 1) * in_c;  // from pixel (2y, 2x) to (2y + 1, 2x + 1)
        for (long x = 0; x < w; x++)
            for (long half = 0; half < call.stride; half++)
                each_lanes<T>(in_c, [&](auto lanes, long v) {
                    f(lanes, place(i, y) + x * call.stride * in_c + half * line + v, (x * call.stride + half) * in_c + v);
                });
    }
};
