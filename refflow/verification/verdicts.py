r"""When an error is a fault: pass, lossy, fail, inconclusive.

Of the excess rho = error / (u kappa) of `conditioning`, over all rows and coordinates:

* **pass**: the 99th percentile of rho is at most 16. A layer makes about four roundings of half a unit a coordinate in
  each direction (the exponential, worth two, a product, a sum), eight in all; a factor two covers the random probes in
  kappa. Measured on correct flows: at most 16.
* **lossy**: more, but it shrinks with the precision. A warning, with the digits lost: lossy is not wrong.
* **fail**: the error does not shrink. Rounding scales with u, so that rho is the same in float32 and float64; a fault
  does not, and its rho grows by u_32 / u_64 = 2^29. The line is drawn half way, at 2^14.5. Where only one precision
  can be run, at rho = u^(-1/2): half of all digits.
* **inconclusive**: rows where first-order theory fails are not judged.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.modules import Module
from refflow.verification.conditioning import Conditions, cast, unit

EXCESS = 16.0
"""The largest rho that passes."""

SHRINKS = (unit(np.float32) / unit(np.float64)) ** 0.5
"""rho in float64 over rho in float32, from which an error is a fault."""


class LawViolation(AssertionError):
    """A law does not hold: which, by how much, and where."""

    def __init__(self, law: str, statistic: float, tolerance: float, worst: str) -> None:
        super().__init__(f"{law}: {statistic:.3g} exceeds {tolerance:.3g} at {worst}")
        self.law, self.statistic, self.tolerance, self.worst = law, statistic, tolerance, worst


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
    rho = found.excess(x.dtype)
    statistic, share = _percentile(rho, found.conclusive), float(np.mean(found.conclusive))
    if share == 0.0:
        return Finding(law, "inconclusive", judged=0.0)
    if statistic <= EXCESS:
        return Finding(law, "pass", statistic, EXCESS, share)
    tolerance = _fault_line(measure, f, x, context)
    if statistic > tolerance:
        row = int(np.argmax(rho.max(axis=1)))
        where = f"x = {x[row].tolist()}" + ("" if context is None else f", context = {context[row].tolist()}")
        raise LawViolation(law, statistic, tolerance, where)
    warnings.warn(
        f"{law}: {math.log10(statistic / EXCESS):.1f} digits lost beyond conditioning", LossyWarning, stacklevel=3
    )
    return Finding(law, "lossy", statistic, tolerance, share)


def _percentile(rho: np.ndarray, conclusive: np.ndarray) -> float:
    chosen = rho[conclusive]
    return float(np.quantile(chosen, 0.99, method="higher")) if chosen.size else 0.0


def _fault_line(measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None) -> float:
    """The rho in x's own precision beyond which the error is a fault, from what the other precision gives."""
    alone = float(unit(x.dtype) ** -0.5)
    if not isinstance(f, Module) or x.dtype not in (np.float32, np.float64):
        return alone
    other = np.dtype(np.float64 if x.dtype == np.float32 else np.float32)
    found = measure(cast(f, other), x.astype(other), None if context is None else context.astype(other))
    if not found.conclusive.any():
        return alone
    rho = _percentile(found.excess(other), found.conclusive)
    if not np.isfinite(rho):
        return alone
    if other == np.float32:
        return float(SHRINKS * max(rho, 1.0))
    return float(max(rho / SHRINKS, EXCESS)) if rho > EXCESS * SHRINKS else float("inf")
