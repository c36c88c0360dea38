r"""Stein's identity of samples, with a finite shift d:

    E_p[h(x) a(x, x + d)] = E_p[h(x - d) a(x, x - d)],  a(x, x') = p(x') / (p(x) + p(x'))  (1)

Substitute x - d on the right. Divided by d, as d goes to 0, it is E[h s + h'] = 0 with the score s. Unlike that one it
holds for densities with jumps (a piecewise linear map makes them), with edges and with heavy tails, it is a mean of
numbers within [-1, 1], and it needs no gradient and no constant. Its shifts are of two kinds: along coordinates, and
from one sample to another, which reach other modes.
"""

from typing import Any

import numpy as np

from refflow.verification.bounds import Statistic, bernstein, decide, share
from refflow.verification.densities import Context, as_target, log_density
from refflow.verification.samples import draw, tiled, unstable_density
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding

WIDTHS = 1.5
"""The shift along a coordinate, in standard deviations: where a temperature of 0.9 stands out most from its noise."""


@np.errstate(all="ignore")
def stein(f: Any, x: np.ndarray, context: Context = None, *, draws: int = 4_000, seed: int = 0) -> Finding:
    """(1) for shifts along coordinates and from sample to sample, with h = 1 and h a bounded sigmoid across the shift.

    Rows where rounding moves log_prob are left out on both sides of it, and their share is granted.
    """
    target = as_target(f, context)
    pilot = draw(target, 512, seed + 103, context).astype(np.float64).reshape(512, -1)
    pilot = pilot[np.isfinite(pilot).all(axis=1)]
    if len(pilot) < 256:
        return Finding("stein", "inconclusive", judged=0.0, remark="samples are not finite")

    def test(n: int, seed: int) -> list[Statistic] | None:
        points, rows = draw(target, n, seed, context), tiled(context, n)
        log_p = log_density(target, points, rows)
        unsure = unstable_density(target, points, rows)
        if unsure.mean() > 0.1:
            return None
        found = []
        for name, shift in _shifts(pilot, n).items():
            found += _identities(target, points, rows, log_p, unsure, shift, name, pilot)
        return found

    return decide("stein", test, draws, seed, "rounding moves most of log_prob")


def _shifts(pilot: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """For every row a shift that does not depend on it: along one coordinate, by its width, and from one pilot sample
    to another."""
    dim, middle = pilot.shape[1], len(pilot) // 2
    width = WIDTHS * np.subtract(*np.quantile(pilot, [0.84, 0.16], axis=0)) / 2.0
    row = np.arange(n)
    along = np.where(row[:, None] % dim == np.arange(dim), width, 0.0)
    between = (pilot[:middle] - pilot[-middle:])[row % middle]
    return {"along coordinates": along, "between samples": between}


def _identities(
    target: Target, x: np.ndarray, rows: Context, log_p: np.ndarray, unsure: np.ndarray, shift: np.ndarray, name: str,
    pilot: np.ndarray,
) -> list[Statistic]:  # fmt: skip
    """The deviations from (1), over all rows and over the rows of each coordinate."""
    n, dim = shift.shape
    accept, lost = zip(*(_acceptance(target, x, rows, log_p, sign * shift) for sign in (1.0, -1.0)), strict=True)
    bad = unsure | lost[0] | lost[1]
    length = np.sqrt(np.sum(shift**2, axis=1)) + 1e-300
    height = np.sum((x.reshape(n, dim) - np.median(pilot, axis=0)) * shift, axis=1) / length**2
    h = np.tanh(height + 0.5), np.tanh(height - 0.5)  # at x and at x - d: opposite signs within half a shift
    numbers = {"1": accept[0] - accept[1], "tanh": h[0] * accept[0] - h[1] * accept[1]}
    groups = {"": slice(None)}
    if name == "along coordinates" and 1 < dim <= n // 200:
        groups |= {f" {i}": slice(i, None, dim) for i in range(dim)}
    alpha, found = share(4 * (len(groups) + 1)), []
    for group, chosen in groups.items():
        for weight, values in numbers.items():
            kept = np.where(bad, 0.0, values)[chosen]  # |values| <= 1: for tanh, |h| + |h'| <= 2 tanh(1/2) < 1 there
            limit = bernstein(kept, 1.0, alpha) + float(np.mean(bad[chosen]))
            text = f"a mean of Stein's identity {name}{group}, h = {weight},"
            found.append(Statistic(text, abs(float(kept.mean())), limit))
    return found


def _acceptance(
    target: Target, x: np.ndarray, rows: Context, log_p: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """a(x, x + d) and the rows where it is not known; 0 outside the domain."""
    moved = (x.reshape(len(x), -1) + shift).astype(x.dtype).reshape(x.shape)
    low, high = (-np.inf, np.inf) if target.domain is None else target.domain
    inside = ((moved > low) & (moved < high)).reshape(len(x), -1).all(axis=1)
    shape = (-1, *(1,) * (x.ndim - 1))
    other = log_density(target, np.where(inside.reshape(shape), moved, x), rows)
    accept = np.where(inside, 1.0 / (1.0 + np.exp(log_p - other)), 0.0)
    return np.nan_to_num(accept), np.isnan(accept)


__all__ = ["stein"]
