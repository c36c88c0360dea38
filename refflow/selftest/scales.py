"""Faults of the scale and the shift of affine couplings, and of the inverse that undoes them."""

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import Array, Coupling, Pair


def softplus(s: Array) -> Array:
    """log(1 + e^s), for the bounded s of a coupling."""
    return np.log(1.0 + np.exp(s))


@CHAIN.fault("softplus for exp forward only", "RT1 LD1", part="coupling")
class SoftplusForward(Coupling):
    """Training code changed to the newer scale, sampling code forgotten."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a], c)
        return self.join(x, x[..., self.b] * softplus(s) + t), np.sum(np.log(softplus(s)), axis=-1)


@CHAIN.fault("softplus for exp in both directions with exp's log-det", "LD1 LD2", part="coupling")
class SoftplusBoth(Coupling):
    """The scale's formula is changed, its logarithm is not: the round trip and the signs agree."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a], c)
        return self.join(x, x[..., self.b] * softplus(s) + t), np.sum(s, axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        return self.join(y, (y[..., self.b] - t) / softplus(s)), -np.sum(s, axis=-1)


@CHAIN.fault("1e-6 added to the scale forward only", "RT1 RT2", part="coupling")
class Nudged(Coupling):
    """A guard against division by zero that the other direction lacks."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a], c)
        scale = np.exp(s) + 1e-6
        return self.join(x, x[..., self.b] * scale + t), np.sum(np.log(scale), axis=-1)


@CHAIN.fault("scale clamped forward only", "RT1 RT2", part="coupling")
class ScaleClamped(Coupling):
    """A clamp on s put in to save a training run."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a], c)
        s = np.where(s.real < -0.8, -0.8, np.where(s.real > 0.8, 0.8, s)).astype(s.dtype)
        return self.join(x, x[..., self.b] * np.exp(s) + t), np.sum(s, axis=-1)


@COUPLING.fault("input clamped at |x| > 20 forward only", "RT1 LD1 ED ON", part="coupling")
class InputClamped(Coupling):
    """Outliers are clipped on the way in: nothing is wrong where most points are."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        clipped = np.where(x.real > 20.0, 20.0, np.where(x.real < -20.0, -20.0, x)).astype(x.dtype)
        return super().forward(clipped, c)


@COUPLING.fault("scaled down where |x| > 8", "RT1 LD1 ED", part="coupling")
class FarScaled(Coupling):
    """A soft limiter that the inverse and the log-determinant do not know."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y + self.join(0.0 * x, 0.01 * (np.where(x.real > 8.0, 8.0 - x, 0.0 * x))[..., self.b]), log_det


@CHAIN.fault("scale and shift exchanged in the inverse", "RT1 RT2", part="coupling")
class Exchanged(Coupling):
    """The two halves of the network's output unpacked in the other order."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        return self.join(y, (y[..., self.b] - s) * np.exp(-t)), -np.sum(t, axis=-1)


@CHAIN.fault("shift taken off after the scale in the inverse", "RT1 RT2", part="coupling")
class ShiftLate(Coupling):
    """y / e^s - t for (y - t) / e^s."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        return self.join(y, y[..., self.b] * np.exp(-s) - t), -np.sum(s, axis=-1)


@CHAIN.fault("multiplied by the scale in the inverse", "RT1 RT2 LD2", part="coupling")
class NotDivided(Coupling):
    """e^s for e^-s."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        return self.join(y, (y[..., self.b] - t) * np.exp(s)), -np.sum(s, axis=-1)


@COUPLING.fault("inverse right for t > 0 only", "RT1 RT2", part="coupling")
class OneBranch(Coupling):
    """relu(t) left in the inverse from an earlier network: right for half of the rows."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        t = np.where(t.real > 0.0, t, 0.0 * t)
        return self.join(y, (y[..., self.b] - t) * np.exp(-s)), -np.sum(s, axis=-1)
