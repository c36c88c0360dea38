"""The array layer: every operation of `xp.OPERATIONS` goes through one table and the same checks.

Bounds. eps is the spacing of the dtype at 1. A check of values allows `ulps` roundings of the result, counted from the
formula and given with the case; 0 means that the operation is one call of the library's function, so that the bits
agree. A `conditioned` operation sums products, so its error is measured against |value| + sum_j |d value/d x_j| |x_j|,
which is what one rounding of every input makes. A gradient is sum_i w_i d op_i / d x_j over the outputs i and is
measured against the sum of the absolute values of these terms. The longest chain of a derivative has about ten
roundings and the longest sum 24 terms, so both sides together stay under ROUNDINGS eps. Where a derivative is itself
a difference (1 - tanh^2, softmax) only its largest element can set the scale: such a case `cancels`.
"""

import operator
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import array_api_strict
import autograd
import autograd.numpy as anp
import numpy as np
import pytest
import scipy.special
from autograd.extend import defvjp
from autograd.tracer import getval, isbox
from matrix import LIBRARIES
from scipy.signal import correlate
from strict import DEVICE, boxes_on_the_right, is_strict, to_strict

from refflow import arrays as xp
from refflow.arrays.shapes import unbroadcast
from refflow.errors import DTypeError, ShapeError, StructureError

DOUBLE = np.dtype(np.float64)
EPS = float(np.finfo(np.float64).eps)
SINGLE = float(np.finfo(np.float32).eps)
TINY = float(np.finfo(np.float64).smallest_normal)  # below it nothing is accurate in relative terms
SINGLE_TINY = float(np.finfo(np.float32).smallest_normal)
ROUNDINGS = 32
STEP = 2.0**-60  # of the complex step, whose error is STEP^2 = 2^-120: nothing


@dataclass(frozen=True, eq=False)
class Case:
    """One way to call one operation, and what NumPy or SciPy says it is."""

    name: str
    id: str
    call: Callable
    reference: Callable
    inputs: tuple
    ulps: int = 0
    conditioned: bool = False
    cancels: bool = False
    complex_safe: bool = True
    casts: bool = False  # the dtype of the answer is not that of the inputs

    def __str__(self):
        return f"{self.name}-{self.id}"


# The table.


def fixed(*shape, seed=0, low=-2.0, high=2.0):
    """The same read-only numbers every time; no two equal, none at a kink."""
    values = np.asarray(np.random.default_rng([seed, *shape]).uniform(low, high, shape))
    values.setflags(write=False)
    return values


def at(*values):
    return np.array(values)


GRID, CUBE, COLUMN, ROW, ONE = fixed(3, 4), fixed(2, 3, 4), fixed(3, 1, seed=1), fixed(4, seed=1), fixed(1, seed=1)
SCALAR, EMPTY = fixed(), fixed(0, 4)


def bind(function, *args, **keywords):
    """The function of its first argument alone."""
    return lambda x: function(x, *args, **keywords)


def unary(name, reference, low=-2.0, high=2.0, extremes=(), **options):
    operation = getattr(xp, name)
    shapes = {"grid": (3, 4), "0-d": (), "one": (1,), "empty": (0, 4), "3-d": (2, 1, 3)}
    for label, shape in shapes.items():
        yield Case(name, label, operation, reference, (fixed(*shape, low=low, high=high),), **options)
    if extremes:
        yield Case(name, "extremes", operation, reference, (at(*extremes),), **options)


def binary(name, reference, low=-2.0, scalar=0.7, **options):
    operation = getattr(xp, name)
    pairs = {
        "same": ((3, 4), (3, 4)),
        "row": ((3, 4), (4,)),
        "column-row": ((3, 1), (4,)),
        "leading": ((3, 1), (2, 3, 4)),
        "0-d": ((3, 4), ()),
        "0-d both": ((), ()),
        "one": ((1,), (3, 4)),
        "one-0-d": ((1,), ()),
        "empty": ((0, 4), (4,)),
        "empty-one": ((1, 4), (0, 1)),
    }
    for label, (a, b) in pairs.items():
        inputs = fixed(*a, seed=2, low=low), fixed(*b, seed=3, low=low)
        yield Case(name, label, operation, reference, inputs, **options)
    x = (fixed(3, 4, seed=4, low=low),)
    yield Case(name, "scalar left", partial(operation, scalar), partial(reference, scalar), x, **options)
    yield Case(name, "scalar right", bind(operation, scalar), bind(reference, scalar), x, **options)
    yield Case(name, "twice", lambda y: operation(y, 2.0 * y), lambda y: reference(y, 2.0 * y), x, **options)


def gelu_by_tanh(x):
    c = np.clip(x, -30.0, 30.0)
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (c + 0.044715 * c**3)))


def elementwise_cases():
    yield from binary("add", np.add)
    yield from binary("subtract", np.subtract)
    yield from binary("multiply", np.multiply)
    yield from binary("divide", np.divide, low=0.5)
    yield from unary("negative", np.negative)
    for n in (0, 1, 2, 3, 0.0, 1.0, -1, -2, 0.5, 2.5):
        x = fixed(3, 4, low=-2.0 if isinstance(n, int) and n >= 0 else 0.3)
        yield Case("power", f"to {n!r}", bind(xp.power, n), bind(np.power, n), (x,), ulps=2)
    for n in (1, 2):
        for label, x in (("0-d", SCALAR), ("empty", EMPTY), ("at 0", at(0.0, 1.0))):
            yield Case("power", f"{label} to {n}", bind(xp.power, n), bind(np.power, n), (x,), ulps=2)
    yield from unary("exp", np.exp, extremes=(-80.0, -1e-9, 80.0))
    yield from unary("log", np.log, low=0.3, extremes=(0.01, 1.0 + 2.0**-12, 1e30))
    yield from unary("sqrt", np.sqrt, low=0.3, extremes=(0.01, 1e30))
    yield from unary("sin", np.sin)
    yield from unary("cos", np.cos)
    yield from unary("tanh", np.tanh, cancels=True, extremes=(-400.0, 1e-9, 400.0))
    yield from unary("atan", np.arctan, extremes=(-1e9, 1e-9, 1e9))
    yield from unary("asinh", np.arcsinh, extremes=(-1e9, -1e-9, 1e-9, 1e30))
    yield from unary("square", np.square)
    yield from unary("expm1", np.expm1, extremes=(-50.0, -1e-10, 1e-10, 30.0))
    yield from unary("log1p", np.log1p, low=-0.9, extremes=(-0.99, -1e-10, 1e-30, 0.499, 0.501, 1e30))
    yield from unary("relu", lambda x: np.maximum(x, 0.0), extremes=(-1e30, -0.01, 0.01))
    yield from unary("abs", np.abs, extremes=(-1e30, -0.01, 0.01))
    # exp, then log1p or a quotient, and a sum: three roundings at most on each side; one product more in silu.
    yield from unary("softplus", lambda x: np.logaddexp(0.0, x), ulps=6, extremes=(-600.0, -40.0, -0.01, 40.0, 800.0))
    yield from unary("sigmoid", scipy.special.expit, ulps=6, extremes=(-800.0, -600.0, -40.0, 40.0, 800.0))
    yield from unary("gelu", gelu_by_tanh, ulps=40, extremes=(-3.0, 0.0, 5.0, 30.0, 1e30))
    yield from unary("log_sigmoid", scipy.special.log_expit, ulps=6, extremes=(-800.0, -40.0, 0.01, 40.0, 600.0))
    far = (-800.0, -600.0, -40.0, 40.0, 800.0)
    yield from unary("silu", lambda x: x * scipy.special.expit(x), ulps=8, cancels=True, extremes=far)


def hat(x, y):
    return xp.piecewise([xp.less(x, -0.5), xp.less(x, 0.5)], [-x, xp.multiply(x, y), y])


def numpy_hat(x, y):
    x, y = np.broadcast_arrays(x, y)
    return np.select([x < -0.5, x < 0.5, x >= 0.5], [-x, x * y, y])


def choice_cases():
    yield from binary("maximum", np.maximum)
    yield from binary("minimum", np.minimum)
    # The rounding of x - y moves e^-|x - y| by at most eps |x - y| e^-|x - y|, within the conditioning.
    yield from binary("logaddexp", np.logaddexp, ulps=8, conditioned=True)
    far = at(800.0, -800.0, -800.0), at(-800.0, -801.0, 3.0)
    yield Case("logaddexp", "extremes", xp.logaddexp, np.logaddexp, far, ulps=8, conditioned=True)
    for ends in ((-1.0, 1.0), (0.0, 100.0), (-100.0, 0.5)):
        for label, x in (("grid", GRID), ("0-d", SCALAR), ("empty", EMPTY)):
            yield Case("clip", f"{label} to {ends}", bind(xp.clip, *ends), bind(np.clip, *ends), (x,))

    def where(label, call, reference, *inputs):
        return Case("where", label, call, reference, inputs)

    other = fixed(3, 4, seed=5)
    yield where("arrays", lambda x, y: xp.where(xp.less(x, y), x, y), lambda x, y: np.where(x < y, x, y), GRID, other)
    yield where("scalar left", lambda x: xp.where(xp.less(x, 0.0), 1.5, x), lambda x: np.where(x < 0, 1.5, x), GRID)
    yield where("scalar right", lambda x: xp.where(xp.less(x, 0.0), x, 1.5), lambda x: np.where(x < 0, x, 1.5), GRID)
    by_sign = lambda c, x, y: xp.where(xp.greater_equal(c, 0.0), x, y)  # noqa: E731
    numpy_by_sign = lambda c, x, y: np.where(c >= 0, x, y)  # noqa: E731
    yield where("rows", by_sign, numpy_by_sign, GRID, GRID, ROW)
    yield where("broadcast condition", by_sign, numpy_by_sign, COLUMN, ROW, ONE)
    yield where("0-d", by_sign, numpy_by_sign, SCALAR, SCALAR, GRID)
    yield where("empty", by_sign, numpy_by_sign, EMPTY, ROW, ONE)
    for label, pair in (("three", (GRID, other)), ("rows", (GRID, ROW)), ("empty", (EMPTY, ROW))):
        yield Case("piecewise", label, hat, numpy_hat, pair)
    yield Case("piecewise", "one piece", lambda x: xp.piecewise([], [x]), np.array, (GRID,))


