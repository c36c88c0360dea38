r"""When an error is a fault: pass, lossy, fail, inconclusive.

Of the excess rho = error / (u kappa) of `conditioning`, over all rows and coordinates:

* **pass**: the 99th percentile of rho is at most 16, and none is past the line at which half of all digits are gone. A layer makes about four roundings of half a unit a coordinate in
  each direction (the exponential, worth two, a product, a sum), eight in all; a factor two covers the random probes in
  kappa. Measured on correct flows: at most 16.
* **lossy**: more, but it shrinks with the precision. A warning, with the digits lost: lossy is not wrong.
* **fail**: the error does not shrink. Rounding scales with u, so that rho is the same in float32 and float64; a fault
  does not, and its rho grows by u_32 / u_64 = 2^29. The line is drawn half way, at 2^14.5. Where only one precision
  can be run, at rho = u^(-1/2): half of all digits. A number that is not finite where it should be is a fault.
* **inconclusive**: rows where first-order theory fails are not judged.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.verification.conditioning import Conditions, cast, takes, unit

EXCESS = 16.0
"""The largest rho that passes."""

SHRINKS = (unit(np.float32) / unit(np.float64)) ** 0.5
"""rho in float64 over rho in float32, from which an error is a fault."""


class LawViolation(AssertionError):
    """A law does not hold: which, by how much, and where."""

    def __init__(
        self, law: str, statistic: float, tolerance: float, worst: str, row: "Row | None" = None, judged: float = 1.0
    ) -> None:
        super().__init__(f"{law}: {statistic:.3g} exceeds {tolerance:.3g} at {worst}")
        self.law, self.statistic, self.tolerance, self.worst = law, statistic, tolerance, worst
        self.row, self.judged = row, judged


Row = tuple[np.ndarray, np.ndarray | None]
"""A point `(*event)` and its context."""


class LossyWarning(UserWarning):
    """A map loses more digits than its conditioning explains, but its error shrinks with the precision."""


@dataclass(frozen=True)
class Finding:
    """A law that was not violated: pass, lossy or inconclusive."""

    law: str
    status: str
    statistic: float = 0.0
    tolerance: float = 0.0
    judged: float = 1.0
    """The share of rows that could be judged."""
    row: Row | None = None
    """Where the statistic is largest."""
    remark: str = ""


@dataclass(frozen=True)
class Measured:
    """Errors `(N, k)` of a law, the condition scales that explain them, and which rows may be judged."""

    error: np.ndarray
    kappa: np.ndarray
    conclusive: np.ndarray

    def excess(self, dtype: Any) -> np.ndarray:
        """rho `(N, k)`: 0 where nothing is judged, infinite where an error is not a number."""
        with np.errstate(all="ignore"):
            rho = self.error / (unit(dtype) * self.kappa)
        rho = np.where(self.error == 0.0, 0.0, np.where(np.isnan(self.error), np.inf, rho))
        return np.where(self.conclusive[:, None], rho, 0.0)


Measure = Callable[[Any, np.ndarray, np.ndarray | None], Measured]


def measured(f: Any, error: np.ndarray, kappa: np.ndarray, scales: Conditions, dtype: Any) -> Measured:
    """Errors and scales as rows."""
    n = len(scales.worst)
    return Measured(np.reshape(error, (n, -1)), np.reshape(kappa, (n, -1)), scales.conclusive(dtype))


def judge(law: str, measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None) -> Finding:
    """The verdict on what `measure` finds; raises LawViolation on a fault."""
    if x.shape[0] == 0:
        return Finding(law, "inconclusive", judged=0.0)
    found = measure(f, x, context)
    rho, share = found.excess(x.dtype), float(np.mean(found.conclusive))
    if share == 0.0:
        return Finding(law, "inconclusive", judged=0.0)
    worst = int(np.argmax(rho.max(axis=1)))
    row = x[worst], None if context is None else context[worst]
    usual, peak, alone = _percentile(rho, found.conclusive), float(rho.max()), float(unit(x.dtype) ** -0.5)
    if usual <= EXCESS and peak <= alone:
        return Finding(law, "pass", usual, EXCESS, share, row)
    line, peak_line = _fault_lines(measure, f, x, context)
    if usual > line or peak > peak_line or not np.isfinite(peak):
        where = f"x = {row[0].tolist()}" + ("" if row[1] is None else f", context = {row[1].tolist()}")
        raise LawViolation(law, *((usual, line) if usual > line else (peak, peak_line)), where, row, share)
    lost = math.log10(max(usual / EXCESS, peak / alone, 1.0))
    remark = f"{lost:.1f} digits lost beyond conditioning"
    warnings.warn(f"{law}: {remark}", LossyWarning, stacklevel=3)
    return Finding(law, "lossy", max(usual, peak if usual <= EXCESS else 0.0), EXCESS, share, row, remark)


def _percentile(rho: np.ndarray, conclusive: np.ndarray) -> float:
    chosen = rho[conclusive]
    return float(np.quantile(chosen, 0.99, method="higher")) if chosen.size else 0.0


def _fault_lines(measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None) -> tuple[float, float]:
    """The rho in x's own precision beyond which the error is a fault, for the 99th percentile and for the largest,
    from what the other precision gives."""
    alone = float(unit(x.dtype) ** -0.5)
    other = np.dtype(np.float64 if x.dtype == np.float32 else np.float32)
    if not takes(f, x, context, other):
        return alone, alone
    found = measure(cast(f, other), x.astype(other), None if context is None else context.astype(other))
    if not found.conclusive.any():
        return alone, alone
    rho = found.excess(other)
    usual, peak = _percentile(rho, found.conclusive), float(rho.max())
    return _line(usual, other, alone), max(alone, _line(peak, other, alone))


def _line(rho: float, other: Any, alone: float) -> float:
    """The fault line for one precision from the rho in the other one."""
    if not np.isfinite(rho):
        return alone
    if other == np.float32:
        return float(SHRINKS * max(rho, 1.0))
    return float(max(rho / SHRINKS, EXCESS)) if rho > EXCESS * SHRINKS else float("inf")
