"""The workloads that speed is measured on, and the same mathematics by hand in other libraries.

**W1** RealNVP on the plane: 8 affine couplings, tanh networks of two layers of 64, batches of 512. **W2** the digits'
shape: 64 dimensions, 8 couplings, two layers of 128, batches of 256. **W4** log p of 100,000 rows with W2's model. All
float32. The functions by hand are what someone who knows the library writes for this one model, and nothing else.
"""

import math
from dataclasses import dataclass

import numpy as np

import refflow
from refflow import arrays as xp


@dataclass(frozen=True)
class Workload:
    """A RealNVP and how many rows it is asked for."""

    name: str
    dim: int
    hidden: tuple[int, ...]
    rows: int
    layers: int = 8
    dtype: str = "float32"

    def flow(self) -> refflow.Flow:
        """The flow, with every weight drawn, so that no coupling is the identity."""
        flow = refflow.realnvp(
            self.dim, layers=self.layers, hidden=self.hidden, activation="tanh", seed=0, dtype=self.dtype
        )
        rng = np.random.default_rng(0)
        tree = xp.tree_map(lambda a: (0.1 * rng.standard_normal(a.shape)).astype(a.dtype), refflow.parameters(flow))
        return refflow.bind(flow, tree)

    def data(self) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((self.rows, self.dim)).astype(self.dtype)

    def seconds_factor(self) -> float:
        """More time for workloads whose calls are longer."""
        return max(1.0, self.rows / 10_000)


W1 = Workload("W1", 2, (64, 64), 512)
W2 = Workload("W2", 64, (128, 128), 256)
W4 = Workload("W4", 64, (128, 128), 100_000)
WORKLOADS = {w.name: w for w in (W1, W2, W4)}


def weights(flow: refflow.Flow) -> list[list[tuple]]:
    """For every coupling the (weight, bias) of each linear layer."""
    return [[(h.weight, h.bias) for h in f.conditioner.layers] for f in flow.bijection.bijections]


BOUND = 2.0
"""Of realnvp's log-scales."""


def torch_log_prob(couplings: list, x):
    """log p(x) by hand in PyTorch."""
    import torch

    half, log_det = x.shape[-1] // 2, 0.0
    for k, layers in enumerate(couplings):
        first, last = x[:, :half], x[:, half:]
        kept, moved = (first, last) if k % 2 == 0 else (last, first)
        h = kept
        for weight, bias in layers[:-1]:
            h = torch.tanh(torch.addmm(bias, h, weight))
        a, t = torch.addmm(layers[-1][1], h, layers[-1][0]).chunk(2, dim=-1)
        s = BOUND * torch.tanh(a / BOUND)
        moved = torch.exp(s) * moved + t
        x = torch.cat((kept, moved) if k % 2 == 0 else (moved, kept), dim=-1)
        log_det = log_det + s.sum(dim=-1)
    return -0.5 * (x * x).sum(dim=-1) - 0.5 * x.shape[-1] * math.log(2.0 * math.pi) + log_det


def jax_log_prob(couplings: list, x):
    """log p(x) by hand in JAX."""
    import jax.numpy as jnp

    half, log_det = x.shape[-1] // 2, 0.0
    for k, layers in enumerate(couplings):
        first, last = x[:, :half], x[:, half:]
        kept, moved = (first, last) if k % 2 == 0 else (last, first)
        h = kept
        for weight, bias in layers[:-1]:
            h = jnp.tanh(h @ weight + bias)
        a, t = jnp.split(h @ layers[-1][0] + layers[-1][1], 2, axis=-1)
        s = BOUND * jnp.tanh(a / BOUND)
        moved = jnp.exp(s) * moved + t
        x = jnp.concatenate((kept, moved) if k % 2 == 0 else (moved, kept), axis=-1)
        log_det = log_det + s.sum(axis=-1)
    return -0.5 * (x * x).sum(axis=-1) - 0.5 * x.shape[-1] * math.log(2.0 * math.pi) + log_det
