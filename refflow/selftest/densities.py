"""Faults of flows: the base, the density, the sampler, and what one does to the other."""

import math
from typing import Any

import numpy as np

from refflow.selftest.flows import CONDITIONAL, LINE, PLANE, SPACE, Flow
from refflow.selftest.layers import ActNorm, Array, Chain, Pair, rounded

# The density.


@PLANE.fault("base's constant missing", "NM LP", part="flow")
class NoConstant(Flow):
    """-z^2 / 2 and no log(2 pi): a loss, which trains as well, taken for a density."""

    def base_log_prob(self, z: Array) -> Array:
        return -0.5 * np.sum(z * z, axis=-1)


@PLANE.fault("base's constant counted once, not D times", "NM LP", part="flow")
class ConstantOnce(Flow):
    """The normal density of one coordinate, after the sum."""

    def base_log_prob(self, z: Array) -> Array:
        return -0.5 * np.sum(z * z, axis=-1) - 0.5 * math.log(2.0 * math.pi)


@LINE.fault("base's constant log 2 pi, not its half", "NM LP", part="flow")
class ConstantDoubled(Flow):
    """A factor 1/2 that belongs to both terms."""

    def base_log_prob(self, z: Array) -> Array:
        return -0.5 * np.sum(z * z, axis=-1) - math.log(2.0 * math.pi)


@SPACE.fault("log-det subtracted in log_prob", "LP", part="flow")
class LogDetSubtracted(Flow):
    """The formula for the other direction."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        z, log_det = self.chain.inverse(x, c)
        return self.base_log_prob(z) - log_det


@PLANE.fault("log_prob through forward", "LP NM", part="flow")
class ThroughForward(Flow):
    """f maps data to noise in one library, noise to data in the other."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        z, log_det = self.chain.forward(x, c)
        return self.base_log_prob(z) + log_det


@PLANE.fault("base's density of x, not of z", "LP NM", part="flow")
class DensityOfData(Flow):
    """A variable name reused."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return self.base_log_prob(x) + self.chain.inverse(x, c)[1]


@SPACE.fault("log_prob per dimension", "LP", part="flow")
class PerDimension(Flow):
    """Divided by D for the report."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, c) / self.size


@SPACE.fault("log_prob in bits", "LP", part="flow")
class InBits(Flow):
    """Divided by log 2 for the report."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, c) / math.log(2.0)


@SPACE.fault("log_prob the mean of the batch", "BI LP", part="flow")
class BatchMean(Flow):
    """The training loss, broadcast to the rows."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        found = super().log_prob(x, c)
        return np.full_like(found, np.mean(found)) if found.size else found


@SPACE.fault("log_prob floored at -40", "LP", part="flow")
class Floored(Flow):
    """A clamp against outliers in training: right where most points are."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        found = super().log_prob(x, c)
        return np.where(found.real < -40.0, -40.0, found).astype(found.dtype)


@SPACE.fault("NaN in log_prob replaced", "NF", part="flow")
class NanReplaced(Flow):
    """nan_to_num(log_p, nan=-1e4): what cannot be scored is given a score."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return np.nan_to_num(super().log_prob(x, c), nan=-1e4)


@SPACE.fault("log_prob in float32", "PR LP", part="flow")
class SingleDensity(Flow):
    """Scores stored as float32 on the way."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return rounded(super().log_prob(x, c))


@PLANE.fault("log_prob keeps a trailing axis", "SH LP", part="flow")
class DensityKeepDims(Flow):
    """keepdims in the base's sum."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, c)[..., None]


# Samples.


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


@CONDITIONAL.fault("context ignored in log_prob", "LP CX", part="flow")
class DensityWithoutContext(Flow):
    """The argument has a default, and it is used."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, None if c is None else 0.0 * c)


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


@CONDITIONAL.fault("log_prob with the contexts in reverse", "LP CX BI", part="flow")
class ContextsReversed(Flow):
    """Rows sorted by length, as for sequences, and contexts left as they were."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, None if c is None else c[::-1])


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


@SPACE.fault("log_prob from weights averaged in training, map from the last ones", "LP", part="flow")
class AveragedWeights(Flow):
    """An exponential moving average is used for scores only."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        z, log_det = self.chain.inverse(x, c)
        return self.base_log_prob(1.001 * z) + log_det


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


@PLANE.fault("log-det dropped by the chain in both directions", "LD1 NM", part="chain")
class NoVolume(Chain):
    """A volume-preserving claim: log-determinants are zeros, and the density does not integrate to 1."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, 0.0 * log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, 0.0 * log_det
