"""Maps of images `(C, H, W)`: a 1x1 convolution and a coupling over channels (Glow), and their faults.

C = W = 3 and H = 2, so that a port that takes the wrong axis still runs.
"""

from typing import Any

import numpy as np

from refflow.selftest.layers import LU, Array, Chain, Coupling, Layer, Pair, keywords, solve_lower, solve_upper
from refflow.selftest.subjects import Keywords, Recipe

CHANNELS, HEIGHT, WIDTH = EVENT = (3, 2, 3)


class Pixels(Layer):
    """A layer over the channels of every pixel; log-determinants of the pixels add up."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        super().__init__()
        self.parameters = layer.parameters

    def to_last(self, x: Array) -> Array:
        """`(..., C, H, W)` to `(..., H, W, C)`."""
        return np.moveaxis(x, -3, -1)

    def from_last(self, y: Array) -> Array:
        return np.moveaxis(y, -1, -3)

    def reduce(self, log_det: Array) -> Array:
        """`(..., H, W)` to `(...)`."""
        return np.sum(log_det, axis=(-2, -1))

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = self.layer.forward(self.to_last(x))
        return self.from_last(y), self.reduce(log_det)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = self.layer.inverse(self.to_last(y))
        return self.from_last(x), self.reduce(log_det)


class PixelCoupling(Coupling):
    """Channel 0 moves the others; the network sees the pixel and its left neighbour, 0 beyond the edge."""

    def inputs(self) -> int:
        return 2 * len(self.a)

    def left(self, xa: Array) -> Array:
        """The neighbour along W of `(..., H, W, 1)`."""
        return np.concatenate([np.zeros_like(xa[..., :1, :]), xa[..., :-1, :]], axis=-2)

    def features(self, xa: Array, c: Array | None) -> Array:
        return np.concatenate([xa, self.left(xa)], axis=-1)


def glow(scale: float, seed: int, **parts: Any) -> Keywords:
    """An invertible 1x1 convolution, then a coupling."""
    rng = np.random.default_rng([seed, 7])
    pixels = parts.get("pixels", Pixels)
    layers = [
        parts.get("convolution", pixels)(parts.get("lu", LU)(rng, CHANNELS, scale)),
        parts.get("split", pixels)(parts.get("coupling", PixelCoupling)(rng, (True, False, False), scale)),
    ]
    return keywords(parts.get("chain", Chain)(layers), EVENT)


IMAGE = Recipe("1x1 convolution and coupling", "image", glow)


@IMAGE.fault("convolution's log-det without H W", "LD1 LD2", part="convolution")
class NoPixels(Pixels):
    """log|det W|, once."""

    def reduce(self, log_det: Array) -> Array:
        return np.mean(log_det, axis=(-2, -1))


@IMAGE.fault("convolution's log-det with H for H W", "LD1 LD2", part="convolution")
class HeightOnly(Pixels):
    """shape[2] for shape[2] * shape[3]."""

    def reduce(self, log_det: Array) -> Array:
        return np.mean(log_det, axis=-1).sum(axis=-1)


@IMAGE.fault("convolution's log-det with C H W for H W", "LD1 LD2", part="convolution")
class AllEntries(Pixels):
    """The number of entries where the number of pixels belongs."""

    def reduce(self, log_det: Array) -> Array:
        return CHANNELS * super().reduce(log_det)


@IMAGE.fault("log-det not reduced over pixels", "SH", part="pixels")
class PerPixel(Pixels):
    """A sum over the channels only."""

    def reduce(self, log_det: Array) -> Array:
        return log_det


@IMAGE.fault("coupling's log-det averaged over pixels", "LD1 LD2", part="split")
class PixelMean(Pixels):
    """mean([1, 2, 3]) for sum([1, 2, 3])."""

    def reduce(self, log_det: Array) -> Array:
        return np.mean(log_det, axis=(-2, -1))


@IMAGE.fault("channels first reshaped to channels last in the inverse", "RT1 RT2", part="convolution")
class ReshapeMixUp(Pixels):
    """reshape for transpose between NCHW and NHWC: the shapes agree, the pixels do not."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = self.layer.inverse(y.reshape(*y.shape[:-3], HEIGHT, WIDTH, CHANNELS))
        return self.from_last(x), self.reduce(log_det)


@IMAGE.fault("convolution along W in the inverse", "RT1 RT2", part="convolution")
class WrongAxis(Pixels):
    """The last axis is taken for the channels."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = self.layer.inverse(y)
        return x, np.sum(log_det, axis=(-2, -1))


@IMAGE.fault("H and W exchanged on the way back", "SH RT1", part="split")
class HeightForWidth(Pixels):
    """transpose(0, 3, 2, 1) for transpose(0, 3, 1, 2): NHWC comes back as NCWH."""

    def from_last(self, y: Array) -> Array:
        return np.swapaxes(super().from_last(y), -1, -2)


@IMAGE.fault("padding by the opposite edge in the inverse", "RT1 RT2", part="coupling")
class PaddingMismatch(PixelCoupling):
    """Circular padding in one library, zeros in the other."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        self.left = lambda xa: np.roll(xa, 1, axis=-2)  # type: ignore[method-assign]
        found = super().inverse(y, c)
        del self.left
        return found


@IMAGE.fault("kernel flipped in the inverse", "RT1 RT2", part="coupling")
class Flipped(PixelCoupling):
    """Convolution in one library, correlation in the other: the right neighbour for the left one."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        self.left = lambda xa: PixelCoupling.left(self, xa[..., ::-1, :])[..., ::-1, :]  # type: ignore[method-assign]
        found = super().inverse(y, c)
        del self.left
        return found


@IMAGE.fault("kernel transposed in the inverse", "RT1 RT2", part="lu")
class KernelTransposed(LU):
    """(out, in) for (in, out)."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        return solve_upper(lower.T, solve_lower(upper.T, y))[..., self.order], super().inverse(y, c)[1]


@IMAGE.fault("orthogonal when made, taken for orthogonal ever after", "RT1 RT2", part="lu")
class StillOrthogonal(LU):
    """W^T for W^-1."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        return y[..., self.back] @ lower @ upper, super().inverse(y, c)[1]


@IMAGE.fault("statistics over pixels of the whole batch", "BI", part="coupling")
class ImageStatistics(PixelCoupling):
    """Normalisation over (N, H, W) in the network."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa - np.mean(xa, axis=0) if len(xa) else xa, c)
