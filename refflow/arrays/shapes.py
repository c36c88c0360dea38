"""Shape, selection by position, and the sums that are their adjoints.

Broadcasting and summing are each other's derivatives, so both live here, with `unbroadcast`: the adjoint of the
broadcasting that every elementwise operation does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from autograd.core import defvjp_argnums
from autograd.extend import defvjp
from autograd.tracer import getval

from refflow.arrays.namespaces import Array, device, namespace
from refflow.arrays.tracing import primitive
from refflow.errors import ShapeError

Axis = int | tuple[int, ...] | None


def shape(x: Any) -> tuple[int, ...]:
    """The shape of an array; () for a Python scalar."""
    return tuple(getattr(getval(x), "shape", ()))


@primitive
def astype(x: Array, dtype: Any) -> Array:
    """The values of x in another dtype."""
    return namespace(x).astype(x, dtype)


defvjp(astype, lambda ans, x, dtype: lambda g: astype(g, x.dtype))


@primitive
def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The sum over the axes, in the dtype of x."""
    return namespace(x).sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)


@primitive
def reshape(x: Array, new_shape: tuple[int, ...]) -> Array:
    """The same elements, in row-major order, in another shape."""
    return namespace(x).reshape(x, new_shape)


@primitive
def broadcast_to(x: Array, new_shape: tuple[int, ...]) -> Array:
    """x repeated along new and length-one axes."""
    return namespace(x).broadcast_to(x, new_shape)


def unbroadcast(g: Array, like: Array) -> Array:
    """The adjoint of broadcasting `like` to the shape of g, in the dtype of `like`."""
    source, target = shape(g), shape(like)
    if source != target:
        new = len(source) - len(target)
        stretched = tuple(i + new for i, n in enumerate(target) if n == 1 != source[i + new])
        g = reshape(sum(g, axis=(*range(new), *stretched)), target)
    dtype = getval(like).dtype
    return g if getval(g).dtype == dtype else astype(g, dtype)


def spread(g: Array, x: Array, axis: Axis, keepdims: bool) -> Array:
    """The adjoint of a reduction of x over the axes: g repeated along them."""
    if not keepdims:
        g = reshape(g, reduced_shape(x, axis))
    return broadcast_to(g, shape(x))


def reduced_shape(x: Array, axis: Axis) -> tuple[int, ...]:
    """The shape of x with length one along the axes."""
    axes = reduced_axes(x, axis)
    return tuple(1 if i in axes else n for i, n in enumerate(shape(x)))


def reduced_axes(x: Array, axis: Axis) -> tuple[int, ...]:
    """The axes as non-negative numbers."""
    rank = len(shape(x))
    if axis is None:
        return tuple(range(rank))
    return tuple(a % rank for a in (axis if isinstance(axis, tuple) else (axis,)))


defvjp(sum, lambda ans, x, axis=None, keepdims=False: lambda g: spread(g, x, axis, keepdims))
defvjp(reshape, lambda ans, x, new_shape: lambda g: reshape(g, shape(x)))
defvjp(broadcast_to, lambda ans, x, new_shape: lambda g: unbroadcast(g, x))


@primitive
def matrix_transpose(x: Array) -> Array:
    """The last two axes exchanged."""
    return namespace(x).matrix_transpose(x)


defvjp(matrix_transpose, lambda ans, x: lambda g: matrix_transpose(g))


@primitive
def permute_dims(x: Array, axes: tuple[int, ...]) -> Array:
    """The axes in another order."""
    return namespace(x).permute_dims(x, axes)


