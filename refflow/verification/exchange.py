r"""Flows written in C, C++, Julia, R, ...: a program that reads a request and writes a response, and no binding.

    refflow verify --exec "./flow {request} {response}" --event-shape 4

`{request}` and `{response}` are two folders. The program reads the first, calls its flow, writes the second (which is
there, and empty), and ends with exit code 0. It is run a few times, each time with all calls that the checks can
foresee. It may keep nothing between runs. What it prints does not matter; errors repeat the end of it.

**The request.** `request.txt` is for languages without a JSON reader. Its first line has six entries, then one line a
call follows, entries parted by single blanks:

    refflow-request-1 D C rows64 rows32 calls
    id function dtype first rows seed

D is the number of coordinates of an event, C of a context (0: there is none). `id` counts 1, 2, ...; `function` is
`forward`, `inverse`, `log_prob`, `sample` or `sample_and_log_prob`, of those that the program was said to have;
`dtype` is `float64`, or `float32` if it was said to take that; `seed` matters to the last two functions only.
`request.json` says the same: `{"schema": "refflow-request-1", "event_shape": [...], "context_dim": C, "rows":
{"float64": ..., "float32": ...}, "calls": [{"id": ..., "function": ..., "dtype": ..., "first": ..., "rows": ...,
"seed": ...}, ...]}`.

The numbers of all calls in one precision lie together, row after row; call k owns rows first .. first + rows - 1:

    x_float64.npy        (rows64, *event_shape)   what the flow is asked at; of samples, rows of zeros to be ignored
    context_float64.npy  (rows64, C)              only if C > 0

and so for float32, each only if it has rows. Files are .npy, little-endian, in C order (the last axis runs fastest),
and their numbers begin at byte 128: a program that cannot read .npy skips 128 bytes and reads bare numbers. Inputs may
be NaN or very large, on purpose.

**The response.** Arrays with the same rows in the same places:

    value_float64.npy    (rows64, *event_shape)   y of forward, x of inverse, the samples
    log_float64.npy      (rows64,)                log|det dy/dx| of forward at x, log|det dx/dy| of inverse at y, log p

as .npy, or as bare little-endian numbers with the ending .bin, without header. Rows of a function that has no value
(log_prob) or no logarithm (sample) may hold anything; an array that no call needs may be missing. To refuse single
calls, write lines `id message` to `errors.txt`.

**What matters.** Run the calls in their order, each with exactly its own rows as the batch: do not join calls, do not
part them, do not remember answers to equal ones. Most faults that the checks find show between calls.

A whole flow of 200 lines that does this is `examples/c_flow/flow.c`; `flow.jl` beside it sketches the same in Julia.

Offline, where the program runs on another machine, `export_request` writes the first request into a folder,
and `import_response` reads its response and returns the report, or the next request.
"""

import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import FileError, ShapeError, StructureError
from refflow.verification.guard import TargetError
from refflow.verification.processes import run
from refflow.verification.report import Report
from refflow.verification.requests import (
    DRAWN,
    DTYPES,
    FUNCTIONS,
    WITH_LOG,
    WITH_VALUE,
    Answer,
    Call,
    read_request,
    read_response,
    write_request,
)
from refflow.verification.rounds import Ledger, in_rounds, one_round
from refflow.verification.targets import Box, Target

SETTINGS = "refflow-export-1"
"""The version of an export's settings.json."""


