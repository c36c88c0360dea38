"""Residual maps: the identity plus a contraction."""

from collections.abc import Callable, Sequence

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection
from refflow.conditioners import ACTIVATIONS, Linear
from refflow.errors import ShapeError, StructureError
from refflow.modules import module

SLOPES: dict[str, Callable[[Array], Array]] = {
    "elu": lambda a: xp.exp(xp.minimum(a, 0.0)),
    "softplus": xp.sigmoid,
    "tanh": lambda a: 4.0 * xp.sigmoid(2.0 * a) * xp.sigmoid(-2.0 * a),
}
"""The derivatives of the activations whose slopes are continuous and lie in [0, 1]."""

BELOW = 1.0 - 2.0**-50
"""What keeps kappa^K < c though kappa is rounded."""

LARGEST = 16
"""The most coordinates for which the Jacobian is carried along."""


@module
class ResidualBlock(Bijection):
    r"""The residual map (Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen, 2019; Chen et al., 2019) with an exact
    log-determinant, for small D:

        y = x + g(x),   g = A_K phi(A_{K-1} ... phi(A_1 x)),  A_k h = h W~_k + b_k (1)
        W~ = W kappa / (kappa^8 + ||(W^T W)^2||_F^2)^(1/8),   kappa = c^(1/K)      (2)
        J_g: J_0 = I, J_k = diag(phi'(a_k)) W~_k^T J_{k-1} (no phi' in the last)   (3)
        log|det dy/dx| = log det(I + J_g), by elimination without pivoting         (4)
        x = lim x_n,  x_{n+1} = y - g(x_n)                                         (5)

    ||(W^T W)^2||_F^2 = sum_i sigma_i^8 >= sigma_1^8 (Schatten's 8-norm, at most rank^(1/8) times the largest singular
    value), so ||W~||_2 < kappa with no power iteration and no state, and smoothly in W. 0 <= phi' <= 1, hence Lip(g) <
    c = `lipschitz` < 1: the map is one to one and onto (Banach), and I + J_g has positive leading minors (the lemma
    in `arrays.elimination`). Both terms under the root are divided by max(max |W|, 1)^8 first, so that neither
    overflows; in floats ||W~||_2 < kappa holds to a few roundings, far from where Lip(g) could reach 1. Weights much
    smaller than kappa are left as they are; the papers divide by an estimate of sigma_1 that may be too small.
    """

    layers: tuple[Linear, ...]
    activation: str = "elu"
    lipschitz: float = 0.875

    def __post_init__(self) -> None:
        if self.activation not in SLOPES:
            raise StructureError(f"expected an activation among {', '.join(SLOPES)}, got {self.activation!r}")
        if not 0.0 < self.lipschitz < 1.0:
            raise StructureError(f"expected a Lipschitz constant in (0, 1), got {self.lipschitz}")
        sizes = [xp.shape(layer.weight) for layer in self.layers]
        if not sizes or any(a[1] != b[0] for a, b in zip(sizes, (*sizes[1:], sizes[0]), strict=True)):
            raise ShapeError(f"expected layers that fit and lead from D coordinates to D, got {sizes}")
        if not 1 <= self.dim <= LARGEST:
            raise StructureError(
                f"expected between 1 and {LARGEST} coordinates, got {self.dim}: the exact log-determinant carries a "
                f"D x D Jacobian for every row; split the coordinates by couplings first"
            )

    @property
    def dim(self) -> int:
        """D."""
        return xp.shape(self.layers[0].weight)[0]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        weights = self.bounded()
        y = x + self._residual(x, *weights)  # (1)
        return y, xp.log_det_leading(xp.identity_plus(self._jacobian(x, *weights)))  # (4)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        weights = self.bounded()
        c = float(xp.real(self.lipschitz))
        x = xp.solve_contraction(self._residual, self._jacobian, weights, y, c)  # (5)
        return x, -xp.log_det_leading(xp.identity_plus(self._jacobian(x, *weights)))

    def bounded(self) -> tuple[Array, ...]:
        """W~_1, b_1, W~_2, b_2, ... of (2)."""
        found: list[Array] = []
        for layer in self.layers:
            w = layer.weight
            kappa = xp.constant(self.lipschitz ** (1.0 / len(self.layers)) * BELOW, w)
            size = xp.maximum(xp.max(xp.abs(xp.detach(w))), 1.0)  # a constant: (2) does not depend on it
            w, rest = w / size, kappa / size
            found += [w * (kappa / _root8(rest**8 + schatten8(w))), layer.bias]  # (2)
        return tuple(found)

    def _residual(self, x: Array, *weights: Array) -> Array:
        activate, h = ACTIVATIONS[self.activation], x
        for w, b in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
            h = activate(xp.linear(h, w, b))
        return xp.linear(h, *weights[-2:])

    def _jacobian(self, x: Array, *weights: Array) -> Array:
        """J_g `(..., D, D)`, carried transposed: row j is the derivative along coordinate j."""
        activate, slope = ACTIVATIONS[self.activation], SLOPES[self.activation]
        h, carried = x, None
        for w, b in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
            a = xp.linear(h, w, b)
            carried = (w if carried is None else xp.matmul(carried, w)) * xp.expand_dims(slope(a), -2)  # (3)
            h = activate(a)
        last = weights[-2]
        if carried is None:
            return xp.broadcast_to(xp.matrix_transpose(last), (*xp.shape(x), self.dim))
        return xp.matrix_transpose(xp.matmul(carried, last))

    @staticmethod
    def init(
        dim: int,
        *,
        rng: np.random.Generator,
        hidden: Sequence[int] = (64, 64),
        activation: str = "elu",
        lipschitz: float = 0.875,
        dtype: str = "float64",
    ) -> "ResidualBlock":
        """Random hidden layers and a last layer of zeros: the identity."""
        sizes = (dim, *hidden)
        layers = [Linear.init(a, b, rng, dtype) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        layers.append(Linear.init(sizes[-1], dim, rng, dtype, gain=0.0))
        return ResidualBlock(tuple(layers), activation, lipschitz)


def schatten8(w: Array) -> Array:
    """sum_i sigma_i(W)^8 = ||(W^T W)^2||_F^2, by the smaller of W^T W and W W^T."""
    wide = xp.shape(w)[0] < xp.shape(w)[1]
    other = xp.matrix_transpose(w)
    gram = xp.matmul(w, other) if wide else xp.matmul(other, w)
    square = xp.matmul(gram, gram)
    return xp.sum(square * square)


def _root8(x: Array) -> Array:
    return xp.sqrt(xp.sqrt(xp.sqrt(x)))
