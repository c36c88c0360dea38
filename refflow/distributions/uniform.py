"""The uniform density on a box."""

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.distributions.base import Distribution
from refflow.errors import StructureError
from refflow.modules import module, tupled


@module
class Uniform(Distribution):
    r"""The uniform density on a box, for vectors:

        log p(z) = -sum_i log(high_i - low_i)  where low_i <= z_i <= high_i for all i, else minus infinity.

    The bounds are structure: a box that trained would leave data outside it. Use it under a bijection onto the box,
    such as `Sigmoid` onto the default's. Bounds that the dtype of z cannot tell apart are refused there.

    >>> Uniform((0.0, -1.0), (1.0, 3.0)).log_prob(np.array([[0.5, 2.0], [0.5, 4.0]]))
    array([-1.38629436,        -inf])
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        tupled(self, "low", "high")
        ends = list(zip(self.low, self.high, strict=False))
        if not len(self.low) == len(self.high) > 0 or not all(-np.inf < a < b < np.inf for a, b in ends):
            raise StructureError(f"expected finite bounds low < high, one a coordinate, got {self.low}, {self.high}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.low),)

    def log_prob(self, z: Array) -> Array:
        low, high = self._bounds(z)
        beyond = xp.max(xp.maximum(low - z, z - high), axis=-1)
        outside = xp.greater(beyond, 0.0)
        flat = 0.0 * xp.where(outside, 0.0, beyond)  # 0, or NaN where z has one
        return xp.where(outside, -float("inf"), flat - self._log_volume(z))

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        low, high = self._bounds(like)
        return low + (high - low) * xp.asarray(rng.random((*batch_shape, *self.shape)), like=like)

    def _log_volume(self, like: Array) -> Array:
        """By the bounds as they are, and not as the dtype rounds them."""
        found = 0.0
        for low, high in zip(self.low, self.high, strict=True):
            a, b = xp.constant(low, like), xp.constant(high, like)
            wide = high - low == float("inf")
            two = xp.log(xp.constant(2.0, like))
            found = found + (xp.log(0.5 * b - 0.5 * a) + two if wide else xp.log(b - a))
        return found

    def _bounds(self, like: Array) -> tuple[Array, Array]:
        for low, high in zip(self.low, self.high, strict=True):
            if high - low < xp.eps(like) * max(-low, high):
                raise StructureError(f"expected bounds that the dtype {like.dtype} tells apart, got {low} and {high}")
        return xp.asarray(np.array(self.low, dtype=float), like), xp.asarray(np.array(self.high, dtype=float), like)
