"""Fixed and trainable curves that act on every coordinate by itself."""

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, sum_event
from refflow.errors import ShapeError, StructureError
from refflow.modules import module


def _log_two(like: Array) -> Array:
    return xp.log(xp.constant(2.0, like))


def _log_cosh(u: Array) -> Array:
    """log cosh u = u + log(1 + e^-2u) - log 2, which overflows nowhere."""
    return u + xp.softplus(-2.0 * u) - _log_two(u)


def _sinh(u: Array) -> Array:
    """sinh u = 2 sinh(u/2) cosh(u/2), with 2 sinh h = (e^h - 1) - (e^-h - 1): terms of one sign, so that small u keep
    all digits, and no e^u, which overflows before sinh u does."""
    h = 0.5 * u
    return 0.5 * (xp.expm1(h) - xp.expm1(-h)) * (xp.exp(h) + xp.exp(-h))


class _Elementwise(Bijection):
    """Events of any shape of the rank."""

    rank: int

    @property
    def event_rank(self) -> int:
        return self.rank


@module
class Exp(_Elementwise):
    r"""The line to (0, inf):

        y = e^x                                                                    (1)
        log|det dy/dx| = sum_i x_i                                                 (2)
        x = log y                                                                  (3)

    e^x > 0 rises, so the map is one to one, and onto (0, inf). A y <= 0 or infinite is outside the domain of the
    inverse (log-determinant minus infinity).
    """

    rank: int = 1

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.exp(x), sum_event(x, self.rank)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        outside = xp.less_equal(y, 0.0)
        x = xp.log(xp.where(outside, 1.0, y))  # (3)
        return x, sum_event(xp.where(outside, -float("inf"), -x), self.rank)


@module
class Softplus(_Elementwise):
    r"""The line to (0, inf), by a curve that is nearly the identity on the right:

        y = log(1 + e^x)                                                           (1)
        log|det dy/dx| = sum_i log sigma(x_i)                                      (2)
        x = y + log(1 - e^-y)                                                      (3)
        log|det dx/dy| = -sum_i log(1 - e^-y_i)                                    (4)

    Its slope sigma(x) > 0, so the map is one to one, and onto (0, inf). A y <= 0 is outside the domain of the inverse
    (log-determinant minus infinity).
    """

    rank: int = 1

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.softplus(x), sum_event(xp.log_sigmoid(x), self.rank)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        outside = xp.less_equal(y, 0.0)
        y = xp.where(outside, 1.0, y)
        log_slope = xp.log(-xp.expm1(-y))  # log(1 - e^-y), with all digits near 0, where 1 - e^-y has none
        x = y + log_slope  # (3)
        return x, sum_event(xp.where(outside, -float("inf"), -log_slope), self.rank)  # (4)


@module
class Tanh(_Elementwise):
    r"""The line to (-1, 1):

        y = tanh x                                                                 (1)
        log|det dy/dx| = sum_i 2 (log 2 - x_i - softplus(-2 x_i))                  (2)
        x = asinh(y / sqrt(w)),   w = (1 - y) (1 + y)                              (3)
        log|det dx/dy| = -sum_i log w_i                                            (4)

    (2) is log(1 - tanh^2 x) = -2 log cosh x, which loses nothing where 1 - tanh^2 x does, and (3) is artanh y: 1 - y is
    exact near 1, and asinh near 0. The slope 1 / cosh^2 x > 0,
    so the map is one to one, and onto (-1, 1). A y outside (-1, 1) is outside the domain of the inverse
    (log-determinant minus infinity).
    """

    rank: int = 1

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.tanh(x), sum_event(-2.0 * _log_cosh(x), self.rank)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        outside = xp.logical_or(xp.less_equal(y, -1.0), xp.greater_equal(y, 1.0))
        y = xp.where(outside, 0.0, y)
        w = (1.0 - y) * (1.0 + y)
        x = xp.asinh(y / xp.sqrt(w))  # (3)
        return x, sum_event(xp.where(outside, -float("inf"), -xp.log(w)), self.rank)  # (4)


@module
class LeakyReLU(_Elementwise):
    r"""Two half lines, of slopes 1 and s:

        y = x  for x >= 0,   y = s x  for x < 0                                    (1)
        log|det dy/dx| = sum_i log s [x_i < 0]                                     (2)
        x = y  for y >= 0,   x = y / s  for y < 0                                  (3)

    with s = `slope` > 0, so the map is one to one, and onto. At 0 there is no derivative: (2) takes the right one, and
    balls that hold 0 enclose both. The default is the power of two next to the usual 0.01.
    """

    slope: float = 2.0**-7
    rank: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.slope < float("inf"):
            raise StructureError(f"expected a positive, finite slope, got {self.slope}")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        right, slope = xp.greater_equal(x, 0.0), xp.constant(self.slope, x)
        y = xp.where(right, x, slope * x)  # (1)
        return y, sum_event(xp.where(right, xp.zeros_like(x), xp.log(slope)), self.rank)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        right, slope = xp.greater_equal(y, 0.0), xp.constant(self.slope, y)
        x = xp.where(right, y, y / slope)  # (3)
        return x, sum_event(xp.where(right, xp.zeros_like(y), -xp.log(slope)), self.rank)


@module
class SinhArcsinh(Bijection):
    r"""A skewness and a tail weight for every coordinate (Jones and Pewsey, 2009, section 2; their delta is e^a, their
    epsilon -e^a b):

        u = e^a (v + b),   v = asinh x                                             (1)
        y = sinh u                                                                 (2)
        log|det dy/dx| = sum_i a_i + log cosh u_i - log cosh v_i                   (3)
        x = sinh(e^-a asinh y - b)                                                 (4)

    with a = `log_tail` and b = `skew`, both of the event's shape; 0 and 0 are the identity. y grows as the power e^a of
    x: data to latent, a < 0 makes tails of data heavy, a > 0 light. All of asinh, sinh and v -> e^a (v + b) rise from
    the line onto the line, so the map is one to one, and onto, whatever a and b. (3) writes sqrt(1 + x^2) as cosh v,
    whose logarithm overflows nowhere.
    """

    log_tail: Array
    skew: Array

    def __post_init__(self) -> None:
        if xp.shape(self.log_tail) != xp.shape(self.skew) or not xp.shape(self.skew):
            raise ShapeError(
                f"expected log_tail and skew of one event shape, got {xp.shape(self.log_tail)} and "
                f"{xp.shape(self.skew)}"
            )

    @property
    def event_rank(self) -> int:
        return len(xp.shape(self.skew))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return xp.shape(self.skew)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        v = xp.asinh(x)
        u = xp.exp(self.log_tail) * (v + self.skew)  # (1)
        log_slope = self.log_tail + _log_cosh(u) - _log_cosh(v)
        return _sinh(u), sum_event(log_slope, self.event_rank)  # (2), (3)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        u = xp.asinh(y)
        v = xp.exp(-self.log_tail) * u - self.skew
        log_slope = self.log_tail + _log_cosh(u) - _log_cosh(v)
        return _sinh(v), -sum_event(log_slope, self.event_rank)  # (4)

    @staticmethod
    def init(event_shape: tuple[int, ...], dtype: str = "float64") -> "SinhArcsinh":
        """The identity on events of the shape."""
        return SinhArcsinh(np.zeros(event_shape, dtype=dtype), np.zeros(event_shape, dtype=dtype))
