"""The smallest input that still fails: what a person wants to read in a bug report."""

from collections.abc import Callable

import numpy as np

DIGITS = (0, 1, 2, 3, 4, 6)
"""Decimals tried, the fewest first."""


def shrink(fails: Callable[[np.ndarray], bool], x: np.ndarray, tries: int = 200) -> np.ndarray:
    """A row that still fails and is simpler: zeros first, then few decimals, one coordinate at a time.

    `fails` is asked at most `tries` times; the row itself is known to fail. The result fails whatever happens.

    >>> shrink(lambda row: row[0] > 3.0, np.array([5.87654, 0.1234])).tolist()
    [6.0, 0.0]
    """
    best = np.array(x)
    left = tries
    for candidate in _whole(best):
        if left and _simpler(candidate, best) and fails(candidate):
            best = candidate
            break
        left -= 1
    for i in np.ndindex(best.shape):
        for value in _values(float(best[i])):
            candidate = np.array(best)
            candidate[i] = value
            if left <= 0:
                return best
            if not _simpler(candidate, best):
                continue
            left -= 1
            if fails(candidate):
                best = candidate
                break
    return best


def _whole(x: np.ndarray) -> list[np.ndarray]:
    """The row with all its coordinates simplified at once."""
    return [np.zeros_like(x), *(np.round(x, n) for n in DIGITS)]


def _values(value: float) -> list[float]:
    """Simpler numbers than this one, the simplest first."""
    around = [np.trunc(value), np.round(value), *(np.round(value, n) for n in DIGITS[1:])]
    halves = [np.trunc(value / 2.0)] if abs(value) > 2.0 else []
    return [0.0, *map(float, halves), *map(float, around)]


def _simpler(candidate: np.ndarray, best: np.ndarray) -> bool:
    return _length(candidate) < _length(best)


def _length(x: np.ndarray) -> tuple[int, int]:
    """How long a row is to write: the coordinates that are not 0, then the digits."""
    return int(np.count_nonzero(x)), sum(len(repr(float(v))) for v in x.ravel())
