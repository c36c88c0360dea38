"""How the laws of edges, memory, masks and contexts are asked of a `Run`: what of the target they are told."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from refflow.verification import context, laws, masks, memory, nonfinite
from refflow.verification.calls import forward, turned
from refflow.verification.guard import TargetError
from refflow.verification.verdicts import Finding, LawViolation

if TYPE_CHECKING:
    from refflow.verification.runs import Run


def arrays_kept(run: "Run") -> Finding:
    """That of the function itself, without the copies of the guard, in one guarded call."""
    f = run.raw.forward

    def probe(x: np.ndarray, *c: np.ndarray) -> Finding:
        return memory.arrays_kept(f, x, *c)  # type: ignore[arg-type]

    try:
        given = () if run.points.context is None else (run.points.context,)
        return run.guard("forward", probe, run.points.x, *given)  # type: ignore[no-any-return]
    except TargetError as error:
        raise (error.__cause__ if isinstance(error.__cause__, LawViolation) else error) from None


def densities_keep(run: "Run") -> Finding:
    """log_prob, sample and sample_and_log_prob, called as they are, write neither to rows nor to contexts."""
    x, c = run.points.y if run.target.to_base == "inverse" else run.points.x, run.points.context
    given: tuple[np.ndarray, ...] = () if c is None else (c,)
    for name in ("log_prob", "sample", "sample_and_log_prob"):
        if (function := getattr(run.raw, name)) is None:
            continue
        arrays = [np.array(a) for a in ((x, *given) if name == "log_prob" else given)]
        before = [a.tobytes() for a in arrays]
        arguments = arrays if name == "log_prob" else (len(x), 1, *arrays)
        run.guard(name, lambda call=function, told=arguments: (call(*told), None)[1])  # not through the guard's copies
        if [a.tobytes() for a in arrays] != before:
            raise LawViolation("arrays_kept", np.inf, 0.0, f"{name}: an array that it was given was written to")
    return Finding("arrays_kept", "pass")


def boxed(ask: Callable[..., Finding], *names: str, lines: float = 1.0) -> "Callable[[Run], Finding]":
    """The check that asks a law at the points x, told of the target's boxes and of how many lines are affordable."""

    def check(run: "Run") -> Finding:
        lots = {"quick": 4, "standard": 8, "deep": 32}[run.level.name]
        known = {"domain": run.target.domain, "codomain": run.target.codomain, "bulk": run.target.bulk,
                 "count": max(1, round(lines * lots))}  # fmt: skip
        return ask(run.f, run.points.x, run.points.context, **{name: known[name] for name in names})

    return check


def with_inverse(check: "Callable[[Run], Finding]") -> "Callable[[Run], Finding]":
    """The check where there are both directions, skipped where not."""

    def ask(run: "Run") -> Finding:
        if run.target.forward is None or run.target.inverse is None:
            return Finding("", "skipped", judged=0.0, remark="it has one direction only")
        return check(run)

    return ask


FEW = 3
"""Rows that `continuity` looks at."""

STAIRS = 32.0
"""How many times a staircase must exceed what `laws.continuity` allows: that of float32 does 100 times, that of sound
code with intermediates of 10^7, whose rounding its ends do not show, twice."""


def no_staircase(run: "Run") -> Finding:
    """Continuity near a few rows, in float64: no step is taken in a narrower precision. That would show near all rows;
    near one, a flat piece of the other direction may lie between two floats."""
    if run.dtype != np.float64:
        return Finding("continuity", "skipped", judged=0.0)
    try:
        return laws.continuity(run.f, run.points.x, run.points.context)
    except LawViolation as violation:
        if violation.statistic > STAIRS and _stairs(run.few(2 * FEW), FEW):
            raise
        said = "neighbours lie further apart than slopes say"
        return Finding("continuity", "lossy", violation.statistic, 1.0, remark=said)


def _stairs(run: "Run", first: int) -> bool:
    """Whether continuity fails as plainly at the rows from the first on."""
    x, c = run.points.x[first:], run.points.context
    try:
        laws.continuity(run.f, x, None if c is None else c[first:])
    except LawViolation as violation:
        return violation.statistic > STAIRS
    return False


def ahead(check: "Callable[[Run], Finding]") -> "Callable[[Run], Finding]":
    """The check of forward, where there is one: what an inverse gives outside the image of forward is not judged."""
    return lambda run: check(run) if run.target.forward is not None else Finding("", "skipped", judged=0.0)


def unbounded_only(check: "Callable[[Run], Finding]") -> "Callable[[Run], Finding]":
    """The check of maps from all of space onto all of space."""
    return lambda run: (
        Finding("", "skipped", judged=0.0, remark="for maps of all of space onto itself")
        if run.target.domain or run.target.codomain or run.target.output_shape not in (None, run.target.event_shape)
        else check(run)
    )


def declared_structure(run: "Run") -> Finding:
    """Independence by the target's mask, and by those of its layers where they show one."""
    x, c = run.points.x, run.points.context
    found = Finding("independence", "skipped", judged=0.0, remark="no mask is declared")
    if run.target.structure is not None:
        found = masks.independence(run.f, np.asarray(run.target.structure, dtype=bool), x, c)
    for part in run.target.layers:
        if part.structure is not None:
            found = masks.independence(part, np.asarray(part.structure, dtype=bool), x, c)
        x = np.asarray(forward(part, x, c)[0])
    return found


def contexts(run: "Run") -> Finding:
    """That of all functions that take a context."""
    return context.contexts_in_their_rows(run.target, run.points, run.f, turned(run.f))


def no_number(run: "Run") -> Finding:
    """That of log_prob."""
    data = run.turned() if run.target.to_base == "inverse" else run
    return nonfinite.no_density_of_nan(data.target, data.points.x, data.points.context)
