"""Base densities: log p_Z and sampling.

Log-densities are in nats. Random numbers come from a NumPy generator, always an argument, and are then moved to the
library and device asked for: the same seed gives the same numbers everywhere.
"""

import math
from abc import ABC, abstractmethod

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import event_size, sum_event
from refflow.errors import ShapeError, StructureError
from refflow.modules import Module, module


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


def _normal(shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
    return xp.asarray(rng.standard_normal(shape), like=like)


@module
class StandardNormal(Distribution):
    r"""N(0, I): log p(z) = -1/2 sum_i z_i^2 - D/2 log(2 pi)."""

    event_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.event_shape or event_size(self.event_shape) < 1:
            raise StructureError(f"expected an event shape of positive sizes such as (2,), got {self.event_shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.event_shape

    def log_prob(self, z: Array) -> Array:
        rank, size = len(self.event_shape), event_size(self.event_shape)
        return -0.5 * sum_event(xp.square(z), rank) - (0.5 * size) * xp.log(2.0 * xp.pi(z))

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        return _normal((*batch_shape, *self.event_shape), rng, like)


@module
class DiagonalNormal(Distribution):
    r"""N(m, diag exp(2 a)), with mean m and log standard deviation a, trainable:

    log p(z) = -1/2 sum_i ((z_i - m_i) exp(-a_i))^2 - sum_i a_i - D/2 log(2 pi).
    """

    mean: Array
    log_std: Array

    def __post_init__(self) -> None:
        if xp.shape(self.mean) != xp.shape(self.log_std) or not xp.shape(self.mean):
            raise ShapeError(
                f"expected mean and log_std of one event shape, got {xp.shape(self.mean)} and {xp.shape(self.log_std)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return xp.shape(self.mean)

    def log_prob(self, z: Array) -> Array:
        standard = (z - self.mean) * xp.exp(-self.log_std)
        constant = math.prod(self.shape) * 0.5 * xp.log(2.0 * xp.pi(z))
        return -0.5 * sum_event(xp.square(standard), len(self.shape)) - xp.sum(self.log_std) - constant

    def sample(self, batch_shape: tuple[int, ...], rng: np.random.Generator, like: Array) -> Array:
        return self.mean + xp.exp(self.log_std) * _normal((*batch_shape, *self.shape), rng, like)
