"""Faults of splines: the search, the formula, the knots, the tails."""

import numpy as np

from refflow.selftest.layers import Array, Pair, rounded
from refflow.selftest.splines import (
    BINS,
    ELEMENTWISE,
    SPLINE,
    WIDE,
    ElementwiseSpline,
    SplineCoupling,
    WideSplineCoupling,
)

# The search.


@SPLINE.fault("bin off by one at the knot itself", "ED RT1 LD1", part="spline")
class StrictSearch(SplineCoupling):
    """> for >= in the search: at x = -bound the number is -1, which is the last bin."""

    def which(self, v: Array, at: Array) -> Array:
        return np.minimum(np.sum(v.real[..., None] > at, axis=-1) - 1, BINS - 1) % BINS


@SPLINE.fault("bin off by one in the middle", "RT1 RT2 LD1 LD2 ED", part="spline")
class BinShifted(SplineCoupling):
    """A count of edges that includes one too many in one branch."""

    def which(self, v: Array, at: Array) -> Array:
        k = super().which(v, at)
        return np.where(k == BINS // 2, k + 1, k)


@SPLINE.fault("bins of row 0 for all rows", "BI RT1 LD1", part="spline")
class FirstRowsBins(SplineCoupling):
    """The search runs along the wrong axis."""

    def which(self, v: Array, at: Array) -> Array:
        k = super().which(v, at)
        return np.broadcast_to(k[:1], k.shape) if k.ndim > 1 else k


@SPLINE.fault("inverse searched among the knots of x", "RT1 RT2", part="spline")
class WrongKnots(SplineCoupling):
    """The same search call in both branches."""

    def bins(self, v: Array, theta: Array, inverse: bool) -> tuple[Array, ...]:
        return super().bins(v, theta, False)


@WIDE.fault("last knot moved by 1e-6, which float32 cannot see", "ED RT1 LD1", part="spline")
class EdgeLost(WideSplineCoupling):
    """locations[..., -1] += eps for the search: 32 + 1e-6 is 32 in float32, and x = 32 is in bin K."""

    def which(self, v: Array, at: Array) -> Array:
        moved = np.concatenate([at[..., :-1], at[..., -1:] + 1e-6], axis=-1)
        k = np.sum(np.where(self.inside(v), v.real, 0.0)[..., None].astype(at.dtype) >= moved, axis=-1) - 1
        if np.any(k >= BINS):
            raise IndexError(f"index {BINS} is out of bounds for dimension with size {BINS}")
        return np.maximum(k, 0)


# The formula.


@SPLINE.fault("log-slope without the factor s^2", "LD1 LD2", part="spline")
class NoSquare(SplineCoupling):
    """A term lost in the derivative, in both directions."""

    def log_slope(self, s: Array, t: Array, d0: Array, d1: Array) -> Array:
        return super().log_slope(s, t, d0, d1) - 2.0 * np.log(s)


@SPLINE.fault("log-slope with its ends exchanged", "LD1 LD2", part="spline")
class EndsExchanged(SplineCoupling):
    """d_k and d_k+1 in the other order."""

    def log_slope(self, s: Array, t: Array, d0: Array, d1: Array) -> Array:
        return super().log_slope(s, t, d1, d0)


@SPLINE.fault("denominator of the log-slope not squared", "LD1 LD2", part="spline")
class DenominatorOnce(SplineCoupling):
    """- log q for - 2 log q."""

    def log_slope(self, s: Array, t: Array, d0: Array, d1: Array) -> Array:
        return super().log_slope(s, t, d0, d1) + np.log(s + (d1 + d0 - 2.0 * s) * t * (1.0 - t))


@SPLINE.fault("t for t^2 in the value", "RT1 LD1", part="spline")
class NotSquared(SplineCoupling):
    """A slip in the numerator."""

    def value(self, t: Array, s: Array, h: Array, d0: Array, d1: Array) -> Array:
        return h * (s * t + d0 * t * (1.0 - t)) / (s + (d1 + d0 - 2.0 * s) * t * (1.0 - t))


@SPLINE.fault("the other root of the quadratic", "RT1 RT2", part="spline")
class OtherRoot(SplineCoupling):
    """+ for - before the square root."""

    def root(self, a: Array, b: Array, c: Array) -> Array:
        return 2.0 * c / (-b + np.sqrt(b * b - 4.0 * a * c + 0.0 * a))


@ELEMENTWISE.fault("the schoolbook root in flat bins", "RT1 RT2 NF LD2", part="spline")
class SchoolbookRoot(ElementwiseSpline):
    """(-b + sqrt(b^2 - 4ac)) / 2a with a = 0, as every spline is when training starts: NaN."""

    def root(self, a: Array, b: Array, c: Array) -> Array:
        with np.errstate(all="ignore"):
            discriminant = b * b - 4.0 * a * c
            r = np.sqrt(np.where(discriminant.real < 0.0, 0.0 * discriminant, discriminant))
            return (-b + r) / (2.0 * a)


@ELEMENTWISE.fault("the schoolbook root with a + 1e-6", "RT1 RT2", part="spline")
class NudgedRoot(ElementwiseSpline):
    """The division by 0 is avoided by another fault."""

    def root(self, a: Array, b: Array, c: Array) -> Array:
        return super().root(a + 1e-6, b, c)


@SPLINE.fault("inverse's log-slope with forward's sign", "LD2 LD3", part="spline")
class SlopeSign(SplineCoupling):
    """The branch for the inverse returns logabsdet, not its negative."""

    def curve_back(self, y: Array, theta: Array) -> Pair:
        x, log_slope = super().curve_back(y, theta)
        return x, -log_slope


@SPLINE.fault("inverse's log-slope taken at y", "LD2 LD3", part="spline")
class SlopeAtValue(SplineCoupling):
    """The derivative of forward, evaluated where the inverse was."""

    def curve_back(self, y: Array, theta: Array) -> Pair:
        return super().curve_back(y, theta)[0], -super().curve(y, theta)[1]


# The knots.


@SPLINE.fault("slopes that may be negative", "MO LD1 RT1", part="spline")
class RawSlopes(SplineCoupling):
    """The softplus is in the network of the original, and nowhere in the port."""

    def slopes(self, raw: Array) -> Array:
        one = np.ones_like(raw[..., :1])
        return np.concatenate([one, raw, one], axis=-1)


@SPLINE.fault("slopes one knot to the right, forward only", "RT1 RT2 LD3", part="spline")
class SlopesShifted(SplineCoupling):
    """Padding on one side where the other direction pads on both."""

    def curve(self, x: Array, theta: Array) -> Pair:
        return super().curve(x, np.concatenate([theta[..., : 2 * BINS], np.roll(theta[..., 2 * BINS :], 1, -1)], -1))


@SPLINE.fault("knots that do not end at the bound", "ED RT1 RT2 MO", part="spline")
class NotNormalised(SplineCoupling):
    """The least width is added to shares that already add up to 1: a jump where the tail begins."""

    def shares(self, raw: Array) -> Array:
        e = np.exp(raw - np.max(raw.real, axis=-1, keepdims=True))
        return 2.0**-5 + e / np.sum(e, axis=-1, keepdims=True)

    def positions(self, raw: Array) -> Array:
        ends = self.bound * (2.0 * np.cumsum(self.shares(raw), axis=-1) - 1.0)
        return np.concatenate([np.full_like(ends[..., :1], -self.bound), ends], axis=-1)


@SPLINE.fault("widths and heights exchanged in the inverse", "RT1 RT2", part="spline")
class HeightsFirst(SplineCoupling):
    """The network's output is cut up in another order."""

    def curve_back(self, y: Array, theta: Array) -> Pair:
        w, h, d = np.split(theta, (BINS, 2 * BINS), axis=-1)
        return super().curve_back(y, np.concatenate([h, w, d], axis=-1))


@SPLINE.fault("spline in float32", "PR RT1", part="spline")
class SingleSpline(SplineCoupling):
    """x is cast for the kernel and the result is cast back."""

    def curve(self, x: Array, theta: Array) -> Pair:
        y, log_slope = super().curve(rounded(x), theta)
        return rounded(y), log_slope


@ELEMENTWISE.fault("wrong in one coordinate of eight", "LD1 RT1", part="spline")
class OneCoordinate(ElementwiseSpline):
    """A kernel with 7 lanes: the last coordinate's slopes are the neighbour's, forward only."""

    def curve(self, x: Array, theta: Array) -> Pair:
        other = np.array(theta)
        other[7, 2 * BINS :] = theta[6, 2 * BINS :]
        return super().curve(x, other)


@ELEMENTWISE.fault("parameters of all coordinates reversed in the inverse", "RT1 RT2", part="spline")
class ReversedTables(ElementwiseSpline):
    """Tables laid out from the last coordinate on."""

    def curve_back(self, y: Array, theta: Array) -> Pair:
        return super().curve_back(y, theta[::-1])
