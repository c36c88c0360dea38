"""Where a target is asked: rows that reach its branches, its edges and its tails.

Points are drawn on both sides independently: y is not f(x), so that neither direction is asked only about what the
other has just made. Most rows are ordinary, some are far out, some hold zeros and exact small numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.errors import ShapeError
from refflow.verification.targets import Box, Target

FAR = 6.0
"""How far the rows far out reach, in standard deviations."""


@dataclass(frozen=True)
class Points:
    """Rows x of the domain and y of the codomain, each with its context."""

    x: np.ndarray
    y: np.ndarray
    context: np.ndarray | None

    def astype(self, dtype: Any) -> "Points":
        """The same rows in another precision."""
        c = None if self.context is None else self.context.astype(dtype)
        return Points(self.x.astype(dtype), self.y.astype(dtype), c)

    def turned(self) -> "Points":
        """With the two sides exchanged."""
        return Points(self.y, self.x, self.context)

    def first(self, n: int) -> "Points":
        """n rows, spread over all of them."""
        keep = np.unique(np.linspace(0, len(self.x) - 1, n).astype(int))
        return Points(self.x[keep], self.y[keep], None if self.context is None else self.context[keep])

    def side_of(self, row: np.ndarray) -> str:
        """Which side has this row: "x" or "y"; "" for neither."""
        for side in ("x", "y"):
            rows = getattr(self, side)
            if rows.shape[1:] == row.shape and (rows == row).reshape(len(rows), -1).all(axis=1).any():
                return side
        return ""


def completed(target: Target, given: Points | Mapping[str, Any] | np.ndarray, seed: int) -> Points:
    """Rows x `(N, *event)`, or a mapping of "x", "y" and "context", with what is missing drawn."""
    if isinstance(given, Points):
        given = vars(given)
    elif not isinstance(given, Mapping):
        given = {"x": given}
    rows = {side: np.array(value, dtype=np.float64) for side, value in given.items() if value is not None}
    if not rows or not set(rows) <= {"x", "y", "context"} or len({len(np.atleast_1d(a)) for a in rows.values()}) != 1:
        raise ShapeError(f"expected points as rows x, or as x, y and context of one length, got {sorted(given)}")
    found = points(target, len(next(iter(rows.values()))), seed)
    for side, value in rows.items():
        shape = None if (other := getattr(found, side)) is None else other.shape
        if value.shape != shape:
            raise ShapeError(f"expected points {side} of shape {shape}, got {value.shape}")
    return replace(found, **rows)


def points(target: Target, n: int, seed: int) -> Points:
    """n rows for each side of the target, in float64."""
    rng = np.random.default_rng([seed, 1])
    output = target.event_shape if target.output_shape is None else target.output_shape
    x = box_rows(rng, n, target.event_shape, target.domain)
    y = box_rows(rng, n, output, target.codomain)
    return Points(x, y, contexts(target, n, rng))


def contexts(target: Target, n: int, rng: np.random.Generator) -> np.ndarray | None:
    """n rows of the target's context, in random order."""
    if target.context is None:
        return None
    return np.asarray(target.context, dtype=np.float64)[rng.integers(0, len(target.context), n)]


def box_rows(rng: np.random.Generator, n: int, shape: tuple[int, ...], box: Box | None) -> np.ndarray:
    """Rows `(n, *shape)` that are rounded to float32, so that both precisions see the same numbers."""
    z = rng.standard_normal((n, *shape))
    far = np.arange(n) % 4 == 3
    z[far] *= FAR / 2.0
    exact = np.arange(n) % 8 == 5
    z[exact] = np.round(z[exact] * 4.0) / 4.0
    rows = np.asarray(into_box(z, box), dtype=np.float32)
    if box is not None:  # rounded to float32, they may lie on its ends or beyond
        low, high = (np.float32(end) for end in box)
        inner = np.nextafter(low, np.float32(np.inf)), np.nextafter(high, np.float32(-np.inf))
        rows = np.clip(rows, *inner)
    return rows.astype(np.float64)


def into_box(z: np.ndarray, box: Box | None) -> np.ndarray:
    """Numbers of the line, taken into the open box: by a logistic curve between two ends, by exp from one."""
    low, high = (-np.inf, np.inf) if box is None else box
    if np.isfinite(low) and np.isfinite(high):
        return np.asarray(low + (high - low) / (1.0 + np.exp(-z)))
    if np.isfinite(low):
        return np.asarray(low + np.exp(z))
    if np.isfinite(high):
        return np.asarray(high - np.exp(-z))
    return z
