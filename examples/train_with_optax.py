"""A flow that JAX compiles, differentiates and optax trains, passed as it is: in JAX a flow is a pytree. Needs optax.

The data are orbits seen once: distance and angle of a planet on an eccentric ellipse, with noise, in the plane.
"""

import jax
import numpy as np
import optax

import refflow
from refflow.baselines import gaussian


def orbit(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, n)
    distance = (1.0 - 0.5**2) / (1.0 + 0.5 * np.cos(angle)) + 0.05 * rng.standard_normal(n)
    return (distance * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)


x, fresh = orbit(2000, seed=0), orbit(2000, seed=1)
flow = refflow.realnvp(2, layers=8, hidden=(32, 32), preprocessing=[refflow.standardize(x)], seed=0, dtype="float32")

flow = flow.to("jax")  # the same flow; its arrays are JAX's, and its trainable ones are the leaves
optimizer = optax.adam(5e-3)
state = optimizer.init(flow)


@jax.jit
def train(flow: refflow.Flow, state: optax.OptState, batch: jax.Array) -> tuple:
    loss, gradient = jax.value_and_grad(lambda flow: -flow.log_prob(batch).mean())(flow)  # a flow of gradients
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(flow, updates), state, loss


rng = np.random.default_rng(0)
for step in range(800):
    flow, state, loss = train(flow, state, jax.numpy.asarray(x[rng.integers(len(x), size=256)]))
    if step % 200 == 0:
        print(f"step {step}: {loss:.3f} nats")

reached, floor = flow.to("numpy").log_prob(fresh).mean(), gaussian(x).log_prob(fresh).mean()
print(f"fresh points: {reached:.3f} nats, a Gaussian {floor:.3f}")
assert reached > floor + 0.3
