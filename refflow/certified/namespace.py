"""The array namespace of balls: the functions of the array API that `refflow.arrays` asks a library for.

Choices follow Kleene: where a condition is undecided, both branches remain and the ball that joins them is returned.
"""

import builtins
import math
from collections.abc import Callable, Sequence
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np
from flint import arb, arb_mat, ctx

from refflow.certified.arrays import BallArray, Objects, TruthArray, each, exact, objects, operand
from refflow.errors import DTypeError

ball = BallArray.dtype
"""The one dtype."""

int64 = np.int64
"""The dtype of positions."""

Axis = int | tuple[int, ...] | None


# Creation.


def asarray(values: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Balls of radius 0 that hold the values; positions (dtype int64) stay integers of NumPy's."""
    if dtype is int64:
        return np.asarray(values, dtype=int64)
    if isinstance(values, BallArray):
        return BallArray(values.elements.copy()) if copy else values
    return exact(np.asarray(values))


def full(shape: tuple[int, ...], value: float, dtype: Any = None, device: Any = None) -> BallArray:
    """Balls that all hold the number, which may be infinite."""
    return BallArray(np.full(shape, operand(value)[()], dtype=object))


def zeros(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> BallArray:
    """Zeros."""
    return full(shape, 0.0)


def ones(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> BallArray:
    """Ones."""
    return full(shape, 1.0)


def arange(stop: int, dtype: Any = None, device: Any = None) -> BallArray:
    """0, 1, ..., stop - 1."""
    return exact(np.arange(stop))


def constant(value: float) -> BallArray:
    """Exactly that double."""
    return exact(np.asarray(value, dtype=np.float64))


def log_gamma_step(value: float) -> BallArray:
    """A ball that holds log Gamma(v + 1/2) - log Gamma(v), at the precision of the context."""
    v = arb(value)
    return BallArray(objects((), [(v + 0.5).lgamma() - v.lgamma()]))


def pi() -> BallArray:
    """A ball that holds pi, at the precision of the context."""
    return BallArray(objects((), [arb.pi()]))


def astype(x: BallArray, dtype: Any, copy: bool = True) -> BallArray:
    """x: there is one dtype of balls."""
    if dtype != BallArray.dtype:
        raise DTypeError(f"expected to stay with balls, got the dtype {dtype}: read them with midpoint() and radius()")
    return x


def isdtype(dtype: Any, kind: str | tuple[str, ...]) -> bool:
    """Whether the dtype is of a kind: balls are real floating."""
    return dtype == BallArray.dtype and "real floating" in ((kind,) if isinstance(kind, str) else kind)


def eye(n: int, dtype: Any = None, device: Any = None) -> BallArray:
    """The identity matrix."""
    return exact(np.eye(n))


def finfo(dtype: Any) -> SimpleNamespace:
    """eps: the spacing of midpoints at 1, at the precision of the context."""
    return SimpleNamespace(eps=2.0 ** builtins.max(1 - ctx.prec, -1000))


def detach(x: BallArray) -> BallArray:
    """The midpoints, without their radii: where solvers walk, before anything is proven."""
    return each(arb.mid, x)


# Functions.


def _function(name: str, doc: str) -> Callable[[BallArray], BallArray]:
    method = getattr(arb, name)

    def call(x: BallArray) -> BallArray:
        return each(method, x)

    call.__name__, call.__doc__ = name, doc
    return call


exp = _function("exp", "e to the x.")
log = _function("log", "The natural logarithm; of a ball that reaches 0, everything.")
log1p = _function("log1p", "log(1 + x).")
expm1 = _function("expm1", "e to the x, minus 1.")
sqrt = _function("sqrt", "The square root.")
sin = _function("sin", "The sine.")
cos = _function("cos", "The cosine.")
tanh = _function("tanh", "The hyperbolic tangent.")
atan = _function("atan", "The inverse tangent.")
asinh = _function("asinh", "The inverse hyperbolic sine.")


def abs(x: BallArray) -> BallArray:
    """|x|."""
    return each(builtins.abs, x)


def sign(x: BallArray) -> BallArray:
    """-1, 0 or 1; [-1, 1] where the sign is undecided."""
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, 0.0))


def maximum(x: Any, y: Any) -> BallArray:
    """The larger of the two."""
    return each(arb.max, x, y)


def minimum(x: Any, y: Any) -> BallArray:
    """The smaller of the two."""
    return each(arb.min, x, y)


# Comparison and choice.


def less(x: Any, y: Any) -> TruthArray:
    """x < y."""
    return _balls(x).__lt__(y)


def less_equal(x: Any, y: Any) -> TruthArray:
    """x <= y."""
    return _balls(x).__le__(y)


def greater(x: Any, y: Any) -> TruthArray:
    """x > y."""
    return _balls(x).__gt__(y)


def greater_equal(x: Any, y: Any) -> TruthArray:
    """x >= y."""
    return _balls(x).__ge__(y)


def equal(x: Any, y: Any) -> TruthArray:
    """x = y."""
    return _balls(x).__eq__(y)


def logical_and(x: TruthArray, y: TruthArray) -> TruthArray:
    """Both."""
    return TruthArray(x.sure & y.sure, x.possible & y.possible)


def logical_or(x: TruthArray, y: TruthArray) -> TruthArray:
    """Either, or both."""
    return TruthArray(x.sure | y.sure, x.possible | y.possible)


def logical_not(x: TruthArray) -> TruthArray:
    """Not."""
    return TruthArray(~x.possible, ~x.sure)


def isfinite(x: BallArray) -> TruthArray:
    """Surely, where the ball is bounded; not, where it is an infinity; else undecided."""
    finite = _test(arb.is_finite, x)
    infinite = _test(lambda v: v == arb("inf") or v == arb("-inf"), x)
    return TruthArray(finite, ~infinite)


def isnan(x: BallArray) -> TruthArray:
    """Never surely: a ball that holds everything stands for a number that is not known."""
    return TruthArray(np.zeros(x.shape, dtype=bool), _test(arb.is_nan, x))


def all(x: TruthArray) -> TruthArray:
    """Whether all are true."""
    return TruthArray(np.asarray(np.all(x.sure)), np.asarray(np.all(x.possible)))


def any(x: TruthArray) -> TruthArray:
    """Whether any is true."""
    return TruthArray(np.asarray(np.any(x.sure)), np.asarray(np.any(x.possible)))


def where(condition: TruthArray, x: Any, y: Any) -> BallArray:
    """x where the condition is true, y where it is false, the ball that joins them where it is undecided."""
    sure, possible, a, b = np.broadcast_arrays(condition.sure, condition.possible, operand(x), operand(y))
    rows = zip(sure.ravel(), possible.ravel(), a.ravel(), b.ravel(), strict=True)
    return BallArray(objects(sure.shape, (p if s else p.union(q) if m else q for s, m, p, q in rows)))


# Reductions and products.


def _reduced(function: Callable[[Any], arb], x: BallArray, axis: Axis, keepdims: bool) -> BallArray:
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shape = tuple(x.shape[a] for a in kept)
    rows = x.elements.transpose(*kept, *axes).reshape(math.prod(shape), math.prod(x.shape[a] for a in axes))
    if keepdims:
        shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    return BallArray(objects(shape, map(function, rows)))


def sum(x: BallArray, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> BallArray:
    """The sum over the axes."""
    return _reduced(lambda row: builtins.sum(row, arb(0)), x, axis, keepdims)


def max(x: BallArray, axis: Axis = None, keepdims: bool = False) -> BallArray:
    """The largest along the axes."""
    return _reduced(lambda row: reduce(arb.max, row), x, axis, keepdims)


def min(x: BallArray, axis: Axis = None, keepdims: bool = False) -> BallArray:
    """The smallest along the axes."""
    return _reduced(lambda row: reduce(arb.min, row), x, axis, keepdims)


def length(x: BallArray) -> BallArray:
    """The Euclidean length along the last axis, which stays: of balls that hold 0, from 0 to the farthest point."""
    return _reduced(_length, x, -1, keepdims=True)


def _length(row: Any) -> arb:
    square = builtins.sum((v * v for v in row), arb(0))
    return square.sqrt() if square > 0 else arb(0).union(square.abs_upper().sqrt())


def cumulative_sum(x: BallArray, axis: int = -1, dtype: Any = None) -> BallArray:
    """The running sum along one axis."""
    return BallArray(np.add.accumulate(x.elements, axis=axis))  # object by object: arb's own sums


def matmul(x: BallArray, y: BallArray) -> BallArray:
    """The matrix product, each dot product rounded once (`arb_mat`)."""
    if not (isinstance(x, BallArray) and isinstance(y, BallArray)):
        raise DTypeError(f"expected two arrays of balls to multiply, got {type(x).__name__} and {type(y).__name__}")
    n, k, m = x.shape[-2], x.shape[-1], y.shape[-1]
    if y.ndim == 2:
        rows = math.prod(x.shape[:-1])
        return BallArray(_product(x.elements.reshape(rows, k), y.elements).reshape(*x.shape[:-1], m))
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    lefts = np.broadcast_to(x.elements, (*batch, n, k)).reshape(math.prod(batch), n, k)
    rights = np.broadcast_to(y.elements, (*batch, k, m)).reshape(math.prod(batch), k, m)
    found = [_product(a, b) for a, b in zip(lefts, rights, strict=True)]
    return BallArray(objects((*batch, n, m), (v for block in found for v in block.ravel())))


def _product(a: Objects, b: Objects) -> Objects:
    (n, k), m = a.shape, b.shape[1]
    if not n * k * m:
        return full((n, m), 0.0).elements
    left, right = arb_mat(n, k, a.ravel().tolist()), arb_mat(k, m, b.ravel().tolist())
    return objects((n, m), (left * right).entries())


# Roots. (They are written in the operations above, through `refflow.arrays`, so they are looked up when called.)


def solve_increasing(*args: Any) -> BallArray:
    """`refflow.arrays.solve_increasing`, proven."""
    from refflow.certified import roots

    return roots.solve_increasing(*args)


def solve_contraction(*args: Any) -> BallArray:
    """`refflow.arrays.solve_contraction`, proven."""
    from refflow.certified import roots

    return roots.solve_contraction(*args)


# Shape.


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """The same elements in another shape."""
    return _moved(x, lambda a: a.reshape(shape))


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated along new and length-one axes."""
    return _moved(x, lambda a: np.broadcast_to(a, shape))


def matrix_transpose(x: BallArray) -> BallArray:
    """The last two axes exchanged."""
    return BallArray(np.swapaxes(x.elements, -1, -2))


def permute_dims(x: BallArray, axes: tuple[int, ...]) -> BallArray:
    """The axes in another order."""
    return BallArray(np.transpose(x.elements, axes))


def flip(x: BallArray, axis: int | None = None) -> BallArray:
    """The elements along one axis in reverse order."""
    return BallArray(np.flip(x.elements, axis=axis))


def tril(x: BallArray, k: int = 0) -> BallArray:
    """The elements on and below the k-th diagonal, zeros above it."""
    return _kept(x, np.tri(x.shape[-2], x.shape[-1], k) > 0.0)


def triu(x: BallArray, k: int = 0) -> BallArray:
    """The elements on and above the k-th diagonal, zeros below it."""
    return _kept(x, np.tri(x.shape[-2], x.shape[-1], k - 1) == 0.0)


def concat(xs: Sequence[BallArray], axis: int = 0) -> BallArray:
    """The arrays joined along an axis."""
    return BallArray(np.concatenate([operand(x) for x in xs], axis=axis))


def take(x: BallArray, indices: np.ndarray, axis: int) -> BallArray:
    """The elements at positions along one axis."""
    return BallArray(np.take(x.elements, indices, axis=axis))


def _kept(x: BallArray, chosen: np.ndarray) -> BallArray:
    return where(TruthArray(chosen, chosen), x, 0.0)


def _moved(x: Any, move: Callable[[np.ndarray], np.ndarray]) -> Any:
    return TruthArray(move(x.sure), move(x.possible)) if isinstance(x, TruthArray) else BallArray(move(x.elements))


def _balls(x: Any) -> BallArray:
    return x if isinstance(x, BallArray) else BallArray(operand(x))


def _test(predicate: Callable[[arb], bool], x: BallArray) -> np.ndarray:
    return np.array([predicate(v) for v in x.elements.ravel()], dtype=bool).reshape(x.shape)
