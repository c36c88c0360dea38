r"""Maps that bend space along few directions: planar, radial and Sylvester flows, each with its inverse.

All three rest on two functions of a raw number t in R. The first turns it into an m > -1,

    m(t) = t share(t),   share(t) = 1 / (1 + max(-t, 0)),   gap(t) = 1 + m > 0,    (1)

which is t itself for t >= 0 and t / (1 - t) below: continuous with its slope, and gap does not underflow. The second is
the slope of a + m tanh(a),

    slope = 1 + m (1 - tanh^2 a) = tanh^2 a + gap(t) sech^2 a > 0                  (2)

a weighted mean of 1 and gap, in which nothing cancels. Hence a + m tanh(a) = b has one root a. It has the sign of b and
lies between b and b / gap, for |tanh a| <= |a|, and within |m| of b: the bracket of every inverse here.   (3)
"""

import math
from abc import abstractmethod

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection
from refflow.bijections.linear import directions
from refflow.errors import ShapeError
from refflow.modules import module


def share(t: Array) -> Array:
    """share(t) = m / t of (1), in (0, 1]: what is left of a raw number whose product with another is t."""
    return 1.0 / (1.0 + xp.maximum(-t, 0.0))


def gap(t: Array) -> Array:
    """gap(t) = 1 + m of (1), without cancellation."""
    return (1.0 + xp.maximum(t, 0.0)) * share(t)


def excess(t: Array) -> Array:
    """m(t) of (1)."""
    return t * share(t)


def bend_slope(a: Array, t: Array) -> Array:
    """The slope (2)."""
    bent = xp.tanh(a)
    return bent * bent + gap(t) * (4.0 * xp.sigmoid(2.0 * a) * xp.sigmoid(-2.0 * a))


def _bend(a: Array, t: Array) -> tuple[Array, Array]:
    return a + excess(t) * xp.tanh(a), bend_slope(a, t)


def unbend(b: Array, t: Array) -> Array:
    """The root a of a + m tanh(a) = b, by its bracket (3)."""
    m = xp.abs(excess(t))
    other = b + xp.maximum(xp.minimum(b / gap(t) - b, m), -m)
    return xp.solve_increasing(_bend, (t,), b, xp.minimum(b, other), xp.maximum(b, other))


class Bent(Bijection):
    """The properties that these maps take from their dimension."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """D."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.dim,)


@module
class Planar(Bent):
    r"""The planar map (Rezende and Mohamed, 2015, section 4.1), with h = tanh and a = w.x + b:

        y = x + u^ h(a)                                                            (4)
        log|det dy/dx| = log(1 + w.u^ h'(a)) = log slope(a)                        (5)
        a + (w.u^) h(a) = w.y + b,   x = y - u^ h(a)                               (6)

    by the matrix determinant lemma, det(I + u^ h' w^T) = 1 + w.u^ h'. u^ = u + (m - t) w / |w|^2 has w.u^ = m > -1
    for t = w.u (their appendix A.1), with the m of (1) where the paper has log(1 + e^t) - 1: so u^ = u where u needs no
    mending, u = 0 is the identity, and w = 0 a translation. Onto: a -> a + m h(a) is, and x follows from a.

    That sum cancels. Computed is the part of u across w and, beside it, what the constraint leaves of the part along w:

        u^ = p + m w / |w|^2,   p = u - w (w.u) / |w|^2, made orthogonal to w twice        (7)

    with w divided by its largest element. The logarithm and the root take m from t, never from a product w.u^. In
    floats w.u^ is m up to a few u sum_i |w_i u^_i|, so > -1 where |t| sum_i |w_i u^_i| is far below 1/u: up to |t|
    near 1/sqrt(u), some 3000 in float32. Beyond, where gap = 1/(1 + |t|) is finer than u^ can be written down, the map
    that is evaluated may fold, as any may whose slope is rounded to 0, while the logarithm stays that of the exact one.

    `w` and `u` are `(D,)`, `b` is `(1,)`.
    """

    w: Array
    u: Array
    b: Array

    def __post_init__(self) -> None:
        got = tuple(map(xp.shape, (self.w, self.u, self.b)))
        if len(got[0]) != 1 or got != (got[0], got[0], (1,)):
            raise ShapeError(f"expected w and u of one shape (D,) and b of shape (1,), got {got}")

    @property
    def dim(self) -> int:
        return xp.shape(self.w)[0]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        t, u = self.mended()
        a = self._along(x)
        y = x + u * xp.tanh(a)  # (4)
        return y, xp.log(bend_slope(a, t))[..., 0]  # (5)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        t, u = self.mended()
        a = unbend(self._along(y), t)  # (6)
        x = y - u * xp.tanh(a)
        return x, -xp.log(bend_slope(a, t))[..., 0]

    def mended(self) -> tuple[Array, Array]:
        """t = w.u `(1,)` and u^ `(D,)`."""
        w, dual = directions(self.w)  # w.u / |w|^2 in units of the divided w
        t, along = xp.sum(self.w * self.u, keepdims=True), xp.sum(dual * self.u, keepdims=True)
        p = self.u - w * along
        p = p - w * xp.sum(dual * p, keepdims=True)
        return t, p + w * (along * share(t))  # (7), m = t share

    def _along(self, x: Array) -> Array:
        return xp.sum(x * self.w, axis=-1, keepdims=True) + self.b

    @staticmethod
    def init(dim: int, *, rng: np.random.Generator, dtype: str = "float64") -> "Planar":
        """The identity (u = 0), with a random direction w of about unit length."""
        w = rng.standard_normal(dim) / dim**0.5
        return Planar(w.astype(dtype), np.zeros(dim, dtype=dtype), np.zeros(1, dtype=dtype))


