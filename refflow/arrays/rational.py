r"""One piece of a rational-quadratic spline as one operation, with its derivatives by hand.

It is the inner loop of spline flows: as sixty operations on the tape it cost ten times as much. The mathematics, and
the symbols, are those of `refflow.bijections.rational_quadratic`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from autograd.core import defvjp_argnums
from autograd.tracer import getval

from refflow.arrays.elementwise import (
    greater,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    negative,
    piecewise,
    square,
    where,
)  # fmt: skip
from refflow.arrays.iteration import detach
from refflow.arrays.lookup import Tables
from refflow.arrays.namespaces import Array, library
from refflow.arrays.shapes import getitem, stack, unbroadcast
from refflow.arrays.tracing import primitive


def shares(x: Array, x0: Array, x1: Array, w: Array) -> tuple[Array, Array]:
    """t = (x - x0) / w and q = (x1 - x) / w, the larger of them as 1 minus the smaller: the knots are rounded, and w,
    known to all its digits, is not their difference."""
    a, b = x - x0, x1 - x
    on_left, t, q = less_equal(a, b), a / w, b / w
    return where(on_left, t, 1.0 - q), where(on_left, 1.0 - t, q)


def log_slope(s: Array, t: Array, q: Array, d0: Array, d1: Array) -> Array:
    """log dy/dx = log (s / D)^2 E with D = s (t^2 + q^2) + (d0 + d1) t q and E = d1 t^2 + 2 s t q + d0 q^2."""
    tt, qq, tq = t * t, q * q, t * q
    ratio = s / (s * (tt + qq) + (d0 + d1) * tq)
    return log(ratio * ratio * (d1 * tt + 2.0 * s * tq + d0 * qq))


def displacement(t: Array, q: Array, left: Tables, right: Tables, inside: Tables) -> Array:
    """y - x, which is exactly 0 where the spline is the identity: the knots' displacement, and

    n - t = t q ((d0 - s) q - (d1 - s) t) / D.
    """
    (x0, y0, d0), (x1, y1, d1), (w, h) = left, right, inside
    s, tq = h / w, t * q
    bent = h * tq * ((d0 - s) * q - (d1 - s) * t) / (s * (t * t + q * q) + (d0 + d1) * tq)
    return bent + where(less_equal(t, q), (y0 - x0) + (h - w) * t, (y1 - x1) - (h - w) * q)


def gentle(log_slope: Array) -> Array:
    """Whether a slope is so near 1 that y and x are well computed as each other plus their difference."""
    return less(square(log_slope), 0.25)


def between_ends(y: Array, y0: Array, y1: Array, t: Array, q: Array) -> Array:
    """y with its rounding taken back where that is known: y0 at t = 0, y1 at q = 0, in [y0, y1] between. Bins then join
    without a fall. Derivatives are those of y; balls, which do not round, stay as they are."""
    if library(y) == "balls":
        return y
    plain, low, high = detach(y), detach(y0), detach(y1)
    known = piecewise([less_equal(t, 0.0), less_equal(q, 0.0)], [low, high, minimum(maximum(plain, low), high)])
    return known + (y - plain)  # 0, or NaN where y is


def rational_quadratic(x: Array, left: Tables, right: Tables, inside: Tables) -> tuple[Array, Array]:
    """y and log dy/dx between the knots left = (x0, y0, d0) and right = (x1, y1, d1), with inside = (w, h) the
    differences x1 - x0 and y1 - y0. Derivatives take x1 for x0 + w, and y1 for y0 + h."""
    (x0, y0, d0), (x1, y1, d1), (w, h) = left, right, inside
    both = _piece(x, x0, y0, d0, d1, w, h, getval(x1), getval(y1))
    return getitem(both, (0, ...)), getitem(both, (1, ...))


@primitive
def _piece(x: Array, x0: Array, y0: Array, d0: Array, d1: Array, w: Array, h: Array, x1: Array, y1: Array) -> Array:
    """Of four equal forms of y the one is taken whose derivative does not cancel: from x, where the slope is near 1;
    where the slopes at the knots outweigh s, from the plateau at n = d0 / (d0 + d1); else from the nearer knot."""
    s, (t, q), d = h / w, shares(x, x0, x1, w), d0 + d1
    ends, middle = s * (t * t + q * q), d * t * q
    scale = h / (ends + middle)
    on_left = y0 + scale * t * (s * t + d0 * q)
    on_right = y1 - scale * q * (s * q + d1 * t)
    plateau = y0 + (h * d0 + scale * s * (d1 * t * t - d0 * q * q)) / d
    from_x = x + displacement(t, q, (x0, y0, d0), (x1, y1, d1), (w, h))
    slope = log_slope(s, t, q, d0, d1)
    conditions = [gentle(slope), greater(middle, ends), less_equal(t, q)]
    y = piecewise(conditions, [from_x, plateau, on_left, on_right])
    return stack([between_ends(y, y0, getval(y1), t, q), slope], axis=0)


def _piece_vjp(argnums: Sequence[int], ans: Array, args: tuple[Array, ...], kwargs: dict[str, Any]) -> Any:
    """dn/dt = s E / D^2, dn/ds = t q (d1 t^2 - d0 q^2) / D^2, dn/dd0 = t q m / D, dn/dd1 = -t q n / D for n = N / D,
    m = 1 - n; and the derivatives of log dy/dx = 2 log s + log E - 2 log D, term by term."""
    x, x0, _, d0, d1, w, h, x1, _ = args
    x1 = x1 + ((x0 - getval(x0)) + (w - getval(w)))  # the value as it is, and for derivatives of this one x0 + w
    s, (t, q) = h / w, shares(x, x0, x1, w)
    tt, qq, tq = t * t, q * q, t * q
    one = 1.0 / (s * (tt + qq) + (d0 + d1) * tq)
    n, m = (s * tt + d0 * tq) * one, (s * qq + d1 * tq) * one
    e = d1 * tt + 2.0 * s * tq + d0 * qq

    def vjp(g: Array) -> Iterator[Array]:
        gy, gl = getitem(g, (0, ...)), getitem(g, (1, ...))
        by_n, by_e, by_d = gy * h * one, gl / e, 2.0 * gl * one
        across = by_n * tq
        gt = by_n * one * s * e + 2.0 * by_e * (d1 * t + s * (q - t) - d0 * q) - by_d * (q - t) * (d0 + d1 - 2.0 * s)
        gs = across * one * (d1 * tt - d0 * qq) + 2.0 * (gl / s + by_e * tq) - by_d * (tt + qq)
        gx, by_s = gt / w, gs / w
        found = (
            gx, negative(gx), gy, across * m + by_e * qq - by_d * tq, by_e * tt - across * n - by_d * tq,
            negative(gx * t + by_s * s), gy * n + by_s,
        )  # fmt: skip
        return (unbroadcast(found[i], args[i]) for i in argnums)

    return vjp


defvjp_argnums(_piece, _piece_vjp)
