"""Where a curve is not smooth: the jump in value or slope that does not shrink when it is looked at more closely."""

from collections.abc import Callable
from typing import Any

import numpy as np

Values = Callable[[np.ndarray], np.ndarray]
"""Rows `(n, *event)` to values of the same shape."""

REACH = 6.0
"""Each coordinate is followed over [-6, 6]."""

POINTS = 241
"""Points along a coordinate at first."""

ZOOMS = 4
"""How many times the neighbourhood is cut to a 16th: smooth curves lose a factor 2^16 of their change of slope."""

STAYS = 0.05
"""The share of its first size, and of the slope, that a kink keeps."""


def find_kink(values: Values, x: np.ndarray, domain: tuple[float, float] | None = None) -> dict[str, Any] | None:
    """The sharpest kink of y_j along x_j, over all j, as points `t`, `y` and `slope` around it; None if all is smooth.

    The other coordinates stay as in x `(*event)`.
    """
    low, high = _interval(domain)
    found = None
    for j in range(min(x.size, 16)):
        curve = _curve(values, x, j)
        kink = _zoom(curve, low, high)
        if kink is not None and (found is None or kink[1] > found[0]):
            found = kink[1], j, kink[0], curve
    if found is None:
        return None
    size, j, at, curve = found
    width = 0.02 * (high - low)
    t = np.linspace(max(low, at - width), min(high, at + width), 121)
    y = curve(t)
    around = at + 1e-5 * (high - low) * np.array([-2.0, -1.0, 1.0, 2.0])
    before, after = _slope(curve(around[:2]), around[:2]), _slope(curve(around[2:]), around[2:])
    return {
        "coordinate": j, "at": at, "t": t.tolist(), "y": y.tolist(), "slope": (np.diff(y) / np.diff(t)).tolist(),
        "before": float(before[0]), "after": float(after[0]), "change": size,
        "jump": float(np.diff(curve(around[1:3]))[0] - 0.5 * (before[0] + after[0]) * (around[2] - around[1])),
    }  # fmt: skip


def _interval(domain: tuple[float, float] | None) -> tuple[float, float]:
    low, high = (-REACH, REACH) if domain is None else domain
    low, high = max(low, -REACH), min(high, REACH)
    margin = 1e-3 * (high - low)
    return low + margin, high - margin


def _curve(values: Values, x: np.ndarray, j: int) -> Callable[[np.ndarray], np.ndarray]:
    def along(t: np.ndarray) -> np.ndarray:
        rows = np.repeat(x.reshape(1, -1).astype(np.float64), len(t), axis=0)
        rows[:, j] = t
        return np.asarray(values(rows.reshape(-1, *x.shape)), dtype=np.float64).reshape(len(t), -1)[:, j]

    return along


def _slope(y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray(np.diff(y) / np.diff(t))


def _zoom(curve: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> tuple[float, float] | None:
    """Where the slope changes most abruptly, and by which share of it; None where the change shrinks with the width."""
    t = np.linspace(low, high, POINTS)
    for _ in range(ZOOMS):
        change, at = _largest_change(curve(t), t)
        if not change > STAYS:
            return None
        width = 1.5 * (t[1] - t[0])
        t = np.linspace(max(low, at - width), min(high, at + width), 49)
    change, at = _largest_change(curve(t), t)
    return (at, change) if change > STAYS else None


def _largest_change(y: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """The largest change of slope between one interval and the next but one, relative to the larger slope."""
    slopes = _slope(y, t)
    before, after = slopes[:-2], slopes[2:]
    scale = np.maximum(np.abs(before), np.abs(after))
    scale = np.maximum(scale, 1e-3 * np.nanmax(np.abs(slopes), initial=0.0))
    known = np.isfinite(scale) & (scale > 0.0)
    change = np.where(known, np.abs(after - before) / np.where(known, scale, 1.0), 0.0)
    i = int(np.argmax(change))
    return float(change[i]), float(0.5 * (t[i + 1] + t[i + 2]))
