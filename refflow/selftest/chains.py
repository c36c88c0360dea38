"""Faults of whole maps: order, sums, shapes, dtypes, memory, rows, caches; and of the layers with state."""

from typing import Any

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import ActNorm, Array, Chain, Pair, Permutation, constant, rounded

# Order and sums.


@CHAIN.fault("layers in forward order in the inverse", "RT1 RT2", part="chain")
class WrongOrder(Chain):
    """A loop that should have been reversed."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        total = 0.0
        for layer in self.layers:
            y, log_det = layer.inverse(y, c)
            total = total + log_det
        return y, total


@CHAIN.fault("a layer missing from the inverse", "RT1 RT2 CH", part="chain")
class LayerDropped(Chain):
    """range(n - 1, 0, -1) stops before layer 0."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return Chain(self.layers[1:]).inverse(y, c)


@CHAIN.fault("a layer missing from the log-det", "LD1 LD2 CH", part="chain")
class TermDropped(Chain):
    """A layer taken for volume preserving, in both directions."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, log_det - self.layers[2].forward(x, c)[1]

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, log_det - self.layers[2].inverse(y, c)[1]


@CHAIN.fault("log-det overwritten, not added up", "LD1 LD2 CH", part="chain")
class Overwritten(Chain):
    """= for +=."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        for layer in self.layers:
            x, log_det = layer.forward(x, c)
        return x, log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        for layer in reversed(self.layers):
            y, log_det = layer.inverse(y, c)
        return y, log_det


@CHAIN.fault("a layer that is listed is left out of both directions", "CH", part="chain")
class NotWhatItLists(Chain):
    """A fused kernel from before the layer was added: another flow than the one that the parts make."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return Chain(self.layers[:-1]).forward(x, c)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return Chain(self.layers[:-1]).inverse(y, c)


@CHAIN.fault("log-det starts from ones", "LD1 LD2 LD3", part="chain")
class StartsFromOnes(Chain):
    """The accumulator of a product, used for a sum."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, log_det + 1.0


# Shapes and dtypes.


@CHAIN.fault("log-det keeps a trailing axis", "SH", part="chain")
class KeepDims(Chain):
    """keepdims=True."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, log_det[..., None]


@COUPLING.fault("log-det not summed over coordinates", "SH", part="chain")
class Unreduced(Chain):
    """The elementwise log-derivative, as a library of transforms returns it."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, np.broadcast_to(log_det[..., None] / x.shape[-1], x.shape)


@COUPLING.fault("squeezes a batch of one", "SH", part="chain")
class Squeezed(Chain):
    """squeeze() without an axis."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, np.squeeze(log_det)


@COUPLING.fault("raises for a batch of one", "SH", part="chain")
class NoSingleRow(Chain):
    """Statistics of the batch are asked for, as batch normalisation does in training mode."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if len(x) == 1:
            raise ValueError("expected more than one value per channel")
        return super().forward(x, c)


@COUPLING.fault("raises for float32", "DT PR", part="chain")
class NoSingle(Chain):
    """Parameters in float64 and a matrix product that will not mix: expected Double but found Float."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if x.dtype == np.float32:
            raise TypeError("expected scalar type Double but found Float")
        return super().forward(x, c)


@COUPLING.fault("float32 raised to float64", "DT", part="chain")
class Upcast(Chain):
    """A constant of the default dtype among float32 numbers."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y * np.ones(1), log_det


@COUPLING.fault("log-det raised to float64", "DT", part="chain")
class LogDetUpcast(Chain):
    """np.zeros(n) as the accumulator."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, log_det + np.zeros(1)


@CHAIN.fault("values in float32 between layers", "PR RT1", part="chain")
class SingleInside(Chain):
    """A cast at the top of forward(), and another at its end."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(rounded(x), c)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(rounded(y), c)


# Memory.


@COUPLING.fault("input written to", "AL", part="chain")
class Mutates(Chain):
    """x[:, 0] += ... in place of a new array."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        found = super().forward(x, c)
        x[..., -1] += 1.0
        return found


@COUPLING.fault("the inverse writes to its input", "AL", part="chain")
class InverseMutates(Chain):
    """In place on the way back only."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        found = super().inverse(y, c)
        y[...] = found[0]
        return found


@CHAIN.fault("context written to", "AL DE", part="chain")
class MutatesContext(Chain):
    """The context is standardised in place, again at every call."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if c is not None:
            c *= 0.5
        return super().forward(x, c)


@COUPLING.fault("strides ignored", "BI RT1 LD1 CA", part="chain")
class StridesIgnored(Chain):
    """C code that reads memory from its beginning: wrong for arrays in Fortran order, that is, for transposed ones."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x.ravel(order="K").reshape(x.shape), c)


