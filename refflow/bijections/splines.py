"""Maps that move every coordinate along a spline of its own."""

from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, sum_event
from refflow.bijections.coupling import _check, _Coupling
from refflow.bijections.masks import Mask
from refflow.bijections.rational_quadratic import check_spline, inverse_spline, raw_size, spline
from refflow.conditioners import Conditioner
from refflow.errors import ShapeError
from refflow.modules import module


@module
class RationalQuadraticCoupling(_Coupling):
    r"""The coupling of neural spline flows (Durkan, Bekasov, Murray and Papamakarios, 2019, section 3.1). With
    x = (x_1, x_2) as the mask splits it and g the monotone spline of `rational_quadratic`, one a moved coordinate,

        y_1 = x_1,   y_2 = g(x_2; theta(x_1))                                      (1)
        log|det dy/dx| = sum_i log g'(x_2i; theta_i(x_1))                          (2)
        x_1 = y_1,   x_2 = g^-1(y_2; theta(y_1))                                   (3)

    The conditioner returns theta, `(..., P m)` for m moved coordinates, one block of P = 3K - 1 numbers
    `[widths K | heights K | slopes K - 1]` after the other. Outside [-B, B] g is the identity: the map is onto. g is
    increasing for every theta (lemma in `rational_quadratic`), so the map is one to one whatever the weights.

    With `circular` moved coordinates are angles in [-B, B] whose ends are one point (Rezende et al., 2020, section
    3.2): P = 3K, `[widths K | heights K | slopes K]`, the first slope belonging to both ends. That point stays where
    it is. Outside [-B, B] the log-determinant is minus infinity, in both directions. For the density to agree where a
    circle closes, the conditioner must too: wrap its network in `Periodic`, as the recipe `nsf_circular` does.
    """

    mask: Mask
    conditioner: Conditioner
    bins: int = 8
    bound: float = 5.0
    circular: bool = False

    def __post_init__(self) -> None:
        check_spline(self.bins, self.bound)
        _check(self.mask, self.conditioner, raw_size(self.bins, self.circular))

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        x1, x2 = self.mask.split(x)
        theta = self.theta(x1, context)
        y2, log_slope = spline(x2, theta, self.bound, self.circular)  # (1)
        return self.mask.join(x1, y2), xp.sum(log_slope, axis=-1)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        y1, y2 = self.mask.split(y)
        theta = self.theta(y1, context)
        x2, log_slope = inverse_spline(y2, theta, self.bound, self.circular)  # (3)
        return self.mask.join(y1, x2), xp.sum(log_slope, axis=-1)

    def theta(self, x1: Array, context: Array | None = None) -> Array:
        """The raw numbers of the splines at x_1, `(..., m, P)`."""
        raw = self.conditioner(x1, context)
        return xp.reshape(raw, (*raw.shape[:-1], len(self.mask.moved), raw_size(self.bins, self.circular)))


@module
class RationalQuadraticElementwise(Bijection):
    r"""One trainable spline a coordinate, g of `rational_quadratic`:

        y_i = g(x_i; theta_i)                                                      (1)
        log|det dy/dx| = sum_i log g'(x_i; theta_i)                                (2)
        x_i = g^-1(y_i; theta_i)                                                   (3)

    with theta of the event's shape and one axis more, `(*event, 3K - 1)`, or `(*event, 3K)` with `circular`; layout,
    domain and lemma are those of `RationalQuadraticCoupling`.
    """

    theta: Array
    bound: float = 5.0
    circular: bool = False

    def __post_init__(self) -> None:
        *event, size = xp.shape(self.theta) or (0,)
        bins = (size + 1) // 3
        if not event or size != raw_size(bins, self.circular) or not bins:
            raise ShapeError(
                f"expected theta of the event's shape and {'3 K' if self.circular else '3 K - 1'} numbers for K bins, "
                f"got shape {xp.shape(self.theta)}"
            )
        check_spline(bins, self.bound)

    @property
    def event_rank(self) -> int:
        return len(xp.shape(self.theta)) - 1

    @property
    def event_shape(self) -> tuple[int, ...]:
        return xp.shape(self.theta)[:-1]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y, log_slope = spline(x, self.theta, self.bound, self.circular)  # (1)
        return y, sum_event(log_slope, self.event_rank)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        x, log_slope = inverse_spline(y, self.theta, self.bound, self.circular)  # (3)
        return x, sum_event(log_slope, self.event_rank)

    @staticmethod
    def init(
        event_shape: tuple[int, ...], bins: int = 8, bound: float = 5.0, circular: bool = False, dtype: Any = "float64"
    ) -> "RationalQuadraticElementwise":
        """The identity on events of the shape."""
        return RationalQuadraticElementwise(
            np.zeros((*event_shape, raw_size(bins, circular)), dtype=dtype), bound, circular
        )
