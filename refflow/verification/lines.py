"""Coordinate lines: one coordinate of a row runs, the others stay. Where on them a map may break, and a look at that.

Many lines are followed at once, one call of the map for all of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.comparison import Context, taken
from refflow.verification.conditioning import unit
from refflow.verification.targets import Box

NUMBERS = 4_000_000
"""How many numbers are handed to the map at once, at most."""

ROUND = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 16.0, 20.0, 32.0, 50.0)
"""Where people put bounds; 0 and both signs besides."""

FAR = (64.0, 1e3, 1e4, 1e6)
"""Where only the tails are."""

CHAIN = 64
"""Neighbouring floats on each side of a place that is looked at closely."""


APART = 4
"""How many points of a line the next place is away from those before it."""


@dataclass(frozen=True)
class Lines:
    """L lines: rows `(L, *event)`, their contexts, and the coordinate that runs in each `(L,)`."""

    x: np.ndarray
    context: Context
    j: np.ndarray

    def astype(self, dtype: Any) -> "Lines":
        """The same lines in another precision."""
        return Lines(self.x.astype(dtype), None if self.context is None else self.context.astype(dtype), self.j)

    def only(self, i: Any) -> "Lines":
        """The i-th line alone, or those of an array of numbers."""
        i = np.atleast_1d(i)
        return Lines(self.x[i], taken(self.context, i), self.j[i])

    def rows(self, t: np.ndarray) -> tuple[np.ndarray, Context]:
        """The points t `(L, T)` of the lines as rows `(L T, *event)`, with their contexts."""
        n, k = t.shape
        flat = np.repeat(self.x.reshape(n, -1), k, axis=0)
        flat[np.arange(n * k), np.repeat(self.j, k)] = t.ravel()
        return flat.reshape(n * k, *self.x.shape[1:]), taken(self.context, np.repeat(np.arange(n), k))

    def values(self, f: Any, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y `(L, T, M)` and log_det `(L, T)` at the points t of the lines."""
        rows, c = self.rows(np.asarray(t, dtype=self.x.dtype))
        y, log_det = forward(f, rows, c)
        n, k = t.shape
        return np.asarray(y).reshape(n, k, -1), np.broadcast_to(np.asarray(log_det), (n * k,)).reshape(n, k)


def lines(x: np.ndarray, context: Context, count: int, points: int = 400) -> Lines:
    """At most `count` lines through different rows along different coordinates, so few that `points` on each fit."""
    size = x[0].size
    count = max(1, min(count, len(x) * size, NUMBERS // (points * size)))
    i, k = np.arange(count) % len(x), np.arange(count)
    chosen = np.round(np.linspace(0, size - 1, min(count, size))).astype(int)  # the first and the last among them
    return Lines(x[i], taken(context, i), chosen[k % len(chosen)])


def round_numbers(domain: Box | None) -> np.ndarray:
    """0 and the usual bounds of both signs, or the ends of the domain's box, and what lies inside it of them."""
    places = np.array([0.0, *ROUND, *(-r for r in ROUND)])
    low, high = (-np.inf, np.inf) if domain is None else domain
    return np.asarray(places[(places > low) & (places < high)])


def beside(t: np.ndarray, k: np.ndarray, dtype: Any) -> np.ndarray:
    """The k-th floats above t, `(..., len(k))`; below it where k < 0."""
    t = np.asarray(t, dtype=dtype)[..., None]
    return np.asarray(t + k.astype(dtype) * np.spacing(np.abs(t)), dtype=dtype)


def breaks(f: Any, along: Lines, domain: Box | None = None) -> np.ndarray:
    """The place on each line where slope or log_det changes most abruptly, `(L,)`.

    Second differences are taken over the line, then between the neighbours of the largest, and so on: those of a
    smooth curve fall with the square of the step, those of a kink with the step, those of a jump not at all. Lines
    along one coordinate start from the largest, the second largest, and so on.
    """
    rank = np.array([int(np.sum(along.j[:k] == j)) for k, j in enumerate(along.j)])
    t = np.tile(_grid(domain), (len(along.j), 1)).astype(along.x.dtype)
    size = np.maximum(1.0, np.max(np.abs(t)))
    for _ in range(40):
        k = _sharpest(*along.values(f, t), t, rank)
        rank = np.zeros_like(rank)
        row = np.arange(len(k))
        low, high = t[row, k], t[row, k + 2]
        room = 0.25 * (high - low)
        t = np.asarray(low[:, None] - room[:, None] + (high - low + 2.0 * room)[:, None] * np.linspace(0.0, 1.0, 17))
        t = _inside(t, domain).astype(along.x.dtype)
        if np.max(high - low) <= 64.0 * unit(along.x.dtype) * size:
            break
    return np.asarray(t[:, 8], dtype=along.x.dtype)


def _grid(domain: Box | None) -> np.ndarray:
    low, high = (-np.inf, np.inf) if domain is None else domain
    if np.isfinite(low) and np.isfinite(high):
        return np.asarray(low + (high - low) * (np.arange(384) + 0.5) / 384.0)
    fine, coarse = (np.arange(-192, 192) + 0.37) / 32.0, np.arange(6.0, 56.0, 0.5) + 0.21
    found = np.concatenate([-coarse[::-1], fine, coarse])
    if np.isfinite(low):
        return np.asarray(low + np.exp2(found / 8.0))
    return np.asarray(high - np.exp2(-found / 8.0) if np.isfinite(high) else found)


def _inside(t: np.ndarray, domain: Box | None) -> np.ndarray:
    """t, kept within the open box."""
    if domain is None:
        return t
    low, high = (np.asarray(end, dtype=t.dtype) for end in domain)
    up, down = np.nextafter(low, np.asarray(np.inf, t.dtype)), np.nextafter(high, np.asarray(-np.inf, t.dtype))
    return np.asarray(np.clip(t, up, down))


def _sharpest(y: np.ndarray, log_det: np.ndarray, t: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Where on each line the second difference is largest, or, by `rank`, the next largest further on: of log_det, or
    of y in units of its steps, of those there or of usual ones, whichever are larger."""
    with np.errstate(all="ignore"):
        rise = np.diff(y, axis=1)
        steps = np.minimum(np.abs(rise[:, 1:]), np.abs(rise[:, :-1]))
        usual = np.median(np.abs(rise), axis=1, keepdims=True)
        bend = np.abs(np.diff(rise, axis=1)) / np.maximum(np.maximum(steps, usual), 1e-300)
        score = np.max(np.minimum(np.nan_to_num(bend, nan=1e6), 1e6), axis=2)
        score = score + np.nan_to_num(np.abs(np.diff(log_det, n=2, axis=1)), nan=1e6, posinf=1e6)
        score = np.where(np.diff(t, n=2, axis=1) > 0.5 * np.diff(t, axis=1)[:, 1:], 0.0, score)  # an uneven grid bends
    found, row = np.argmax(score, axis=1), np.arange(len(score))
    for turn in range(int(rank.max(initial=0))):
        near = np.abs(np.arange(score.shape[1]) - found[:, None]) <= APART
        score = np.where(near & (rank > turn)[:, None], -1.0, score)
        found = np.where(rank > turn, np.argmax(score, axis=1), found)
    return np.asarray(np.where(score[row, found] >= 0.0, found, 0))
