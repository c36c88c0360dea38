"""Four ways to a Jacobian that know nothing of the map's own log-determinant.

Each takes a function of rows `(k, D) -> (k, M)` and one point `(D,)`, and returns the Jacobian `(M, D)` with an error
for every entry. One point at a time: in a batch, a leak between rows would corrupt the Jacobian silently.

| method | needs | error of log|det J| on couplings, median |
| --- | --- | --- |
| `complex_step` | code that runs on complex numbers | 1e-15 |
| `ladder`: `scipy.differentiate.jacobian` from four initial steps | nothing | 1e-10, with a bound |
| `extrapolated`: central differences at fixed steps | nothing; points known beforehand | below the ladder's |
| `central`: `approx_derivative` of scipy.optimize, twice | nothing | 1e-7 |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RowFunction = Callable[[Any], Any]
"""Rows `(k, D)` to rows `(k, M)`."""

STEP = 1e-30
"""Of the complex step, relative to the number it is added to: nothing is subtracted, so it can be tiny."""

RUNGS = (0.5, 0.05, 5e-3, 5e-4)
"""Initial steps of the ladder: from one step alone SciPy's extrapolation was wrong by 5.3 on stiff couplings."""

ORDER = 8
"""SciPy's order: the first iteration halves the step 3 times, every further one once more."""

SAFETY = 30.0
"""How many times its own error estimate a finite difference may be wrong: the estimate is an asymptotic one."""

FLOOR = 1e-10
"""The error that is always granted to finite differences of float64."""

INCONCLUSIVE = 1e-3
"""Where `SAFETY` times the error exceeds this, a finite difference decides nothing."""


@dataclass(frozen=True)
class Jacobian:
    """A derivative `(M, D)` and the error of each entry."""

    value: np.ndarray
    error: np.ndarray

    def log_abs_det(self) -> tuple[float, float]:
        """log|det J| and, to first order, its error E = sum_ij |J^-1|_ij error_ji."""
        if not np.all(np.isfinite(self.value)):
            return float("nan"), float("inf")
        value = float(np.linalg.slogdet(self.value)[1])
        if not np.isfinite(value):
            return value, float("inf")
        return value, float(np.sum(np.abs(np.linalg.inv(self.value)) * self.error.T))


def steps(x: np.ndarray) -> np.ndarray:
    """The complex step for every coordinate: `STEP` times |x|, at most `STEP`, and large enough not to underflow."""
    size = np.where(x == 0.0, 1.0, np.minimum(np.abs(x), 1.0))
    return np.asarray(np.maximum(STEP * size, 1e-290))


def complex_step(f: RowFunction, x: np.ndarray) -> Jacobian:
    """J_ij = Im f_i(x + i h e_j) / h with h = 1e-30 |x_j| (Squire and Trapp, 1998): exact up to rounding."""
    columns = [np.imag(f((x + 1j * h * e)[None])[0]) / h for h, e in zip(steps(x), np.eye(x.size), strict=True)]
    value = np.stack(columns, axis=1)
    return Jacobian(value, np.finfo(np.float64).eps * np.abs(value))


def ladder(f: RowFunction, x: np.ndarray) -> Jacobian:
    """`scipy.differentiate.jacobian` from each of `RUNGS`; the rung whose error moves log|det J| least.

    The error of an entry is SciPy's estimate, the difference of its last two extrapolations, which may be small by
    chance, plus the rounding eps (|f| + |J x|) / h at its smallest step h.
    """
    from scipy.differentiate import jacobian

    def columns(points: np.ndarray) -> np.ndarray:  # (D, ...) -> (M, ...), as SciPy calls it
        rows = np.moveaxis(points, 0, -1)
        values = np.concatenate([f(row[None]) for row in rows.reshape(-1, x.size)])
        return np.moveaxis(values.reshape(*rows.shape[:-1], -1), -1, 0)

    found = []
    size = np.abs(f(x[None])[0])[:, None]
    for step in RUNGS:
        with np.errstate(all="ignore"):
            result = jacobian(columns, x, initial_step=step, tolerances={"rtol": 1e-13, "atol": 1e-15})
            value = np.asarray(result.df)
            smallest = step * 2.0 ** -(np.asarray(result.nit) + ORDER / 2 - 2)
            error = result.error + np.finfo(np.float64).eps * (size + np.abs(value * x)) / smallest
        found.append(Jacobian(value, np.where(np.isfinite(error), error, np.inf)))
    return min(found, key=lambda j: j.log_abs_det()[1])


