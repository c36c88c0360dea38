"""The laws at edges: at the bounds of splines, at knots, at 0, in the tails and at the ends of a box.

A map may have kinks, and log_det may jump there, as for piecewise linear maps; y may not, and no point between two
floats may have a log_det that belongs to neither side.
"""

from typing import Any

import numpy as np

from refflow.verification.calls import cast, forward, inverse, takes
from refflow.verification.comparison import SUMMATION, Context, taken
from refflow.verification.conditioning import conditions, unit
from refflow.verification.limits import spread
from refflow.verification.lines import CHAIN, Lines, beside, breaks, lines, round_numbers
from refflow.verification.targets import Box
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

MARGIN = 8.0
"""How many times the largest change between neighbours beside a place the change at it may be."""

STEADY = 0.25
"""Where log_det changes by more over 32 neighbours, the map is nearly singular: slopes rise beyond what floats show."""

SUSPECTS = 16
"""How many places where something seems wrong are looked into, the worst first."""

RIM = 2.0**-6
"""The share of a box's width that is its rim: there rows approach the end, one by one."""


def places(f: Any, along: Lines, domain: Box | None, bulk: bool = False) -> np.ndarray:
    """What is looked at closely on each line `(L, P)`: round numbers, and where the map is found to break."""
    found = np.tile(round_numbers(domain), (len(along.j), 1))
    found = found if bulk else np.column_stack([breaks(f, along, domain), found])
    return found if domain is None else np.clip(found, *_inner(domain))


def _inner(domain: Box) -> tuple[float, float]:
    """The box without its rims: beside an end of it neighbouring floats may go to numbers far apart."""
    width = min(1.0, domain[1] - domain[0])
    return domain[0] + RIM * width, domain[1] - RIM * width


