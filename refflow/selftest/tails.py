"""Faults of splines at their bounds and beyond."""

import numpy as np

from refflow.selftest.layers import Array, Pair
from refflow.selftest.splines import SPLINE, SplineCoupling


@SPLINE.fault("another bound in the inverse", "RT1 RT2 ED", part="spline")
class BoundMismatch(SplineCoupling):
    """An argument with another default."""

    def curve_back(self, y: Array, theta: Array) -> Pair:
        self.bound = 2.5
        found = super().curve_back(y, theta)
        self.bound = SplineCoupling.bound
        return found


@SPLINE.fault("unguarded branch: NaN beyond the bound", "NF LD1 ED", part="spline")
class Unguarded(SplineCoupling):
    """0 * log(negative): the mask multiplies where it should choose."""

    def curve(self, x: Array, theta: Array) -> Pair:
        y, _ = super().curve(x, theta)
        x0, w, _, h, d0, d1 = self.bins(x, theta, False)
        with np.errstate(invalid="ignore", divide="ignore"):
            return y, self.log_slope(h / w, (x - x0) / w, d0, d1) * self.inside(x).astype(x.real.dtype)


@SPLINE.fault("values beyond the bound clamped to it", "RT1 ED ON LD1", part="spline")
class NoTails(SplineCoupling):
    """clamp(x, -bound, bound) in place of tails."""

    def curve(self, x: Array, theta: Array) -> Pair:
        outside = np.where(x.real > 0.0, self.bound, -self.bound).astype(x.dtype)
        return super().curve(np.where(self.inside(x) | np.isnan(x), x, outside), theta)


@SPLINE.fault("log-slope of the last bin in the tail", "LD1 LD3 ED", part="spline")
class SlopeInTail(SplineCoupling):
    """The value is masked, the log-determinant is not."""

    def curve(self, x: Array, theta: Array) -> Pair:
        y, log_slope = super().curve(x, theta)
        _, w, _, h, d0, d1 = self.bins(x, theta, False)
        middle = self.log_slope(h / w, np.full_like(x, 0.5), d0, d1)
        return y, np.where(self.inside(x), log_slope, middle)


@SPLINE.fault("kept 1e-4 away from the bound forward only", "ED RT1", part="spline")
class KeptInside(SplineCoupling):
    """clamp(x, -bound + eps, bound - eps) against failures of the search."""

    def curve(self, x: Array, theta: Array) -> Pair:
        edge = self.bound - 1e-4
        kept = np.where(x.real > edge, edge, np.where(x.real < -edge, -edge, x)).astype(x.dtype)
        return super().curve(np.where(self.inside(x), kept, x), theta)


@SPLINE.fault("tail slope of 1/2 with a value of slope 1", "LD1 LD2 ED", part="spline")
class TailLogSlope(SplineCoupling):
    """The outer slope is a parameter to the log-determinant and 1 to the value."""

    def guarded(self, v: Array, value: Array, log_slope: Array) -> Pair:
        found, slope = super().guarded(v, value, log_slope)
        return found, slope + np.where(self.inside(v), 0.0, np.log(0.5)).astype(v.dtype)
