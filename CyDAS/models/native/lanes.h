// Vectors of numbers, as wide as the processor's registers, the loop that covers all channels with them, memory that
// suits them, and the parts in which images are shared out.
#pragma once
#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

// V numbers side by side, at any address.
template <typename T, int V>
struct Lanes {
    static constexpr int WIDTH = V;
    typedef T Vec __attribute__((vector_size(V * sizeof(T)), aligned(sizeof(T)), may_alias));
    static Vec& at(T* p) { return *reinterpret_cast<Vec*>(p); }
    static const Vec& at(const T* p) { return *reinterpret_cast<const Vec*>(p); }
};

#ifdef __AVX512F__
constexpr int REGISTER_BYTES = 64;
#else
constexpr int REGISTER_BYTES = 32;
#endif

// Numbers that begin with a line of the cache: a vector of a whole register that begins elsewhere lies in two lines, and
// takes twice as long to read.
constexpr size_t LINE_BYTES = 64;

template <typename T>
struct InLines {
    using value_type = T;
    InLines() = default;
    template <typename U> InLines(const InLines<U>&) {}
    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(LINE_BYTES))); }
    void deallocate(T* data, size_t) { ::operator delete(data, std::align_val_t(LINE_BYTES)); }
    template <typename U> bool operator==(const InLines<U>&) const { return true; }
    template <typename U> bool operator!=(const InLines<U>&) const { return false; }
};

template <typename T>
using Array = std::vector<T, InLines<T>>;

// So many numbers and those that fill up their last line.
template <typename T>
constexpr size_t whole_lines(size_t count) {
    constexpr size_t line = LINE_BYTES / sizeof(T);
    return (count + line - 1) / line * line;
}

// Calls f(i) for the numbers of one of several nearly equal parts of 0 ... count - 1.
template <typename F>
inline void each_in_part(long count, long parts, long part, F f) {
    const long size = count / parts, larger = count % parts;
    const long from = part * size + std::min(part, larger);
    for (long i = from; i < from + size + (part < larger); i++) f(i);
}

// Calls f(lanes, first channel) until all c channels, a multiple of 4, are covered: wide vectors, narrower at the end.
template <typename T, typename F>
inline void each_lanes(long c, F f) {
    constexpr int wide = REGISTER_BYTES / sizeof(T);
    long v = 0;
    for (; v + wide <= c; v += wide) f(Lanes<T, wide>(), v);
    if constexpr (wide > 8)
        for (; v + 8 <= c; v += 8) f(Lanes<T, 8>(), v);
    if constexpr (wide > 4)
        for (; v < c; v += 4) f(Lanes<T, 4>(), v);
}
