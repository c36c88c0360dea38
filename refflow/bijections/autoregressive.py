r"""Autoregressive maps: coordinate i moves by parameters that read the coordinates before it.

One direction is one pass of a masked network. The other is a triangular system, solved coordinate by coordinate in
exactly D passes. Turned round by `Inverse`, the cheap direction is sampling: that is the inverse autoregressive flow of
Kingma et al. (2016).
"""

from collections.abc import Callable

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros
from refflow.bijections.rational_quadratic import check_spline, inverse_spline, raw_size, spline
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


def solve_by_degree(
    conditioner: MaskedMLP, undo: Callable[[Array, Array], tuple[Array, Array]], y: Array, context: Array | None
) -> tuple[Array, Array]:
    """x and log|det dx/dy| of the triangular system y_i = f(x_i; theta(x_<i)), of which `undo` solves one equation.

    One pass of the network a coordinate, by increasing degree. Coordinates to come stay 0 and are not solved for: what
    they would be has no meaning yet, and could overflow, which the zeros of masked weights do not stop.
    """
    dim, network = conditioner.in_features, conditioner.masked()
    x, log_det = xp.zeros_like(y), batch_zeros(y, 1)
    for i in sorted(range(dim), key=conditioner.degrees.__getitem__):
        theta = of_coordinate(network, i, dim)(x, context)
        x_i, term = undo(y[..., i : i + 1], theta)
        x = xp.where(xp.equal(xp.arange(dim, like=y), float(i)), x_i, x)
        log_det = log_det + term[..., 0]
    return x, log_det


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
        s, t = self._scale_and_shift(self.conditioner(x, context))
        return xp.exp(s) * x + t, xp.sum(s, axis=-1)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return solve_by_degree(self.conditioner, self._undone, y, context)

    def _undone(self, y: Array, theta: Array) -> tuple[Array, Array]:
        """x_i and log dx_i/dy_i at y_i, all of one coordinate."""
        s, t = self._scale_and_shift(theta)
        return (y - t) * xp.exp(-s), -s  # (3), (2)

    def _scale_and_shift(self, theta: Array) -> tuple[Array, Array]:
        """s and t, the two halves of theta."""
        half = xp.shape(theta)[-1] // 2
        a, t = xp.split(theta, (half, half), axis=-1)
        return SCALE_MAPS[self.scale](a, self.bound), t


@module
class RationalQuadraticAutoregressive(_Autoregressive):
    r"""The autoregressive layer of neural spline flows (Durkan, Bekasov, Murray and Papamakarios, 2019, section 3.2).
    With g the monotone spline of `rational_quadratic` and x_<i the coordinates of smaller degree than x_i,

        y_i = g(x_i; theta_i),   theta_i = theta_i(x_<i)                           (1)
        log|det dy/dx| = sum_i log g'(x_i; theta_i)                                (2)
        x_i = g^-1(y_i; theta_i), by increasing degree: D passes                   (3)

    The conditioner returns P = 3K - 1 blocks of D, `(..., P D)`: output p D + i is number p of theta_i, in the layout
    `[widths K | heights K | slopes K - 1]`. Outside [-B, B] g is the identity, and g is increasing for every theta
    (lemma in `rational_quadratic`): the map is onto and one to one whatever the weights.
    """

    conditioner: MaskedMLP
    bins: int = 8
    bound: float = 5.0

    def __post_init__(self) -> None:
        check_spline(self.bins, self.bound)
        _check(self.conditioner, per_coordinate=raw_size(self.bins))

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        raw = self.conditioner(x, context)
        blocks = xp.reshape(raw, (*raw.shape[:-1], raw_size(self.bins), self.conditioner.in_features))
        y, log_slope = spline(x, xp.matrix_transpose(blocks), self.bound)  # (1)
        return y, xp.sum(log_slope, axis=-1)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return solve_by_degree(self.conditioner, self._undone, y, context)

    def _undone(self, y: Array, theta: Array) -> tuple[Array, Array]:
        """x_i and log dx_i/dy_i at y_i, all of one coordinate."""
        return inverse_spline(y, xp.expand_dims(theta, -2), self.bound)  # (3), (2)
