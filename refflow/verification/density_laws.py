r"""The laws of a density: it is the one that its map and its base make, row by row.

    log p(x) = log p_Z(f(x)) + log|det df/dx|                                          (1)

It also has a shape, depends on its own row, and is nothing outside its domain.
"""

import math
from typing import Any

import numpy as np

from refflow.flow import Flow
from refflow.verification.calls import forward
from refflow.verification.conditioning import unit
from refflow.verification.densities import (
    Context,
    as_target,
    at,
    density_scale,
    difference,
    normal,
    oriented,
    parts_of,
    rounding_scale,
    scales,
)
from refflow.verification.guard import OutOfBudget, TargetTimeout
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge


@np.errstate(all="ignore")
def density_shape(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob is one number a row, for all rows and for one."""
    target = as_target(f, context)
    for rows in (x, x[:1]):
        log_p = np.asarray(at(target.log_prob, rows, None if context is None else context[: len(rows)]))
        if log_p.shape != (len(rows),):
            raise _violated("density_shape", f"x of shape {rows.shape}: log_prob has shape {log_p.shape}")
    return Finding("density_shape", "pass")


@np.errstate(all="ignore")
def density_rows(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob gives one number a row, NaN at a row with a NaN, and the same number whatever rows come with it."""
    target = as_target(f, context)
    density_shape(target, x, context)
    log_p = np.asarray(at(target.log_prob, x, context))
    if np.isnan(log_p).all():
        raise _violated("density_rows", "log_prob is NaN at every row")
    _narrower(target, x, context, log_p)
    _nan_row(target, x, context)
    way = None if target.forward is None and target.inverse is None else oriented(target, x, context)
    _outside(way or target, x, context)
    return judge("density_rows", _alone, target, x, context, elsewhere=False)


def _alone(target: Target, x: np.ndarray, context: Context) -> Measured:
    """The log-densities of rows together against those of each row alone."""
    together = np.asarray(at(target.log_prob, x, context), dtype=np.float64)
    single = [at(target.log_prob, x[i : i + 1], None if context is None else context[i : i + 1]) for i in range(len(x))]
    error = difference(together, np.concatenate([np.asarray(a, dtype=np.float64).reshape(1) for a in single]))
    kappa, conclusive = density_scale(target, x, context)
    return Measured(error[:, None], kappa[:, None], conclusive & np.isfinite(together))


def _narrower(target: Target, x: np.ndarray, context: Context, log_p: np.ndarray) -> None:
    """Fewer digits than the map gives for the same rows are lost, not saved."""
    if target.forward is not None and target.to_base is not None:
        kind = np.asarray(forward(target, x, context)[0]).dtype
        if np.finfo(log_p.dtype).eps > max(np.finfo(x.dtype).eps, np.finfo(kind).eps):
            raise _violated("density_rows", f"x of {x.dtype}: log_prob is {log_p.dtype}, z {kind}")


def _nan_row(target: Target, x: np.ndarray, context: Context) -> None:
    points = np.array(x)
    points[0].reshape(-1)[-1] = np.nan
    try:
        log_p = np.asarray(at(target.log_prob, points, context))
    except (TargetTimeout, OutOfBudget):
        raise
    except Exception:  # refusing NaN is an answer too
        return
    if np.isfinite(log_p.reshape(len(x), -1)[0]).all():
        raise _violated("density_rows", f"a row with a NaN has log_prob {float(log_p.reshape(-1)[0]):.6g}")


def _outside(target: Target, x: np.ndarray, context: Context) -> None:
    """Outside the box that the target says its data lie in, no density: minus infinity, NaN, or an exception."""
    box = target.domain
    for end, sign in zip(box or (), (-1.0, 1.0), strict=False):
        if not np.isfinite(end):
            continue
        points = np.array(x[:2])
        points.reshape(len(points), -1)[:, 0] = end + sign * max(1.0, abs(end))
        try:
            log_p = np.asarray(at(target.log_prob, points, None if context is None else context[:2]))
        except (TargetTimeout, OutOfBudget):
            raise
        except Exception:  # an exception says it best
            continue
        if np.isfinite(log_p).any():
            raise _violated("density_rows", f"x = {points[0].tolist()}, outside ({box[0]:g}, {box[1]:g})")  # type: ignore[index]


def _violated(law: str, where: str) -> LawViolation:
    return LawViolation(law, float("inf"), 0.0, where)


@np.errstate(all="ignore")
def change_of_variables(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob(x) = log p_Z(f(x)) + log|det df/dx|.

    A base that is not known is taken for a standard normal if that fits, or if it fits but for a fault that has a name
    (`likeliest_cause`); else nothing is decided.
    """
    target = oriented(as_target(f, context), x, context)
    if target is None:
        return Finding("change_of_variables", "inconclusive", judged=0.0, remark="the map to the base is not given")
    try:
        found = judge("change_of_variables", _formula, target, x, context)
    except LawViolation as violation:
        cause = likeliest_cause(target, x, context)
        if target.base_log_prob is None and not cause:
            remark = "log_prob - log_det is no standard normal of z: give base_log_prob"
            return Finding("change_of_variables", "inconclusive", judged=0.0, remark=remark)
        raise _with(violation, cause) from None
    if found.status == "pass" and (cause := _base_constant(target, x, context)):
        raise LawViolation("change_of_variables", float("inf"), 0.0, cause)
    return found


def _with(violation: LawViolation, cause: str) -> LawViolation:
    where = violation.worst + (f": {cause}" if cause else "")
    return LawViolation(violation.law, violation.statistic, violation.tolerance, where, violation.row, violation.judged)


def _formula(target: Target, x: np.ndarray, context: Context) -> Measured:
    log_p = np.asarray(at(target.log_prob, x, context), dtype=np.float64).reshape(len(x))
    _, base, log_det = parts_of(target, x, context)
    kappa, conclusive = rounding_scale(target, x, context)
    return Measured(
        difference(log_p, base + log_det)[:, None], kappa[:, None], conclusive & np.isfinite(base + log_det)
    )


def likeliest_cause(target: Target, x: np.ndarray, context: Context = None) -> str:
    """The fault with a name that explains log_prob at all rows that can be judged, to half its digits; else empty."""
    log_p = np.asarray(at(target.log_prob, x, context), dtype=np.float64).reshape(len(x))
    z, base, log_det = parts_of(target, x, context)
    usable = np.isfinite(log_p + base + log_det) & scales(target, x, context).conclusive(x.dtype)
    if usable.sum() < 4:
        return ""
    log_p, base, log_det, z = log_p[usable], base[usable], log_det[usable], z[usable]
    allowed = unit(x.dtype) ** 0.5 * (1.0 + np.abs(base) + np.abs(log_det))
    named = {
        "log_det is subtracted": base - log_det,
        "log_det is missing": base,
        "log_det is counted twice": base + 2.0 * log_det,
        "log_prob is divided by the number of coordinates": (base + log_det) / z[0].size,
        "log_prob is in bits": (base + log_det) / math.log(2.0),
    }
    found = [text for text, value in named.items() if np.all(np.abs(log_p - value) <= allowed)]
    if found:
        return found[0]
    residual = log_p - log_det
    cause = _constant(residual - base, z[0].size, allowed)
    return cause or ("" if target.base_log_prob is None else _temperature(residual, z, allowed))


def _base_constant(target: Target, x: np.ndarray, context: Context) -> str:
    """What the base lacks, if it is the standard normal density without its constant."""
    z, base, _ = parts_of(target, x, context)
    return _constant(base - normal(z), z[0].size, unit(x.dtype) ** 0.5 * (1.0 + np.abs(base)))


def _constant(off: np.ndarray, dim: int, allowed: np.ndarray) -> str:
    """Which multiple of log 2 pi, a half or more, is constantly missing, or too much."""
    usable = np.isfinite(off) & (allowed < 0.01)  # where a constant of about 1 can be told from rounding
    if usable.sum() < 4:
        return ""
    off, allowed = off[usable], allowed[usable]
    c = float(np.median(off))
    halves = c / (0.5 * math.log(2.0 * math.pi))
    whole = round(halves)
    if np.any(np.abs(off - c) > allowed) or not whole or abs(whole) > dim or abs(halves - whole) > float(allowed.min()):
        return ""
    what = "is missing" if whole > 0 else "is too much"
    return f"of the base's constant -{dim}/2 log 2 pi, {abs(whole)}/2 log 2 pi {what}"


def _temperature(residual: np.ndarray, z: np.ndarray, allowed: np.ndarray) -> str:
    """Whether log_prob - log_det is a normal density of another width."""
    squares = np.sum(np.asarray(z, dtype=np.float64).reshape(len(z), -1) ** 2, axis=1)
    if len(squares) < 4 or np.ptp(squares) == 0.0:
        return ""
    slope, level = np.polyfit(squares, residual, 1)
    if slope >= 0.0 or abs(slope + 0.5) < 1e-3 or np.any(np.abs(residual - level - slope * squares) > allowed):
        return ""
    width = (-2.0 * slope) ** -0.5
    return f"z is taken at a temperature of {width:.6g}: log_prob - log_det is a normal density of that width"


@np.errstate(all="ignore")
def coding(flow: Flow, x: np.ndarray, context: Context = None) -> Finding:
    """encode = f and decode = f^-1, for refflow's flows."""

    def measure(flow: Flow, x: np.ndarray, context: Context) -> Measured:
        prepared = flow.prepare_context(context)
        z = forward(flow.bijection, x, prepared)[0]
        encoded = np.abs(flow.encode(x, context).astype(float) - z).reshape(len(x), -1)
        back = np.abs(flow.decode(z, context).astype(float) - flow.bijection.inverse(z, prepared)[0]).reshape(
            len(x), -1
        )
        kappa = np.column_stack([1.0 + np.abs(a).reshape(len(x), -1) for a in (z, x)])
        error = np.column_stack([encoded, back])
        return Measured(error, kappa, np.isfinite(z).reshape(len(x), -1).all(axis=1) & np.isfinite(error).all(axis=1))

    return judge("coding", measure, flow, x, context)


__all__ = ["change_of_variables", "coding", "density_rows"]
