"""Convolutions of images (..., H, W, C), channels last, with zeros around them and outputs of the same size.

A k x k convolution is one matrix product beside a rearrangement, and the two commute: gather the k k neighbours of
every pixel and multiply, or multiply by all k k taps and add up shifted images. `conv2d` takes the order that moves
fewer numbers. `patches` and `fold`, the two rearrangements, are each other's adjoints, so they are each other's
derivatives.
"""

from collections.abc import Iterator

from autograd.extend import defvjp
from autograd.tracer import getval

from refflow.arrays.elementwise import add
from refflow.arrays.namespaces import Array, device, namespace
from refflow.arrays.shapes import flip, linear, matmul, permute_dims, reshape, shape
from refflow.arrays.tracing import primitive
from refflow.errors import ShapeError


@primitive
def patches(x: Array, kernel: int) -> Array:
    """The kernel x kernel neighbours of every pixel, `(..., H, W, kernel * kernel * C)`, in row-major order of
    (row, column, channel); zeros where there is no pixel."""
    height, width = x.shape[-3:-1]
    padded = _padded(x, kernel // 2)
    return namespace(x).concat([padded[..., i : i + height, j : j + width, :] for i, j in _taps(kernel)], axis=-1)


@primitive
def fold(p: Array, kernel: int) -> Array:
    """Every pixel's sum over the patches that it stands in: the adjoint of `patches`."""
    height, width = p.shape[-3:-1]
    channels = p.shape[-1] // kernel**2
    padded, total = _padded(p, kernel // 2), None
    for k, (i, j) in enumerate(_taps(kernel)):
        i, j = kernel - 1 - i, kernel - 1 - j
        term = padded[..., i : i + height, j : j + width, k * channels : (k + 1) * channels]
        total = term if total is None else total + term
    return total


defvjp(patches, lambda ans, x, kernel: lambda g: fold(g, kernel))
defvjp(fold, lambda ans, p, kernel: lambda g: patches(g, kernel))


def conv2d(x: Array, weight: Array, bias: Array) -> Array:
    """y_{i,j} = sum_{a,b} x_{i+a-r, j+b-r} weight_{a,b} + bias for weight (k, k, C_in, C_out), odd k = 2 r + 1, and
    bias (C_out,): a correlation, as the field's libraries have it, with zeros beyond the edges."""
    kernel, _, c_in, c_out = shape(weight)
    if kernel % 2 == 0 or shape(weight)[1] != kernel or shape(x)[-1] != c_in or len(shape(x)) < 3:
        raise ShapeError(
            f"expected images (..., H, W, C) and a weight (k, k, C, C_out) with odd k, got {shape(x)}, {shape(weight)}"
        )
    if kernel == 1:
        return linear(x, reshape(weight, (c_in, c_out)), bias)
    if c_in <= c_out:
        return linear(patches(x, kernel), reshape(weight, (kernel**2 * c_in, c_out)), bias)
    taps = flip(reshape(weight, (kernel**2, c_in, c_out)), axis=0)  # fold shifts the other way
    taps = reshape(permute_dims(taps, (1, 0, 2)), (c_in, kernel**2 * c_out))
    return add(fold(matmul(x, taps), kernel), bias)


def _taps(kernel: int) -> Iterator[tuple[int, int]]:
    """The offsets of a window from its first pixel, row by row."""
    return ((i, j) for i in range(kernel) for j in range(kernel))


def _padded(x: Array, margin: int) -> Array:
    """The image with that many zeros on every side."""
    if margin == 0:
        return x
    xp, like = namespace(x), getval(x)
    for axis in (-3, -2):
        edge = list(x.shape)
        edge[axis] = margin
        zeros = xp.zeros(tuple(edge), dtype=like.dtype, device=device(like))
        x = xp.concat([zeros, x, zeros], axis=axis)
    return x
