r"""The mass of a density in many dimensions, by a comparison with another one that is normalised.

The density p is compared with q by Barker's acceptance (Meng and Wong's bridge, 1996):

    E_q[p / (p + q)] = integral of p q / (p + q) = E_p[q / (p + q)]                     (1)

holds for x ~ p if and only if p has mass 1. Both sides are means of numbers between 0 and 1, so that their limits hold
for every density; p's draws are the target's own, so a sampler of another density fails (1) too. q is Student's t with
4 degrees of freedom about the draws.
"""

from dataclasses import dataclass

import numpy as np

from refflow.verification.bounds import Statistic, bernstein, decide, share
from refflow.verification.densities import Context, log_density
from refflow.verification.samples import draw, tiled, unstable_density
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding

OVERLAP = 0.01
"""The least mean of (1) that says something: below it q and p hardly meet."""

HUGE = 1e100
"""Samples beyond it have no covariance in float64."""

FREEDOM = 4.0


def bridge(target: Target, x: np.ndarray, context: Context, draws: int, seed: int) -> Finding:
    """(1), over all rows of the context."""
    if target.domain is not None:
        return Finding("normalisation", "inconclusive", judged=0.0, remark="in a box only up to two dimensions")
    pilot = draw(target, 1024, seed + 101, context).reshape(1024, -1).astype(np.float64)
    pilot = pilot[np.isfinite(pilot).all(axis=1)]
    dim = x[0].size
    if len(pilot) < 10 * dim or np.abs(pilot).max() > HUGE:
        return Finding(
            "normalisation", "inconclusive", judged=0.0, remark="too many coordinates, or samples not finite"
        )
    student = _Student.about(pilot)

    def test(n: int, seed: int) -> list[Statistic] | None:
        rows = tiled(context, n)
        ours, theirs = draw(target, n, seed, context), student.sample(n, seed).reshape(n, *x.shape[1:])
        theirs = theirs.astype(ours.dtype)
        sides = [
            _ratio(log_density(target, p, rows) - student.log_prob(p), way) for p, way in ((theirs, 1), (ours, -1))
        ]
        unsure = unstable_density(target, ours, rows).mean() + float(np.mean([np.isnan(s).mean() for s in sides]))
        left, right = (np.nan_to_num(side) for side in sides)
        if not max(left.mean(), right.mean()) > OVERLAP + unsure:
            return None
        limit = sum(bernstein(side, 1.0, share(2)) for side in (left, right))
        off = max(abs(float(left.mean() - right.mean())) - 2.0 * float(unsure), 0.0)
        return [Statistic("a difference of the two means that mass 1 makes equal", off, limit)]

    return decide("normalisation", test, draws, seed, "the density and Student's t about its samples hardly meet")


def _ratio(log_ratio: np.ndarray, sign: int) -> np.ndarray:
    """p / (p + q) for sign 1, q / (p + q) for -1, of log p - log q."""
    return np.asarray(1.0 / (1.0 + np.exp(-sign * log_ratio)))


@dataclass(frozen=True)
class _Student:
    """The multivariate t density with that middle and that Cholesky factor."""

    middle: np.ndarray
    factor: np.ndarray

    @staticmethod
    def about(points: np.ndarray) -> "_Student":
        """With robust widths: a few points far out do not blow it up."""
        middle = np.median(points, axis=0)
        width = np.subtract(*np.quantile(points, [0.75, 0.25], axis=0)) / 1.349
        width = np.where(width > 0.0, width, 1e-6)
        near = points[(np.abs(points - middle) < 6.0 * width).all(axis=1)]
        covariance = np.cov(near if len(near) > 5 * points.shape[1] else points, rowvar=False)
        return _Student(middle, np.linalg.cholesky(np.atleast_2d(covariance) + np.diag(1e-12 * width**2)))

    def sample(self, n: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 7])
        e = rng.standard_normal((n, len(self.middle))) / np.sqrt(rng.chisquare(FREEDOM, (n, 1)) / FREEDOM)
        return np.asarray(self.middle + e @ self.factor.T)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular
        from scipy.special import gammaln

        d = len(self.middle)
        e = solve_triangular(self.factor, (x.reshape(len(x), d).astype(np.float64) - self.middle).T, lower=True)
        constant = gammaln((FREEDOM + d) / 2) - gammaln(FREEDOM / 2) - d / 2 * np.log(FREEDOM * np.pi)
        square = np.log1p(np.sum(e**2, axis=0) / FREEDOM)
        return np.asarray(constant - np.sum(np.log(np.diag(self.factor))) - 0.5 * (FREEDOM + d) * square)


__all__ = ["bridge"]
