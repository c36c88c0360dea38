r"""The networks theta = h(x_1, c) that tell a coupling how to move its other half.

A conditioner maps the kept coordinates x_1 `(..., d)` and an optional context c `(..., C)` to parameters
`(..., out_features)`. It need not be invertible. The last linear layer starts at zero (`identity initialisation`), so
that a coupling starts as the identity map, up to its scale map at 0.

Layout: every linear layer computes `x @ weight + bias` with weight `(in, out)`; the context is concatenated *after*
x_1: the first weight's rows are `[x_1 | c]`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, TypeVar

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.errors import ShapeError, StructureError, require_sequence
from refflow.modules import Module, map_modules, module, replace

M = TypeVar("M")


def _elu(x: Array) -> Array:
    right = xp.greater(x, 0.0)
    return xp.where(right, x, xp.expm1(xp.where(right, 0.0, x)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": xp.relu,
    "leaky_relu": lambda x: xp.where(xp.greater(x, 0.0), x, xp.constant(0.01, x) * x),
    "elu": _elu,
    "silu": xp.silu,
    "gelu": xp.gelu,
    "softplus": xp.softplus,
    "tanh": xp.tanh,
}
"""relu max(x, 0); leaky_relu max(x, x/100); elu x or e^x - 1; silu x sigma(x); gelu in its tanh form (Hendrycks and
Gimpel, 2016, section 2); softplus log(1 + e^x); tanh. At 0, where relu and leaky_relu have none, they take the
derivative on the left, 0 and 1/100, in every library."""


def activation_function(name: str) -> Callable[[Array], Array]:
    """The activation of that name."""
    if name not in ACTIVATIONS:
        raise StructureError(f"expected an activation among {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


@module
class Linear(Module):
    """x @ weight + bias, with weight `(in, out)` and bias `(out,)`."""

    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        if len(xp.shape(self.weight)) != 2 or xp.shape(self.bias) != xp.shape(self.weight)[1:]:
            raise ShapeError(
                f"expected a weight (in, out) and a bias (out,), got {xp.shape(self.weight)} and {xp.shape(self.bias)}"
            )

    def __call__(self, x: Array) -> Array:
        return xp.linear(x, self.weight, self.bias)

    @staticmethod
    def init(
        in_features: int, out_features: int, rng: np.random.Generator, dtype: Any = "float64", gain: float = 1.0
    ) -> "Linear":
        """Weights uniform on +-gain sqrt(3 / in), so that their variance is gain^2 / in; zero bias."""
        bound = gain * (3.0 / max(in_features, 1)) ** 0.5
        weight = (
            rng.uniform(-bound, bound, (in_features, out_features)) if gain else np.zeros((in_features, out_features))
        )
        return Linear(weight.astype(dtype), np.zeros(out_features, dtype=dtype))


class Conditioner(Module):
    """theta = h(x_1, c). Subclass it, decorated with `module`, to bring a network of your own."""

    @property
    @abstractmethod
    def in_features(self) -> int:
        """How many kept coordinates it reads."""

    @property
    @abstractmethod
    def out_features(self) -> int:
        """How many parameters it returns."""

    @property
    @abstractmethod
    def context_dim(self) -> int:
        """How many context columns it reads; 0 if none."""

    @abstractmethod
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """The parameters `(..., out_features)` at x `(..., in_features)`."""


def with_context(x: Array, context: Array | None, context_dim: int) -> Array:
    """[x | context], the context broadcast to the batch shape of x."""
    if context_dim == 0:
        return x
    if context is None:
        raise ShapeError(f"expected a context of shape (..., {context_dim}), got none")
    return xp.concat([x, xp.broadcast_to(context, (*x.shape[:-1], context_dim))], axis=-1)


def dropped(h: Array, rate: float, rng: np.random.Generator | None) -> Array:
    """h with each unit set to 0 with probability `rate` and the others divided by 1 - rate (Srivastava, 2014)."""
    if rng is None or rate == 0.0:
        return h
    kept = rng.random(xp.shape(h), dtype=np.float32) >= rate
    return h * (xp.asarray(kept, like=h) * (1.0 / (1.0 - rate)))


def with_dropout(m: M, rng: np.random.Generator | None) -> M:
    """Return the module with dropout switched on in its conditioners, drawing from rng; off where rng is None.

    A flow with dropout is a random map whose inverse undoes another draw: it is for one training step only.
    """
    return map_modules(lambda part: replace(part, rng=rng) if drops(part) else part, m)


def drops(part: Any) -> bool:
    """Whether the module is a conditioner that drops units while training: one with a `dropout` rate above 0."""
    return isinstance(part, Conditioner) and getattr(part, "dropout", 0.0) > 0.0


def _check_network(layers: Sequence[Linear], activation: str, dropout: float) -> None:
    activation_function(activation)
    if not 0.0 <= dropout < 1.0:
        raise StructureError(f"expected a dropout rate in [0, 1), got {dropout}")
    for a, b in zip(layers[:-1], layers[1:], strict=True):
        if xp.shape(a.weight)[1] != xp.shape(b.weight)[0]:
            raise ShapeError(f"expected layers that fit, got {xp.shape(a.weight)} before {xp.shape(b.weight)}")


@module
class MLP(Conditioner):
    """The multilayer perceptron h_0 = [x | c], h_k = a(h_{k-1} W_k + b_k), theta = h_K W_{K+1} + b_{K+1}.

    Dropout, if any, follows each activation while training.
    """

    layers: tuple[Linear, ...]
    activation: str = "relu"
    context_dim: int = 0
    dropout: float = 0.0
    rng: np.random.Generator | None = field(default=None, metadata={"transient": True})

    def __post_init__(self) -> None:
        _check_network(self.layers, self.activation, self.dropout)

    @property
    def in_features(self) -> int:
        return xp.shape(self.layers[0].weight)[0] - self.context_dim

    @property
    def out_features(self) -> int:
        return xp.shape(self.layers[-1].bias)[0]

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        activate = ACTIVATIONS[self.activation]
        h = with_context(x, context, self.context_dim)
        for layer in self.layers[:-1]:
            h = dropped(activate(layer(h)), self.dropout, self.rng)
        return self.layers[-1](h)

    @staticmethod
    def init(
        in_features: int,
        out_features: int,
        *,
        rng: np.random.Generator,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        context_dim: int = 0,
        dropout: float = 0.0,
        dtype: Any = "float64",
    ) -> "MLP":
        """Random hidden layers (He et al., 2015: variance 2/in for relu, 1/in otherwise) and a last layer of zeros."""
        gain = 2.0**0.5 if activation in ("relu", "leaky_relu") else 1.0
        require_sequence(hidden, "hidden")
        sizes = (in_features + context_dim, *hidden)
        layers = [Linear.init(a, b, rng, dtype, gain) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        layers.append(Linear.init(sizes[-1], out_features, rng, dtype, gain=0.0))
        return MLP(tuple(layers), activation, context_dim, dropout)


@module
class ResidualNet(Conditioner):
    """The residual network (He et al., 2016, pre-activation form)

        h_0 = [x | c] W_in + b_in,   h_k = h_{k-1} + a(a(h_{k-1}) U_k + u_k) V_k + v_k,   theta = a(h_K) W_out + b_out.

    `blocks` holds U_1, V_1, U_2, V_2, ... in that order. Dropout, if any, precedes each V_k while training.
    """

    first: Linear
    blocks: tuple[Linear, ...]
    last: Linear
    activation: str = "relu"
    context_dim: int = 0
    dropout: float = 0.0
    rng: np.random.Generator | None = field(default=None, metadata={"transient": True})

    def __post_init__(self) -> None:
        _check_network((self.first, *self.blocks, self.last), self.activation, self.dropout)
        if len(self.blocks) % 2:
            raise StructureError(f"expected an even number of block layers (U_1, V_1, ...), got {len(self.blocks)}")

    @property
    def in_features(self) -> int:
        return xp.shape(self.first.weight)[0] - self.context_dim

    @property
    def out_features(self) -> int:
        return xp.shape(self.last.bias)[0]

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        activate = ACTIVATIONS[self.activation]
        h = self.first(with_context(x, context, self.context_dim))
        for u, v in zip(self.blocks[0::2], self.blocks[1::2], strict=True):
            h = h + v(dropped(activate(u(activate(h))), self.dropout, self.rng))
        return self.last(activate(h))

    @staticmethod
    def init(
        in_features: int,
        out_features: int,
        *,
        rng: np.random.Generator,
        width: int = 128,
        blocks: int = 2,
        activation: str = "relu",
        context_dim: int = 0,
        dropout: float = 0.0,
        dtype: Any = "float64",
    ) -> "ResidualNet":
        """Random layers, each block's V small enough that depth does not grow h, and a last layer of zeros."""
        inner: list[Linear] = []
        for _ in range(blocks):
            inner.append(Linear.init(width, width, rng, dtype, gain=2.0**0.5))
            inner.append(Linear.init(width, width, rng, dtype, gain=1.0 / max(blocks, 1) ** 0.5))
        first = Linear.init(in_features + context_dim, width, rng, dtype)
        last = Linear.init(width, out_features, rng, dtype, gain=0.0)
        return ResidualNet(first, tuple(inner), last, activation, context_dim, dropout)


@module
class Periodic(Conditioner):
    """theta = h([cos(pi x_1 / B) | sin(pi x_1 / B)], c): a network of angles in [-B, B], whose ends are one point.

    `network` reads a cosine and a sine for every angle.
    """

    network: Conditioner
    bound: float

    def __post_init__(self) -> None:
        if self.network.in_features % 2 or not 0.0 < self.bound < float("inf"):
            raise StructureError(
                f"expected a network of a cosine and a sine for each angle and a positive bound, got one of "
                f"{self.network.in_features} numbers and {self.bound}"
            )

    @property
    def in_features(self) -> int:
        return self.network.in_features // 2

    @property
    def out_features(self) -> int:
        return self.network.out_features

    @property
    def context_dim(self) -> int:
        return self.network.context_dim

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        angle = xp.pi(x) * x / xp.constant(self.bound, x)
        return self.network(xp.concat([xp.cos(angle), xp.sin(angle)], axis=-1), context)
