r"""Autoregressive maps: coordinate i moves by parameters that read the coordinates before it.

One direction is one pass of a masked network. The other is a triangular system, solved coordinate by coordinate in
exactly D passes. Turned round by `Inverse`, the cheap direction is sampling: that is the inverse autoregressive flow of
Kingma et al. (2016).
"""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros
from refflow.bijections.scale_maps import SCALE_MAPS, check_scale_map
from refflow.errors import StructureError
from refflow.masked import MaskedMLP, of_coordinate
from refflow.modules import module


class _Autoregressive(Bijection):
    """The properties that every autoregressive map takes from its conditioner."""

    conditioner: MaskedMLP

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.conditioner.in_features,)

    @property
    def context_dim(self) -> int:
        return self.conditioner.context_dim


def _check(conditioner: MaskedMLP, per_coordinate: int) -> None:
    dim = conditioner.in_features
    if conditioner.out_features != per_coordinate * dim:
        raise StructureError(
            f"expected a conditioner with {per_coordinate} parameters for each of {dim} coordinates, got one with "
            f"{conditioner.out_features} outputs"
        )


@module
class AffineAutoregressive(_Autoregressive):
    r"""The masked autoregressive flow's layer (Papamakarios, Pavlakou and Murray, 2017, section 3.1). With x_<i the
    coordinates of smaller degree than x_i,

        y_i = exp(s_i) x_i + t_i,   s_i = s_i(x_<i),   t_i = t_i(x_<i)             (1)
        log|det dy/dx| = sum_i s_i                                                 (2)
        x_i = (y_i - t_i) exp(-s_i), by increasing degree: D passes                (3)

    The conditioner returns the blocks `[a | t]`, `(..., 2 D)`, and s = S(a) by the named scale map (`scale_maps`). The
    Jacobian is triangular with exp(s_i) > 0 on its diagonal, so the map is onto and one to one whatever the weights.
    The paper writes u_i = (x_i - mu_i) exp(-alpha_i): s = -alpha and t = -mu exp(-alpha).
    """

    conditioner: MaskedMLP
    scale: str = "tanh"
    bound: float = 2.0

    def __post_init__(self) -> None:
        _check(self.conditioner, per_coordinate=2)
        check_scale_map(self.scale, self.bound)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        dim = self.conditioner.in_features
        a, t = xp.split(self.conditioner(x, context), (dim, dim), axis=-1)
        s = SCALE_MAPS[self.scale](a, self.bound)
        return xp.exp(s) * x + t, xp.sum(s, axis=-1)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        dim = self.conditioner.in_features
        network = self.conditioner.masked()
        x, log_det = xp.zeros_like(y), batch_zeros(y, 1)
        for i in sorted(range(dim), key=self.conditioner.degrees.__getitem__):
            a, t = xp.split(of_coordinate(network, i, dim)(x, context), (1, 1), axis=-1)
            s = SCALE_MAPS[self.scale](a, self.bound)
            x_i = (y[..., i : i + 1] - t) * xp.exp(-s)  # (3)
            x = xp.where(xp.equal(xp.arange(dim, like=y), float(i)), x_i, x)  # those to come stay 0, not garbage
            log_det = log_det - s[..., 0]  # (2)
        return x, log_det
