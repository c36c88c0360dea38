"""The laws of a map's log-determinant: log|det J| with J by three methods that know nothing of it (`jacobians`).

All of them differentiate one row at a time, and in float64: differences of float32 say nothing.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.modules import Module
from refflow.verification import jacobians
from refflow.verification.calls import cast, forward, layers
from refflow.verification.conditioning import conditions, unit
from refflow.verification.jacobians import FLOOR, INCONCLUSIVE, SAFETY, RowFunction
from refflow.verification.limits import require_jacobian
from refflow.verification.verdicts import Finding, LawViolation, Measured, Row, judge

Context = np.ndarray | None


@np.errstate(all="ignore")
def log_det_complex_step(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by the complex step.

    Besides what conditioning explains, the determinant may be wrong by u tr(|J^-1| E), with E = |J| + |dJ/dp . p|,
    plus D |L| |U| for its elimination (Higham, 2002, theorem 9.3). Where a map shows its layers, the determinants of
    the layers are added up: a product of Jacobians loses digits that its factors do not.

    For code that is not analytic on complex numbers (`numpy.abs`), the ladder overrules it.
    """
    f, x, context = _in_float64(f, x, context)
    if not takes_complex(f, x[:1], None if context is None else context[:1]):
        return Finding("log_det_complex_step", "inconclusive", judged=0.0)
    return _exact("log_det_complex_step", _by_complex_step, f, x, context)


