"""The floors that a flow must beat: a Gaussian and a mixture of Gaussians, fitted on the same rows.

Both are densities in the space that a map g leads to, brought back with its Jacobian:
log p(x) = log q(g(x)) + log|det dg/dx|. A flow that loses to a mixture has not been trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.bijections import Bijection, Chain
from refflow.errors import DataError

LogProb = Callable[[np.ndarray], np.ndarray]

MIXTURE_GRID = tuple((k, ridge) for ridge in (0.1, 0.01) for k in (1, 3, 10, 20))
"""Numbers of components and ridges (in units of standardised coordinates) among which validation rows choose."""

NOISE_COPIES = 4
"""How often quantised rows are repeated, each time with fresh noise, before a mixture is fitted."""


@dataclass(frozen=True)
class Baseline:
    """A fitted density: its name as the table prints it, log p(x) of real rows, and the seconds it took."""

    name: str
    log_prob: LogProb


def _through(maps: Sequence[Bijection], density: LogProb) -> LogProb:
    if not maps:
        return density
    g = Chain(tuple(maps))

    def log_prob(x: np.ndarray) -> np.ndarray:
        z, log_det = g.forward(x)
        return np.asarray(density(z) + log_det)

    return log_prob


def gaussian(x: np.ndarray, maps: Sequence[Bijection] = (), name: str = "Gaussian") -> Baseline:
    r"""The maximum-likelihood Gaussian of g(x), full covariance L L^T:

    log q(z) = -1/2 |L^-1 (z - m)|^2 - log det L - D/2 log 2 pi.
    """
    from scipy.linalg import solve_triangular

    z = Chain(tuple(maps)).forward(x)[0] if maps else x
    mean = z.mean(axis=0)
    covariance = np.cov(z.T, bias=True).reshape(z.shape[1], z.shape[1])
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise DataError("expected columns that are linearly independent, got a singular covariance") from error
    constant = -np.log(np.diag(lower)).sum() - 0.5 * len(mean) * np.log(2.0 * np.pi)

    def density(z: np.ndarray) -> np.ndarray:
        standard = solve_triangular(lower, (z - mean).T, lower=True)
        return np.asarray(constant - 0.5 * np.sum(standard**2, axis=0))

    return Baseline(name, _through(maps, density))


def mixture(x: np.ndarray, x_validation: np.ndarray, maps: Sequence[Bijection] = (), seed: int = 0) -> Baseline | None:
    """The mixture of full-covariance Gaussians of g(x) that is best on the validation rows, over `MIXTURE_GRID`; None
    without scikit-learn."""
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        return None
    g = Chain(tuple(maps)) if maps else None
    z, held = (x, x_validation) if g is None else (g.forward(x)[0], g.forward(x_validation)[0])
    centre, spread = z.mean(axis=0), z.std(axis=0)
    z, held = (z - centre) / spread, (held - centre) / spread
    tries = [_fit(GaussianMixture, z, k, ridge, seed) for k, ridge in MIXTURE_GRID if k * 2 <= len(z)]
    best = max((m for m in tries if m is not None), key=lambda m: m.score(held))

    def density(z: np.ndarray) -> np.ndarray:
        return np.asarray(best.score_samples((z - centre) / spread) - np.log(spread).sum())

    return Baseline(f"Gaussian mixture, K = {best.n_components}", _through(maps, density))


def _fit(kind: Any, z: np.ndarray, components: int, ridge: float, seed: int) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slow convergence is for validation to judge
        try:
            return kind(components, covariance_type="full", reg_covar=ridge, random_state=seed, max_iter=50).fit(z)
        except ValueError:
            return None
