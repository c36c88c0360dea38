"""Why a check failed: the likeliest cause, as a sentence, where one fits all rows to rounding. Else nothing is said."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from refflow.errors import RefflowError
from refflow.verification.calls import forward, inverse, layers, turned
from refflow.verification.comparison import Context, taken
from refflow.verification.conditioning import unit
from refflow.verification.conventions import name_convention
from refflow.verification.readings import by_layer, name_log_det
from refflow.verification.verdicts import LawViolation

CLOSE = 1e-6
"""The relative distance at which values are the same; in float32 a thousand u."""


@np.errstate(all="ignore")
def diagnose(check_id: str, run: Any, violation: LawViolation) -> str:
    """The cause of a failed check of a `Run`, or an empty string. Calls the target; whatever it raises ends it."""
    try:
        return _CAUSES[check_id](run) if check_id in _CAUSES and not run.target.bulk else ""
    except (RefflowError, ArithmeticError, ValueError, IndexError, TypeError):
        return ""  # what foreign code does where it is broken already


def _shape(run: Any) -> str:
    return _first(name_convention, run)


def _first(ask: Callable[..., str], run: Any) -> str:
    """What is said of forward, else of the inverse."""
    for side, said in ((run, ""), (run.turned(), "the inverse's ")):
        if side.target.forward is not None and (found := ask(side.f, side.points.x, side.points.context)):
            return said + found
    return ""


def _log_det(run: Any) -> str:
    found = name_log_det(run.f, run.points.x, run.points.context)
    if "wrong sign: it is that of the other" in found and run.target.inverse is not None:
        back = name_log_det(turned(run.f), run.points.y, run.points.context)
        if "wrong sign: it is that of the other" in back:
            return found + ", and so in the other direction: the two are exchanged"
    return found


def _antisymmetry(run: Any) -> str:
    """Which of the two directions is wrong, and what it is."""
    if ahead := name_log_det(run.f, run.points.x, run.points.context):
        return f"forward's {ahead}"
    y = np.asarray(forward(run.f, run.points.x, run.points.context)[0])
    back = name_log_det(turned(run.f), y, run.points.context)
    return f"the inverse's {back}" if back else ""


@np.errstate(all="ignore")
def name_round_trip(f: Any, x: np.ndarray, context: Context = None) -> str:
    """What g(f(x)) is, if it is not x; empty if nothing fits."""
    y = np.asarray(forward(f, x, context)[0])
    if y.shape != x.shape:
        return ""
    usable = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if usable.sum() < 2:
        return ""
    x, y, context = x[usable], y[usable], taken(context, usable)
    back = np.asarray(inverse(f, y, context)[0])
    if back.shape != x.shape:
        return ""
    if _close(back, x).all():
        return _digits(x, back) or _order(f, x, y, context)
    rows, wrong = (a.reshape(len(a), -1).astype(np.float64) for a in (x, back))
    for said in (*_whole(f, x, y, context, back), *_coordinates(rows, wrong)):
        return said
    found = _context(f, x, y, context) or by_layer(f, x, context, name_round_trip)
    found = found or _composition(f, x, y, context, back)
    return found or next(_bounds(rows, wrong, _close(rows, wrong)), "")


def _order(f: Any, x: np.ndarray, y: np.ndarray, context: Context) -> str:
    """Whether rows come back only in the order in which they went."""
    back = np.array(inverse(f, np.array(y[::-1]), None if context is None else np.array(context[::-1]))[0])[::-1]
    said = "right only with the same rows in the same order: rows depend on others"
    return "" if _close(back, x).all() else said


def _composition(f: Any, x: np.ndarray, y: np.ndarray, context: Context, back: np.ndarray) -> str:
    """How the inverse puts together layers that each undo themselves."""
    parts = list(layers(f))
    if len(parts) < 2:
        return ""
    orders: dict[str, Sequence[int]] = {"takes the layers in forward's order": range(len(parts))}
    orders |= {f"leaves out layer {k}": [i for i in reversed(range(len(parts))) if i != k] for k in range(len(parts))}
    for said, order in orders.items():
        at = y
        for k in order:
            at = np.asarray(inverse(parts[k], at, context)[0])
        if at.shape == back.shape and _close(at, back).all():
            return f"the inverse {said}"
    return ""


def _close(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays are the same but for rounding."""
    line = max(CLOSE, 1e3 * unit(np.result_type(a, b)))
    return np.asarray(np.abs(a - b) <= line * (1.0 + np.abs(a) + np.abs(b)))


