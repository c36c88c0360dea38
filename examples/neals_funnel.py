"""Neal's funnel (Neal, 2003, section 8) is exactly one affine coupling: a closed form to check any flow against.

v ~ N(0, 3^2) and x_i ~ N(0, exp(v)). From data to latent, z_v = v and z_x = exp(-v / 2) x: a coupling that keeps v and
has s = -v / 2, t = 0, on a base with standard deviation 3 in v.
"""

import numpy as np

import refflow

D = 5
network = refflow.MLP((refflow.Linear(np.array([[-0.5] * D + [0.0] * D]), np.zeros(2 * D)),))
coupling = refflow.AffineCoupling(refflow.Mask((1 + D,), tuple(range(1, 1 + D))), network, scale="exp")
base = refflow.DiagonalNormal(np.zeros(1 + D), np.log([3.0] + [1.0] * D))
funnel = refflow.Flow(base, coupling)

rng = np.random.default_rng(0)
v = rng.normal(0.0, 3.0, (1000, 1))
points = np.concatenate([v, np.exp(0.5 * v) * rng.normal(size=(1000, D))], axis=1)


def normal_log_pdf(x: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
    return -0.5 * (x / sd) ** 2 - np.log(sd) - 0.5 * np.log(2.0 * np.pi)


exact = normal_log_pdf(points[:, 0], 3.0) + normal_log_pdf(points[:, 1:], np.exp(0.5 * v)).sum(axis=1)
error = np.max(np.abs(funnel.log_prob(points) - exact) / (1.0 + np.abs(exact)))
print(f"largest relative difference from the closed form over 1000 points: {error:.1e}")
assert error < 1e-12
