// The backward pass. Part of cell.h.
#pragma once

template <typename T>
void Runner<T>::backward() {
    for (long u = 0; u < cell.n_units; u++) norm(u).set_scale();
    for (long source = cell.nodes; source >= 0; source--) {
        mix_free_backward(source);
        for (const Members& group : convolutions(source)) convolutions_backward(group);
    }
}

template <typename T>
void Runner<T>::mix_free_backward(long source) {
    const Members members = parameter_free(source);
    if (members.empty()) return;
    const Image in = state(source), grad_in = gradient(source);
    const long count = members.size();
    std::vector<double> dots(count * n, 0.0);
#pragma omp parallel for num_threads(cell.threads) schedule(static)
    for (long i = 0; i < n; i++)
        has_max(members) ? free_backward<true>(members, in, grad_in, i, dots)
                         : free_backward<false>(members, in, grad_in, i, dots);
    if (!cell.mix_gradients) return;
    for (long m = 0; m < count; m++) {
        double total = 0;
        for (long i = 0; i < n; i++) total += dots[m * n + i];
        cell.grad_mix[members[m].mix] = total;
    }
}

// Poolings and identities of one state, one image; dots [members, n]: gradients of the mixture.
template <typename T>
template <bool MAX>
void Runner<T>::free_backward(const Members& members, const Image& in, const Image& grad_in, long i,
                              std::vector<double>& dots) {
    const long count = members.size();
    each_lanes<T>(c, [&](auto lanes, long v) {
        using L = decltype(lanes);
        using Vec = typename L::Vec;
        Array<T> sums(count * L::WIDTH, T(0));
        const T* image = of(in, i) + v;
        T* grad_image = of(grad_in, i) + v;
        for (long y = 0; y < h; y++)
            for (long x = 0; x < w; x++) {
                const typename K::Window window(y, x, in.stride, in.h, in.w);
                const long here = y * in.stride * in.w + x * in.stride;
                const T* grad = cell.grad_output + ((i * h + y) * w + x) * cell.nodes * c + v;
                if (cell.mix_gradients) {
                    Vec value[3];
                    K::template pool<L, MAX>(image, in.pixel, in.w, window, value[MAX_POOL], value[AVG_POOL]);
                    value[IDENTITY] = L::at(image + here * in.pixel);
                    for (long m = 0; m < count; m++)
                        L::at(&sums[m * L::WIDTH]) +=
                            value[members[m].kind] * L::at(grad + members[m].node * c) * image_factor(members[m], i);
                }
                Vec total[3] = {Vec{}, Vec{}, Vec{}};
                for (const Branch& b : members) total[b.kind] += factor(b, i) * L::at(grad + b.node * c);
                K::template pool_backward<L, MAX>(image, in.pixel, in.w, window, total[MAX_POOL], total[AVG_POOL], grad_image,
                                             grad_in.pixel);
                L::at(grad_image + here * grad_in.pixel) += total[IDENTITY];
            }
        for (long m = 0; m < count; m++)
            for (int lane = 0; lane < L::WIDTH; lane++) dots[m * n + i] += sums[m * L::WIDTH + lane];
    });
}

