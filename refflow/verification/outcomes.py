"""One check asked of one run, as an `Outcome`: what a finding, a violation, or an exception means in the report."""

import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refflow.verification.diagnosis import diagnose
from refflow.verification.guard import OutOfBudget, TargetError, TargetTimeout, line
from refflow.verification.limits import TooManyCoordinates
from refflow.verification.points import Points
from refflow.verification.reports.report import Outcome
from refflow.verification.runs import LEVELS, Check, Run
from refflow.verification.verdicts import EXCESS, Finding, LawViolation

OWN = (str(Path(__file__).parent), *(str(Path(np.__file__).parents[1] / name) for name in ("numpy", "scipy")))
"""Folders of the kit's own code, and of what it computes with."""

CONSTANTS = 4.0
"""How many times the rounding of one operation constants may be off that were computed in a few, as the product of
reflections that makes a rotation; they are then parameters, which the other precision does not mend."""

EXCESSES = (EXCESS, *(float(u) ** -0.5 for u in (2.0**-53, 2.0**-24)))
"""The tolerances of a statistic that is an excess rho."""


def ask(check: Check, run: Run, before: Mapping[str, Outcome], expected: Mapping[str, str]) -> Outcome:
    """The outcome of a check, given those of the checks that it may rest on and what is expected to fail."""
    return _expect(_of_mode(run, _ask(check, run, before)), expected)


def _ask(check: Check, run: Run, before: Mapping[str, Outcome]) -> Outcome:
    started = time.monotonic()

    def outcome(status: str, explanation: str = "", **more: Any) -> Outcome:
        seconds = time.monotonic() - started
        return Outcome(check.id, run.variant, check.statement, status, explanation=explanation, seconds=seconds, **more)

    if reason := left_out(check, run):
        return outcome("skipped", reason)
    if failed := [id for id in check.after if id in before and before[id].status in ("fail", "blocked", "xfail")]:
        return outcome("blocked", f"rests on {', '.join(failed)}")
    try:
        with warnings.catch_warnings(), run.guard.budget(run.level.budget):
            warnings.simplefilter("ignore")
            found = check.ask(run)
    except LawViolation as violation:
        worst = _row(violation.row, run.points)
        status, said = _weighed(run, violation)
        return outcome(
            status, f"{said}at {_sided(violation.worst, worst)}", statistic=violation.statistic,
            tolerance=violation.tolerance, judged=violation.judged, worst_input=worst,
            hint=_cause(check, run, violation),
        )  # fmt: skip
    except (OutOfBudget, TooManyCoordinates) as limit:
        return outcome("inconclusive", str(limit))
    except TargetTimeout as failure:
        return outcome("fail", str(failure), hint="it hangs: nothing else can be asked")
    except TargetError as failure:
        if failure.dtype not in ("", run.dtype.name):
            return outcome("inconclusive", f"to judge it takes {failure.dtype}, in which {failure}")
        return outcome("fail", str(failure), hint="the call itself raises")
    except Exception as failure:
        said = f"{type(failure).__name__}: {line(failure)}"
        if _ours(failure):
            return outcome("inconclusive", f"the kit itself failed, please report it: {said}")
        return outcome("fail", said, hint=check.hint)  # whatever foreign code makes of a check
    return _judged(check, run, found, time.monotonic() - started)


def _ours(failure: Exception) -> bool:
    """Whether an exception was raised by the kit, or by a library that it called, with no code of others between."""
    found = [frame.filename for frame in traceback.extract_tb(failure.__traceback__)]
    return all(name.startswith(OWN) for name in found)


def left_out(check: Check, run: Run) -> str:
    """Why a check is not asked; empty if it is."""
    if _rank(check.level) > _rank(run.level.name):
        return f"asked from level {check.level} on"
    if missing := check.missing(run.target):
        return f"the target has no {missing}"
    narrow = run.variant not in ("", "float64") and "float64" in run.target.dtypes
    if narrow and check.precisions == "widest":
        return "asked in float64"
    if narrow and _rank(check.narrow) > _rank(run.level.name):
        return f"asked from level {check.narrow} on, save in float64"
    return ""


def _rank(level: str) -> int:
    return list(LEVELS).index(level)


def _of_mode(run: Run, outcome: Outcome) -> Outcome:
    """What fails in another mode than the first is a warning: a train mode need not be a density."""
    if outcome.status != "fail" or not run.variant or run.variant in run.target.dtypes:
        return outcome
    said = f"in {run.variant} mode, which need not be a density: {outcome.explanation}"
    return replace(outcome, status="warn", explanation=said)


def _cause(check: Check, run: Run, violation: LawViolation) -> str:
    """What the diagnosis makes of a failure, else the check's own hint."""
    with warnings.catch_warnings(), run.guard.budget(run.level.budget):
        warnings.simplefilter("ignore")
        try:
            return diagnose(check.id, run, violation) or check.hint
        except Exception:  # a diagnosis must not cost the report: the target may hang or raise in it
            return check.hint


def _weighed(run: Run, violation: LawViolation) -> tuple[str, str]:
    """A violation is a fault. One of a target that holds constants of float32 is a warning if it is within a few of
    their roundings: computed in float32, as the inverse of a matrix, they keep their errors in a cast to float64."""
    if run.target.dtypes[0] != "float32" or not run.target.constants or violation.tolerance not in EXCESSES:
        return "fail", ""
    rounding = CONSTANTS * EXCESS * float(np.finfo(np.float32).eps) / float(np.finfo(run.dtype).eps)
    if violation.statistic > rounding:
        return "fail", ""
    return "warn", f"as accurate in {run.dtype.name} as constants that were computed in float32, "


def _judged(check: Check, run: Run, found: Finding, seconds: float) -> Outcome:
    status = {"lossy": "warn"}.get(found.status, found.status)
    return Outcome(
        check.id, run.variant, check.statement, status, found.statistic, found.tolerance, found.judged,
        _row(found.row, run.points), found.remark, seconds=seconds,
    )  # fmt: skip


def _row(row: Any, at: Points) -> dict[str, Any] | None:
    """A row, its context, and the side it is of: "x", "y", or "" for one that was made on the way."""
    if row is None:
        return None
    return {"x": row[0].tolist(), "context": None if row[1] is None else row[1].tolist(), "side": at.side_of(row[0])}


def _sided(where: str, worst: dict[str, Any] | None) -> str:
    """A law calls the row that it is asked at x; in the inverse it is a y."""
    return where.replace("x = ", "y = ", 1) if worst and worst["side"] == "y" else where


def _expect(outcome: Outcome, expected: Mapping[str, str]) -> Outcome:
    reason = expected.get(outcome.name, expected.get(outcome.id))
    if reason is None:
        return outcome
    if outcome.status == "fail":
        return replace(outcome, status="xfail", hint=reason or outcome.hint)
    return replace(outcome, status="xpass", hint="expected to fail") if outcome.status in ("pass", "warn") else outcome


__all__ = ["ask", "left_out"]
