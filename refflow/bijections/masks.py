"""Which coordinates a coupling keeps and which it moves.

A mask names the **moved** coordinates by their position in the event, flattened in row-major order. `split` gives
(x_1, x_2) = (kept, moved), each in increasing position; `join` puts them back.
"""

from dataclasses import field

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import batch_shape, event_size
from refflow.errors import StructureError
from refflow.modules import Module, module


@module
class Mask(Module):
    """The event's shape and the positions that move; all others are kept.

    >>> import numpy as np
    >>> mask = Mask((4,), moved=(1, 2))
    >>> mask.split(np.array([10.0, 11.0, 12.0, 13.0]))
    (array([10., 13.]), array([11., 12.]))
    """

    event_shape: tuple[int, ...]
    moved: tuple[int, ...]
    kept: tuple[int, ...] = field(init=False, metadata={"transient": True})
    """The positions that do not move."""
    gather: tuple[int, ...] = field(init=False, metadata={"transient": True})
    """Where each position is found in [x_1 | x_2]."""
    runs: tuple[tuple[int, int] | None, tuple[int, int] | None] = field(init=False, metadata={"transient": True})
    """First and last + 1 of the kept and of the moved positions, where they are consecutive; None where not."""

    def __post_init__(self) -> None:
        size = event_size(self.event_shape)
        if not self.event_shape or size < 1:
            raise StructureError(f"expected an event shape of positive sizes, got {self.event_shape}")
        if (
            not self.moved
            or sorted(set(self.moved)) != list(self.moved)
            or not 0 <= self.moved[0] <= self.moved[-1] < size
        ):
            raise StructureError(
                f"expected moved positions in increasing order, at least one, in [0, {size}), got {self.moved}"
            )
        kept = tuple(sorted(set(range(size)).difference(self.moved)))
        order = (*kept, *self.moved)
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "gather", tuple(sorted(range(size), key=order.__getitem__)))
        object.__setattr__(self, "runs", (_run(kept), _run(self.moved)))

    def flip(self) -> "Mask":
        """The mask that keeps what this one moves; where this one keeps nothing, the same mask."""
        return Mask(self.event_shape, self.kept) if self.kept else self

    def split(self, x: Array) -> tuple[Array, Array]:
        """(x_1, x_2): the kept and the moved coordinates of every event, as vectors."""
        rows = self._rows(x)
        return _select(rows, self.kept, self.runs[0]), _select(rows, self.moved, self.runs[1])

    def join(self, x1: Array, x2: Array) -> Array:
        """The events whose kept coordinates are x_1 and whose moved ones are x_2."""
        kept, moved = self.runs
        if moved is not None and moved[0] == 0:
            rows = xp.concat([x2, x1], axis=-1)
        else:
            rows = xp.concat([x1, x2], axis=-1)
            if kept is None or moved is None or kept[1] != moved[0]:
                rows = xp.take(rows, self.gather, axis=-1)
        return rows if len(self.event_shape) == 1 else xp.reshape(rows, (*rows.shape[:-1], *self.event_shape))

    def _rows(self, x: Array) -> Array:
        rank = len(self.event_shape)
        return x if rank == 1 else xp.reshape(x, (*batch_shape(x, rank), event_size(self.event_shape)))


def _run(positions: tuple[int, ...]) -> tuple[int, int] | None:
    """(first, last + 1) of increasing positions that are consecutive; (0, 0) of none; else None."""
    if not positions:
        return 0, 0
    first, last = positions[0], positions[-1]
    return (first, last + 1) if last - first == len(positions) - 1 else None


def _select(rows: Array, positions: tuple[int, ...], run: tuple[int, int] | None) -> Array:
    """Columns of the rows, as a slice where the positions are a run."""
    return xp.take(rows, positions, axis=-1) if run is None else rows[..., run[0] : run[1]]


def half_mask(dim: int, move_last: bool = True) -> Mask:
    """Move the last half, or the first. With odd `dim` the first half is the larger one; one dimension alone moves."""
    cut = (dim + 1) // 2
    if dim == 1:
        return Mask((1,), (0,))
    return Mask((dim,), tuple(range(cut, dim)) if move_last else tuple(range(cut)))


def alternating_mask(dim: int, move_odd: bool = True) -> Mask:
    """Move every second coordinate: those at odd positions (counted from 0), or at even ones."""
    if dim == 1:
        return Mask((1,), (0,))
    return Mask((dim,), tuple(range(1 if move_odd else 0, dim, 2)))


def checkerboard_mask(height: int, width: int, channels: int = 1, move_odd: bool = True) -> Mask:
    """Move the pixels of an (H, W, C) image whose row and column add up to an odd number, or to an even one
    (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.4)."""
    positions = [
        (i * width + j) * channels + c
        for i in range(height)
        for j in range(width)
        for c in range(channels)
        if (i + j) % 2 == int(move_odd)
    ]
    return Mask((height, width, channels), tuple(positions))


def channel_mask(height: int, width: int, channels: int, move_last: bool = True) -> Mask:
    """Move the last half of the channels of an (H, W, C) image, or the first (Dinh et al., 2017, section 3.4)."""
    moved = set(half_mask(channels, move_last).moved)
    size = height * width * channels
    return Mask((height, width, channels), tuple(k for k in range(size) if k % channels in moved))