def lse(x, axis=-1, keepdims=False):
    return np.asarray(scipy.special.logsumexp(x, axis=axis, keepdims=keepdims))


def reductions(name, reference, **options):
    variants = [
        ("all", GRID, {}),
        ("axis 0", GRID, {"axis": 0}),
        ("last axis", CUBE, {"axis": -1}),
        ("middle axis kept", CUBE, {"axis": 1, "keepdims": True}),
        ("two axes", CUBE, {"axis": (0, -1)}),
        ("two axes kept", CUBE, {"axis": (-1, -2), "keepdims": True}),
        ("all axes", GRID, {"axis": None}),
        ("all axes kept", GRID, {"axis": None, "keepdims": True}),
        ("one", ONE, {"axis": 0}),
        ("0-d", SCALAR, {"axis": None}),
        ("no rows", EMPTY, {"axis": -1}),
    ]
    if name == "sum":  # of nothing it is 0; the others have no answer there
        variants += [("nothing", EMPTY, {"axis": None}), ("nothing along 0", EMPTY, {"axis": 0})]
    for label, x, keywords in variants:
        call, by_numpy = bind(getattr(xp, name), **keywords), bind(reference, **keywords)
        yield Case(name, label, call, by_numpy, (x,), **options)


def reduction_cases():
    for name, reference in (("sum", np.sum), ("mean", np.mean), ("max", np.max), ("min", np.min)):
        yield from reductions(name, reference)
    # Exponentials, a sum of up to 24 of them, a logarithm.
    yield from reductions("logsumexp", lse, ulps=ROUNDINGS, conditioned=True)
    far = at([800.0, 799.0, -800.0], [-1000.0, -1001.0, -1000.5])
    yield Case("logsumexp", "extremes", xp.logsumexp, lse, (far,), ulps=ROUNDINGS, conditioned=True)
    variants = [("last", CUBE, -1), ("first", CUBE, 0), ("middle", CUBE, -2), ("one", ONE, 0), ("empty", EMPTY, 1)]
    for label, x, axis in variants:
        call, by_scipy = bind(xp.softmax, axis=axis), bind(scipy.special.softmax, axis=axis)
        yield Case("softmax", label, call, by_scipy, (x,), ulps=ROUNDINGS, cancels=True)
        call, by_scipy = bind(xp.log_softmax, axis=axis), bind(scipy.special.log_softmax, axis=axis)
        yield Case("log_softmax", label, call, by_scipy, (x,), ulps=ROUNDINGS, conditioned=True)
        yield Case("cumulative_sum", label, bind(xp.cumulative_sum, axis=axis), bind(np.cumsum, axis=axis), (x,))
    by_scipy = bind(scipy.special.softmax, axis=-1)
    yield Case("softmax", "extremes", xp.softmax, by_scipy, (far,), ulps=ROUNDINGS, cancels=True)
    tall = fixed(5, 3)
    yield Case("cumulative_sum", "rows", bind(xp.cumulative_sum, axis=0), bind(np.cumsum, axis=0), (tall,))
    by_scipy = bind(scipy.special.log_softmax, axis=-1)
    yield Case("log_softmax", "extremes", xp.log_softmax, by_scipy, (far,), ulps=ROUNDINGS, conditioned=True)
    yield Case("cumulative_sum", "default axis", xp.cumulative_sum, bind(np.cumsum, axis=-1), (GRID,))
    yield Case("cumulative_sum", "nothing", xp.cumulative_sum, bind(np.cumsum, axis=-1), (fixed(3, 0),))


def shape_cases():
    def one(name, label, reference, x, *args):
        return Case(name, label, bind(getattr(xp, name), *args), reference, (x,))

    for dtype in ("float32", "float64"):
        for label, x in (("grid", GRID), ("0-d", SCALAR), ("empty", EMPTY)):
            yield Case(
                "astype",
                f"{label} to {dtype}",
                lambda y, d=dtype: xp.astype(y, getattr(xp.namespace(y), d)),
                lambda y, d=dtype: y.astype(d),
                (x,),
                complex_safe=False,
                casts=True,
            )
    for x, shape in ((GRID, (2, 3, 4)), (COLUMN, (3, 4)), (SCALAR, (2, 2)), (ONE, (3, 0)), (COLUMN, (2, 3, 1))):
        yield one("broadcast_to", f"{x.shape} to {shape}", lambda y, s=shape: np.zeros(s) + y, x, shape)
    for x, shape in ((GRID, (12,)), (GRID, (2, -1, 3)), (SCALAR, (1, 1)), (ONE, ()), (EMPTY, (2, 0)), (GRID, (3, 4))):
        yield one("reshape", f"{x.shape} to {shape}", bind(np.reshape, shape), x, shape)
    for axis in (0, 1, 2, -1, -2, -3):
        yield one("expand_dims", f"at {axis}", bind(np.expand_dims, axis), GRID, axis)
        yield one("flip", f"axis {axis}", bind(np.flip, axis), CUBE, axis)
    yield one("expand_dims", "0-d", lambda y: y[None], SCALAR, -1)
    yield one("expand_dims", "empty", lambda y: y[None], EMPTY, 0)
    yield one("flip", "default axis", np.fliplr, GRID)
    yield one("flip", "empty", np.array, EMPTY, 0)
    for shape, axis in (((3, 1), 1), ((3, 1), -1), ((1, 2, 1), 0), ((1, 2, 1), -3), ((1,), 0), ((1, 0), 0)):
        yield one("squeeze", f"{shape} at {axis}", bind(np.squeeze, axis), fixed(*shape), axis)
    for x in (GRID, CUBE, COLUMN, EMPTY):
        yield one("matrix_transpose", str(x.shape), lambda y: np.swapaxes(y, -1, -2), x)
    for axes in ((2, 0, 1), (1, 2, 0), (-1, 0, 1), (0, -1, -2), (0, 1, 2)):
        yield one("permute_dims", str(axes), bind(np.transpose, axes), CUBE, axes)
    yield one("permute_dims", "0-d", np.array, SCALAR, ())
    yield one("permute_dims", "empty", np.transpose, EMPTY, (1, 0))


INDICES = {
    "integer": (ROW, 2),
    "negative integer": (ROW, -1),
    "slice": (ROW, slice(1, 3)),
    "every second, backwards": (ROW, slice(None, None, -2)),
    "nothing": (ROW, slice(2, 2)),
    "last column": (CUBE, (..., -1)),
    "columns": (CUBE, (..., slice(1, 3))),
    "row": (GRID, (1, ...)),
    "element": (GRID, (2, -4)),
    "integer and slices": (CUBE, (slice(None), 1, slice(None, None, 2))),
    "two integers": (CUBE, (0, ..., 1)),
    "new axis first": (ROW, (None, slice(1, None))),
    "new axis inside": (GRID, (slice(1, None), None, slice(None, 2))),
    "new axes and an integer": (CUBE, (None, 1, ..., None)),
    "everything": (GRID, ...),
    "0-d": (SCALAR, ()),
    "empty": (EMPTY, (slice(None), 1)),
}