// One unit, one image: adds to the gradient of its padded input (sets it if it is the first) and, where wanted, to its
// weights' gradients.
template <typename T>
void Runner<T>::unit_backward(long u, const Slopes<T>& slopes, T image_scale, const T* grad, long pixel, const T* padded,
                              const Image& in, long i, const Buffers& buffer, T* weight_grad, bool first) {
    const Unit<T>& unit = units[u];
    if (unit.dense) return dense_backward(u, slopes, image_scale, grad, pixel, padded, in, i, buffer, weight_grad, first);
    const Packed& packed = this->packed[u];
    const T* z = z_of(u, i);
    const long reach = unit.reach(), wide = (w + 2 * reach) * packed.depth;
    T* row_grad = buffer.row_grad;
    if (reach) K::clear_border(row_grad, h, w, packed.depth, reach);
    // several rows at a time where they are short: the weight gradients' sums stay in registers for longer
    const long block = std::max(1L, ROW_PIXELS / w);
    for (long y0 = 0; y0 < h; y0 += block) {
        const long rows = std::min(block, h - y0);
        NormStep<T>::z_gradient(slopes, image_scale, z + y0 * w * c, grad + y0 * w * pixel, pixel, rows * w, c,
                                   buffer.z_grad);
        for (long y = y0; y < y0 + rows; y++) {
            T* out = row_grad + (y + reach) * wide + reach * packed.depth;
            K::template product<false>({buffer.z_grad + (y - y0) * w * c, c}, w, packed.transposed, packed.depth, c, out, packed.depth);
            if (!weight_grad) continue;
            pointwise_input(u, padded, in.w, y, buffer.row + (y - y0) * w * packed.depth);
            depthwise_weights(unit, padded, in.w, y, out, weight_grad);
        }
        if (weight_grad)
            K::outer({buffer.row, packed.depth}, {buffer.z_grad, c}, c, rows * w, packed.depth, weight_grad + unit.taps() * c);
    }
    depthwise_inputs(u, in, buffer, first);
}

// The same for a dense convolution. Its input's gradient is a convolution of z's gradient, which gets a border for it.
template <typename T>
void Runner<T>::dense_backward(long u, const Slopes<T>& slopes, T image_scale, const T* grad, long pixel,
                               const T* padded, const Image& in, long i, const Buffers& buffer, T* weight_grad,
                               bool first) {
    const Unit<T>& unit = units[u];
    const T* z = z_of(u, i);
    const long reach = unit.reach(), wide = (w + 2 * reach) * c, line = (in.w + 2 * PAD) * c, depth = unit.kernel * c;
    T* z_grad = buffer.row_grad;
    if (reach) K::clear_border(z_grad, h, w, c, reach);
    for (long y0 = 0; y0 < h; y0 += DENSE_PIXELS / w + 1) {
        const long lines = std::min(DENSE_PIXELS / w + 1, h - y0);
        T* out = z_grad + (y0 + reach) * wide + reach * c;
        for (long y = 0; y < lines; y++)
            NormStep<T>::z_gradient(slopes, image_scale, z + (y0 + y) * w * c, grad + (y0 + y) * w * pixel, pixel, w, c,
                                    out + y * wide);
        for (long ky = 0; weight_grad && ky < unit.kernel; ky++)
            K::outer({padded + origin(unit, y0 + ky, in.w), c, lines, line}, {out, c, lines, wide}, c, w, depth,
                     weight_grad + ky * depth * c);
    }
    const auto product = first ? K::template product<false> : K::template product<true>;
    for (long y = 0; y < h; y++)
        product({z_grad + y * wide, c, unit.kernel, wide}, w, packed[u].transposed, c, depth,
                buffer.input_grad + (y + PAD) * line + PAD * c, c);
}

template <typename T>
void Runner<T>::depthwise_weights(const Unit<T>& unit, const T* padded, long width, long y, const T* grad,
                                  T* weight_grad) const {
    const long line = (width + 2 * PAD) * c * unit.dilation, tap = unit.dilation * c, step = unit.stride * c;
    const T* in = padded + origin(unit, y, width);
    if (unit.kernel == 3) K::template depthwise_weight_row<3>(in, line, tap, step, grad, c, w, weight_grad);
    if (unit.kernel == 5) K::template depthwise_weight_row<5>(in, line, tap, step, grad, c, w, weight_grad);
}

