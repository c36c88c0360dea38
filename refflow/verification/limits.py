"""What a verification may take of memory, and what it leaves as it was.

Most laws want Jacobians: D x D numbers a row. Up to `COORDINATES` of an event they are taken, at fewer rows where D is
large, so that all of one kind fit into `NUMBERS`; above, what needs a Jacobian is inconclusive.
"""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from refflow.errors import RefflowError
from refflow.verification.targets import Target

COORDINATES = 512
"""The most coordinates of an event that Jacobians are taken of."""

NUMBERS = 1 << 22
"""The most numbers that one array of a verification should hold, 32 MiB: a law keeps some twenty of that size."""

CALL = 1 << 14
"""Coordinates of all rows of one call at most where a check asks for many: an autoregressive network was seen to take
16 kB for each. Never fewer rows than 256, nor more than 8,192."""

FEWEST = 4
"""Rows that are asked at least."""


def chunks(n: int, coordinates: int) -> list[slice]:
    """Slices of n rows, each small enough for one call; one, empty, for none."""
    rows = min(max(CALL // max(coordinates, 1), 256), 8192)
    return [slice(i, min(i + rows, n)) for i in range(0, max(n, 1), rows)]


class TooManyCoordinates(RefflowError, RuntimeError):
    """A check would need more memory than it is given."""


def require_jacobian(coordinates: int) -> None:
    """Raises TooManyCoordinates where an event has more than `COORDINATES`."""
    if coordinates > COORDINATES:
        raise TooManyCoordinates(f"too many coordinates for a Jacobian: {coordinates}, at most {COORDINATES}")


def require_draws(draws: int, coordinates: int) -> None:
    """Raises TooManyCoordinates where that many draws take more than four times `NUMBERS`."""
    if draws * coordinates > 4 * NUMBERS:
        raise TooManyCoordinates(
            f"too many coordinates for {draws} draws: {coordinates}, at most {4 * NUMBERS // draws}"
        )


def spread(n: int, coordinates: int) -> np.ndarray:
    """Which of n rows to take, evenly spread, so that their Jacobians fit into `NUMBERS`; raises TooManyCoordinates."""
    require_jacobian(coordinates)
    most = max(NUMBERS // max(coordinates, 1) ** 2, FEWEST)
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)) if n else np.arange(0)


def affordable_rows(rows: int, target: Target) -> int:
    """As many of the rows as have Jacobians within `NUMBERS`, or, without Jacobians, themselves."""
    dim = max(target.dim, target.turned().dim)
    each = dim**2 if dim <= COORDINATES else dim
    return max(min(rows, NUMBERS // max(each, 1)), FEWEST)


@contextmanager
def unchanged() -> Iterator[None]:
    """The global random states of NumPy and Python, the working directory and the filters of warnings are afterwards
    what they were; warnings of foreign code are not shown."""
    arrays, plain, folder = np.random.get_state(), random.getstate(), _folder()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(arrays)  # noqa: NPY002
        random.setstate(plain)
        if folder is not None and _folder() != folder:
            with suppress(OSError):
                os.chdir(folder)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return None
