"""Elementwise operations: arithmetic, functions, comparison and choice.

Every derivative is written in the same vocabulary, so second derivatives need nothing more. Where NumPy has no
accurate complex form the operation carries its own, so that the complex step differentiates every definition exactly
(Squire and Trapp, 1998): comparisons and branches look at the real part.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from autograd.extend import defvjp
from autograd.tracer import getval

from refflow.arrays.creation import constant, pi
from refflow.arrays.namespaces import Array, is_array, library, namespace
from refflow.arrays.shapes import astype, unbroadcast
from refflow.arrays.tracing import primitive


def is_complex(x: Any) -> bool:
    """Whether x is a NumPy array of complex numbers, as the complex step makes them."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "c"


def real(x: Any) -> Any:
    """What comparisons look at: the real part of a complex array, anything else as it is, off the tape."""
    value = getval(x)
    return value.real if is_complex(value) else value


def differentiates_itself(x: Any) -> bool:
    """Whether x belongs to a library that sees these operations' steps and not their derivatives: there each step has
    to have the right derivative, at a tie and where one of them overflows too."""
    return is_array(x) and library(x) in {"torch", "jax"}


def _function(name: str) -> Callable[[Array], Array]:
    """The library's function of this name; for a Python float the one in `math`."""
    scalar = getattr(math, name, None)

    def call(x: Array) -> Array:
        if scalar is not None and type(x) in {float, int}:  # np.float64 is a float too, and an array's element
            return scalar(x)
        return getattr(namespace(x), name)(x)

    call.__name__ = name
    return call


def _unary(name: str, doc: str) -> Callable[[Array], Array]:
    call = _function(name)
    call.__doc__ = doc
    return primitive(call)


# Arithmetic. The plain operators of Python call these on traced arrays.


@primitive
def add(x: Array, y: Array) -> Array:
    """x + y."""
    return x + y


@primitive
def subtract(x: Array, y: Array) -> Array:
    """x - y."""
    return x - y


@primitive
def multiply(x: Array, y: Array) -> Array:
    """x y, element by element."""
    return x * y


@primitive
def divide(x: Array, y: Array) -> Array:
    """x / y, element by element."""
    return x / y


@primitive
def negative(x: Array) -> Array:
    """-x."""
    return -x


@primitive
def power(x: Array, n: float) -> Array:
    """x to a fixed power n, a Python number."""
    return x**n


defvjp(
    add,
    lambda ans, x, y: lambda g: unbroadcast(g, x),
    lambda ans, x, y: lambda g: unbroadcast(g, y),
)
defvjp(
    subtract,
    lambda ans, x, y: lambda g: unbroadcast(g, x),
    lambda ans, x, y: lambda g: unbroadcast(negative(g), y),
)
defvjp(
    multiply,
    lambda ans, x, y: lambda g: unbroadcast(multiply(g, y), x),
    lambda ans, x, y: lambda g: unbroadcast(multiply(g, x), y),
)
defvjp(
    divide,
    lambda ans, x, y: lambda g: unbroadcast(divide(g, y), x),
    lambda ans, x, y: lambda g: unbroadcast(negative(divide(multiply(g, ans), y)), y),
)
defvjp(negative, lambda ans, x: lambda g: negative(g))


def _power_vjp(ans: Array, x: Array, n: float) -> Callable[[Array], Array]:
    if n == 0:  # the formula would be 0 times infinity at 0, where it ends the derivatives of every polynomial
        return lambda g: multiply(g, 0.0)
    return lambda g: multiply(g, multiply(float(n), power(x, n - 1)))


defvjp(power, _power_vjp)


# Functions.

exp = _unary("exp", "e to the x.")
log = _unary("log", "The natural logarithm; of a Python float, a Python float.")
sqrt = _unary("sqrt", "The square root.")
sin = _unary("sin", "The sine of x in radians.")
cos = _unary("cos", "The cosine of x in radians.")
tanh = _unary("tanh", "The hyperbolic tangent.")


@primitive
def atan(x: Array) -> Array:
    """The inverse tangent, in (-pi/2, pi/2)."""
    return namespace(x).atan(x)


@primitive
def asinh(x: Array) -> Array:
    """The inverse hyperbolic sine, log(x + sqrt(1 + x^2)) of either sign, accurate near 0."""
    return namespace(x).asinh(x)


@primitive
def square(x: Array) -> Array:
    """x squared."""
    return x * x


@primitive
def expm1(x: Array) -> Array:
    """e to the x, minus 1, accurate near 0."""
    if is_complex(x):
        a, b = x.real, x.imag
        return np.expm1(a) * np.cos(b) - 2.0 * np.sin(0.5 * b) ** 2 + 1j * (np.exp(a) * np.sin(b))
    return _function("expm1")(x)


