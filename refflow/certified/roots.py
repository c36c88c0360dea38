r"""Roots with proofs: first a walk on midpoints, which proves nothing, then a check that does.

For an increasing f: where f(a) < y < f(b) for all numbers of the parameters' balls and of y's, the root lies in X =
[a, b], and, by the mean value theorem, in N = m - (f(m) - y) / f'(X) (Moore, 1966); both hold, so their intersection.
For a contraction g with constant c: |x - m| <= |m + g(m) - y| / (1 - c), since x + g(x) grows by 1 - c at least.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, ctx

from refflow.arrays.roots import Increasing, contracted
from refflow.certified.arrays import BallArray, each
from refflow.certified.namespace import broadcast_to, constant, detach, finfo, maximum, minimum, sqrt, sum

DOUBLINGS = 200
"""How often a bracket that is not proven is tried twice as wide, before the caller's bracket is all that is known."""


def solve_increasing(function: Increasing, parameters: Any, y: Any, low: Any, high: Any) -> BallArray:
    """Balls that hold the root of f(x) = y in [low, high], whatever numbers the balls of p, y, low and high hold."""
    y, low, high = _alike(y, low, high)
    fixed = tuple(map(detach, parameters))
    m = _walk(function, fixed, detach(y), detach(low), detach(high))
    f, slope = function(m, *parameters)
    known = each(arb.union, low, high)
    x = _proven(function, parameters, y, known, m, _first_radius(f - y, slope, m))
    between = each(arb.union, x, m)  # the mean value theorem's point lies between m and the root
    return each(_newton, x, m, f - y, function(between, *parameters)[1])


def _alike(*operands: BallArray) -> list[BallArray]:
    shape = np.broadcast_shapes(*(v.shape for v in operands))
    return [broadcast_to(v, shape) for v in operands]


def _walk(function: Increasing, fixed: Any, y: BallArray, low: BallArray, high: BallArray) -> BallArray:
    """Midpoints near the root: Newton's method and bisection in turn, until f's own rounding hides its sign."""
    x = detach(0.5 * (low + high))
    for _ in range(2 * ctx.prec):
        candidates = []
        for at in (x, None):
            point = detach(0.5 * (low + high)) if at is None else at
            f, slope = function(point, *fixed)
            below, above = (f - y < 0.0).sure, (f - y > 0.0).sure
            low = _chosen(above, low, maximum(low, point))
            high = _chosen(below, high, minimum(high, point))
            candidates.append(detach(point - (f - y) / slope))
        middle = detach(0.5 * (low + high))
        if np.all((low >= high).sure | (middle <= low).sure | (middle >= high).sure):
            return middle
        x = middle
        for candidate in reversed(candidates):
            x = _chosen((low < candidate).sure & (candidate < high).sure, candidate, x)
    return x


def _chosen(condition: np.ndarray, x: BallArray, y: BallArray) -> BallArray:
    return BallArray(np.where(condition, x.elements, y.elements))


def _first_radius(residual: BallArray, slope: BallArray, m: BallArray) -> BallArray:
    """Twice the Newton step at most, and no less than a few roundings of m."""
    rounding = arb(finfo(None).eps)

    def radius(r: arb, s: arb, at: arb) -> arb:
        step = (r / s).abs_upper()
        return (2 * step if step.is_finite() else arb(0)) + 8 * rounding * (at.abs_upper() + rounding**8)

    return detach(each(radius, residual, slope, m))


def _proven(
    function: Increasing, parameters: Any, y: BallArray, known: BallArray, m: BallArray, radius: BallArray
) -> BallArray:
    """[m - r, m + r] with f below y at one end and above it at the other, r doubled until that is certain."""
    for _ in range(DOUBLINGS):
        ends = detach(m - radius), detach(m + radius)
        left = (function(ends[0], *parameters)[0] < y).sure | (ends[0] <= known).sure
        right = (function(ends[1], *parameters)[0] > y).sure | (ends[1] >= known).sure
        if np.all(left & right):
            break
        radius = _chosen(left & right, radius, detach(2.0 * radius))
    return _chosen(left & right, each(_common, each(arb.union, *ends), known), known)


def _common(x: arb, known: arb) -> arb:
    return x.intersection(known) if x.overlaps(known) and known.is_finite() else x


def _newton(x: arb, m: arb, residual: arb, slope: arb) -> arb:
    """X and N = m - (f(m) - y) / f'(X), as far as both hold the root."""
    if not slope > 0:
        return x
    return x.intersection(m - residual / slope)


def solve_contraction(
    function: Callable[..., Any], jacobian: Callable[..., Any], parameters: Any, y: BallArray, lipschitz: float
) -> BallArray:
    """Balls that hold the x of x + g(x) = y, whatever numbers the balls of p and y hold."""
    fixed = tuple(map(detach, parameters))
    m = contracted(function, jacobian, fixed, detach(y), lipschitz, finfo(None).eps)
    residual = m + function(m, *parameters) - y
    largest = each(arb.abs_upper, residual)
    distance = sqrt(sum(largest * largest, axis=-1, keepdims=True)) / (1.0 - constant(lipschitz))
    return each(lambda at, r: at + arb(0, r.abs_upper()), m, broadcast_to(distance, m.shape))


__all__ = ["solve_contraction", "solve_increasing"]