def _inverse_order(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


defvjp(permute_dims, lambda ans, x, axes: lambda g: permute_dims(g, _inverse_order([a % len(axes) for a in axes])))


@primitive
def bring_first(x: Array) -> Array:
    """The last axis before all others, and so in memory too: there, what runs along it runs over whole rows."""
    xp, axes = namespace(x), range(len(x.shape))
    moved = xp.permute_dims(x, (axes[-1], *axes[:-1]))
    return np.ascontiguousarray(moved) if isinstance(x, np.ndarray) else moved


@primitive
def bring_last(x: Array) -> Array:
    """The first axis after all others: the inverse of `bring_first`."""
    xp, axes = namespace(x), range(len(x.shape))
    moved = xp.permute_dims(x, (*axes[1:], 0))
    return np.ascontiguousarray(moved) if isinstance(x, np.ndarray) else moved


defvjp(bring_first, lambda ans, x: lambda g: bring_last(g))
defvjp(bring_last, lambda ans, x: lambda g: bring_first(g))


@primitive
def flip(x: Array, axis: int = -1) -> Array:
    """The elements along one axis in reverse order."""
    return namespace(x).flip(x, axis=axis)


defvjp(flip, lambda ans, x, axis=-1: lambda g: flip(g, axis))


def _position(axis: int, rank: int, of: tuple[int, ...]) -> int:
    if not -rank <= axis < rank:
        raise ShapeError(f"expected an axis in [{-rank}, {rank}), got {axis} for shape {of}")
    return axis % rank


def expand_dims(x: Array, axis: int) -> Array:
    """A new axis of length one at the position."""
    old = shape(x)
    at = _position(axis, len(old) + 1, old)
    return reshape(x, (*old[:at], 1, *old[at:]))


def squeeze(x: Array, axis: int) -> Array:
    """The axis, of length one, removed."""
    old = shape(x)
    at = _position(axis, len(old), old)
    if old[at] != 1:
        raise ShapeError(f"expected length 1 along axis {axis}, got shape {old}")
    return reshape(x, (*old[:at], *old[at + 1 :]))


@primitive
def getitem(x: Array, index: Any) -> Array:
    """Basic indexing: slices, integers, an ellipsis and None."""
    return x[index]


@primitive
def embed(g: Array, full_shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of the full shape with g at the index: the adjoint of `getitem`."""
    like = getval(g)
    whole = namespace(like).zeros(full_shape, dtype=like.dtype, device=device(like))
    parts = index if isinstance(index, tuple) else (index,)
    at = tuple(part for part in parts if part is not None)
    whole[at] = namespace(like).reshape(g, whole[at].shape)
    return whole


defvjp(getitem, lambda ans, x, index: lambda g: embed(g, shape(x), index))
defvjp(embed, lambda ans, g, full_shape, index: lambda h: getitem(h, index))


@primitive
def _concat(axis: int, *xs: Array) -> Array:
    return namespace(*xs).concat(xs, axis=axis)


def _concat_vjp(argnums: Sequence[int], ans: Array, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    axis, xs = args[0] % len(shape(ans)), args[1:]
    edges = [0]
    for x in xs:
        edges.append(edges[-1] + shape(x)[axis])
    before = (slice(None),) * axis

    def piece(g: Array, i: int) -> Array:
        part = getitem(g, (*before, slice(edges[i - 1], edges[i]), ...))
        dtype = getval(xs[i - 1]).dtype
        return part if getval(part).dtype == dtype else astype(part, dtype)

    return lambda g: (piece(g, i) for i in argnums)


defvjp_argnums(_concat, _concat_vjp)


def concat(xs: Sequence[Array], axis: int = -1) -> Array:
    """The arrays joined along an existing axis."""
    return _concat(axis, *xs)


def stack(xs: Sequence[Array], axis: int = -1) -> Array:
    """The arrays joined along a new axis."""
    rank = len(shape(xs[0])) + 1
    return concat([expand_dims(x, axis) for x in xs], axis=axis % rank)


def split(x: Array, sizes: Sequence[int], axis: int = -1) -> tuple[Array, ...]:
    """The inverse of `concat`: consecutive pieces of the given sizes along the axis.

    >>> import numpy as np
    >>> split(np.arange(5.0), (2, 3))
    (array([0., 1.]), array([2., 3., 4.]))
    """
    old = shape(x)
    if math.fsum(sizes) != old[axis] or min(sizes, default=0) < 0:
        raise ShapeError(f"expected sizes that add up to {old[axis]} along axis {axis}, got {tuple(sizes)}")
    last = axis in (-1, len(old) - 1)
    before = (...,) if last else (slice(None),) * (axis % len(old))
    pieces, start = [], 0
    for size in sizes:
        stop = start + size
        pieces.append(getitem(x, (*before, slice(start, stop)) if last else (*before, slice(start, stop), ...)))
        start = stop
    return tuple(pieces)


@primitive
def take(x: Array, indices: tuple[int, ...], axis: int = -1) -> Array:
    """The elements at distinct positions along one axis, in the order given.

    The positions are structure, not data: a tuple of int, never an array.
    """
    xp = namespace(x)
    return xp.take(x, xp.asarray(indices, dtype=xp.int64, device=device(x)), axis=axis)


def _take_vjp(ans: Array, x: Array, indices: tuple[int, ...], axis: int = -1) -> Any:
    length = shape(x)[axis]
    positions = [i % length for i in indices]
    chosen = set(positions)
    if len(chosen) != len(positions):
        raise ShapeError(f"expected distinct positions in take, got {indices}")
    rest = tuple(i for i in range(length) if i not in chosen)
    order = _inverse_order((*positions, *rest))

    def vjp(g: Array) -> Array:
        if rest:
            lengths = list(shape(x))
            lengths[axis] = len(rest)
            raw = getval(g)
            g = concat([g, namespace(raw).zeros(tuple(lengths), dtype=raw.dtype, device=device(raw))], axis=axis)
        return take(g, order, axis=axis)

    return vjp


defvjp(take, _take_vjp)


@primitive
def _matmul(x: Array, y: Array) -> Array:
    return namespace(x, y).matmul(x, y)


def matmul(x: Array, y: Array) -> Array:
    """The matrix product of x (..., n, k) or (k,) with y (k, m) or (..., k, m)."""
    old = shape(x)
    if len(old) == 1:
        row = _matmul(reshape(x, (1, *old)), y)
        return reshape(row, shape(row)[:-2] + shape(row)[-1:])
    if len(old) > 2 and len(shape(y)) == 2:  # one product instead of a stack of small ones
        return reshape(_matmul(_rows(x), y), (*old[:-1], shape(y)[1]))
    return _matmul(x, y)


def _rows(x: Array) -> Array:
    """The array as one matrix, all leading axes in its rows."""
    old = shape(x)
    return reshape(x, (math.prod(old[:-1]), old[-1]))


defvjp(
    _matmul,
    lambda ans, x, y: lambda g: unbroadcast(matmul(g, matrix_transpose(y)), x),
    lambda ans, x, y: lambda g: unbroadcast(matmul(matrix_transpose(x), g), y),
)


@primitive
def _linear(x: Array, weight: Array, bias: Array) -> Array:
    xp = namespace(x, weight)
    fused = getattr(xp, "addmm", None)  # where the library adds the bias inside its product
    if fused is not None and x.dtype == weight.dtype == bias.dtype:
        return fused(bias, x, weight)
    return xp.matmul(x, weight) + bias


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x weight + bias, for x (..., k), weight (k, m) and bias (m,)."""
    old = shape(x)
    y = _linear(x if len(old) == 2 else _rows(x), weight, bias)
    return y if len(old) == 2 else reshape(y, (*old[:-1], shape(weight)[1]))


defvjp(
    _linear,
    lambda ans, x, weight, bias: lambda g: unbroadcast(matmul(g, matrix_transpose(weight)), x),
    lambda ans, x, weight, bias: lambda g: unbroadcast(matmul(matrix_transpose(x), g), weight),
    lambda ans, x, weight, bias: lambda g: unbroadcast(g, bias),
)
