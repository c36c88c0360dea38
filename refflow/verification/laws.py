r"""The laws of a bijection's values, each a public function that raises `LawViolation`.

A law takes a map, rows `x` `(N, *event)` of NumPy floats and, for conditional maps, `context` `(N, C)`. The map may be
any object whose `forward` and `inverse` return `(value, log_det)`. What a law allows is derived in `conditioning`;
the verdicts are those of `verdicts`. Every law but the last reads one direction: `turned(f)` gives the other.
"""

from typing import Any

import numpy as np

from refflow.bijections import Bijection, Chain, Inverse
from refflow.modules import Module
from refflow.verification.calls import cast, forward, inverse, layers, takes, turned
from refflow.verification.conditioning import conditions, unit
from refflow.verification.derivatives import derivatives
from refflow.verification.determinants import on_a_kink
from refflow.verification.jacobians import INCONCLUSIVE
from refflow.verification.targets import Box
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge, measured

Context = np.ndarray | None


@np.errstate(all="ignore")
def round_trip(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f^-1(f(x)) = x.

    The inverse sees the rows in reverse order and in other memory, so that a cache cannot answer for it.
    """

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        y, _ = forward(f, x, context)
        back = _reversed(inverse(f, _reversed(y), _reversed(context))[0])
        scales = conditions(f, x, context)
        kappa = np.where(scales.singular[:, None], 1.0 + np.abs(_wide(x).reshape(len(x), -1)), scales.round_trip)
        error = np.abs(_wide(back) - _wide(x))
        return Measured(error.reshape(len(x), -1), kappa, scales.conclusive(x.dtype) | scales.singular)

    return judge("round_trip", measure, f, x, context)


@np.errstate(all="ignore")
def antisymmetry(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """log|det df/dx|(x) + log|det df^-1/dy|(f(x)) = 0."""

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        y, log_det = forward(f, x, context)
        back = _reversed(inverse(f, _reversed(y), _reversed(context))[1])
        scales = conditions(f, x, context)
        found = measured(f, np.abs(_wide(log_det) + _wide(back)), scales.antisymmetry, scales, x.dtype)
        for i in map(int, np.flatnonzero(found.conclusive & ~(found.error[:, 0] <= INCONCLUSIVE))):
            found.conclusive[i] = not on_a_kink(f, x, context, i)  # rounding decides on which side f(x) lies
        return found

    return judge("antisymmetry", measure, f, x, context)


@np.errstate(all="ignore")
def chain_additivity(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f_K(... f_1(x)) = f(x), and the parts' log-determinants add up to the whole's; where f shows its parts."""
    if not isinstance(f, Chain) and not getattr(f, "layers", ()):
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


@np.errstate(all="ignore")
def double_inverse(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Inverse(Inverse(f)) = f, bit for bit, in both outputs; for refflow bijections only."""
    if not isinstance(f, Bijection):
        return Finding("double_inverse", "inconclusive", judged=0.0)
    twice = Inverse(Inverse(f))
    for a, b in zip(forward(f, x, context), forward(twice, x, context), strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise LawViolation("double_inverse", float("inf"), 0.0, f"x = {x[0].tolist()}")
    return Finding("double_inverse", "pass")


@np.errstate(all="ignore")
def precision(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """f in x's dtype = f in the next wider one (float32 in float64, float64 in long double), both outputs.

    Where long double is no wider, or a foreign map does not take it, it decides nothing.
    """
    wider = np.float64 if x.dtype == np.float32 else np.longdouble
    if x.dtype == np.longdouble or np.finfo(wider).eps >= np.finfo(x.dtype).eps or not takes(f, x, context, wider):
        return Finding("precision", "inconclusive", judged=0.0)

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        above = np.float64 if x.dtype == np.float32 else np.longdouble
        if not takes(f, x, context, above):  # asked by the arbiter, of a foreign map that has two precisions
            return Measured(np.zeros((len(x), 1)), np.ones((len(x), 1)), np.zeros(len(x), dtype=bool))
        y, log_det = forward(f, x, context)
        if not takes(f, x, context, above):  # a second look, in float64, at what long double cannot be had for
            return Measured(np.zeros((len(x), 1)), np.ones((len(x), 1)), np.zeros(len(x), dtype=bool))
        exact = forward(cast(f, above), x.astype(above), None if context is None else context.astype(above))
        scales = conditions(f, x, context)
        error = np.column_stack([np.abs(exact[0] - y).reshape(len(x), -1), np.abs(exact[1] - log_det)])
        kappa = np.column_stack([scales.value, scales.log_det])
        return measured(f, error.astype(np.float64), kappa, scales, x.dtype)

    return judge("precision", measure, f, x, context, wider=False)


SEVERAL = 8
"""Different numbers, at least, that would all be float32 by chance in one of 2^232 cases."""


@np.errstate(all="ignore")
def not_single(answer: Any, x: np.ndarray, context: Context = None, domain: Box | None = None) -> Finding:
    """Of float64 rows whose numbers have all their digits, `answer` `(N,)`, a log_det or a log_prob, has digits beyond
    those of float32: or it was computed in it, on the way or at the end.

    Only rows where it moves with x, by 2^-20, say something: sums of a few float32 numbers may be exact. (A staircase
    of y is seen by `continuity`.)
    """
    if x.dtype != np.float64:
        return Finding("not_single", "skipped", judged=0.0)
    rows = x * (1.0 - 2.0**-6 * np.random.default_rng(5).uniform(0.25, 1.0, x.shape))
    rows, beside = (a if domain is None else np.clip(a, *domain) for a in (rows, rows * (1.0 + 2.0**-20)))
    here, there = (_wide(np.asarray(answer(p, context))).reshape(len(x)) for p in (rows, beside))
    moves = np.isfinite(here) & np.isfinite(there) & (here != there)
    numbers = np.concatenate([here[moves], there[moves]])
    if len(np.unique(here[moves])) >= SEVERAL and (numbers == numbers.astype(np.float32)).all():
        i = int(np.argmax(moves))
        row = rows[i], None if context is None else context[i]
        where = f"x = {rows[i].tolist()} and {int(moves.sum()) - 1} more: it has digits of float32 alone"
        raise LawViolation("not_single", np.inf, 0.0, where, row)
    return Finding("not_single", "pass")


@np.errstate(all="ignore")
def continuity(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """y has no jumps near x, so no step is taken in a narrower dtype: that would make a staircase.

    Along x (1 + s), |s| <= 2^-7, at 129 points, then again between the two neighbours furthest apart, and so on down
    to neighbours 2^-34 |x| apart (2^-20 in float32). There y may move by 8 times what the Jacobians at both ends allow,
    plus rounding; a step in float32 rises by 2^-24 at once. `precision` cannot see a cast that a wider input undergoes
    too. log_det may jump, as that of a piecewise linear map does; where it is not finite, x has left the domain.
    """
    x, context = x[:3], None if context is None else context[:3]
    scales, n = conditions(f, x, context), len(x)
    kappa = (scales.value + np.abs(_wide(forward(f, x, context)[0]).reshape(n, -1))).reshape(x.shape)
    fractions = np.linspace(0.0, 1.0, 129).reshape(-1, *(1,) * x.ndim)
    low, high = (np.asarray(x * (1.0 + s), dtype=x.dtype) for s in (-(2.0**-7), 2.0**-7))
    inside = scales.conclusive(x.dtype)
    for _ in range(4 if x.dtype == np.float64 else 2):
        line = np.asarray(low + (high - low) * fractions, dtype=x.dtype)
        repeated = None if context is None else np.concatenate([context] * len(line))
        y, log_det = forward(f, line.reshape(-1, *x.shape[1:]), repeated)
        inside = inside & np.isfinite(np.broadcast_to(log_det, (len(y),)).reshape(len(line), n)).all(axis=0)
        moved = np.abs(np.diff(np.asarray(y, dtype=np.float64).reshape(line.shape), axis=0))
        widest = np.argmax(np.max((moved / kappa).reshape(128, n, -1), axis=-1), axis=0)
        low, high = line[widest, np.arange(n)], line[widest + 1, np.arange(n)]
    jump = moved[widest, np.arange(n)].reshape(n, -1)
    step = np.abs(_wide(high - low).reshape(n, -1))
    wide, c = cast(f, np.float64), _wide_context(context)
    slopes = [np.abs(derivatives(wide, end.astype(np.float64), c)[0]) for end in (low, high)]
    allowed = 8.0 * np.maximum(*((j @ step[..., None])[..., 0] for j in slopes))
    ratio = jump / (allowed + 32.0 * unit(x.dtype) * kappa.reshape(n, -1))
    judged = inside & np.isfinite(ratio).all(axis=1)
    if not judged.any():
        return Finding("continuity", "inconclusive", judged=0.0)
    row = int(np.argmax(np.where(judged, ratio.max(axis=1), -1.0)))
    largest = float(ratio[row].max())
    if largest > 1.0:
        raise LawViolation("continuity", largest, 1.0, f"x = {low[row].tolist()}")
    return Finding("continuity", "pass", largest, 1.0, float(np.mean(judged)))


@np.errstate(all="ignore")
def onto(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """For every y of a map onto the whole space there is an x: f(f^-1(y)) = y, at the rows of x and 16 and 256 times
    as far out.

    For maps that claim R^D as their range; a saturating map or a clamp fails it. Rows are judged where first-order
    theory holds, and, of our own maps, where the inverse is not finite or its Jacobian singular, unless scales overflow
    there: in other code something may overflow on the way. (`reach.escapes` sees saturation from the other side.)
    """
    ours = isinstance(f, Module)

    def measure(f: Any, y: np.ndarray, context: Context) -> Measured:
        back, log_det = inverse(f, y, context)
        scales = conditions(turned(f), y, context)
        error = np.abs(_wide(forward(f, back, context)[0]) - _wide(y))
        broken = ~np.isfinite(_wide(back)).reshape(len(y), -1).all(axis=1) | ~np.isfinite(scales.round_trip).all(axis=1)
        broken &= ours
        overflow = np.abs(_wide(log_det)) > 0.5 * float(np.log(np.finfo(y.dtype).max))
        kappa = np.where(broken[:, None], 1.0 + np.abs(_wide(y)), scales.round_trip)
        return Measured(error, kappa, (scales.conclusive(y.dtype) | broken) & ~overflow)

    far = np.concatenate([x, 16.0 * x, 256.0 * x]).astype(x.dtype)
    return judge("onto", measure, f, far, None if context is None else np.concatenate([context] * 3))


def _reversed(a: Any) -> Any:
    """The rows in reverse order, in new memory."""
    return None if a is None else np.array(a[::-1])


def _wide(a: np.ndarray) -> np.ndarray:
    """The rows, flattened, in float64 or wider."""
    a = np.asarray(a)
    return np.asarray(a.reshape(a.shape[0], -1) if a.ndim > 1 else a, dtype=np.promote_types(a.dtype, np.float64))


def _wide_context(context: Context) -> Context:
    return None if context is None else context.astype(np.float64)


__all__ = [
    "antisymmetry",
    "chain_additivity",
    "continuity",
    "double_inverse",
    "not_single",
    "onto",
    "precision",
    "round_trip",
]
