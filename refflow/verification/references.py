"""The law of a reference: the target's numbers are those of another implementation with the same weights.

Both sides round, so twice the condition scale of one is granted. Where they differ, the reference is asked the other
way round as well: a port that calls the other direction forward is told so.
"""

from typing import Any

import numpy as np

from refflow.verification.calls import cast, forward, takes
from refflow.verification.comparison import Context
from refflow.verification.conditioning import conditions
from refflow.verification.densities import at, density_scale, difference, oriented
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

SIDES = 2.0
"""Two implementations, each with its own rounding."""

CLOSE = 1e-3
"""What the other direction has to agree to at all rows, relatively, to be named."""


def aligned(target: Target, reference: Target) -> Target:
    """The reference with its forward in the target's direction, where both say which of theirs leads to the base."""
    known = target.to_base is not None and reference.to_base is not None
    return reference.turned() if known and target.to_base != reference.to_base else reference


@np.errstate(all="ignore")
def equals_reference(f: Any, reference: Target | None, x: np.ndarray, context: Context = None) -> Finding:
    """Value and log_det of f are the reference's, within the rounding of both."""
    if reference is None or reference.forward is None or not takes(reference, x, context, x.dtype):
        return Finding("equals_reference", "skipped", judged=0.0)

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        ours, theirs = forward(f, x, context), forward(cast(reference, x.dtype), x, context)
        scales = conditions(f, x, context)
        error = [difference(a, b).reshape(len(x), -1) for a, b in zip(ours, theirs, strict=True)]
        kappa = SIDES * np.column_stack([scales.value, scales.log_det])
        return Measured(np.column_stack(error), kappa, scales.conclusive(x.dtype))

    try:
        return judge("equals_reference", measure, f, x, context)
    except LawViolation as violation:
        raise _explained(violation, f, reference, x, context) from None


def _explained(violation: LawViolation, f: Any, reference: Target, x: np.ndarray, context: Context) -> LawViolation:
    """With which of the two differs at that row, and by how much; or that the other direction agrees."""
    (y, log_det), (value, term) = forward(f, x, context), forward(reference, x, context)
    apart = [float(np.nanmax(difference(a, b))) for a, b in ((y, value), (log_det, term))]
    said = f": values differ by up to {apart[0]:.3g}, log_dets by up to {apart[1]:.3g}"
    if reference.inverse is not None and reference.output_shape in (None, reference.event_shape):
        other = np.asarray(forward(reference.turned(), x, context)[0])
        if np.all(difference(other, y) <= CLOSE * (1.0 + np.abs(other))):
            said = ": it is the reference's inverse: the two call other directions forward"
    worst = violation.worst + said
    return LawViolation(violation.law, violation.statistic, violation.tolerance, worst, violation.row, violation.judged)


@np.errstate(all="ignore")
def density_of_reference(target: Target, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob is the reference's, within the rounding of both."""
    reference = target.reference
    if reference is None or reference.log_prob is None or target.log_prob is None:
        return Finding("density_of_reference", "skipped", judged=0.0)

    def measure(f: Target, x: np.ndarray, context: Context) -> Measured:
        error = difference(at(f.log_prob, x, context), at(cast(reference, x.dtype).log_prob, x, context))
        kappa, conclusive = density_scale(f, x, context)
        return Measured(error.reshape(len(x), 1), SIDES * kappa[:, None], conclusive)

    mapped = target.forward is not None or target.inverse is not None
    return judge(
        "density_of_reference", measure, (oriented(target, x, context) if mapped else None) or target, x, context
    )


__all__ = ["aligned", "density_of_reference", "equals_reference"]