@primitive
def log1p(x: Array) -> Array:
    """log(1 + x), accurate near 0. NumPy's complex form is good to 1e-8 only, so it has its own here."""
    if is_complex(x):
        a, b = x.real, x.imag
        near = np.abs(a) < 0.5  # beyond, 1 + a loses nothing, and a (2 + a) may cancel or overflow
        c = np.where(near, a, 0.0)
        size = np.where(near, 0.5 * np.log1p(c * (2.0 + c) + b * b), np.log(np.hypot(1.0 + a, b)))
        return size + 1j * np.arctan2(b, 1.0 + a)
    return _function("log1p")(x)


@primitive
def abs(x: Array) -> Array:
    """|x| for real x; for complex x the analytic branch x or -x that agrees with it on the real line."""
    if is_complex(x):
        return np.where(x.real < 0.0, -x, x)
    return namespace(x).abs(x)


@primitive
def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), accurate at both ends."""
    if differentiates_itself(x):  # max and | | on one side of the tie at 0
        right = greater_equal(x, 0.0)
        return where(right, x, 0.0) + log1p(exp(where(right, -x, x)))
    return maximum(x, 0.0) + log1p(exp(-abs(x)))


@primitive
def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), accurate in relative terms wherever it is a normal number: where e^-x overflows it is 0."""
    if is_complex(x):  # NumPy's quotient by a complex infinity is NaN
        e = np.exp(-abs(x))
        return np.where(x.real < 0.0, e, 1.0) / (1.0 + e)
    if differentiates_itself(x):  # the derivative of 1 / (1 + e^-x) is infinity times 0 where e^-x overflows
        right = greater_equal(x, 0.0)
        e = exp(where(right, -x, x))
        return where(right, 1.0, e) / (1.0 + e)
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + exp(-x))


@primitive
def silu(x: Array) -> Array:
    """x / (1 + e^-x) (Hendrycks and Gimpel, 2016; Elfwing et al., 2018)."""
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    """x sigma(2 sqrt(2/pi) (x + 0.044715 x^3)) = x (1 + tanh(...)) / 2 (Hendrycks and Gimpel, 2016, section 2).

    Beyond 64 sigma is 0 or 1 in every float, long double included, and its derivative 0: the cube of 64 stands there
    for cubes that overflow. Balls, which know the difference, take their own.
    """
    c = x if library(x) == "balls" else clip(x, -64.0, 64.0)
    return x * sigmoid(2.0 * sqrt(2.0 / pi(x)) * (c + constant(0.044715, x) * c * c * c))


def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + e^-x)) = -softplus(-x)."""
    return negative(softplus(negative(x)))


defvjp(exp, lambda ans, x: lambda g: multiply(g, ans))
defvjp(log, lambda ans, x: lambda g: divide(g, x))
defvjp(sqrt, lambda ans, x: lambda g: divide(multiply(0.5, g), ans))
defvjp(sin, lambda ans, x: lambda g: multiply(g, cos(x)))
defvjp(cos, lambda ans, x: lambda g: negative(multiply(g, sin(x))))
defvjp(tanh, lambda ans, x: lambda g: multiply(g, subtract(1.0, multiply(ans, ans))))
defvjp(atan, lambda ans, x: lambda g: divide(g, add(1.0, multiply(x, x))))
defvjp(square, lambda ans, x: lambda g: multiply(g, multiply(2.0, x)))
defvjp(expm1, lambda ans, x: lambda g: multiply(g, exp(x)))
defvjp(log1p, lambda ans, x: lambda g: divide(g, add(1.0, x)))
defvjp(abs, lambda ans, x: lambda g: multiply(g, sign(x)))
defvjp(softplus, lambda ans, x: lambda g: multiply(g, sigmoid(x)))
defvjp(sigmoid, lambda ans, x: lambda g: multiply(g, multiply(ans, sigmoid(negative(x)))))


def _asinh_vjp(ans: Array, x: Array) -> Callable[[Array], Array]:
    """d/dx asinh x = 1 / sqrt(1 + x^2), divided through by max(|x|, 1) so that no square overflows."""
    r = divide(1.0, maximum(abs(x), 1.0))
    return lambda g: divide(multiply(g, r), sqrt(add(square(r), square(multiply(x, r)))))


defvjp(asinh, _asinh_vjp)


def _silu_vjp(ans: Array, x: Array) -> Callable[[Array], Array]:
    """d/dx x s = s + x s (1 - s)."""
    s = sigmoid(x)
    return lambda g: multiply(g, add(s, multiply(ans, subtract(1.0, s))))


defvjp(silu, _silu_vjp)


# Comparison: answers are plain arrays of bool, never traced.


def _comparison(name: str, doc: str) -> Callable[[Array, Array], Array]:
    def compare(x: Array, y: Array) -> Array:
        return getattr(namespace(x, y), name)(real(x), real(y))

    compare.__name__, compare.__doc__ = name, doc
    return compare


less = _comparison("less", "x < y, of real parts.")
less_equal = _comparison("less_equal", "x <= y, of real parts.")
greater = _comparison("greater", "x > y, of real parts.")
greater_equal = _comparison("greater_equal", "x >= y, of real parts.")
equal = _comparison("equal", "x == y, of real parts.")


def _test(name: str, doc: str) -> Callable[..., Array]:
    def test(*xs: Array) -> Array:
        return getattr(namespace(*xs), name)(*map(getval, xs))

    test.__name__, test.__doc__ = name, doc
    return test


logical_and = _test("logical_and", "Both.")
logical_or = _test("logical_or", "Either, or both.")
logical_not = _test("logical_not", "Not.")
isfinite = _test("isfinite", "Neither infinite nor NaN.")
isnan = _test("isnan", "NaN.")


def sign(x: Array) -> Array:
    """-1, 0 or 1, a constant for derivatives."""
    return namespace(x).sign(real(x))


# Choice.


@primitive
def where(condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds, else y. Both are evaluated: clean the input of a branch that may not be finite."""
    return namespace(condition).where(condition, x, y)


