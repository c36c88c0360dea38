"""Requests and responses of other languages' programs as folders: written, read, and believed only when they fit.

`exchange` states the format. A call keeps its own rows, first .. first + rows of the arrays of its precision, so that
a fault that depends on the batch stays where it is.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import FileError
from refflow.verification.guard import TargetError

SCHEMA = "refflow-request-1"
FUNCTIONS = ("forward", "inverse", "log_prob", "sample", "sample_and_log_prob")
DTYPES = ("float64", "float32")
WITH_VALUE = ("forward", "inverse", "sample", "sample_and_log_prob")
WITH_LOG = ("forward", "inverse", "log_prob", "sample_and_log_prob")
DRAWN = ("sample", "sample_and_log_prob")
"""Functions that take a seed and no x."""

HEADER = 128
"""Bytes before the numbers of every .npy file of a request."""


@dataclass(frozen=True)
class Call:
    """One call of one function with its own batch: x `(rows, *event)`, or None where rows are drawn."""

    function: str
    dtype: str
    rows: int
    x: np.ndarray | None = None
    context: np.ndarray | None = None
    seed: int = 0

    @cached_property
    def key(self) -> bytes:
        """What tells calls apart: the function and every bit of what it is given."""
        found = hashlib.blake2b(repr((self.function, self.dtype, self.rows, self.seed)).encode(), digest_size=16)
        for array in (self.x, self.context):
            found.update(b"-" if array is None else b"+" + array.tobytes())
        return found.digest()


@dataclass(frozen=True)
class Answer:
    """value `(rows, *event)` and log `(rows,)` as far as the function has them, or why there is neither."""

    value: np.ndarray | None = None
    log: np.ndarray | None = None
    error: str = ""


def write_request(folder: Path, calls: Sequence[Call], event_shape: tuple[int, ...], context_dim: int) -> None:
    """The calls as a request in a new folder."""
    folder.mkdir(parents=True)
    rows = {dtype: sum(call.rows for call in calls if call.dtype == dtype) for dtype in DTYPES}
    listed: list[dict[str, Any]] = []
    for dtype in DTYPES:
        first = 0
        for call in (call for call in calls if call.dtype == dtype):
            listed.append({"id": len(listed) + 1, "function": call.function, "dtype": dtype, "first": first,
                           "rows": call.rows, "seed": call.seed})  # fmt: skip
            first += call.rows
        if rows[dtype]:
            own = [call for call in calls if call.dtype == dtype]
            _write(folder / f"x_{dtype}.npy", own, dtype, event_shape, lambda call: call.x)
            if context_dim:
                _write(folder / f"context_{dtype}.npy", own, dtype, (context_dim,), lambda call: call.context)
    whole = {"schema": SCHEMA, "event_shape": list(event_shape), "context_dim": context_dim, "rows": rows}
    (folder / "request.json").write_text(json.dumps(whole | {"calls": listed}, indent=1) + "\n", "ascii")
    head = f"{SCHEMA} {int(np.prod(event_shape))} {context_dim} {rows['float64']} {rows['float32']} {len(listed)}\n"
    lines = [" ".join(str(entry) for entry in call.values()) + "\n" for call in listed]
    (folder / "request.txt").write_text(head + "".join(lines), "ascii", newline="\n")


def in_order(calls: Sequence[Call]) -> list[Call]:
    """The calls as a request lists them: those in float64 first."""
    return sorted(calls, key=lambda call: DTYPES.index(call.dtype))


def _write(
    path: Path, calls: Sequence[Call], dtype: str, event: tuple[int, ...], part: Callable[[Call], np.ndarray | None]
) -> None:
    """All rows of the calls as one .npy file whose header is `HEADER` bytes; rows that nobody gave are 0."""
    blocks = [np.zeros((call.rows, *event)) if (a := part(call)) is None else a for call in calls]
    array = np.ascontiguousarray(np.concatenate(blocks), dtype=np.dtype(dtype).newbyteorder("<"))
    described = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}".encode()
    head = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    path.write_bytes(head + described.ljust(HEADER - 11) + b"\n" + array.tobytes())


def read_request(folder: Path) -> list[Call]:
    """The calls of a request in its order; raises FileError for a folder that is no whole request of this version."""
    try:
        found = json.loads((folder / "request.json").read_text("ascii"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")
        event, width = tuple(found["event_shape"]), found["context_dim"]
        return [_call(folder, found["rows"], event, width, entry) for entry in found["calls"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"expected a request of schema {SCHEMA!r} in {folder}, got: {error}") from error


def _call(folder: Path, total: dict[str, int], event: tuple[int, ...], width: int, entry: dict[str, Any]) -> Call:
    function, dtype, rows = entry["function"], entry["dtype"], entry["rows"]
    own = slice(entry["first"], entry["first"] + rows)

    def part(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.array(_npy(folder / f"{name}_{dtype}.npy", (total[dtype], *shape), dtype)[own])

    x = None if function in DRAWN else part("x", event)
    return Call(function, dtype, rows, x, part("context", (width,)) if width else None, entry["seed"])


def read_response(folder: Path, calls: Sequence[Call], event_shape: tuple[int, ...]) -> list[Answer]:
    """The answers to the calls, in their order; raises TargetError for a response that does not fit the request."""
    errors = _errors(folder / "errors.txt", len(calls))
    answers: list[Answer] = []
    for dtype in DTYPES:
        own = [call for call in calls if call.dtype == dtype]
        total, first = sum(call.rows for call in own), 0
        value = _numbers(folder, f"value_{dtype}", (total, *event_shape), dtype, [c for c in own if _has_value(c)])
        log = _numbers(folder, f"log_{dtype}", (total,), dtype, [c for c in own if c.function in WITH_LOG])
        for call in own:
            rows = slice(first, first + call.rows)
            answers.append(Answer(
                value[rows] if value is not None and _has_value(call) else None,
                log[rows] if log is not None and call.function in WITH_LOG else None,
                errors.get(len(answers) + 1, ""),
            ))  # fmt: skip
            first += call.rows
    return answers


def _has_value(call: Call) -> bool:
    return call.function in WITH_VALUE


def _errors(path: Path, n: int) -> dict[int, str]:
    """The lines `id message` that the program wrote."""
    found = {}
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            number, _, message = line.strip().partition(" ")
            if not (number.isdecimal() and 1 <= int(number) <= n):
                raise TargetError(f"errors.txt: expected lines of a call's id (1 .. {n}) and a message, got {line!r}")
            found[int(number)] = message.strip() or "the program reported an error"
    return found


def _numbers(
    folder: Path, name: str, shape: tuple[int, ...], dtype: str, calls: Sequence[Call]
) -> np.ndarray | None:  # fmt: skip
    """The array of the response, from .npy or from bare numbers (.bin); None where no call has it."""
    if not any(call.rows for call in calls):
        return np.empty(shape, dtype) if calls else None
    named = [path for end in ("npy", "bin") if (path := folder / f"{name}.{end}").is_file()]
    if len(named) != 1:
        raise TargetError(f"expected one of {name}.npy and {name}.bin in the response, got {_listed(folder)}")
    try:
        found = np.array((_npy if named[0].suffix == ".npy" else _bare)(named[0], shape, dtype))
    except (OSError, ValueError, EOFError) as error:
        raise TargetError(f"{named[0].name} of the response: {error}") from error
    found[np.isnan(found)] = np.nan  # one NaN for all: others have a meaning in `rounds`
    return found


def _npy(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if 0 in shape and not path.exists():
        return np.empty(shape, dtype)
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray) or (found.shape, found.dtype.newbyteorder("=")) != (shape, np.dtype(dtype)):
        got = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise ValueError(f"expected {dtype} of shape {shape}, got {got}")
    return found.astype(dtype)


def _bare(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    little = np.dtype(dtype).newbyteorder("<")
    expected, size = int(np.prod(shape)) * little.itemsize, path.stat().st_size
    if size != expected:
        raise ValueError(f"expected {expected} bytes ({dtype} of shape {shape}), got {size}")
    return np.fromfile(path, dtype=little).astype(dtype).reshape(shape)


def _listed(folder: Path) -> str:
    if not folder.is_dir():
        return "no folder"
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"
