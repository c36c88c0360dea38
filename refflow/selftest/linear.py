"""Faults of linear maps: determinants, inverses and their caches."""

from typing import Any

import numpy as np

from refflow.selftest.layers import LU, Array, Chain, Pair, constant, keywords, solve_lower, solve_upper
from refflow.selftest.subjects import Keywords, Recipe


def linear(scale: float, seed: int, **parts: Any) -> Keywords:
    """y = P L U x on four coordinates, U with negative entries on its diagonal."""
    rng = np.random.default_rng([seed, 3])
    return keywords(parts.get("chain", Chain)([parts.get("lu", LU)(rng, 4, scale)]), (4,))


LINEAR = Recipe("LU", "linear", linear)


@LINEAR.fault("log-det without the absolute value", "LD1 LD2 NF", part="lu")
class NoAbsolute(LU):
    """log diag U of a diagonal with negative entries: NaN."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        with np.errstate(invalid="ignore"):
            return super().forward(x, c)[0], constant(np.sum(np.log(np.diag(self.factors(x)[1]))), x)


@LINEAR.fault("negative entries left out of the log-det", "LD1 LD2", part="lu")
class Floored(LU):
    """log max(diag U, 1e-3), to be rid of the NaN."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x, c)[0], self.floored(x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], -self.floored(y)

    def floored(self, x: Array) -> Array:
        return constant(np.sum(np.log(np.maximum(np.diag(self.factors(x)[1]), 1e-3))), x)


@LINEAR.fault("determinant for its logarithm", "LD1 LD2", part="lu")
class NoLog(LU):
    """prod |diag U| with no log around it."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x, c)[0], constant(np.exp(np.sum(self.get("d", x))), x)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y, c)[0], constant(-np.exp(np.sum(self.get("d", y))), y)


@LINEAR.fault("log-det a scalar", "SH", part="lu")
class ScalarLogDet(LU):
    """It is the same for all rows, so it is returned once."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        return super().forward(x, c)[0], np.sum(self.get("d", x))


@LINEAR.fault("log-det counts L and U alike", "LD1 LD2", part="lu")
class CountedTwice(LU):
    """slogdet of L U plus the logarithms of the diagonal of U."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return y, 2.0 * log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        x, log_det = super().inverse(y, c)
        return x, 2.0 * log_det


@LINEAR.fault("inverse of the transpose", "RT1 RT2", part="lu")
class Transposed(LU):
    """x W^T in one library is W x in another."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        return solve_upper(lower.T, solve_lower(upper.T, y[..., self.back])), super().inverse(y, c)[1]


@LINEAR.fault("L and U undone in forward's order", "RT1 RT2", part="lu")
class WrongFactorFirst(LU):
    """U^-1 first."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        return solve_lower(lower, solve_upper(upper, y[..., self.back])), super().inverse(y, c)[1]


@LINEAR.fault("pivots forgotten in the inverse", "RT1 RT2", part="lu")
class NoPivots(LU):
    """lu_factor's permutation used once."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y[..., self.order], c)


@LINEAR.fault("pivots off: the permutation of the inverse is P, not P^T", "RT1 RT2", part="lu")
class PivotsAgain(LU):
    """SciPy's A = P L U against another library's P A = L U."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(y[..., self.order][..., self.order], c)


@LINEAR.fault("diagonal taken positive in the inverse", "RT1 RT2", part="lu")
class SignDropped(LU):
    """The signs are a buffer that was not saved with the parameters."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        positive = upper * np.where(np.eye(len(upper), dtype=bool), self.sign, 1.0).astype(upper.dtype)
        return solve_upper(positive, solve_lower(lower, y[..., self.back])), super().inverse(y, c)[1]


@LINEAR.fault("unit diagonal of L not set in the inverse", "RT1 RT2", part="lu")
class StoredDiagonal(LU):
    """L and U packed in one matrix: the triangular solver reads U's diagonal for L's."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        packed = np.tril(lower, -1) + np.diag(np.diag(upper))
        return solve_upper(upper, solve_lower(packed, y[..., self.back])), super().inverse(y, c)[1]


@LINEAR.fault("inverse matrix cached across a change of parameters", "ME", part="lu")
class StaleInverse(LU):
    """W^-1 is computed at the first call and kept; training goes on."""

    cached: Any = None

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        if self.cached is None:
            self.cached = self.factors(y.real.astype(np.longdouble))
        lower, upper = (m.astype(y.real.dtype) for m in self.cached)
        x = solve_upper(upper, solve_lower(lower, y[..., self.back]))
        return x, super().inverse(y, c)[1]


@LINEAR.fault("log-det cached across a change of parameters", "ME", part="lu")
class StaleLogDet(LU):
    """The value is right as long as nobody trains."""

    cached: Any = None

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        if self.cached is None:
            self.cached = self.parameters["d"]
        return super().forward(x, c)[0], constant(np.sum(self.cached.astype(x.real.dtype)), x)


@LINEAR.fault("a ridge of 1e-5 in the inverse", "RT1 RT2", part="lu")
class Ridge(LU):
    """U + 1e-5 I, to make sure that it can be inverted."""

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        lower, upper = self.factors(y)
        upper = upper + 1e-5 * np.eye(len(upper), dtype=upper.dtype)
        return solve_upper(upper, solve_lower(lower, y[..., self.back])), super().inverse(y, c)[1]


@LINEAR.fault("values saturate at 50", "ON RT2", part="chain")
class Saturating(Chain):
    """50 tanh(y / 50) behind the map, with its inverse and its log-det right: for |y| > 50 there is no x."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        u = y / 50.0
        return 50.0 * np.tanh(u), log_det - 2.0 * np.sum(np.log(np.cosh(u)), axis=-1)

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        with np.errstate(all="ignore"):
            u = np.arctanh(y / 50.0)
            x, log_det = super().inverse(50.0 * u, c)
            return x, log_det + 2.0 * np.sum(np.log(np.cosh(u)), axis=-1)


@LINEAR.fault("clamped at 50 in both directions", "ON RT1 RT2", part="chain")
class Limited(Chain):
    """Values are kept within +-50, so that the map is not onto."""

    def forward(self, x: Array, c: Array | None = None) -> Pair:
        y, log_det = super().forward(x, c)
        return np.where(abs(y.real) > 50.0, 50.0 * np.sign(y.real), y).astype(y.dtype), log_det

    def inverse(self, y: Array, c: Array | None = None) -> Pair:
        return super().inverse(np.where(abs(y.real) > 50.0, 50.0 * np.sign(y.real), y).astype(y.dtype), c)
