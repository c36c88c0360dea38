"""New arrays, made where an existing one lives, and constants.

A constant is a Python number, never an array of its own dtype: `float32 * np.float64(0.5)` would be float64. It passes
through `constant` where its value matters, so that an arithmetic with proofs can take exactly that double, and so that
pi is pi there and not its rounding.
"""

import math
from typing import Any

from autograd.tracer import getval

from refflow.arrays.namespaces import Array, device, namespace


def zeros(shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
    """Zeros in the library, dtype and device of `like`."""
    raw = getval(like)
    return namespace(raw).zeros(shape, dtype=dtype or raw.dtype, device=device(raw))


def ones(shape: tuple[int, ...], like: Array, dtype: Any = None) -> Array:
    """Ones in the library, dtype and device of `like`."""
    raw = getval(like)
    return namespace(raw).ones(shape, dtype=dtype or raw.dtype, device=device(raw))


def full(shape: tuple[int, ...], value: float, like: Array, dtype: Any = None) -> Array:
    """A constant array in the library, dtype and device of `like`."""
    raw = getval(like)
    return namespace(raw).full(shape, value, dtype=dtype or raw.dtype, device=device(raw))


def zeros_like(x: Array) -> Array:
    """Zeros in the shape, library, dtype and device of x."""
    return zeros(tuple(x.shape), x)


def ones_like(x: Array) -> Array:
    """Ones in the shape, library, dtype and device of x."""
    return ones(tuple(x.shape), x)


def arange(stop: int, like: Array, dtype: Any = None) -> Array:
    """0, 1, ..., stop - 1 in the library, dtype and device of `like`."""
    raw = getval(like)
    return namespace(raw).arange(stop, dtype=dtype or raw.dtype, device=device(raw))


def asarray(values: Any, like: Array, dtype: Any = None) -> Array:
    """Host values (a NumPy array) in the library and on the device of `like`, in its dtype unless another is given."""
    raw = getval(like)
    return namespace(raw).asarray(values, dtype=dtype or raw.dtype, device=device(raw))


def constant(value: float, like: Array) -> Any:
    """The double `value` as an operand for arrays like `like`: exactly that double, in no dtype of its own."""
    exactly = getattr(namespace(like), "constant", None)
    return value if exactly is None else exactly(value)


def log_gamma_step(value: float, like: Array) -> Any:
    """log Gamma(v + 1/2) - log Gamma(v) of the double v > 0, as an operand for arrays like `like`.

    No difference of large numbers: v is moved beyond 32, where Stirling's series has no more to say than five terms
    (Abramowitz and Stegun, 1972, 6.1.40), by Gamma(v + 1) = v Gamma(v).
    """
    exactly = getattr(namespace(like), "log_gamma_step", None)
    if exactly is not None:
        return exactly(value)
    v, moved = value, 0.0
    while v < 32.0:
        moved -= math.log1p(0.5 / v)
        v += 1.0
    r = 1.0 / v  # whose powers vanish where those of v overflow
    series = -1 / 8 * r + 1 / 192 * r**3 - 1 / 640 * r**5 + 17 / 14336 * r**7 - 31 / 18432 * r**9
    return moved + 0.5 * math.log(v) + series


def pi(like: Array) -> Any:
    """pi as an operand for arrays like `like`."""
    enclosed = namespace(like).pi
    return enclosed() if callable(enclosed) else math.pi
