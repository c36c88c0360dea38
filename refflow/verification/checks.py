"""The checks of a verification, as a table: what each states, what it needs of the target, and what it rests on.

A check is a function of a `Run` that returns a `Finding` or raises `LawViolation`. If a check that another one rests on
has failed, the other one is blocked: what it would find is known to be wrong already.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.verification import (
    densities,
    determinants,
    edges,
    gradients,
    history,
    laws,
    masks,
    masses,
    memory,
    monotone,
    nonfinite,
    reach,
    slopes,
    structure,
)
from refflow.verification.asking import (
    ahead,
    arrays_kept,
    boxed,
    contexts,
    declared_structure,
    no_number,
    no_staircase,
    unbounded_only,
    with_inverse,
)
from refflow.verification.conditioning import takes, turned
from refflow.verification.guard import OutOfBudget
from refflow.verification.limits import require_draws
from refflow.verification.points import Points
from refflow.verification.sampling import (
    sampled_density,
    samples_follow_base,
    samples_follow_density,
    sampling,
    stein,
)
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

    @property
    def total(self) -> float:
        """Seconds that all checks may take: targets whose calls are slow are asked what there is time for."""
        return 10.0 * self.budget


LEVELS = {
    "quick": Level("quick", 12, 4, 0, 0, 1.0),
    "standard": Level("standard", 32, 12, 2, 4_000, 10.0),
    "deep": Level("deep", 96, 24, 6, 20_000, 60.0),
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


def exact_log_det(run: Run) -> Finding:
    """log_det against the complex step or the target's own differentiation, else against SciPy's differences."""
    at = run.points.first(run.level.differentiated)
    found = [ask(run.f, at.x, at.context) for ask in (determinants.log_det_complex_step, determinants.log_det_autodiff)]
    decided = [finding for finding in found if finding.status != "inconclusive"]
    affordable = max(COORDINATES // run.target.dim, 0 if decided else 1)
    rows = min(run.level.differences if decided else max(run.level.differences, 1), affordable)
    if rows:
        at = at if run.target.bulk else at.first(rows)
        found.append(_differences(run, at, hurried=bool(decided)))
    return worst(found)


def _differences(run: Run, at: Points, hurried: bool) -> Finding:
    """SciPy's ladder; where it is a second opinion and takes more than a tenth of the time, two central differences."""
    with run.guard.share(run.level.budget * (0.1 if hurried else 1.0)):
        try:
            return determinants.log_det_ladder(run.f, at.x, at.context)
        except OutOfBudget:
            if not hurried:
                raise
    few = at.first(1)
    return determinants.log_det_central(run.f, few.x, few.context)


def of_data(ask: Callable[..., Finding], statistical: bool = False, **more: Any) -> Callable[[Run], Finding]:
    """The check that asks a law of densities, at points of the data; `statistical`: with the level's draws."""

    def check(run: Run) -> Finding:
        side = run.turned() if run.target.to_base == "inverse" else run
        given = more | ({"draws": run.level.draws, "seed": run.seed} if statistical else {})
        if statistical:
            require_draws(run.level.draws, run.target.dim)
        return ask(side.target, side.points.x, side.points.context, **given)

    return check


def in_turns(*asks: Callable[..., Finding]) -> Callable[[Run], Finding]:
    """The check that asks laws of a target with all its sides, at a few rows of each."""

    def check(run: Run) -> Finding:
        few = run.few(run.level.differentiated)
        return worst([ask(few.target, few.points, run.seed) for ask in asks])

    return check


def mass(run: Run) -> Finding:
    """Normalisation, in three dimensions by quadrature where there is time."""
    dims = 3 if run.level.name == "deep" else 2
    return of_data(masses.normalisation, True, quadrature=dims)(run)


def samples(run: Run) -> Finding:
    """The seed, and where draws are asked for, what they follow."""
    asks = [of_data(sampling)]
    if run.level.draws and (run.variant != "float32" or "float64" not in run.target.dtypes):
        asks += [of_data(samples_follow_base, True), of_data(samples_follow_density, True)]
    return worst([ask(run) for ask in asks])


def across_precisions(run: Run) -> Finding:
    """This precision against the next wider one; skipped in the widest."""
    wider = np.float64 if run.dtype == np.float32 else np.longdouble
    if not takes(run.f, run.points.x, run.points.context, wider):
        return Finding("precision", "skipped", judged=0.0, remark=f"it does not compute in {np.dtype(wider).name}")
    return laws.precision(run.f, run.points.x, run.points.context)


