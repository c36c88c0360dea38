"""What a check is, what it is asked of, and how much is asked: the words that the table of `checks` is written in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.verification.calls import turned
from refflow.verification.points import Points
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation


@dataclass(frozen=True)
class Level:
    """How much is asked."""

    name: str
    rows: int
    """Points on each side."""
    differentiated: int
    """Rows at which Jacobians are taken."""
    differences: int
    """Rows at which SciPy's differences are taken besides: some thousand calls a row."""
    draws: int
    """Samples for the checks of densities; 0: they are left out."""
    budget: float
    """Seconds that a check may take."""
    total: float
    """Seconds that all checks may take, shared by the precisions and modes: targets whose calls are slow are asked what
    there is time for."""


LEVELS = {
    "quick": Level("quick", 12, 4, 0, 0, 1.0, 2.7),
    "standard": Level("standard", 32, 12, 2, 4_000, 10.0, 18.0),
    "deep": Level("deep", 96, 24, 6, 20_000, 60.0, 600.0),
}


COORDINATES = 48
"""Partial derivatives that are taken by SciPy's differences at most, where there is another way to a Jacobian."""


@dataclass(frozen=True)
class Run:
    """One variant of a target (a precision, a mode) with the points it is asked at."""

    target: Target
    raw: Target
    """The target without its guard, for what only raw calls show: writing to an input."""
    f: Any
    """What the laws are asked of: the target, or the refflow module that it stands for."""
    points: Points
    level: Level
    seed: int
    guard: Any
    variant: str = ""
    options: Any = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of this variant."""
        return np.dtype(self.points.x.dtype)

    def turned(self) -> "Run":
        """The run of the inverse."""
        return replace(
            self, target=self.target.turned(), raw=self.raw.turned(), f=turned(self.f), points=self.points.turned()
        )

    def few(self, n: int) -> "Run":
        """The run at n of its rows."""
        return replace(self, points=self.points.first(n))


@dataclass(frozen=True)
class Check:
    """A statement about a flow, and how it is asked."""

    id: str
    statement: str
    ask: Callable[[Run], Finding]
    needs: tuple[str, ...] = ("forward",)
    """Attributes of the target that must be there; "a|b": one of them."""
    after: tuple[str, ...] = ("SH",)
    """Checks that it rests on."""
    level: str = "quick"
    """The least level at which it is asked."""
    precisions: str = "both"
    """"both", or "widest" where another precision says nothing new."""
    narrow: str = "standard"
    """The least level at which it is asked in another precision than the widest."""
    hint: str = ""
    """What to look for where it fails."""

    def missing(self, target: Target) -> str:
        """What the target lacks for this check; empty if nothing."""
        for need in self.needs:
            if all(_absent(getattr(target, name)) for name in need.split("|")):
                return need.replace("|", " or ")
        return ""


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, tuple | dict) and not value)


def law(ask: Callable[..., Finding], rows: int | None = None) -> Callable[[Run], Finding]:
    """The check that asks a law forward, at the points x."""

    def check(run: Run) -> Finding:
        at = run.points if rows is None else run.points.first(rows)
        return ask(run.f, at.x, at.context)

    return check


def both(*checks: Callable[[Run], Finding]) -> Callable[[Run], Finding]:
    """The checks in each direction that the target has; the worst finding."""

    def check(run: Run) -> Finding:
        sides = [side for side in (run, run.turned()) if side.target.forward is not None]
        found = [_named(ask, side, i) for i, side in enumerate(sides) for ask in checks]
        return worst(found) if found else Finding("", "skipped", judged=0.0)

    return check


def inverse(check: Callable[[Run], Finding]) -> Callable[[Run], Finding]:
    """The check asked of the inverse, at the points y."""
    return lambda run: check(run.turned())


def all_of(*checks: Callable[[Run], Finding]) -> Callable[[Run], Finding]:
    """Several checks of one statement; the worst finding."""
    return lambda run: worst([ask(run) for ask in checks])


def worst(findings: list[Finding]) -> Finding:
    """The finding nearest to a fault: lossy, then passed by the least margin; inconclusive if none was judged."""
    rank = {"skipped": 0, "inconclusive": 1, "pass": 2, "lossy": 3}
    return max(findings, key=lambda f: (rank[f.status], f.statistic / f.tolerance if f.tolerance else 0.0))


def _named(ask: Callable[[Run], Finding], run: Run, i: int) -> Finding:
    try:
        return ask(run)
    except LawViolation as violation:
        if i:
            violation.worst = f"the inverse at {violation.worst}"
        raise
