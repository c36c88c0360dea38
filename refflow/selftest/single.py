"""Faults that one check alone can see: each keeps every other law, or hides below what the others can decide."""

import math
from typing import Any

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING, unconditional
from refflow.selftest.layers import ActNorm, Array, Chain, Coupling, Layer, Pair, keywords, rounded
from refflow.selftest.subjects import Keywords, Recipe


def inverse_alone(scale: float, seed: int, **parts: Any) -> Keywords:
    """One coupling of which only the inverse is shown."""
    shown = ("inverse", "event_shape", "parameters", "set_parameters")
    return {name: value for name, value in unconditional(scale, seed, **parts).items() if name in shown}


class Cubic(Layer):
    """y = x + x^3, without an inverse."""

    fold = 0.0

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        slope = 1.0 - self.fold + 3.0 * x * x
        return x * (1.0 - self.fold) + x**3, np.sum(np.log(np.abs(slope.real)), axis=-1)


def cubic(scale: float, seed: int, **parts: Any) -> Keywords:
    """An affine map, then the cubic, on the line; forward only, and not differentiated by complex steps."""
    actnorm = ActNorm(np.random.default_rng([seed, 21]), 1, min(scale, 3.0))
    found = keywords(Chain([actnorm, parts.get("cubic", Cubic)()]), (1,))
    return {name: found[name] for name in ("forward", "event_shape", "parameters", "set_parameters")}


class Wave(Layer):
    """y = x + sin(w x) / (1.5 w), inverted by bisection: differences of it hold few digits."""

    extra = 0.0

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        x = x.real
        return x + np.sin(self.rate * x) / (1.5 * self.rate), np.sum(np.log1p(np.cos(self.rate * x) / 1.5), axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        low, high = y.real - 1.0 / self.rate, y.real + 1.0 / self.rate
        for _ in range(120):
            middle = 0.5 * (low + high)
            above = middle + np.sin(self.rate * middle) / (1.5 * self.rate) > y.real
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        x = np.asarray(0.5 * (low + high), dtype=y.real.dtype)
        return x, np.asarray(self.extra, y.real.dtype) - self.forward(x)[1]


def wave(scale: float, seed: int, **parts: Any) -> Keywords:
    """The wave in three coordinates, as a black box that takes real numbers only."""
    return keywords(Chain([parts.get("wave", Wave)(60.0)]), (3,), structure=np.eye(3, dtype=bool))


def faster(scale: float, seed: int, **parts: Any) -> Keywords:
    """A faster wave, forward only."""
    found = keywords(Chain([parts.get("wave", Wave)(600.0)]), (3,))
    return {name: found[name] for name in ("forward", "event_shape", "parameters", "set_parameters")}


class Sloped:
    """Independent normals of widths w, with the derivative of their log-density."""

    def __init__(self, widths: Array) -> None:
        self.values = {"w": widths}

    def w(self, x: Array) -> Array:
        return self.values["w"].astype(x.dtype)

    def log_prob(self, x: Array) -> Array:
        w = self.w(x)
        constant = np.sum(np.log(w)) + x.dtype.type(0.5 * x.shape[-1] * math.log(2.0 * math.pi))
        return -0.5 * np.sum((x / w) ** 2, axis=-1) - constant

    def gradient(self, x: Array) -> Array:
        return -x / self.w(x) ** 2

    def sample(self, n: int, seed: int) -> Array:
        w = self.values["w"]
        return w * np.random.default_rng(seed).standard_normal((n, len(w)))

    def set_parameters(self, values: dict[str, Array]) -> None:
        self.values = {name: np.array(a) for name, a in values.items()}


def sloped(scale: float, seed: int, **parts: Any) -> Keywords:
    """A density of two coordinates with its own gradient."""
    widths = np.exp(0.2 * min(scale, 3.0) * np.random.default_rng([seed, 22]).standard_normal(2))
    flow = parts.get("density", Sloped)(widths)
    return {
        "log_prob": flow.log_prob, "gradient": flow.gradient, "sample": flow.sample, "event_shape": (2,),
        "parameters": lambda: {name: np.array(a) for name, a in flow.values.items()},
        "set_parameters": flow.set_parameters,
    }  # fmt: skip


INVERSE = Recipe("inverse of a coupling alone", "coupling", inverse_alone)
CUBIC = Recipe("cubic on the line", "elementwise", cubic)
WAVE = Recipe("fast wave", "elementwise", wave)
FASTER = Recipe("faster wave without an inverse", "elementwise", faster)
SLOPED = Recipe("density with its gradient", "flow", sloped)


@SLOPED.fault("a width that is not squared", "GR", part="density")
class NotSquared(Sloped):
    """The score by hand, with a slip."""

    def gradient(self, x: Array) -> Array:
        return -x / self.w(x)


@INVERSE.fault("log-det of forward", "LD2", part="coupling")
class ForwardLogDet(Coupling):
    """A sampler alone, whose log-determinant was copied from the other direction."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, -log_det


@WAVE.fault("inverse's log-det off by 2e-9", "LD3", part="wave")
class OffByLittle(Wave):
    """An epsilon in a logarithm: less than differences of such a map can decide."""

    extra = 2e-9


@CUBIC.fault("a fold", "MO", part="cubic")
class Fold(Cubic):
    """A polynomial whose coefficients are not bounded: |slope| in the log-determinant hides that it turns back."""

    fold = 1.25


@CHAIN.fault("context ignored in both directions", "CX", part="coupling")
class ContextIgnored(Coupling):
    """The argument is accepted and never used."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa, None if c is None else np.zeros_like(c))


@COUPLING.fault("values clamped beyond 1e9", "ON", part="coupling")
class ClampedFar(Coupling):
    """A guard against overflow, far from all data."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return np.where((np.abs(y) > 1e9) & np.isfinite(y), np.sign(y.real) * 1e9, y).astype(y.dtype), log_det


@FASTER.fault("log-det summed in float32", "PR", part="wave")
class SummedInSingle(Wave):
    """An accumulator of float32, in a map of which differences hold less than its digits."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, rounded(log_det)


@COUPLING.fault("an epsilon times the largest number of the batch", "BI", part="coupling")
class BatchEpsilon(Coupling):
    """An epsilon made relative to the batch: too small to be seen until another row is huge."""

    def features(self, xa: Array, c: Array | None) -> Array:
        largest = np.max(np.abs(xa), initial=0.0, where=np.isfinite(xa))
        return super().features(xa + np.asarray(1e-12 * largest, dtype=xa.real.dtype), c)
