// Forward and backward of a whole cell, of DARTS or NATS-Bench: every node is a weighted sum of operations on earlier states.
//
// Kept for backward: the states, and of every convolution unit (ReLU, depthwise, pointwise, batch norm) the pointwise
// output z with its mean and 1 / std. Everything else is cheap enough to be computed again, image by image, in buffers
// that stay in the cache. Images are shared out to the threads; a batch norm's sums are added in the order of the
// images, a weight's gradient in parts of the images: nothing depends on how many threads share the parts out.
#pragma once
#include <cmath>
#include <vector>
#include "kernels.h"
#include "norm.h"

enum Kind : int64_t { MAX_POOL, AVG_POOL, IDENTITY, CONVOLUTION };

// One operation on one edge. A convolution has one or two units, numbers `unit` and `unit + 1`.
struct Branch {
    int64_t source, node, kind, mix, unit, units;
    long last_unit() const { return unit + units - 1; }
};

// kernel 0: no depthwise; the pixels (2y, 2x) and (2y + 1, 2x + 1) side by side, pointwise and pointwise2 on each half.
// dense: no depthwise either; `pointwise` is a whole kernel x kernel convolution, stride 1, [out, in, kernel, kernel].
// Gradients are null where none are wanted, gamma and beta without affine.
template <typename T>
struct Unit {
    int64_t kernel, dilation, stride, dense;
    const T *depthwise, *pointwise, *pointwise2;
    T *grad_depthwise, *grad_pointwise, *grad_pointwise2;
    Norm<T> norm;
    long taps() const { return dense ? 0 : kernel * kernel; }  // of the depthwise convolution
    long views() const { return dense ? kernel * kernel : kernel ? 1 : 2; }  // input pixels that a pointwise product sees
    long reach() const { return kernel ? dilation * (kernel - 1) / 2 : 0; }
};

template <typename T>
struct Cell {
    int64_t n, h, w;      // images; height and width of a node
    int64_t c, channels;  // channels of a pixel in memory (a multiple of 4) and of the weights
    int64_t stride;       // of the edges that leave the two inputs
    int64_t nodes, n_branches, n_units;
    int64_t parts, threads;  // of the images, each with sums of its own; and who computes them
    int64_t training, weight_gradients, mix_gradients;
    double eps, momentum;
    const Branch* branches;
    const int64_t* geometry;   // [n_units, 4]: kernel, dilation, stride, dense
    T* const* parameters;      // [n_units, 5]: depthwise, pointwise, pointwise2, gamma, beta
    T* const* buffers;         // [n_units, 3]: running mean, running variance, number of batches
    T* const* gradients;       // [n_units, 5], of the parameters
    T* const* z;               // [n_units] of [n, h, w, c]; null: inference
    const T *input0, *input1;  // [n, h * stride, w * stride, c]; input1 null where no branch reads it
    T* output;                 // [n, h, w, nodes * c]
    T *mean, *inv_std;         // [n_units, c]
    const T* mix;              // what multiplies each operation
    const T* drop;             // one more factor for each image, [operations, n]; or null
    T *grad_input0, *grad_input1, *grad_output, *grad_mix;  // grad_output is used up
};

template <typename T>
class Runner {
  public:
    explicit Runner(const Cell<T>& cell);
    void forward();
    void backward();

  private:
    using K = Kernels<T>;
    static constexpr long PAD = 4;  // enough for kernel 5, dilation 2
    static constexpr long ROW_PIXELS = 32;
    static constexpr size_t CACHE_BYTES = 1 << 20;  // so much stays in the level-2 cache beside other things
    static constexpr long DENSE_PIXELS = 96;  // so many in the level-1 cache at a time

    // A state or its gradient: [n, h, w, pixel], of which the first c numbers of a pixel count.
    struct Image { T* data; long pixel, h, w, stride; };
    // A unit's weights as the kernels read them: [taps, c] twice, the second in reverse; [depth, c] and [c, depth], the
    // latter of a dense convolution as its transposed convolution needs it: [taps in reverse, c out, c in].
    struct Packed { T *depthwise, *flipped, *pointwise, *transposed; long depth; };
    // A thread's buffers, kept from call to call: padded image, rows of pointwise inputs, gradients of z, of the
    // pointwise inputs and of the padded image.
    struct Buffers { T *padded, *row, *z_grad, *row_grad, *input_grad; };
    using Members = std::vector<Branch>;