CHECKS: tuple[Check, ...] = (
    Check(
        "SH", "y has the shape of x, and log_det one number a row, for many rows and for one",
        both(law(structure.shapes)), after=(), needs=("forward|inverse",),
        hint="sum log|det J| over all axes of the event and over no axis of the batch",
    ),
    Check("DT", "value and log_det keep the precision of x", both(law(structure.dtypes)), needs=("forward|inverse",),
          hint="return both in the precision of x; or say dtype='float64' if it is made for one precision"),
    Check("DE", "the same bits again", both(law(structure.repeatable)), needs=("forward|inverse",)),
    Check("AL", "nothing of the caller's is written to, and results stay as they are", both(arrays_kept),
          needs=("forward|inverse",), hint="an in-place operation, or an array that is kept between calls"),
    Check("RT1", "g(f(x)) = x", law(laws.round_trip), needs=("forward", "inverse"), after=("SH", "DE")),
    Check("RT2", "f(g(y)) = y, y drawn independently", inverse(law(laws.round_trip)),
          needs=("forward", "inverse"), after=("SH", "DE")),
    Check("LD3", "log_det of g at f(x) = - log_det of f at x", law(laws.antisymmetry),
          needs=("forward", "inverse"), after=("SH", "DE", "RT1")),
    Check("LD1", "log_det of f = log|det df/dx|", exact_log_det, after=("SH", "DE"), precisions="widest"),
    Check("LD2", "log_det of g = log|det dg/dy|", inverse(exact_log_det), needs=("inverse",), after=("SH", "DE"),
          precisions="widest"),
    Check("CA", "no answer is one to another question: other orders, other memory, one unit beside, inverse first",
          all_of(both(law(memory.no_stale_answers)), with_inverse(both(law(memory.no_remembered_inverse))),
                 lambda run: memory.inverse_first(run.target, run.points.x, run.points.context)),
          needs=("forward|inverse",), after=("SH", "DE", "RT1", "LD3"), hint="a cache that answers for the map"),
    Check("CH", "the parts, one after the other, are the whole; their log_dets add up", law(laws.chain_additivity),
          needs=("layers",), after=("SH", "DE")),
    Check("BI", "a row does not depend on the other rows of its batch",
          both(law(structure.row_independence), law(structure.batching)), needs=("forward|inverse",),
          after=("SH", "DE")),
    Check("ST", "y_i does not move with x_j where the mask says so, and what passes through is exact",
          all_of(law(masks.passes_through), declared_structure), after=("SH", "DE"),
          hint="a mask, its order, or a connection past it"),
    Check("CX", "context i changes row i and only row i, in all that reads it", contexts, needs=("context",),
          after=("SH", "DE"), hint="rows and contexts out of step, or a context that is not handed on"),
    Check("PR", "every precision computes the same numbers within its own rounding", both(across_precisions),
          needs=("forward|inverse",), after=("SH", "DE")),
    Check("ME", "an answer depends neither on what was asked before nor on parameters of before",
          in_turns(history.history, history.parameter_change), needs=("forward|inverse|log_prob",), after=("SH", "DE"),
          precisions="widest",
          hint="something is kept from an earlier call: a cache, a statistic, a mode"),
    Check("LP", "log_prob(x) = log p_Z(f(x)) + log_det of f, row by row, and so for samples",
          all_of(of_data(densities.density_rows), of_data(densities.change_of_variables),
                 of_data(sampled_density)), needs=("log_prob",), after=("SH", "DE")),
    Check("GR", "the target's own derivatives are those of its values, and numbers",
          in_turns(gradients.gradients, gradients.parameter_gradients), after=("SH", "DE"), precisions="widest",
          needs=("gradient|jacobian|inverse_jacobian|parameter_gradient",)),
    Check("NM", "the integral of exp(log_prob) is 1", mass, needs=("log_prob", "sample"), after=("SH", "DE"),
          level="standard", precisions="widest"),
    Check("SA", "samples depend on their seed alone, are new rows, and follow the base and the density", samples,
          needs=("sample|sample_and_log_prob",), after=("SH", "DE")),
    Check("SN", "samples obey Stein's identity of log_prob, with finite shifts", of_data(stein, True),
          needs=("log_prob", "sample"), after=("SH", "DE"), level="standard", precisions="widest"),
    Check("MO", "y rises or falls throughout along a line, and det J has one sign",
          both(boxed(monotone.monotone, "domain", "count"), law(monotone.oriented)), needs=("forward|inverse",),
          after=("SH", "DE"), hint="a slope that may be negative, or widths that may be", precisions="widest"),
    Check("ED", "at bounds, knots, 0 and in the tails y is continuous, log_det right on each side, and g(f(x)) = x",
          all_of(ahead(boxed(reach.within, "domain", "codomain", "count")), both(
              boxed(edges.unbroken, "domain", "bulk", "count"),
              boxed(slopes.one_sided_log_det, "domain", "bulk", "count"),
              with_inverse(boxed(edges.round_trip_at_edges, "domain", "bulk", "count")),
              no_staircase, boxed(reach.unbounded, "domain", "codomain", "bulk", "count"))),
          needs=("forward|inverse",), after=("SH", "DE", "RT1", "RT2", "LD1", "LD2"),
          hint="a bin search at its knots, a tail bound, a clamp"),
    Check("ON", "maps of all of space reach all of it: nothing saturates or is clamped",
          both(unbounded_only(boxed(reach.escapes, "count")), with_inverse(unbounded_only(law(laws.onto)))),
          needs=("forward|inverse",), after=("SH", "DE", "RT1", "RT2"), hint="a clamp, or a curve that levels off"),
    Check("NF", "NaN and infinity stay in their row and are never made a number",
          all_of(both(law(structure.nan_stays), boxed(nonfinite.not_finite_stays, "domain", "codomain")), no_number),
          needs=("forward|inverse|log_prob",), after=("SH",), hint="nan_to_num, a clamp, or a branch for NaN"),
)  # fmt: skip
"""In the order asked: the plainest fault is named first."""
