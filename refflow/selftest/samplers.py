"""Faults of samplers: the draws, their densities, their contexts, and what sampling does to the flow."""

import math
from typing import Any

import numpy as np

from refflow.selftest.densities import LogDetSubtracted, NoConstant
from refflow.selftest.flows import CONDITIONAL, DENSITY, PLANE, SPACE, Flow
from refflow.selftest.layers import ActNorm, Array, Pair

# Draws.


@SPACE.fault("samples at temperature 0.9", "SA SN", part="flow")
class Temperature(Flow):
    """The setting for pretty pictures."""

    def draw(self, n: int, seed: int) -> Array:
        return 0.9 * super().draw(n, seed)


@SPACE.fault("base's samples cut off at 2", "SA SN", part="flow")
class Truncated(Flow):
    """The truncation trick of image models."""

    def draw(self, n: int, seed: int) -> Array:
        return np.clip(super().draw(n, seed), -2.0, 2.0)


@SPACE.fault("base's samples uniform", "SA SN", part="flow")
class UniformDraws(Flow):
    """rand for randn, made to have mean 0 and variance 1."""

    def draw(self, n: int, seed: int) -> Array:
        return math.sqrt(12.0) * (np.random.default_rng(seed).random((n, self.size)) - 0.5)


@SPACE.fault("one number for all coordinates of a sample", "SA", part="flow")
class SharedNoise(Flow):
    """Noise of shape (n, 1), broadcast: every marginal is right."""

    def draw(self, n: int, seed: int) -> Array:
        return np.broadcast_to(super().draw(n, seed)[:, :1], (n, self.size))


@SPACE.fault("every sample twice", "SA", part="flow")
class Repeated(Flow):
    """Two workers with one seed: every marginal is right, and half of the draws are copies."""

    def draw(self, n: int, seed: int) -> Array:
        return np.concatenate([super().draw((n + 1) // 2, seed)] * 2)[:n]


@PLANE.fault("samples through the inverse", "SA SN", part="flow")
class ThroughInverse(Flow):
    """f and its inverse exchanged in sample() only."""

    def sample(self, n: int, seed: int, c: Array | None = None) -> Array:
        return self.chain.inverse(self.draw(n, seed), self.rows(n, c))[0]


@SPACE.fault("seed ignored: the same samples always", "SA", part="flow")
class FixedSeed(Flow):
    """A generator made from a constant left from debugging."""

    def draw(self, n: int, seed: int) -> Array:
        return super().draw(n, 0)


@SPACE.fault("seed ignored: other samples every time", "SA DE", part="flow")
class NoSeed(Flow):
    """Draws from a global generator."""

    def draw(self, n: int, seed: int) -> Array:
        return np.random.default_rng().standard_normal((n, self.size))


@SPACE.fault("one sample short", "SH SA", part="flow")
class OneShort(Flow):
    """n // 2 pairs, for an odd n."""

    def draw(self, n: int, seed: int) -> Array:
        return super().draw(n // 2 * 2, seed)


# Samples with their density.


@SPACE.fault("a sample's density without its log-det", "LP", part="flow")
class BaseDensity(Flow):
    """log N(z) is returned."""

    def sample_and_log_prob(self, n: int, seed: int, c: Array | None = None) -> Pair:
        x, _ = super().sample_and_log_prob(n, seed, c)
        return x, self.base_log_prob(self.draw(n, seed))


@SPACE.fault("a sample's density with forward's log-det added", "LP", part="flow")
class LogDetAdded(Flow):
    """+ for -."""

    def sample_and_log_prob(self, n: int, seed: int, c: Array | None = None) -> Pair:
        x, log_p = super().sample_and_log_prob(n, seed, c)
        return x, 2.0 * self.base_log_prob(self.draw(n, seed)) - log_p


@SPACE.fault("samples and densities in different orders", "LP", part="flow")
class OutOfStep(Flow):
    """Sorted by density, but only one of the two."""

    def sample_and_log_prob(self, n: int, seed: int, c: Array | None = None) -> Pair:
        x, log_p = super().sample_and_log_prob(n, seed, c)
        return x, np.sort(log_p)


@SPACE.fault("densities of another draw", "LP", part="flow")
class DrawnTwice(Flow):
    """sample() and log_prob of a second sample()."""

    def sample_and_log_prob(self, n: int, seed: int, c: Array | None = None) -> Pair:
        return self.sample(n, seed, c), super().sample_and_log_prob(n, seed + 1, c)[1]


# Context.


@CONDITIONAL.fault("context ignored by sample", "CX SA", part="flow")
class SamplesWithoutContext(Flow):
    """Samples are of the average context."""

    def sample(self, n: int, seed: int, c: Array | None = None) -> Array:
        return super().sample(n, seed, None if c is None else 0.0 * c)


@CONDITIONAL.fault("samples of the first context", "CX SA", part="flow")
class FirstContext(Flow):
    """One context drawn n times, where each row has its own."""

    def rows(self, n: int, c: Array | None) -> Array | None:
        return super().rows(n, None if c is None else c[:1])


@CONDITIONAL.fault("samples of the next row's context", "CX SA LP", part="flow")
class ContextsTiled(Flow):
    """repeat in one place, tile in the other."""

    def rows(self, n: int, c: Array | None) -> Array | None:
        return super().rows(n, None if c is None else np.roll(c, 1, axis=0))


# What sampling does to the density.


@SPACE.fault("the first sample() initialises ActNorm", "ME LP", part="flow")
class SampleInitialises(Flow):
    """Data-dependent initialisation by whatever comes first: here, noise."""

    ready = False

    def sample(self, n: int, seed: int, c: Array | None = None) -> Array:
        if not self.ready:
            norm = self.chain.layers[-1]
            norm.parameters["b"] = norm.parameters["b"] - np.mean(super().sample(n, seed, c), axis=0)
            self.ready = True
        return super().sample(n, seed, c)


@SPACE.fault("sample() leaves the flow in training mode", "ME LP DE", part="flow")
class TrainingMode(Flow):
    """From then on log_prob adds the noise of dequantisation."""

    training = False

    def sample(self, n: int, seed: int, c: Array | None = None) -> Array:
        self.training = True
        return super().sample(n, seed, c)

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        noise = np.random.default_rng().random(x.shape).astype(x.real.dtype) / 256.0
        return super().log_prob(x + noise if self.training else x, c)


@SPACE.fault("a parameter change that log_prob does not see", "ME LP", part="actnorm")
class StaleScale(ActNorm):
    """exp(a) is cached by the inverse."""

    cached: Any = None

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        if self.cached is None:
            self.cached = dict(self.parameters)
        kept, self.parameters = self.parameters, self.cached
        found = super().inverse(y, c)
        self.parameters = kept
        return found


# Where no map is shown, only the density can judge the samples.

DENSITY.fault("samples at temperature 0.9", "SN HP", part="flow")(Temperature)
DENSITY.fault("base's samples uniform", "SN HP", part="flow")(UniformDraws)
DENSITY.fault("samples through the inverse", "SN HP", part="flow")(ThroughInverse)
DENSITY.fault("base's constant missing", "NM", part="flow")(NoConstant)
DENSITY.fault("log-det subtracted in log_prob", "NM SN HP", part="flow")(LogDetSubtracted)