    const Cell<T>& cell;
    const long n, h, w, c, pixels;
    std::vector<Unit<T>> units;
    std::vector<Packed> packed;
    Array<T> packed_weights, scales, shifts;  // batch norms are z * scale + shift; [n_units, c]
    std::vector<double> moments;                    // [members of a group, n, 2, c]

    // where things lie: layout.h
    void read_units();
    void pack();
    void pack_unit(long u);
    template <typename F> void each_pointwise(const Unit<T>& unit, F f) const;
    Image state(long source, const T* input0, const T* input1, const T* nodes) const {
        const long s = cell.stride;
        if (source < 2) return {const_cast<T*>(source ? input1 : input0), c, h * s, w * s, s};
        return {const_cast<T*>(nodes) + (source - 2) * c, cell.nodes * c, h, w, 1};
    }
    Image state(long source) const { return state(source, cell.input0, cell.input1, cell.output); }
    Image gradient(long source) const { return state(source, cell.grad_input0, cell.grad_input1, cell.grad_output); }
    T* of(const Image& image, long i) const { return image.data + i * image.h * image.w * image.pixel; }
    T* z_of(long unit, long i) const { return cell.z[unit] + i * pixels * c; }
    double* moments_of(long member, long i) { return moments.data() + (member * n + i) * 2 * c; }
    T image_factor(const Branch& branch, long i) const { return cell.drop ? cell.drop[branch.mix * n + i] : T(1); }
    T factor(const Branch& branch, long i) const { return cell.mix[branch.mix] * image_factor(branch, i); }
    NormStep<T> norm(long u);
    std::vector<Members> convolutions(long source) const;
    std::vector<Members> by_node(const Members& members) const;
    Members parameter_free(long source) const;
    static bool has_max(const Members& members) {
        return std::any_of(members.begin(), members.end(), [](const Branch& b) { return b.kind == MAX_POOL; });
    }
    static bool has_pairs(const Members& members) {
        return std::any_of(members.begin(), members.end(), [](const Branch& b) { return b.units == 2; });
    }
    Buffers buffers(const Image& image) const;

    // forward.h
    long origin(const Unit<T>& unit, long y, long width) const;
    void pointwise_input(long u, const T* padded, long width, long y, T* row) const;
    template <bool ADD>
    void unit_row(long u, const T* padded, long width, long y, T* row, T* out, long ldo) const;
    void unit_forward(long u, long member, const T* padded, long width, long i, T* row);
    template <bool MAX>
    void mix_free(const Members& members, long i);
    void mix_convolutions(const Members& members);
    void add_convolutions(const Members& members, long i);
    void fold_norms();
    void infer_image(long i, const std::vector<Members>& free, const std::vector<Members>& convolved, const T* start);
    void infer();

    // backward.h
    void mix_free_backward(long source);
    template <bool MAX>
    void free_backward(const Members& members, const Image& in, const Image& grad_in, long i, std::vector<double>& dots);
    void unit_backward(long u, const Slopes<T>& slopes, T image_scale, const T* grad, long pixel, const T* padded,
                       const Image& in, long i, const Buffers& buffer, T* weight_grad, bool first);
    void dense_backward(long u, const Slopes<T>& slopes, T image_scale, const T* grad, long pixel, const T* padded,
                        const Image& in, long i, const Buffers& buffer, T* weight_grad, bool first);
    void depthwise_weights(const Unit<T>& unit, const T* padded, long width, long y, const T* grad, T* weight_grad) const;
    void depthwise_inputs(long u, const Image& in, const Buffers& buffer, bool first) const;
    template <bool ADD> void leave_relu(const Image& in, const Buffers& buffer, T* out, long pixel) const;
    T* between_units(long members) const;
    void convolutions_backward(const Members& members);
    void write_weight_gradients(long u, const std::vector<Array<T>>& sums, long at) const;
};

#include "layout.h"
#include "forward.h"
#include "backward.h"