@module
class Radial(Bent):
    r"""The radial map (Rezende and Mohamed, 2015, section 4.1) about x_0, with r = |x - x_0| and q = alpha/(alpha + r):

        y = x_0 + (x - x_0) k,   k = 1 + beta / (alpha + r) = (1 - q) + gap q      (7)
        log|det dy/dx| = (D - 1) log k + log((1 - q^2) + gap q^2)                  (8)
        |y - x_0| = r k: r is the positive root of r^2 + (alpha gap - |y - x_0|) r - alpha |y - x_0| = 0
        x = x_0 + (y - x_0) / k                                                    (9)

    and where the points move little, the equal x + (x - x_0) (k - 1) and its inverse, which keep their digits far out.

    alpha = exp(log_alpha) > 0 and beta = alpha (gap(t) - 1) > -alpha with t = `raw_beta` and the gap of (1), so both
    logarithms are of weighted means of 1 and gap > 0. The product of the roots of (9) is negative: one is positive.
    alpha itself is never needed, only r / alpha or alpha / r, the one below 1: |log_alpha| may be 5 log(1/eps), some 80
    in float32, at any distance. Nor is beta, which rounds to -alpha from |raw_beta| = 1/u on, where k is small: k takes
    the gap, which keeps its digits for every raw_beta.

    `center` x_0 is `(D,)`, `log_alpha` and `raw_beta` are `(1,)`.
    """

    center: Array
    log_alpha: Array
    raw_beta: Array

    def __post_init__(self) -> None:
        got = tuple(map(xp.shape, (self.center, self.log_alpha, self.raw_beta)))
        if len(got[0]) != 1 or got[1:] != ((1,), (1,)):
            raise ShapeError(f"expected a center (D,), log_alpha and raw_beta of shape (1,), got {got}")

    @property
    def dim(self) -> int:
        return xp.shape(self.center)[0]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        away = x - self.center
        k, more, log_det = self._stretch(xp.length(away))
        near = xp.less(k, 0.5)
        return xp.piecewise([near], [self.center + away * k, x + away * more]), log_det  # (7)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        away = y - self.center
        k, more, log_det = self._stretch(self._radius(xp.length(away)))
        near = xp.greater(k, 2.0)
        return xp.piecewise([near], [self.center + away / k, y - away * (more / k)]), -log_det  # (9)

    def _radius(self, s: Array) -> Array:
        """The root r at s = |y - x_0|, in units of alpha or of s, so that no square overflows."""
        inside, u, v = self._ratios(s)
        g = gap(self.raw_beta)
        p, outer = g - u, v * g - 1.0
        outward = xp.greater_equal(outer, 0.0)
        root = _hypotenuse(outer, v)
        ways = [2.0 * v / (xp.maximum(outer, 0.0) + root), 0.5 * (root - xp.minimum(outer, 0.0))]
        within = 2.0 / (p + _hypotenuse(p, u))  # p >= -u >= -1: the root outweighs it
        return s * xp.piecewise([inside], [within, xp.piecewise([outward], ways)])

    def _stretch(self, r: Array) -> tuple[Array, Array, Array]:
        """k, k - 1 and (8) at the radius r."""
        inside, u, v = self._ratios(r)
        g = gap(self.raw_beta)
        q = xp.piecewise([inside], [1.0 / (1.0 + u), v / (1.0 + v)])
        rest = xp.piecewise([inside], [u / (1.0 + u), 1.0 / (1.0 + v)])
        k = rest + g * q
        along = rest * (1.0 + q) + g * q * q
        log_det = ((self.dim - 1) * xp.log(k) + xp.log(along))[..., 0]
        return k, excess(self.raw_beta) * q, log_det

    def _ratios(self, r: Array) -> tuple[Array, Array, Array]:
        """Whether r <= alpha, r / alpha for those that are, and alpha / r for the others."""
        half, most = xp.exp(0.5 * self.log_alpha), 5.0 * math.floor(-math.log(xp.eps(r)))
        edge = xp.exp(xp.clip(xp.detach(self.log_alpha), -most, most))  # a constant: any one near alpha would do
        return xp.less_equal(r, edge), xp.minimum(r, edge) / half / half, half * (half / xp.maximum(r, edge))

    @staticmethod
    def init(dim: int, *, rng: np.random.Generator, dtype: str = "float64") -> "Radial":
        """The identity (beta = 0) about a random point, with alpha = 1."""
        center = rng.standard_normal(dim)
        return Radial(center.astype(dtype), np.zeros(1, dtype=dtype), np.zeros(1, dtype=dtype))


def _hypotenuse(p: Array, c: Array) -> Array:
    """sqrt(p^2 + 4 c) for c >= 0, the larger term taken out of the root."""
    m = xp.detach(p)
    m = xp.maximum(xp.maximum(m, -m), xp.sqrt(xp.maximum(xp.detach(c), 0.0)))  # a constant
    m = xp.where(xp.greater(m, 0.0), m, 1.0)
    return m * xp.sqrt(xp.square(p / m) + 4.0 * (c / m / m))
