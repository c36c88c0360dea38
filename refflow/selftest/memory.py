"""Faults of memory and rows: what is written to, what is shared, which row goes where."""

from typing import Any

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import Array, Chain, Pair


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
