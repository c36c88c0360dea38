"""Faults seeded in the bases: a constant, a scale, a sampler; each is caught by the law of densities that names it."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.distributions.factors import color
from refflow.modules import module

X = np.array([[0.25, 0.5], [-0.5, 0.125], [0.75, -0.25]])
FULL = (np.array([0.5, -1.0]), np.array([0.25, -0.5]), np.array([1.5]))
STUDENT = (3.0, np.array([0.5, -1.0]), np.array([0.25, -0.5]))
BOX = ((-1.0, 0.0), (1.0, 3.0))
MIXTURE = (
    np.array([0.0, 2.0]),
    np.array([[-2.0, 0.0], [2.0, 1.0]]),
    np.array([[0.0, -0.5], [0.25, 0.0]]),
    np.ones((2, 1)),
)


@module
class DiagonalNotCounted(refflow.FullNormal):
    """log p without sum_i a_i."""

    def log_prob(self, z):
        return super().log_prob(z) + xp.sum(self.log_diagonal)


@module
class SamplesTransposed(refflow.FullNormal):
    """m + L^T e: the right variances in another order."""

    def sample(self, batch_shape, rng, like):
        e = xp.flip(rng.standard_normal((*batch_shape, 2)), -1)
        return self.mean + xp.flip(color(e, xp.flip(self.log_diagonal, -1), self.lower), -1)


@module
class NormalsConstant(refflow.StudentT):
    """The normal density's constant, -D/2 log(2 pi)."""

    def log_prob(self, z):
        own = xp.log_gamma_step(self.df / 2, z) - 0.5 * np.log(np.pi * self.df)
        return super().log_prob(z) - 2 * (own + 0.5 * np.log(2 * np.pi))


@module
class NormalSamples(refflow.StudentT):
    """Draws with light tails."""

    def sample(self, batch_shape, rng, like):
        return self.loc + xp.exp(self.log_scale) * rng.standard_normal((*batch_shape, 2))


@module
class VolumeOfOneSide(refflow.Uniform):
    """log p without the last side's length."""

    def log_prob(self, z):
        return super().log_prob(z) + np.log(self.high[-1] - self.low[-1])


@module
class UnitSamples(refflow.Uniform):
    """Draws from half of the box."""

    def sample(self, batch_shape, rng, like):
        low, high = np.array(self.low), np.array(self.high)
        return low + (high - low) * rng.random((*batch_shape, 2)) ** 2


@module
class WeightsNotNormalised(refflow.MixtureOfNormals):
    """logits taken for log-weights."""

    def log_prob(self, z):
        return super().log_prob(z) + xp.logsumexp(self.logits)


@module
class EvenWeights(refflow.MixtureOfNormals):
    """Components drawn with equal probability."""

    def _one_hot(self, batch_shape, rng):
        return np.eye(2)[rng.integers(2, size=batch_shape)]


FAULTS = {
    "full normal, diagonal not counted": (laws.normalisation, DiagonalNotCounted(*FULL), refflow.FullNormal(*FULL)),
    "full normal, factor transposed in samples": (
        laws.samples_follow_density, SamplesTransposed(*FULL), refflow.FullNormal(*FULL)
    ),
    "student with the normal's constant": (laws.normalisation, NormalsConstant(*STUDENT), refflow.StudentT(*STUDENT)),
    "student with normal samples": (
        laws.samples_follow_density, NormalSamples(*STUDENT), refflow.StudentT(*STUDENT)
    ),
    "box with one side": (laws.normalisation, VolumeOfOneSide(*BOX), refflow.Uniform(*BOX)),
    "box with squared draws": (laws.samples_follow_density, UnitSamples(*BOX), refflow.Uniform(*BOX)),
    "mixture, weights not normalised": (
        laws.normalisation, WeightsNotNormalised(*MIXTURE), refflow.MixtureOfNormals(*MIXTURE)
    ),
    "mixture, even weights": (
        laws.samples_follow_density, EvenWeights(*MIXTURE), refflow.MixtureOfNormals(*MIXTURE)
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", FAULTS)


def flow(base):
    """On the box as the line seen through a sigmoid, so that the density is smooth; else a reversal."""
    if not isinstance(base, refflow.Uniform):
        return refflow.Flow(base, refflow.Reverse())
    scale, low = np.log(np.array(base.high) - np.array(base.low)), np.array(base.low)
    return refflow.Flow(base, refflow.Chain((refflow.Sigmoid(), refflow.ElementwiseAffine(scale, low))))


@EACH
def test_the_law_catches_the_fault(name):
    law, broken, _ = FAULTS[name]
    with pytest.raises(laws.LawViolation) as caught:
        law(flow(broken), X)
    assert caught.value.law == law.__name__


@EACH
def test_the_law_passes_the_clean_twin(name):
    law, _, clean = FAULTS[name]
    assert law(flow(clean), X).status == "pass"
