"""The law of contexts: context i changes row i and only row i, in everything that the target takes it for."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.comparison import Outputs, excess, half
from refflow.verification.conditioning import conditions
from refflow.verification.guard import TargetError, TargetTimeout
from refflow.verification.points import Points
from refflow.verification.samples import draw
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation

Answer = Callable[[np.ndarray], Outputs]
"""Contexts `(N, C)` to (value, log_det) at fixed rows."""


@np.errstate(all="ignore")
def contexts_in_their_rows(target: Target, points: Points, f: Any, turned: Any) -> Finding:
    """With other contexts throughout, and with one other context alone, row i is the same if its own context is.

    And something changes: what one direction reads, the other, log_prob and sample read too. A context that changes
    nothing anywhere is a fault, unless the log-determinant is the same at every row: a network that is still zero.
    """
    context, others = points.context, swapped(target, points)
    if context is None or others is None:
        return Finding("contexts", "inconclusive", judged=0.0, remark="all contexts are the same")
    moves, largest, line = {}, 0.0, half(context.dtype)
    for name, answer, side, rows in _answers(target, points, f, turned):
        before, after = answer(context), answer(others)
        moves[name] = not _same(before, after)
        for i in sorted({0, len(context) // 2, len(context) - 1}):
            alone = np.array(context)
            alone[i] = others[i]
            expected = np.array(before[0]), np.array(before[1])
            for a, b in zip(expected, after, strict=True):
                a[i] = b[i]
            rho = (
                excess(side, rows, context, expected, answer(alone))
                if side is not None
                else _density(expected, answer(alone), rows)
            )
            if side is not None and rho[i].max() > line:  # its own scales are those of its new context
                rho[i] = excess(side, rows, alone, expected, answer(alone))[i]
            row, largest = int(np.argmax(rho.max(axis=1))), max(largest, float(rho.max()))
            if largest > line:
                said = "the context of its own row alone does not" if row == i else f"the context of row {i} changes it"
                where = f"x = {rows[row].tolist()}, row {row} of {name}: {said}"
                raise LawViolation("contexts", largest, line, where, (rows[row], context[row]))
    return _read(target, points, context, others, moves, largest, {"forward": f, "the inverse": turned})


def swapped(target: Target, points: Points) -> np.ndarray | None:
    """For each row a context that differs from its own; None if there is no other."""
    if points.context is None or target.context is None:
        return None
    known = np.unique(np.asarray(target.context, dtype=points.context.dtype), axis=0)
    if len(known) < 2:
        return None
    place = [int(np.flatnonzero((known == c).all(axis=1))[0]) if (known == c).all(axis=1).any() else 0
             for c in points.context]  # fmt: skip
    other = known[(np.array(place) + 1 + np.arange(len(place)) % (len(known) - 1)) % len(known)]
    return np.asarray(np.where((other == points.context).all(axis=1)[:, None], known[0], other))


def _answers(target: Target, points: Points, f: Any, turned: Any) -> list[tuple[str, Answer, Any, np.ndarray]]:
    """(name, answer, the map whose scales explain its rounding, its rows) for every function that takes a context."""
    found: list[tuple[str, Answer, Any, np.ndarray]] = []
    ahead, back, density = target.forward, target.inverse, target.log_prob
    if ahead is not None:
        found.append(("forward", lambda c: _pair(ahead(points.x, c)), f, points.x))
    if back is not None:
        found.append(("the inverse", lambda c: _pair(back(points.y, c)), turned, points.y))
    if density is not None:
        data = points.y if target.to_base == "inverse" else points.x
        found.append(("log_prob", lambda c: _pair((data, density(data, c))), None, data))
    return found


def _pair(answer: Any) -> Outputs:
    return np.asarray(answer[0]), np.asarray(answer[1])


def _same(a: Outputs, b: Outputs) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def _density(a: Any, b: Outputs, x: np.ndarray) -> np.ndarray:
    """Differences of log-densities in units of half of their digits: their scales are not known here."""
    one, other = np.asarray(a[1], dtype=np.float64), np.asarray(b[1], dtype=np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    scale = np.sqrt(np.finfo(x.dtype).eps) * (x[0].size + np.maximum(np.abs(one), np.abs(other)))
    return np.asarray(np.where(same, 0.0, half(x.dtype) * np.abs(one - other) / scale))[:, None]


def _read(
    target: Target, points: Points, context: np.ndarray, others: np.ndarray, moves: dict[str, bool], largest: float,
    sides: dict[str, Any],
) -> Finding:  # fmt: skip
    """Whether everything reads its context that should."""
    silent = [name for name in moves if not moves[name] and _should_move(name, target, points, others, sides)]
    if target.sample is not None and not _samples_read(target, points, context, others):
        decode = "the inverse" if target.to_base == "forward" else "forward"
        silent += ["sample"] if moves.get(decode, moves.get("log_prob", False)) else []
    if silent:
        raise LawViolation("contexts", np.inf, 0.0, f"any row: {' and '.join(silent)} ignores the context")
    if any(moves.values()) or _moved_otherwise(target, points):
        return Finding("contexts", "pass", largest, half(context.dtype))
    if _silent(target, points):
        said = "the context changes nothing, and log_det is constant"
        return Finding("contexts", "inconclusive", judged=0.0, remark=said)
    raise LawViolation("contexts", np.inf, 0.0, "any row: the context changes nothing")


def _should_move(name: str, target: Target, points: Points, others: np.ndarray, sides: dict[str, Any]) -> bool:
    """Whether what did not move must move, by what another function does with the contexts at the very same points.

    If g(y, c) and g(y, c') differ, so do f(., c) and f(., c') at g(y, c); if the code of a row differs, so does its
    log-density.
    """
    c = points.context
    assert c is not None
    ahead, back = target.forward, target.inverse
    ways = {"forward": (back, ahead, points.y), "the inverse": (ahead, back, points.x)}
    if name == "log_prob":
        encode, data = (target.inverse, points.y) if target.to_base == "inverse" else (target.forward, points.x)
        return encode is not None and bool(_apart(encode(data, c)[0], encode(data, others)[0]).any())
    other, own, rows = ways[name]
    if other is None or own is None:
        return False
    image = np.asarray(other(rows, c)[0])
    moved = _apart(image, other(rows, others)[0]) & conditions(sides[name], image, c).conclusive(image.dtype)
    return bool(np.any(moved & ~_apart(own(image, c)[0], own(image, others)[0])))


def _apart(a: Any, b: Any) -> np.ndarray:
    """Which rows differ by more than half of their digits."""
    one, other = (np.asarray(array).reshape(len(array), -1) for array in (a, b))
    scale = float(np.sqrt(np.finfo(one.dtype).eps)) * (1.0 + np.abs(one) + np.abs(other))
    return np.asarray(~(np.abs(one - other) <= scale).all(axis=1))


def _moved_otherwise(target: Target, points: Points) -> bool:
    """Whether contexts between the known ones change anything: networks may be saturated at all that are known."""
    c = points.context
    assert c is not None
    for f, rows in ((target.forward, points.x), (target.inverse, points.y)):
        for factor in (0.5, 0.125, 0.0):
            try:
                other = np.asarray(factor * c, dtype=c.dtype)
                if f is not None and not _same(_pair(f(rows, c)), _pair(f(rows, other))):
                    return True
            except TargetTimeout:
                raise
            except TargetError:  # contexts of another kind are not known to be allowed
                continue
    return False


def _samples_read(target: Target, points: Points, context: np.ndarray, others: np.ndarray) -> bool:
    """Whether samples change with the contexts; raises LawViolation if they do with another row's."""
    n = len(context)
    try:
        before, after = (np.asarray(draw(target, n, 0, c)) for c in (context, others))
    except TargetTimeout:
        raise
    except TargetError:  # SA will say so
        return True
    for i in sorted({0, n // 2, n - 1}):
        alone = np.array(context)
        alone[i] = others[i]
        if not np.array_equal(before[i], after[i]) and np.array_equal(before[i], draw(target, n, 0, alone)[i]):
            raise LawViolation("contexts", np.inf, 0.0, f"row {i} of sample: the context of its own row alone does not "
                               "change it", (before[i], context[i]))  # fmt: skip
    return not np.array_equal(before, after)


def _silent(target: Target, points: Points) -> bool:
    """Whether log_det is the same at all rows, so that no network speaks."""
    for f, rows in ((target.forward, points.x), (target.inverse, points.y)):
        if f is not None:
            log_det = np.asarray(f(rows, points.context)[1], dtype=np.float64)
            return bool(np.ptp(log_det) <= 1e-6 * (1.0 + np.max(np.abs(log_det), initial=0.0)))
    return False
