"""Masked autoregressive flows (Papamakarios et al., 2017) and their faults: masks, passes, order.

y_i = e^s_i(x_<i) x_i + t_i(x_<i), from one masked network; its inverse needs one pass for each coordinate.
"""

from typing import Any

import numpy as np

from refflow.selftest.layers import STEEPEST, Array, Chain, Layer, Pair, keywords, weights
from refflow.selftest.subjects import Keywords, Recipe

HIDDEN = 12


class MAF(Layer):
    """Degrees 1 ... D of the inputs and outputs, 1 ... D - 1 in turn of the hidden units (Germain et al., 2015)."""

    def __init__(self, rng: np.random.Generator, size: int, scale: float) -> None:
        super().__init__(**weights(rng, (size, HIDDEN, 2 * size), scale))
        self.degrees = np.arange(1, size + 1)
        self.hidden = np.arange(HIDDEN) % (size - 1) + 1

    def mask_in(self) -> Array:
        return self.hidden[None, :] >= self.degrees[:, None]

    def mask_out(self) -> Array:
        return np.tile(self.degrees, 2)[None, :] > self.hidden[:, None]

    def scale_and_shift(self, x: Array) -> Pair:
        """s and t, where entry i depends on x_<i only."""
        kind = x.real.dtype
        h = np.tanh(x @ (self.get("W0", x) * self.mask_in().astype(kind)) + self.get("b0", x))
        s, t = np.split(h @ (self.get("W1", x) * self.mask_out().astype(kind)) + self.get("b1", x), 2, axis=-1)
        return STEEPEST * np.tanh(s), t

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x)
        return x * np.exp(s) + t, np.sum(s, axis=-1)

    def passes(self) -> int:
        return len(self.degrees)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x = np.zeros_like(y)
        for _ in range(self.passes()):
            s, t = self.scale_and_shift(x)
            x = (y - t) * np.exp(-s)
        return x, -np.sum(s, axis=-1)


def maf(scale: float, seed: int, **parts: Any) -> Keywords:
    """One masked autoregressive layer on four coordinates, triangular."""
    layer = parts.get("maf", MAF)(np.random.default_rng([seed, 6]), 4, scale)
    return keywords(Chain([layer]), (4,), structure=np.tri(4, dtype=bool))


AUTOREGRESSIVE = Recipe("masked autoregressive", "autoregressive", maf)


@AUTOREGRESSIVE.fault("output mask off by one", "ST LD1 RT1", part="maf")
class OffByOne(MAF):
    """>= for > at the output: coordinate i sees itself."""

    def mask_out(self) -> Array:
        return np.tile(self.degrees, 2)[None, :] >= self.hidden[:, None]


@AUTOREGRESSIVE.fault("output mask repeated, not tiled", "ST LD1 RT1", part="maf")
class Repeated(MAF):
    """(s_1, t_1, s_2, t_2, ...) in the mask, (s_1, s_2, ..., t_1, ...) in the split."""

    def mask_out(self) -> Array:
        return np.repeat(self.degrees, 2)[None, :] > self.hidden[:, None]


@AUTOREGRESSIVE.fault("masks not applied at the input", "ST LD1 RT1", part="maf")
class Unmasked(MAF):
    """Weights loaded over those that had been masked once, when the layer was made."""

    def mask_in(self) -> Array:
        return np.ones((len(self.degrees), HIDDEN), dtype=bool)


@AUTOREGRESSIVE.fault("a residual connection past the masks", "ST LD1 RT1", part="maf")
class Residual(MAF):
    """A skip from x to t, added after the masks were made."""

    def scale_and_shift(self, x: Array) -> Pair:
        s, t = super().scale_and_shift(x)
        return s, t + 0.1 * x


@AUTOREGRESSIVE.fault("coordinates in the reverse of the stated order", "ST", part="maf")
class ReversedOrder(MAF):
    """A flow like any other, and round trip and log-det agree; but x_1 is not the first, as the structure claims."""

    def __init__(self, rng: np.random.Generator, size: int, scale: float) -> None:
        super().__init__(rng, size, scale)
        self.degrees = self.degrees[::-1]


@AUTOREGRESSIVE.fault("one pass short", "RT1 RT2", part="maf")
class OnePassShort(MAF):
    """range(1, D): the last coordinate is not settled."""

    def passes(self) -> int:
        return len(self.degrees) - 1


@AUTOREGRESSIVE.fault("log-det from the first pass of the inverse", "LD2 LD3", part="maf")
class FirstLogDet(MAF):
    """Computed before the loop."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], -np.sum(self.scale_and_shift(np.zeros_like(y))[0], axis=-1)


@AUTOREGRESSIVE.fault("log-dets of all passes added up", "LD2 LD3", part="maf")
class EveryPass(MAF):
    """+= inside the loop of the inverse."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, log_det * len(self.degrees)


@AUTOREGRESSIVE.fault("inverse in one pass from y", "RT1 RT2 ST", part="maf")
class ConditionedOnOutput(MAF):
    """The inverse of an inverse autoregressive flow, used for a masked one."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y)
        return (y - t) * np.exp(-s), -np.sum(s, axis=-1)


@AUTOREGRESSIVE.fault("degrees reversed in the inverse", "RT1 RT2 ST", part="maf")
class ReversedDegrees(MAF):
    """Layers alternate their order; the port forgets it in one direction."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        self.degrees = self.degrees[::-1]
        found = super().inverse(y, c)
        self.degrees = self.degrees[::-1]
        return found


@AUTOREGRESSIVE.fault("a damped iteration of 20 passes", "RT1 RT2", part="maf")
class Damped(MAF):
    """Half a step at a time, for a map that needs no damping: the error is 2^-20 of the way when it stops."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x = np.zeros_like(y)
        for _ in range(20):
            s, t = self.scale_and_shift(x)
            x = 0.5 * x + 0.5 * (y - t) * np.exp(-s)
        return x, -np.sum(self.scale_and_shift(x)[0], axis=-1)


@AUTOREGRESSIVE.fault("starts from the last answer", "DE CA RT1", part="maf")
class WarmStart(OnePassShort):
    """The iteration is warm-started with the previous batch and runs one pass less."""

    last: Any = None

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        start = self.last if self.last is not None and self.last.shape == y.shape else np.zeros_like(y)
        x = np.array(start.astype(y.dtype))
        for _ in range(self.passes()):
            s, t = self.scale_and_shift(x)
            x = (y - t) * np.exp(-s)
        self.last = x.real
        return x, -np.sum(s, axis=-1)
