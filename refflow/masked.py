r"""Networks whose parameters for coordinate i read only the coordinates before it (Germain et al., 2015: MADE).

Every unit has a degree. The coordinates have the degrees 1 .. D in the order of the factorisation, context columns the
degree 0, and a weight from unit a to unit b stays where

    degree(a) <= degree(b)   between inputs and hidden units, and between hidden units    (1)
    degree(a) <  degree(b)   into the outputs, which have their coordinate's degree       (2)

so that an output of degree i is a function of the context and of coordinates of degree below i.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.conditioners import MLP, Conditioner, Linear
from refflow.errors import StructureError
from refflow.modules import module, replace


@module
class MaskedMLP(Conditioner):
    r"""The multilayer perceptron of `network` with the weights masked by (1) and (2) (Germain et al., 2015, section 3).

    `degrees` `(D,)` are those of the coordinates, each of 1 .. D once: 1, 2, ..., D is the order as it stands. Hidden
    unit j of J has the degree l + floor(j (D - l) / J), evenly over l .. D - 1 where Germain et al. draw at random;
    l is 1, or 0 where there is a context, so that it reaches the first coordinate too. With J < D - l some
    conditionals share their hidden units with those before them.

    Layout: the context follows x, and the outputs are K blocks of D, `[theta_1 | ... | theta_K]`, each block in the
    order of the coordinates: output k D + i is parameter k of coordinate i.
    """

    network: MLP
    degrees: tuple[int, ...]

    def __post_init__(self) -> None:
        dim = self.network.in_features
        if sorted(self.degrees) != list(range(1, dim + 1)) or not dim:
            raise StructureError(f"expected each degree of 1 .. {dim} once, got {self.degrees}")
        if self.network.out_features % dim:
            raise StructureError(f"expected outputs in blocks of {dim}, got {self.network.out_features}")

    @property
    def in_features(self) -> int:
        return len(self.degrees)

    @property
    def out_features(self) -> int:
        return self.network.out_features

    @property
    def context_dim(self) -> int:
        return self.network.context_dim

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        return self.masked()(x, context)

    def masked(self) -> MLP:
        """The plain network with zeros where (1) and (2) have them."""
        *hidden, last = self.network.layers
        inputs: Sequence[int] = (*self.degrees, *(0,) * self.context_dim)
        layers = []
        for layer in hidden:
            outputs = self._hidden(xp.shape(layer.bias)[0])
            layers.append(_kept(layer, inputs, outputs))  # (1)
            inputs = outputs
        outputs = [d - 1 for d in self.degrees] * (self.out_features // self.in_features)
        return replace(self.network, layers=(*layers, _kept(last, inputs, outputs)))  # (2): a < b is a <= b - 1

    def _hidden(self, width: int) -> list[int]:
        """The degrees of a hidden layer's units."""
        least = 1 if self.context_dim == 0 and len(self.degrees) > 1 else 0
        return [least + j * (len(self.degrees) - least) // width for j in range(width)]

    @staticmethod
    def init(
        dim: int,
        per_coordinate: int,
        *,
        rng: np.random.Generator,
        degrees: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        context_dim: int = 0,
        dropout: float = 0.0,
        dtype: Any = "float64",
    ) -> "MaskedMLP":
        """Random hidden layers as `MLP.init` makes them, a last layer of zeros; by default the order as it stands."""
        network = MLP.init(
            dim, per_coordinate * dim, rng=rng, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        return MaskedMLP(network, tuple(range(1, dim + 1)) if degrees is None else tuple(degrees))


def _kept(layer: Linear, inputs: Sequence[int], outputs: Sequence[int]) -> Linear:
    """The layer with its weights from a to b where inputs_a <= outputs_b, and zeros elsewhere."""
    a, b = (xp.asarray(np.array(degrees, dtype=np.float64), like=layer.weight) for degrees in (inputs, outputs))
    kept = xp.less_equal(xp.expand_dims(a, 1), xp.expand_dims(b, 0))
    return replace(layer, weight=xp.where(kept, layer.weight, 0.0))


def of_coordinate(network: MLP, i: int, dim: int) -> MLP:
    """The network that returns the K parameters of coordinate i alone, of K blocks of `dim`."""
    *hidden, last = network.layers
    width, count = xp.shape(last.weight)[0], xp.shape(last.bias)[0] // dim
    weight = xp.reshape(last.weight, (width, count, dim))[:, :, i]
    bias = xp.reshape(last.bias, (count, dim))[:, i]
    return replace(network, layers=(*hidden, replace(last, weight=weight, bias=bias)))
