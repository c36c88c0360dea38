"""Faults of affine couplings: the log-determinant, the inverse, the network and what it sees.

The sound subject is coupling, permutation, ActNorm, LU, coupling, on four coordinates with two of context.
"""

from typing import Any

import numpy as np

from refflow.selftest.layers import (
    LU,
    ActNorm,
    Array,
    Chain,
    Coupling,
    Pair,
    Permutation,
    keywords,
    rounded,
)
from refflow.selftest.subjects import Keywords, Recipe

ROWS = 128
"""How many rows of context a conditional subject brings."""


def chain(scale: float, seed: int, **parts: Any) -> Keywords:
    """The conditional affine chain; `coupling` replaces both couplings, `second` the last one."""
    rng = np.random.default_rng([seed, 1])
    coupling = parts.get("coupling", Coupling)
    layers = [
        coupling(rng, (True, False, True, False), scale, contexts=2),
        parts.get("permutation", Permutation)((2, 0, 3, 1)),
        parts.get("actnorm", ActNorm)(rng, 4, scale),
        parts.get("lu", LU)(rng, 4, scale),
        parts.get("second", coupling)(rng, (False, True, True, False), scale, contexts=2),
    ]
    return keywords(parts.get("chain", Chain)(layers), (4,), context=rng.standard_normal((ROWS, 2)))


def unconditional(scale: float, seed: int, **parts: Any) -> Keywords:
    """One coupling alone, with its structure."""
    rng = np.random.default_rng([seed, 2])
    mask = np.array([True, False, True, False])
    coupling = parts.get("coupling", Coupling)(rng, mask, scale)
    structure = np.eye(4, dtype=bool) | (~mask[:, None] & mask[None, :])
    return keywords(parts.get("chain", Chain)([coupling]), (4,), structure=structure)


def one_way(scale: float, seed: int, **parts: Any) -> Keywords:
    """One coupling without its inverse."""
    shown = ("forward", "event_shape", "structure", "parameters", "set_parameters")
    return {name: value for name, value in unconditional(scale, seed, **parts).items() if name in shown}


CHAIN = Recipe("affine chain", "coupling", chain)
COUPLING = Recipe("affine coupling", "coupling", unconditional)
ONE_WAY = Recipe("affine coupling without an inverse", "coupling", one_way)


class Restated(Coupling):
    """Both directions from one statement of scale, shift and log-determinant: what a fault in both shares."""

    def log_det(self, s: Array) -> Array:
        return np.sum(s, axis=-1)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x, c)[0], self.log_det(self.scale_and_shift(x[..., self.a], c)[0])

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], -self.log_det(self.scale_and_shift(y[..., self.a], c)[0])


# The log-determinant.


@CHAIN.fault("log-det with forward's sign in the inverse", "LD2 LD3", part="coupling")
class SignKept(Coupling):
    """The port returns the same number in both directions."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, -log_det


@CHAIN.fault("log-det with both signs flipped", "LD1 LD2", part="coupling")
class SignsFlipped(Restated):
    """Density and sampling directions are named the other way round in the library ported to."""

    def log_det(self, s: Array) -> Array:
        return -np.sum(s, axis=-1)


@CHAIN.fault("log-det averaged over coordinates", "LD1 LD2", part="coupling")
class Averaged(Restated):
    """reduce_mean for reduce_sum."""

    def log_det(self, s: Array) -> Array:
        return np.mean(s, axis=-1)


@COUPLING.fault("log-det summed over the batch", "LD1 BI", part="coupling")
class SummedOverBatch(Restated):
    """TensorFlow's reduce_sum without an axis, broadcast back to the rows."""

    def log_det(self, s: Array) -> Array:
        return np.full(s.shape[:-1], np.sum(s), dtype=s.dtype)


@CHAIN.fault("log-det doubled", "LD1 LD2", part="coupling")
class Doubled(Restated):
    """The term is added in the layer and again by the chain."""

    def log_det(self, s: Array) -> Array:
        return 2.0 * np.sum(s, axis=-1)


@CHAIN.fault("log-det divided by D", "LD1 LD2", part="coupling")
class PerDimension(Restated):
    """Bits per dimension, computed one level too deep."""

    def log_det(self, s: Array) -> Array:
        return np.sum(s, axis=-1) / 4.0


@CHAIN.fault("log-det in base 2", "LD1 LD2", part="coupling")
class Bits(Restated):
    """log2 for log, as where bits per dimension are reported."""

    def log_det(self, s: Array) -> Array:
        return np.sum(s, axis=-1) / np.log(2.0).astype(s.real.dtype)


@CHAIN.fault("one coordinate missing from the log-det", "LD1 LD2", part="coupling")
class OneShort(Restated):
    """A slice that ends one too early."""

    def log_det(self, s: Array) -> Array:
        return np.sum(s[..., :-1], axis=-1)


@CHAIN.fault("log-det of |s|", "LD1 LD2", part="coupling")
class Absolute(Restated):
    """log|det| read as |log det|."""

    def log_det(self, s: Array) -> Array:
        return np.sum(np.where(s.real < 0.0, -s, s), axis=-1)


@CHAIN.fault("log-det off by one in a million", "LD1 LD2", part="coupling")
class Stabilised(Restated):
    """log(scale + 1e-6), "for stability", in the log-determinant only."""

    def log_det(self, s: Array) -> Array:
        return np.sum(np.log(np.exp(s) + 1e-6), axis=-1)


@CHAIN.fault("log-det of the unbounded scale", "LD1 LD2", part="coupling")
class Unbounded(Restated):
    """The map bounds s with tanh; the log-determinant takes it as the network gave it."""

    def log_det(self, s: Array) -> Array:
        return np.sum(np.arctanh(s / 1.5), axis=-1)


@COUPLING.fault("log-det without the coordinates that are 0", "ED LD1 LD3", part="coupling")
class Padding(Coupling):
    """Zero taken to mean padding, as in a port from a model of sequences: wrong only at exactly 0."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, _ = self.scale_and_shift(x[..., self.a], c)
        return super().forward(x, c)[0], np.sum(np.where(x[..., self.b] == 0.0, 0.0 * s, s), axis=-1)


@COUPLING.fault("log-det summed in float32", "PR LD1", part="coupling")
class SingleSum(Restated):
    """An accumulator of the default dtype."""

    def log_det(self, s: Array) -> Array:
        return rounded(np.sum(s, axis=-1))


# The same where there is no inverse to compare with: the Jacobian has to tell.

ONE_WAY.fault("log-det with its sign flipped", "LD1", part="coupling")(SignsFlipped)
ONE_WAY.fault("log-det averaged over coordinates", "LD1", part="coupling")(Averaged)
ONE_WAY.fault("log-det off by one in a million", "LD1", part="coupling")(Stabilised)
