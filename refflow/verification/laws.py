r"""The laws of a bijection's values, each a public function that raises `LawViolation`.

A law takes a map, rows `x` `(N, *event)` of NumPy floats and, for conditional maps, `context` `(N, C)`. The map may be
any object whose `forward` and `inverse` return `(value, log_det)`. What a law allows is derived in `conditioning`;
the verdicts are those of `verdicts`. Every law but the last reads one direction: `turned(f)` gives the other.
"""

import warnings
from typing import Any

import numpy as np

from refflow.bijections import Bijection, Chain, Inverse
from refflow.verification import jacobians
from refflow.verification.conditioning import cast, conditions, derivatives, forward, inverse, layers, turned, unit
from refflow.verification.jacobians import FLOOR, INCONCLUSIVE, SAFETY, RowFunction
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge, measured

Context = np.ndarray | None


def round_trip(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f^-1(f(x)) = x.

    The inverse sees the rows in reverse order and in other memory, so that a cache cannot answer for it.
    """

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        y, _ = forward(f, x, context)
        back = _reversed(inverse(f, _reversed(y), _reversed(context))[0])
        scales = conditions(f, x, context)
        return measured(f, np.abs(_wide(back) - _wide(x)), scales.round_trip, scales, x.dtype)

    return judge("round_trip", measure, f, x, context)


def antisymmetry(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log|det df/dx|(x) + log|det df^-1/dy|(f(x)) = 0."""

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        y, log_det = forward(f, x, context)
        back = _reversed(inverse(f, _reversed(y), _reversed(context))[1])
        scales = conditions(f, x, context)
        return measured(f, np.abs(_wide(log_det) + _wide(back)), scales.antisymmetry, scales, x.dtype)

    return judge("antisymmetry", measure, f, x, context)


def log_det_complex_step(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by the complex step.

    Besides what conditioning explains, the determinant may be wrong by u tr(|J^-1| E), with E = |J_K| ... |J_1| for
    the product that J is, plus D |L| |U| for its elimination (Higham, 2002, theorem 9.3).

    For code that is not analytic on complex numbers (`numpy.abs`), the ladder overrules it.
    """

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        scales = conditions(f, x, context)
        kappa, error = np.array(scales.log_det), np.zeros(len(x))
        log_det = np.broadcast_to(forward(f, x, context)[1], (len(x),))
        for i in map(int, np.flatnonzero(scales.conclusive(x.dtype))):
            found = jacobians.complex_step(_row_function(f, x, context, i), x[i].ravel())
            value, _ = found.log_abs_det()
            error[i] = abs(value - log_det[i])
            if np.isfinite(value):
                kappa[i] += np.sum(
                    np.abs(np.linalg.inv(found.value)) * (scales.jacobian[i] + _elimination(found.value)).T
                )
        enough = scales.conclusive(x.dtype) & (unit(x.dtype) * kappa <= INCONCLUSIVE)
        return Measured(error[:, None], kappa[:, None], enough)

    f, x, context = _in_float64(f, x, context)
    if not _takes_complex(f, x[:1], None if context is None else context[:1]):
        return Finding("log_det_complex_step", "inconclusive", judged=0.0)
    try:
        return judge("log_det_complex_step", measure, f, x, context)
    except LawViolation:
        if not _ladder_agrees(f, x, context):
            raise
        return log_det_ladder(f, x, context)


def log_det_ladder(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log_det = log|det J| with J by `scipy.differentiate.jacobian`, within 30 of its own error bounds plus 1e-10."""
    return _finite_difference("log_det_ladder", jacobians.ladder, f, x, context)


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
        judged += 1
        if not error <= allowed:
            raise LawViolation(law, float(error), float(allowed), f"x = {x[i].tolist()}")
        if error / allowed > largest:
            largest, tolerance = float(error / allowed), 1.0
    return Finding(law, "pass" if judged else "inconclusive", largest, tolerance, judged / max(len(x), 1))


def chain_additivity(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f_K(... f_1(x)) = f(x) and the sum of the parts' log-determinants = the whole's; for chains only."""
    if not isinstance(f, Chain):
        return Finding("chain_additivity", "inconclusive", judged=0.0)

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        point, total = x, np.zeros(len(x))
        for part in layers(f):
            point, term = forward(part, point, context)
            total = total + _wide(term)
        y, log_det = forward(f, x, context)
        scales = conditions(f, x, context)
        error = np.column_stack([np.abs(_wide(y) - _wide(point)), np.abs(_wide(log_det) - total)])
        return measured(f, error, np.column_stack([scales.value, scales.log_det]), scales, x.dtype)

    return judge("chain_additivity", measure, f, x, context)


def double_inverse(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Inverse(Inverse(f)) = f, bit for bit, in both outputs; for refflow bijections only."""
    if not isinstance(f, Bijection):
        return Finding("double_inverse", "inconclusive", judged=0.0)
    twice = Inverse(Inverse(f))
    for a, b in zip(forward(f, x, context), forward(twice, x, context), strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise LawViolation("double_inverse", float("inf"), 0.0, f"x = {x[0].tolist()}")
    return Finding("double_inverse", "pass")


def precision(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f in x's dtype = f in the next wider one (float32 in float64, float64 in long double), both outputs.

    Where long double is no wider, it decides nothing.
    """
    wider = np.float64 if x.dtype == np.float32 else np.longdouble
    if np.finfo(wider).eps >= np.finfo(x.dtype).eps:
        return Finding("precision", "inconclusive", judged=0.0)

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        above = np.float64 if x.dtype == np.float32 else np.longdouble
        y, log_det = forward(f, x, context)
        exact = forward(cast(f, above), x.astype(above), None if context is None else context.astype(above))
        scales = conditions(f, x, context)
        error = np.column_stack([np.abs(exact[0] - y).reshape(len(x), -1), np.abs(exact[1] - log_det)])
        kappa = np.column_stack([scales.value, scales.log_det])
        return measured(f, error.astype(np.float64), kappa, scales, x.dtype)

    return judge("precision", measure, f, x, context)


def resolution(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f moves evenly along 129 points that span one step of the next narrower dtype: no step of it is taken there.

    Between neighbours both outputs move by at most 8 times what the Jacobians at the ends allow. A staircase of
    float32 in float64 (float16 in float32) rises by 64 times at once. `precision` cannot see a cast that a wider input
    undergoes as well.
    """
    narrow = np.finfo(np.float32 if x.dtype == np.float64 else np.float16).eps
    x, context = x[:3], None if context is None else context[:3]
    n, size = len(x), x[0].size
    ends = [x * (1.0 + s * float(narrow) / 2.0) for s in (-1.0, 1.0)]
    steps = np.linspace(-0.5, 0.5, 129) * float(narrow)
    line = np.asarray(x * (1.0 + steps.reshape(-1, *(1,) * x.ndim)), dtype=x.dtype)
    rows = line.reshape(-1, *x.shape[1:])
    y, log_det = forward(f, rows, None if context is None else np.concatenate([context] * len(steps)))
    moved = np.abs(np.diff(np.asarray(y, dtype=np.float64).reshape(len(steps), n, size), axis=0)).max(axis=0)
    moved_log_det = np.abs(np.diff(np.asarray(log_det, dtype=np.float64).reshape(len(steps), n), axis=0)).max(axis=0)
    scales = conditions(f, x, context)
    slopes = [derivatives(cast(f, np.float64), e.astype(np.float64), _wide_context(context)) for e in ends]
    length = np.abs(x).reshape(n, size) * float(narrow) / 128.0
    allowed = 8.0 * np.maximum(*((np.abs(j) @ length[..., None])[..., 0] for j, _ in slopes))
    allowed_log_det = 8.0 * np.maximum(*(np.sum(np.abs(g) * length, axis=-1) for _, g in slopes))
    rounding = 32.0 * unit(x.dtype)
    with np.errstate(all="ignore"):
        ratio = np.column_stack(
            [
                moved / (allowed + rounding * (scales.value + np.abs(_wide(y[n * 64 : n * 65])))),
                (moved_log_det / (allowed_log_det + rounding * scales.log_det))[:, None],
            ]
        )
    judged = scales.conclusive(x.dtype) & np.isfinite(ratio).all(axis=1)
    if not judged.any():
        return Finding("resolution", "inconclusive", judged=0.0)
    row = int(np.argmax(np.where(judged, ratio.max(axis=1), -1.0)))
    largest = float(ratio[row].max())
    if largest > 1.0:
        raise LawViolation("resolution", largest, 1.0, f"x = {x[row].tolist()}")
    return Finding("resolution", "pass", largest, 1.0, float(np.mean(judged)))


def onto(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """For every y of a map onto the whole space there is an x: f(f^-1(y)) = y, at the rows of x and 16 and 256 times
    as far out.

    For maps that claim R^D as their range; a saturating map or a clamp fails it. Rows are judged where first-order
    theory holds, and where the inverse is not finite or its Jacobian singular, unless scales overflow there.
    """

    def measure(f: Any, y: np.ndarray, context: Context) -> Measured:
        back, log_det = inverse(f, y, context)
        scales = conditions(turned(f), y, context)
        error = np.abs(_wide(forward(f, back, context)[0]) - _wide(y))
        broken = ~np.isfinite(_wide(back)).all(axis=1) | ~np.isfinite(scales.round_trip).all(axis=1)
        overflow = np.abs(_wide(log_det)) > 0.5 * float(np.log(np.finfo(y.dtype).max))
        kappa = np.where(broken[:, None], 1.0 + np.abs(_wide(y)), scales.round_trip)
        return Measured(error, kappa, (scales.conclusive(y.dtype) | broken) & ~overflow)

    far = np.concatenate([x, 16.0 * x, 256.0 * x]).astype(x.dtype)
    return judge("onto", measure, f, far, None if context is None else np.concatenate([context] * 3))


def _reversed(a: Any) -> Any:
    """The rows in reverse order, in new memory."""
    return None if a is None else np.array(a[::-1])


def _wide(a: np.ndarray) -> np.ndarray:
    """The rows, flattened, in float64."""
    a = np.asarray(a)
    return np.asarray(a.reshape(a.shape[0], -1) if a.ndim > 1 else a, dtype=np.float64)


def _in_float64(f: Any, x: np.ndarray, context: Context) -> tuple[Any, np.ndarray, Context]:
    """Differences of float32 say nothing: derivatives are always taken in float64."""
    return cast(f, np.float64), x.astype(np.float64), _wide_context(context)


def _wide_context(context: Context) -> Context:
    return None if context is None else context.astype(np.float64)


def _row_function(f: Any, x: np.ndarray, context: Context, i: int) -> RowFunction:
    """Rows of points to rows of values, all with the context of row i."""

    def at(points: np.ndarray) -> np.ndarray:
        c = None if context is None else np.repeat(context[i : i + 1], len(points), axis=0)
        return np.asarray(forward(f, points.reshape(len(points), *x.shape[1:]), c)[0]).reshape(len(points), -1)

    return at


def _elimination(matrix: np.ndarray) -> np.ndarray:
    """D |L| |U|, the entries that Gaussian elimination of the matrix may lose u of."""
    from scipy.linalg import lu

    p, lower, upper = lu(matrix)
    return np.asarray(len(matrix) * (p @ (np.abs(lower) @ np.abs(upper))))


def _takes_complex(f: Any, x: np.ndarray, context: Context) -> bool:
    """Whether f computes with complex numbers, and does not refuse them or drop their imaginary parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(forward(f, x + 0j, context)[0]).dtype == np.complex128
        except Exception:  # whatever foreign code answers to numbers it does not know
            return False


def _ladder_agrees(f: Any, x: np.ndarray, context: Context) -> bool:
    """Whether finite differences, where they decide, agree with log_det."""
    try:
        return log_det_ladder(f, x, context).status == "pass"
    except LawViolation:
        return False


__all__ = [
    "antisymmetry",
    "chain_additivity",
    "double_inverse",
    "log_det_central",
    "log_det_complex_step",
    "log_det_ladder",
    "onto",
    "precision",
    "resolution",
    "round_trip",
]
