"""What every map is: two directions, each with the log-determinant of its own Jacobian."""

import math
from abc import ABC, abstractmethod

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.modules import Module


class Bijection(Module, ABC):
    r"""An invertible, differentiable map f, with two primitives and only two:

        forward(x) = (f(x), log|det df/dx|),   inverse(y) = (f^-1(y), log|det df^-1/dy|).

    Each returns the log-determinant of the map it just evaluated, so inverse's is minus forward's at the same pair.
    Points are rows: an event of rank r takes the last r axes of x, all other axes are batch, and log-determinants
    have the batch shape. `context` has batch axes that broadcast to x's, and one axis of features.

    Most maps keep the shape of an event. One that changes it (`Squeeze`, `Reshape`) knows both `event_shape`, of x, and
    `output_shape`, of y; a map that knows neither keeps whatever shape it is given.

    A point outside the domain of the map has log-determinant minus infinity and an image without meaning.
    """

    @property
    def event_rank(self) -> int:
        """How many trailing axes make one event: 1 for vectors, 3 for images."""
        return 1

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The shape of one event, or None if the map takes events of any shape of its rank."""
        return None

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of f(x) for one event x, or None if it is whatever shape x has."""
        return self.event_shape

    @property
    def output_rank(self) -> int:
        """How many trailing axes of y make one event."""
        return self.event_rank if self.output_shape is None else len(self.output_shape)

    @property
    def context_dim(self) -> int:
        """How many context columns the map reads; 0 if it is unconditional."""
        return 0

    @abstractmethod
    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """y = f(x) and log|det df/dx|."""

    @abstractmethod
    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        """x = f^-1(y) and log|det df^-1/dy|."""


def batch_shape(x: Array, event_rank: int) -> tuple[int, ...]:
    """The shape of x without its event axes."""
    return tuple(x.shape[: len(x.shape) - event_rank])


def sum_event(x: Array, event_rank: int) -> Array:
    """The sum over the last `event_rank` axes."""
    return xp.sum(x, axis=tuple(range(-event_rank, 0)))


def batch_zeros(x: Array, event_rank: int) -> Array:
    """One zero for every event of x: the log-determinant of a map that preserves volume."""
    return xp.zeros(batch_shape(x, event_rank), like=x)


def repeats(x: Array, event_rank: int) -> float:
    """How many coordinates of an event of x share a channel, the last axis: 1 for vectors, H W for images."""
    return float(math.prod(x.shape[len(batch_shape(x, event_rank)) : -1]))


def event_size(shape: tuple[int, ...]) -> int:
    """The number of coordinates of one event."""
    return math.prod(shape)
