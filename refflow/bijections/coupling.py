"""Couplings: one part of the event is kept, and tells how the other part moves."""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros
from refflow.bijections.masks import Mask
from refflow.bijections.scale_maps import SCALE_MAPS, check_scale_map
from refflow.conditioners import Conditioner
from refflow.errors import StructureError
from refflow.modules import module


def _check(mask: Mask, conditioner: Conditioner, per_coordinate: int) -> None:
    expected = (len(mask.kept), per_coordinate * len(mask.moved))
    got = (conditioner.in_features, conditioner.out_features)
    if got != expected:
        raise StructureError(
            f"expected a conditioner from {expected[0]} kept coordinates to {expected[1]} parameters "
            f"({per_coordinate} for each moved coordinate), got one from {got[0]} to {got[1]}"
        )


class _Coupling(Bijection):
    """The properties that every coupling takes from its mask and its conditioner."""

    mask: Mask
    conditioner: Conditioner

    @property
    def event_rank(self) -> int:
        return len(self.mask.event_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.mask.event_shape

    @property
    def context_dim(self) -> int:
        return self.conditioner.context_dim


@module
class AdditiveCoupling(_Coupling):
    r"""NICE's additive coupling (Dinh, Krueger and Bengio, 2015, section 3.2). With x = (x_1, x_2) as the mask
    splits it,

        y_1 = x_1,   y_2 = x_2 + t(x_1)                                            (1)
        log|det dy/dx| = 0                                                         (2)
        x_1 = y_1,   x_2 = y_2 - t(y_1)                                            (3)

    The conditioner returns t, `(..., m)` for m moved coordinates.
    """

    mask: Mask
    conditioner: Conditioner

    def __post_init__(self) -> None:
        _check(self.mask, self.conditioner, per_coordinate=1)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        x1, x2 = self.mask.split(x)
        t = self.conditioner(x1, context)
        y2 = x2 + t  # (1)
        y = self.mask.join(x1, y2)
        return y, batch_zeros(y, self.event_rank)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        y1, y2 = self.mask.split(y)
        t = self.conditioner(y1, context)
        x2 = y2 - t  # (3)
        x = self.mask.join(y1, x2)
        return x, batch_zeros(x, self.event_rank)  # (2)


@module
class AffineCoupling(_Coupling):
    r"""RealNVP's affine coupling (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.2). With x = (x_1, x_2) as the mask
    splits it,

        y_1 = x_1,   y_2 = exp(s(x_1)) * x_2 + t(x_1)                              (1)
        log|det dy/dx| = sum_i s_i(x_1)                                            (2)
        x_1 = y_1,   x_2 = (y_2 - t(y_1)) * exp(-s(y_1))                           (3)
        log|det dx/dy| = -sum_i s_i(y_1)                                           (4)

    The conditioner returns the blocks `[a | t]`, `(..., 2 m)` for m moved coordinates, and s = S(a) by the named scale
    map (`scale_maps`). exp(s) > 0 for every a, so the map is onto and one to one whatever the weights.
    """

    mask: Mask
    conditioner: Conditioner
    scale: str = "tanh"
    bound: float = 2.0

    def __post_init__(self) -> None:
        _check(self.mask, self.conditioner, per_coordinate=2)
        check_scale_map(self.scale, self.bound)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        x1, x2 = self.mask.split(x)
        s, t = self.scale_and_shift(x1, context)
        y2 = xp.exp(s) * x2 + t  # (1)
        return self.mask.join(x1, y2), xp.sum(s, axis=-1)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        y1, y2 = self.mask.split(y)
        s, t = self.scale_and_shift(y1, context)
        x2 = (y2 - t) * xp.exp(-s)  # (3)
        return self.mask.join(y1, x2), -xp.sum(s, axis=-1)  # (4)

    def scale_and_shift(self, x1: Array, context: Array | None = None) -> tuple[Array, Array]:
        """s(x_1) and t(x_1), each `(..., m)`."""
        m = len(self.mask.moved)
        a, t = xp.split(self.conditioner(x1, context), (m, m), axis=-1)
        return SCALE_MAPS[self.scale](a, self.bound), t
