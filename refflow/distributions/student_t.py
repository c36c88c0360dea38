"""Student's t, for heavy tails."""

import math

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import sum_event
from refflow.distributions.base import Distribution, require_one_shape
from refflow.errors import StructureError
from refflow.modules import module


def _log1p_square(s: Array) -> Array:
    """log(1 + s^2), for |s| > 1 as 2 log|s| + log(1 + s^-2): outliers whose square overflows keep a density."""
    large = xp.greater(xp.abs(s), 1.0)
    far, near = xp.where(large, s, 1.0), xp.where(large, 1.0, s)
    beyond = 2.0 * xp.log(xp.abs(far)) + xp.log1p(xp.square(1.0 / far))
    return xp.where(large, beyond, xp.log1p(xp.square(near)))


@module
class StudentT(Distribution):
    r"""Independent Student's t coordinates, located at m and scaled by exp(a), trainable:

        t_i = (z_i - m_i) exp(-a_i)                                                (1)
        log p(z) = sum_i c - a_i - (nu + 1)/2 log(1 + t_i^2 / nu)                  (2)
        c = log Gamma((nu + 1)/2) - log Gamma(nu/2) - 1/2 log(pi nu)               (3)
        z_i = m_i + exp(a_i) g_i sqrt(nu / w_i),  g_i ~ N(0, 1), w_i ~ chi^2_nu     (4)

    with m = `loc`, a = `log_scale` and nu = `df` > 0 degrees of freedom: 1 is Cauchy's density, infinity would be the
    normal one. df is structure, so (3) is a constant of every arithmetic and no gradient needs a digamma; tails that
    train are `SinhArcsinh`'s.
    """

    df: float
    loc: Array
    log_scale: Array

    def __post_init__(self) -> None:
        if not 0.0 < self.df < float("inf"):
            raise StructureError(f"expected positive, finite degrees of freedom df, got {self.df}")
        require_one_shape(self.loc, self.log_scale, "loc and log_scale")

    @property
    def shape(self) -> tuple[int, ...]:
        return xp.shape(self.loc)

    def log_prob(self, z: Array) -> Array:
        df = xp.constant(self.df, z)
        t = (z - self.loc) * xp.exp(-self.log_scale)  # (1)
        c = xp.log_gamma_step(self.df / 2.0, z) - 0.5 * xp.log(xp.pi(z) * df)  # (3)
        kernel = (0.5 * (df + 1.0)) * sum_event(_log1p_square(t / xp.sqrt(df)), len(self.shape))
        return math.prod(self.shape) * c - xp.sum(self.log_scale) - kernel  # (2)

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        draws = xp.asarray(rng.standard_t(self.df, (*batch_shape, *self.shape)), like=like)
        return self.loc + xp.exp(self.log_scale) * draws  # (4)