@np.errstate(all="ignore")
def unbroken(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, bulk: bool = False, count: int = 8
) -> Finding:
    """At 129 neighbouring floats around each place y does not jump, and log_det lies between those of the two sides.

    What counts as a jump is half of all digits, and 8 times what y changes between other neighbours there. In float32
    it has to be there in float64 as well, where the map has both.
    """
    along = lines(x, context, count, points=(2 * CHAIN + 1) * (len(round_numbers(domain)) + 1))
    at = places(f, along, domain, bulk)
    chain, largest = np.arange(-CHAIN, CHAIN + 1), 0.0
    for p in np.array_split(np.arange(at.shape[1]), max(1, at.shape[1] // 9)):
        t = beside(at[:, p], chain, x.dtype)
        ratio, where = _look(f, along, t)
        if ratio.max(initial=0.0) > 1.0 and x.dtype == np.float32 and takes(f, x, context, np.float64):
            again, _ = _look(cast(f, np.float64), along.astype(np.float64), t, np.float32)
            ratio = np.minimum(ratio, 10.0 * again)
        for i, q in sorted(np.argwhere(ratio > 1.0).tolist(), key=lambda place: -ratio[*place])[:SUSPECTS]:
            k = int(np.clip(where[i, q], 1, 2 * CHAIN - 1))
            one = along.only(i)
            known = _explained(f, one, t[i, q, k - 1 : k + 2][None])
            if known or _everywhere(f, one, t[i, q, CHAIN], ratio[i, q], domain):
                ratio[i, q] = 1.0
                continue
            row, c = one.rows(t[i, q, where[i, q]].reshape(1, 1))
            what = f"x[{along.j[i]}] = {float(row.ravel()[along.j[i]])!r}: y jumps, or log_det is that of neither side"
            raise LawViolation("unbroken", float(ratio[i, q]), 1.0, what, (row[0], None if c is None else c[0]))
        largest = max(largest, min(float(ratio.max(initial=0.0)), 1.0))
    return Finding("unbroken", "pass", largest, 1.0)


def _look(f: Any, along: Lines, t: np.ndarray, dtype: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """`_broken` of the chains t `(L, P, T)` on the lines."""
    y, log_det = along.values(f, t.reshape(len(t), -1))
    return _broken(y.reshape(*t.shape, -1), log_det.reshape(t.shape), t.dtype if dtype is None else dtype)


def _explained(f: Any, along: Lines, t: np.ndarray) -> bool:
    """Whether slopes or rounding explain what happens at the middle one of three neighbours, or theory fails there."""
    rows, c = along.rows(t)
    y, log_det = along.values(f, t)
    sides = conditions(f, rows[::2], None if c is None else c[::2])
    if not sides.conclusive(t.dtype).all():
        return True
    if not (np.isfinite(y).all() and np.isfinite(log_det).all()):
        return False
    u = unit(t.dtype)
    slopes = np.max(sides.jacobian[:, :, along.j[0]], axis=0)
    allowed = MARGIN * slopes * np.max(np.diff(t[0])) + SUMMATION * u * np.max(sides.value, axis=0)
    jump = np.max(np.abs(np.diff(y[0].astype(np.float64), axis=0)), axis=0)
    return bool((jump <= allowed).all() and np.ptp(log_det) <= SUMMATION * u * np.max(sides.log_det))


def _everywhere(f: Any, along: Lines, t: Any, ratio: float, domain: Box | None) -> bool:
    """Whether the same happens nearby, where there is no edge: then it is noise, and for other checks."""
    around = float(t) + RIM * np.array([-0.35, -0.11, 0.13, 0.37]) * max(1.0, abs(float(t)))
    if domain is not None:
        around = np.clip(around, *_inner(domain))
    chains = beside(around[None], np.arange(-CHAIN, CHAIN + 1), along.x.dtype)
    return bool(_look(f, along, chains)[0].max() > ratio / 16.0)


def _broken(y: np.ndarray, log_det: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """For chains `(L, P, T, M)` the largest change in units of what is allowed `(L, P)`, and where."""
    line, side = float(np.sqrt(unit(dtype))), CHAIN // 2
    y, log_det = y.astype(np.float64), log_det.astype(np.float64)
    step = np.max(np.abs(np.diff(y, axis=2)) / (line * (1.0 + np.abs(y[:, :, 1:])) + MARGIN * _beside(y, side)), axis=3)
    left, right = (np.median(part, axis=2, keepdims=True) for part in (log_det[..., :side], log_det[..., -side:]))
    outside = np.maximum(np.minimum(left, right) - log_det, log_det - np.maximum(left, right))
    peak = log_det.shape[2] * _beside(log_det[..., None], side)[..., 0]  # a kink may be one
    allowed = line * (1.0 + np.abs(left) + np.abs(right)) + peak
    term = outside / allowed
    good = np.isfinite(y).all(axis=3) & np.isfinite(log_det)
    sound = good[..., :side].all(axis=2) & good[..., -side:].all(axis=2)
    sound &= np.max(np.where(np.isfinite(y), np.abs(y), 0.0), axis=(2, 3)) < 1.0 / line  # larger numbers cancel
    drift = [np.ptp(part, axis=2) for part in (log_det[..., :side], log_det[..., -side:])]
    sound &= np.maximum(*drift) <= STEADY
    step = np.where(good[..., 1:] & good[..., :-1], step, 0.0)
    term = np.where(good, term, np.inf)
    ratio = np.maximum(np.pad(step, ((0, 0), (0, 0), (1, 0))), term)
    ratio = np.where(sound[..., None], ratio, 0.0)
    return ratio.max(axis=2), ratio.argmax(axis=2)


def _beside(y: np.ndarray, side: int) -> np.ndarray:
    """The largest change between neighbours on the two sides `(L, P, 1, M)`."""
    steps = np.abs(np.diff(y, axis=2))
    ends = np.concatenate([steps[:, :, : side - 1], steps[:, :, -side + 1 :]], axis=2)
    return np.asarray(np.max(np.where(np.isfinite(ends), ends, 0.0), axis=2, keepdims=True))


@np.errstate(all="ignore")
def edge_rows(
    f: Any, x: np.ndarray, context: Context, domain: Box | None, bulk: bool, count: int
) -> tuple[np.ndarray, Context]:
    """Rows on, and one and two floats beside, the places of some lines, or near the ends of a box; and rows with all
    coordinates in the tails."""
    along = lines(x, context, count)
    at = places(f, along, domain, bulk)
    k = np.arange(len(along.j))[:, None] + np.arange(0, at.shape[1], 4)
    chosen = np.take_along_axis(at, np.unique(k % at.shape[1], axis=1) if len(k) == 1 else k % at.shape[1], axis=1)
    chosen = np.column_stack([at[:, :1], chosen])
    t = beside(chosen, np.array([-2, -1, 0, 1, 2]), x.dtype).reshape(len(along.j), -1)
    if domain is not None:
        if not len(near := ends(domain, x.dtype)):  # the box holds too few numbers of this precision
            return x, context
        t = np.column_stack([t, np.tile(near, (len(t), 1))]).clip(near[0], near[-1])
    rows, c = along.rows(t)
    if domain is None:
        tails = np.array([-4.5, 4.5, -12.0, 12.0, 60.0], dtype=x.dtype)
        outside = np.repeat(tails, 2).reshape(-1, *(1,) * (x.ndim - 1)) * np.ones_like(x[:1])
        rows = np.concatenate([rows, outside])
        if c is not None and context is not None:
            c = np.concatenate([c, np.resize(context, (len(outside), context.shape[1]))])
    return rows, c


def ends(domain: Box, dtype: Any) -> np.ndarray:
    """Numbers that approach the ends of a box from within, in order."""
    low, high = domain
    width = high - low if np.isfinite(high - low) else max(1.0, abs(low) if np.isfinite(low) else abs(high))
    room = width * np.array([2.0**-40, 2.0**-30, 2.0**-20, 2.0**-10])
    room = room[room > 4.0 * np.finfo(dtype).eps * max(abs(e) for e in domain if np.isfinite(e))]
    found = [low + r for r in room] if np.isfinite(low) else []
    found += [high - r for r in room[::-1]] if np.isfinite(high) else []
    return np.asarray(found, dtype=dtype)


@np.errstate(all="ignore")
def round_trip_at_edges(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, bulk: bool = False, count: int = 8
) -> Finding:
    """g(f(x)) = x at the edges, within conditioning; only what no rounding explains is a fault here."""

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        back = np.asarray(inverse(f, np.asarray(forward(f, x, context)[0]), context)[0]).reshape(len(x), -1)
        scales = conditions(f, x, context)
        rows = x.reshape(len(x), -1).astype(np.float64)
        kappa = np.where(scales.singular[:, None], 1.0 + np.abs(rows), scales.round_trip)
        underflow = float(np.finfo(x.dtype).tiny) / unit(x.dtype)  # what is lost below the smallest normal float
        return Measured(np.abs(back - rows), kappa + underflow, scales.conclusive(x.dtype))

    rows, c = edge_rows(f, x, context, domain, bulk, count)
    chosen = spread(len(rows), x[0].size)
    rows, c = rows[chosen], taken(c, chosen)
    found = judge("round_trip_at_edges", measure, f, rows, c)
    if found.status != "lossy":
        return found
    return Finding(found.law, "pass", 1.0, 1.0, found.judged, found.row, found.remark)
