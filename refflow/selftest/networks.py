"""Faults of what a coupling's network sees: masks, context, other rows, noise, precision."""

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import Array, Coupling, Pair, rounded

# The mask.


@COUPLING.fault("mask swapped in the inverse", "RT1 RT2 ST", part="coupling")
class MaskSwapped(Coupling):
    """The halves change roles with the direction."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.b], c)
        x = np.array(y)
        x[..., self.a] = (y[..., self.a] - t) * np.exp(-s)
        return x, -np.sum(s, axis=-1)


@CHAIN.fault("mask off by one in the inverse", "RT1 RT2", part="second")
class MaskShifted(Coupling):
    """Indices counted from 1 in one direction, from 0 in the other."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return np.roll(super().inverse(np.roll(y, 1, axis=-1), c)[0], -1, axis=-1), super().inverse(y, c)[1]


@COUPLING.fault("network sees a little of what it moves", "ST RT1 LD1", part="coupling")
class Leak(Coupling):
    """A mask that is multiplied, with something added after it."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a] + 1e-3 * x[..., self.b], c)
        return self.join(x, x[..., self.b] * np.exp(s) + t), np.sum(s, axis=-1)


@COUPLING.fault("passed through with a rounding", "ST PR RT1", part="coupling")
class PassedThroughSingle(Coupling):
    """The halves are put together in a float32 buffer."""

    def join(self, x: Array, moved: Array) -> Array:
        y = rounded(x)
        y[..., self.b] = moved
        return y


# The context.


@CHAIN.fault("context ignored in the inverse", "CX RT1 RT2", part="coupling")
class ContextForgotten(Coupling):
    """An argument that is not passed on."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, None if c is None else 0.0 * c)


@CHAIN.fault("context of row 0 for all rows", "CX BI", part="coupling")
class FirstContext(Coupling):
    """A context broadcast from its first row."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa, None if c is None else np.broadcast_to(c[:1], c.shape))


@CHAIN.fault("context of the next row", "CX BI", part="coupling")
class NextContext(Coupling):
    """tile where repeat was meant: rows and contexts fall out of step, the same way in both directions."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa, None if c is None else np.roll(c, 1, axis=0))


@CHAIN.fault("context standardised over the batch", "CX BI", part="coupling")
class ContextCentred(Coupling):
    """Preprocessing of the training script inside the layer."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa, None if c is None or not len(c) else c - np.mean(c, axis=0))


# Other rows, noise, other precisions.


@COUPLING.fault("network input centred by the batch", "BI", part="coupling")
class BatchStatistics(Coupling):
    """Batch normalisation of the network left in training mode."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return super().features(xa - np.mean(xa, axis=0) if len(xa) else xa, c)


@COUPLING.fault("dropout left on", "DE RT1", part="coupling")
class Dropout(Coupling):
    """Evaluation mode was never switched on."""

    def features(self, xa: Array, c: Array | None) -> Array:
        kept = np.random.default_rng().random(xa.shape) > 0.1
        return super().features(xa * kept.astype(xa.real.dtype), c)


@COUPLING.fault("network in float32", "PR RT1", part="coupling")
class SingleNetwork(Coupling):
    """Mixed precision: the network is cast, the map is not."""

    def features(self, xa: Array, c: Array | None) -> Array:
        return rounded(super().features(xa, c))


@COUPLING.fault("forward with weights in float32", "RT1 RT2 PR", part="coupling")
class SingleWeights(Coupling):
    """Weights loaded from a float32 file on one side, kept in float64 on the other."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        kept = self.parameters
        self.parameters = {name: rounded(value) for name, value in kept.items()}
        found = super().forward(x, c)
        self.parameters = kept
        return found


@COUPLING.fault("NaN replaced by 0 in the network", "NF", part="coupling")
class NanToNum(Coupling):
    """nan_to_num to keep a run alive: what is not a number becomes an answer."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(np.nan_to_num(x), c)
