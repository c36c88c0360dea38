"""The laws of range: maps of all of space reach all of it, those onto a box stay in it, and no number breaks off."""

from typing import Any

import numpy as np

from refflow.verification.calls import forward, layers
from refflow.verification.comparison import Context
from refflow.verification.conditioning import LINEAR, conditions, unit
from refflow.verification.guard import TargetError, TargetTimeout
from refflow.verification.lines import FAR, Lines, lines
from refflow.verification.targets import Box
from refflow.verification.verdicts import Finding, LawViolation

FLAT = 1e-6
"""Images of two points, one far beyond the other, that differ by less than this share are the same: a map as slow as
asinh(asinh(asinh(x))) still moves by a hundredth there."""


@np.errstate(all="ignore")
def escapes(f: Any, x: np.ndarray, context: Context = None, count: int = 16) -> Finding:
    """Along every coordinate, to both sides, f(x) leaves every bound: that of a saturating map or of a clamp does not.

    A continuous bijection of R^D onto itself sends what is far to what is far. Compared are the images of points at
    the square root and the fourth root of the largest float; where they overflow, nothing is judged, nor where slopes
    are too small for floats by what log_det says.
    """
    along = lines(x, context, count)
    most = float(np.finfo(x.dtype).max)
    near, far = most**0.25, most**0.5
    t = np.tile(np.array([-far, -near, near, far], dtype=x.dtype), (len(along.j), 1))
    try:
        y, log_det = along.values(f, t)
    except TargetTimeout:
        raise
    except TargetError as refusal:  # such numbers may be refused
        return Finding("escapes", "inconclusive", judged=0.0, remark=str(refusal))
    y = y.astype(np.float64)
    judged, largest = 0, 0.0
    for k in range(len(along.j)):
        for a, b in ((1, 0), (2, 3)):
            if not (np.isfinite(y[k, [a, b]]).all() and np.abs(log_det[k, [a, b]]).max() < 0.25 * np.log(most)):
                continue
            judged += 1
            apart = np.max(np.abs(y[k, b] - y[k, a]) / (1.0 + np.abs(y[k, a])))
            largest = max(largest, float(FLAT / apart) if apart > 0.0 else np.inf)
            if apart < FLAT:
                rows, c = along.rows(t)
                row = 4 * k + b
                where = f"x[{along.j[k]}] = {t[k, a]:.3g} and {t[k, b]:.3g}: both go to {y[k, b].tolist()}"
                raise LawViolation("escapes", largest, 1.0, where, (rows[row], None if c is None else c[row]))
    if not judged:
        return Finding("escapes", "inconclusive", judged=0.0)
    return Finding("escapes", "pass", largest, 1.0, judged / (2 * len(along.j)))