def _whole(f: Any, x: np.ndarray, y: np.ndarray, context: Context, back: np.ndarray) -> Iterator[str]:
    if _close(back, np.asarray(forward(f, y, context)[0])).all():
        yield "the inverse does what forward does: the two are the same function"
    if _close(back, y).all():
        yield "the inverse returns its input"
    for said, order in (("in reverse", np.s_[::-1]), ("moved on by one", (np.arange(len(x)) + 1) % len(x)),
                        ("moved back by one", np.arange(len(x)) - 1)):  # fmt: skip
        if _close(back, x[order]).all():
            yield f"the rows of the batch come back {said}"
    each = [slice(i, i + 1) for i in range(len(y))]
    alone = np.concatenate([np.asarray(inverse(f, y[i], taken(context, i))[0]) for i in each])
    if alone.shape == x.shape and _close(alone, x).all():
        yield "one row at a time it is right: rows are mixed in a batch"


def _coordinates(x: np.ndarray, back: np.ndarray) -> Iterator[str]:
    """Causes that are seen coordinate by coordinate, of flattened rows."""
    size, off = x.shape[1], back - x
    if np.isfinite(back).all():
        order = [next((j for j in range(size) if _close(back[:, i], x[:, j]).all()), -1) for i in range(size)]
        if min(order) >= 0 and sorted(order) == list(range(size)) and size <= 64:
            yield f"coordinates come back permuted: x[{order}]"
        middle = np.median(off, axis=0)
        if _close(off, np.broadcast_to(middle, off.shape)).all():
            each = f"{middle[0]:.6g}" if _close(middle, np.full_like(middle, middle[0])).all() else f"{middle.tolist()}"
            yield f"a constant is added on the way and not taken off: {each}"
        if _close(np.abs(back), np.abs(x)).all():
            yield "signs are lost: |g(f(x))| = |x|" + (", right for x > 0 only" if (back >= -CLOSE).all() else "")
        with np.errstate(all="ignore"):
            ratio = np.median(back / x, axis=0)
        if np.isfinite(ratio).all() and _close(back, ratio * x).all():
            each = f"{ratio[0]:.9g}" if _close(ratio, np.full_like(ratio, ratio[0])).all() else f"{ratio.tolist()}"
            yield f"a factor is applied on the way and not taken back: {each}"


def _bounds(x: np.ndarray, back: np.ndarray, same: np.ndarray) -> Iterator[str]:
    """Right within a bound and wrong beyond it, by coordinate or by row; and whether it is clamped there."""
    for good, size, what in ((same, np.abs(x), "|x_i|"), (same.all(axis=1), np.abs(x).max(axis=1), "max_i |x_i|")):
        if good.all() or not good.any():
            continue
        inside, outside = float(size[good].max()), float(size[~good].min())
        if inside < outside and (~good).sum() >= 2:
            ends = np.abs(back[~good]) if good.ndim == 2 else np.array([np.nan, 0.0])
            if _close(ends, np.full_like(ends, np.median(ends))).all():
                yield f"right only for {what} < {np.median(ends):.6g}, and clamped there"
            else:
                yield f"right only for {what} up to a bound between {inside:.4g} and {outside:.4g}"
    positive = x > 0.0
    for side, said in ((positive, "x_i > 0"), (~positive, "x_i <= 0")):
        if np.array_equal(same, side) and side.any() and not side.all():
            yield f"right only for {said}"
    wrong = np.flatnonzero(~same.all(axis=0))
    if 0 < len(wrong) < x.shape[1]:
        right = f"only coordinates {wrong.tolist()} of {x.shape[1]} come back wrong"
        yield right if len(wrong) <= 8 else f"only {len(wrong)} of {x.shape[1]} coordinates come back wrong"


def _context(f: Any, x: np.ndarray, y: np.ndarray, context: Context) -> str:
    """Which other context the inverse seems to see."""
    if context is None:
        return ""
    others = {
        "that of row 0": np.broadcast_to(context[:1], context.shape), "0": np.zeros_like(context),
        "that of the next row": np.roll(context, -1, axis=0), "that of the row before": np.roll(context, 1, axis=0),
        "the mean of the batch": np.broadcast_to(context.mean(axis=0), context.shape).astype(context.dtype),
    }  # fmt: skip
    for said, other in others.items():
        made = np.asarray(forward(f, x, np.array(other))[0])
        if _close(np.asarray(inverse(f, made, context)[0]), x).all():
            return f"the inverse sees another context than forward: {said}"
        if _close(np.asarray(inverse(f, y, np.array(other))[0]), x).all():
            return f"forward sees another context than the inverse: {said}"
    return ""


def _digits(x: np.ndarray, back: np.ndarray) -> str:
    error = np.abs(back - x) / (1.0 + np.abs(x))
    if x.dtype == np.float64 and unit(np.float32) * 1e-3 < error.max() < 1e3 * unit(np.float32):
        return "off by no more than float32 rounds: is something on the way rounded to it?"
    return ""


_CAUSES: dict[str, Callable[[Any], str]] = {
    "SH": _shape,
    "LD1": _log_det,
    "LD2": lambda run: _log_det(run.turned()),
    "LD3": _antisymmetry,
    "RT1": lambda run: name_round_trip(run.f, run.points.x, run.points.context),
    "RT2": lambda run: name_round_trip(turned(run.f), run.points.y, run.points.context),
}
