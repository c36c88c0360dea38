"""Normal densities: standard, with a diagonal covariance, with any covariance."""

import math

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import event_size, sum_event
from refflow.distributions.base import Distribution, require_one_shape, standard_normal
from refflow.distributions.factors import color, factor_of, packed_size, whiten
from refflow.errors import ShapeError, StructureError
from refflow.modules import module


@module
class StandardNormal(Distribution):
    r"""N(0, I): log p(z) = -1/2 sum_i z_i^2 - D/2 log(2 pi)."""

    event_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.event_shape, tuple) or not self.event_shape or event_size(self.event_shape) < 1:
            raise StructureError(f"expected an event shape of positive sizes such as (2,), got {self.event_shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.event_shape

    def log_prob(self, z: Array) -> Array:
        rank, size = len(self.event_shape), event_size(self.event_shape)
        return -0.5 * sum_event(xp.square(z), rank) - (0.5 * size) * xp.log(2.0 * xp.pi(z))

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        return standard_normal((*batch_shape, *self.event_shape), rng, like)


@module
class DiagonalNormal(Distribution):
    r"""N(m, diag exp(2 a)), with mean m and log standard deviation a, trainable:

    log p(z) = -1/2 sum_i ((z_i - m_i) exp(-a_i))^2 - sum_i a_i - D/2 log(2 pi).
    """

    mean: Array
    log_std: Array

    def __post_init__(self) -> None:
        require_one_shape(self.mean, self.log_std, "mean and log_std")

    @property
    def shape(self) -> tuple[int, ...]:
        return xp.shape(self.mean)

    def log_prob(self, z: Array) -> Array:
        standard = (z - self.mean) * xp.exp(-self.log_std)
        constant = math.prod(self.shape) * 0.5 * xp.log(2.0 * xp.pi(z))
        return -0.5 * sum_event(xp.square(standard), len(self.shape)) - xp.sum(self.log_std) - constant

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        return self.mean + xp.exp(self.log_std) * standard_normal((*batch_shape, *self.shape), rng, like)


@module
class FullNormal(Distribution):
    r"""N(m, L L^T), for vectors, with mean m and a lower triangular factor L, trainable:

        L_ii = exp(a_i),   L_ij = l_ij for i > j                                   (1)
        e = L^-1 (z - m)                                                           (2)
        log p(z) = -1/2 sum_i e_i^2 - sum_i a_i - D/2 log(2 pi)                    (3)
        z = m + L e,   e ~ N(0, I)                                                 (4)

    with a = `log_diagonal` (D,) and l = `lower` (D (D - 1) / 2,), column after column: l_21, l_31, ..., l_D1, l_32, ...
    L_ii > 0, so every parameter is a density, and every regular covariance has exactly one.
    """

    mean: Array
    log_diagonal: Array
    lower: Array

    def __post_init__(self) -> None:
        require_one_shape(self.mean, self.log_diagonal, "mean and log_diagonal")
        expected = (packed_size(xp.shape(self.mean)[-1]),)
        if len(xp.shape(self.mean)) != 1 or xp.shape(self.lower) != expected:
            raise ShapeError(
                f"expected mean (D,) and lower (D (D - 1) / 2,), got {xp.shape(self.mean)} and {xp.shape(self.lower)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return xp.shape(self.mean)

    def log_prob(self, z: Array) -> Array:
        e = whiten(z - self.mean, self.log_diagonal, self.lower)  # (2)
        constant = self.shape[0] * 0.5 * xp.log(2.0 * xp.pi(z))
        return -0.5 * xp.sum(xp.square(e), axis=-1) - xp.sum(self.log_diagonal) - constant  # (3)

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        e = standard_normal((*batch_shape, *self.shape), rng, like)
        return self.mean + color(e, self.log_diagonal, self.lower)  # (4)

    @staticmethod
    def of(mean: np.ndarray, covariance: np.ndarray) -> "FullNormal":
        """The normal density with that mean and that covariance, a NumPy array."""
        return FullNormal(np.array(mean), *factor_of(np.asarray(covariance)))