HALVINGS = 14
"""How many steps `extrapolated` takes: 2^-2 ... 2^-15, times max(1, |x|)."""

COLUMNS = 6
"""How often it extrapolates: to order 12."""


def extrapolated(f: RowFunction, x: np.ndarray) -> Jacobian:
    """Central differences at `HALVINGS` steps, each half the one before, extrapolated to step 0 (Richardson, 1911;
    Romberg's table): points that are known beforehand, for maps whose answers are slow to come but come in bulk.

        T_k0 = (f(x + h_k) - f(x - h_k)) / 2 h_k,   T_km = T_k,m-1 + (T_k,m-1 - T_k-1,m-1) / (4^m - 1)

    The error of an entry is its larger distance to the two before it, T_k-1,m and T_k,m-1, plus the rounding
    2 eps (|f| + |J x|) / h_k. Of all T_km the one whose error moves log|det J| least is taken, for all entries of J at
    once: one entry alone may agree with its neighbours by chance.
    """
    h = 2.0 ** -np.arange(2, 2 + HALVINGS)[:, None] * np.maximum(1.0, np.abs(x))
    size = np.abs(f(x[None])[0])[:, None]
    with np.errstate(all="ignore"):
        table = [[np.stack([_slope(f, x, i, step[i]) for i in range(x.size)], axis=1)] for step in h]
        found = []
        for k in range(1, HALVINGS):
            for m in range(1, min(k, COLUMNS) + 1):
                table[k].append(table[k][m - 1] + (table[k][m - 1] - table[k - 1][m - 1]) / (4.0**m - 1.0))
            rounding = 2.0 * np.finfo(np.float64).eps * (size + np.abs(table[k][0] * x)) / h[k]
            for m in range(1, min(k - 1, COLUMNS) + 1):
                value = table[k][m]
                error = np.maximum(np.abs(value - table[k - 1][m]), np.abs(value - table[k][m - 1])) + rounding
                found.append(Jacobian(value, np.where(np.isfinite(error), error, np.inf)))
        return min(found, key=lambda j: j.log_abs_det()[1])


def _slope(f: RowFunction, x: np.ndarray, i: int, h: float) -> np.ndarray:
    """The central difference along coordinate i, each point asked by itself."""
    up, down = np.array(x), np.array(x)
    up[i], down[i] = x[i] + h, x[i] - h
    return np.asarray((f(up[None])[0] - f(down[None])[0]) / (up[i] - down[i]))


def central(f: RowFunction, x: np.ndarray) -> Jacobian:
    """SciPy's three-point `approx_derivative` at steps h and 2h, h = eps^(1/3) max(1, |x|).

    The error of each entry is |J(2h) - J(h)|, three times the leading truncation term, plus the rounding u |f| / h.
    """
    from scipy.optimize._numdiff import approx_derivative

    h = np.finfo(np.float64).eps ** (1 / 3) * np.maximum(1.0, np.abs(x))
    with np.errstate(all="ignore"):
        size = np.abs(f(x[None])[0])
        fine, coarse = (
            np.reshape(approx_derivative(lambda v: f(v[None])[0], x, method="3-point", abs_step=s), (size.size, x.size))
            for s in (h, 2.0 * h)
        )
        rounding = np.finfo(np.float64).eps * (size[:, None] + np.abs(fine) * np.abs(x)) / h
        return Jacobian(fine, np.abs(coarse - fine) + rounding)