def selection_cases():
    for label, (x, index) in INDICES.items():
        yield Case("getitem", label, bind(xp.getitem, index), bind(operator.getitem, index), (x,))
    positions = [(ROW, (2, 0), -1), (ROW, (-1, 0), 0), (GRID, (3, 1, 0, 2), 1), (CUBE, (2, 0), -2)]
    positions += [(CUBE, (-1,), 0), (GRID, (), 0), (EMPTY, (3, -3), 1)]
    for x, indices, axis in positions:
        before = (slice(None),) * (axis % x.ndim)
        yield Case(
            "take",
            f"{indices} of {x.shape} along {axis}",
            bind(xp.take, indices, axis=axis),
            bind(operator.getitem, (*before, np.array(indices, dtype=int))),
            (x,),
        )
    for x in (GRID, CUBE, ROW, EMPTY):
        yield Case("bring_first", str(x.shape), xp.bring_first, lambda y: np.moveaxis(y, -1, 0), (x,))
        yield Case("bring_last", str(x.shape), xp.bring_last, lambda y: np.moveaxis(y, 0, -1), (x,))
    hot = np.eye(3)[:, [2, 0, 1, 1]]
    for x in (GRID, fixed(3, 1)):
        yield Case(
            "pick", str(x.shape), lambda x: xp.pick(xp.asarray(hot, like=x, dtype=xp.real(x).dtype), x),
            lambda x: np.take_along_axis(x + 0 * hot, np.argmax(hot, axis=0)[None], 0)[0], (x,),
        )  # fmt: skip
    yield Case("take", "default axis", bind(xp.take, (1, 0)), lambda y: y[..., [1, 0]], (CUBE,))
    joined = (((3, 4), (3, 1), -1), ((1, 4), (3, 4), 0), ((2, 3, 1), (2, 2, 1), -2), ((2,), (0,), 0))
    for a, b, axis in joined:
        yield Case(
            "concat",
            f"{a} and {b} along {axis}",
            lambda x, y, i=axis: xp.concat([x, y], axis=i),
            lambda x, y, i=axis: np.concatenate([x, y], axis=i),
            (fixed(*a, seed=6), fixed(*b, seed=7)),
        )
    yield Case("concat", "one", lambda x: xp.concat([x]), np.array, (ROW,))
    thrice = lambda x: xp.concat([x, 2.0 * x, x])  # noqa: E731
    yield Case("concat", "one array thrice", thrice, lambda x: np.hstack([x, 2.0 * x, x]), (ROW,))
    for shape, axis in (((3, 4), 0), ((3, 4), 1), ((3, 4), 2), ((3, 4), -1), ((3, 4), -3), ((), 0), ((0,), -1)):
        yield Case(
            "stack",
            f"{shape} at {axis}",
            lambda x, y, i=axis: xp.stack([x, y], axis=i),
            lambda x, y, i=axis: np.stack([x, y], axis=i),
            (fixed(*shape, seed=6), fixed(*shape, seed=7)),
        )
    for x, sizes, axis in ((ROW, (1, 3), -1), (GRID, (2, 0, 1), 0), (CUBE, (1, 1, 1), -2), (EMPTY, (0,), 0)):
        yield Case(
            "split",
            f"{x.shape} in {sizes} along {axis}",
            bind(xp.split, sizes, axis=axis),
            lambda y, s=sizes, i=axis: tuple(np.split(y, np.cumsum(s)[:-1], axis=i)),
            (x,),
        )