@COUPLING.fault("result written over the input", "AL", part="chain")
class InPlace(Chain):
    """An in-place operation that saves memory: output and input are one array."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        x[...] = y
        return x, log_det


@COUPLING.fault("result in a buffer that the next call overwrites", "AL DE", part="chain")
class ReusedBuffer(Chain):
    """A work array kept between calls."""

    buffer: Any = None

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        if self.buffer is None or self.buffer.shape != y.shape or self.buffer.dtype != y.dtype:
            self.buffer = np.empty_like(y)
        self.buffer[...] = y
        return self.buffer, log_det


# Rows.


@COUPLING.fault("row order reversed for more than 32 rows", "BI RT1 LD1", part="chain")
class ReversedRows(Chain):
    """A work queue that is emptied from its end."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return (y[::-1], log_det[::-1]) if len(x) > 32 else (y, log_det)


@COUPLING.fault("last incomplete chunk of 64 rows left as it was", "BI RT1 LD1", part="chain")
class LastChunk(Chain):
    """Large batches in chunks, with n // 64 for the number of chunks."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        if len(x) > 64:
            y[len(x) // 64 * 64 :] = x[len(x) // 64 * 64 :]
        return y, log_det


@COUPLING.fault("a NaN in one row reaches all rows", "NF BI", part="chain")
class NanSpreads(Chain):
    """One check of the whole batch: if anything is not finite, everything is NaN."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return (y, log_det) if np.isfinite(x).all() else (y * np.nan, log_det * np.nan)


# Caches and state.


@COUPLING.fault("a cached inverse hides a sign", "CA LD2 LD3 RT2", part="chain")
class CachedValues(Chain):
    """The inverse looks up what forward has seen, by value; what it computes itself has the wrong log-det."""

    def __init__(self, layers: Any) -> None:
        super().__init__(layers)
        self.seen: dict[bytes, Pair] = {}

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        self.seen[y.tobytes()] = np.array(x), -log_det
        return y, log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        if y.tobytes() in self.seen:
            return self.seen[y.tobytes()]
        x, log_det = super().inverse(y, c)
        return x, -log_det


@CHAIN.fault("a cache of the last output hides the wrong order", "CA RT1 RT2", part="chain")
class CachedObject(WrongOrder):
    """`if y is self.last_y: return self.last_x`, as bijectors with a one-element cache do."""

    last: Any = (None, None, None)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        self.last = y, x, -log_det
        return y, log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return self.last[1:] if y is self.last[0] else super().inverse(y, c)


@COUPLING.fault("answers from a cache keyed by shape and first row", "CA DE BI RT1", part="chain")
class CoarseKey(Chain):
    """A memo whose key is too small."""

    def __init__(self, layers: Any) -> None:
        super().__init__(layers)
        self.seen: dict[Any, Pair] = {}

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        key = x.shape, x.dtype, x[:1].tobytes()
        if key not in self.seen:
            self.seen[key] = super().forward(x, c)
        return self.seen[key]


@CHAIN.fault("ActNorm initialised by the first batch it sees", "DE ME RT1", part="actnorm")
class InitialisedByData(ActNorm):
    """Data-dependent initialisation of a model that was already trained; the flag was not saved."""

    ready = False

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if not self.ready and len(x):
            self.parameters["b"] = -np.mean(x.real.astype(np.float64), axis=0)
            self.ready = True
        return super().forward(x, c)


@CHAIN.fault("ActNorm keeps running means", "DE ME RT1", part="actnorm")
class RunningMean(ActNorm):
    """Every call in training mode moves the statistics."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if len(x) and np.isfinite(x).all():
            self.parameters["b"] = 0.9 * self.parameters["b"] + 0.1 * np.mean(x.real.astype(np.float64), axis=0)
        return super().forward(x, c)


@CHAIN.fault("ActNorm's log-det 0 in the inverse", "LD2 LD3", part="actnorm")
class NoVolumeBack(ActNorm):
    """Written for training, where the inverse's log-determinant is never asked for."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], constant(0.0, y)


@CHAIN.fault("ActNorm's sign lost in the inverse", "RT1 RT2 LD2", part="actnorm")
class SignLost(ActNorm):
    """exp(log|y - b| - a): right for y > b only."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return np.where(x.real < 0.0, -x, x), log_det


@CHAIN.fault("log-det of ActNorm's scale without the logarithm", "LD1 LD2", part="actnorm")
class NoLogarithm(ActNorm):
    """The scale was a parameter in the original and its logarithm is one in the port."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x, c)[0], constant(np.sum(np.exp(self.get("a", x))), x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], constant(-np.sum(np.exp(self.get("a", y))), y)


@CHAIN.fault("the permutation applied again for its inverse", "RT1 RT2", part="permutation")
class AppliedAgain(Permutation):
    """x[p] in both directions: right for a swap of two halves, wrong for a cycle."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return self.forward(y, c)


@CHAIN.fault("a permutation drawn at every call", "DE RT1", part="permutation")
class Redrawn(Permutation):
    """A shuffle without a stored order."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return x[..., np.random.default_rng().permutation(x.shape[-1])], constant(0.0, x)
