// A batch of training images in one pass: a window of the padded image, mirrored or not, normalised, with a square cut
// out. What is random in it has been drawn.
#pragma once
#include <algorithm>
#include <cstdint>

struct AugmentCall {
    int64_t n, c, h, w;               // images, channels, height, width
    int64_t padding, length;          // pixels; of the square's side; 0 for no square
    int64_t plane, pixel, threads;    // from a channel to the next in the output, from a pixel to the next
    const uint8_t* images;            // [n, c, h, w]
    const int64_t *rows, *columns;    // [n], where a window begins in the padded image
    const uint8_t* mirrored;          // [n], 0 or 1; null: none is
    const int64_t *top, *left;        // [n], where the square begins, perhaps outside
    const float* normalised;          // [c, 256], what becomes of a pixel
    float* output;                    // [n, c, h, w], in the order that plane and pixel say
};

// One channel of one image.
inline void augment_plane(const AugmentCall& call, long i, long channel) {
    const long h = call.h, w = call.w, pixel = call.pixel;
    const uint8_t* image = call.images + (i * call.c + channel) * h * w;
    const float* normalised = call.normalised + channel * 256;
    const long top = call.rows[i] - call.padding, left = call.columns[i] - call.padding;
    const long step = call.mirrored && call.mirrored[i] ? -pixel : pixel, start = step < 0 ? (w - 1) * pixel : 0;
    // the window's columns that lie in the image
    const long first = std::clamp(-left, 0L, w), last = std::clamp(w - left, first, w);
    for (long y = 0; y < h; y++) {
        float* out = call.output + i * call.c * h * w + channel * call.plane + y * w * pixel;
        const auto fill = [&](long begin, long end, float value) {
            for (long x = begin; x < end; x++) out[start + x * step] = value;
        };
        const long from = y + top;
        const bool inside = from >= 0 && from < h;
        fill(0, inside ? first : w, normalised[0]);
        if (inside) {
            const uint8_t* in = image + from * w + left;
            for (long x = first; x < last; x++) out[start + x * step] = normalised[in[x]];
            fill(last, w, normalised[0]);
        }
        if (!call.length || y < call.top[i] || y >= call.top[i] + call.length) continue;
        const long begin = std::clamp(call.left[i], int64_t(0), call.w);
        const long end = std::clamp(call.left[i] + call.length, begin, call.w);
        for (long x = begin; x < end; x++) out[x * pixel] = 0;
    }
}

inline void augment(const AugmentCall& call) {
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (long i = 0; i < call.n; i++)
        for (long channel = 0; channel < call.c; channel++) augment_plane(call, i, channel);
}