PRODUCTS = [
    ((3, 4), (4, 2)),
    ((3, 3), (3, 3)),
    ((2, 3, 4), (4, 2)),
    ((3, 4), (2, 4, 2)),
    ((2, 3, 4), (2, 4, 2)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((1, 1), (1, 1)),
    ((4,), (4, 2)),
    ((4,), (2, 4, 3)),
    ((3, 0), (0, 2)),
    ((0, 4), (4, 2)),
    ((0, 3, 4), (4, 2)),
]


def product_cases():
    for a, b in PRODUCTS:
        by_numpy = partial(np.einsum, "j,...jk->...k" if len(a) == 1 else "...ij,...jk->...ik")
        inputs = fixed(*a, seed=8), fixed(*b, seed=9)
        # four products and three sums, on both sides
        yield Case("matmul", f"{a} {b}", xp.matmul, by_numpy, inputs, ulps=8, conditioned=True)
    for a, k, m in (((5,), 5, 2), ((3, 4), 4, 2), ((2, 3, 4), 4, 1), ((0, 4), 4, 3), ((3, 0), 0, 2), ((2, 1), 1, 3)):
        inputs = fixed(*a, seed=8), fixed(k, m, seed=9), fixed(m, seed=10)
        plain = lambda x, w, b: np.matmul(x, w) + b  # noqa: E731
        yield Case("linear", f"{a} to {m}", xp.linear, plain, inputs, ulps=8, conditioned=True)


def neighbours(x, kernel):
    """The patches of images, pixel by pixel."""
    r, (height, width, channels) = kernel // 2, x.shape[-3:]
    padded = np.zeros((*x.shape[:-3], height + 2 * r, width + 2 * r, channels), x.dtype)
    padded[..., r : r + height, r : r + width, :] = x
    found = np.empty((*x.shape[:-1], kernel * kernel * channels), x.dtype)
    for i, j in np.ndindex(height, width):
        window = padded[..., i : i + kernel, j : j + kernel, :]
        found[..., i, j, :] = window.reshape(found.shape[:-3] + found.shape[-1:])
    return found


def folded(p, kernel):
    """Each patch added where it was taken."""
    r, height, width, channels = kernel // 2, *p.shape[-3:-1], p.shape[-1] // kernel**2
    padded = np.zeros((*p.shape[:-3], height + 2 * r, width + 2 * r, channels), p.dtype)
    for i, j in np.ndindex(height, width):
        patch = p[..., i, j, :].reshape(*p.shape[:-3], kernel, kernel, channels)
        padded[..., i : i + kernel, j : j + kernel, :] += patch
    return padded[..., r : r + height, r : r + width, :]


def correlated(x, weight, bias):
    """The convolution by SciPy's correlation of each pair of channels."""
    dtype = np.result_type(x, weight, bias)
    found = np.zeros((*x.shape[:-1], weight.shape[3]), dtype) + bias.astype(dtype)
    for n in np.ndindex(*x.shape[:-3]):
        for i, j in np.ndindex(*weight.shape[2:]):
            found[(*n, ..., j)] += correlate(x[(*n, ..., i)], weight[:, :, i, j], mode="full", method="direct")[
                _centre(x.shape[-3], weight.shape[0]), _centre(x.shape[-2], weight.shape[1])
            ]
    return found


def _centre(length, kernel):
    return slice(kernel // 2, kernel // 2 + length)


IMAGES = (((3, 4, 2), 3), ((2, 2, 3, 1), 3), ((1, 1, 2), 3), ((2, 3, 2), 5), ((0, 2, 2, 1), 3), ((2, 2, 2), 1))


def convolution_cases():
    for shape, kernel in IMAGES:
        label, wide = f"{shape} by {kernel}", (*shape[:-1], shape[-1] * kernel**2)
        yield Case("patches", label, bind(xp.patches, kernel), bind(neighbours, kernel), (fixed(*shape),))
        # kernel^2 terms added in another order, on both sides
        yield Case(
            "fold", label, bind(xp.fold, kernel), bind(folded, kernel), (fixed(*wide),), ulps=2 * kernel**2,
            conditioned=True,
        )  # fmt: skip
        for out in (1, 2):
            inputs = fixed(*shape), fixed(kernel, kernel, shape[-1], out, seed=9), fixed(out, seed=10)
            # k k C products and as many sums, on both sides
            yield Case(
                "conv2d", f"{label} to {out}", xp.conv2d, correlated, inputs, ulps=2 * (kernel**2 * shape[-1] + 1),
                conditioned=True,
            )  # fmt: skip


def triangle(a, lower, unit_diagonal):
    t = np.tril(a) if lower else np.triu(a)
    return t - np.diag(np.diag(t) - 1.0) if unit_diagonal else t


def triangle_cases():
    for n in (1, 2, 4):
        x = fixed(n, n, seed=11)
        yield Case("diagonal", str(n), xp.diagonal, np.diag, (x,))
        yield Case("diagonal_matrix", str(n), xp.diagonal_matrix, np.diag, (fixed(n, seed=11),))
        for k in (-1, 0, 1):
            yield Case("tril", f"{n}, {k}", bind(xp.tril, k), bind(np.tril, k), (x,))
            yield Case("triu", f"{n}, {k}", bind(xp.triu, k), bind(np.triu, k), (x,))
    yield Case("tril", "3 by 4", xp.tril, np.tril, (GRID,))
    yield Case("triu", "3 by 4", xp.triu, np.triu, (GRID,))
    for n, k in ((1, 1), (2, 3), (4, 2), (3, 0)):
        inputs = fixed(n, n, seed=12) + 3.0 * np.eye(n), fixed(n, k, seed=13)
        for lower in (True, False):
            for unit in (True, False):
                options = {"lower": lower, "unit_diagonal": unit}
                # a quotient, three products and three sums, on both sides
                yield Case(
                    "solve_triangular",
                    f"{n}, {k}, {'lower' if lower else 'upper'}{', unit' if unit else ''}",
                    lambda a, b, o=options: xp.solve_triangular(a, b, **o),
                    lambda a, b, o=options: np.linalg.solve(triangle(a, **o), b),
                    inputs,
                    ulps=16,
                    conditioned=True,
                )


CASES = [
    *elementwise_cases(),
    *choice_cases(),
    *reduction_cases(),
    *shape_cases(),
    *selection_cases(),
    *product_cases(),
    *convolution_cases(),
    *triangle_cases(),
]


# The checks. Each takes a case and raises AssertionError; the seeded faults below go through the same ones.


def parts(answer):
    """Some operations give several arrays."""
    return answer if isinstance(answer, tuple) else (answer,)


def flat(answer):
    """Every number of the arrays, in one row."""
    return np.concatenate([np.ravel(xp.to_numpy(part)) for part in parts(answer)])


def locked(x, dtype=None):
    copy = np.array(x, dtype=dtype)
    copy.setflags(write=False)
    return copy


def within(got, want, bound):
    assert got.shape == want.shape, f"shape {got.shape}, not {want.shape}"
    error = np.abs(got - want)
    assert np.all(error <= bound), f"off by {error}, more than {bound}"


def alike(x, like):
    """Same shape, same dtype: a gradient and its parameter, an answer and its reference."""
    assert tuple(x.shape) == tuple(like.shape), f"shape {tuple(x.shape)}, not {tuple(like.shape)}"
    assert x.dtype == like.dtype, f"dtype {x.dtype}, not {like.dtype}"


def all_alike(xs, like):
    for x, y in zip(xs, like, strict=True):
        alike(x, y)


@cache
def weights(case):
    """One fixed weight, away from 0, for every element of the answers."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    shapes = [part.shape for part in parts(case.reference(*case.inputs))]
    return tuple(rng.uniform(0.5, 1.5, shape) * rng.choice((-1.0, 1.0), shape) for shape in shapes)


def directions(case):
    rng = np.random.default_rng(zlib.crc32(str(case).encode()) + 1)
    return tuple(rng.uniform(0.5, 1.5, x.shape) for x in case.inputs)


def inner(ws, answers):
    total = 0.0
    for w, part in zip(ws, answers, strict=True):
        total = xp.add(xp.sum(xp.multiply(w, part)), total)
    return total


def gradient(case, inputs, curved=False, weigh=xp.asarray):
    """sum_i w_i op_i, or sum_i w_i op_i (op_i + 1), and its gradient: a vector-Jacobian product."""

    def weighed(xs):
        answers = parts(case.call(*xs))
        ws = [weigh(w, part) for w, part in zip(weights(case), answers, strict=True)]
        return inner(ws, [xp.multiply(part, xp.add(part, 1.0)) for part in answers] if curved else answers)

    return xp.value_and_grad(weighed)(tuple(inputs))


def hessian_vector(case, inputs):
    """The gradient of <direction, gradient of sum_i w_i op_i (op_i + 1)>: it differentiates every cotangent too."""

    def along(xs):
        _, gradients = gradient(case, xs, curved=True)
        return inner([xp.asarray(v, g) for v, g in zip(directions(case), gradients, strict=True)], gradients)

    return xp.value_and_grad(along)(tuple(inputs))[1]


def moves(inputs):
    """For every element of every input: its value, and a function that moves it, all else equal."""

    def move(k, j, step):
        y = np.array(inputs[k], dtype=np.result_type(inputs[k], step))
        y.reshape(-1)[j] += step
        return (*inputs[:k], locked(y), *inputs[k + 1 :])

    for k, x in enumerate(inputs):
        for j, value in enumerate(x.reshape(-1)):
            yield float(value.real), partial(move, k, j)


@cache
def jacobian(case):
    """d op_i / d x_j as the matrix (i, j): by complex steps; of casts, which are linear, by differences."""
    rows = []
    for _, moved in moves(case.inputs):
        if case.complex_safe:
            rows.append(flat(case.call(*moved(1j * STEP))).imag / STEP)
        else:
            rows.append((flat(case.call(*moved(1.0))) - flat(case.call(*moved(-1.0)))) / 2.0)
    return np.reshape(rows, (len(rows), flat(weights(case)).size)).T


def conditioning(case):
    """What one rounding of every input makes."""
    return np.abs(jacobian(case)) @ np.abs(flat(case.inputs))


def value_scale(case):
    size = np.abs(flat(case.reference(*case.inputs)))
    return size + conditioning(case) if case.conditioned else size


def gradient_scale(case):
    """sum_i |w_i d op_i / d x_j|, for every j."""
    scale = np.abs(flat(weights(case))) @ np.abs(jacobian(case))
    return np.full_like(scale, scale.max(initial=0.0)) if case.cancels else scale


def coarsest(case):
    """The largest eps on the way from the inputs to the answers."""
    return max(float(np.finfo(part.dtype).eps) for part in parts(case.reference(*case.inputs)))


def check_value(case):
    got, want = parts(case.call(*map(locked, case.inputs))), parts(case.reference(*case.inputs))
    all_alike(got, want)
    within(flat(got), flat(want), case.ulps * EPS * value_scale(case) if case.ulps else 0.0)


def check_gradient_against_complex_step(case):
    """Exact but for rounding: see the top of the file."""
    _, got = gradient(case, map(locked, case.inputs))
    all_alike(got, case.inputs)
    want = flat(weights(case)) @ jacobian(case)
    within(flat(got), want, ROUNDINGS * EPS * gradient_scale(case) + TINY)


def check_gradient_against_central_differences(case):
    """D(h) errs by h^2 f'''/6, so |D(2h) - D(h)| is three times that; rounding errs by some 8 eps sum |w f| / h."""
    _, got = gradient(case, map(locked, case.inputs))
    all_alike(got, case.inputs)
    eps, w = coarsest(case), flat(weights(case))
    want, bound = [], []
    for x, moved in moves(case.inputs):
        h = eps ** (1 / 3) * max(1.0, abs(x))
        quotients = []
        for step in (h, 2.0 * h):
            upper, lower = flat(case.call(*moved(step))), flat(case.call(*moved(-step)))
            quotients.append(w @ (upper - lower) / ((x + step) - (x - step)))
        want.append(quotients[0])
        rounding = 8.0 * eps * (np.abs(w) @ np.maximum(np.abs(upper), np.abs(lower))) / h
        bound.append(abs(quotients[1] - quotients[0]) + rounding)
    within(flat(got), np.array(want), np.array(bound))


def check_second_derivative(case):
    """Against the complex step of the gradient, at twice a gradient's roundings, in the scale of the largest element.

    The gradient of a cast is linear in x: there a central difference errs by rounding alone.
    """
    got = hessian_vector(case, map(locked, case.inputs))
    all_alike(got, case.inputs)
    v, eps = flat(directions(case)), coarsest(case)
    want, scale, rounding = [], [], []
    inputs = [locked(x, complex if case.complex_safe else None) for x in case.inputs]
    for x, moved in moves(inputs):
        if case.complex_safe:
            row = flat(gradient(case, moved(1j * STEP), curved=True)[1]).imag / STEP
        else:
            h = eps ** (1 / 3) * max(1.0, abs(x))
            upper, lower = (flat(gradient(case, moved(step), curved=True)[1]) for step in (h, -h))
            row = (upper - lower) / ((x + h) - (x - h))
            rounding.append(8.0 * eps * np.abs(v) @ np.maximum(np.abs(upper), np.abs(lower)) / h)
        want.append(v @ row)
        scale.append(np.abs(v) @ np.abs(row))
    bound = 2 * ROUNDINGS * EPS * max(scale, default=0.0) + max(rounding, default=0.0) + TINY
    within(flat(got), np.array(want), bound)


@cache
def in_single(case):
    """The case at inputs that float32 holds exactly, so that only the arithmetic differs."""
    return replace(case, inputs=tuple(np.asarray(x, np.float32).astype(np.float64) for x in case.inputs))


def close_gradient(case, got, inputs, eps):
    """Gradients in coarser arithmetic have the dtype of their inputs, and the values of float64 within its eps."""
    all_alike(got, inputs)
    want = flat(gradient(case, case.inputs)[1])
    within(flat(got), want, ROUNDINGS * eps * gradient_scale(case).max(initial=0.0) + SINGLE_TINY)


def check_float32(case):
    """ROUNDINGS of float32 against the case in float64; a function of NumPy's in float32 may err by four of them."""
    case = in_single(case)
    inputs = [locked(x, np.float32) for x in case.inputs]
    answers, want = parts(case.call(*inputs)), parts(case.reference(*case.inputs))
    for answer, w in zip(answers, want, strict=True):
        assert answer.dtype == (w.dtype if case.casts else np.float32), f"a value of dtype {answer.dtype}"
    within(flat(answers), flat(want), ROUNDINGS * SINGLE * (np.abs(flat(want)) + conditioning(case)) + SINGLE_TINY)
    value, got = gradient(case, inputs)
    assert value.dtype == answers[0].dtype, f"an objective of dtype {value.dtype}"
    close_gradient(case, got, inputs, SINGLE)


def check_mixed(case):
    """One input in float32, any others in float64, and float64 weights, so that cotangents arrive in float64."""
    case = in_single(case)
    for k in range(len(case.inputs)):
        inputs = [locked(x, np.float32 if i == k else np.float64) for i, x in enumerate(case.inputs)]
        value, got = gradient(case, inputs, weigh=lambda w, part: w)
        assert value.dtype == np.float64, f"an objective of dtype {value.dtype}"
        close_gradient(case, got, inputs, SINGLE)


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Another library that is differentiated here: how arrays get there, and whether one is there in a NumPy dtype."""

    name: str
    put: Callable
    is_there: Callable


def on_gpu(x):
    return __import__("cupy").asarray(x)


def is_on_gpu(x, dtype):
    return xp.is_array(x) and xp.library(x) == "cupy" and x.dtype == dtype


STRICT, CUPY = Elsewhere("strict", to_strict, is_strict), Elsewhere("cupy", on_gpu, is_on_gpu)


def elsewhere(case, library, dtype):
    """The answers of a case in another library, and the gradient: NumPy arrays that were there in these dtypes."""
    plain = [locked(x, dtype) for x in case.inputs]
    want = parts(case.call(*plain))
    with boxes_on_the_right():
        inputs = [library.put(x) for x in plain]
        got, (value, got_gradient) = parts(case.call(*inputs)), gradient(case, inputs)
    assert library.is_there(value, want[0].dtype), f"{value!r}"
    for g, w in zip((*got, *got_gradient), (*want, *plain), strict=True):
        assert library.is_there(g, w.dtype), f"{g!r} is not in {library.name} in {w.dtype}"
        assert g.shape == w.shape, f"shape {g.shape}, not {w.shape}"
    return flat(got), flat(got_gradient)


def check_elsewhere(case, library, dtype=DOUBLE):
    """Operations in the order of NumPy's, but a sum may be ordered otherwise and exp rounded: ROUNDINGS again."""
    case = in_single(case)
    eps, tiny = max(float(np.finfo(dtype).eps), coarsest(case)), float(np.finfo(dtype).smallest_normal)
    plain = [locked(x, dtype) for x in case.inputs]
    want, want_gradient = flat(parts(case.call(*plain))), flat(gradient(case, plain)[1])
    got, got_gradient = elsewhere(case, library, dtype)
    within(got, want, ROUNDINGS * eps * (np.abs(want) + conditioning(case)) + tiny)
    within(got_gradient, want_gradient, ROUNDINGS * eps * gradient_scale(case).max(initial=0.0) + tiny)


check_in_strict = partial(check_elsewhere, library=STRICT)


def check_inputs_stay(case):
    """Neither the operation nor a derivative writes into what it was given."""
    inputs = [np.array(x) for x in case.inputs]
    before = [x.tobytes() for x in inputs]
    case.call(*inputs)
    gradient(case, inputs)
    hessian_vector(case, inputs)
    assert [x.tobytes() for x in inputs] == before, "an input was written into"


def check_complex(case):
    """On the real line the complex form is the real one; eight roundings more are for a formula of its own."""
    got = parts(case.call(*(locked(x, complex) for x in case.inputs)))
    want = parts(case.call(*map(locked, case.inputs)))
    for g, w in zip(got, want, strict=True):
        assert g.dtype == np.complex128, f"dtype {g.dtype}"
        assert g.shape == w.shape, f"shape {g.shape}, not {w.shape}"
    within(flat(got), flat(want), (case.ulps + 8) * EPS * value_scale(case))


# Every operation.

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_complex_safe_case = pytest.mark.parametrize("case", [c for c in CASES if c.complex_safe], ids=str)


def test_every_operation_has_a_case_and_no_case_anything_else():
    assert {case.name for case in CASES} == set(xp.OPERATIONS)
    assert max(Counter(map(str, CASES)).values()) == 1


def test_only_casts_refuse_complex_numbers():
    assert {case.name for case in CASES if not case.complex_safe} == {"astype"}


@every_case
def test_value(case):
    check_value(case)


@every_complex_safe_case
def test_gradient_against_complex_step(case):
    check_gradient_against_complex_step(case)


@every_case
def test_gradient_against_central_differences(case):
    check_gradient_against_central_differences(case)


@every_case
def test_second_derivative(case):
    check_second_derivative(case)


@every_case
def test_float32_stays_float32(case):
    check_float32(case)


@every_case
def test_every_operand_keeps_its_own_dtype(case):
    check_mixed(case)


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
@every_case
def test_strict_on_its_second_device(case, dtype):
    check_elsewhere(case, STRICT, dtype)


@pytest.mark.gpu
@pytest.mark.skipif(bool(LIBRARIES["cupy"].missing), reason=LIBRARIES["cupy"].missing or "cupy is here")
@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
@every_case
def test_cupy_on_a_gpu(case, dtype):
    check_elsewhere(case, CUPY, dtype)


@every_case
def test_inputs_stay(case):
    check_inputs_stay(case)


@every_complex_safe_case
def test_complex_on_the_real_line(case):
    check_complex(case)


# Seeded faults: the checks above must refuse each of these operations, and accept its correct twin.


def seeded(function, *vjps):
    operation = xp.primitive(function)
    defvjp(operation, *vjps)
    return operation


def cosine_with_the_wrong_sign(ans, x):
    return lambda g: xp.multiply(g, xp.negative(xp.cos(x)))


def double_cotangent(ans, x):
    return lambda g: xp.multiply(xp.astype(g, np.float64), ans)


def slope_of_another_function(ans, x):
    return lambda g: xp.divide(g, xp.add(1.0, xp.square(x)))


def slope_off_the_tape(ans, x):
    return lambda g: xp.multiply(g, 2.0 * getval(x))


def ones_on_the_default_device(ans, x):
    raw = getval(x)
    return lambda g: xp.namespace(raw).ones(raw.shape, dtype=raw.dtype)


def squared_in_place(x):
    y = np.square(x)
    x *= 2.0
    return y


def seeded_faults():
    """The fault, the check that must see it, the operation with the fault, without, and inputs."""
    grid, row = GRID, ROW
    to_x = lambda ans, x, y: lambda g: unbroadcast(g, x)  # noqa: E731
    to_y = lambda ans, x, y: lambda g: unbroadcast(g, y)  # noqa: E731
    as_it_comes = lambda ans, x, y: lambda g: g  # noqa: E731
    transposed = lambda ans, x, y: lambda g: xp.matmul(xp.matrix_transpose(x), g)  # noqa: E731
    not_transposed = lambda ans, x, y: lambda g: xp.matmul(g, y)  # noqa: E731
    sine = seeded(np.sin, cosine_with_the_wrong_sign)
    yield "sign, by complex step", check_gradient_against_complex_step, sine, xp.sin, (grid,)
    yield "sign, by differences", check_gradient_against_central_differences, sine, xp.sin, (grid,)
    yield "sign, twice", check_second_derivative, sine, xp.sin, (grid,)
    for name, vjps in (("left", (as_it_comes, to_y)), ("right", (to_x, as_it_comes))):
        inputs = (row, grid) if name == "left" else (grid, row)
        wrong = seeded(operator.add, *vjps)
        yield f"no unbroadcast, {name}", check_gradient_against_complex_step, wrong, xp.add, inputs
        yield f"no unbroadcast, {name}, in strict", check_in_strict, wrong, xp.add, inputs
        yield f"no cast, {name}", check_mixed, wrong, xp.add, (grid, grid + 1.0)
    exponential = seeded(np.exp, double_cotangent)
    yield "float64 cotangent", check_float32, exponential, xp.exp, (grid,)
    yield "float64 constant", check_float32, lambda x: x * np.float64(2.0), lambda x: x * 2.0, (grid,)
    product = seeded(np.matmul, not_transposed, transposed)
    pair = fixed(3, 3), fixed(3, 3, seed=1)
    yield "transposed, by complex step", check_gradient_against_complex_step, product, xp.matmul, pair
    yield "transposed, by differences", check_gradient_against_central_differences, product, xp.matmul, pair
    logarithm = seeded(np.log1p, slope_of_another_function)
    positive = (np.abs(grid),)
    yield "slope, by differences", check_gradient_against_central_differences, logarithm, xp.log1p, positive
    small = seeded(np.square, lambda ans, x: lambda g: xp.multiply(g, xp.multiply(2.0 + 1e-13, x)))
    yield "slope off by 1e-13", check_gradient_against_complex_step, small, xp.square, (grid,)
    yield "off the tape", check_second_derivative, seeded(np.square, slope_off_the_tape), xp.square, (grid,)
    total = seeded(lambda x: xp.namespace(x).sum(x), ones_on_the_default_device)
    yield "device", check_in_strict, total, xp.sum, (grid,)
    in_place = seeded(squared_in_place, slope_off_the_tape)
    yield "writes", check_inputs_stay, in_place, xp.square, (grid,)
    yield "modulus", check_complex, np.abs, xp.abs, (grid,)
    yield "last digits", check_value, lambda x: np.exp(x) * (1.0 + 4.0 * EPS), xp.exp, (grid,)
    yield "dtype of the value", check_value, lambda x: np.exp(x).astype(np.float32), xp.exp, (grid,)
    yield "shape of the value", check_value, lambda x: np.exp(x)[None], xp.exp, (grid,)


REFERENCES = {"add": np.add, "matmul": np.matmul, "exp": np.exp, "log1p": np.log1p, "square": np.square}
REFERENCES |= {"sin": np.sin, "sum": np.sum, "abs": np.abs, "<lambda>": lambda x: x * 2.0}


@pytest.mark.parametrize(
    ("fault", "check", "wrong", "right", "inputs"), [pytest.param(*f, id=f[0]) for f in seeded_faults()]
)
def test_checks_see_seeded_faults(fault, check, wrong, right, inputs):
    reference = REFERENCES[right.__name__]
    check(Case("twin", fault, right, reference, inputs))
    with pytest.raises(AssertionError):
        check(Case("faulty", fault, wrong, reference, inputs))


# Gradients of trees.


def test_gradient_has_the_structure_dtypes_and_values_of_the_parameters():
    p = {"w": [ROW, (ROW.astype(np.float32),)], "b": {"c": SCALAR}, "unused": ROW.astype(np.float32), "none": ()}
    value, g = xp.value_and_grad(lambda p: xp.sum(p["w"][0] * p["w"][1][0]) + p["b"]["c"] * p["b"]["c"])(p)
    assert value == np.sum(ROW * ROW.astype(np.float32)) + SCALAR * SCALAR
    assert list(g) == ["w", "b", "unused", "none"]
    assert (type(g["w"]), type(g["w"][1]), type(g["b"]), g["none"]) == (list, tuple, dict, ())
    all_alike(xp.leaves(g), xp.leaves(p))
    np.testing.assert_array_equal(g["w"][0], ROW.astype(np.float32))
    np.testing.assert_array_equal(g["w"][1][0], ROW.astype(np.float32))
    assert g["b"]["c"] == 2.0 * SCALAR
    np.testing.assert_array_equal(g["unused"], np.zeros(4))


def test_one_array_as_two_leaves_has_two_gradients():
    _, (a, b) = xp.value_and_grad(lambda p: xp.sum(p[0] * p[0]) + xp.sum(3.0 * p[1]))([ROW, ROW])
    np.testing.assert_array_equal(a, 2.0 * ROW)
    np.testing.assert_array_equal(b, np.full(4, 3.0))


def test_one_array_is_a_tree():
    _, g = xp.value_and_grad(lambda x: xp.sum(x * x * x))(ROW)
    np.testing.assert_allclose(g, 3.0 * ROW**2, rtol=4 * EPS)


def test_a_value_that_depends_on_nothing():
    value, g = xp.value_and_grad(lambda x: xp.sum(x.shape[0] * xp.ones((2,), x)))(ROW)
    assert value == 8.0
    np.testing.assert_array_equal(g, np.zeros(4))


def test_more_arguments_are_passed_and_not_differentiated():
    value, g = xp.value_and_grad(lambda x, a, *, b: xp.sum(x * a) * b)(ROW, COLUMN, b=2.0)
    assert value == np.sum(ROW * COLUMN) * 2.0
    np.testing.assert_allclose(g, np.full(4, 2.0 * COLUMN.sum()), rtol=8 * EPS)


def test_a_value_must_be_a_scalar():
    with pytest.raises(ShapeError, match=r"scalar.*\(4,\)"):
        xp.value_and_grad(lambda x: x * x)(ROW)
    with pytest.raises(ShapeError, match=r"scalar.*\(1,\)"):
        xp.value_and_grad(lambda x: x * x)(ONE)


@pytest.mark.parametrize("leaf", [1.0, 2, "x", None, np.float64(1.0)], ids=lambda x: type(x).__name__)
def test_a_leaf_must_be_an_array(leaf):
    with pytest.raises(DTypeError, match=f"arrays.*{type(leaf).__name__}"):
        xp.value_and_grad(lambda p: xp.sum(p["a"]))({"a": ROW, "b": leaf})


def quartic(x, matrix):
    """x A x / 2 + sum x^4 / 12: its Hessian is (A + A^T) / 2 + diag(x^2)."""
    return 0.5 * xp.sum(x * xp.matmul(x, matrix)) + xp.sum(x**4) / 12.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_hessian_vector_product(dtype):
    matrix, v = fixed(4, 4).astype(dtype), fixed(4, seed=9).astype(dtype)
    x = ROW.astype(dtype)
    value, got = xp.value_and_grad(lambda x: xp.sum(xp.value_and_grad(quartic)(x, matrix)[1] * v))(x)
    symmetric = (matrix + matrix.T) / 2
    terms = np.abs(symmetric) @ np.abs(v) + x**2 * np.abs(v)
    assert value.dtype == got.dtype == dtype
    within(got, symmetric @ v + x**2 * v, ROUNDINGS * np.finfo(dtype).eps * terms)


def test_hessian_vector_product_on_the_second_device():
    matrix, v = fixed(4, 4), fixed(4, seed=9)
    with boxes_on_the_right():
        a, b = to_strict(matrix), to_strict(v)
        _, got = xp.value_and_grad(lambda x: xp.sum(xp.value_and_grad(quartic)(x, a)[1] * b))(to_strict(ROW))
    assert is_strict(got, ROW.dtype)
    symmetric = (matrix + matrix.T) / 2
    terms = np.abs(symmetric) @ np.abs(v) + ROW**2 * np.abs(v)
    within(xp.to_numpy(got), symmetric @ v + ROW**2 * v, ROUNDINGS * EPS * terms)


def test_third_derivative():
    def derivative(function):
        return lambda x: xp.value_and_grad(lambda y: xp.sum(function(y)))(x)[1]

    got = derivative(derivative(derivative(xp.sin)))(ROW)
    np.testing.assert_allclose(got, -np.cos(ROW), rtol=4 * EPS)
    np.testing.assert_array_equal(derivative(derivative(derivative(xp.square)))(np.zeros(2)), np.zeros(2))
    for n in (1, 2, 3):  # no 0 times infinity, which 0 * x^-1 would be
        got = derivative(derivative(derivative(lambda x, n=n: x**n)))(np.zeros(2))
        np.testing.assert_array_equal(got, np.full(2, 6.0 if n == 3 else 0.0))


def test_inner_gradient_with_respect_to_an_outer_variable():
    """d/dy of d/dx x^2 y^3 is 6 x y^2."""

    def slope(y):
        return xp.sum(xp.value_and_grad(lambda x: xp.sum(x * x * y**3))(GRID)[1])

    _, got = xp.value_and_grad(slope)(GRID)
    np.testing.assert_allclose(got, 6.0 * GRID * GRID**2, rtol=8 * EPS)


def test_leaves_rebuild_and_map():
    tree = {"a": (1, [2, 3]), "b": {}, "c": 4}
    assert xp.leaves(tree) == [1, 2, 3, 4]
    assert xp.rebuild(tree, iter("wxyz")) == {"a": ("w", ["x", "y"]), "b": {}, "c": "z"}
    assert xp.tree_map(operator.add, tree, tree) == {"a": (2, [4, 6]), "b": {}, "c": 8}
    other = {"c": 10, "b": {}, "a": [20, (30, 40)]}  # JAX sorts keys, files turn tuples into lists
    assert xp.tree_map(operator.add, tree, other) == {"a": (21, [32, 43]), "b": {}, "c": 14}
    for wrong in ({"a": 1}, {**tree, "d": 1}, {**tree, "a": (1,)}, {**tree, "a": 1}, [1, 2, 3]):
        with pytest.raises(StructureError, match="another structure"):
            xp.tree_map(operator.add, tree, wrong)


# autograd on the same tape.


def test_functions_of_autograd_inside():
    def function(x):
        return xp.sum(xp.exp(anp.sinh(x)) * x) + anp.sum(anp.cosh(xp.sin(x)))

    value, got = xp.value_and_grad(function)(ROW)
    assert value == np.sum(np.exp(np.sinh(ROW)) * ROW) + np.sum(np.cosh(np.sin(ROW)))
    inside = np.exp(np.sinh(ROW))
    terms = inside, inside * ROW * np.cosh(ROW), np.sinh(np.sin(ROW)) * np.cos(ROW)
    within(got, sum(terms), ROUNDINGS * EPS * sum(map(np.abs, terms)))


def test_inside_gradients_of_autograd():
    function = lambda x: xp.sum(xp.exp(x) * x) + anp.sum(anp.sin(x))  # noqa: E731
    scale = (np.abs(ROW) + 2.0) * np.exp(ROW) + 1.0
    within(autograd.grad(function)(ROW), (ROW + 1.0) * np.exp(ROW) + np.cos(ROW), ROUNDINGS * EPS * scale)
    hessian = autograd.hessian(function)(ROW)
    want = np.diag((ROW + 2.0) * np.exp(ROW) - np.sin(ROW))
    within(hessian, want, ROUNDINGS * EPS * np.diag(scale))
    _, got = xp.value_and_grad(lambda x: xp.sum(autograd.grad(function)(x)))(ROW)
    within(got, np.diag(want), ROUNDINGS * EPS * scale)


# Operators.

ARITHMETIC = {
    "+": (operator.add, xp.add),
    "-": (operator.sub, xp.subtract),
    "*": (operator.mul, xp.multiply),
    "/": (operator.truediv, xp.divide),
}
COMPARISONS = {
    "<": (operator.lt, xp.less),
    "<=": (operator.le, xp.less_equal),
    ">": (operator.gt, xp.greater),
    ">=": (operator.ge, xp.greater_equal),
    "==": (operator.eq, xp.equal),
    "!=": (operator.ne, lambda x, y: xp.logical_not(xp.equal(x, y))),
}
ONE_OPERAND = {
    "-x": (operator.neg, xp.negative),
    "abs": (abs, xp.abs),
    "x**3": (lambda x: x**3, lambda x: xp.power(x, 3)),
    "x[1:]": (lambda x: x[1:, ...], lambda x: xp.getitem(x, (slice(1, None), ...))),
    "x[0]": (lambda x: x[0, ...], lambda x: xp.getitem(x, (0, ...))),
    "@ right": (lambda x: x @ fixed(4, 2), lambda x: xp.matmul(x, fixed(4, 2))),
    "@ left": (lambda x: fixed(2, 3) @ x, lambda x: xp.matmul(fixed(2, 3), x)),
    "@ both": (lambda x: x @ xp.matrix_transpose(x), lambda x: xp.matmul(x, xp.matrix_transpose(x))),
    "vector @": (lambda x: fixed(3) @ x, lambda x: xp.matmul(fixed(3), x)),
}
for _symbol, (_operator, _function) in ARITHMETIC.items():
    for _label, _other in (("array", fixed(3, 4, seed=7)), ("row", ROW), ("float", 0.7), ("int", 3)):
        ONE_OPERAND[f"x {_symbol} {_label}"] = (
            lambda x, o=_operator, y=_other: o(x, y),
            lambda x, f=_function, y=_other: f(x, y),
        )
        ONE_OPERAND[f"{_label} {_symbol} x"] = (
            lambda x, o=_operator, y=_other: o(y, x),
            lambda x, f=_function, y=_other: f(y, x),
        )
    ONE_OPERAND[f"x {_symbol} x x"] = (
        lambda x, o=_operator: o(x, x * x),
        lambda x, f=_function: f(x, xp.multiply(x, x)),
    )


@pytest.mark.parametrize("pair", ONE_OPERAND.values(), ids=ONE_OPERAND)
def test_operators_are_the_functions_and_stay_traced(pair):
    def total(function):
        def traced(x):
            y = function(x)
            assert isbox(y)
            return xp.sum(y * y)

        return traced

    (value, got), (same_value, same) = (xp.value_and_grad(total(function))(GRID) for function in pair)
    assert value == same_value
    np.testing.assert_array_equal(got, same)
    assert np.any(got)


@pytest.mark.parametrize("pair", COMPARISONS.values(), ids=COMPARISONS)
@pytest.mark.parametrize("other", [GRID[::-1].copy(), ROW, 0.25, GRID], ids=["array", "row", "float", "equal"])
def test_comparisons_are_plain_and_elementwise_from_both_sides(pair, other):
    compare, function = pair
    seen = []

    def total(x):
        seen.extend([compare(x, other), compare(other, x), function(x, other), function(other, x)])
        return xp.sum(x)

    xp.value_and_grad(total)(GRID)
    ours, reflected = compare(GRID, other), compare(other, GRID)
    for got, want in zip(seen, (ours, reflected, ours, reflected), strict=True):
        assert not isbox(got)
        alike(got, want)
        np.testing.assert_array_equal(got, want)


def traced(x, function):
    """What the function gives for a traced x."""
    seen = []

    def total(box):
        seen.append(function(box))
        return xp.sum(box)

    xp.value_and_grad(total)(x)
    return seen[0]


def test_a_traced_array_describes_itself():
    describe = lambda x: (x.shape, x.ndim, x.size, x.dtype, x.device, len(x))  # noqa: E731
    assert traced(CUBE, describe) == ((2, 3, 4), 3, 24, np.float64, "cpu", 2)
    assert traced(to_strict(CUBE), lambda x: x.device) == DEVICE
    assert isinstance(traced(CUBE, hash), int)


@pytest.mark.parametrize("convert", [np.asarray, np.array, float, np.exp, lambda x: np.add(x, 1.0), lambda x: 2.0**x])
def test_a_traced_array_does_not_leave_the_tape_in_silence(convert):
    with pytest.raises(TypeError):
        traced(SCALAR, convert)


def test_a_power_is_fixed():
    with pytest.raises(NotImplementedError, match="power"):
        xp.value_and_grad(lambda n: xp.power(2.0, n))(SCALAR)


@pytest.mark.parametrize("symbol", ARITHMETIC)
def test_an_array_of_the_second_device_on_the_left(symbol):
    operate, function = ARITHMETIC[symbol]
    with boxes_on_the_right():
        left = to_strict(fixed(3, 4, seed=7))
        _, got = xp.value_and_grad(lambda x: xp.sum(operate(left, x)))(to_strict(GRID))
        _, want = xp.value_and_grad(lambda x: xp.sum(function(left, x)))(to_strict(GRID))
    assert is_strict(got, GRID.dtype)
    np.testing.assert_array_equal(xp.to_numpy(got), xp.to_numpy(want))


def test_strict_needs_its_patch_and_loses_it_again():
    left = to_strict(ROW)
    product = lambda x: left * x  # noqa: E731
    with pytest.raises(TypeError, match="Expected Array"):
        traced(to_strict(ROW), product)
    with boxes_on_the_right():
        assert isbox(traced(to_strict(ROW), product))
        with pytest.raises(TypeError):
            left * np.float64(1.0)
    with pytest.raises(TypeError, match="Expected Array"):
        traced(to_strict(ROW), product)
    with pytest.raises(RuntimeError, match="device1"):
        np.asarray(left)


# Where a derivative is a choice.


def gradients(function, *inputs):
    return xp.value_and_grad(lambda xs: xp.sum(function(*xs)))(inputs)[1]


@pytest.mark.parametrize("operation", [xp.maximum, xp.minimum])
def test_ties_between_two_arrays_belong_to_the_first(operation):
    x, y = gradients(operation, np.ones(3), np.ones(3))
    np.testing.assert_array_equal(x, np.ones(3))
    np.testing.assert_array_equal(y, np.zeros(3))


@pytest.mark.parametrize("operation", [xp.max, xp.min])
def test_tied_elements_share_the_derivative(operation):
    (g,) = gradients(bind(operation, axis=1), at([1.0, 1.0], [3.0, 3.0]))
    np.testing.assert_array_equal(g, np.full((2, 2), 0.5))
    (g,) = gradients(operation, np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(g, np.full((2, 2), 0.25, np.float32))
    assert g.dtype == np.float32


def test_clip_passes_gradients_up_to_and_including_its_ends():
    (g,) = gradients(bind(xp.clip, -1.0, 1.0), at(-1.5, -1.0, 0.0, 1.0, 1.5))
    np.testing.assert_array_equal(g, [0.0, 1.0, 1.0, 1.0, 0.0])


def test_the_slope_of_abs_at_zero_is_zero():
    (g,) = gradients(xp.abs, at(-2.0, 0.0, 2.0))
    np.testing.assert_array_equal(g, [-1.0, 0.0, 1.0])


@pytest.mark.parametrize("operation", [xp.maximum, xp.minimum])
def test_nan_stays_nan(operation):
    assert np.isnan(operation(at(np.nan, 1.0), at(1.0, np.nan))).all()


def test_where_evaluates_both_branches_so_the_unused_input_must_be_cleaned():
    x = at(0.0, 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        (g,) = gradients(lambda x: xp.where(x > 0.0, xp.log(x), 0.0), x)
    np.testing.assert_array_equal(g, [np.nan, 0.5])
    (g,) = gradients(lambda x: xp.where(x > 0.0, xp.log(xp.where(x > 0.0, x, 1.0)), 0.0), x)
    np.testing.assert_array_equal(g, [0.0, 0.5])


def test_the_first_condition_that_holds_chooses():
    x = at(-1.0, 0.0, 1.0)
    got = xp.piecewise([x < 0.5, x < 2.0], [x + 10.0, x + 20.0, x + 30.0])
    np.testing.assert_array_equal(got, [9.0, 10.0, 21.0])
    with pytest.raises(ValueError, match="shorter"):
        xp.piecewise([x < 0.5], [x])


# Arguments that are refused.


def test_take_under_a_gradient_refuses_repeated_positions():
    np.testing.assert_array_equal(xp.take(ROW, (1, 1)), ROW[[1, 1]])
    for indices in ((1, 1), (-1, 3)):
        with pytest.raises(ShapeError, match="distinct"):
            gradients(bind(xp.take, indices), ROW)


@pytest.mark.parametrize("axis", [0, -2])
def test_squeeze_refuses_a_longer_axis(axis):
    with pytest.raises(ShapeError, match=r"length 1 along axis.*\(3, 1\)"):
        xp.squeeze(COLUMN, axis)


@pytest.mark.parametrize("operation", [xp.squeeze, xp.expand_dims])
@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_is_not_there_is_refused(operation, axis):
    with pytest.raises(ShapeError, match=f"got {axis}"):
        operation(COLUMN, axis)


def test_squeeze_refuses_a_0_d_array():
    with pytest.raises(ShapeError):
        xp.squeeze(SCALAR, 0)


@pytest.mark.parametrize("sizes", [(1, 2), (3, 2), (5, -1), ()])
def test_split_refuses_sizes_that_do_not_partition(sizes):
    with pytest.raises(ShapeError, match="add up to 4"):
        xp.split(ROW, sizes)


# Ends of the range, and off the real line.


def test_logsumexp_of_minus_infinities():
    with np.errstate(divide="ignore"):
        got = xp.logsumexp(at([-np.inf, -np.inf], [-np.inf, 3.0]))
    np.testing.assert_array_equal(got, [-np.inf, 3.0])


def test_logaddexp_of_infinities():
    x, y = at(-np.inf, np.inf, -np.inf, np.inf, 2.0), at(-np.inf, np.inf, 3.0, 1.0, -np.inf)
    assert np.array_equal(xp.logaddexp(x, y), at(-np.inf, np.inf, 3.0, np.inf, 2.0))


def test_infinite_arguments():
    far = at(-np.inf, np.inf)
    np.testing.assert_array_equal(xp.softplus(far), [0.0, np.inf])
    np.testing.assert_array_equal(xp.sigmoid(far), [0.0, 1.0])
    np.testing.assert_array_equal(xp.log_sigmoid(far), [-np.inf, 0.0])


def test_complex_log1p_close_to_its_pole_and_far_out():
    """One rounding of 1 + x, exact below -1/2, and one of the logarithm, on both sides."""
    x = at(2.0**-30 - 1.0, -0.999, 1e200, 1e-200)
    got = xp.log1p(x + 0j)
    within(got.real, np.log1p(x), 4 * EPS * np.abs(np.log1p(x)))
    np.testing.assert_array_equal(got.imag, np.zeros(4))
    slope = xp.log1p(x[:2] + 1j * 2.0**-100).imag * 2.0**100
    within(slope, 1.0 / (1.0 + x[:2]), 4 * EPS / (1.0 + x[:2]))


def test_own_complex_forms_off_the_real_line():
    """Against the definition, which rounds 1 + z and e^z - 1: absolute errors of some eps of what they subtract."""
    z = fixed(50, low=-0.9) + 1j * fixed(50, seed=1)
    within(xp.expm1(z), np.exp(z) - 1.0, 8 * EPS * (1.0 + np.abs(np.exp(z))))
    within(xp.log1p(z), np.log(1.0 + z), 8 * EPS * (1.0 + 1.0 / np.abs(1.0 + z)))
    within(xp.sigmoid(z), 1.0 / (1.0 + np.exp(-z)), ROUNDINGS * EPS / np.abs(1.0 + np.exp(-z)) ** 2 * 10.0)


def test_comparisons_and_branches_look_at_the_real_part():
    x, y = at(1.0 + 5.0j, -2.0 + 1.0j), at(2.0 - 5.0j, -3.0 + 7.0j)
    np.testing.assert_array_equal(xp.less(x, y), [True, False])
    np.testing.assert_array_equal(xp.equal(x, x.real), [True, True])
    np.testing.assert_array_equal(xp.greater_equal(x, 0.0), [True, False])
    np.testing.assert_array_equal(xp.sign(x), [1.0, -1.0])
    np.testing.assert_array_equal(xp.abs(x), [1.0 + 5.0j, 2.0 - 1.0j])
    np.testing.assert_array_equal(xp.maximum(x, y), [y[0], x[1]])
    np.testing.assert_array_equal(xp.minimum(x, 0.0), [0.0, x[1]])
    np.testing.assert_array_equal(xp.clip(x, -1.0, 0.5), [0.5, -1.0])
    np.testing.assert_array_equal(xp.real(x), x.real)
    assert xp.real(ROW) is ROW


def test_functions_of_python_floats_are_python_floats_and_of_elements_are_elements():
    for name in ("exp", "log", "sqrt", "sin", "cos", "tanh", "expm1", "log1p"):
        got = getattr(xp, name)(0.5)
        assert type(got) is float
        assert got == pytest.approx(getattr(np, name)(0.5), rel=2 * EPS)
        for element in (np.float64, np.float32):
            assert type(getattr(xp, name)(element(0.5))) is element


def test_tests_and_logic():
    x = at(1.0, np.nan, np.inf)
    np.testing.assert_array_equal(xp.isnan(x), [False, True, False])
    np.testing.assert_array_equal(xp.isfinite(x), [True, False, False])
    a, b = at(True, True, False), at(True, False, False)
    np.testing.assert_array_equal(xp.logical_and(a, b), [True, False, False])
    np.testing.assert_array_equal(xp.logical_or(a, b), [True, True, False])
    np.testing.assert_array_equal(xp.logical_not(a), [False, False, True])
    assert (xp.any(b), xp.all(b), xp.any(b[1:]), xp.all(b[:1])) == (True, False, False, True)
    assert type(xp.any(b)) is type(xp.all(b)) is bool
    assert xp.all(traced(ROW, lambda x: xp.isfinite(x)))
    assert type(xp.any(to_strict(b))) is bool


# New arrays.

CREATED = {
    "zeros": (lambda like: xp.zeros((2, 3), like), np.zeros((2, 3))),
    "ones": (lambda like: xp.ones((2, 3), like), np.ones((2, 3))),
    "full": (lambda like: xp.full((2,), 1.5, like), np.full(2, 1.5)),
    "arange": (lambda like: xp.arange(3, like), np.arange(3.0)),
    "asarray": (lambda like: xp.asarray(at(1.5, 2.0), like), at(1.5, 2.0)),
    "asarray of a list": (lambda like: xp.asarray([1.5, 2.0], like), at(1.5, 2.0)),
    "zeros_like": (xp.zeros_like, np.zeros(4)),
    "ones_like": (xp.ones_like, np.ones(4)),
}


@pytest.mark.parametrize("dtype", [np.dtype(np.float64), np.dtype(np.float32)], ids=str)
@pytest.mark.parametrize(("create", "want"), CREATED.values(), ids=CREATED)
def test_new_arrays_live_where_their_example_lives(create, want, dtype):
    like = ROW.astype(dtype)
    for got in (create(like), traced(like, create)):
        assert type(got) is np.ndarray
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)
    for got in (create(to_strict(like)), traced(to_strict(like), create)):
        assert is_strict(got, dtype)
        np.testing.assert_array_equal(xp.to_numpy(got), want)


@pytest.mark.parametrize("like", [ROW, to_strict(ROW)], ids=["numpy", "strict"])
def test_new_arrays_in_a_dtype_of_their_own(like):
    int64 = xp.namespace(like).int64
    created = [xp.zeros((2,), like, int64), xp.ones((2,), like, int64), xp.full((2,), 3, like, int64)]
    created += [xp.arange(2, like, int64), xp.asarray(at(1, 2), like, int64)]
    for x in created:
        assert x.dtype == int64
        assert xp.device(x) == xp.device(like)
    assert [xp.to_numpy(x).tolist() for x in created] == [[0, 0], [1, 1], [3, 3], [0, 1], [1, 2]]


def test_constants_are_python_floats():
    assert xp.constant(0.1, ROW) == 0.1
    assert xp.pi(ROW) == np.pi
    assert type(xp.constant(0.1, ROW)) is type(xp.pi(ROW)) is float


# Which library, which device.


def test_namespaces():
    strict = to_strict(ROW)
    assert xp.namespace(ROW) is xp.namespace(np.float32(1.0)) is np
    assert xp.namespace(strict) is xp.namespace(2.0, None, strict) is array_api_strict
    assert traced(strict, xp.namespace) is array_api_strict
    assert traced(ROW, lambda x: xp.namespace(1.0, x)) is np
    assert (xp.library(ROW), xp.library(strict)) == ("numpy", "array_api_strict")
    with pytest.raises(DTypeError, match="expected an array among the operands, got float, str, list"):
        xp.namespace(1.0, "x", [1.0])


def test_is_array():
    assert xp.is_array(ROW)
    assert xp.is_array(np.array(1.0))
    assert xp.is_array(to_strict(ROW))
    assert traced(ROW, xp.is_array)
    for x in (1.0, 1, True, None, 1j, np.float64(1.0), np.float32(1.0), "x", [1.0], (ROW,), {"a": ROW}):
        assert not xp.is_array(x)


def test_devices():
    assert xp.device(to_strict(ROW)) == traced(to_strict(ROW), xp.device) == DEVICE
    assert xp.device(ROW) == xp.device(np.float64(1.0)) == "cpu"
    for x in (1.0, None, [1.0]):
        with pytest.raises(DTypeError, match=f"expected an array, got {type(x).__name__}"):
            xp.device(x)


def test_another_library_or_device_is_refused_by_name():
    strict, first = to_strict(ROW), array_api_strict.asarray(ROW)
    xp.require_same_library("x", ROW, GRID)
    xp.require_same_library("x", strict, strict)
    xp.require_same_library("x", np.float64(1.0), ROW)
    with pytest.raises(DTypeError, match=r"expected x to be a numpy array.*got a array_api_strict array; convert"):
        xp.require_same_library("x", strict, ROW)
    with pytest.raises(DTypeError, match=r"expected rows to be a array_api_strict array.*got a numpy array"):
        xp.require_same_library("rows", ROW, strict)
    with pytest.raises(DTypeError, match=r"expected x on device.*device1.*CPU_DEVICE"):
        xp.require_same_library("x", first, strict)
    with pytest.raises(DTypeError, match="expected an array"):
        xp.require_same_library("x", [1.0], ROW)


def test_to_numpy():
    assert xp.to_numpy(ROW) is ROW
    for x in (to_strict(ROW), array_api_strict.asarray(ROW)):
        got = xp.to_numpy(x)
        assert type(got) is np.ndarray
        alike(got, ROW)
        np.testing.assert_array_equal(got, ROW)
    element = xp.to_numpy(np.float32(1.5))
    assert (type(element), element.shape, element.dtype) == (np.ndarray, (), np.float32)
    np.testing.assert_array_equal(traced(to_strict(ROW), xp.to_numpy), ROW)
    with pytest.raises(DTypeError, match="got list"):
        xp.to_numpy([1.0])


def test_shapes_of_anything():
    assert xp.shape(CUBE) == xp.shape(to_strict(CUBE)) == traced(CUBE, xp.shape) == (2, 3, 4)
    assert xp.shape(1.0) == xp.shape(SCALAR) == ()


def test_a_registered_library_gives_autograd_a_space_on_the_device():
    x = to_strict(fixed(2, 3).astype(np.float32))
    xp.register(type(x))
    xp.register(type(x))
    space = autograd.extend.vspace(x)
    assert (space.size, space.shape) == (6, (2, 3))
    for got, want in ((space.zeros(), 0.0), (space.ones(), 1.0)):
        assert is_strict(got, np.dtype(np.float32))
        np.testing.assert_array_equal(xp.to_numpy(got), np.full((2, 3), want))
    assert float(space.inner_prod(x, space.ones())) == pytest.approx(fixed(2, 3).sum(), abs=8 * SINGLE * 12)


@pytest.mark.parametrize(("dtype", "powers"), [("float32", (-120, 0, 120)), ("float64", (-1000, 0, 1000))])
def test_lengths_of_any_size_and_their_slopes(dtype, powers):
    """|x| by exact powers of 2, its gradient x / |x|, and both 0 at 0."""
    for power in powers:
        x = np.ldexp(np.array([[3.0, -4.0], [0.0, 0.0]]), power).astype(dtype)
        value, slope = xp.value_and_grad(lambda x: xp.sum(xp.length(x)))(x)
        assert value == np.ldexp(5.0, power)
        np.testing.assert_allclose(slope, [[0.6, -0.8], [0.0, 0.0]], rtol=4 * np.finfo(dtype).eps)
        assert slope.dtype == dtype
    step = xp.length(np.array([[3.0 + 1e-30j, -4.0], [0.0, np.nan]]))
    assert step[0, 0].imag == pytest.approx(0.6e-30)
    assert np.isnan(step[1, 0])
