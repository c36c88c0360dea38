r"""The laws of samples: their seed is all they depend on, and they follow the density.

    z = f(x) ~ N(0, I) for draws x ~ p                                                  (1)

The rank of log p(x) of held-out points among that of samples is left out: the kit's only points of the density are the
samples themselves, whose ranks are uniform whatever they follow; points resampled by weights p / q need weights with a
variance, which in more than a few dimensions there are not. A sampler of another density is caught by `stein`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.bounds import Statistic, bernstein, binomial, decide, kolmogorov, massart, share
from refflow.verification.calls import forward
from refflow.verification.densities import (
    Context,
    as_target,
    at,
    base_density,
    base_slopes,
    difference,
    image,
    log_density,
    normal,
    oriented,
    scales,
    slopes,
)
from refflow.verification.guard import OutOfBudget, TargetError, TargetTimeout
from refflow.verification.masses import cells
from refflow.verification.samples import draw, draw_with_density, tiled, unstable_code, unstable_density
from refflow.verification.targets import Target
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

Sampler = Callable[[int, int], np.ndarray]
"""(n, seed) -> rows."""

FEW = 64
"""Draws for the laws that are not statistical."""

CHANCE = 2.0
"""How many of 64 rows may come again: in one dimension two numbers of float32 agree by chance once in 1,000 times,
three pairs of them once in 10^9."""

CELLS_DRAWS = 20_000


@np.errstate(all="ignore")
def sampling(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """One seed gives the same samples again, another seed others; n samples are n, and no row comes twice."""
    target = as_target(f, context)
    for way in _ways(target, context):
        for n in (FEW, FEW + 1):
            if (found := way(n, 1)).shape != (n, *x.shape[1:]):
                raise _violated(f"{n} samples have the shape {found.shape}")
        first = way(FEW, 1)
        if not np.array_equal(way(FEW, 1), first, equal_nan=True):
            raise _violated("two calls with one seed differ")
        sure = first[~_unsure(target, first, x, context)]
        if len(sure) >= FEW // 4 and np.array_equal(way(FEW, 2), first, equal_nan=True):
            raise _violated("seeds 1 and 2 give the same samples")
        again = len(sure) - len(np.unique(sure.reshape(len(sure), -1), axis=0)) if len(sure) else 0
        if again > CHANCE:
            raise LawViolation("sampling", float(again), CHANCE, f"{again} of {len(sure)} samples came before")
    return Finding("sampling", "pass")


def _violated(where: str) -> LawViolation:
    return LawViolation("sampling", float("inf"), 0.0, where)


def _unsure(target: Target, found: np.ndarray, x: np.ndarray, context: Context) -> np.ndarray:
    """Samples that may be alike because of rounding: maps that saturate take all of a tail to one number, and a narrow
    peak far out holds few numbers."""
    rows = tiled(context, len(found))
    way = None if target.forward is None and target.inverse is None else oriented(target, x, context)
    unsure = np.zeros(len(found), dtype=bool) if way is None else unstable_code(way, found, rows)
    return unsure if target.log_prob is None else unsure | unstable_density(target, found, rows)


@np.errstate(all="ignore")
def sampled_density(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """The log-density that comes with a sample is log_prob of that sample, and a sample has a density."""
    target = as_target(f, context)
    if target.sample_and_log_prob is None or target.log_prob is None:
        return Finding("sampled_density", "inconclusive", judged=0.0)
    points, log_p = draw_with_density(target, 32, 1, context)
    rows = tiled(context, len(points))
    if log_p.shape != (len(points),):
        raise LawViolation("sampled_density", float("inf"), 0.0, f"log_p has shape {log_p.shape}")
    if not np.isfinite(points).all():
        return Finding("sampled_density", "inconclusive", judged=0.0, remark="samples are not finite")
    way = None if target.forward is None and target.inverse is None else oriented(target, x, context)
    given, kind = log_p.astype(np.float64), max((points.dtype, log_p.dtype, x.dtype), key=lambda t: np.finfo(t).eps)

    def measure(_: Any, points: np.ndarray, rows: Context) -> Measured:
        error = difference(np.asarray(at(target.log_prob, points, rows)), given)
        kappa, conclusive = _sampled_scale(target, way, points.astype(kind), rows, given)
        return Measured(error[:, None], kappa[:, None], conclusive & np.isfinite(given))

    return judge("sampled_density", measure, target, points.astype(kind), rows, elsewhere=False)


def _sampled_scale(
    target: Target, way: Target | None, x: np.ndarray, rows: Context, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much rounding may move log p: along z and back, or, without a map, at x."""
    size = np.abs(given) + x[0].size
    if way is None:
        slope = np.abs(slopes(lambda p, c: at(target.log_prob, p, c), x, rows, box=target.domain))
        kappa = size + np.sum(slope * np.abs(x).reshape(len(x), -1), axis=1)
        return kappa, np.isfinite(kappa)
    found = scales(way, x, rows)
    moved = found.value + np.abs(image(way, x, rows, found.round_trip))
    kappa = size + np.sum(np.abs(base_slopes(way, x, rows)) * moved, axis=1) + found.antisymmetry
    return kappa, found.conclusive(x.dtype)


