r"""The monotone rational-quadratic spline of one variable (Gregory and Delbourgo, 1982; Durkan et al., 2019).

K bins on [-B, B] with knots (x_k, y_k) and slopes d_k > 0 there, k = 0 ... K. Between two knots, with

    w = x_{k+1} - x_k,   h = y_{k+1} - y_k,   s = h / w,   t = (x - x_k) / w,   q = (x_{k+1} - x) / w       (1)

(q = 1 - t, but accurate where t is near 1), the spline is

    n = (s t^2 + d_k t q) / D,   m = (s q^2 + d_{k+1} t q) / D = 1 - n,
    D = s (t^2 + q^2) + (d_k + d_{k+1}) t q                                                                 (2)
    y = y_k + h n = y_{k+1} - h m                                                                           (3)
    dy/dx = (s / D)^2 (d_{k+1} t^2 + 2 s t q + d_k q^2)                                                     (4)

which is Durkan et al.'s eq. 4 and 5 in a form symmetric in both ends, without a difference that cancels
(`arrays.rational` says which form of (3) is computed where). To invert it, with e = (y - y_k) / h and
f = (y_{k+1} - y) / h,

    p = f d_k - e d_{k+1},   r = |p| + sqrt(p^2 + 4 e f s^2),   u = 2 e s,   v = 2 f s                      (5)
    t, q = u / (u + r), r / (u + r)  if p >= 0,   r / (r + v), v / (r + v)  if p < 0                        (6)
    x = x_k + w t = x_{k+1} - w q                                                                           (7)

the roots of Durkan et al.'s eq. 6-8, whose discriminant b^2 - 4ac is p^2 + 4 e f s^2: in this form it is never negative
and no sum cancels but p. (The textbook root (-b + sqrt(b^2 - 4ac)) / 2a loses thousands of units.)

Lemma. w, h and every d are positive whatever the raw numbers, so D > 0 and dy/dx > 0: the spline is increasing.

Raw numbers theta, `(..., 3K - 1)` in this order: `[widths K | heights K | slopes K - 1]`, the slopes at the interior
knots; or `(..., 3K)`, `[widths K | heights K | slopes K]`, on a circle, the first slope being that at both ends. With

    w_k = 2B (LEAST + (1 - K LEAST) softmax(widths)_k),   h_k from the heights likewise                     (8)
    d_k = exp(S(slopes_k)),   S(a) = a / (1 + |a| / STEEPEST)                                               (9)

LEAST = 2^-10 of the interval, and d between e^-7 and e^7, which is 1 at 0: theta = 0 is the identity. Outermost slopes
that are not among theta are 1.
"""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.arrays.lookup import Formula, Tables
from refflow.bijections.scale_maps import SCALE_MAPS
from refflow.errors import StructureError

LEAST = 2.0**-10
"""The least width and height of a bin, as a fraction of the interval (Durkan et al., 2019: 10^-3)."""

STEEPEST = 7.0
"""The largest |log d_k|. Durkan et al. use 10^-3 + softplus; exp is 1 at 0 exactly, and treats d and 1/d alike."""

MOST_BINS = 512
"""Half of 1 / LEAST: with more bins, the least width would be most of the width."""


def raw_size(bins: int, circular: bool = False) -> int:
    """How many raw numbers one spline takes."""
    return 3 * bins if circular else 3 * bins - 1


def check_spline(bins: int, bound: float) -> None:
    """Refuse numbers of bins and bounds that make no spline."""
    if not isinstance(bins, int) or not 1 <= bins <= MOST_BINS:
        raise StructureError(f"expected a number of bins from 1 to {MOST_BINS}, got {bins!r}")
    if not 0.0 < bound < float("inf"):
        raise StructureError(f"expected a positive, finite bound, got {bound}")


def spline(x: Array, theta: Array, bound: float, circular: bool = False) -> tuple[Array, Array]:
    """y and log dy/dx of every x `(...)`, with raw numbers theta `(..., 3K - 1)`, or `(..., 3K)` if circular.

    Outside [-B, B] the spline is the identity; if circular, it has no value there and log dy/dx is minus infinity.
    """
    (widths, heights), (x_knots, y_knots, slopes) = _tables(x, theta, bound, circular)
    return _inside(x, (x_knots, y_knots, slopes), (widths, heights), xp.rational_quadratic, bound, circular)


