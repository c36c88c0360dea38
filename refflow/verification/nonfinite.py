"""The law of what is no number: NaN and infinity stay in their row and never become an answer."""

from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.comparison import Context, columns, excess, half, taken
from refflow.verification.guard import TargetError, TargetTimeout
from refflow.verification.targets import Box, Target
from refflow.verification.verdicts import Finding, LawViolation


@np.errstate(all="ignore")
def not_finite_stays(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, codomain: Box | None = None
) -> Finding:
    """Rows with a NaN or an infinity in one coordinate do not become finite, and the rows between them stay the same.

    Infinity is asked only of maps of all of space onto itself: on the edge of a box a finite value is right. Both the
    value and log_det must be finite for a fault. Code that refuses such rows aloud is right, too.
    """
    if len(x) < 2:
        return Finding("not_finite_stays", "inconclusive", judged=0.0)
    before = forward(f, x, context)
    largest, refused = 0.0, ""
    for bad in (np.nan, np.inf, -np.inf) if domain is None and codomain is None else (np.nan,):
        rows, odd = spoiled(x, bad), np.arange(len(x)) % 2 == 1
        try:
            after = forward(f, rows, context)
        except TargetTimeout:
            raise
        except TargetError as refusal:
            refused = f"{bad} is refused: {refusal}"
            continue
        answers = np.isfinite(columns(after)) if np.isinf(bad) else np.isfinite(columns(after))[:, :-1]
        if (made := np.flatnonzero(odd & answers.all(axis=1))).size:
            where = f"x = {rows[made[0]].tolist()} became finite"
            raise LawViolation("not_finite_stays", np.inf, 0.0, where, (rows[made[0]], taken(context, made[0])))
        rho = excess(f, x, context, before, after)
        rho[odd] = 0.0
        largest, row = max(largest, float(rho.max())), int(np.argmax(rho.max(axis=1)))
        if largest > half(x.dtype):
            where = f"x = {x[row].tolist()} changed when every other row got a {bad}"
            raise LawViolation("not_finite_stays", largest, half(x.dtype), where, (x[row], taken(context, row)))
    return Finding("not_finite_stays", "pass", largest, half(x.dtype), remark=refused)


def spoiled(x: np.ndarray, bad: float) -> np.ndarray:
    """The rows with `bad` in one coordinate of every second one, each in another coordinate."""
    rows = np.array(x).reshape(len(x), -1)
    odd = np.arange(1, len(rows), 2)
    rows[odd, (odd // 2) % rows.shape[1]] = bad
    return rows.reshape(x.shape)


@np.errstate(all="ignore")
def no_density_of_nan(target: Target, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob of a row with a NaN is not finite, nor, for data of all of space, that of one with an infinity."""
    if target.log_prob is None:
        return Finding("no_density_of_nan", "inconclusive", judged=0.0)
    for bad in (np.nan, np.inf) if target.domain is None and target.codomain is None else (np.nan,):
        rows = spoiled(x, bad)
        try:
            scores = np.asarray(target.log_prob(rows) if context is None else target.log_prob(rows, context))
        except TargetTimeout:
            raise
        except TargetError as refusal:
            return Finding("no_density_of_nan", "pass", remark=f"{bad} is refused: {refusal}")
        if scores.shape == (len(x),) and (made := np.flatnonzero(np.isfinite(scores[1::2]))).size:
            row = 2 * int(made[0]) + 1
            where = f"x = {rows[row].tolist()} has the log-density {scores[row]:g}"
            raise LawViolation("no_density_of_nan", np.inf, 0.0, where, (rows[row], taken(context, row)))
    return Finding("no_density_of_nan", "pass")
