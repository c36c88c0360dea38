"""The laws of rows: shapes, dtypes, memory, repeatability and independence.

They ask nothing of the values, so they hold for any map of rows, and most of them bit for bit.
"""

from typing import Any

import numpy as np

from refflow.modules import Module, arrays, bind, bind_arrays, parameters, tree_equal
from refflow.verification.calls import cast, forward
from refflow.verification.conditioning import conditions, unit
from refflow.verification.guard import OutOfBudget, TargetError, TargetTimeout
from refflow.verification.points import into_box
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

Context = np.ndarray | None

CROWD = 133
"""By how many rows a large batch is larger: more than twice 64, and a number that leaves the last chunk of code that
works in chunks not full."""

ALONE = 4
"""Rows that are asked by themselves: a call each."""

Outputs = tuple[np.ndarray, np.ndarray]


def _violated(law: str, what: str) -> LawViolation:
    return LawViolation(law, float("inf"), 0.0, what)


def _same(a: Outputs, b: Outputs) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


@np.errstate(all="ignore")
def shapes(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """y has the shape of x (or that of the map's outputs) and log_det its batch shape: for all rows and for one; of a
    refflow module also for no row, one event without batch axes, and rows in two batch axes. (What the values are
    there, `batching` asks.)"""
    n, event = len(x), x.shape[1:]
    output = event if (shape := getattr(f, "output_shape", None)) is None else shape
    others = (np.s_[:0], np.s_[0], np.s_[None, : n // 2 + 1]) if isinstance(f, Module) else ()
    for index in (np.s_[:], np.s_[:1], *others):
        points = x[index]
        try:
            y, log_det = forward(f, points, None if context is None else context[index])
        except (OutOfBudget, TargetError):
            raise
        except Exception as error:  # whatever a module of ours does where it expects another shape
            raise _violated("shapes", f"x of shape {points.shape}: {type(error).__name__}: {error}") from error
        batch = points.shape[: points.ndim - len(event)]
        if np.shape(y) != (*batch, *output) or np.shape(log_det) != batch:
            raise _violated(
                "shapes", f"x of shape {points.shape}: got y of shape {np.shape(y)}, log_det of {np.shape(log_det)}"
            )
    return Finding("shapes", "pass")


@np.errstate(all="ignore")
def batching(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """The value of a row does not depend on how many rows come with it: alone, in another order, in a crowd,
    and, of a refflow module, without batch axes and in two of them.

    Within rounding: matrix products of other shapes are summed in another order.
    """

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        n = len(x)
        together, scales = forward(f, x, context), conditions(f, x, context)
        few = np.unique(np.linspace(0, n - 1, ALONE).astype(int))
        alone = [forward(f, x[i : i + 1], None if context is None else context[i : i + 1]) for i in few]
        turned = forward(f, np.array(x[::-1]), None if context is None else np.array(context[::-1]))
        crowd = np.arange(n + CROWD) % n
        many = forward(f, x[crowd], None if context is None else context[crowd])
        last = n + CROWD - 1 - (n + CROWD - 1 - np.arange(n)) % n  # where each row comes last
        others = [
            (many[0][:n], many[1][:n]),
            (many[0][last], many[1][last]),
            _with(together, few, (np.concatenate([y for y, _ in alone]), np.concatenate([l for _, l in alone]))),
            (turned[0][::-1], turned[1][::-1]),
        ]
        if isinstance(f, Module):
            bare = [forward(f, x[i], None if context is None else context[i]) for i in few]
            folded = forward(f, x[:, None], None if context is None else context[:, None])
            others.append(_with(together, few, (np.stack([y for y, _ in bare]), np.stack([l for _, l in bare]))))
            others.append((folded[0][:, 0], folded[1][:, 0]))
        errors = [_distance(together, other) for other in others]
        kappa = np.column_stack([scales.value, scales.log_det])
        return Measured(np.column_stack(errors), np.column_stack([kappa] * len(others)), scales.conclusive(x.dtype))

    return judge("batching", measure, f, x, context, elsewhere=False)


def _with(outputs: Outputs, rows: np.ndarray, those: Outputs) -> Outputs:
    """The outputs with some of their rows exchanged."""
    found = _copied(outputs)
    for whole, part in zip(found, those, strict=True):
        whole[rows] = part
    return found


def _distance(a: Outputs, b: Outputs) -> np.ndarray:
    n = len(a[0])
    with np.errstate(invalid="ignore"):
        value, term = np.abs(a[0].astype(float) - b[0]), np.abs(a[1].astype(float) - b[1])
    return np.column_stack([value.reshape(n, -1), term])


@np.errstate(all="ignore")
def dtypes(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Both outputs have the dtype of x; for a refflow module also where everything is float32, and float64."""
    for dtype in (np.float32, np.float64) if isinstance(f, Module) else (x.dtype,):
        c = None if context is None else context.astype(dtype)
        y, log_det = forward(cast(f, dtype), x.astype(dtype), c)
        if np.asarray(y).dtype != dtype or np.asarray(log_det).dtype != dtype:
            raise _violated(
                "dtypes", f"x of {np.dtype(dtype)}: got y of {np.asarray(y).dtype}, log_det of {log_det.dtype}"
            )
    return Finding("dtypes", "pass")


@np.errstate(all="ignore")
def no_mutation(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f writes neither to x nor to the context nor to its own arrays, and takes arrays that cannot be written to."""
    inputs = [np.array(a) for a in (x, context) if a is not None]
    before = [a.tobytes() for a in inputs]
    own = [np.array(a) for a in _leaves(f)]
    forward(f, *inputs)
    if before != [a.tobytes() for a in inputs]:
        raise _violated("no_mutation", "x or the context was written to")
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(own, _leaves(f), strict=True)):
        raise _violated("no_mutation", "a parameter was written to")
    for a in inputs:
        a.setflags(write=False)
    try:
        forward(f, *inputs)
    except ValueError as error:
        raise _violated("no_mutation", f"read-only arrays: {error}") from error
    return Finding("no_mutation", "pass")


def _leaves(f: Any) -> list[np.ndarray]:
    from refflow.arrays import leaves

    return [a for a in leaves(arrays(f)) if isinstance(a, np.ndarray)] if isinstance(f, Module) else []


@np.errstate(all="ignore")
def repeatable(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f(x) is the same, bit for bit, again: after a call at other points, and from other memory."""
    first = _copied(forward(f, x, context))
    forward(f, np.array(x[::-1]), None if context is None else np.array(context[::-1]))
    again = forward(f, np.array(x), None if context is None else np.array(context))
    if not _same(first, again):
        raise _violated("repeatable", f"the second call at x = {x[0].tolist()} ... gave something else")
    return Finding("repeatable", "pass")


def _copied(outputs: Outputs) -> Outputs:
    return np.array(outputs[0]), np.array(outputs[1])


@np.errstate(all="ignore")
def row_independence(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Row i stays the same when all other rows become 0, large, or NaN, and their contexts others of those given.

    Bit for bit; of code that is not ours within 64 u kappa, for whatever picks rows out of a batch hands them to
    vectorised functions at other positions, which may round them otherwise. A target with a domain is asked inside it.
    """
    y, log_det = _copied(forward(f, x, context))
    box = getattr(f, "domain", None)
    for i in {0, len(x) // 2, len(x) - 1} if len(x) > 1 else ():
        for other in (0.0, 1e3, np.nan):
            points = np.full_like(x, other if box is None else into_box(np.array(min(other, 30.0)), box))
            points[i] = x[i]
            c = None if context is None else np.roll(context, 1 + i, axis=0)
            if c is not None and context is not None:
                c[i] = context[i]
            try:
                changed = forward(f, points, c)
            except TargetError:
                if not np.isnan(other):
                    raise
                continue  # foreign code may refuse a NaN, aloud
            moved = (y[i], log_det[i]), (changed[0][i], changed[1][i])
            if not _same(*moved) and not _rounding(f, x, context, i, *moved):
                raise _violated("row_independence", f"row {i} changed when all others became {other}")
    return Finding("row_independence", "pass")


def _rounding(f: Any, x: np.ndarray, context: Context, i: int, before: Outputs, after: Outputs) -> bool:
    """Whether row i of a foreign map has moved by no more than rounding."""
    if isinstance(f, Module):
        return False
    scales = conditions(f, x[i : i + 1], None if context is None else context[i : i + 1])
    kappa = np.append(scales.value[0], scales.log_det[0])
    moved = np.append(np.abs(before[0].astype(float) - after[0]).ravel(), np.abs(float(before[1]) - float(after[1])))
    return bool(np.all(moved <= 64.0 * unit(x.dtype) * kappa))


@np.errstate(all="ignore")
def nan_stays(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """A row with a NaN in it gives a row with a NaN in it: nothing turns it into a number that looks like an answer.

    And none arises by itself: where x and f(x) are finite, log_det is not NaN, as log det J would be for log|det J|.
    Laws that compare would find nothing there to compare.
    """
    y, log_det = forward(f, x, context)
    if not np.isfinite(np.asarray(y)).any():
        _some_number(f, x, context)
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1) & np.isfinite(np.asarray(y)).reshape(len(x), -1).all(axis=1)
    lost = np.flatnonzero(finite & np.isnan(np.broadcast_to(np.asarray(log_det), (len(x),))))
    if lost.size:
        raise _violated("nan_stays", f"x = {x[lost[0]].tolist()} has a log-determinant that is NaN")
    points = np.array(x)
    points.reshape(len(x), -1)[:, -1] = np.nan
    try:
        y, _ = forward(f, points, context)
    except TargetTimeout:
        raise
    except TargetError as refusal:  # aloud, which is no fault
        return Finding("nan_stays", "pass", remark=f"a NaN is refused: {refusal}")
    if np.isfinite(np.asarray(y)).reshape(len(x), -1).all(axis=1).any():
        raise _violated("nan_stays", f"x = {points[0].tolist()} became finite")
    return Finding("nan_stays", "pass")


PLAIN = (0.5, -0.5, 0.01, 2.0, -2.0)
"""Numbers that lie within the usual domains: the interval, the half-line, the line."""


def _some_number(f: Any, x: np.ndarray, context: Context) -> None:
    """Raises LawViolation for a map that has no finite value at any row of x, nor where all coordinates are a plain
    number: no domain explains that."""
    rows = np.stack([np.full(x.shape[1:], number, x.dtype) for number in PLAIN])
    try:
        y, log_det = forward(f, rows, None if context is None else np.resize(context, (len(rows), context.shape[-1])))
    except TargetTimeout:
        raise
    except TargetError:  # out of a domain, aloud
        return
    grows = np.abs(np.asarray(log_det)) > 0.25 * float(np.log(np.finfo(x.dtype).max))  # out of the range of floats
    if not np.isfinite(np.asarray(y)).any() and not grows.any():
        raise _violated("nan_stays", f"every row asked, such as {x[0].tolist()}: the value is not finite anywhere")


@np.errstate(all="ignore")
def parameters_round_trip(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """bind(f, parameters(f)) is the map f, and so with all arrays, frozen ones included; for refflow modules only."""
    if not isinstance(f, Module):
        return Finding("parameters_round_trip", "inconclusive", judged=0.0)
    first = forward(f, x, context)
    for take, put in ((parameters, bind), (arrays, bind_arrays)):
        tree = take(f)
        again = put(f, _fresh(tree))
        if not tree_equal(take(again), tree) or not _same(first, forward(again, x, context)):
            raise _violated("parameters_round_trip", f"{put.__name__}(f, {take.__name__}(f)) is another map")
    return Finding("parameters_round_trip", "pass")


def _fresh(tree: Any) -> Any:
    from refflow.arrays import tree_map

    return tree_map(np.array, tree)


__all__ = [
    "batching",
    "dtypes",
    "nan_stays",
    "no_mutation",
    "parameters_round_trip",
    "repeatable",
    "row_independence",
    "shapes",
]
