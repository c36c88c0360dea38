"""The convention probe: which reading of a log-determinant, direction x reduction x kept axes, fits the Jacobian."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from refflow.verification.comparison import Context
from refflow.verification.readings import truth


def name_convention(f: Any, x: np.ndarray, context: Context = None) -> str:
    """Which reading of log_det, direction x reduction x kept axes, fits the Jacobian, where its shape does not."""
    known = truth(f, x, context)
    if known is None:
        return ""
    claimed, n = known.claimed, len(known.log_det)
    if claimed.shape == (n,):
        return ""
    found = []
    for said, read in _reductions(claimed, n, known.x.shape[1:]):
        for side, sign in (("", 1.0), (", negated: it is that of the other direction", -1.0)):
            if known.fits(sign * known.log_det, read):
                found.append(said + side)
    shape = f"log_det has the shape {claimed.shape} for {n} rows"
    if not found:
        return f"{shape}, and no reading of it (a sum, a mean, an axis too much, the other direction) fits the Jacobian"
    return f"{shape}; the reading that fits the Jacobian is {found[0]}. Nothing is guessed: return it as ({n},)"


def _reductions(claimed: np.ndarray, n: int, event: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    size = int(np.prod(event))
    if claimed.size == 1:
        one = np.full(n, float(claimed.ravel()[0]))
        yield "one number for all rows: repeat it for each", one
        yield f"one number, the mean over coordinates: {size} times it at each row", size * one
    elif claimed.size == n:
        yield "one number a row, with an axis too much", claimed.reshape(n)
    elif claimed.shape[:1] == (n,):
        rest = claimed.reshape(n, -1)
        yield "its sum over all axes but the first", rest.sum(axis=1)
        yield "its mean over all axes but the first", rest.mean(axis=1)
        yield "its first number in each row", rest[:, 0]
        yield f"{size} times its mean over all axes but the first", size * rest.mean(axis=1)
    elif claimed.size % n == 0:
        yield "its sum over runs of one row's numbers", claimed.reshape(n, -1).sum(axis=1)
