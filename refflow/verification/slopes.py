"""The law of log-determinants beside edges: right on each side, whatever happens between."""

from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.comparison import Context, taken
from refflow.verification.conditioning import conditions, unit
from refflow.verification.edges import places
from refflow.verification.jacobians import SAFETY
from refflow.verification.limits import spread
from refflow.verification.lines import FAR, lines
from refflow.verification.targets import Box
from refflow.verification.verdicts import Finding, LawViolation

KINKED = 0.01
"""Where log_det changes by more over a step of differences, they cross an edge: in smooth maps it is 2^-16 a slope."""

STEPS = (1.0, 2.3, 7.7)
"""Steps of differences, in units of 2^-17 max(1, |x|). Stiff code, as a logit of a saturated sigmoid, makes a staircase
of y; over steps in whole ratios, slopes that are 2 % off agreed to 10^-6."""

ASIDE = 2.0**-12
"""How far beside an edge one-sided derivatives are taken, relative to max(1, |x|): steps are below 2^-14."""


@np.errstate(all="ignore")
def one_sided_log_det(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, bulk: bool = False, count: int = 8
) -> Finding:
    """log_det = log|det J| a little to each side of every place, with J by differences that do not cross it.

    J is taken with three steps; where they differ much, as beside another kink, nothing is judged. Float64 only.
    """
    if x.dtype != np.float64:
        return Finding("one_sided_log_det", "inconclusive", judged=0.0)
    along = lines(x, context, count)
    at = places(f, along, domain, bulk)
    if bulk:
        at = at[:, ::5]
    room = ASIDE * np.maximum(1.0, np.abs(at))
    t = np.concatenate([at - room, at + room], axis=1)
    if domain is None:
        tails = np.array([-FAR[1], -FAR[0], FAR[0], FAR[1]])
        t = np.column_stack([t, np.tile(tails, (len(at), 1))])
    else:
        width = np.min(np.abs(np.array(domain)[:, None, None] - at), axis=0)
        t = t[:, np.tile((2.0 * room < width).all(axis=0), 2)]
    if not t.size:
        return Finding("one_sided_log_det", "inconclusive", judged=0.0)
    rows, c = along.rows(t)
    chosen = spread(len(rows), x[0].size)
    rows, c, log_det = rows[chosen], taken(c, chosen), along.values(f, t)[1].ravel()[chosen]
    fine, bound, change = _log_abs_det(f, rows, c)
    error, allowed = np.abs(log_det - fine), 1e-3 + SAFETY * bound + change
    judged = np.isfinite(error) & (SAFETY * bound <= 0.1) & conditions(f, rows, c).conclusive(x.dtype)
    if not judged.any():
        return Finding("one_sided_log_det", "inconclusive", judged=0.0)
    ratio = np.where(judged, error / allowed, 0.0)
    worst, share = int(np.argmax(ratio)), float(np.mean(judged))
    row = rows[worst], None if c is None else c[worst]
    if ratio[worst] > 1.0:
        where = f"x = {rows[worst].tolist()}: log_det {log_det[worst]:.6g}, by differences {fine[worst]:.6g}"
        raise LawViolation("one_sided_log_det", float(ratio[worst]), 1.0, where, row, share)
    return Finding("one_sided_log_det", "pass", float(ratio[worst]), 1.0, share, row)


def _log_abs_det(f: Any, x: np.ndarray, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log|det J| of every row by central differences; to first order its error, sum_ij |J^-1|_ij E_ji, where E is what
    the step 2^-17 max(1, |x|) and others disagree by, plus rounding; and how much log_det changes over a step. If that
    is much, as at a kink of any coordinate, the first is not known."""
    n, size = x.shape[0], x[0].size
    h = 2.0**-17 * np.maximum(1.0, np.abs(x.reshape(n, size)))
    (fine, change), *others = (_central(f, x, context, factor * h) for factor in STEPS)
    change = np.maximum.reduce([change, *(other for _, other in others)])
    value, error = np.full(n, np.nan), np.full(n, np.inf)
    usable = np.isfinite(fine).all(axis=(1, 2)) & (change <= KINKED)
    usable &= np.all([np.isfinite(coarse).all(axis=(1, 2)) for coarse, _ in others], axis=0)
    usable &= fine.shape[1] == fine.shape[2]
    value[usable] = np.linalg.slogdet(fine[usable])[1]
    usable &= np.isfinite(value)
    rounding = np.maximum(unit(np.float64) * conditions(f, x, context).value, _noise(f, x, context, h, fine))
    rounding = rounding[:, :, None] / h[:, None, :]
    apart = np.max([np.abs(fine - coarse) for coarse, _ in others], axis=0)
    inverses = np.abs(np.linalg.inv(fine[usable]))
    error[usable] = np.einsum("nij,nji->n", inverses, (apart + rounding + 1e-9 * np.abs(fine))[usable])
    return value, error, change


def _noise(f: Any, x: np.ndarray, context: Context, h: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """What y `(N, M)` moves by over 2^-44 max(1, |x|), beyond its slopes: rounding on the way that y's own condition
    does not show, as in a network whose other inputs are large."""
    tiny = 2.0**-27 * h
    found, _ = _central(f, x, context, tiny)
    return np.asarray(np.max(np.abs(found - slopes) * tiny[:, None, :], axis=2))


def _central(f: Any, x: np.ndarray, context: Context, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J `(N, M, D)` by central differences with steps h `(N, D)`, and how much log_det changes over a step `(N,)`."""
    n, size = h.shape
    repeated = None if context is None else np.repeat(context, size, axis=0)
    ends = []
    for sign in (1.0, -1.0):
        moved = x.reshape(n, 1, size) + sign * h[:, :, None] * np.eye(size)
        y, log_det = forward(f, moved.reshape(n * size, *x.shape[1:]), repeated)
        ends.append((np.asarray(y).reshape(n, size, -1), np.broadcast_to(log_det, (n * size,)).reshape(n, size)))
    (up, a), (down, b) = ends
    return np.asarray(np.swapaxes((up - down) / (2.0 * h[:, :, None]), 1, 2)), np.asarray(np.abs(a - b).max(axis=1))
