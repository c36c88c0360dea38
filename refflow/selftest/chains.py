"""Faults of whole maps: order, sums, shapes, dtypes, memory, rows, caches; and of the layers with state."""

import numpy as np

from refflow.selftest.couplings import CHAIN, COUPLING
from refflow.selftest.layers import Array, Chain, Pair, Permutation, constant, rounded

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
