"""Fit a flow to two interleaved moons and draw its density: `two_dimensions.png`."""

import numpy as np

import refflow
from refflow.pictures import density_2d


def moons(n: int, seed: int) -> np.ndarray:
    """Points on two half circles, with normal noise of standard deviation 0.1."""
    rng = np.random.default_rng(seed)
    angle, upper = rng.uniform(0.0, np.pi, n), rng.random(n) < 0.5
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([x, y], axis=-1) + 0.1 * rng.standard_normal((n, 2))


x, fresh = moons(2000, seed=0), moons(2000, seed=1)
flow = refflow.realnvp(2, layers=8, hidden=(32, 32), preprocessing=[refflow.standardize(x)], seed=0, dtype="float32")
flow, history = refflow.fit(flow, x, epochs=60, learning_rate=5e-3)

score = refflow.score(flow, fresh)
covariance = np.cov(x.T)
gaussian = -0.5 * np.linalg.slogdet(covariance)[1] - np.log(2.0 * np.pi) - 1.0
print(f"fresh points: {score.mean:.3f} +- {score.standard_error:.3f} nats (a Gaussian reaches about {gaussian:.3f})")
print("drew", density_2d(flow.log_prob, x, "two_dimensions.png", "two moons"))
assert score.mean > gaussian + 0.5
