"""Two answers to one question: by how much they differ, in units of what rounding explains."""

from typing import Any

import numpy as np

from refflow.verification.conditioning import conditions, unit
from refflow.verification.verdicts import Measured

Context = np.ndarray | None
Outputs = tuple[np.ndarray, np.ndarray]

SUMMATION = 64.0
"""The rho that another order of summation, or another lane of a vectorised function, may cost."""


def half(dtype: Any) -> float:
    """The rho at which half of all digits are gone: no rounding, whatever the code does on the way, but for noise that
    its conditioning does not show. Answers to other questions are further apart."""
    return float(unit(dtype) ** -0.5)


def columns(outputs: Outputs) -> np.ndarray:
    """Value and log_det of each row, side by side, `(N, M + 1)`, in float64 or wider."""
    y, log_det = (np.asarray(a) for a in outputs)
    wide = np.promote_types(y.dtype, np.float64)
    return np.column_stack([y.reshape(len(y), -1).astype(wide), log_det.astype(wide)])


def excess(f: Any, x: np.ndarray, context: Context, a: Outputs, b: Outputs) -> np.ndarray:
    """rho `(N, M + 1)` of the difference of two answers at the rows x: 0 where they are the same bits or both NaN, and
    where first-order theory fails; infinite where one is finite and the other not."""
    one, other = columns(a), columns(b)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return np.zeros(one.shape)
    scales = conditions(f, x, context)
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(one - other)).astype(np.float64)
    kappa = np.column_stack([scales.value, scales.log_det])
    usable = scales.conclusive(x.dtype) | (np.isfinite(one) != np.isfinite(other)).any(axis=1)
    return Measured(error, kappa, usable).excess(x.dtype)


def taken(context: Context, index: Any) -> Context:
    """Rows of a context, if there is one."""
    return None if context is None else context[index]
