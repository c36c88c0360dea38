r"""The laws of a target's own differentiation: it is what differences of its values say, and finite where they are.

Along a direction v the derivative of a function of rows is taken by central differences at steps h, h/2, h/4, ... and
Richardson's table (Ridders, 1982): the entry with the smallest error, where an error is the change to its two
neighbours in the table plus the rounding of the values over the step. An answer may be `SAFETY` times that error off. A
row is not judged at a kink, where the two one-sided slopes differ: any number between them is a gradient there.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.conditioning import unit
from refflow.verification.densities import Context, at, log_density
from refflow.verification.history import Parameters, moved
from refflow.verification.jacobians import FLOOR, INCONCLUSIVE, SAFETY
from refflow.verification.limits import require_jacobian
from refflow.verification.points import Points
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation

STEPS = 8
"""Halvings of a step of 2^-5: down to 2^-13 of a coordinate."""

FIRST = 2.0**-5

FINER = (2.0**-8, 2.0**-11)
"""Where the answer is off, it must be off by these first steps too: across a knot, where a spline's second derivative
jumps, a table of Richardson's may agree with itself by chance."""

KNOTS = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 5.0, -5.0, 8.0, -8.0, 12.0, 30.0, -30.0)
"""Where branches meet in practice, and far out: a gradient may be any number between two slopes there, but a number."""

Function = Callable[[np.ndarray, Context], np.ndarray]


def along(
    function: Function, x: np.ndarray, context: Context, v: np.ndarray, first: float = FIRST
) -> tuple[np.ndarray, np.ndarray]:
    """d function(x + t v) / dt at 0 `(N, M)` and its error, infinite at a kink; function gives `(k, M)`."""
    n, h = len(x), first * 0.5 ** np.arange(STEPS)
    t = np.concatenate([[0.0], h, -h])
    points = (x[:, None] + t.reshape(1, -1, *(1,) * (x.ndim - 1)) * v[:, None]).astype(x.dtype)
    rows = None if context is None else np.repeat(context, len(t), axis=0)
    values = np.asarray(function(points.reshape(-1, *x.shape[1:]), rows), dtype=np.float64).reshape(n, len(t), -1)
    middle, up, down = values[:, :1], values[:, 1 : STEPS + 1], values[:, STEPS + 1 :]
    return richardson(middle, up, down, h, unit(x.dtype))


def richardson(
    middle: np.ndarray, up: np.ndarray, down: np.ndarray, h: np.ndarray, u: float
) -> tuple[np.ndarray, np.ndarray]:
    """The derivative from values at 0, h and -h (axis 1), with its error."""
    step = h.reshape(1, -1, 1)
    with np.errstate(all="ignore"):
        noise = 4.0 * u * (np.abs(middle) + np.maximum(np.abs(up), np.abs(down)) + 1.0) / step
        column = (up - down) / (2.0 * step)
        value, error = column[:, -1], np.full(column[:, -1].shape, np.inf)
        for k in range(1, len(h)):
            finer = column[:, 1:] + (column[:, 1:] - column[:, :-1]) / (4.0**k - 1.0)
            off = np.maximum(np.abs(finer - column[:, 1:]), np.abs(finer - column[:, :-1])) + 2.0 * noise[:, k:]
            if finer.shape[1] > 1:
                off[:, 1:] = np.maximum(off[:, 1:], np.abs(np.diff(finer, axis=1)))
            off = np.where(np.isfinite(off), off, np.inf)
            best = np.argmin(off, axis=1)[:, None]
            least = np.take_along_axis(off, best, axis=1)[:, 0]
            value = np.where(least < error, np.take_along_axis(finer, best, axis=1)[:, 0], value)
            error = np.minimum(error, least)
            column = finer
        sides = (up + down - 2.0 * middle) / step  # of smooth functions it falls with h, at a kink it stays
        flat = np.abs(sides[:, -1]) > 0.5 * np.abs(sides[:, -3])
    kink = flat & (np.abs(sides[:, -1]) > 8.0 * noise[:, -1] + 1e-6 * (1.0 + np.abs(value)))
    return value, np.where(kink, np.inf, error)


@np.errstate(all="ignore")
def gradients(target: Target, points: Points, seed: int = 0) -> Finding:
    """The gradient of log_prob in x, or the Jacobian of a target without a density, against differences along random
    directions and along every coordinate of the first row; and finite at 0, at branches, at the domain's ends and far
    out, wherever the differences are."""
    found = [_against(target, points, seed, *which) for which in _derivatives(target, points)]
    decided = [finding for finding in found if finding.status != "inconclusive"]
    return max(decided or found, key=lambda f: f.statistic, default=Finding("gradients", "inconclusive", judged=0.0))


Derivative = Callable[[np.ndarray, Context], np.ndarray]


