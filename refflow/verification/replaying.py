"""Ask what failed again, at its worst input alone: the shortest way from a report to a debugger.

Rows that a check needs beside the worst one (those of its batch, the samples of a density) are drawn with the report's
seed and level, so they are the same ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.errors import RefflowError
from refflow.verification.kit import verify
from refflow.verification.reports.report import Outcome, Report

LONGEST = 64
"""Coordinates up to which a reproduction spells its row out."""


@dataclass(frozen=True)
class Replayed:
    """A failed check, asked again."""

    before: Outcome
    after: Outcome | None
    """None: the check or the variant no longer exists, or the target cannot be asked at all."""
    where: str
    """"at the worst input alone", or "at all rows"."""

    @property
    def failed(self) -> bool:
        """Whether it still fails."""
        return self.after is not None and self.after.status in ("fail", "xfail")

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.before.name}: could not be asked again: {self.where}"
        if self.failed:
            return f"{self.before.name}: still fails {self.where}: {self.after.explanation}"
        return f"{self.before.name}: no longer fails ({self.after.status}, {self.where})"


def replay(report: Report, target: Any = None, **arguments: Any) -> tuple[Replayed, ...]:
    """Every check that failed in the report, asked again of the target with the same arguments of `verify`.

    Each is asked at its worst input alone; where it does not fail there, because it takes the rows beside it, at all
    rows, drawn as they were. Level and seed are the report's.

    >>> import numpy as np, refflow
    >>> f = lambda x: (2.0 * x, np.full(len(x), -np.log(2.0)))  # the sign is wrong
    >>> report = refflow.verify(forward=f, event_shape=1, level="quick", only=["LD1"], dtype="float64")
    >>> [str(again).partition(":")[0] for again in replay(report, forward=f, event_shape=1)]
    ['LD1']
    """
    for name in ("level", "seed", "only", "points", "expected_failures", "progress"):
        arguments.pop(name, None)
    return tuple(_again(outcome, report, target, arguments) for outcome in report.of("fail"))


def _again(outcome: Outcome, report: Report, target: Any, arguments: dict[str, Any]) -> Replayed:
    found, where, tried = None, "", ([worst_points(outcome)] if outcome.worst_input else []) + [None]
    for points in tried:
        where = "at all rows" if points is None else "at the worst input alone"
        try:
            again = verify(target, points=points, level=report.level, seed=report.seed, only=[outcome.id], **arguments)
        except RefflowError as error:
            return Replayed(outcome, None, str(error))
        found = next((o for o in again.checks if o.variant == outcome.variant), None)
        if found is None:
            return Replayed(outcome, None, again.error or f"there is no variant {outcome.variant!r} any more")
        if found.status == "fail":
            break
    return Replayed(outcome, found, where)


def worst_points(outcome: Outcome) -> dict[str, np.ndarray]:
    """The worst input of an outcome as `verify`'s argument `points`: one row of the side it is of."""
    worst = outcome.worst_input or {}
    found = {worst["side"] or "x": np.array([worst["x"]])}
    return found if worst["context"] is None else found | {"context": np.array([worst["context"]])}


def reproduction(outcome: Outcome, report: Report) -> str:
    """A few lines of Python that ask one outcome again; the numbers in them are exact."""
    lines = ["import numpy as np, refflow", ""]
    more = f'only=["{outcome.id}"], level="{report.level}", seed={report.seed}'
    if outcome.worst_input is not None and np.size(outcome.worst_input["x"]) <= LONGEST:
        from_row = ", ".join(f'"{side}": np.array({rows.tolist()})' for side, rows in worst_points(outcome).items())
        lines.append(f"points = {{{from_row.replace('inf', 'np.inf').replace('nan', 'np.nan')}}}")
        more += ", points=points"
    elif outcome.worst_input is not None:
        return "\n".join(
            [
                "from refflow.verification import read_report, replay",
                "",
                'report = read_report(open("report.json").read())  # what report.to_json() wrote',
                "print(*replay(report, flow), sep='\\n')  # flow: what this report is about",
            ]
        )
    lines.append(f"report = refflow.verify(flow, {more})  # flow: what this report is about")
    return "\n".join([*lines, "print(report)"])
