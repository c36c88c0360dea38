"""Whole flows with a normal base: density, samples, both together, with and without a context; and their faults."""

import math
from typing import Any

import numpy as np

from refflow.selftest.layers import LU, ActNorm, Array, Chain, Coupling, Layer, Pair, Permutation, keywords
from refflow.selftest.splines import ElementwiseSpline
from refflow.selftest.subjects import Keywords, Recipe


class Flow:
    """x = f(z), z normal: log p(x) = log N(f^-1(x)) + log|det df^-1/dx|."""

    temperature = 1.0

    def __init__(self, chain: Chain, size: int) -> None:
        self.chain, self.size = chain, size

    def base_log_prob(self, z: Array) -> Array:
        return -0.5 * np.sum(z * z, axis=-1) - 0.5 * self.size * math.log(2.0 * math.pi)

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        z, log_det = self.chain.inverse(x, c)
        return self.base_log_prob(z) + log_det

    def draw(self, n: int, seed: int) -> Array:
        """n draws of z."""
        return np.random.default_rng(seed).standard_normal((n, self.size))

    def rows(self, n: int, c: Array | None) -> Array | None:
        """One context for each of n samples."""
        return None if c is None else np.broadcast_to(c, (n, c.shape[-1]))

    def sample(self, n: int, seed: int, c: Array | None = None) -> Array:
        return self.chain.forward(self.draw(n, seed), self.rows(n, c))[0]

    def sample_and_log_prob(self, n: int, seed: int, c: Array | None = None) -> Pair:
        z = self.draw(n, seed)
        x, log_det = self.chain.forward(z, self.rows(n, c))
        return x, self.base_log_prob(z) - log_det


def whole(flow: Flow, context: Array | None = None) -> Keywords:
    """A flow as the keyword arguments of `refflow.verify`."""
    more = {
        "log_prob": flow.log_prob,
        "sample": flow.sample,
        "sample_and_log_prob": flow.sample_and_log_prob,
        "base_log_prob": flow.base_log_prob,
    }
    return keywords(flow.chain, (flow.size,), context=context, **more)


def line(scale: float, seed: int, **parts: Any) -> Keywords:
    """D = 1: a spline and an affine map."""
    rng = np.random.default_rng([seed, 10])
    layers: list[Layer] = [ElementwiseSpline(rng, 1, scale), ActNorm(rng, 1, scale)]
    return whole(parts.get("flow", Flow)(Chain(layers), 1))


def plane(scale: float, seed: int, **parts: Any) -> Keywords:
    """D = 2: two couplings with a swap between them, and an affine map."""
    rng = np.random.default_rng([seed, 11])
    layers: list[Layer] = [
        Coupling(rng, (True, False), scale),
        Permutation((1, 0)),
        Coupling(rng, (True, False), scale),
        parts.get("actnorm", ActNorm)(rng, 2, scale),
    ]
    return whole(parts.get("flow", Flow)(parts.get("chain", Chain)(layers), 2))


def space(scale: float, seed: int, **parts: Any) -> Keywords:
    """D = 5: coupling, LU, coupling, ActNorm."""
    rng = np.random.default_rng([seed, 12])
    mask = (True, False, True, False, True)
    layers: list[Layer] = [
        Coupling(rng, mask, scale),
        LU(rng, 5, scale),
        Coupling(rng, mask, scale),
        parts.get("actnorm", ActNorm)(rng, 5, scale),
    ]
    return whole(parts.get("flow", Flow)(parts.get("chain", Chain)(layers), 5))


def conditional(scale: float, seed: int, **parts: Any) -> Keywords:
    """D = 2 with two coordinates of context."""
    rng = np.random.default_rng([seed, 13])
    layers: list[Layer] = [
        Coupling(rng, (True, False), scale, contexts=2),
        Coupling(rng, (False, True), scale, contexts=2),
    ]
    return whole(parts.get("flow", Flow)(Chain(layers), 2), context=rng.standard_normal((128, 2)))


def scored(scale: float, seed: int, **parts: Any) -> Keywords:
    """Density and sampler alone, as of an object that shows no map; D = 2."""
    shown = ("log_prob", "sample", "event_shape", "parameters", "set_parameters")
    return {name: value for name, value in plane(scale, seed, **parts).items() if name in shown}


LINE = Recipe("flow on the line", "flow", line)
PLANE = Recipe("flow on the plane", "flow", plane)
SPACE = Recipe("flow in five dimensions", "flow", space)
CONDITIONAL = Recipe("conditional flow", "flow", conditional)
DENSITY = Recipe("density and sampler alone", "flow", scored)
