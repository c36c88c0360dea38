"""Reductions and scans beyond the sum."""

import math
from collections.abc import Callable

import numpy as np
from autograd.extend import defvjp
from autograd.tracer import getval

from refflow.arrays.elementwise import (
    abs,
    add,
    divide,
    equal,
    exp,
    greater,
    less_equal,
    log,
    multiply,
    real,
    sqrt,
    square,
    subtract,
    where,
)
from refflow.arrays.iteration import detach
from refflow.arrays.namespaces import Array, namespace
from refflow.arrays.shapes import Axis, flip, reduced_axes, reduced_shape, reshape, shape, spread, sum
from refflow.arrays.tracing import primitive


def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The mean over the axes."""
    count = math.prod(shape(x)[a] for a in reduced_axes(x, axis))
    return divide(sum(x, axis=axis, keepdims=keepdims), float(count))


@primitive
def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The largest element along the axes. Tied elements share the derivative."""
    return namespace(x).max(x, axis=axis, keepdims=keepdims)


@primitive
def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The smallest element along the axes. Tied elements share the derivative."""
    return namespace(x).min(x, axis=axis, keepdims=keepdims)


def _extremum_vjp(ans: Array, x: Array, axis: Axis = None, keepdims: bool = False):  # type: ignore[no-untyped-def]
    kept = reshape(getval(ans), reduced_shape(x, axis))
    chosen = equal(x, kept)
    xp = namespace(getval(x))
    ones = xp.astype(chosen, getval(x).dtype)
    share = ones / xp.sum(ones, axis=axis, keepdims=True)
    return lambda g: multiply(spread(g, x, axis, keepdims), share)


defvjp(max, _extremum_vjp)
defvjp(min, _extremum_vjp)


@primitive
def cumulative_sum(x: Array, axis: int = -1) -> Array:
    """The running sum along one axis, in the dtype of x."""
    if isinstance(x, np.ndarray) and axis == 0 and x.ndim > 1:  # whole rows at a time: NumPy goes column by column
        total = x.copy()
        for i in range(1, len(x)):
            total[i] += total[i - 1]
        return total
    return namespace(x).cumulative_sum(x, axis=axis, dtype=x.dtype)


defvjp(cumulative_sum, lambda ans, x, axis=-1: lambda g: flip(cumulative_sum(flip(g, axis), axis), axis))


def _shift(x: Array, axis: Axis) -> Array:
    """The maximum along the axes, off the tape: it moves exponentials to where they do not overflow."""
    return namespace(getval(x)).max(real(x), axis=axis, keepdims=True)


def logsumexp(x: Array, axis: Axis = -1, keepdims: bool = False) -> Array:
    """log sum_i exp(x_i) = m + log sum_i exp(x_i - m) with m = max_i x_i; minus infinity if every x_i is."""
    m = _shift(x, axis)
    m = where(namespace(m).isfinite(m), m, 0.0)
    total = add(log(sum(exp(subtract(x, m)), axis=axis, keepdims=True)), m)
    axes = reduced_axes(x, axis)
    kept = tuple(n for i, n in enumerate(shape(x)) if i not in axes)
    return total if keepdims else reshape(total, kept)


@primitive
def softmax(x: Array, axis: int = -1) -> Array:
    """p_i = exp(x_i) / sum_j exp(x_j)."""
    e = exp(subtract(x, _shift(x, axis)))
    return divide(e, sum(e, axis=axis, keepdims=True))


def _softmax_vjp(ans: Array, x: Array, axis: int = -1) -> Callable[[Array], Array]:
    """dp_i/dx_j = p_i (delta_ij - p_j)."""
    return lambda g: multiply(ans, subtract(g, sum(multiply(g, ans), axis=axis, keepdims=True)))


defvjp(softmax, _softmax_vjp)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x_i - log sum_j exp(x_j), shifted first: of large x that differ little, the small difference is exact."""
    shifted = subtract(x, _shift(x, axis))
    return subtract(shifted, log(sum(exp(shifted), axis=axis, keepdims=True)))


def length(x: Array) -> Array:
    """|x| `(..., 1)` along the last axis, with slope 0 at 0. The elements are divided by the largest first, so that no
    square overflows or underflows. A library with proofs brings its own: of a ball that holds 0, no square root."""
    proven = getattr(namespace(x), "length", None)
    if proven is not None:
        return proven(x)
    largest = max(abs(detach(x)), axis=-1, keepdims=True)  # a constant: the length does not depend on it
    largest = where(greater(largest, 0.0), largest, 1.0)
    total = sum(square(divide(x, largest)), axis=-1, keepdims=True)
    zero = less_equal(total, 0.0)
    return multiply(largest, where(zero, 0.0, sqrt(where(zero, 1.0, total))))


def any(x: Array) -> bool:
    """Whether any element of an array of bool is true, as a Python bool: for checks, never in an equation."""
    return bool(namespace(x).any(getval(x)))


def all(x: Array) -> bool:
    """Whether every element of an array of bool is true, as a Python bool: for checks, never in an equation."""
    return bool(namespace(x).all(getval(x)))
