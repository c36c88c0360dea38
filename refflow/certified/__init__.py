r"""Arithmetic that proves: the same flows on balls, so that every number comes with an enclosure of the exact one.

    arrays      arrays of balls, and of propositions that balls may leave undecided
    namespace   the operations that `refflow.arrays` asks a library for

Needs python-flint (`pip install 'refflow[certified]'`). Inputs and weights are floats, which balls of radius 0 hold
exactly, so what is enclosed is the exact function of the stored numbers:

>>> import numpy as np, refflow
>>> from refflow import certified
>>> flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
>>> with certified.precision(200):
...     log_p = flow.to("balls").log_prob(certified.balls(np.zeros((1, 2))))
>>> log_p.midpoint(), bool(log_p.radius()[0] < 1e-50)  # -log(2 pi), proven to 50 digits
(array([-1.83787707]), True)
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.errors import MissingExtraError

try:
    from flint import ctx

    from refflow.certified.arrays import BallArray, TruthArray, exact
except ImportError as error:
    raise MissingExtraError("expected python-flint: pip install 'refflow[certified]'") from error

_LOCK = threading.RLock()


def balls(x: Any) -> BallArray:
    """Balls of radius 0 that hold the floats or integers of an array, of whatever library, exactly."""
    return exact(xp.to_numpy(x) if xp.is_array(x) else np.asarray(x))


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with midpoints of that many bits inside the block: 53 outside it, which is too few for deep flows.

    FLINT keeps one precision for the whole process: other threads wait for the block to end.
    """
    with _LOCK:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before


__all__ = ["BallArray", "TruthArray", "balls", "precision"]
