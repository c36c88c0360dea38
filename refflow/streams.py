"""Row by row: scores added up and written while a file of any length streams by."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import DataError
from refflow.scoring import Score
from refflow.storage import write_atomic
from refflow.tables import write_rows


def json_text(found: Any, indent: int | None = None) -> str:
    """Plain values as JSON, which has no NaN and no infinities: null in their place.

    >>> json_text({"error": float("nan"), "rows": [1]})
    '{"error": null, "rows": [1]}'
    """
    return json.dumps(_finite(found), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RunningScore:
    """The mean and standard error of scores that come in blocks (Chan, Golub and LeVeque, 1983, eq. 2.1)."""

    def __init__(self) -> None:
        self.rows, self.blocks, self.mean, self.square = 0, 0, 0.0, 0.0
        self.last: Score | None = None

    def add(self, piece: Score) -> None:
        """Take in one block."""
        n, values = len(piece.log_prob), piece.log_prob
        if n == 0:
            return
        delta = float(np.mean(values)) - self.mean
        total = self.rows + n
        self.square += float(np.sum((values - np.mean(values)) ** 2)) + delta * delta * self.rows * n / total
        self.mean += delta * n / total
        self.rows, self.blocks, self.last = total, self.blocks + 1, piece

    def report(self) -> dict[str, Any]:
        """The summary in plain values."""
        error = (self.square / (self.rows - 1) / self.rows) ** 0.5 if self.rows > 1 else float("nan")
        found: dict[str, Any] = {
            "rows": self.rows, "mean_nats": self.mean, "standard_error_nats": error, "bits_per_dim": None,
            "bits_standard_error": None,
        }  # fmt: skip
        if self.last is not None and self.last.quantised:
            unit = self.last.dim * float(np.log(2.0))
            found["bits_per_dim"] = -(self.mean + self.last.log_cell) / unit
            found["bits_standard_error"] = error / unit
        return found


@contextmanager
def row_writer(out: str) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends log-likelihoods to a .csv or .npy file, to standard output for "-", to nothing for "".

    A file appears whole, under its name, when all rows are written, or not at all.
    """
    if out in ("", "-"):
        if out == "-":
            print("log_prob")
        yield (lambda values: write_rows(sys.stdout, values[:, None])) if out == "-" else (lambda values: None)
        return
    path = Path(out)
    partial = path.with_name(f".{path.name}.part")
    pieces: list[np.ndarray] = []
    try:
        if path.suffix == ".npy":
            yield pieces.append
            np_bytes = _npy(np.concatenate(pieces) if pieces else np.empty(0))
            write_atomic(path, np_bytes)
            return
        with partial.open("w", encoding="utf-8") as stream:
            stream.write("log_prob\n")
            yield lambda values: write_rows(stream, values[:, None])
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _npy(values: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _as_rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), math.prod(x.shape[1:]))


def write_samples(out: str, x: np.ndarray, columns: Sequence[str] = ()) -> None:
    """Samples to a .csv or .npy file, or as CSV to standard output for "-"."""
    if out == "-":
        write_rows(sys.stdout, _as_rows(x), columns)
        return
    if Path(out).suffix == ".npy":
        write_atomic(out, _npy(x))
        return
    import io

    buffer = io.StringIO()
    write_rows(buffer, _as_rows(x), columns)
    write_atomic(out, buffer.getvalue().encode())
