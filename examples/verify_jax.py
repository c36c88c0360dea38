"""Verify a flow written by hand in JAX, and one with a line wrong: `python verify_jax.py`.

Two affine coupling layers and a linear one, as two functions of JAX arrays. The kit runs them in float64 and in
float32, whatever `jax_enable_x64` is set to, and compares the log-determinant with JAX's own Jacobian. The second
version leaves the linear layer out of the log-determinant of the inverse: no round trip can see that.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import refflow

D, HIDDEN = 4, 16


def parameters(seed=0):
    """Two conditioners of one hidden layer, and a linear map near the identity."""
    draw = np.random.default_rng(seed).standard_normal
    nets = [(draw((D // 2, HIDDEN)), 0.3 * draw((HIDDEN, D))) for _ in range(2)]
    return {"nets": nets, "matrix": np.eye(D) + 0.2 * draw((D, D))}


def conditioner(net, a):
    shift, log_scale = jnp.split(jnp.tanh(a @ net[0]) @ net[1], 2, axis=-1)
    return shift, jnp.tanh(log_scale)


def log_det_of_matrix(p, like):
    return jnp.linalg.slogdet(p["matrix"].astype(like.dtype))[1]


def forward(p, x):
    """Coupling, halves exchanged, coupling, matrix."""
    log_det = jnp.zeros_like(x[:, 0])
    for net in p["nets"]:
        a, b = jnp.split(x, 2, axis=-1)
        shift, log_scale = conditioner(net, a)
        x = jnp.concatenate([b * jnp.exp(log_scale) + shift, a], axis=-1)
        log_det += log_scale.sum(axis=-1)
    return x @ p["matrix"].T, log_det + log_det_of_matrix(p, x)


def inverse(p, y, wrong=False):
    x = jnp.linalg.solve(p["matrix"].astype(y.dtype), y.T).T
    log_det = jnp.zeros_like(y[:, 0]) - (0.0 if wrong else log_det_of_matrix(p, y))
    for net in reversed(p["nets"]):
        b, a = jnp.split(x, 2, axis=-1)
        shift, log_scale = conditioner(net, a)
        x = jnp.concatenate([a, (b - shift) * jnp.exp(-log_scale)], axis=-1)
        log_det -= log_scale.sum(axis=-1)
    return x, log_det


if __name__ == "__main__":
    p = jax.tree_util.tree_map(partial(jnp.asarray, dtype=jnp.float32), parameters())
    for name, wrong in (("the flow", False), ("the flow with a line wrong", True)):
        report = refflow.verify(
            forward=jax.jit(partial(forward, p)), inverse=partial(inverse, p, wrong=wrong), event_shape=(D,), name=name
        )
        print(report, end="\n\n")
        assert report.ok is not wrong