@np.errstate(all="ignore")
def samples_follow_base(
    f: Any, x: np.ndarray, context: Context = None, *, draws: int = 4_000, seed: int = 0
) -> Finding:
    """(1): every coordinate of z is normal, so is |z|^2 chi-squared, and no two coordinates go together.

    For flows whose base is the standard normal, up to its constant: as `base_log_prob` says, or log_prob - log_det.
    Rows where rounding moves z are left out, and their share is granted to every statistic.
    """
    target = as_target(f, context)
    way = None if target.forward is None and target.inverse is None else oriented(target, x, context)
    if way is None or not _normal_base(way, x, context):
        remark = "no map to a base that is known to be normal"
        return Finding("samples_follow_base", "inconclusive", judged=0.0, remark=remark)
    found = []
    for sampler in _samplers(way, context):

        def test(n: int, seed: int, sampler: Any = sampler) -> list[Statistic] | None:
            points, rows = sampler(n, seed), tiled(context, n)
            unsure = unstable_code(way, points, rows)
            z = np.asarray(forward(way, points, rows)[0], dtype=np.float64).reshape(n, -1)
            return _normality(z[~unsure], float(unsure.mean()))

        found.append(decide("samples_follow_base", test, draws, seed, "rounding moves most of z"))
    return max(found, key=lambda finding: finding.statistic)


def _ways(target: Target, context: Context) -> list[Sampler]:
    """`sample`, and `sample_and_log_prob` without what it says of the density."""
    found: list[Sampler] = []
    if target.sample is not None:
        found.append(lambda n, seed: draw(target, n, seed, context))
    if target.sample_and_log_prob is not None:
        found.append(lambda n, seed: draw_with_density(target, n, seed, context)[0])
    return found


def _samplers(target: Target, context: Context) -> list[Sampler]:
    """The ways to draw that draw something of their own."""
    found = _ways(target, context)
    if len(found) == 2 and np.array_equal(found[0](FEW, 1), found[1](FEW, 1)):
        found.pop()
    return found


def _normal_base(way: Target, x: np.ndarray, context: Context) -> bool:
    """Whether log p_Z is that of a standard normal but for a constant, at rows of z that are of ordinary size."""
    z, log_det = forward(way, x, context)
    if way.base_log_prob is not None:
        z = np.random.default_rng(5).standard_normal((len(x), *z.shape[1:])).astype(z.dtype)
        try:
            off = base_density(way, z, context) - normal(z)
        except (TargetTimeout, OutOfBudget):
            raise
        except TargetError:  # a base of a box refuses what lies outside
            return False
    elif way.log_prob is not None:
        off = log_density(way, x, context) - np.asarray(log_det, dtype=np.float64) - normal(z)
    else:
        return False
    off = off[np.isfinite(off)]
    allowed = float(np.finfo(x.dtype).eps) ** 0.5 * (1.0 + float(np.median(np.abs(normal(z)))))
    return len(off) >= 3 and bool(np.median(np.abs(off - np.median(off))) <= allowed)