def inverse_spline(y: Array, theta: Array, bound: float, circular: bool = False) -> tuple[Array, Array]:
    """x and log dx/dy of every y: the inverse of `spline`, at the same raw numbers."""
    (widths, heights), (x_knots, y_knots, slopes) = _tables(y, theta, bound, circular)
    return _inside(y, (y_knots, x_knots, slopes), (widths, heights), _root, bound, circular)


def _inside(
    x: Array, at_knots: Tables, in_bins: Tables, formula: Formula, bound: float, circular: bool
) -> tuple[Array, Array]:
    """The formula on [-B, B], and what is outside."""
    b = xp.constant(bound, x)
    outside = xp.logical_or(xp.less(x, -b), xp.greater(x, b))
    y, log_slope = xp.between(xp.clip(x, -b, b), at_knots, in_bins, formula)
    return xp.where(outside, x, y), xp.where(outside, -float("inf") if circular else 0.0, log_slope)


def _tables(x: Array, theta: Array, bound: float, circular: bool) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Widths and heights `(K, ...)`; knots x_k and y_k and slopes d_k `(K + 1, ...)`; the rest broadcasts to x."""
    missing = len(x.shape) + 1 - len(theta.shape)
    raw = xp.bring_first(theta)
    raw = xp.reshape(raw, (raw.shape[0], *(1,) * missing, *raw.shape[1:])) if missing else raw
    bins = (raw.shape[0] + 1) // 3
    widths, heights, slopes = xp.split(raw, (bins, bins, raw.shape[0] - 2 * bins), axis=0)
    d = xp.exp(SCALE_MAPS["soft"](slopes, STEEPEST))  # (9)
    one = xp.ones_like(widths[:1, ...])
    d = xp.concat([d, d[:1, ...]] if circular else [one, d, one], axis=0)
    w, h = _sizes(widths, bound), _sizes(heights, bound)
    return (w, h), (_knots(w, bound), _knots(h, bound), d)


def _sizes(raw: Array, bound: float) -> Array:
    """The widths of the bins, which add up to 2B."""
    bins, length = raw.shape[0], 2.0 * xp.constant(bound, raw)
    return length * LEAST + (length * (1.0 - bins * LEAST)) * xp.softmax(raw, axis=0)  # (8)


def _knots(sizes: Array, bound: float) -> Array:
    """-B, -B + w_0, -B + w_0 + w_1, ..., B: each measured from the nearer end, and the ends exactly the bounds.

    Where one bin fills the interval, sums across it have the digits of B only, and their derivatives cancel.
    """
    b = xp.constant(bound, sizes)
    from_left = xp.cumulative_sum(sizes[:-1, ...], axis=0)
    from_right = xp.flip(xp.cumulative_sum(xp.flip(sizes[1:, ...], axis=0), axis=0), axis=0)
    interior = xp.where(xp.less_equal(from_left, from_right), from_left - b, b - from_right)
    end = xp.zeros_like(sizes[:1, ...]) + b
    return xp.concat([-end, interior, end], axis=0)


def _root(
    y: Array, left: tuple[Array, ...], right: tuple[Array, ...], inside: tuple[Array, ...]
) -> tuple[Array, Array]:
    (y0, x0, d0), (y1, x1, d1), (w, h) = left, right, inside
    s, (e, f) = h / w, xp.shares(y, y0, y1, h)
    p, u, v = f * d0 - e * d1, 2.0 * e * s, 2.0 * f * s
    rising = xp.greater_equal(p, 0.0)
    r = xp.where(rising, p, -p) + xp.sqrt(p * p + u * v)  # (5)
    t, q = xp.where(rising, u / (u + r), r / (r + v)), xp.where(rising, r / (u + r), v / (r + v))  # (6)
    log_slope = xp.log_slope(s, t, q, d0, d1)
    from_y = y - xp.displacement(t, q, (x0, y0, d0), (x1, y1, d1), inside)
    pieces = [from_y, x0 + w * t, x1 - w * q]
    x = xp.piecewise([xp.gentle(log_slope), xp.less_equal(t, q)], pieces)  # (7)
    return xp.between_ends(x, x0, x1, t, q), -log_slope
