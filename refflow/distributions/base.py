"""What every base density is: log p and draws."""

from abc import ABC, abstractmethod

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.errors import ShapeError
from refflow.modules import Module


class Distribution(Module, ABC):
    """A density on events of a fixed shape."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one event."""

    @abstractmethod
    def log_prob(self, z: Array) -> Array:
        """log p(z) in nats, of the batch shape of z."""

    @abstractmethod
    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        """Draws of shape `(*batch_shape, *shape)` in the library, dtype and device of `like`."""


def standard_normal(shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
    """Independent draws from N(0, 1)."""
    return xp.asarray(rng.standard_normal(shape), like=like)


def require_one_shape(a: Array, b: Array, names: str) -> None:
    """Refuse two parameters that are not of one event shape."""
    if xp.shape(a) != xp.shape(b) or not xp.shape(a):
        raise ShapeError(f"expected {names} of one event shape, got {xp.shape(a)} and {xp.shape(b)}")