@np.errstate(all="ignore")
def log_det_autodiff(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by the target's own differentiation of its value; the ladder overrules it."""
    f, x, context = _in_float64(f, x, context)
    if getattr(f, "jacobian", None) is None or np.asarray(forward(f, x, context)[0]).dtype != np.float64:
        return Finding("log_det_autodiff", "inconclusive", judged=0.0)
    return _exact("log_det_autodiff", _by_autodiff, f, x, context)


Differentiation = Callable[[Any, np.ndarray, Context, int], np.ndarray]
"""(f, x, context, i) -> the Jacobian of f at row i."""


def _by_complex_step(f: Any, x: np.ndarray, context: Context, i: int) -> np.ndarray:
    return jacobians.complex_step(_row_function(f, x, context, i), x[i].ravel()).value


def _by_autodiff(f: Any, x: np.ndarray, context: Context, i: int) -> np.ndarray:
    rows = (x[i : i + 1],) if context is None else (x[i : i + 1], context[i : i + 1])
    return np.asarray(f.jacobian(*rows)[0], dtype=np.float64)


def _exact(law: str, method: Differentiation, f: Any, x: np.ndarray, context: Context) -> Finding:
    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        scales = conditions(f, x, context)
        log_det = np.broadcast_to(forward(f, x, context)[1], (len(x),))
        value, spread, upper = _log_abs_det(method, f, x, context)
        kappa = np.where(scales.singular, x[0].size + np.abs(log_det), scales.log_det) + spread
        error = np.abs(value - log_det)
        enough = (scales.conclusive(x.dtype) | scales.singular) & ~(unit(x.dtype) * kappa > INCONCLUSIVE)
        enough &= np.isfinite(value) | (np.isneginf(value) & scales.singular)  # else the method has failed, not the map
        above = np.isfinite(x).reshape(len(x), -1).all(axis=1) & ~enough & (log_det - upper > 1.0)
        error, kappa, enough = np.where(above, np.inf, error), np.where(above, 1.0, kappa), enough | above
        for i in map(int, np.flatnonzero(enough & ~(error <= INCONCLUSIVE))):
            enough[i] = not on_a_kink(f, x, context, i)
        return Measured(error[:, None], kappa[:, None], enough)

    try:
        return judge(law, measure, f, x, context, wider=False)
    except LawViolation as violation:
        row = violation.row
        if row is not None and _ladder_agrees(f, row[0][None], None if row[1] is None else row[1][None]):
            return log_det_ladder(f, x, context)
        raise


def _log_abs_det(
    method: Differentiation, f: Any, x: np.ndarray, context: Context
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log|det J| of every row by the layers, by how many u it may be off, and a bound that it cannot exceed.

    The bound is Hadamard's: |det J| <= |det| computed + 16 D u prod_i |e_i|, e_i the rows of |J| + |dJ/dp . p|. It
    decides where J is singular in floats, and no relative error is known.
    """
    total, spread, upper = (np.zeros(len(x)) for _ in range(3))
    for layer in layers(f):
        scales = conditions(layer, x, context)
        for i in range(len(x)):
            jacobian = method(layer, x, context, i)
            value = np.linalg.slogdet(jacobian)[1] if np.isfinite(jacobian).all() else np.nan
            total[i] += value
            widest = np.linalg.norm(scales.jacobian[i], axis=1)
            if not isinstance(layer, Module):  # whose numbers cannot be reached: |J| alone bounds nothing
                widest = np.full_like(widest, np.inf)
            room = np.log(16.0 * len(widest) * unit(np.float64)) + np.sum(np.log(widest))
            upper[i] += np.logaddexp(value, room) if np.isfinite(room) else np.inf
            if np.isfinite(value):
                inverse = np.abs(np.linalg.inv(jacobian))
                spread[i] += np.sum(inverse * (scales.jacobian[i] + _elimination(jacobian)).T)
        x = forward(layer, x, context)[0]
    return total, spread, upper


@np.errstate(all="ignore")
def log_det_ladder(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by `scipy.differentiate.jacobian`, within 30 of its own error bounds plus 1e-10; for
    targets that are asked in bulk, J by `jacobians.extrapolated`, whose points do not depend on answers."""
    method = jacobians.extrapolated if getattr(f, "bulk", False) else jacobians.ladder
    return _finite_difference("log_det_ladder", method, f, x, context)


@np.errstate(all="ignore")
def log_det_central(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by SciPy's `approx_derivative`, within 30 of its estimated errors plus 1e-10."""
    return _finite_difference("log_det_central", jacobians.central, f, x, context)


def _finite_difference(law: str, method: Any, f: Any, x: np.ndarray, context: Context) -> Finding:
    f, x, context = _in_float64(f, x, context)
    y, log_det = forward(f, x, context)
    if np.asarray(y).dtype != np.float64:  # it computes in another precision whatever it is given
        return Finding(law, "inconclusive", judged=0.0)
    log_det, scales = np.broadcast_to(log_det, (len(x),)), conditions(f, x, context)
    judged, largest, tolerance = 0, 0.0, SAFETY
    for i in map(int, np.flatnonzero(scales.conclusive(x.dtype))):
        value, bound = method(_row_function(f, x, context, i), x[i].ravel()).log_abs_det()
        if not SAFETY * bound <= INCONCLUSIVE:
            continue
        allowed = SAFETY * bound + FLOOR + 16.0 * unit(x.dtype) * scales.log_det[i]
        error = abs(value - log_det[i])
        if not error <= allowed and on_a_kink(f, x, context, i):
            continue
        judged += 1
        if not error <= allowed:
            raise LawViolation(law, float(error), float(allowed), f"x = {x[i].tolist()}", _row(x, context, i))
        if error / allowed > largest:
            largest, tolerance = float(error / allowed), 1.0
    return Finding(law, "pass" if judged else "inconclusive", largest, tolerance, judged / max(len(x), 1))


def _row(x: np.ndarray, context: Context, i: int) -> Row:
    return x[i], None if context is None else context[i]


def _in_float64(f: Any, x: np.ndarray, context: Context) -> tuple[Any, np.ndarray, Context]:
    require_jacobian(x[0].size)
    return cast(f, np.float64), x.astype(np.float64), None if context is None else context.astype(np.float64)


def _row_function(f: Any, x: np.ndarray, context: Context, i: int) -> RowFunction:
    """Rows of points to rows of values, all with the context of row i; NaN where a step leaves the domain."""
    box = getattr(f, "domain", None)
    size = int(np.prod(x.shape[1:] if getattr(f, "output_shape", None) is None else f.output_shape))

    def at(points: np.ndarray) -> np.ndarray:
        if box is not None and not ((points.real >= box[0]) & (points.real <= box[1])).all():
            return np.full((len(points), size), np.nan)
        c = None if context is None else np.repeat(context[i : i + 1], len(points), axis=0)
        return np.asarray(forward(f, points.reshape(len(points), *x.shape[1:]), c)[0]).reshape(len(points), -1)

    return at


def _elimination(matrix: np.ndarray) -> np.ndarray:
    """D |L| |U|, the entries that Gaussian elimination of the matrix may lose u of."""
    from scipy.linalg import lu

    p, lower, upper = lu(matrix)
    return np.asarray(len(matrix) * (p @ (np.abs(lower) @ np.abs(upper))))


def takes_complex(f: Any, x: np.ndarray, context: Context) -> bool:
    """Whether f computes with complex numbers, and does not refuse them or drop their imaginary parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(forward(f, x + 0j, context)[0]).dtype == np.complex128
        except Exception:  # whatever foreign code answers to numbers it does not know
            return False


def on_a_kink(f: Any, x: np.ndarray, context: Context, i: int) -> bool:
    """Whether log_det jumps at row i: at a kink of f there is no Jacobian to compare it with."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (8, *x.shape[1:]))
    step = max(1e-9, 8.0 * unit(x.dtype))
    around = x[i] + step * np.maximum(1.0, np.abs(x[i])) * np.concatenate([signs, -signs, 0.0 * signs[:1]])
    around = around.astype(x.dtype)
    c = None if context is None else np.repeat(context[i : i + 1], len(around), axis=0)
    log_det = np.broadcast_to(forward(f, around, c)[1], (len(around),))
    return bool(np.ptp(log_det) > INCONCLUSIVE)


def _ladder_agrees(f: Any, x: np.ndarray, context: Context) -> bool:
    """Whether finite differences, where they decide, agree with log_det."""
    try:
        return log_det_ladder(f, x, context).status == "pass"
    except LawViolation:
        return False


__all__ = ["log_det_autodiff", "log_det_central", "log_det_complex_step", "log_det_ladder"]
