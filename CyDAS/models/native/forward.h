// The forward pass. Part of cell.h.
#pragma once

template <typename T>
void Runner<T>::forward() {
    if (!cell.training)
        for (long u = 0; u < cell.n_units; u++) norm(u).use_running_statistics();
    if (!cell.z) return infer();
    std::fill(cell.output, cell.output + n * pixels * cell.nodes * c, T(0));
    for (long source = 0; source < cell.nodes + 1; source++) {
        const Members free = parameter_free(source);
        if (!free.empty()) {
#pragma omp parallel for num_threads(cell.threads) schedule(static)
            for (long i = 0; i < n; i++) has_max(free) ? mix_free<true>(free, i) : mix_free<false>(free, i);
        }
        for (const Members& group : convolutions(source)) mix_convolutions(group);
    }
}

// The first tap of output (y, 0) in an image with a border of PAD.
template <typename T>
long Runner<T>::origin(const Unit<T>& unit, long y, long width) const {
    return ((y * unit.stride + PAD - unit.reach()) * (width + 2 * PAD) + PAD - unit.reach()) * c;
}

// What row y's pointwise convolution multiplies: [w, depth].
template <typename T>
void Runner<T>::pointwise_input(long u, const T* padded, long width, long y, T* row) const {
    const Unit<T>& unit = units[u];
    const long line = (width + 2 * PAD) * c;
    const T* in = padded + origin(unit, y, width);
    if (unit.kernel == 3) {
        K::template depthwise_row<3, false>(in, unit.dilation * line, unit.dilation * c, unit.stride * c,
                                            packed[u].depthwise, c, row, w);
    } else if (unit.kernel == 5) {
        K::template depthwise_row<5, false>(in, unit.dilation * line, unit.dilation * c, unit.stride * c,
                                            packed[u].depthwise, c, row, w);
    } else {
        in = padded + (2 * y + PAD) * line + PAD * c;
        for (long x = 0; x < w; x++) {
            std::copy(in + 2 * x * c, in + (2 * x + 1) * c, row + 2 * x * c);
            std::copy(in + line + (2 * x + 1) * c, in + line + (2 * x + 2) * c, row + (2 * x + 1) * c);
        }
    }
}

// Row y of a unit before its batch norm: out[w, c] = (ADD: +=). A dense convolution is one product over the lines
// of its kernel: the pixels that an output sees in one lie side by side, and the next output's start one pixel later.
template <typename T>
template <bool ADD>
void Runner<T>::unit_row(long u, const T* padded, long width, long y, T* row, T* out, long ldo) const {
    const Unit<T>& unit = units[u];
    const Packed& packed = this->packed[u];
    if (!unit.dense) {
        pointwise_input(u, padded, width, y, row);
        return K::template product<ADD>({row, packed.depth}, w, packed.pointwise, c, packed.depth, out, ldo);
    }
    const typename K::Rows in = {padded + origin(unit, y, width), c, unit.kernel, (width + 2 * PAD) * c};
    K::template product<ADD>(in, w, packed.pointwise, c, unit.kernel * c, out, ldo);
}

// z of one image, and the sums for its mean and variance.
template <typename T>
void Runner<T>::unit_forward(long u, long member, const T* padded, long width, long i, T* row) {
    T* z = z_of(u, i);
    Array<T> sums(2 * c, T(0));
    for (long y = 0; y < h; y++) {
        T* out = z + y * w * c;
        unit_row<false>(u, padded, width, y, row, out, c);
        if (cell.training) NormStep<T>::add_row(out, w, z, c, sums.data());
    }
    if (cell.training) NormStep<T>::image_moments(z, sums.data(), pixels, c, moments_of(member, i));
}

// Poolings and identities of one state, one image.
template <typename T>
template <bool MAX>
void Runner<T>::mix_free(const Members& members, long i) {
    const Image in = state(members[0].source);
    for (long y = 0; y < h; y++)
        for (long x = 0; x < w; x++) {
            const typename K::Window window(y, x, in.stride, in.h, in.w);
            each_lanes<T>(c, [&](auto lanes, long v) {
                using L = decltype(lanes);
                const T* image = of(in, i) + v;
                typename L::Vec value[3];
                K::template pool<L, MAX>(image, in.pixel, in.w, window, value[MAX_POOL], value[AVG_POOL]);
                value[IDENTITY] = L::at(image + (y * in.stride * in.w + x * in.stride) * in.pixel);
                T* out = cell.output + ((i * h + y) * w + x) * cell.nodes * c + v;
                for (const Branch& b : members) L::at(out + b.node * c) += factor(b, i) * value[b.kind];
            });
        }
}

