"""Arrays of balls, and the three-valued arrays that comparing them gives.

A ball [m +- r] holds a real number that is not known better; every operation returns a ball that holds the exact result
for every number of its operands' balls (python-flint's `arb`; Johansson, 2017). What would make an enclosure a lie is
refused: an array of another library, a Python float that may already be rounded, a decision that the balls leave open.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
from flint import arb

from refflow.errors import DTypeError, UndecidedError

Objects = np.ndarray
"""A NumPy array of dtype object whose elements are `arb`: never handed out, never compared."""

LITERAL_BITS = 24
"""A Python float with no more significant bits is taken for a number that was meant: 0.5, not 0.1."""


def objects(shape: tuple[int, ...], elements: Any) -> Objects:
    """The elements, an iterable of `arb`, as an array of that shape."""
    found = np.empty(math.prod(shape), dtype=object)
    found[:] = list(elements)
    return found.reshape(shape)


def scalar(value: Any) -> Objects:
    """A Python number as an exact ball, or DTypeError where it may already be rounded."""
    if isinstance(value, bool | np.generic) or not isinstance(value, int | float):
        raise DTypeError(
            f"expected balls or Python numbers beside balls, got a {type(value).__name__}: "
            f"convert arrays with refflow.certified.balls, which takes floats as the exact numbers they are"
        )
    if isinstance(value, float) and math.isfinite(value):
        mantissa = math.ldexp(math.frexp(value)[0], LITERAL_BITS)
        if mantissa != math.floor(mantissa):
            raise DTypeError(
                f"expected a number that cannot have been rounded, got {value!r}: bring it in with "
                f"refflow.arrays.constant, which means exactly that double"
            )
    return objects((), [arb(value)])


def operand(value: Any) -> Objects:
    """The elements of a ball array, or those of a Python number."""
    return value.elements if isinstance(value, BallArray) else scalar(value)


def each(function: Callable[..., Any], *operands: Any) -> "BallArray":
    """The function of `arb` applied to corresponding elements."""
    arrays = np.broadcast_arrays(*map(operand, operands))
    return BallArray(objects(arrays[0].shape, map(function, *(a.ravel() for a in arrays))))


def _compared(decide: Callable[[arb, arb], bool], refute: Callable[[arb, arb], bool], x: Any, y: Any) -> "TruthArray":
    a, b = np.broadcast_arrays(operand(x), operand(y))
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    sure = np.array([decide(p, q) for p, q in pairs], dtype=bool).reshape(a.shape)
    impossible = np.array([refute(p, q) for p, q in pairs], dtype=bool).reshape(a.shape)
    return TruthArray(sure, ~impossible)


class BallArray:
    """An array of real balls. Made by `refflow.certified.balls`; its operations are those of `refflow.arrays`.

    One `arb` object denotes one real number, wherever it stands: x * x is a square, and never negative.
    """

    __slots__ = ("elements",)
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]
    dtype = "ball"
    device = "cpu"

    def __init__(self, elements: Objects) -> None:
        self.elements = elements

    def __array_namespace__(self, api_version: str | None = None) -> ModuleType:
        from refflow.certified import namespace

        return namespace

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("balls do not turn into floats by themselves: use midpoint() and radius()")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape

    @property
    def ndim(self) -> int:
        return self.elements.ndim

    @property
    def size(self) -> int:
        return self.elements.size

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, index: Any) -> "BallArray":
        found = self.elements[index]
        return BallArray(found if isinstance(found, np.ndarray) else objects((), [found]))

    def __repr__(self) -> str:
        return f"BallArray({np.vectorize(str, otypes=[object])(self.elements).tolist() if self.size else []})"

    def __bool__(self) -> bool:
        raise TypeError("a ball is neither true nor false: compare it with something")

    def __neg__(self) -> "BallArray":
        return each(lambda x: -x, self)

    def __abs__(self) -> "BallArray":
        return each(abs, self)

    def __add__(self, other: Any) -> "BallArray":
        return each(lambda x, y: x + y, self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "BallArray":
        return each(lambda x, y: x - y, self, other)

    def __rsub__(self, other: Any) -> "BallArray":
        return each(lambda x, y: y - x, self, other)

    def __mul__(self, other: Any) -> "BallArray":
        return each(_product, self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "BallArray":
        return each(lambda x, y: x / y, self, other)

    def __rtruediv__(self, other: Any) -> "BallArray":
        return each(lambda x, y: y / x, self, other)

    def __pow__(self, n: int) -> "BallArray":
        if not isinstance(n, int):
            raise DTypeError(f"expected an integer power of balls, got {n!r}")
        return each(lambda x: x**n, self)

    def __matmul__(self, other: Any) -> Any:
        from refflow.certified import namespace

        return namespace.matmul(self, other)

    def __lt__(self, other: Any) -> "TruthArray":
        return _compared(lambda x, y: x < y, lambda x, y: x >= y, self, other)

    def __le__(self, other: Any) -> "TruthArray":
        return _compared(lambda x, y: x <= y, lambda x, y: x > y, self, other)

    def __gt__(self, other: Any) -> "TruthArray":
        return _compared(lambda x, y: x > y, lambda x, y: x <= y, self, other)

    def __ge__(self, other: Any) -> "TruthArray":
        return _compared(lambda x, y: x >= y, lambda x, y: x < y, self, other)

    def __eq__(self, other: Any) -> "TruthArray":  # type: ignore[override]
        return _compared(lambda x, y: x == y, lambda x, y: x != y, self, other)

    def __ne__(self, other: Any) -> "TruthArray":  # type: ignore[override]
        return _compared(lambda x, y: x != y, lambda x, y: x == y, self, other)

    def midpoint(self) -> np.ndarray:
        """The midpoints, each rounded to the nearest float64; NaN for a ball that holds everything."""
        return self._floats(lambda x: float(_exact(x.mid())))

    def radius(self) -> np.ndarray:
        """The radii, rounded up to float64; infinity for a ball that holds everything."""
        return self._floats(lambda x: _up(_exact(x.rad())), unknown=float("inf"))

    def _floats(self, value: Callable[[arb], float], unknown: float = float("nan")) -> np.ndarray:
        found = [value(x) if x.is_finite() else unknown for x in self.elements.ravel()]
        return np.array(found, dtype=np.float64).reshape(self.shape)

    def contains(self, values: Any) -> np.ndarray:
        """Which of the values, floats taken as the exact numbers they are, or balls, lie in the balls."""
        other = values.elements if isinstance(values, BallArray) else _exact_objects(np.asarray(values))
        a, b = np.broadcast_arrays(self.elements, other)
        held = [x.contains(y) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
        return np.array(held, dtype=bool).reshape(a.shape)

    def distance(self, values: Any) -> np.ndarray:
        """How far each value lies at least from every number of its ball, rounded down; 0 inside."""
        a, b = np.broadcast_arrays(self.elements, np.asarray(values))
        found = [
            _distance(x, Fraction(float(y))) if x.is_finite() else 0.0 for x, y in zip(a.flat, b.flat, strict=True)
        ]
        return np.array(found, dtype=np.float64).reshape(a.shape)


class TruthArray:
    """An array of propositions, each true, false or undecided (Kleene, 1938): surely true, and possibly true."""

    __slots__ = ("possible", "sure")
    __array_ufunc__ = None
    dtype = "truth"
    device = "cpu"

    def __init__(self, sure: np.ndarray, possible: np.ndarray) -> None:
        self.sure, self.possible = sure, possible

    __array_namespace__ = BallArray.__array_namespace__

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sure.shape

    @property
    def ndim(self) -> int:
        return self.sure.ndim

    def __getitem__(self, index: Any) -> "TruthArray":
        return TruthArray(np.asarray(self.sure[index]), np.asarray(self.possible[index]))

    def __bool__(self) -> bool:
        if self.shape != ():
            raise TypeError(f"expected one proposition to decide, got shape {self.shape}")
        if self.sure != self.possible:
            raise UndecidedError("the balls overlap: raise the precision, or choose with where, which keeps both")
        return bool(self.sure)

    def __repr__(self) -> str:
        words = np.where(self.sure, "true", np.where(self.possible, "undecided", "false"))
        return f"TruthArray({words.tolist()})"


def exact(values: np.ndarray) -> BallArray:
    """Balls of radius 0 that hold the floats or integers."""
    return BallArray(_exact_objects(values))


def _exact_objects(values: np.ndarray) -> Objects:
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise DTypeError(f"expected floats of at most 64 bits or integers to make balls of, got {values.dtype}")
    if not np.all(np.isfinite(values)):
        raise DTypeError("expected finite numbers to make balls of, got NaN or infinity")
    number = float if values.dtype.kind == "f" else int
    return objects(values.shape, (arb(number(v)) for v in values.ravel()))


def _product(x: arb, y: arb) -> arb:
    if x is not y:
        return x * y
    return x**2 if x != 0 else arb(0).union(x.abs_upper() ** 2)  # the square of [-1, 1] is [0, 1], not [-1, 1]


def _exact(x: arb) -> Fraction:
    """The value of a ball of radius 0."""
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _up(x: Fraction) -> float:
    return near if (near := float(x)) >= x else math.nextafter(near, math.inf)


def _distance(ball: arb, value: Fraction) -> float:
    beyond = abs(value - _exact(ball.mid())) - _exact(ball.rad())
    if beyond <= 0:
        return 0.0
    return near if (near := float(beyond)) <= beyond else math.nextafter(near, 0.0)
