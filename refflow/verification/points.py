"""Where a target is asked: rows that reach its branches, its edges and its tails.

Points are drawn on both sides independently: y is not f(x), so that neither direction is asked only about what the
other has just made. Most rows are ordinary, some are far out, some hold zeros and exact small numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

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
    return np.asarray(into_box(z, box), dtype=np.float32).astype(np.float64)


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
