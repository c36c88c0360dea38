"""Mixtures of normals, for data with several modes."""

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.distributions.base import Distribution, standard_normal
from refflow.distributions.factors import color, factor_of, packed_size, whiten
from refflow.errors import ShapeError
from refflow.modules import module


@module
class MixtureOfNormals(Distribution):
    r"""K normal densities of vectors, mixed by weights, all trainable:

        log w = logits - log sum_k exp(logits_k)                                   (1)
        e_k = L_k^-1 (z - m_k)                                                     (2)
        log p_k(z) = -1/2 |e_k|^2 - sum_i a_ki - D/2 log(2 pi)                     (3)
        log p(z) = log sum_k w_k p_k(z)                                            (4)
        z = m_k + L_k e,  k drawn by w, e ~ N(0, I)                                (5)

    with `logits` (K,), m = `means` (K, D), a = `log_diagonals` (K, D), the logarithms of L's diagonals, and l = `lower`
    (K, D (D - 1) / 2), what is below them, packed as `FullNormal` packs it; without `lower` all covariances are
    diagonal and a are log standard deviations. Every parameter is a density; permuting the components gives the same
    one. Components that start alike stay alike: spread the means.
    """

    logits: Array
    means: Array
    log_diagonals: Array
    lower: Array | None = None

    def __post_init__(self) -> None:
        k, found = xp.shape(self.logits), (xp.shape(self.means), xp.shape(self.log_diagonals))
        if len(k) != 1 or not k[0] or len(found[0]) != 2 or found[0] != found[1] or found[0][0] != k[0]:
            raise ShapeError(
                f"expected logits (K,), means (K, D) and log_diagonals (K, D), got {k}, {found[0]} and {found[1]}"
            )
        expected = (*k, packed_size(found[0][1]))
        if self.lower is not None and xp.shape(self.lower) != expected:
            raise ShapeError(f"expected lower of shape {expected}, got {xp.shape(self.lower)}")

    @property
    def shape(self) -> tuple[int, ...]:
        return xp.shape(self.means)[1:]

    def log_prob(self, z: Array) -> Array:
        log_weights = self.logits - xp.logsumexp(self.logits)  # (1)
        r = xp.expand_dims(z, -2) - self.means  # (..., K, D)
        a, lower = self.log_diagonals, self.lower
        e = r * xp.exp(-a) if lower is None else whiten(r, a, lower)  # (2)
        constant = 0.5 * self.shape[0] * xp.log(2.0 * xp.pi(z))
        log_p = -0.5 * xp.sum(xp.square(e), axis=-1) - xp.sum(a, axis=-1) - constant  # (3)
        return xp.logsumexp(log_weights + log_p)  # (4)

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        chosen = xp.asarray(self._one_hot(batch_shape, rng), like=like)  # (..., K): its products are exact
        e = standard_normal((*batch_shape, *self.shape), rng, like)
        a = xp.matmul(chosen, self.log_diagonals)
        spread = xp.exp(a) * e if self.lower is None else color(e, a, xp.matmul(chosen, self.lower))
        return xp.matmul(chosen, self.means) + spread  # (5)

    def _one_hot(self, batch_shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Rows with a 1 at the component drawn: the first whose cumulated weight exceeds a uniform number."""
        logits = xp.to_numpy(self.logits).astype(np.float64)
        cumulated = np.cumsum(np.exp(logits - np.max(logits)))
        k = np.searchsorted(cumulated / cumulated[-1], rng.random(batch_shape), side="right")
        return np.asarray(np.eye(len(logits))[k])

    @staticmethod
    def of(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> "MixtureOfNormals":
        """The mixture with those positive weights, means (K, D) and covariances (K, D, D), NumPy arrays."""
        return MixtureOfNormals(np.log(weights), np.array(means), *factor_of(np.asarray(covariances)))
