r"""When an error is a fault: pass, lossy, fail, inconclusive.

Of the excess rho = error / (u kappa) of `conditioning`, over all rows and coordinates:

* **pass**: the 99th percentile of rho is at most 16, and none is past the line at which half of all digits are gone.
  A layer makes about four roundings of half a unit a coordinate in each direction (the exponential, worth two, a
  product, a sum), eight in all; a factor two covers the random probes in kappa. Measured on correct flows: at most 16.
* **lossy**: more, but it shrinks with the precision. A warning, with the digits lost: lossy is not wrong.
* **fail**: the error does not shrink. Rounding scales with u, so that rho is the same in two precisions; a fault does
  not, and its rho grows by the ratio of their u: 2^29 from float32 to float64, 2^11 from there to long double. The line
  is drawn half way, at the root. Where only one precision can be run, from rho = u^(-1/2) on, half of all digits, if
  the error is no noise: at neighbouring points rounding errors are large and small by turns, those of a fault are
  alike. A number that is not finite where it should be is a fault.
* **inconclusive**: rows where first-order theory fails are not judged.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refflow.modules import Module
from refflow.verification.calls import cast, takes
from refflow.verification.conditioning import LINEAR, Conditions, unit

EXCESS = 16.0
"""The largest rho that passes."""


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
            row = np.maximum(self.kappa.max(axis=1, keepdims=True, initial=0.0), 1.0)
            kappa = np.where(self.kappa == 0.0, row, self.kappa)  # both ends are 0: they tell nothing of the way
            rho = self.error / (unit(dtype) * kappa)
        rho = np.where(self.error == 0.0, 0.0, np.where(np.isnan(self.error), np.inf, rho))
        return np.where(self.conclusive[:, None], rho, 0.0)


@dataclass
class Watch:
    """What was measured on the way to the verdicts, for the pictures of a report."""

    asked: tuple[str, str] = ("", "")
    """The check and the variant that is being asked."""
    found: list[tuple[tuple[str, str], Measured, np.dtype[Any]]] = field(default_factory=list)


_watch: ContextVar[Watch | None] = ContextVar("who keeps what is measured", default=None)


@contextmanager
def watched() -> Iterator[Watch]:
    """Within, what `judge` measures is kept."""
    watch = Watch()
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


Measure = Callable[[Any, np.ndarray, np.ndarray | None], Measured]


def measured(f: Any, error: np.ndarray, kappa: np.ndarray, scales: Conditions, dtype: Any) -> Measured:
    """Errors and scales as rows."""
    n = len(scales.worst)
    return Measured(np.reshape(error, (n, -1)), np.reshape(kappa, (n, -1)), scales.conclusive(dtype))


def judge(
    law: str, measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None, *, wider: bool = True,
    elsewhere: bool = True,
) -> Finding:  # fmt: skip
    """The verdict on what `measure` finds; raises LawViolation on a fault. `wider`: whether long double can be measured
    with; `elsewhere`: whether other points than these can be measured at."""
    if x.shape[0] == 0:
        return Finding(law, "inconclusive", judged=0.0)
    found = measure(f, x, context)
    if (watch := _watch.get()) is not None:
        watch.found.append((watch.asked, found, x.dtype))
    rho, share = found.excess(x.dtype), float(np.mean(found.conclusive))
    if share == 0.0:
        return Finding(law, "inconclusive", judged=0.0)
    i, j = (int(k) for k in np.unravel_index(np.argmax(rho), rho.shape))
    row = x[i], None if context is None else context[i]
    usual, peak, alone = _percentile(rho, found.conclusive), float(rho.max()), float(unit(x.dtype) ** -0.5)
    if usual <= EXCESS and peak <= alone:
        return Finding(law, "pass", usual, EXCESS, share, row)
    statistic, line = (usual, EXCESS) if usual > EXCESS else (peak, alone)
    gone = peak > alone if not elsewhere else _fault(measure, f, x, context, found, (i, j), wider)
    if gone or not np.isfinite(peak):
        where = f"x = {row[0].tolist()}" + ("" if row[1] is None else f", context = {row[1].tolist()}")
        where += "" if np.isfinite(peak) else ": what comes back is not a finite number"
        raise LawViolation(law, statistic if np.isfinite(peak) else peak, line, where, row, share)
    remark = f"{math.log10(statistic / line):.1f} digits lost beyond conditioning"
    warnings.warn(f"{law}: {remark}", LossyWarning, stacklevel=3)
    return Finding(law, "lossy", statistic, line, share, row, remark)


def _percentile(rho: np.ndarray, conclusive: np.ndarray) -> float:
    chosen = rho[conclusive]
    return float(np.quantile(chosen, 0.99, method="higher")) if chosen.size else 0.0


def _fault(
    measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None, found: Measured, at: tuple[int, int],
    wider: bool,
) -> bool:  # fmt: skip
    """Whether the error at (row, column) is a fault and no rounding: it does not shrink with the precision, or, where
    no other precision can be run, most digits are gone and it is no noise."""
    own, rho = np.dtype(x.dtype), found.excess(x.dtype)
    peak, usual = float(rho.max()), _percentile(rho, found.conclusive)
    others = {"float32": [np.float64], "float64": [np.float32, np.longdouble] if wider else [np.float32]}
    for other in map(np.dtype, others.get(own.name, [])):
        ratio = unit(own) / unit(other)
        if ratio == 1.0 or not takes(f, x, context, other):
            continue
        c = None if context is None else context.astype(other)
        again = measure(cast(f, other), x.astype(other), c)
        if not again.conclusive[at[0]]:
            continue
        theirs = again.excess(other)
        pairs = [(peak, float(theirs[at])), (usual, _percentile(theirs, again.conclusive))]
        wide_narrow = [(b, a) if ratio > 1.0 else (a, b) for a, b in pairs]
        line = max(ratio, 1.0 / ratio) ** 0.5
        grows = all(wide > line * max(narrow, 1.0) for wide, narrow in wide_narrow[: 1 if usual <= EXCESS else 2])
        if grows and ratio < 1.0 and unit(other) * theirs[at] > LINEAR:  # nothing is left of narrower numbers
            continue
        if not grows or other != np.longdouble or isinstance(f, Module):
            return grows  # long double acquits bare code, and never convicts it: its weights stay in float64
    return peak > unit(own) ** -0.5 and not _noise(measure, f, x, context, found, at)


NEIGHBOURS = 64
"""Points around a row at which its error is taken again; noise of one rounding, uniform, stays above a quarter of its
largest value at all of them in one of 10^8 cases."""


def _noise(
    measure: Measure, f: Any, x: np.ndarray, context: np.ndarray | None, found: Measured, at: tuple[int, int]
) -> bool:
    """Whether the error at (row, column) is noise: at neighbours of the row, a hundred times its size away, that of
    rounding is now large and now small, that of a fault the same."""
    i, j = at
    size = min(max(100.0 * float(found.error[i, j]), unit(x.dtype) ** 0.6), 2.0**-10)
    around = np.random.default_rng(0).uniform(-size, size, (NEIGHBOURS, *x.shape[1:])) * np.maximum(1.0, np.abs(x[i]))
    rows = np.asarray(x[i] + around, dtype=x.dtype)
    again = measure(f, rows, None if context is None else np.repeat(context[i : i + 1], NEIGHBOURS, axis=0))
    error = again.error[:, j]
    error = error[np.isfinite(error)]
    return bool(error.size) and float(error.min()) < 0.25 * float(error.max())