def program(
    command: str | Sequence[str],
    *,
    event_shape: int | tuple[int, ...],
    functions: Sequence[str] = ("forward", "inverse"),
    context: np.ndarray | None = None,
    domain: Box | None = None,
    codomain: Box | None = None,
    dtypes: Sequence[str] = ("float64",),
    to_base: str | None = None,
    timeout: float = 60.0,
    name: str | None = None,
) -> Target:
    """A program that answers requests, as a target of `verify`.

    command:
        Its words, as a list or as a shell would part them (no shell is run); `{request}` and `{response}` in them stand
        for the two folders.
    functions:
        Those that it has, of forward, inverse, log_prob, sample, sample_and_log_prob.
    dtypes:
        Its precisions. With float32 as well, rounding is told from faults by comparing the two.
    timeout:
        Seconds that one run may take; then it is killed with its children.

    `verify` asks it in a few runs of many calls each. A call of one of its functions by itself costs a run.
    Raises StructureError or ShapeError for arguments that do not fit. TargetError, in a report its `error`, says that
    the program cannot be started, fails, takes too long, or writes a response that does not fit the request.
    """
    words = _words(command)
    described = _described(
        name or Path(words[0]).name, event_shape, functions, context, domain, codomain, dtypes, to_base
    )

    def answer(calls: Sequence[Call]) -> list[Answer]:
        with tempfile.TemporaryDirectory(prefix="refflow-", ignore_cleanup_errors=True) as folder:
            request, response = Path(folder, "request"), Path(folder, "response")
            write_request(request, calls, described.event_shape, _width(described))
            response.mkdir()
            places = {"{request}": str(request), "{response}": str(response)}
            run([_filled(word, places) for word in words], timeout)
            return read_response(response, calls, described.event_shape)

    def connect(one: Callable[[Call], Answer]) -> Target:
        return _connected(described, functions, one)

    return replace(
        connect(lambda call: answer([call])[0]),
        rounds=lambda ask: in_rounds(ask, connect, answer),
    )


