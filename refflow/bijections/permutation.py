"""Rearrangements of the coordinates."""

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros
from refflow.errors import StructureError
from refflow.modules import module


@module
class Permutation(Bijection):
    r"""The coordinates along the last axis in another order:

    y_i = x_{order_i}                                                          (1)
    log|det dy/dx| = 0                                                         (2)
    x_{order_i} = y_i                                                          (3)
    """

    order: tuple[int, ...]
    rank: int = 1

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or not self.order:
            raise StructureError(f"expected each of 0 .. {len(self.order) - 1} once, got {self.order}")
        if self.rank < 1:
            raise StructureError(f"expected an event rank of at least 1, got {self.rank}")

    @property
    def event_rank(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return (len(self.order),) if self.rank == 1 else None

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.take(x, self.order, axis=-1), batch_zeros(x, self.rank)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        undo = tuple(sorted(range(len(self.order)), key=self.order.__getitem__))
        return xp.take(y, undo, axis=-1), batch_zeros(y, self.rank)  # (3), (2)

    @staticmethod
    def random(dim: int, seed: int | np.random.Generator) -> "Permutation":
        """An order drawn uniformly."""
        return Permutation(tuple(int(i) for i in np.random.default_rng(seed).permutation(dim)))


@module
class Reverse(Bijection):
    r"""The coordinates along the last axis from last to first: y_i = x_{D-1-i}, its own inverse, log-determinant 0."""

    rank: int = 1

    @property
    def event_rank(self) -> int:
        return self.rank

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.flip(x, axis=-1), batch_zeros(x, self.rank)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return xp.flip(y, axis=-1), batch_zeros(y, self.rank)
