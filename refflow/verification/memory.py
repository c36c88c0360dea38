"""The laws of arrays and caches: nothing of the caller's is written to, and no answer is that to another question."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.calls import forward, inverse
from refflow.verification.comparison import Context, Outputs, columns, excess, half, taken
from refflow.verification.conditioning import conditions, unit
from refflow.verification.targets import Box, Target
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

Transform = Callable[..., Any]

KINKED = 1e-3
"""Where log_det differs by more than this between neighbours a few u away, its one-sided values say nothing."""


@np.errstate(all="ignore")
def arrays_kept(f: Transform, x: np.ndarray, context: Context = None) -> Finding:
    """f writes neither to x nor to the context, and what it has returned stays as it is when it is called again.

    f is called as it is, not through copies. A result that is the input itself is no fault; neither is the refusal of
    arrays that cannot be written to, which some libraries cannot wrap.
    """
    inputs = [np.array(a) for a in (x, context) if a is not None]
    before = [a.tobytes() for a in inputs]
    returned = [np.asarray(a) for a in f(*inputs)]
    for a, old, name in zip(inputs, before, ("x", "the context"), strict=False):
        if a.tobytes() != old:
            raise LawViolation("arrays_kept", np.inf, 0.0, f"x = {x[0].tolist()} ...: {name} was written to")
    kept = [a.tobytes() for a in returned]
    f(*(np.array(a[::-1]) for a in inputs))
    for a, old, name in zip(returned, kept, ("the value", "the log_det"), strict=True):
        if a.tobytes() != old:
            raise LawViolation("arrays_kept", np.inf, 0.0, f"{name} that was returned: a later call overwrote it")
    for a in inputs:
        a.setflags(write=False)
    try:
        f(*inputs)
    except Exception as refusal:  # whatever foreign code answers to arrays that it cannot write to
        return Finding("arrays_kept", "pass", remark=f"read-only arrays are refused: {type(refusal).__name__}")
    return Finding("arrays_kept", "pass")


@np.errstate(all="ignore")
def no_stale_answers(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Rows in another order after an unchanged first one, or last one, and in Fortran's order of memory, give what they
    gave before: a cache whose key is too small, or code that ignores strides, answers another question."""
    n, largest = len(x), 0.0
    before = forward(f, x, context)
    order = np.arange(n)
    same_first, same_last = order.copy(), order.copy()
    same_first[1:], same_last[:-1] = order[1:][::-1], order[:-1][::-1]
    for change, index, layout in (
        ("rows after the first are reversed", same_first, "C"), ("rows before the last are reversed", same_last, "C"),
        ("the array is in Fortran's order", order, "F"),
    ):  # fmt: skip
        asked = np.array(x[index], order="F" if layout == "F" else "C")
        y, log_det = forward(f, asked, taken(context, index))
        back = np.argsort(index)
        rho = excess(f, x, context, before, (np.asarray(y)[back], np.asarray(log_det)[back]))
        row = int(np.argmax(rho.max(axis=1)))
        largest = max(largest, float(rho.max()))
        if largest > half(x.dtype):
            where = f"x = {x[row].tolist()}, when {change}"
            raise LawViolation("no_stale_answers", largest, half(x.dtype), where, (x[row], taken(context, row)))
    return Finding("no_stale_answers", "pass", largest, half(x.dtype))


@np.errstate(all="ignore")
def no_remembered_inverse(
    f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, codomain: Box | None = None
) -> Finding:
    """g one unit in the last place beside f(x) is near x, and its log_det near that at x with the other sign.

    No cache has seen that point, not even one keyed by the bytes of a row. What is lost at f(x) itself is granted.
    Beside a kink log_det may jump: rows where it does are not judged. Neither are points outside the boxes asked for.
    """

    def measure(f: Any, x: np.ndarray, context: Context) -> Measured:
        y, log_det = forward(f, x, context)
        y = _into(np.asarray(y), codomain)
        beside = _into(np.where(y == 0.0, y, np.nextafter(y, np.asarray(np.inf, dtype=y.dtype))), codomain)
        back, back_log_det = inverse(f, beside, context)
        scales = conditions(f, x, context)
        there = inverse(f, y, context)
        zero = columns((x, 0.0 * log_det))
        error, seen = (
            np.abs(columns((b, np.asarray(log_det) + np.asarray(term))) - zero).astype(np.float64)
            for b, term in ((back, back_log_det), there)
        )
        granted = np.max(np.where(np.isfinite(seen), seen, 0.0), axis=1, keepdims=True) / unit(x.dtype)
        kappa = np.column_stack([scales.round_trip, scales.antisymmetry]) + granted
        return Measured(error, kappa, scales.conclusive(x.dtype) & smooth(f, x, context, domain))

    return judge("no_remembered_inverse", measure, f, x, context)


@np.errstate(all="ignore")
def smooth(f: Any, x: np.ndarray, context: Context = None, domain: Box | None = None, steps: int = 4) -> np.ndarray:
    """Whether log_det is the same, but for rounding, at neighbours of each row up to 4096 u away, `(N,)`."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (steps, *x.shape[1:]))
    size = 4096.0 * unit(x.dtype) * np.maximum(np.abs(x), 1.0)
    around = _into(np.concatenate([x + s * size for s in np.concatenate([signs, -signs])]).astype(x.dtype), domain)
    repeated = None if context is None else np.concatenate([context] * (2 * steps))
    log_det = np.asarray(forward(f, around, repeated)[1]).reshape(2 * steps, len(x))
    return np.asarray(np.ptp(log_det, axis=0) <= KINKED)


def _into(a: np.ndarray, box: Box | None) -> np.ndarray:
    """a, with what lies outside the box at its ends."""
    return a if box is None else np.asarray(np.clip(a, *box), dtype=a.dtype)


@np.errstate(all="ignore")
def inverse_first(target: Target, x: np.ndarray, context: Context = None) -> Finding:
    """g(f(x)) is the same before a new object has seen f(x) and after it: where the target can be made anew."""
    if target.fresh is None or target.forward is None or target.inverse is None:
        return Finding("inverse_first", "inconclusive", judged=0.0)
    given = () if context is None else (context,)
    y = np.asarray(target.forward(x, *given)[0])
    new = target.fresh()
    assert new.forward is not None
    assert new.inverse is not None
    first: Outputs = new.inverse(y, *given)
    new.forward(x, *given)
    rho = excess(target.turned(), y, context, first, new.inverse(y, *given))
    row, largest = int(np.argmax(rho.max(axis=1))), float(rho.max())
    if largest > half(x.dtype):
        where = f"y = {y[row].tolist()}: the inverse answers otherwise once forward has been called"
        raise LawViolation("inverse_first", largest, half(x.dtype), where, (y[row], taken(context, row)))
    return Finding("inverse_first", "pass", largest, half(x.dtype))
