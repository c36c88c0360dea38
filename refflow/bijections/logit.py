"""The maps between an interval and the line."""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, sum_event
from refflow.errors import StructureError
from refflow.modules import module


def _logit(p: Array) -> tuple[Array, Array]:
    """z = log p - log(1 - p) and log dz/dp = -log p - log(1 - p); outside (0, 1) the image of 1/2 and -inf."""
    outside = xp.logical_or(xp.less_equal(p, 0.0), xp.greater_equal(p, 1.0))
    p = xp.where(outside, 0.5, p)
    log_p, log_q = xp.log(p), xp.log1p(-p)
    return log_p - log_q, xp.where(outside, -float("inf"), -log_p - log_q)


def _sigmoid(z: Array) -> tuple[Array, Array]:
    """p = sigma(z) and log dp/dz = log sigma(z) + log sigma(-z)."""
    return xp.sigmoid(z), xp.log_sigmoid(z) + xp.log_sigmoid(-z)


@module
class Logit(Bijection):
    r"""Data in [low, high] to the line (Dinh, Sohl-Dickstein and Bengio, 2017, section 4.1):

        p = alpha + (1 - 2 alpha) (x - low) / (high - low)                         (1)
        y = log p - log(1 - p)                                                     (2)
        log|det dy/dx| = sum_i log((1 - 2 alpha) / (high - low)) - log p_i - log(1 - p_i)     (3)
        x = low + (high - low) (sigma(y) - alpha) / (1 - 2 alpha)                  (4)

    alpha > 0 keeps both ends of the interval finite. Nothing is clamped: a point with p outside (0, 1) is outside the
    domain (log-determinant minus infinity), and some points of the line go back to values a little outside
    [low, high].
    """

    alpha: float = 0.0
    low: float = 0.0
    high: float = 1.0
    rank: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < 0.5:
            raise StructureError(f"expected alpha in [0, 1/2), got {self.alpha}")
        if not -float("inf") < self.low < self.high < float("inf"):
            raise StructureError(f"expected finite bounds low < high, got {self.low}, {self.high}")

    @property
    def event_rank(self) -> int:
        return self.rank

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        alpha, low, slope = self._constants(x)
        p = alpha + slope * (x - low)  # (1)
        y, log_slope = _logit(p)  # (2)
        return y, sum_event(log_slope + xp.log(slope), self.rank)  # (3)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        alpha, low, slope = self._constants(y)
        p, log_slope = _sigmoid(y)
        x = low + (p - alpha) / slope  # (4)
        return x, sum_event(log_slope - xp.log(slope), self.rank)

    def _constants(self, like: Array) -> tuple[float, float, float]:
        """alpha, low and the slope (1 - 2 alpha) / (high - low) of (1)."""
        alpha, low, high = (xp.constant(v, like) for v in (self.alpha, self.low, self.high))
        return alpha, low, (1.0 - 2.0 * alpha) / (high - low)


@module
class Sigmoid(Bijection):
    r"""The line to (0, 1):

        y = 1 / (1 + e^-x)                                                         (1)
        log|det dy/dx| = sum_i log sigma(x_i) + log sigma(-x_i)                    (2)
        x = log y - log(1 - y)                                                     (3)

    The inverse of `Logit()`. A y outside (0, 1) is outside the domain of the inverse (log-determinant minus infinity).
    """

    rank: int = 1

    @property
    def event_rank(self) -> int:
        return self.rank

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y, log_slope = _sigmoid(x)  # (1)
        return y, sum_event(log_slope, self.rank)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        x, log_slope = _logit(y)  # (3)
        return x, sum_event(log_slope, self.rank)
