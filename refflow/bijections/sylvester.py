"""Sylvester flows: many planar bends at once, along orthonormal directions."""

import math
from collections.abc import Iterable

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.linear import reflected
from refflow.bijections.planar import Bent, bend_slope, share, unbend
from refflow.errors import ShapeError, StructureError
from refflow.modules import module


@module
class Sylvester(Bent):
    r"""The Sylvester map with Householder reflections (van den Berg, Hasenclever, Tomczak and Welling, 2018, section
    3), with h = tanh, Q `(D, M)` the first M columns of H_1 ... H_K, and R, R~ `(M, M)` upper triangular:

        y = x + Q R h(a),   a = R~ Q^T x + b                                       (1)
        log|det dy/dx| = sum_i log(1 + r_ii r~_ii h'(a_i))                         (2)
        v = Q^T x, w = Q^T y:   v_i + r_ii h(a_i) = w_i - sum_{j>i} r_ij h(a_j),   from i = M to 1, where
        a_i = r~_ii v_i + c_i with c_i = b_i + sum_{j>i} r~_ij v_j solves
        a_i + r_ii r~_ii h(a_i) = r~_ii (w_i - sum_{j>i} r_ij h(a_j)) + c_i        (3)
        x = y - Q R h(a)                                                           (4)

    (2) by Sylvester's identity det(I + Q R h' R~ Q^T) = det(I + h' R~ Q^T Q R), triangular since Q^T Q = I. r_ii =
    r'_ii share(t_i) with t_i = r'_ii r~_ii, so that r_ii r~_ii = gap(t_i) - 1 > -1 (`planar`, whose scalar root (3)
    is too). The paper bounds both diagonals by tanh; nothing is bounded here. (2) and (3) take the gap from t_i; in (1)
    the product r_ii r~_ii is rounded, so that it is > -1 in floats while |t_i| < 1/(4 u), some 4e6 in float32.

    `reflectors` is `(K, D)`, its rows v_k giving H_k = I - 2 v v^T / |v|^2; `diagonals` is `(2, M)`, r' and r~;
    `triangles` is `(2, M (M - 1) / 2)`, what stands above the diagonals of R and R~, row after row; `b` is `(M,)`.
    """

    reflectors: Array
    diagonals: Array
    triangles: Array
    b: Array

    def __post_init__(self) -> None:
        m = xp.shape(self.b)[0]
        got = tuple(map(xp.shape, (self.diagonals, self.triangles, self.b)))
        if len(xp.shape(self.reflectors)) != 2 or got != ((2, m), (2, m * (m - 1) // 2), (m,)):
            raise ShapeError(
                f"expected reflectors (K, D), diagonals (2, M), triangles (2, M (M - 1) / 2) and b (M,), got "
                f"{xp.shape(self.reflectors)} and {got}"
            )
        if not 1 <= m <= self.dim:
            raise StructureError(f"expected between 1 and D = {self.dim} directions, got {m}")

    @property
    def dim(self) -> int:
        return xp.shape(self.reflectors)[1]

    @property
    def directions(self) -> int:
        """M."""
        return xp.shape(self.b)[0]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        v, m = self._into(x), self.directions
        a = [self._above(1, i, v[..., i + 1 :]) + self._r(1, i) * v[..., i] + self.b[i] for i in range(m)]
        return self._bent(x, a, 1.0)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        w = self._into(y)
        a: list[Array] = []
        v: list[Array] = []
        for i in reversed(range(self.directions)):
            bends, known = (xp.stack(part, axis=-1) if part else w[..., :0] for part in (_tanh(a), v))
            c = self._above(1, i, known) + self.b[i]
            left = w[..., i] - self._above(0, i, bends)
            a.insert(0, unbend(self._r(1, i) * left + c, self._t(i)))  # (3)
            v.insert(0, left - self._r(0, i) * xp.tanh(a[0]))
        return self._bent(y, a, -1.0)  # (4)

    def _bent(self, x: Array, a: list[Array], sign: float) -> tuple[Array, Array]:
        """x +- Q R h(a), and +- the logarithms (2)."""
        m, h = self.directions, xp.stack(_tanh(a), axis=-1)
        rows = [self._r(0, i) * h[..., i] + self._above(0, i, h[..., i + 1 :]) for i in range(m)]
        log_slopes = [xp.log(bend_slope(a[i], self._t(i))) for i in range(m)]
        return x + sign * self._out(xp.stack(rows, axis=-1), x), sign * xp.sum(xp.stack(log_slopes, axis=-1), axis=-1)

    def _t(self, i: int) -> Array:
        return self.diagonals[0, i] * self.diagonals[1, i]

    def _r(self, which: int, i: int) -> Array:
        """r_ii or r~_ii."""
        return self.diagonals[1, i] if which else self.diagonals[0, i] * share(self._t(i))

    def _above(self, which: int, i: int, values: Array) -> Array:
        """sum_{j>i} of the matrix's row i times the values."""
        m = self.directions
        start = i * (2 * m - i - 1) // 2
        return xp.sum(values * self.triangles[which, start : start + m - 1 - i], axis=-1)

    def _into(self, x: Array) -> Array:
        """Q^T x."""
        return self._reflected(x, range(xp.shape(self.reflectors)[0]))[..., : self.directions]

    def _out(self, v: Array, x: Array) -> Array:
        """Q v, for events like x."""
        x = xp.concat([v, xp.zeros_like(x[..., self.directions :])], axis=-1)
        return self._reflected(x, reversed(range(xp.shape(self.reflectors)[0])))

    def _reflected(self, x: Array, order: Iterable[int]) -> Array:
        rows = xp.reshape(x, (math.prod(x.shape[:-1]), self.dim))
        return xp.reshape(reflected(rows, self.reflectors, order), tuple(x.shape))

    @staticmethod
    def init(
        dim: int, directions: int, *, rng: np.random.Generator, reflections: int | None = None, dtype: str = "float64"
    ) -> "Sylvester":
        """The identity (R = 0), along random directions; as many reflections as directions unless said otherwise."""
        m, k = directions, directions if reflections is None else reflections
        reflectors, diagonal = rng.standard_normal((k, dim)), rng.standard_normal(m) / dim**0.5
        upper = rng.standard_normal(m * (m - 1) // 2) / dim**0.5
        diagonals, triangles = (np.stack([np.zeros_like(a), a]).astype(dtype) for a in (diagonal, upper))
        return Sylvester(reflectors.astype(dtype), diagonals, triangles, np.zeros(m, dtype=dtype))


def _tanh(a: list[Array]) -> list[Array]:
    return [xp.tanh(v) for v in a]