@np.errstate(all="ignore")
def unbounded(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, codomain: Box | None = None,
    bulk: bool = False, count: int = 8,
) -> Finding:  # fmt: skip
    """Value and log_det are numbers up to |x| = 10^6, unless they grow out of the range of floats.

    Where a line meets something that is not finite, the last point before it is looked for: there a value or log_det
    of a fourth of the exponents that floats have, in any layer that shows, is growth; small ones are a fault, if slopes
    are not so steep that first-order theory fails.
    """
    along = lines(x, context, count)
    out = np.array([1.0, 2.5, 7.0, 20.0, *FAR])
    t = np.tile(np.concatenate([-out[::-1], [-0.0, 0.0], out]), (len(along.j), 1)).astype(x.dtype)
    if domain is not None:
        t = np.tile(np.asarray(x.reshape(len(x), -1)[:, 0], dtype=x.dtype), (len(along.j), 1))
    try:
        y, log_det = along.values(f, t)
    except TargetTimeout:
        raise
    except TargetError:  # aloud, which is no fault where only the tails are
        t = t[:, np.abs(t[0]) <= FAR[0]]
        y, log_det = along.values(f, t)
    good = np.isfinite(y).all(axis=2) & ~np.isnan(log_det) & (np.isfinite(log_det) | (codomain is not None))
    if domain is not None or bulk or good.all():
        return Finding("unbounded", "pass", judged=float(np.mean(good)))
    for side in (np.arange(t.shape[1] // 2, t.shape[1]), np.arange(t.shape[1] // 2 - 1, -1, -1)):
        broken = ~good[:, side]
        first = np.where(broken.any(axis=1), broken.argmax(axis=1), -1)
        hit = np.flatnonzero(first > 0)
        if len(hit):
            some = along.only(hit)
            start = t[hit, side[first[hit] - 1]], t[hit, side[first[hit]]]
            _breaks_off(f, some, *start, codomain)
    return Finding("unbounded", "pass", judged=float(np.mean(good)))


@np.errstate(all="ignore")
def within(f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, codomain: Box | None = None,
           count: int = 8) -> Finding:  # fmt: skip
    """Values stay within the closed codomain, up to |x| = 10^6 where x may be anything."""
    if codomain is None:
        return Finding("within", "skipped", judged=0.0)
    along = lines(x, context, count)
    out = np.array([0.0, 1.0, 2.5, 7.0, 20.0, *FAR])
    t = np.concatenate([-out, out]) if domain is None else x.reshape(len(x), -1)[:, 0]
    t = np.tile(t, (len(along.j), 1)).astype(x.dtype)
    y, _ = along.values(f, t)
    room = 16.0 * float(np.finfo(y.dtype).eps) * max((abs(e) for e in codomain if np.isfinite(e)), default=0.0)
    over = np.maximum(codomain[0] - y, y - codomain[1]).max(axis=2) > room
    if over.any():
        k, n = (int(i) for i in np.argwhere(over)[0])
        rows, c = along.rows(t)
        row = k * t.shape[1] + n
        where = f"x = {rows[row].tolist()} goes to {y[k, n].tolist()}, outside {codomain}"
        raise LawViolation("within", np.inf, 0.0, where, (rows[row], None if c is None else c[row]))
    return Finding("within", "pass")


def _breaks_off(f: Any, along: Lines, good: np.ndarray, bad: np.ndarray, codomain: Box | None) -> None:
    """Look for the last finite point between a good and a bad one on each line; raise if all is small there."""
    good, bad = good.astype(np.float64), bad.astype(np.float64)
    for _ in range(30):
        middle = 0.5 * (good + bad)
        y, log_det = along.values(f, middle[:, None])
        fine = np.isfinite(y[:, 0]).all(axis=1) & ~np.isnan(log_det[:, 0])
        fine &= np.isfinite(log_det[:, 0]) | (codomain is not None)
        good, bad = np.where(fine, middle, good), np.where(fine, bad, middle)
    rows, c = along.rows(good[:, None].astype(along.x.dtype))
    lost = ~np.isfinite(along.values(f, bad[:, None])[0][:, 0]).all(axis=1)  # the value; slopes may vanish before it
    exponent = 0.25 * float(np.log(np.finfo(along.x.dtype).max))
    size, x, context = np.zeros(len(rows)), rows, c
    for layer in layers(f):
        y, log_det = forward(layer, x, context)
        size = np.maximum(size, np.log(np.maximum(1.0, np.abs(y.reshape(len(y), -1)).max(axis=1))))
        size, x = np.maximum(size, np.where(lost, log_det, np.abs(log_det))), y
    inner = 0.98 * good[:, None]  # differences must not cross the place
    y = np.abs(along.values(f, inner)[0][:, 0])
    scale = conditions(f, along.rows(inner.astype(rows.dtype))[0], c).value / np.maximum(1.0, y)
    small = (size < exponent) & (unit(rows.dtype) * scale.max(axis=1) <= LINEAR)
    if small.any():
        row = int(np.argmax(small))
        worst = along.rows(bad[:, None])[0][row]
        where = f"x = {worst.tolist()}: not finite, though no number is large before it"
        raise LawViolation("unbounded", np.inf, 0.0, where, (worst, None if c is None else c[row]))
