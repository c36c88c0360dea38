"""Faults of flows: the base, the density, the sampler, and what one does to the other."""

import math

import numpy as np

from refflow.selftest.flows import CONDITIONAL, LINE, PLANE, SPACE, Flow
from refflow.selftest.layers import Array, Chain, Pair, rounded

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


@SPACE.fault("log_prob from weights averaged in training, map from the last ones", "LP", part="flow")
class AveragedWeights(Flow):
    """An exponential moving average is used for scores only."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        z, log_det = self.chain.inverse(x, c)
        return self.base_log_prob(1.001 * z) + log_det


@PLANE.fault("log-det dropped by the chain in both directions", "LD1 NM", part="chain")
class NoVolume(Chain):
    """A volume-preserving claim: log-determinants are zeros, and the density does not integrate to 1."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, 0.0 * log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, 0.0 * log_det


@CONDITIONAL.fault("context ignored in log_prob", "LP CX", part="flow")
class DensityWithoutContext(Flow):
    """The argument has a default, and it is used."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, None if c is None else 0.0 * c)


@CONDITIONAL.fault("log_prob with the contexts in reverse", "LP CX BI", part="flow")
class ContextsReversed(Flow):
    """Rows sorted by length, as for sequences, and contexts left as they were."""

    def log_prob(self, x: Array, c: Array | None = None) -> Array:
        return super().log_prob(x, None if c is None else c[::-1])
