r"""Sound layers in plain NumPy, written as a port would write them, with nothing of refflow's.

A layer has `forward(x, c)` and `inverse(y, c)` for rows x `(..., D)` and context c `(..., C)` or None, each giving
`(value, log_det)` with log_det `(...)`. It computes in the dtype of x: float32, float64, long double or complex, to
which the parameters are rounded first. Networks are never zero and no log-determinant is 0 by chance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""A NumPy array of any floating dtype, complex included."""

Pair = tuple[Array, Array]

STEEPEST = 1.5
"""The largest |s| of a coupling: scales stay within e^-1.5 and e^1.5, whatever the weights."""


class Layer:
    """Parameters by name, and two directions."""

    def __init__(self, **parameters: Array) -> None:
        self.parameters = parameters

    def get(self, name: str, like: Array) -> Array:
        """A parameter in the precision of `like`."""
        return self.parameters[name].astype(like.real.dtype)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        raise NotImplementedError

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        raise NotImplementedError


def constant(value: Array, x: Array) -> Array:
    """The same log-determinant for every row of x `(..., D)`."""
    return np.full(x.shape[:-1], value, dtype=x.dtype)


def weights(rng: np.random.Generator, sizes: Sequence[int], scale: float) -> dict[str, Array]:
    """A network with one hidden layer: entries of order scale / sqrt(inputs), none of them 0."""
    inputs, hidden, outputs = sizes
    return {
        "W0": scale * rng.standard_normal((inputs, hidden)) / math.sqrt(inputs),
        "b0": 0.3 * scale * rng.standard_normal(hidden),
        "W1": scale * rng.standard_normal((hidden, outputs)) / math.sqrt(hidden),
        "b1": 0.3 * scale * rng.standard_normal(outputs),
    }


class Coupling(Layer):
    """y_b = e^s x_b + t with (s, t) a network of x_a and the context; log_det = sum s (Dinh et al., 2017)."""

    def __init__(self, rng: np.random.Generator, mask: Sequence[bool], scale: float, contexts: int = 0) -> None:
        self.a, self.b = np.flatnonzero(mask), np.flatnonzero(~np.asarray(mask))
        super().__init__(**weights(rng, (self.inputs() + contexts, 8, 2 * len(self.b)), scale))

    def inputs(self) -> int:
        return len(self.a)

    def features(self, xa: Array, c: Array | None) -> Array:
        """What the network sees."""
        return xa if c is None else np.concatenate([xa, c.astype(xa.dtype)], axis=-1)

    def network(self, h: Array) -> Array:
        h = np.tanh(h @ self.get("W0", h) + self.get("b0", h))
        return h @ self.get("W1", h) + self.get("b1", h)

    def scale_and_shift(self, xa: Array, c: Array | None) -> Pair:
        """s, bounded, and t."""
        s, t = np.split(self.network(self.features(xa, c)), 2, axis=-1)
        return STEEPEST * np.tanh(s), t

    def join(self, x: Array, moved: Array) -> Array:
        """x with its coordinates b replaced."""
        y = np.array(x)
        y[..., self.b] = moved
        return y

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(x[..., self.a], c)
        return self.join(x, x[..., self.b] * np.exp(s) + t), np.sum(s, axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        s, t = self.scale_and_shift(y[..., self.a], c)
        return self.join(y, (y[..., self.b] - t) * np.exp(-s)), -np.sum(s, axis=-1)


class Permutation(Layer):
    """y_i = x_p(i)."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order, self.back = np.asarray(order), np.argsort(order)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return x[..., self.order], constant(0.0, x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return y[..., self.back], constant(0.0, y)


class ActNorm(Layer):
    """y = e^a x + b with constants a, b `(D,)`; log_det = sum a (Kingma and Dhariwal, 2018)."""

    def __init__(self, rng: np.random.Generator, size: int, scale: float) -> None:
        super().__init__(a=0.2 * scale * rng.standard_normal(size), b=0.5 * scale * rng.standard_normal(size))

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        a, b = self.get("a", x), self.get("b", x)
        return x * np.exp(a) + b, constant(np.sum(a), x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        a, b = self.get("a", y), self.get("b", y)
        return (y - b) * np.exp(-a), constant(-np.sum(a), y)


class LU(Layer):
    """y = P L U x: L with a unit diagonal, U with the diagonal sign_i e^d_i, two of its signs negative."""

    def __init__(self, rng: np.random.Generator, size: int, scale: float) -> None:
        off = 0.2 * scale * rng.standard_normal((2, size, size))
        super().__init__(lower=off[0], upper=off[1], d=0.15 * scale * rng.standard_normal(size))
        self.sign = np.where(np.arange(size) % 2 == 1, -1.0, 1.0)
        self.order = np.roll(np.arange(size), 1)
        self.back = np.argsort(self.order)

    def factors(self, x: Array) -> Pair:
        """L and U in the precision of x."""
        eye = np.eye(len(self.sign), dtype=x.real.dtype)
        diagonal = self.sign.astype(eye.dtype) * np.exp(self.get("d", x))
        return np.tril(self.get("lower", x), -1) + eye, np.triu(self.get("upper", x), 1) + eye * diagonal

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(x)
        return (x @ upper.T @ lower.T)[..., self.order], constant(np.sum(self.get("d", x)), x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        x = solve_upper(upper, solve_lower(lower, y[..., self.back]))
        return x, constant(-np.sum(self.get("d", y)), y)


def solve_lower(matrix: Array, y: Array) -> Array:
    """x of L x = y for rows y `(..., D)`, in any dtype."""
    x = np.array(y)
    for i in range(len(matrix)):
        x[..., i] = (y[..., i] - x[..., :i] @ matrix[i, :i]) / matrix[i, i]
    return x


def solve_upper(matrix: Array, y: Array) -> Array:
    """x of U x = y for rows y `(..., D)`, in any dtype."""
    return solve_lower(matrix[::-1, ::-1], y[..., ::-1])[..., ::-1]


class Chain(Layer):
    """One layer after the other; log-determinants add up."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = list(layers)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        total = 0.0
        for layer in self.layers:
            x, log_det = layer.forward(x, c)
            total = total + log_det
        return x, total

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        total = 0.0
        for layer in reversed(self.layers):
            y, log_det = layer.inverse(y, c)
            total = total + log_det
        return y, total

    def read_parameters(self) -> dict[str, Array]:
        """A copy of every parameter, by the number of its layer and its name."""
        return {f"{i}.{k}": np.array(v) for i, f in enumerate(self.layers) for k, v in f.parameters.items()}

    def set_parameters(self, values: dict[str, Array]) -> None:
        """Give the named parameters new values."""
        for key, value in values.items():
            number, name = key.split(".")
            self.layers[int(number)].parameters[name] = np.array(value)


def keywords(f: Chain, event_shape: tuple[int, ...], context: Array | None = None, **more: Any) -> dict[str, Any]:
    """A chain as the keyword arguments of `refflow.verify`."""
    found = {
        "forward": f.forward,
        "inverse": f.inverse,
        "event_shape": event_shape,
        "layers": [{"forward": part.forward, "inverse": part.inverse} for part in f.layers],
        "parameters": f.read_parameters,
        "set_parameters": f.set_parameters,
    }
    return found | ({} if context is None else {"context": context}) | more


def rounded(a: Array, single: type = np.float32) -> Array:
    """Through float32 and back; complex numbers through complex64."""
    return a.astype(np.complex64 if a.dtype.kind == "c" else single).astype(a.dtype)
