// The library's functions, called from Python through ctypes.
#include <malloc.h>
#include <sys/mman.h>
#include "augment.h"
#include "cell.h"
#include "projection.h"

// Large buffers in large pages: the page faults of a fresh buffer otherwise cost as much as its arithmetic.
template <typename T>
static void advise(T* data, size_t count) {
    const uintptr_t page = 1 << 21, from = (uintptr_t(data) + page - 1) & ~(page - 1);
    const uintptr_t to = uintptr_t(data + count) & ~(page - 1);
    if (data && to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
}

template <typename T>
static void run(const Cell<T>& cell, bool backward) {
    const size_t image = cell.n * cell.h * cell.w * cell.c;
    if (!backward) {
        advise(cell.output, image * cell.nodes);
        for (long u = 0, next; cell.z && u < cell.n_units; u = next) {  // units that lie side by side
            for (next = u + 1; next < cell.n_units && cell.z[next] == cell.z[next - 1] + image;) next++;
            advise(cell.z[u], image * (next - u));
        }
    } else {
        advise(cell.grad_input0, image * cell.stride * cell.stride);
        advise(cell.grad_input1, image * cell.stride * cell.stride);
    }
    Runner<T> runner(cell);
    backward ? runner.backward() : runner.forward();
}

template <typename T>
static void project(const ProjectionCall<T>& call, bool backward) {
    Projection<T> projection(call);
    backward ? projection.backward() : projection.forward();
}

extern "C" {
// Memory that PyTorch frees stays with the process: fresh pages are cleared one by one, which takes long.
void cydas_keep_memory() {
    mallopt(M_MMAP_THRESHOLD, 1 << 25);  // the most that glibc allows
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
}
void cydas_augment(const AugmentCall* call) { augment(*call); }
void cydas_cell_float32(const Cell<float>* cell, int backward) { run(*cell, backward); }
void cydas_cell_float64(const Cell<double>* cell, int backward) { run(*cell, backward); }
void cydas_projection_float32(const ProjectionCall<float>* call, int backward) { project(*call, backward); }
void cydas_projection_float64(const ProjectionCall<double>* call, int backward) { project(*call, backward); }
}
