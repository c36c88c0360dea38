"""Convolutions of images (..., H, W, C), channels last, with zeros around them and outputs of the same size.

A k x k convolution is one matrix product beside a rearrangement, and the two commute: gather the k k neighbours of
every pixel and multiply, or multiply by all k k taps and add up shifted images. `conv2d` takes the order that moves
fewer numbers. `patches` and `fold`, the two rearrangements, are each other's adjoints, so they are each other's
derivatives.
"""

import functools

import numpy as np
from autograd.extend import defvjp

from refflow.arrays.elementwise import add
from refflow.arrays.namespaces import Array, device, namespace
from refflow.arrays.shapes import flip, linear, matmul, permute_dims, reshape, shape
from refflow.arrays.tracing import primitive
from refflow.errors import ShapeError


@primitive
def patches(x: Array, kernel: int) -> Array:
    """The kernel x kernel neighbours of every pixel, `(..., H, W, kernel * kernel * C)`, in row-major order of
    (row, column, channel); zeros where there is no pixel. `kernel` is odd."""
    height, width, channels = x.shape[-3:]
    batch = tuple(x.shape[:-3])
    pixels = _reshaped(x, (*batch, height * width, channels))
    found = _reshaped(
        _gathered(pixels, _neighbours(height, width, kernel)), (*batch, height, width, kernel * kernel, channels)
    )
    return _reshaped(found, (*batch, height, width, kernel * kernel * channels))


@primitive
def fold(p: Array, kernel: int) -> Array:
    """Every pixel's sum over the patches that it stands in: the adjoint of `patches`."""
    height, width = p.shape[-3:-1]
    batch, taps, channels = tuple(p.shape[:-3]), kernel * kernel, p.shape[-1] // kernel**2
    places = _reshaped(p, (*batch, height, width, taps, channels))
    places = _reshaped(places, (*batch, height * width * taps, channels))
    found = _gathered(places, _places(height, width, kernel))
    stacked = _reshaped(found, (*batch, taps, height, width, channels))
    return namespace(p).sum(stacked, axis=-4, dtype=p.dtype)


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


def _reshaped(x: Array, new_shape: tuple[int, ...]) -> Array:
    """One merge or split at a time: Dask can do no more."""
    return namespace(x).reshape(x, new_shape)


def _gathered(rows: Array, indices: np.ndarray) -> Array:
    """The rows (..., n, C) at the indices; zeros at index n."""
    xp, place = namespace(rows), device(rows)
    zero = xp.zeros((*rows.shape[:-2], 1, rows.shape[-1]), dtype=rows.dtype, device=place)
    return xp.take(xp.concat([rows, zero], axis=-2), xp.asarray(indices, dtype=xp.int64, device=place), axis=-2)


@functools.cache
def _neighbours(height: int, width: int, kernel: int) -> np.ndarray:
    """For every pixel and tap, both in row-major order, which pixel is seen; H W where there is none."""
    margin = kernel // 2
    numbers = np.pad(np.arange(height * width).reshape(height, width), margin, constant_values=height * width)
    return np.lib.stride_tricks.sliding_window_view(numbers, (kernel, kernel)).flatten()


@functools.cache
def _places(height: int, width: int, kernel: int) -> np.ndarray:
    """For every tap and pixel, at which place of `_neighbours` the tap sees the pixel; one past the last where none."""
    seen = _neighbours(height, width, kernel)
    inside = np.flatnonzero(seen < height * width)
    places = np.full((kernel * kernel, height * width), seen.size)
    places[inside % kernel**2, seen[inside]] = inside
    return places.ravel()