// From the gradient of the depthwise outputs (buffer.row_grad) to that of the padded input (buffer.input_grad).
template <typename T>
void Runner<T>::depthwise_inputs(long u, const Image& in, const Buffers& buffer, bool first) const {
    const Unit<T>& unit = units[u];
    const long reach = unit.reach(), wide = (in.w + 2 * PAD) * c, tap = unit.dilation * c;
    const long line = (w + 2 * reach) * c;
    if (first && unit.stride == 2) std::fill(buffer.input_grad, buffer.input_grad + (in.h + 2 * PAD) * wide, T(0));
    for (long y = 0; y < h; y++) {
        if (!unit.kernel) {
            T* out = buffer.input_grad + (2 * y + PAD) * wide + PAD * c;
            const T* grad = buffer.row_grad + y * w * 2 * c;
            for (long x = 0; x < w; x++)
                each_lanes<T>(c, [&](auto lanes, long v) {
                    using L = decltype(lanes);
                    L::at(out + 2 * x * c + v) += L::at(grad + 2 * x * c + v);
                    L::at(out + wide + (2 * x + 1) * c + v) += L::at(grad + (2 * x + 1) * c + v);
                });
        } else if (unit.stride == 1) {
            T* out = buffer.input_grad + (y + PAD) * wide + PAD * c;
            const T* grad = buffer.row_grad + y * line;
            auto row = unit.kernel == 3 ? (first ? K::template depthwise_row<3, false> : K::template depthwise_row<3, true>)
                                        : (first ? K::template depthwise_row<5, false> : K::template depthwise_row<5, true>);
            row(grad, unit.dilation * line, tap, c, packed[u].flipped, c, out, w);
        } else {
            T* out = buffer.input_grad + origin(unit, y, in.w);
            const T* grad = buffer.row_grad + (y + reach) * line + reach * c;
            const long step = unit.stride * c;
            if (unit.kernel == 3)
                K::template depthwise_scatter<3>(out, unit.dilation * wide, tap, step, packed[u].depthwise, c, grad, w);
            else
                K::template depthwise_scatter<5>(out, unit.dilation * wide, tap, step, packed[u].depthwise, c, grad, w);
        }
    }
}

// Back through the ReLU: out (+)= gradient where the padded input is positive (or NaN, as in PyTorch).
template <typename T>
template <bool ADD>
void Runner<T>::leave_relu(const Image& in, const Buffers& buffer, T* out, long pixel) const {
    each_lanes<T>(c, [&](auto lanes, long v) {
        using L = decltype(lanes);
        using Vec = typename L::Vec;
        for (long y = 0; y < in.h; y++) {
            const long from = ((y + PAD) * (in.w + 2 * PAD) + PAD) * c + v;
            T* row = out + y * in.w * pixel + v;
            for (long x = 0; x < in.w; x++) {
                Vec& to = L::at(row + x * pixel);
                const Vec grad = L::at(buffer.input_grad + from + x * c);
                const Vec passed = L::at(buffer.padded + from + x * c) <= 0 ? Vec{} : grad;
                to = ADD ? to + passed : passed;
            }
        }
    });
}

// Gradients between the two units of a group's members, [members, n, h, w, c]; kept from call to call.
template <typename T>
T* Runner<T>::between_units(long members) const {
    static thread_local Array<T> memory;
    if (memory.size() < size_t(members * n * pixels * c)) memory.resize(members * n * pixels * c);
    return memory.data();
}

