"""The checks of a verification, as a table: what each states, what it needs of the target, and what it rests on.

A check is a function of a `Run` that returns a `Finding` or raises `LawViolation`. If a check that another one rests on
has failed, the other one is blocked: what it would find is known to be wrong already.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification import (
    densities,
    density_laws,
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
    references,
    slopes,
    structure,
)
from refflow.verification.asking import (
    ahead,
    arrays_kept,
    boxed,
    contexts,
    declared_structure,
    densities_keep,
    no_number,
    no_staircase,
    unbounded_only,
    with_inverse,
)
from refflow.verification.calls import forward, takes
from refflow.verification.guard import OutOfBudget
from refflow.verification.limits import require_draws
from refflow.verification.points import Points
from refflow.verification.runs import COORDINATES, Check, Run, all_of, both, inverse, law, worst
from refflow.verification.sampling import (
    sampled_density,
    samples_follow_base,
    samples_follow_density,
    sampling,
)
from refflow.verification.steins import stein
from refflow.verification.verdicts import Finding


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


def density_of_flow(run: Run) -> Finding:
    """log_prob by its rows, by its map and base, and at samples; undecided where there is a map to a base that is not
    known, for rows and samples alone do not judge it."""
    asks = density_laws.density_rows, density_laws.change_of_variables, sampled_density
    rows, change, sampled = (of_data(ask)(run) for ask in asks)
    unknown = change.status == "inconclusive" and change.remark.endswith("give base_log_prob")
    return change if unknown else worst([rows, change, sampled])


def density_shape(run: Run) -> Finding:
    """log_prob gives one number a row, for many rows and for one."""
    if run.target.log_prob is None:
        return Finding("shapes", "skipped", judged=0.0)
    return of_data(density_laws.density_shape)(run)


def single_density(run: Run) -> Finding:
    """log_prob in float64 has digits beyond those of float32."""
    if run.target.log_prob is None:
        return Finding("not_single", "skipped", judged=0.0)
    return of_data(lambda f, x, c: laws.not_single(lambda p, q: densities.at(f.log_prob, p, q), x, c, f.domain))(run)


def as_reference(run: Run) -> Finding:
    """The numbers of the reference, in one direction; its density, where the run is of the data's side."""
    at = run.points
    found = [references.equals_reference(run.f, run.target.reference, at.x, at.context)]
    if run.target.to_base != "inverse":
        found.append(references.density_of_reference(run.target, at.x, at.context))
    return worst(found)


def samples(run: Run) -> Finding:
    """The seed, and where draws are asked for, what they follow."""
    asks = [of_data(sampling)]
    if run.level.draws and (run.variant != "float32" or "float64" not in run.target.dtypes):
        asks += [of_data(samples_follow_base, True), of_data(samples_follow_density, True)]
    return worst([ask(run) for ask in asks])


def across_precisions(run: Run) -> Finding:
    """This precision against the next wider one, where there is one; and no float32 in float64."""
    single = laws.not_single(
        lambda x, c: forward(run.f, x, c)[1], run.points.x, run.points.context, run.target.domain
    )  # fmt: skip
    wider = np.float64 if run.dtype == np.float32 else np.longdouble
    if not takes(run.f, run.points.x, run.points.context, wider):
        return single
    return laws.precision(run.f, run.points.x, run.points.context)


CHECKS: tuple[Check, ...] = (
    Check(
        "SH", "y has the shape of x, log_det and log_prob are one number a row, for many rows and for one",
        all_of(both(law(structure.shapes)), density_shape), after=(), needs=("forward|inverse|log_prob",),
        hint="sum log|det J| over all axes of the event and over no axis of the batch", narrow="quick"),
    Check("DT", "value and log_det keep the precision of x", both(law(structure.dtypes)), needs=("forward|inverse",),
          hint="return both in the precision of x; or say dtype='float64' if it is made for one precision",
          narrow="quick"),
    Check("DE", "the same bits again", both(law(structure.repeatable)), needs=("forward|inverse",), narrow="quick"),
    Check("AL", "nothing of the caller's is written to, and results stay as they are",
          all_of(both(arrays_kept), densities_keep), needs=("forward|inverse|log_prob|sample",),
          hint="an in-place operation, or an array that is kept between calls"),
    Check("RT1", "g(f(x)) = x", law(laws.round_trip), needs=("forward", "inverse"), after=("SH", "DE"), narrow="quick"),
    Check("RT2", "f(g(y)) = y, y drawn independently", inverse(law(laws.round_trip)),
          needs=("forward", "inverse"), after=("SH", "DE"), narrow="quick"),
    Check("LD3", "log_det of g at f(x) = - log_det of f at x", law(laws.antisymmetry),
          needs=("forward", "inverse"), after=("SH", "DE", "RT1"), narrow="quick"),
    Check("LD1", "log_det of f = log|det df/dx|", exact_log_det, after=("SH", "DE"), precisions="widest"),
    Check("LD2", "log_det of g = log|det dg/dy|", inverse(exact_log_det), needs=("inverse",), after=("SH", "DE"),
          precisions="widest"),
    Check("CA", "no answer is one to another question: other orders, other memory, one unit beside, inverse first",
          all_of(both(law(memory.no_stale_answers)),
                 with_inverse(both(boxed(memory.no_remembered_inverse, "domain", "codomain"))),
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
    Check("PR", "every precision computes the same numbers within its own rounding",
          all_of(both(across_precisions), single_density), needs=("forward|inverse|log_prob",), after=("SH", "DE"),
          narrow="quick"),
    Check("RF", "value, log_det and log_prob are those of the reference", both(as_reference), narrow="quick",
          needs=("reference",), after=("SH", "DE"), hint="other weights, another formula, or another order"),
    Check("ME", "an answer depends neither on what was asked before nor on parameters of before",
          in_turns(history.history, history.parameter_change), needs=("forward|inverse|log_prob",), after=("SH", "DE"),
          precisions="widest",
          hint="something is kept from an earlier call: a cache, a statistic, a mode"),
    Check("LP", "log_prob(x) = log p_Z(f(x)) + log_det of f, row by row, and so for samples",
          density_of_flow, needs=("log_prob",), after=("SH", "DE"), narrow="quick"),
    Check("GR", "the target's own derivatives are those of its values, and numbers",
          in_turns(gradients.gradients, gradients.parameter_gradients), after=("SH", "DE"), precisions="widest",
          needs=("gradient|jacobian|inverse_jacobian|parameter_gradient",)),
    Check("NM", "the integral of exp(log_prob) is 1", mass, needs=("log_prob",), after=("SH", "DE"),
          level="standard", precisions="widest"),
    Check("SA", "samples depend on their seed alone, are new rows, and follow the base and the density", samples,
          needs=("sample|sample_and_log_prob",), after=("SH", "DE")),
    Check("SN", "samples obey Stein's identity of log_prob, with finite shifts", of_data(stein, True),
          needs=("log_prob", "sample"), after=("SH", "DE"), level="standard", precisions="widest"),
    Check("NF", "NaN and infinity stay in their row and are never made a number",
          all_of(both(law(structure.nan_stays), boxed(nonfinite.not_finite_stays, "domain", "codomain")), no_number),
          needs=("forward|inverse|log_prob",), after=("SH", "DE"), hint="nan_to_num, a clamp, or a branch for NaN"),
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
)  # fmt: skip
"""In the order asked: the plainest fault is named first, what takes longest is asked last."""