def _normality(z: np.ndarray, unsure: float) -> list[Statistic] | None:
    """Deviations of rows from N(0, I); `unsure` is the share of rows that were left out."""
    from scipy.special import chdtr, chdtri, gammaincinv, ndtr

    n, dim = z.shape
    if n < 100 or unsure > 0.1:
        return None
    pairs = [(i, j) for i in range(min(dim, 32)) for j in range(i)]
    alpha = share(dim + 2 + len(pairs) + len(TAILS))
    squares = np.sum(z**2, axis=1)
    marginal = [Statistic(f"a distance of coordinate {i}'s distribution from the normal", kolmogorov(z[:, i], ndtr),
                          massart(n, alpha) + 2.0 * unsure + STEP) for i in range(dim)]  # fmt: skip
    radius = kolmogorov(squares, lambda s: chdtr(dim, s)), massart(n, alpha) + 2.0 * unsure + STEP
    found = [*marginal, Statistic("a distance of |z|^2's distribution from the chi-squared", *radius)]
    for far in TAILS:
        p, beyond = 2.0 * float(ndtr(-far)), float(np.mean(np.abs(z) > far))
        limit = (
            binomial(p, z.size, alpha) + unsure + min(STEP, 0.02 * float(np.exp(-0.5 * far**2) / np.sqrt(2.0 * np.pi)))
        )
        found.append(Statistic(f"a deviation of the share of |z| > {far:g}", abs(beyond - p), limit))
    if unsure == 0.0:
        low = 2.0 * float(gammaincinv(0.5 * n * dim, alpha / 2.0)) / (n * dim)
        high = float(chdtri(n * dim, alpha / 2.0)) / (n * dim)
        mean = float(squares.mean()) / dim
        found.append(
            Statistic("a relative deviation of the mean of |z|^2 from D", abs(mean - 1.0), max(high - 1.0, 1.0 - low))
        )
    u = ndtr(z) - 0.5
    for i, j in pairs:
        product = u[:, i] * u[:, j]
        limit = bernstein(product, 0.25, alpha) + 0.5 * unsure
        found.append(Statistic(f"a joint moment of coordinates {i} and {j}", abs(float(product.mean())), limit))
    return found


STEP = 0.004
"""What z moved by up to 0.01, as rows that are kept may be, adds to a distance of distribution functions."""

TAILS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Where the tails are looked at: a distance of distribution functions hardly sees them."""


@np.errstate(all="ignore")
def samples_follow_density(
    f: Any, x: np.ndarray, context: Context = None, *, draws: int = CELLS_DRAWS, seed: int = 0
) -> Finding:
    """Samples fall into the cells of a grid as often as the integral of exp(log_prob) over each cell says.

    Pearson's chi-squared over cells with at least 5 expected, the rest joined, less the mass that quadrature may not
    have seen, wherever it is. In one and two dimensions, for the first row of the context.
    """
    from scipy.special import chdtri

    target = as_target(f, context)
    found = None if target.log_prob is None or x[0].size > 2 else cells(target, x, context)
    if found is None or not found.decides:
        return Finding("samples_follow_density", "inconclusive", judged=0.0)
    row = None if context is None else context[:1]
    mass = found.mass / found.mass.sum()

    def test(n: int, seed: int) -> list[Statistic]:
        counts, _ = np.histogramdd(draw(target, n, seed, row).reshape(n, -1).astype(np.float64), found.edges)
        expected = n * mass
        large = expected >= 5.0
        seen = np.append(counts[large], n - counts[large].sum())
        hoped = np.append(expected[large], max(n - expected[large].sum(), 1.0))
        apart = _granted(np.abs(seen - hoped), hoped, n * found.unseen)
        statistic = float(np.sum(apart**2 / hoped))
        return [Statistic("a chi-squared of cells", statistic, float(chdtri(len(hoped) - 1, share(1))))]

    return decide("samples_follow_density", test, draws, seed)


def _granted(apart: np.ndarray, hoped: np.ndarray, unseen: float) -> np.ndarray:
    """Deviations of counts, less `unseen` in all, taken off where the sum of their squares over `hoped` falls most:
    what is left is at most a level times `hoped`, and the level is found by halving."""
    if unseen >= apart.sum():
        return np.zeros_like(apart)
    low, high = 0.0, float(np.max(apart / hoped))
    for _ in range(60):
        level = 0.5 * (low + high)
        taken = np.sum(np.maximum(apart - level * hoped, 0.0))
        low, high = (level, high) if taken > unseen else (low, level)
    return np.asarray(np.minimum(apart, high * hoped))


__all__ = ["sampled_density", "samples_follow_base", "samples_follow_density", "sampling"]
