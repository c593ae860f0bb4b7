// The library's functions, called from Python through ctypes.
#include <malloc.h>
#include <sys/mman.h>
#include <cstdlib>
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
void* cydas_allocate(size_t bytes) {
    const size_t page = 1 << 21;
    void* data = std::aligned_alloc(bytes < page ? 64 : page, (bytes + page - 1) / page * page);
    if (data) advise(static_cast<char*>(data), bytes);
    return data;
}
void cydas_release(void* data) { std::free(data); }
void cydas_cell_float32(const Cell<float>* cell, int backward) { run(*cell, backward); }
void cydas_cell_float64(const Cell<double>* cell, int backward) { run(*cell, backward); }
void cydas_projection_float32(const ProjectionCall<float>* call, int backward) { project(*call, backward); }
void cydas_projection_float64(const ProjectionCall<double>* call, int backward) { project(*call, backward); }
}
