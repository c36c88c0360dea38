r"""Monotone rational-quadratic splines with linear tails (Durkan et al., 2019), and what ports of them get wrong.

In bin k, with t = (x - x_k) / w_k, s = h_k / w_k and the slopes d_k at the knots,

    y = y_k + h_k (s t^2 + d_k t (1 - t)) / q,   q = s + (d_k+1 + d_k - 2 s) t (1 - t)

    dy/dx = s^2 (d_k+1 t^2 + 2 s t (1 - t) + d_k (1 - t)^2) / q^2

and y = x beyond the bound. The inverse is the root 2c / (-b - sqrt(b^2 - 4ac)), which does not cancel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow.selftest.layers import Array, Chain, Coupling, Layer, Pair, keywords, weights
from refflow.selftest.subjects import Keywords, Recipe

BINS = 6

LEAST = 2.0**-10
"""The least share of a bin in the interval, and the least slope at a knot."""


class Curves:
    """Splines for any number of coordinates, given their unconstrained parameters `(..., 3 K - 1)`."""

    bound = 3.0

    def shares(self, raw: Array) -> Array:
        """Widths that add up to 1."""
        e = np.exp(raw - np.max(raw.real, axis=-1, keepdims=True))
        return LEAST + (1.0 - LEAST * BINS) * e / np.sum(e, axis=-1, keepdims=True)

    def positions(self, raw: Array) -> Array:
        """Knots from -bound to bound, the ends exactly."""
        inner = self.bound * (2.0 * np.cumsum(self.shares(raw), axis=-1)[..., :-1] - 1.0)
        end = np.full_like(inner[..., :1], self.bound)
        return np.concatenate([-end, inner, end], axis=-1)

    def slopes(self, raw: Array) -> Array:
        """Positive slopes, 1 for raw = 0 and at both ends."""
        positive = raw.real > 0.0
        softplus = np.log1p(np.exp(np.where(positive, -raw, raw))) + np.where(positive, raw, 0.0 * raw)
        inner = LEAST + (1.0 - LEAST) * softplus / np.log1p(np.ones_like(softplus))
        one = np.ones_like(inner[..., :1])
        return np.concatenate([one, inner, one], axis=-1)

    def knots(self, theta: Array) -> tuple[Array, Array, Array]:
        """x, y and slopes at the K + 1 knots."""
        w, h, d = np.split(theta, (BINS, 2 * BINS), axis=-1)
        return self.positions(w), self.positions(h), self.slopes(d)

    def which(self, v: Array, at: Array) -> Array:
        """The number of the bin that v is in."""
        return np.clip(np.sum(v.real[..., None] >= at, axis=-1) - 1, 0, BINS - 1)

    def inside(self, v: Array) -> Array:
        return np.abs(v.real) <= self.bound

    def bins(self, v: Array, theta: Array, inverse: bool) -> tuple[Array, ...]:
        """x_k, w, y_k, h, d_k, d_k+1 of the bin of v."""
        xs, ys, d = self.knots(theta)
        k = self.which(v, (ys if inverse else xs).real)
        x0, x1, y0, y1, d0, d1 = (_take(a, i) for a in (xs, ys, d) for i in (k, k + 1))
        return x0, x1 - x0, y0, y1 - y0, d0, d1

    def log_slope(self, s: Array, t: Array, d0: Array, d1: Array) -> Array:
        q = s + (d1 + d0 - 2.0 * s) * t * (1.0 - t)
        return 2.0 * np.log(s) + np.log(d1 * t * t + 2.0 * s * t * (1.0 - t) + d0 * (1.0 - t) ** 2) - 2.0 * np.log(q)

    def value(self, t: Array, s: Array, h: Array, d0: Array, d1: Array) -> Array:
        """y - y_k."""
        return h * (s * t * t + d0 * t * (1.0 - t)) / (s + (d1 + d0 - 2.0 * s) * t * (1.0 - t))

    def root(self, a: Array, b: Array, c: Array) -> Array:
        """t of a t^2 + b t + c = 0, without cancellation."""
        discriminant = b * b - 4.0 * a * c
        return 2.0 * c / (-b - np.sqrt(np.where(discriminant.real < 0.0, 0.0 * discriminant, discriminant)))

    def guarded(self, v: Array, value: Array, log_slope: Array) -> Pair:
        """The identity beyond the bound; NaN stays NaN."""
        tail = np.where(np.isnan(v), v, np.zeros_like(v))
        return np.where(self.inside(v), value, v), np.where(self.inside(v), log_slope, tail)

    def curve(self, x: Array, theta: Array) -> Pair:
        """y and log dy/dx."""
        x0, w, y0, h, d0, d1 = self.bins(x, theta, False)
        safe = np.where(self.inside(x), x, x0)
        t, s = (safe - x0) / w, h / w
        return self.guarded(x, y0 + self.value(t, s, h, d0, d1), self.log_slope(s, t, d0, d1))

    def curve_back(self, y: Array, theta: Array) -> Pair:
        """x and log dx/dy."""
        x0, w, y0, h, d0, d1 = self.bins(y, theta, True)
        rise, s = np.where(self.inside(y), y, y0) - y0, h / w
        bend = d1 + d0 - 2.0 * s
        t = self.root(h * (s - d0) + rise * bend, h * d0 - rise * bend, -s * rise)
        return self.guarded(y, x0 + w * t, -self.log_slope(s, t, d0, d1))


def _take(a: Array, k: Array) -> Array:
    a = np.broadcast_to(a, (*k.shape, a.shape[-1]))
    return np.take_along_axis(a, k[..., None], axis=-1)[..., 0]


class SplineCoupling(Curves, Coupling):
    """y_b = spline(x_b; network(x_a))."""

    def __init__(self, rng: np.random.Generator, mask: Sequence[bool], scale: float) -> None:
        Coupling.__init__(self, rng, mask, scale)
        self.parameters = weights(rng, (len(self.a), 8, len(self.b) * (3 * BINS - 1)), scale)

    def theta(self, xa: Array) -> Array:
        """Unconstrained parameters `(..., len(b), 3 K - 1)`."""
        return self.network(xa).reshape(*xa.shape[:-1], len(self.b), 3 * BINS - 1)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        moved, log_slope = self.curve(x[..., self.b], self.theta(x[..., self.a]))
        return self.join(x, moved), np.sum(log_slope, axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        moved, log_slope = self.curve_back(y[..., self.b], self.theta(y[..., self.a]))
        return self.join(y, moved), np.sum(log_slope, axis=-1)


class WideSplineCoupling(SplineCoupling):
    """The same with its tails from 32 on, where float32 has no digit to spare."""

    bound = 32.0


class ElementwiseSpline(Curves, Layer):
    """y_i = spline_i(x_i), with constant parameters; the first spline is the identity: all its bins are flat."""

    def __init__(self, rng: np.random.Generator, size: int, scale: float) -> None:
        theta = scale * rng.standard_normal((size, 3 * BINS - 1))
        theta[0] = 0.0 if size > 1 else theta[0]
        Layer.__init__(self, theta=theta)

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_slope = self.curve(x, self.get("theta", x))
        return y, np.sum(log_slope, axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_slope = self.curve_back(y, self.get("theta", y))
        return x, np.sum(log_slope, axis=-1)


def coupled(scale: float, seed: int, **parts: Any) -> Keywords:
    """One spline coupling of four coordinates, with its structure."""
    mask = np.array([True, False, False, True])
    layer = parts.get("spline", SplineCoupling)(np.random.default_rng([seed, 4]), mask, scale)
    structure = np.eye(4, dtype=bool) | (~mask[:, None] & mask[None, :])
    return keywords(Chain([layer]), (4,), structure=structure)


def wide(scale: float, seed: int, **parts: Any) -> Keywords:
    """`coupled` with the bound 32."""
    return coupled(scale, seed, **({"spline": WideSplineCoupling} | parts))


def elementwise(scale: float, seed: int, **parts: Any) -> Keywords:
    """Eight splines side by side."""
    layer = parts.get("spline", ElementwiseSpline)(np.random.default_rng([seed, 5]), 8, scale)
    return keywords(Chain([layer]), (8,), structure=np.eye(8, dtype=bool))


SPLINE = Recipe("spline coupling", "spline", coupled)
WIDE = Recipe("spline coupling with tails from 32", "spline", wide)
ELEMENTWISE = Recipe("elementwise splines", "spline", elementwise)