template <typename T>
void Runner<T>::convolutions_backward(const Members& members) {
    if (members.empty()) return;
    const Image in = state(members[0].source), grad_in = gradient(members[0].source), inside = {nullptr, c, h, w, 1};
    const long count = members.size(), pixel = cell.nodes * c;
    long weights = 0;  // of the largest unit
    for (const Branch& b : members)
        for (long u = b.unit; u <= b.last_unit(); u++)
            weights = std::max(weights, units[u].taps() * c + packed[u].depth * c);
    moments.resize(count * n * 2 * c);
    T* between = has_pairs(members) ? between_units(count) : nullptr;
    auto node_grad = [&](long m, long i) { return of(gradient(members[m].node + 2), i); };
    std::vector<Slopes<T>> slopes(count);
    std::vector<Array<T>> weight_grads(cell.parts);
    auto weight_grad = [&](long part, long m, long unit) {
        return cell.weight_gradients ? weight_grads[part].data() + (2 * m + unit) * weights : nullptr;
    };
#pragma omp parallel num_threads(cell.threads)
    {
        const Buffers buffer = buffers(in);
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++)
            for (long m = 0; m < count; m++)
                norm(members[m].last_unit()).gradient_sums(z_of(members[m].last_unit(), i), node_grad(m, i), pixel,
                                                          image_factor(members[m], i), moments_of(m, i));
#pragma omp for schedule(static)
        for (long m = 0; m < count; m++) {
            const long mix = members[m].mix;
            const T grad = norm(members[m].last_unit()).finish_gradients(moments_of(m, 0), cell.mix[mix], slopes[m]);
            if (cell.mix_gradients) cell.grad_mix[mix] = grad;
        }
        K::clear_border(buffer.padded, h, w, c, PAD);
#pragma omp for schedule(static)
        for (long part = 0; part < cell.parts; part++) {
            if (cell.weight_gradients) weight_grads[part].assign(2 * count * weights, T(0));
            each_in_part(n, cell.parts, part, [&](long i) {
                for (long m = 0; m < count; m++) {
                    if (members[m].units < 2) continue;
                    const long u = members[m].unit;
                    T* inner = between + (m * n + i) * pixels * c;
                    K::relu_into(z_of(u, i), c, h, w, c, &scales[u * c], &shifts[u * c], PAD, buffer.padded);
                    unit_backward(u + 1, slopes[m], image_factor(members[m], i), node_grad(m, i), pixel,
                                  buffer.padded, inside, i, buffer, weight_grad(part, m, 1), true);
                    leave_relu<false>(inside, buffer, inner, c);
                    norm(u).gradient_sums(z_of(u, i), inner, c, 1, moments_of(m, i));
                }
            });
        }
#pragma omp for schedule(static)
        for (long m = 0; m < count; m++)
            if (members[m].units == 2) norm(members[m].unit).finish_gradients(moments_of(m, 0), 1, slopes[m]);
        K::clear_border(buffer.padded, in.h, in.w, c, PAD);
#pragma omp for schedule(static)
        for (long part = 0; part < cell.parts; part++)
            each_in_part(n, cell.parts, part, [&](long i) {
                K::relu_into(of(in, i), in.pixel, in.h, in.w, c, nullptr, nullptr, PAD, buffer.padded);
                for (long m = 0; m < count; m++) {
                    const bool last = members[m].units == 1;
                    unit_backward(members[m].unit, slopes[m], last ? image_factor(members[m], i) : T(1),
                                  last ? node_grad(m, i) : between + (m * n + i) * pixels * c, last ? pixel : c,
                                  buffer.padded, in, i, buffer, weight_grad(part, m, 0), m == 0);
                }
                leave_relu<true>(in, buffer, of(grad_in, i), grad_in.pixel);
            });
    }
    if (!cell.weight_gradients) return;
#pragma omp parallel for num_threads(cell.threads) schedule(static)
    for (long m = 0; m < count; m++)
        for (long k = 0; k < members[m].units; k++)
            write_weight_gradients(members[m].unit + k, weight_grads, (2 * m + k) * weights);
}

// The parts' sums in the layout of the parameters.
template <typename T>
void Runner<T>::write_weight_gradients(long u, const std::vector<Array<T>>& sums, long at) const {
    const Unit<T>& unit = units[u];
    const long taps = unit.taps();
    auto total = [&](long index) {
        T sum = 0;
        for (const auto& part : sums) sum += part[at + index];
        return sum;
    };
    if (unit.grad_depthwise)
        for (long ch = 0; ch < cell.channels; ch++)
            for (long t = 0; t < taps; t++) unit.grad_depthwise[ch * taps + t] = total(t * c + ch);
    each_pointwise(unit, [&](long out, long in, long half, long index) {
        T* grad = half ? unit.grad_pointwise2 : unit.grad_pointwise;
        if (grad) grad[index] = total(taps * c + in * c + out);
    });
}