def _derivatives(target: Target, points: Points) -> list[tuple[str, Function, Derivative, np.ndarray, Any]]:
    """Name, function of rows, its derivative `(N, M, D)`, points and box of all that the target differentiates."""
    found: list[tuple[str, Function, Derivative, np.ndarray, Any]] = []
    if target.gradient is not None and target.log_prob is not None:
        inverted = target.to_base == "inverse"
        x, box = (points.y, target.codomain) if inverted else (points.x, target.domain)

        def gradient(p: np.ndarray, c: Context) -> np.ndarray:
            return np.asarray(at(target.gradient, p, c), dtype=np.float64).reshape(len(p), 1, -1)

        found.append(("the gradient of log_prob", lambda p, c: log_density(target, p, c)[:, None], gradient, x, box))
        return found
    sides = (("forward", target, points.x), ("inverse", target.turned(), points.y))
    for name, side, x in sides:
        if side.jacobian is None or side.forward is None:
            continue

        require_jacobian(x[0].size)

        def jacobian(p: np.ndarray, c: Context, side: Target = side) -> np.ndarray:
            return np.asarray(at(side.jacobian, p, c), dtype=np.float64).reshape(len(p), -1, p[0].size)

        def values(p: np.ndarray, c: Context, side: Target = side) -> np.ndarray:
            return np.asarray(forward(side, p, c)[0]).reshape(len(p), -1)

        found.append((f"the Jacobian of {name}", values, jacobian, x, side.domain))
    return found


def _against(
    target: Target, points: Points, seed: int, name: str, function: Function, derivative: Derivative, x: np.ndarray,
    box: Any,
) -> Finding:  # fmt: skip
    context, rng = points.context, np.random.default_rng([seed, 21])
    own = derivative(x, context)
    if own.shape[2] != x[0].size:
        raise LawViolation("gradients", float("inf"), 0.0, f"{name} of shape {own.shape} for x of shape {x.shape}")
    directions = rng.choice([-1.0, 1.0], x.shape) * (0.5 + rng.random(x.shape)) / x[0].size ** 0.5
    basis = np.eye(min(x[0].size, 16), x[0].size).reshape(-1, *x.shape[1:])
    asked = [(x, context, own, _within(x, directions, box))]
    first = np.repeat(x[:1], len(basis), axis=0)
    asked.append((first, None if context is None else np.repeat(context[:1], len(basis), axis=0),
                  np.repeat(own[:1], len(basis), axis=0), _within(first, basis, box)))  # fmt: skip
    worst, judged = 0.0, []
    for at_x, c, j, v in asked:
        exact, error = along(function, at_x, c, v)
        ours = (j @ v.reshape(len(v), -1)[..., None])[..., 0]
        size = np.maximum(1.0, np.maximum(np.abs(exact), np.sum(np.abs(j) * np.abs(v.reshape(len(v), 1, -1)), axis=2)))
        allowed = SAFETY * error + _floor(x.dtype) * size
        sure = np.isfinite(exact) & (SAFETY * error <= INCONCLUSIVE * size)
        ratio = np.where(sure, np.where(np.isfinite(ours), np.abs(ours - exact), np.inf) / allowed, 0.0)
        judged.append(sure.mean())
        for step in FINER if ratio.max(initial=0.0) > 1.0 else ():
            again, error = along(function, at_x, c, v, step)
            sure = np.isfinite(again) & (SAFETY * error <= INCONCLUSIVE * size)
            off = np.where(np.isfinite(ours), np.abs(ours - again), np.inf) / (SAFETY * error + _floor(x.dtype) * size)
            ratio = np.minimum(ratio, np.where(sure, off, 0.0))
        row, column = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        worst = max(worst, float(ratio[row, column]))
        if ratio[row, column] > 1.0:
            where = f"{name}: {ours[row, column]:.6g} along a direction, differences say {exact[row, column]:.6g}"
            at_row = at_x[row], None if c is None else c[row]
            raise LawViolation("gradients", float(ratio[row, column]), 1.0, where, at_row, float(sure.mean()))
    _finite(name, function, derivative, x, context, box)
    share = float(np.mean(judged))
    return Finding("gradients", "pass" if share else "inconclusive", worst, 1.0, share)


def _floor(dtype: Any) -> float:
    """What differentiation in this precision may itself round, beside the differences' own error."""
    return float(max(FLOOR, unit(dtype) ** 0.75))


def _within(x: np.ndarray, v: np.ndarray, box: Any) -> np.ndarray:
    """v, so short that x + t v stays within the box for the steps taken, and scaled with x outside the unit cube."""
    v = v * np.maximum(1.0, np.abs(x))
    if box is not None:
        room = 0.5 * np.minimum(np.abs(x - box[0]), np.abs(box[1] - x)) / FIRST
        v = np.sign(v) * np.minimum(np.abs(v), room)
    return np.asarray(v)


def _next(end: float, other: float, dtype: Any) -> float:
    """The normal float next to the end of a box, on the side of the other: many machines take smaller ones for 0."""
    found = float(np.nextafter(dtype.type(end), dtype.type(other)))
    return float(np.copysign(np.finfo(dtype).tiny, found)) if abs(found) < np.finfo(dtype).tiny else found


