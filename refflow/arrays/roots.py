r"""Inverses that no formula gives: roots found off the tape, then one Newton step on it.

With x_0 a root of f(x, p) = y to rounding, known without derivatives, and s = df/dx there,

    x = x_0 - (f(x_0, p) - y) / s                                                  (1)

is the root, and its first derivatives in p and y are those of the implicit function theorem, dx/dp = -f_p / s, in
whatever way f is differentiated: autograd, torch, JAX, or the complex step, whose imaginary part (1) carries. (Second
derivatives are not: x_0 does not move.) The functions take their parameters as arguments, not from around them, so that
the iterations can be given values without derivatives. A library with proofs brings its own forms of both solvers.
"""

import math
import sys
from collections.abc import Callable

from refflow.arrays.creation import zeros_like
from refflow.arrays.elementwise import (
    add,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    maximum,
    minimum,
    piecewise,
    where,
)
from refflow.arrays.elimination import solve_leading
from refflow.arrays.iteration import State, detach, eps, repeat
from refflow.arrays.namespaces import Array, library, namespace
from refflow.arrays.shapes import shape

Increasing = Callable[..., tuple[Array, Array]]
"""(x, *parameters) -> (f(x), f'(x)), element by element, f strictly increasing in x."""

Parameters = tuple[Array, ...]

EXTRA = 16
"""Halvings of the bracket beyond the bits of the dtype."""


def solve_increasing(function: Increasing, parameters: Parameters, y: Array, low: Array, high: Array) -> Array:
    r"""The root x in [low, high] of f(x) = y, element by element, for a strictly increasing f.

    A step evaluates f twice: where Newton's method leads from the last point, pushed past the root by two units in the
    last place so that the bracket closes from both sides, and at the middle of the bracket. So the bracket halves in
    every step, p + 16 times for p bits: whatever f is, it ends 2^-(p + 16) as wide as it began, or as two neighbouring
    numbers; where Newton's method converges it is those after some ten steps, at any scale of the bracket. The
    correction in (1) stays in the bracket, so that the error is what one rounding of f makes: eps |f| / f'.

    low <= root <= high is the caller's lemma. A NaN stays one.
    """
    proven = getattr(namespace(y), "solve_increasing", None)
    if proven is not None:
        return proven(function, parameters, y, low, high)
    fixed = tuple(map(detach, parameters))
    low, high = bracket(function, fixed, detach(y), detach(low), detach(high))
    x = 0.5 * low + 0.5 * high
    slope = function(x, *fixed)[1]
    excess = function(x, *parameters)[0] - y
    known = detach(excess)
    value = minimum(maximum(_newton(x, known, slope, low, high), low), high)
    return value - (excess - known) / where(greater(slope, 0.0), slope, 1.0)  # (1), its value kept to the bracket


def bracket(function: Increasing, fixed: Parameters, y: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The bracket after its steps, off the tape."""
    if library(y) == "dask":
        return _delayed(function, fixed, y, low, high)
    unit = 2.0 * eps(y)
    low, high = low + zeros_like(y), high + zeros_like(y)

    def asked(low: Array, high: Array, x: Array) -> State:
        """The bracket, closer by what f says at x, and where Newton's method leads from there."""
        f, slope = function(x, *fixed)
        low = where(less_equal(f, y), maximum(low, x), low)
        high = where(greater_equal(f, y), minimum(high, x), high)
        newton = _newton(x, f - y, slope, low, high)
        push = unit * maximum(newton, -newton)
        return low, high, newton + where(less(f, y), push, -push)

    def step(state: State) -> State:
        low, high, x = state
        low, high, first = asked(low, high, x)
        low, high, second = asked(low, high, 0.5 * low + 0.5 * high)
        inside = [logical_and(less(low, v), less(v, high)) for v in (first, second)]
        return low, high, piecewise(inside, [first, second, 0.5 * low + 0.5 * high])

    steps = round(-math.log2(unit)) + 2 + EXTRA
    return repeat(step, (low, high, 0.5 * low + 0.5 * high), steps)[:2]


def _newton(x: Array, excess: Array, slope: Array, low: Array, high: Array) -> Array:
    """x - (f - y) / f'; somewhere else where that is so far out of the bracket that it may overflow."""
    reach = maximum(low, -low) + maximum(high, -high)
    near = less_equal(maximum(excess, -excess), slope * reach)
    return x - excess / where(logical_and(near, greater(slope, 0.0)), slope, 1.0)


def _delayed(function: Increasing, fixed: Parameters, y: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Dask: one task, not ten thousand. (Flows take Dask arrays block by block, as NumPy's, and never come here.)"""
    dask = sys.modules["dask"]
    low, high = low + zeros_like(y), high + zeros_like(y)
    found = dask.delayed(bracket, nout=2)(function, fixed, y, low, high)
    low, high = (sys.modules["dask.array"].from_delayed(v, y.shape, y.dtype) for v in found)
    return low, high


def solve_contraction(
    function: Callable[..., Array],
    jacobian: Callable[..., Array],
    parameters: Parameters,
    y: Array,
    lipschitz: float,
) -> Array:
    r"""The x `(..., D)` of x + g(x) = y, for g = function(x, *parameters) with Lipschitz constant c < 1.

    x <- y - g(x) has one fixed point, and n steps leave an error of c^n |g| at most (Banach, 1922): n is such that c^n
    <= sqrt(eps). Two Newton steps, with J_g = jacobian(x, *parameters) `(..., D, D)`, square it twice; a third is (1).
    I + J_g is eliminated without pivoting (`elimination`).
    """
    proven = getattr(namespace(y), "solve_contraction", None)
    if proven is not None:
        return proven(function, jacobian, parameters, y, lipschitz)
    fixed, target = tuple(map(detach, parameters)), detach(y)
    x = contracted(function, jacobian, fixed, target, lipschitz, eps(target))
    return newton_step(jacobian(x, *fixed), x, function(x, *parameters), y)  # (1)


def contracted(
    function: Callable[..., Array],
    jacobian: Callable[..., Array],
    fixed: Parameters,
    y: Array,
    lipschitz: float,
    unit: float,
) -> Array:
    """The fixed point after its steps, off the tape."""
    if library(y) == "dask":
        delayed = sys.modules["dask"].delayed(contracted)(function, jacobian, fixed, y, lipschitz, unit)
        return sys.modules["dask.array"].from_delayed(delayed, y.shape, y.dtype)
    steps = math.ceil(0.5 * math.log(unit) / math.log(lipschitz))
    (x,) = repeat(lambda state: (detach(y - function(state[0], *fixed)),), (y,), steps)
    for _ in range(2):
        x = detach(newton_step(jacobian(x, *fixed), x, function(x, *fixed), y))
    return x


def newton_step(j: Array, x: Array, g: Array, y: Array) -> Array:
    """x - (I + J)^-1 (x + g - y)."""
    return x - solve_leading(identity_plus(j), x + g - y)


def identity_plus(j: Array) -> Array:
    """I + J for matrices J `(..., D, D)`."""
    raw = detach(j)
    return add(j, namespace(raw).eye(shape(raw)[-1], dtype=raw.dtype, device=getattr(raw, "device", None)))
