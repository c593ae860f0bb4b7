// Where things lie: weights by channel, states, buffers of a thread. Part of cell.h.
#pragma once

template <typename T>
Runner<T>::Runner(const Cell<T>& cell)
    : cell(cell), n(cell.n), h(cell.h), w(cell.w), c(cell.c), pixels(cell.h * cell.w), scales(cell.n_units * c),
      shifts(cell.n_units * c) {
    read_units();
    pack();
}

template <typename T>
void Runner<T>::read_units() {
    for (long u = 0; u < cell.n_units; u++) {
        const int64_t* g = cell.geometry + 4 * u;
        T *const *p = cell.parameters + 5 * u, *const *b = cell.buffers + 3 * u, *const *d = cell.gradients + 5 * u;
        units.push_back({g[0], g[1], g[2], g[3], p[0], p[1], p[2], d[0], d[1], d[2],
                         {p[3], p[4], b[0], b[1], reinterpret_cast<int64_t*>(b[2]), d[3], d[4]}});
    }
}

template <typename T>
void Runner<T>::pack() {
    std::vector<size_t> starts;
    size_t size = 0;
    for (const Unit<T>& unit : units) {
        starts.push_back(size);
        size += 2 * unit.taps() * c + 2 * unit.views() * c * c;
    }
    packed_weights.assign(size, T(0));
    for (long u = 0; u < cell.n_units; u++) {
        const long taps = units[u].taps() * c, depth = units[u].views() * c;
        T* at = packed_weights.data() + starts[u];
        packed.push_back({at, at + taps, at + 2 * taps, at + 2 * taps + depth * c, depth});
    }
#pragma omp parallel for num_threads(cell.threads) schedule(static)
    for (long u = 0; u < cell.n_units; u++) pack_unit(u);
}

template <typename T>
void Runner<T>::pack_unit(long u) {
    const Unit<T>& unit = units[u];
    const Packed& to = packed[u];
    const long taps = unit.taps();
    for (long ch = 0; ch < cell.channels; ch++)
        for (long t = 0; t < taps; t++)
            to.depthwise[t * c + ch] = to.flipped[(taps - 1 - t) * c + ch] = unit.depthwise[ch * taps + t];
    each_pointwise(unit, [&](long out, long in, long half, long index) {
        const T value = (half ? unit.pointwise2 : unit.pointwise)[index];
        to.pointwise[in * c + out] = value;
        if (unit.dense) to.transposed[((unit.views() - 1 - in / c) * c + out) * c + in % c] = value;
        else to.transposed[out * to.depth + in] = value;
    });
}

// Calls f(output channel, place of the input in a product, which of two weights, index in it) for every pointwise weight.
template <typename T>
template <typename F>
void Runner<T>::each_pointwise(const Unit<T>& unit, F f) const {
    const long channels = cell.channels, halves = unit.kernel ? 1 : 2, outputs = channels / halves;
    const long taps = unit.dense ? unit.views() : 1;
    for (long half = 0; half < halves; half++)
        for (long out = 0; out < outputs; out++)
            for (long in = 0; in < channels; in++)
                for (long tap = 0; tap < taps; tap++)
                    f(half * outputs + out, (half + tap) * c + in, half, (out * channels + in) * taps + tap);
}

template <typename T>
NormStep<T> Runner<T>::norm(long u) {
    return {units[u].norm, n, pixels, c, cell.channels, bool(cell.training), cell.eps, cell.momentum,
            cell.mean + u * c, cell.inv_std + u * c, &scales[u * c], &shifts[u * c]};
}

// The convolutions from a state in groups that are computed together and so read the state once. Those of two units
// keep gradients between the units, one image each: where these are many, a group for each node keeps few at a time.
template <typename T>
std::vector<typename Runner<T>::Members> Runner<T>::convolutions(long source) const {
    Members members;
    for (long b = 0; b < cell.n_branches; b++)
        if (cell.branches[b].source == source && cell.branches[b].kind == CONVOLUTION) members.push_back(cell.branches[b]);
    if (members.empty()) return {};
    const size_t kept = members.size() * n * pixels * c * sizeof(T);
    return has_pairs(members) && kept > CACHE_BYTES ? by_node(members) : std::vector<Members>{members};
}

template <typename T>
std::vector<typename Runner<T>::Members> Runner<T>::by_node(const Members& members) const {
    std::vector<Members> groups;
    for (long node = 0; node < cell.nodes; node++) {
        Members group;
        for (const Branch& b : members)
            if (b.node == node) group.push_back(b);
        if (!group.empty()) groups.push_back(group);
    }
    return groups;
}

template <typename T>
typename Runner<T>::Members Runner<T>::parameter_free(long source) const {
    Members members;
    for (long b = 0; b < cell.n_branches; b++)
        if (cell.branches[b].source == source && cell.branches[b].kind != CONVOLUTION) members.push_back(cell.branches[b]);
    return members;
}

template <typename T>
typename Runner<T>::Buffers Runner<T>::buffers(const Image& image) const {
    static thread_local Array<T> memory;
    const size_t big = whole_lines<T>((image.h + 2 * PAD) * (image.w + 2 * PAD) * c);
    const size_t small = whole_lines<T>(((h + 2 * PAD) * (w + 2 * PAD) + ROW_PIXELS) * 2 * c);
    if (memory.size() < 2 * big + 3 * small) memory.resize(2 * big + 3 * small);
    T* data = memory.data();
    return {data, data + 2 * big, data + 2 * big + small, data + 2 * big + 2 * small, data + big};
}
