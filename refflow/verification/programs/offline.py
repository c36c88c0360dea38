"""Verifying a program that runs elsewhere: requests and responses stay in a folder, and nothing else is remembered."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import FileError, StructureError
from refflow.verification.guard import TargetError
from refflow.verification.kit import verify
from refflow.verification.programs.answering import connected, described, shape_of, width
from refflow.verification.programs.requests import Call, read_request, read_response, write_request
from refflow.verification.programs.rounds import Ledger, one_round
from refflow.verification.reports.report import Report
from refflow.verification.targets import Box, Target

SETTINGS = "refflow-export-1"
"""The version of an export's settings.json."""


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
    base: str | None = None,
    name: str = "an offline program",
    level: str = "standard",
    only: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | Iterable[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write the first request of a verification into a new folder; returns the folder `01/request` in it.

    The program's answer belongs into `01/response`. Arguments are those of `program` and of `verify`; they are kept in
    `settings.json`. Raises FileError if the folder is there and not empty, StructureError or ShapeError for arguments
    that do not fit; then nothing is written.
    """
    home = Path(folder)
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise FileError(f"expected a new or empty folder, got {folder}: give another one")
    flow = {"name": name, "event_shape": shape_of(event_shape), "functions": list(functions), "domain": domain,
            "codomain": codomain, "dtypes": list(dtypes), "to_base": to_base, "base": base,
            "context": None if context is None else np.asarray(context).tolist()}  # fmt: skip
    asked = {"level": level, "only": None if only is None else [only] if isinstance(only, str) else sorted(only),
             "expected_failures": _plain(expected_failures), "seed": seed}  # fmt: skip
    settings = {"schema": SETTINGS, "flow": flow, "verify": asked}
    _, wanted = _asked(settings, Ledger())
    if not wanted:
        raise StructureError("expected checks that ask the program for something, got none that it has functions for")
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        return _written(home, 1, wanted, _flow(settings))
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from error


def import_response(folder: str | Path) -> Report | Path:
    """Read what the program has answered so far: the report, or the folder of the next request (`02/request`, ...).

    All requests and responses stay in the folder; reading them again gives the same. Raises FileError for a folder that
    `export_request` did not write, TargetError for a response that is missing or does not fit its request: nothing is
    changed then, and the response can be written again.
    """
    home, ledger = Path(folder), Ledger()
    settings = _settings(home / "settings.json")
    flow = _flow(settings)
    while (place := _round(home, ledger.requests + 1)).is_dir():
        calls = read_request(place / "request")
        try:
            ledger.add(calls, read_response(place / "response", calls, flow.event_shape))
        except TargetError as error:
            raise TargetError(f"{place / 'response'}: {error}") from error
    report, wanted = _asked(settings, ledger)
    if not wanted:
        return replace(report, remarks=(ledger.summary(), *report.remarks))
    try:
        return _written(home, ledger.requests + 1, wanted, flow)
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from error


def _flow(settings: Mapping[str, Any]) -> Target:
    given = settings["flow"]
    context = None if given["context"] is None else np.array(given["context"], dtype=np.float64)
    return described(**given | {"context": context})


def _asked(settings: Mapping[str, Any], ledger: Ledger) -> tuple[Report, list[Call]]:
    """What the checks say by the answers so far, and what they want to know."""
    flow, functions = _flow(settings), settings["flow"]["functions"]
    return one_round(
        lambda target: verify(target, **settings["verify"]), lambda one: connected(flow, functions, one), ledger
    )


def _written(home: Path, number: int, calls: Sequence[Call], flow: Target) -> Path:
    """The request's folder, which is there as a whole or not at all."""
    unfinished, place = home / "unfinished", _round(home, number)
    shutil.rmtree(unfinished, ignore_errors=True)
    write_request(unfinished / "request", calls, flow.event_shape, width(flow))
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
    if expected is None or isinstance(expected, Mapping):
        return None if expected is None else dict(expected)
    return dict.fromkeys(expected, "")


__all__ = ["export_request", "import_response"]
