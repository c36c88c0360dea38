"""The law of order: no map folds. In one dimension it rises or falls throughout; in more, det J has one sign."""

from typing import Any

import numpy as np

from refflow.verification.comparison import Context, taken
from refflow.verification.conditioning import unit
from refflow.verification.limits import require_jacobian
from refflow.verification.lines import Lines, lines
from refflow.verification.masks import influence
from refflow.verification.points import into_box
from refflow.verification.readings import truth
from refflow.verification.targets import Box
from refflow.verification.verdicts import Finding, LawViolation

AGREES = 1e-3
"""How near log_det is to log|det J| where a Jacobian is taken for right."""


WIDEST = 256
"""The most coordinates among which pairs are looked for: each is flipped at each row."""


def pairs(moves: np.ndarray) -> list[tuple[int, int]]:
    """(i, j) such that y_i is a function of x_j for fixed other coordinates of x that other y determine already.

    Rows of the influence `(M, D)` with a single coordinate left are taken off, with that coordinate, until none is:
    all of a triangular matrix, whatever its order; none of a full one.
    """
    left = moves.copy()
    found: list[tuple[int, int]] = []
    while True:
        single = np.flatnonzero(left.sum(axis=1) == 1)
        if not len(single):
            return found
        i = int(single[0])
        j = int(np.flatnonzero(left[i])[0])
        found.append((i, j))
        left[:, j] = False


def _grid(domain: Box | None, dtype: Any) -> np.ndarray:
    """Points over the line: dense where most rows are, neighbours here and there, far out at powers of two."""
    far = 2.0 ** np.arange(3.0, 20.0)
    found = np.concatenate([-far[::-1], np.linspace(-7.9, 7.9, 159), far])
    if domain is not None:
        found = into_box(np.linspace(-12.0, 12.0, 159), domain)
    found = found.astype(dtype)
    chains = found[::9, None] + np.arange(1, 5).astype(dtype) * np.spacing(np.abs(found[::9, None]))
    grid = np.unique(np.concatenate([found, chains.astype(dtype).ravel()]))
    return grid if domain is None else grid[(grid > domain[0]) & (grid < domain[1])]


@np.errstate(all="ignore")
def monotone(f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, count: int = 8) -> Finding:
    """y_i is monotone in x_j along coordinate lines, for the pairs (i, j) of a triangular map: a fault in one
    dimension, a warning in more, where only samples tell which maps are triangular.

    Ties are rounding, and so are steps back that leave half of all digits: at most sqrt(u) of the values and of what
    one rounding of x makes of them there.
    """
    found = pairs(influence(f, x, context)) if len(x) > 1 and x[0].size <= WIDEST else []
    if not found:
        return Finding("monotone", "inconclusive", judged=0.0, remark="no coordinate of y depends on one of x alone")
    t = _grid(domain, x.dtype)
    along = lines(x, context, 1, points=len(t) * count)
    found = [found[k] for k in np.unique(np.linspace(0, len(found) - 1, count).astype(int))]
    alike = along.only(np.zeros(len(found), dtype=int))
    along = Lines(alike.x, alike.context, np.array([j for _, j in found]))
    y = along.values(f, np.tile(t, (len(found), 1)))[0].astype(np.float64)
    largest = 0.0
    for k, (i, j) in enumerate(found):
        curve = y[k, :, i]
        finite = np.isfinite(curve) & (np.abs(curve) < 0.25 * np.finfo(x.dtype).max)
        if finite.sum() < 2:
            continue
        values, at = curve[finite], t[finite]
        steps = np.diff(values)
        scale = np.abs(values[1:]) + np.abs(values[:-1]) + 1.0
        back = -steps * (1.0 if values[-1] >= values[0] else -1.0) / (float(np.sqrt(unit(x.dtype))) * scale)
        n = int(np.argmax(back))
        largest = max(largest, float(back[n]))
        if back[n] > 1.0 and _triangular(f, along, k, at, (i, j)):
            row, c = along.rows(np.tile(at[n : n + 1], (len(found), 1)))
            where = f"y[{i}] turns back between x[{j}] = {float(at[n])!r} and {float(at[n + 1])!r}"
            at_row = row[k], None if c is None else c[k]
            if x[0].size > 1:  # that y_i depends on x_j alone is what samples show: saturated networks show it too
                return Finding("monotone", "lossy", largest, 1.0, row=at_row, remark=f"it seems that {where}")
            raise LawViolation("monotone", largest, 1.0, where, at_row)
    return Finding("monotone", "pass", largest, 1.0)


def _triangular(f: Any, along: Lines, k: int, at: np.ndarray, pair: tuple[int, int]) -> bool:
    """Whether the map is triangular, with this pair, all along the line: what a network turns off at some rows it may
    turn on at others."""
    some = at[np.unique(np.linspace(0, len(at) - 1, 60).astype(int))]
    rows, c = along.rows(np.tile(some, (len(along.j), 1)))
    rows, c = rows[k * len(some) : (k + 1) * len(some)], None if c is None else c[k * len(some) : (k + 1) * len(some)]
    return pair in pairs(influence(f, rows, c, limit=len(rows)))


@np.errstate(all="ignore")
def oriented(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """det J has the same sign at all rows, as it must where J is never singular: at rows where J is known, which a
    log_det that agrees with it confirms. Float64 only."""
    require_jacobian(x[0].size)
    known = truth(f, x, context) if x.dtype == np.float64 else None
    if known is None or known.claimed.shape != known.log_det.shape:
        return Finding("oriented", "inconclusive", judged=0.0)
    sure = np.flatnonzero(np.abs(known.claimed - known.log_det) <= AGREES)
    positive = np.linalg.slogdet(known.jacobian[sure])[0] > 0.0
    if len(sure) and positive.any() and not positive.all():
        rare = bool(positive.sum() <= len(sure) / 2)
        row = int(sure[np.flatnonzero(positive == rare)[0]])
        where = f"x = {known.x[row].tolist()}: det J is {'positive' if rare else 'negative'}, elsewhere it is not"
        raise LawViolation("oriented", np.inf, 0.0, where, (known.x[row], taken(known.context, row)))
    return Finding("oriented", "pass" if len(sure) else "inconclusive", judged=len(sure) / len(x))
