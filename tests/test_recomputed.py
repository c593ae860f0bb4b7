"""A convolution that keeps what its input is made of: values and gradients of the plain one, less memory."""

import pytest
import torch
import torch.nn.functional as F

from CyDAS.models.chain.recomputed import convolve


def gated(h, gates):
    return F.silu(h) * gates


def plain(make, sources, weight, stride=1, padding=0, groups=1):
    return F.conv2d(make(*sources), weight, None, stride, padding, 1, groups)


def case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    h, gates = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((3, 4, 7, 5), (3, 4, 1, 1)))
    depthwise, pointwise = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((4, 1, 7, 7), (6, 4, 1, 1))
    )
    return (F.silu, [h], depthwise, 2, 3, 4), (gated, [h, gates], pointwise)


def gradients(convolution, make, sources, weight, *shape):
    leaves = [tensor.clone().requires_grad_() for tensor in (weight, *sources)]
    output = convolution(make, leaves[1:], leaves[0], *shape)
    generator = torch.Generator().manual_seed(1)
    output.backward(torch.randn(output.shape, generator=generator).to(output))
    return [output, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("index", [0, 1])
def test_values_and_gradients_are_the_plain_ones(index):
    for mine, its in zip(gradients(convolve, *case()[index]), gradients(plain, *case()[index]), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("index", [0, 1])
def test_under_autocast_as_plain_ones(index):
    with torch.autocast("cpu", torch.bfloat16):
        mine, its = (gradients(way, *case(torch.float32)[index]) for way in (convolve, plain))
    assert [tensor.dtype for tensor in mine] == [tensor.dtype for tensor in its]
    for own, other in zip(mine, its, strict=True):
        torch.testing.assert_close(own.float(), other.float(), rtol=0.02, atol=0.02 * float(other.detach().abs().max()))


@pytest.mark.parametrize("moving", [0, 1, 2])
def test_only_what_moves_has_a_gradient(moving):
    make, sources, weight = case()[1]
    leaves = [weight.clone(), *(source.clone() for source in sources)]
    leaves[moving].requires_grad_()
    convolve(make, leaves[1:], leaves[0]).sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == [index == moving for index in range(3)]


def test_the_input_is_not_kept():
    make, sources, weight = case()[1]
    leaves = [tensor.clone().requires_grad_() for tensor in (weight, *sources)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda shape: shape):
        convolve(make, leaves[1:], leaves[0])
    assert kept == [leaf.shape for leaf in leaves]