def _finite(name: str, function: Function, derivative: Derivative, x: np.ndarray, context: Context, box: Any) -> None:
    """A derivative is a number where the function's values and its differences to both sides are."""
    ends = list(KNOTS)
    if box is not None:
        ends = [v for v in ends if box[0] < v < box[1]]
        ends += [_next(e, o, x.dtype) for e, o in (box, box[::-1]) if np.isfinite(e)]
    if not ends:
        return
    points = np.stack([np.full(x.shape[1:], value, dtype=x.dtype) for value in ends])
    single = np.resize(x, (len(ends), *x.shape[1:])).copy()  # one coordinate there, the others anywhere
    single.reshape(len(ends), -1)[:, 0] = ends
    points = np.concatenate([points, single.astype(x.dtype)])
    c = None if context is None else np.resize(context, (len(points), context.shape[-1]))
    h = np.asarray(1e-3 * np.maximum(1.0, np.abs(points)), dtype=x.dtype)
    if box is not None:
        h = np.minimum(h, 0.5 * np.minimum(np.abs(points - box[0]), np.abs(box[1] - points))).astype(x.dtype)
    values = [np.asarray(function(p, c), dtype=np.float64) for p in (points, points + h, points - h)]
    known = np.isfinite(np.stack(values)).all(axis=(0, 2))
    bad = known & np.isnan(derivative(points, c)).any(axis=(1, 2))
    if bad.any():
        i = int(np.argmax(bad))
        where = f"{name} is NaN where the values around are finite: x = {points[i].tolist()}"
        raise LawViolation("gradients", float("inf"), 1.0, where, (points[i], None if c is None else c[i]))


@np.errstate(all="ignore")
def parameter_gradients(target: Target, points: Points, seed: int = 0) -> Finding:
    """The gradient of sum log_prob in the parameters, along a random direction of all and of each of them, against
    differences through `set_parameters`; and finite."""
    if None in (target.parameters, target.set_parameters, target.parameter_gradient, target.log_prob):
        return Finding("gradients", "inconclusive", judged=0.0)
    x, c = (points.y if target.to_base == "inverse" else points.x), points.context
    usable = np.isfinite(log_density(target, x, c))
    x, c = x[usable], None if c is None else c[usable]
    start = {name: np.array(p) for name, p in target.parameters().items()}  # type: ignore[misc]
    own = at(target.parameter_gradient, x, c)
    if lost := [name for name, p in start.items() if p.dtype.kind == "f" and name in own and np.isnan(own[name]).any()]:
        raise LawViolation("gradients", float("inf"), 1.0, f"the gradient of parameter {lost[0]} is NaN")
    names = [name for name, p in start.items() if p.dtype.kind == "f" and p.size and own.get(name) is not None]
    worst, judged = 0.0, 0
    try:
        for chosen in [names, *([name] for name in names[:8])]:
            signs = {name: _direction(start[name], [seed, i]) for i, name in enumerate(chosen)}
            exact, error = _parameter_slope(target, x, c, start, signs)
            ours = sum(
                float(np.sum(np.asarray(own[n], dtype=np.float64) * _velocity(start[n], signs[n]))) for n in chosen
            )
            size = max(1.0, abs(exact))
            if not SAFETY * error <= INCONCLUSIVE * size:
                continue
            judged += 1
            ratio = abs(ours - exact) / (SAFETY * error + _floor(x.dtype) * size)
            for step in FINER if ratio > 1.0 else ():
                again, error = _parameter_slope(target, x, c, start, signs, step)
                off = abs(ours - again) / (SAFETY * error + _floor(x.dtype) * size)
                ratio = min(ratio, off if SAFETY * error <= INCONCLUSIVE * size else 0.0)
            worst = max(worst, ratio)
            if not ratio <= 1.0:
                where = f"the gradient in {', '.join(chosen[:3])}: {ours:.6g}, differences say {exact:.6g}"
                raise LawViolation("gradients", ratio, 1.0, where)
    finally:
        target.set_parameters(start)  # type: ignore[misc]
    return Finding("gradients", "pass" if judged else "inconclusive", worst, 1.0, judged / (1 + len(names[:8])))


def _direction(p: np.ndarray, seed: Any) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], p.shape)


def _velocity(p: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """d moved(p, t signs) / dt."""
    return np.asarray(np.where(p == 0.0, 1.0, p) * signs, dtype=np.float64)


def _parameter_slope(
    target: Target, x: np.ndarray, c: Context, start: Parameters, signs: Parameters, first: float = 0.25 * FIRST
) -> tuple[float, float]:
    """d sum log_prob / dt along the signs, with its error."""
    u = max([unit(x.dtype)] + [unit(p.dtype) for p in start.values() if p.dtype.kind == "f"])

    def value(t: float) -> float:
        target.set_parameters(start | {name: moved(start[name], t * s) for name, s in signs.items()})  # type: ignore[misc]
        return float(np.sum(log_density(target, x, c)))

    h = first * 0.5 ** np.arange(STEPS)
    middle, up, down = (np.array([value(float(t)) for t in ts]).reshape(1, -1, 1) for ts in (0.0 * h[:1], h, -h))
    found, error = richardson(middle, up, down, h, u * len(x) ** 0.5)
    return float(found[0, 0]), float(error[0, 0])


__all__ = ["gradients", "parameter_gradients"]
