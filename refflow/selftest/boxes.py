r"""Elementwise maps between the line and a box, and their faults.

y = low + (high - low) sigmoid(e^a x + b), with log dy/dx = log(high - low) + a + log sigmoid(u) + log sigmoid(-u).
"""

from typing import Any

import numpy as np

from refflow.selftest.layers import ActNorm, Array, Chain, Layer, Pair, keywords
from refflow.selftest.subjects import Keywords, Recipe

BOX = (-1.0, 3.0)


def log_sigmoid(u: Array) -> Array:
    """-log(1 + e^-u), for u of either sign."""
    return np.where(u.real < 0.0, u, np.zeros_like(u)) - np.log1p(np.exp(np.where(u.real < 0.0, u, -u)))


class Sigmoid(Layer):
    """From the line onto the open box."""

    low, high = BOX

    def log_slope(self, u: Array) -> Array:
        return np.log(u.real.dtype.type(self.high - self.low)) + log_sigmoid(u) + log_sigmoid(-u)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y = self.low + (self.high - self.low) * np.exp(log_sigmoid(x))
        return y, np.sum(self.log_slope(x), axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x = np.log(y - self.low) - np.log(self.high - y)
        return x, -np.sum(self.log_slope(x), axis=-1)


class Turned(Layer):
    """A layer the other way round."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return self.layer.inverse(x, c)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return self.layer.forward(y, c)


def onto_box(scale: float, seed: int, **parts: Any) -> Keywords:
    """An affine map, then the sigmoid."""
    actnorm = ActNorm(np.random.default_rng([seed, 8]), 3, min(scale, 3.0))
    layers = [actnorm, parts.get("sigmoid", Sigmoid)()]
    return keywords(Chain(layers), (3,), codomain=BOX, structure=np.eye(3, dtype=bool))


def from_box(scale: float, seed: int, **parts: Any) -> Keywords:
    """The logit, then an affine map."""
    actnorm = ActNorm(np.random.default_rng([seed, 9]), 3, min(scale, 3.0))
    layers = [Turned(parts.get("sigmoid", Sigmoid)()), actnorm]
    return keywords(Chain(layers), (3,), domain=BOX, structure=np.eye(3, dtype=bool))


ONTO_BOX = Recipe("sigmoid onto a box", "elementwise", onto_box)
FROM_BOX = Recipe("logit of a box", "elementwise", from_box)


@ONTO_BOX.fault("logit clipped by 1e-6", "RT1 RT2 ED", part="sigmoid")
class ClippedLogit(Sigmoid):
    """Kept away from 0 and 1 so that nothing is ever infinite."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        edge = 1e-6 * (self.high - self.low)
        low, high = self.low + edge, self.high - edge
        return super().inverse(np.where(y.real < low, low, np.where(y.real > high, high, y)).astype(y.dtype), c)


@FROM_BOX.fault("squeezed by 0.05 before the logit, in one direction", "RT1 RT2", part="sigmoid")
class Squeezed(Sigmoid):
    """Dequantisation's x -> alpha + (1 - 2 alpha) x is undone nowhere."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(0.9 * y + 0.1 * (self.low + self.high) / 2.0, c)


@ONTO_BOX.fault("log-det without the box's width", "LD1 LD2", part="sigmoid")
class NoWidth(Sigmoid):
    """The constant term of the log-determinant is missing, in both directions."""

    def log_slope(self, u: Array) -> Array:
        return log_sigmoid(u) + log_sigmoid(-u)


@FROM_BOX.fault("log-det with one of two terms", "LD1 LD2", part="sigmoid")
class OneTerm(Sigmoid):
    """log sigmoid(u), the loss of a classifier, for log sigmoid'(u)."""

    def log_slope(self, u: Array) -> Array:
        return np.log(u.real.dtype.type(self.high - self.low)) + log_sigmoid(u)


@ONTO_BOX.fault("the box moved by 1/2 in the inverse", "RT1 RT2", part="sigmoid")
class FromZero(Sigmoid):
    """The offset is subtracted once where it was added twice, half a unit off."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y + 0.5 * self.low, c)


@ONTO_BOX.fault("log-slope floored at log 1e-6", "LD1 LD3 ED", part="sigmoid")
class FlooredSlope(Sigmoid):
    """log(max(s', 1e-6)) against log 0, in forward only: right where the slope is not small."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, _ = super().forward(x, c)
        slope = self.log_slope(x)
        floor = np.full_like(slope, np.log(1e-6))
        return y, np.sum(np.where(slope.real < floor.real, floor, slope), axis=-1)


@FROM_BOX.fault("tanh for a sigmoid of half its argument", "LD1 RT1", part="sigmoid")
class TanhHalf(Sigmoid):
    """sigmoid(u) = (1 + tanh(u / 2)) / 2, with the halving forgotten."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(2.0 * x, c)[0], super().forward(x, c)[1]


@ONTO_BOX.fault("e^x / (1 + e^x)", "ED NF PR RT1", part="sigmoid")
class NaiveSigmoid(Sigmoid):
    """Right until e^x is infinite: at x = 89 in float32, at x = 710 in float64."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        with np.errstate(over="ignore", invalid="ignore"):
            share = np.exp(x) / (1.0 + np.exp(x))
        return self.low + (self.high - self.low) * share, super().forward(x, c)[1]
