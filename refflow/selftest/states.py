"""Faults of maps that remember: caches, and statistics that calls change. And of ActNorm, the layer with statistics."""

from typing import Any

import numpy as np

from refflow.selftest.chains import WrongOrder
from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import ActNorm, Array, Chain, Pair, constant


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


@CHAIN.fault("ActNorm initialised by the first batch it sees", "DE ME", part="actnorm")
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
