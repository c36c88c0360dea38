"""Faults seeded in the elementwise curves: each is caught by the law that should name it, the clean twin passes."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.modules import module

RNG = np.random.default_rng(11)
X = RNG.integers(-24, 25, (40, 3)) / 8.0 + 1 / 64
TAILS = np.array([0.5, -0.75, 0.5]), np.array([0.25, -1.0, 2.0])


@module
class SlopeOfTheWrongBranch(refflow.LeakyReLU):
    """The log-determinant counts the right half line."""

    def forward(self, x, context=None):
        return super().forward(x, context)[0], super().forward(-x, context)[1]


@module
class SlopeNotInverted(refflow.LeakyReLU):
    """The inverse multiplies by the slope."""

    def inverse(self, y, context=None):
        _, log_det = super().inverse(y, context)
        return xp.where(xp.greater_equal(y, 0.0), y, xp.constant(self.slope, y) * y), log_det


@module
class SoftplusWithExpsSlope(refflow.Softplus):
    """exp's log-determinant, in both directions: antisymmetric, and wrong."""

    def forward(self, x, context=None):
        return super().forward(x, context)[0], xp.sum(x, axis=-1)

    def inverse(self, y, context=None):
        x, _ = super().inverse(y, context)
        return x, -xp.sum(x, axis=-1)


@module
class NaiveSoftplusInverse(refflow.Softplus):
    """Nudged to stay finite: log(e^y - 1 + 1e-6)."""

    def inverse(self, y, context=None):
        _, log_det = super().inverse(y, context)
        return xp.log(xp.exp(y) - 1.0 + 1e-6), log_det


@module
class ClampedTanh(refflow.Tanh):
    """The inverse clips to +-0.99, so that nothing is ever infinite."""

    def inverse(self, y, context=None):
        return super().inverse(xp.clip(y, -0.99, 0.99), context)


@module
class TanhSlopeOnce(refflow.Tanh):
    """log cosh counted once, not twice."""

    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, 0.5 * log_det

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, 0.5 * log_det


@module
class ExpShifted(refflow.Exp):
    """e^x + 1e-6 forward only."""

    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y + 1e-6, log_det


@module
class TailForgotten(refflow.SinhArcsinh):
    """The log-determinant without sum_i a_i, both ways."""

    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return y, log_det - xp.sum(self.log_tail)

    def inverse(self, y, context=None):
        x, log_det = super().inverse(y, context)
        return x, log_det + xp.sum(self.log_tail)


@module
class SkewOnTheWrongSide(refflow.SinhArcsinh):
    """The inverse subtracts the skew before it divides by the tail."""

    def inverse(self, y, context=None):
        v = xp.exp(-self.log_tail) * (xp.asinh(y) - self.skew)
        return 0.5 * (xp.exp(v) - xp.exp(-v)), super().inverse(y, context)[1]


@module
class SaturatingTails(refflow.SinhArcsinh):
    """Not onto: values beyond 50 fade into +-50."""

    def forward(self, x, context=None):
        y, log_det = super().forward(x, context)
        return 50.0 * xp.tanh(y / 50.0), log_det


FAULTS = {
    "slope of the wrong branch": (laws.log_det_complex_step, SlopeOfTheWrongBranch(0.25), refflow.LeakyReLU(0.25)),
    "slope not inverted": (laws.round_trip, SlopeNotInverted(0.25), refflow.LeakyReLU(0.25)),
    "softplus with exp's slope": (laws.log_det_complex_step, SoftplusWithExpsSlope(), refflow.Softplus()),
    "softplus inverse with a nudge": (laws.round_trip, NaiveSoftplusInverse(), refflow.Softplus()),
    "tanh with a clamped inverse": (laws.round_trip, ClampedTanh(), refflow.Tanh()),
    "tanh's slope counted once": (laws.log_det_complex_step, TanhSlopeOnce(), refflow.Tanh()),
    "exp plus 1e-6 forward": (laws.round_trip, ExpShifted(), refflow.Exp()),
    "tail not in the log-determinant": (
        laws.log_det_complex_step, TailForgotten(*TAILS), refflow.SinhArcsinh(*TAILS)
    ),
    "skew on the wrong side of the tail": (laws.round_trip, SkewOnTheWrongSide(*TAILS), refflow.SinhArcsinh(*TAILS)),
    "tails that saturate": (laws.onto, SaturatingTails(*TAILS), refflow.SinhArcsinh(*TAILS)),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", FAULTS)


@EACH
def test_the_law_catches_the_fault(name):
    law, broken, _ = FAULTS[name]
    with pytest.raises(laws.LawViolation) as caught:
        law(broken, X)
    assert caught.value.law == law.__name__


@EACH
def test_the_law_passes_the_clean_twin(name):
    law, _, clean = FAULTS[name]
    assert law(clean, X).status == "pass"
