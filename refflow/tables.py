"""Tables in and out: CSV with or without a header, .npy, and pipes.

Reading is in blocks of rows, so that a file larger than memory can be scored; every complaint names the line or row
and the column. CSV files are UTF-8, separated by commas, semicolons or tabs, whichever the first line has.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from refflow.errors import DataError

BLOCK_ROWS = 16384


@dataclass(frozen=True)
class Table:
    """Rows of numbers (truths are 0 and 1), the names of their columns (empty if the source has none), and the shape
    that a row had before it was flattened (empty if it was flat)."""

    values: np.ndarray
    columns: tuple[str, ...] = ()
    event_shape: tuple[int, ...] = ()

    def without(self, columns: Sequence[int]) -> "Table":
        """The table without some columns."""
        kept = [i for i in range(self.values.shape[1]) if i not in set(columns)]
        return Table(self.values[:, kept], tuple(self.columns[i] for i in kept) if self.columns else ())

    def column_numbers(self, names: Sequence[str]) -> list[int]:
        """The positions of columns given by name or by number (counted from 0)."""
        return [self._number(name) for name in names]

    def columns_named(self, names: Sequence[str]) -> "Table":
        """The columns of these names in this order; the table itself if it or the caller has no names."""
        if not (self.columns and names):
            return self
        numbers = self.column_numbers(names)
        return Table(self.values[:, numbers], tuple(self.columns[i] for i in numbers))

    def _number(self, name: str) -> int:
        if name in self.columns:
            return self.columns.index(name)
        if name.lstrip("-").isdigit() and 0 <= int(name) < self.values.shape[1]:
            return int(name)
        known = ", ".join(self.columns) or f"0 .. {self.values.shape[1] - 1}"
        raise DataError(f"expected a column among {known}, got {name!r}")


def read_table(source: str) -> Table:
    """The whole table at a path, or from standard input for "-"."""
    blocks = list(read_blocks(source))
    return Table(np.concatenate([b.values for b in blocks]), blocks[0].columns, blocks[0].event_shape)


def read_blocks(source: str, rows: int = BLOCK_ROWS) -> Iterator[Table]:
    """The table in consecutive blocks of rows; at least one block, or DataError."""
    if source == "-":
        yield from _csv_blocks(sys.stdin, "standard input", rows)
        return
    path = Path(source)
    try:
        if path.suffix == ".npy":
            yield from _npy_blocks(path, rows)
        else:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                yield from _csv_blocks(stream, source, rows)
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected {source} to be CSV text in UTF-8 or an .npy file, got other bytes") from error


def _npy_blocks(path: Path, rows: int) -> Iterator[Table]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"expected {path} to be a whole .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iubf":
        raise DataError(f"expected numbers in {path}, got dtype {getattr(array, 'dtype', type(array).__name__)}")
    if array.ndim < 2 or array.size == 0:
        raise DataError(f"expected rows and columns in {path}, got an array of shape {array.shape}")
    for start in range(0, len(array), rows):
        block = np.array(array[start : start + rows])
        block = block.astype(np.uint8) if block.dtype.kind == "b" else block
        yield Table(block.reshape(len(block), -1), event_shape=array.shape[1:] if array.ndim > 2 else ())


def _csv_blocks(stream: IO[str], name: str, rows: int) -> Iterator[Table]:
    first = next((line for line in stream if line.strip()), "")
    if not first:
        raise DataError(f"expected rows of numbers in {name}, got an empty file")
    separator = max(",;\t", key=first.count)
    fields = [field.strip() for field in next(csv.reader([first], delimiter=separator))]
    header = not all(_is_number(field) for field in fields)
    columns = tuple(fields) if header else ()
    pending, line = ([] if header else [first]), 2 if header else 1
    found = False
    while lines := [*pending, *islice(stream, rows - len(pending))]:
        pending = []
        values = _parse(lines, separator, len(fields), name, line)
        line += len(lines)
        if len(values):
            found = True
            yield Table(values, columns)
    if not found:
        raise DataError(f"expected rows of numbers below the header of {name}, got none")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(lines: list[str], separator: str, width: int, name: str, first_line: int) -> np.ndarray:
    """The lines as rows of float64; the slow path names the line and column that is no number."""
    kept = [text for text in lines if text.strip()]
    if not kept:
        return np.empty((0, width))
    try:
        values = np.loadtxt(kept, delimiter=separator, ndmin=2, comments=None, quotechar='"')
    except ValueError:
        values = None
    if values is not None and values.shape == (len(kept), width):
        return values
    for number, text in enumerate(lines, first_line):
        if not text.strip():
            continue
        fields = next(csv.reader([text], delimiter=separator))
        if len(fields) != width:
            raise DataError(f"expected {width} columns in {name}, got {len(fields)} on line {number}")
        for column, field in enumerate(fields):
            if not _is_number(field):
                what = repr(field) if field.strip() else "an empty field"
                raise DataError(
                    f"expected a number in {name}, got {what} on line {number}, column {column}: flows model numbers "
                    f"only, so drop or encode such columns and drop or impute missing values"
                )
    raise DataError(f"expected rows of {width} numbers in {name}, from line {first_line} on")


def write_rows(stream: IO[str], values: np.ndarray, columns: Sequence[str] = ()) -> None:
    """Rows as CSV text that reads back to the same numbers, with a header if there are column names."""
    if columns:
        stream.write(",".join(columns) + "\n")
    for row in values.tolist():
        stream.write(",".join(map(_text, row)) + "\n")


def _text(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def quantisation_steps(x: np.ndarray) -> tuple[float, ...]:
    """The step of every column whose values repeat and lie on a decimal grid (1, 0.1, ... 1e-6); 0 for the others.

    Values that repeat have no density: a flow can put a spike on each and raise the likelihood without bound.

    >>> quantisation_steps(np.array([[1.0, 0.1234], [2.0, 0.3], [2.0, 0.5678], [1.0, 0.7]]))
    (1.0, 0.0)
    """
    return tuple(_step(column) for column in x.reshape(len(x), -1).T)


def _step(column: np.ndarray) -> float:
    values = np.unique(column)
    if column.dtype.kind in "iub":
        return 1.0
    if len(values) > 0.8 * len(column):
        return 0.0
    for digits in range(7):
        scaled = values * 10.0**digits
        rounding = 4.0 * np.finfo(column.dtype).eps * np.maximum(1.0, np.abs(scaled))
        if np.all(np.abs(scaled - np.round(scaled)) <= np.minimum(rounding, 0.01)):
            return float(10.0**-digits)
    return 0.0


def tied_columns(x: np.ndarray, steps: Sequence[float]) -> list[int]:
    """Columns of which more than a fifth of the values repeat but that lie on no decimal grid."""
    flat = x.reshape(len(x), -1)
    return [i for i, step in enumerate(steps) if step == 0.0 and len(np.unique(flat[:, i])) < 0.8 * len(flat)]
