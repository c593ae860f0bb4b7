// Vectors of numbers, as wide as the processor's registers, and the loop that covers all channels with them.
#pragma once

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
