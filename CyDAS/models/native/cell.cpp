// Forward and backward of a whole DARTS cell: every node is a weighted sum of operations on earlier states.
//
// Kept for backward: the states, and of every convolution unit (ReLU, depthwise, pointwise, batch norm) the pointwise
// output z with its mean and 1 / std. Everything else is cheap enough to be computed again, image by image, in buffers
// that stay in the cache. Images are shared out to the threads; a batch norm's sums are added in the order of the
// images, so that outputs do not depend on the number of threads.
#include <omp.h>
#include <sys/mman.h>
#include <cmath>
#include <cstdlib>
#include <vector>
#include "kernels.h"
#include "norm.h"
#include "projection.h"

enum Kind : int64_t { MAX_POOL, AVG_POOL, IDENTITY, CONVOLUTION };

// One operation on one edge. A convolution has one or two units, numbers `unit` and `unit + 1`.
struct Branch { int64_t source, node, kind, mix, unit, units; };

// kernel 0: no depthwise; the pixels (2y, 2x) and (2y + 1, 2x + 1) side by side, pointwise and pointwise2 on each half.
// Gradients are null where none are wanted, gamma and beta without affine.
template <typename T>
struct Unit {
    int64_t kernel, dilation, stride;
    const T *depthwise, *pointwise, *pointwise2;
    T *grad_depthwise, *grad_pointwise, *grad_pointwise2;
    Norm<T> norm;
};

template <typename T>
struct Cell {
    int64_t n, h, w;      // images; height and width of a node
    int64_t c, channels;  // channels of a pixel in memory (a multiple of 4) and of the weights
    int64_t stride;       // of the edges that leave the two inputs
    int64_t nodes, n_branches, n_units, threads, training, weight_gradients, mix_gradients;
    double eps, momentum;
    const Branch* branches;
    const int64_t* geometry;       // [n_units, 3]: kernel, dilation, stride
    T* const* parameters;          // [n_units, 5]: depthwise, pointwise, pointwise2, gamma, beta
    T* const* buffers;             // [n_units, 3]: running mean, running variance, number of batches
    T* const* gradients;           // [n_units, 5], of the parameters
    const T *input0, *input1;  // [n, h * stride, w * stride, c]
    T* output;                 // [n, h, w, nodes * c]
    T *z, *mean, *inv_std;     // [n_units, n, h, w, c], [n_units, c], [n_units, c]
    const T* mix;              // what multiplies each operation
    const T* drop;             // one more factor for each image, [operations, n]; or null
    T *grad_input0, *grad_input1, *grad_output, *grad_mix;  // grad_output is used up
};

template <typename T, int V>
class Runner : Kernels<T, V> {
    using K = Kernels<T, V>;
    using typename K::Vec;
    using K::at;
    static constexpr long PAD = 4;  // enough for kernel 5, dilation 2

    static constexpr long ROW_PIXELS = 32;

    const Cell<T>& cell;
    const long n, h, w, c, pixels;
    std::vector<Unit<T>> units;
    struct Image { T* data; long pixel, h, w, stride; };
    struct Packed { const T *depthwise, *flipped, *pointwise, *transposed; long taps, depth; };
    std::vector<T> packed_weights, scales, shifts;
    std::vector<Packed> packed;
    std::vector<double> moments;  // [members of a group, n, 2, c]

  public:
    explicit Runner(const Cell<T>& cell)
        : cell(cell), n(cell.n), h(cell.h), w(cell.w), c(cell.c), pixels(cell.h * cell.w),
          scales(cell.n_units * c), shifts(cell.n_units * c) {
        read_units();
        pack();
    }

    void forward() {
        std::fill(cell.output, cell.output + n * pixels * cell.nodes * c, T(0));
        if (!cell.training)
            for (long u = 0; u < cell.n_units; u++) norm(u).use_running_statistics();
        for (long source = 0; source < cell.nodes + 1; source++) {
            mix_free(source);
            for (long node = 0; node < cell.nodes; node++) mix_convolutions(group(source, node));
        }
    }

    void backward() {
        for (long u = 0; u < cell.n_units; u++) norm(u).set_scale();
        for (long source = cell.nodes; source >= 0; source--) {
            mix_free_backward(source);
            for (long node = 0; node < cell.nodes; node++) convolutions_backward(group(source, node));
        }
    }

  private:
#include "layout.inc"
#include "forward.inc"
#include "backward.inc"
};

// Large buffers in large pages: the page faults of a fresh buffer otherwise cost as much as its arithmetic.
template <typename T>
static void advise(T* data, size_t count) {
    const uintptr_t page = 1 << 21, from = (uintptr_t(data) + page - 1) & ~(page - 1);
    const uintptr_t to = uintptr_t(data + count) & ~(page - 1);
    if (data && to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
}

template <typename T, int WIDE>
static void run(const Cell<T>& cell, bool backward) {
    const size_t image = cell.n * cell.h * cell.w * cell.c;
    if (!backward) {
        advise(cell.output, image * cell.nodes);
    } else {
        advise(cell.grad_input0, image * cell.stride * cell.stride);
        advise(cell.grad_input1, image * cell.stride * cell.stride);
    }
    if (WIDE > 4 && cell.c % WIDE == 0) {
        Runner<T, WIDE> runner(cell);
        backward ? runner.backward() : runner.forward();
    } else {
        Runner<T, 4> runner(cell);
        backward ? runner.backward() : runner.forward();
    }
}

template <typename T, int WIDE>
static void project(const ProjectionCall<T>& call, bool backward) {
    if (WIDE > 4 && call.c % WIDE == 0 && call.in_c % WIDE == 0) {
        Projection<T, WIDE> projection(call);
        backward ? projection.backward() : projection.forward();
    } else {
        Projection<T, 4> projection(call);
        backward ? projection.backward() : projection.forward();
    }
}

extern "C" {
void* cydas_allocate(size_t bytes) {
    const size_t page = 1 << 21;
    void* data = std::aligned_alloc(bytes < page ? 64 : page, (bytes + page - 1) / page * page);
    if (data) advise(static_cast<char*>(data), bytes);
    return data;
}
void cydas_release(void* data) { std::free(data); }
void cydas_cell_float32(const Cell<float>* cell, int backward) { run<float, 8>(*cell, backward); }
void cydas_cell_float64(const Cell<double>* cell, int backward) { run<double, 4>(*cell, backward); }
void cydas_projection_float32(const ProjectionCall<float>* call, int backward) { project<float, 8>(*call, backward); }
void cydas_projection_float64(const ProjectionCall<double>* call, int backward) { project<double, 4>(*call, backward); }
}