def export_request(
    folder: str | Path,
    *,
    event_shape: int | tuple[int, ...],
    functions: Sequence[str] = ("forward", "inverse"),
    context: np.ndarray | None = None,
    domain: Box | None = None,
    codomain: Box | None = None,
    dtypes: Sequence[str] = ("float64",),
    to_base: str | None = None,
    name: str = "an offline program",
    level: str = "standard",
    only: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | Iterable[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write the first request of a verification into a new folder; returns the folder `01/request` in it.

    The program's answer belongs into `01/response`. Arguments are those of `program` and of `verify`; they are kept in
    `settings.json`. Raises FileError if the folder is there and not empty.
    """
    home = Path(folder)
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise FileError(f"expected a new or empty folder, got {folder}: give another one")
    _described(name, event_shape, functions, context, domain, codomain, dtypes, to_base)
    flow = {"name": name, "event_shape": event_shape, "functions": list(functions), "domain": domain,
            "codomain": codomain, "dtypes": list(dtypes), "to_base": to_base,
            "context": None if context is None else np.asarray(context).tolist()}  # fmt: skip
    asked = {"level": level, "only": None if only is None else [only] if isinstance(only, str) else sorted(only),
             "expected_failures": _plain(expected_failures), "seed": seed}  # fmt: skip
    home.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": SETTINGS, "flow": flow, "verify": asked}, indent=1) + "\n"
    (home / "settings.json").write_text(text, "utf-8")
    found = import_response(home)
    if isinstance(found, Report):
        raise StructureError("expected checks that ask the program for something: it has none of what they need")
    return found


def import_response(folder: str | Path) -> Report | Path:
    """Read what the program has answered so far: the report, or the folder of the next request (`02/request`, ...).

    All requests and responses stay in the folder; reading them again gives the same. Raises FileError for a folder that
    `export_request` did not write, TargetError for a response that is missing or does not fit its request: nothing is
    changed then, and the response can be written again.
    """
    from refflow.verification.kit import verify

    home = Path(folder)
    settings = _settings(home / "settings.json")
    given = settings["flow"]
    context = None if given["context"] is None else np.array(given["context"], dtype=np.float64)
    functions = given["functions"]
    described = _described(**given | {"context": context, "event_shape": _shape(given["event_shape"])})
    ledger = Ledger()
    while (place := _round(home, ledger.requests + 1)).is_dir():
        calls = read_request(place / "request")
        try:
            ledger.add(calls, read_response(place / "response", calls, described.event_shape))
        except TargetError as error:
            raise TargetError(f"{place / 'response'}: {error}") from error
    report, wanted = one_round(
        lambda target: verify(target, **settings["verify"]), lambda one: _connected(described, functions, one), ledger
    )
    if not wanted:
        return replace(report, remarks=(ledger.summary(), *report.remarks))
    unfinished = home / "unfinished"
    write_request(unfinished / "request", wanted, described.event_shape, _width(described))
    (unfinished / "response").mkdir()
    return unfinished.rename(place) / "request"


def _round(home: Path, number: int) -> Path:
    return home / f"{number:02d}"


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != SETTINGS:
            raise ValueError(f"schema {found['schema']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"expected a folder of refflow's with settings.json, got {path.parent}: {error}") from error
    return found  # type: ignore[no-any-return]


def _plain(expected: Mapping[str, str] | Iterable[str] | None) -> dict[str, str] | None:
    return (
        None if expected is None else dict(expected) if isinstance(expected, Mapping) else dict.fromkeys(expected, "")
    )


def _words(command: str | Sequence[str]) -> list[str]:
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise StructureError(f"expected a command, got {command!r}: {error}") from error
    if not words or any(not any(place in word for word in words[1:]) for place in ("{request}", "{response}")):
        raise StructureError(f"expected a command such as './flow {{request}} {{response}}', got {command!r}")
    return words


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


def _shape(event_shape: Any) -> tuple[int, ...]:
    return (int(event_shape),) if isinstance(event_shape, int | np.integer) else tuple(int(n) for n in event_shape)


def _width(target: Target) -> int:
    return 0 if target.context is None else int(target.context.shape[1])


def _described(
    name: str, event_shape: Any, functions: Sequence[str], context: np.ndarray | None, domain: Box | None,
    codomain: Box | None, dtypes: Sequence[str], to_base: str | None,
) -> Target:  # fmt: skip
    """The target but for its functions; raises StructureError or ShapeError for what does not fit."""
    shape = _shape(event_shape)
    if not shape or min(shape) < 1:
        raise ShapeError(f"expected event_shape as numbers of at least 1, got {event_shape!r}")
    for what, given, known in (("functions", functions, FUNCTIONS), ("dtypes", dtypes, DTYPES)):
        if isinstance(given, str) or not given or not set(given) <= set(known):
            raise StructureError(f"expected {what} of {', '.join(known)}, got {given!r}")
    rows = None if context is None else np.asarray(context, dtype=np.float64)
    if rows is not None and (rows.ndim != 2 or 0 in rows.shape):
        raise ShapeError(f"expected context as rows (M, C), got an array of shape {rows.shape}")
    return Target(
        name, shape, context=rows, domain=None if domain is None else (domain[0], domain[1]),
        codomain=None if codomain is None else (codomain[0], codomain[1]), dtypes=tuple(dtypes), to_base=to_base,
        bulk=True,
    )  # fmt: skip


def _connected(described: Target, functions: Sequence[str], one: Callable[[Call], Answer]) -> Target:
    """The target whose functions are answered by `one`, a call at a time."""
    found: dict[str, Any] = {name: _function(described, name, one) for name in functions}
    connected = replace(described, **found)
    return replace(connected, cast=lambda dtype: connected)


def _function(described: Target, name: str, one: Callable[[Call], Answer]) -> Callable[..., Any]:
    def asked(*given: Any) -> Any:
        call = _drawn(described, name, *given) if name in DRAWN else _evaluated(described, name, *given)
        answer = one(call)
        if answer.error:
            raise TargetError(answer.error)
        parts = [np.array(a) for a, has in ((answer.value, WITH_VALUE), (answer.log, WITH_LOG)) if name in has]
        return tuple(parts) if len(parts) == 2 else parts[0]

    return asked


def _evaluated(described: Target, name: str, x: np.ndarray, context: np.ndarray | None = None) -> Call:
    given = np.asarray(x)
    if given.dtype.name not in DTYPES or given.ndim < 1 or given.shape[1:] != described.event_shape:
        raise TargetError(f"a program is asked at float64 or float32 of shape (n, *{described.event_shape})")
    dtype = given.dtype.name if given.dtype.name in described.dtypes else described.dtypes[0]
    return Call(name, dtype, len(given), given.astype(dtype), None if context is None else np.asarray(context, dtype))


def _drawn(described: Target, name: str, n: int, seed: int, context: np.ndarray | None = None) -> Call:
    dtype = described.dtypes[0]
    return Call(name, dtype, int(n), None, None if context is None else np.asarray(context, dtype), int(seed))


__all__ = ["export_request", "import_response", "program"]