// A group of convolutions from one state.
template <typename T>
void Runner<T>::mix_convolutions(const Members& members) {
    if (members.empty()) return;
    const Image in = state(members[0].source);
    const long count = members.size();
    moments.resize(count * n * 2 * c);
#pragma omp parallel num_threads(cell.threads)
    {
        const Buffers buffer = buffers(in);
        K::clear_border(buffer.padded, in.h, in.w, c, PAD);
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++) {
            K::relu_into(of(in, i), in.pixel, in.h, in.w, c, nullptr, nullptr, PAD, buffer.padded);
            for (long m = 0; m < count; m++) unit_forward(members[m].unit, m, buffer.padded, in.w, i, buffer.row);
        }
        if (cell.training) {
#pragma omp for schedule(static)
            for (long m = 0; m < count; m++) norm(members[m].unit).finish_statistics(moments_of(m, 0));
        }
        K::clear_border(buffer.padded, h, w, c, PAD);
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++)
            for (long m = 0; m < count; m++) {
                const long u = members[m].unit;
                if (members[m].units < 2) continue;
                K::relu_into(z_of(u, i), c, h, w, c, &scales[u * c], &shifts[u * c], PAD, buffer.padded);
                unit_forward(u + 1, m, buffer.padded, w, i, buffer.row);
            }
        if (cell.training) {
#pragma omp for schedule(static)
            for (long m = 0; m < count; m++)
                if (members[m].units == 2) norm(members[m].unit + 1).finish_statistics(moments_of(m, 0));
        }
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++)
            for (const Members& part : by_node(members)) add_convolutions(part, i);
    }
}

// node += factor * batch norm of every member, one image. All members lead to the same node.
template <typename T>
void Runner<T>::add_convolutions(const Members& members, long i) {
    const long count = members.size(), pixel = cell.nodes * c;
    Array<T> scale(count * c), shift(c, T(0));
    std::vector<const T*> z(count);
    for (long m = 0; m < count; m++) {
        const long u = members[m].last_unit();
        const T weight = factor(members[m], i);
        for (long ch = 0; ch < c; ch++) {
            scale[m * c + ch] = weight * scales[u * c + ch];
            shift[ch] += weight * shifts[u * c + ch];
        }
        z[m] = z_of(u, i);
    }
    T* out = cell.output + i * pixels * pixel + members[0].node * c;
    for (long p = 0; p < pixels; p++)
        each_lanes<T>(c, [&](auto lanes, long v) {
            using L = decltype(lanes);
            typename L::Vec sum = L::at(out + p * pixel + v) + L::at(&shift[v]);
            for (long m = 0; m < count; m++) sum += L::at(z[m] + p * c + v) * L::at(&scale[m * c + v]);
            L::at(out + p * pixel + v) = sum;
        });
}

// Inference: nothing is kept, and no image waits for another. The batch norms' scales go into the pointwise weights,
// a last unit's also its operation's factor, and the products are added to the nodes at once.
template <typename T>
void Runner<T>::infer() {
    fold_norms();
    Array<T> start(cell.nodes * c, T(0));  // what the last units' shifts add up to
    std::vector<Members> free, convolved;
    for (long source = 0; source < cell.nodes + 1; source++) {
        free.push_back(parameter_free(source));
        convolved.emplace_back();
        for (const Members& group : convolutions(source))
            for (const Branch& b : group) {
                convolved.back().push_back(b);
                for (long ch = 0; ch < c; ch++) start[b.node * c + ch] += cell.mix[b.mix] * shifts[b.last_unit() * c + ch];
            }
    }
#pragma omp parallel for num_threads(cell.threads) schedule(static)
    for (long i = 0; i < n; i++) infer_image(i, free, convolved, start.data());
}

template <typename T>
void Runner<T>::fold_norms() {
    for (long b = 0; b < cell.n_branches; b++) {
        const Branch& branch = cell.branches[b];
        for (long u = branch.unit; branch.kind == CONVOLUTION && u <= branch.last_unit(); u++) {
            const T weight = u == branch.last_unit() ? cell.mix[branch.mix] : T(1);
            for (long in = 0; in < packed[u].depth; in++)
                for (long out = 0; out < c; out++) packed[u].pointwise[in * c + out] *= weight * scales[u * c + out];
        }
    }
}

template <typename T>
void Runner<T>::infer_image(long i, const std::vector<Members>& free, const std::vector<Members>& convolved,
                            const T* start) {
    const long pixel = cell.nodes * c;
    T* nodes = cell.output + i * pixels * pixel;
    for (long p = 0; p < pixels; p++) std::copy(start, start + pixel, nodes + p * pixel);
    for (size_t source = 0; source < free.size(); source++) {
        if (!free[source].empty()) has_max(free[source]) ? mix_free<true>(free[source], i) : mix_free<false>(free[source], i);
        if (convolved[source].empty()) continue;
        const Image in = state(source);
        const Buffers buffer = buffers(in);
        K::clear_border(buffer.padded, in.h, in.w, c, PAD);
        K::relu_into(of(in, i), in.pixel, in.h, in.w, c, nullptr, nullptr, PAD, buffer.padded);
        if (has_pairs(convolved[source])) K::clear_border(buffer.input_grad, h, w, c, PAD);
        for (const Branch& b : convolved[source]) {
            const T* padded = buffer.padded;
            long u = b.unit, width = in.w;
            if (b.units == 2) {
                T* z = buffer.row_grad;
                for (long y = 0; y < h; y++) unit_row<false>(u, padded, width, y, buffer.row, z + y * w * c, c);
                K::relu_into(z, c, h, w, c, nullptr, &shifts[u * c], PAD, buffer.input_grad);
                padded = buffer.input_grad, width = w, u++;
            }
            for (long y = 0; y < h; y++)
                unit_row<true>(u, padded, width, y, buffer.row, nodes + y * w * pixel + b.node * c, pixel);
        }
    }
}