defvjp(
    where,
    None,
    lambda ans, c, x, y: lambda g: unbroadcast(where(c, g, 0.0), x),
    lambda ans, c, x, y: lambda g: unbroadcast(where(c, 0.0, g), y),
)


def _chosen(x: Array, y: Array, second: Array) -> Array:
    """y where it is the second's turn or y is NaN, else x, NaN included. (The libraries' own split a tie's slope.)"""
    return where(logical_or(second, isnan(y)) if is_array(y) else second, y, x)


@primitive
def maximum(x: Array, y: Array) -> Array:
    """The larger of the two; NaN if either is. At a tie the derivative belongs to x."""
    if differentiates_itself(x) or differentiates_itself(y):
        return _chosen(x, y, less(x, y))
    if is_complex(x) or is_complex(y):
        return np.where(np.real(x) >= np.real(y), x, y)
    return namespace(x, y).maximum(x, y)


@primitive
def minimum(x: Array, y: Array) -> Array:
    """The smaller of the two; NaN if either is. At a tie the derivative belongs to x."""
    if differentiates_itself(x) or differentiates_itself(y):
        return _chosen(x, y, greater(x, y))
    if is_complex(x) or is_complex(y):
        return np.where(np.real(x) <= np.real(y), x, y)
    return namespace(x, y).minimum(x, y)


defvjp(
    maximum,
    lambda ans, x, y: lambda g: unbroadcast(where(greater_equal(x, y), g, 0.0), x),
    lambda ans, x, y: lambda g: unbroadcast(where(greater_equal(x, y), 0.0, g), y),
)
defvjp(
    minimum,
    lambda ans, x, y: lambda g: unbroadcast(where(less_equal(x, y), g, 0.0), x),
    lambda ans, x, y: lambda g: unbroadcast(where(less_equal(x, y), 0.0, g), y),
)


@primitive
def relu(x: Array) -> Array:
    """max(x, 0), of derivative 0 at 0. Its derivative multiplies by 0 or 1 where that of `maximum` chooses, at a tenth
    of the time: NumPy's `where` mispredicts every other branch."""
    return maximum(0.0, x)


def _relu_vjp(ans: Array, x: Array) -> Callable[[Array], Array]:
    held = greater(x, 0.0)
    return lambda g: unbroadcast(multiply(g, astype(held, getval(g).dtype)), x)


defvjp(relu, _relu_vjp)


def clip(x: Array, low: float, high: float) -> Array:
    """x moved to the nearer end where it lies outside [low, high]; the derivative there is 0."""
    return minimum(maximum(x, low), high)


def logaddexp(x: Array, y: Array) -> Array:
    """log(e^x + e^y) = max(x, y) + log1p(e^-|x - y|); of two equal infinities, that infinity."""
    m = maximum(x, y)
    infinite = logical_not(isfinite(m))
    x, y = (where(infinite, 0.0, v) if is_array(v) else v for v in (x, y))
    d = subtract(x, y)  # its sign decides as the maximum does: at a tie each has half of the derivative
    return add(m, log1p(exp(piecewise([greater_equal(d, 0.0)], [negative(d), d]))))


def piecewise(conditions: Sequence[Array], pieces: Sequence[Array]) -> Array:
    """The piece of the first condition that holds, else the last piece: `len(pieces) == len(conditions) + 1`.

    One name for a choice among several formulas, so that arithmetics in which a condition may be undecided (balls)
    can join the pieces that remain possible.
    """
    chosen = pieces[-1]
    for condition, piece in zip(reversed(conditions), reversed(pieces[:-1]), strict=True):
        chosen = where(condition, piece, chosen)
    return chosen
