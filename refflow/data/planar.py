r"""Densities on the plane that are no flow, with samples and reference values: rings and moons.

Data of this kind are the field's usual pictures, but a picture has no likelihood to compare with. These do: a curve
run through at an even pace, blurred by a Gaussian of standard deviation sigma, has the density

    p(x) = (1/T) int_0^T N(x; c(t), sigma^2 I) dt                                  (1)

and for an arc of radius r about the origin, with rho and phi the polar coordinates of x,

    |x - c(t)|^2 = (rho - r)^2 + 2 rho r (1 - cos(t - phi))                        (2)
    log N = -log(2 pi sigma^2) - (rho - r)^2 / (2 sigma^2) - kappa (1 - cos(t - phi)),  kappa = rho r / sigma^2.  (3)

Over the whole circle the integral of (3) is Bessel's: (1/2 pi) int exp(kappa cos t) dt = I_0(kappa) (Abramowitz and
Stegun, 1972, 9.6.16). Over half of it there is no closed form, and a quadrature of t takes its place.
"""

import numpy as np

from refflow.errors import StructureError

RADII = (1.0, 2.0)
"""Of the rings, where none are given."""

CENTRE = (1.0, 0.5)
"""What the second moon is turned round to: its points are this minus those of the first."""


def _check(sigma: float) -> None:
    if not 0.0 < sigma < float("inf"):
        raise StructureError(f"expected a positive, finite standard deviation sigma, got {sigma}")


def _radial(x: np.ndarray, radius: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of (3) without t, and kappa."""
    rho = np.hypot(x[..., 0], x[..., 1])
    return -0.5 * ((rho - radius) / sigma) ** 2 - np.log(2.0 * np.pi * sigma**2), rho * radius / sigma**2


def rings_log_prob(x: np.ndarray, radii: tuple[float, ...] = RADII, sigma: float = 0.1) -> np.ndarray:
    r"""log p of circles of equal weight about the origin, blurred: at points `(..., 2)`, of shape `(...)`.

    log p(x) = log (1/K) sum_k exp(-(rho - r_k)^2 / (2 sigma^2)) e^-kappa_k I_0(kappa_k) / (2 pi sigma^2)  (4)

    by (3) and Bessel's integral; e^-kappa I_0(kappa) is `scipy.special.ive(0, kappa)`, which overflows nowhere.
    """
    from scipy.special import ive, logsumexp

    _check(sigma)
    parts = [_radial(np.asarray(x), r, sigma) for r in radii]
    terms = [radial + np.log(ive(0, kappa)) for radial, kappa in parts]
    return np.asarray(logsumexp(terms, axis=0) - np.log(len(radii)))


def sample_rings(n: int, rng: np.random.Generator, radii: tuple[float, ...] = RADII, sigma: float = 0.1) -> np.ndarray:
    """n points `(n, 2)` of the rings."""
    _check(sigma)
    r, t = np.array(radii)[rng.integers(len(radii), size=n)], rng.uniform(0.0, 2.0 * np.pi, n)
    return np.stack([r * np.cos(t), r * np.sin(t)], axis=-1) + sigma * rng.standard_normal((n, 2))


def _arc_log_prob(x: np.ndarray, sigma: float, nodes: int) -> np.ndarray:
    """log p of the unit circle's upper half, blurred: (3) with a Gauss-Legendre rule of that many angles in (0, pi)."""
    from scipy.special import logsumexp

    t, w = np.polynomial.legendre.leggauss(nodes)
    angle = 0.5 * np.pi * (t + 1.0)
    radial, kappa = _radial(x, 1.0, sigma)
    phi = np.arctan2(x[..., 1], x[..., 0])
    turned = -2.0 * kappa[..., None] * np.sin(0.5 * (angle - phi[..., None])) ** 2  # 1 - cos t = 2 sin^2(t / 2)
    return np.asarray(radial + logsumexp(turned, b=0.5 * w, axis=-1))


def moons_log_prob(x: np.ndarray, sigma: float = 0.1, nodes: int | None = None) -> np.ndarray:
    r"""log p of the two moons of equal weight, blurred: at points `(..., 2)`, of shape `(...)`.

    The first moon is (cos t, sin t), the second (1 - cos t, 1/2 - sin t), with t even in (0, pi): a reference value,
    by quadrature of (1), not a closed form. The rule has `nodes` angles, by default 32 + 16 / sigma, which give 13
    digits: the integrand is a bump of width sigma, and the rule converges exponentially once it sees that.
    """
    _check(sigma)
    x = np.asarray(x)
    nodes = 32 + int(16.0 / sigma) if nodes is None else nodes
    moons = [_arc_log_prob(points, sigma, nodes) for points in (x, np.array(CENTRE) - x)]
    return np.asarray(np.logaddexp(*moons) - np.log(2.0))


def sample_moons(n: int, rng: np.random.Generator, sigma: float = 0.1) -> np.ndarray:
    """n points `(n, 2)` of the moons."""
    _check(sigma)
    t, second = rng.uniform(0.0, np.pi, n), rng.integers(2, size=n)[:, None]
    first = np.stack([np.cos(t), np.sin(t)], axis=-1)
    return np.where(second == 1, np.array(CENTRE) - first, first) + sigma * rng.standard_normal((n, 2))


__all__ = ["moons_log_prob", "rings_log_prob", "sample_moons", "sample_rings"]
