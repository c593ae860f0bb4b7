// Batch normalisation of pointwise outputs z, [n, pixels, c]: statistics, and the slopes of z's gradient.
#pragma once
#include <cmath>
#include <vector>
#include "kernels.h"

// Null pointers: no affine parameters, no running statistics, no gradients wanted.
template <typename T>
struct Norm {
    const T *gamma, *beta;
    T *running_mean, *running_var;
    int64_t* batches;
    T *grad_gamma, *grad_beta;
};

// d loss / d z = gradient * from_gradient + z * from_z + constant, by channel: a batch norm's backward.
template <typename T>
struct Slopes {
    Array<T> gradient, z, constant;
    bool constant_statistics;  // z's slope and the constant are zero, and a z that is not finite does not matter
};

// One batch norm with its batch. c channels in memory, `channels` of them real.
template <typename T>
struct NormStep {
    const Norm<T>& norm;
    long n, pixels, c, channels;
    bool training;
    double eps, momentum;
    T *mean, *inv_std;    // [c]
    T *scale, *shift;     // [c]: the norm is z * scale + shift

    // Adds a row of pixels to sums [2, c] around the image's first pixel, so that nothing cancels.
    static void add_row(const T* row, long width, const T* first, long c, T* sums) {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            const typename L::Vec about = L::at(first + v);
            typename L::Vec sum = L::at(sums + v), squares = L::at(sums + c + v);
            for (long x = 0; x < width; x++) {
                const typename L::Vec d = L::at(row + x * c + v) - about;
                sum += d;
                squares += d * d;
            }
            L::at(sums + v) = sum;
            L::at(sums + c + v) = squares;
        });
    }

    // An image's mean and sum of squared distances from it, [2, c]. Squares that are too large for T are summed again.
    static void image_moments(const T* z, const T* sums, long pixels, long c, double* moments) {
        for (long ch = 0; ch < c; ch++) {
            double sum = sums[ch], squares = sums[c + ch];
            if (!std::isfinite(squares)) {
                sum = squares = 0;
                for (long p = 0; p < pixels; p++) {
                    const double d = double(z[p * c + ch]) - z[ch];
                    sum += d;
                    squares += d * d;
                }
            }
            const double mean = sum / pixels;
            moments[ch] = z[ch] + mean;
            moments[c + ch] = squares - mean * sum;
        }
    }

    // Batch statistics from the images' moments [n, 2, c], and the running ones (momentum, unbiased variance).
    void finish_statistics(const double* moments) const {
        const double count = double(n) * pixels;
        for (long ch = 0; ch < c; ch++) {
            double average = 0, spread = 0;
            for (long i = 0; i < n; i++) average += moments[2 * i * c + ch] / n;
            for (long i = 0; i < n; i++) {
                const double off = moments[2 * i * c + ch] - average;
                spread += moments[(2 * i + 1) * c + ch] + pixels * off * off;
            }
            mean[ch] = average;
            inv_std[ch] = 1 / std::sqrt(spread / count + eps);
            if (ch >= channels || !norm.running_mean) continue;
            norm.running_mean[ch] += momentum * (average - norm.running_mean[ch]);
            norm.running_var[ch] += momentum * (spread / (count - 1) - norm.running_var[ch]);
        }
        if (norm.batches) ++*norm.batches;
        set_scale();
    }

    void use_running_statistics() const {
        for (long ch = 0; ch < c; ch++) {
            const bool real = ch < channels;
            mean[ch] = real ? norm.running_mean[ch] : 0;
            inv_std[ch] = 1 / std::sqrt((real ? double(norm.running_var[ch]) : 1) + eps);
        }
        set_scale();
    }

    void set_scale() const {
        for (long ch = 0; ch < c; ch++) {
            const bool affine = norm.gamma && ch < channels;
            scale[ch] = (affine ? norm.gamma[ch] : T(1)) * inv_std[ch];
            shift[ch] = (affine ? norm.beta[ch] : T(0)) - mean[ch] * scale[ch];
        }
    }

    // Sums over an image, [2, c]: of the gradient and of gradient * normalised z.
    void gradient_sums(const T* z, const T* grad, long pixel, T factor, double* sums) const {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            const typename L::Vec center = L::at(mean + v);
            typename L::Vec sum{}, dot{};
            for (long p = 0; p < pixels; p++) {
                const typename L::Vec g = L::at(grad + p * pixel + v);
                sum += g;
                dot += g * (L::at(z + p * c + v) - center);
            }
            dot *= L::at(inv_std + v);
            for (int lane = 0; lane < L::WIDTH; lane++) {
                sums[v + lane] = double(sum[lane]) * factor;
                sums[c + v + lane] = double(dot[lane]) * factor;
            }
        });
    }

    // From the images' sums [n, 2, c] where the norm's output was multiplied by `weight`: gradients of gamma and beta,
    // the slopes, and (returned) the gradient of the weight.
    double finish_gradients(const double* sums, T weight, Slopes<T>& slopes) const {
        const double count = double(n) * pixels;
        double weight_gradient = 0;
        for (auto* part : {&slopes.gradient, &slopes.z, &slopes.constant}) part->resize(c);
        slopes.constant_statistics = !training;
        for (long ch = 0; ch < c; ch++) {
            double sum = 0, dot = 0;
            for (long i = 0; i < n; i++) {
                sum += sums[2 * i * c + ch];
                dot += sums[(2 * i + 1) * c + ch];
            }
            const bool affine = norm.gamma && ch < channels;
            weight_gradient += dot * (affine ? norm.gamma[ch] : 1) + sum * (affine ? norm.beta[ch] : 0);
            if (affine && norm.grad_gamma) norm.grad_gamma[ch] = weight * dot;
            if (affine && norm.grad_beta) norm.grad_beta[ch] = weight * sum;
            const double slope = double(weight) * scale[ch], by_z = training ? dot / count * inv_std[ch] : 0;
            slopes.gradient[ch] = slope;
            slopes.z[ch] = -slope * by_z;
            slopes.constant[ch] = slope * (by_z * mean[ch] - (training ? sum / count : 0));
        }
        return weight_gradient;
    }

    // The gradient of a row of z; `factor` multiplies the gradient of this image.
    static void z_gradient(const Slopes<T>& slopes, T factor, const T* z, const T* grad, long pixel, long width, long c,
                           T* out) {
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            const typename L::Vec slope = L::at(&slopes.gradient[v]) * factor, by_z = L::at(&slopes.z[v]);
            const typename L::Vec constant = L::at(&slopes.constant[v]);
            if (slopes.constant_statistics) {
                for (long x = 0; x < width; x++) L::at(out + x * c + v) = L::at(grad + x * pixel + v) * slope;
                return;
            }
            for (long x = 0; x < width; x++)
                L::at(out + x * c + v) = L::at(grad + x * pixel + v) * slope + (L::at(z + x * c + v) * by_z + constant);
        });
    }
};
