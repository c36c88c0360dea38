r"""Linear maps of the last axis, y = W x + b with a matrix W that is invertible whatever its parameters.

For vectors `(..., C)` (rank 1) they mix coordinates. For images `(..., H, W, C)` (rank 3) they mix the channels of
every pixel alike, with n = H W times the log-determinant: that is Glow's invertible 1x1 convolution.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros, repeats
from refflow.bijections.permutation import Permutation
from refflow.errors import ShapeError, StructureError, require_sequence
from refflow.modules import module


class _Linear(Bijection):
    """What linear maps share: the columns they mix, and how often an event repeats them."""

    rank: int

    @property
    def channels(self) -> int:
        """C, the length of the axis that is mixed."""
        raise NotImplementedError

    @property
    def event_rank(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return (self.channels,) if self.rank == 1 else None

    def _repeated(self, x: Array, log_det: Array) -> Array:
        """n log|det W| for every event of x, n = 1 for vectors and H W for images."""
        return batch_zeros(x, self.rank) + repeats(x, self.rank) * log_det


def _rows(x: Array) -> Array:
    """x as one matrix: a stack of small products would be slow."""
    return xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _solve(a: Array, rows: Array, *, lower: bool, unit_diagonal: bool = False) -> Array:
    """The rows x with a x = y for each row y."""
    columns = xp.solve_triangular(a, xp.matrix_transpose(rows), lower=lower, unit_diagonal=unit_diagonal)
    return xp.matrix_transpose(columns)


def _check(matrix: Array, shift: Array, rank: int) -> None:
    size = xp.shape(shift)
    if len(size) != 1 or xp.shape(matrix) != size * 2 or not size[0] or rank < 1:
        raise ShapeError(
            f"expected a matrix (C, C), a shift (C,) and rank >= 1, got {xp.shape(matrix)}, {size} and {rank}"
        )


def directions(vectors: Array) -> tuple[Array, Array]:
    """The vectors v `(..., D)` divided by their largest elements, and v / |v|^2 of those: what depends on directions
    alone neither overflows nor underflows. Zeros stay zeros."""
    largest = xp.max(xp.abs(xp.detach(vectors)), axis=-1, keepdims=True)  # a constant: directions do not depend on it
    v = vectors / xp.where(xp.greater(largest, 0.0), largest, 1.0)
    squares = xp.sum(xp.square(v), axis=-1, keepdims=True)
    return v, v / xp.where(xp.greater(squares, 0.0), squares, 1.0)


def reflected(rows: Array, vectors: Array, order: Iterable[int]) -> Array:
    """The rows `(n, D)` after the reflections x - 2 v (v.x) / |v|^2 in that order, the first first; v = 0 is none."""
    v, dual = directions(vectors)
    for k in order:
        along = xp.matmul(rows, xp.matrix_transpose(v[k : k + 1, :]))
        rows = rows - 2.0 * along * dual[k : k + 1, :]
    return rows


@module
class LU(_Linear):
    r"""A linear map by its LU factors (Oliva et al., 2018; Kingma and Dhariwal, 2018, section 3.2, eq. 10). For every x
    `(C,)`,

        W = P L U,   y = W x + b                                                   (1)
        log|det dy/dx| = n log|det W| = n sum_i a_i,   a_i = log u_ii              (2)
        x = U^-1 L^-1 P^-1 (y - b)                                                 (3)

    with n = 1 for vectors and n = H W for images: at `rank=3` this is Glow's invertible 1x1 convolution.

    `factors` `(C, C)` is the compact form of LAPACK's getrf with logarithms on the diagonal: L is unit lower triangular
    with the elements below the diagonal, U upper triangular with those above it and exp(a_i) on it, so that C^2 numbers
    stand for W and none is idle. P is fixed: (P v)_i = v_{order_i}. exp(a_i) > 0, so W is invertible whatever the
    parameters, and (3) is two substitutions, each as accurate as its triangle is well conditioned.

    The signs of the u_ii that Kingma and Dhariwal keep fixed are all + here: a sign is a row of W turned round.
    """

    factors: Array
    shift: Array
    order: tuple[int, ...]
    rank: int = 1

    def __post_init__(self) -> None:
        _check(self.factors, self.shift, self.rank)
        if len(Permutation(self.order).order) != self.channels:
            raise StructureError(f"expected an order of {self.channels} channels, got {self.order}")

    @property
    def channels(self) -> int:
        return xp.shape(self.shift)[0]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        u, a = self._upper()
        rows = xp.matmul(_rows(x), xp.matrix_transpose(u))
        rows = rows + xp.matmul(rows, xp.matrix_transpose(xp.tril(self.factors, -1)))  # L = 1 + what is below
        y = xp.reshape(xp.take(rows, self.order) + self.shift, tuple(x.shape))  # (1)
        return y, self._repeated(y, xp.sum(a))  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        u, a = self._upper()
        undo = tuple(sorted(range(self.channels), key=self.order.__getitem__))
        rows = xp.take(_rows(y - self.shift), undo)
        rows = _solve(self.factors, rows, lower=True, unit_diagonal=True)
        x = xp.reshape(_solve(u, rows, lower=False), tuple(y.shape))  # (3)
        return x, self._repeated(x, -xp.sum(a))  # (2)

    def _upper(self) -> tuple[Array, Array]:
        """U `(C, C)` and a `(C,)`."""
        a = xp.diagonal(self.factors)
        return xp.triu(self.factors, 1) + xp.diagonal_matrix(xp.exp(a)), a

    @staticmethod
    def init(order: tuple[int, ...], rank: int = 1, dtype: Any = "float64") -> "LU":
        """The permutation y_i = x_{order_i}; the identity if the order is 0, 1, 2, ..."""
        require_sequence(order, "order")
        n = len(order)
        return LU(np.zeros((n, n), dtype=dtype), np.zeros(n, dtype=dtype), order, rank)

    @staticmethod
    def from_matrix(weight: np.ndarray, rank: int = 1, dtype: Any = "float64") -> "LU":
        """The map whose W is the matrix, but for the signs of its rows: those that make every u_ii positive."""
        from scipy.linalg import lu

        order, lower, upper = lu(np.asarray(weight, dtype=np.float64), p_indices=True)
        d = np.diagonal(upper)
        if not np.all(np.abs(d) > 0.0):
            raise StructureError("expected an invertible matrix of finite numbers, got a singular one")
        signs = np.sign(d)  # D W = P (S L S) (S U) for D = P S P^-1
        factors = np.tril(lower * signs[:, None] * signs, -1) + np.triu(upper * signs[:, None], 1)
        factors = factors + np.diag(np.log(np.abs(d)))
        order = tuple(int(i) for i in order)
        return LU(factors.astype(dtype), np.zeros(len(d), dtype=dtype), order, rank)

    @staticmethod
    def random(channels: int, seed: int | np.random.Generator, rank: int = 1, dtype: Any = "float64") -> "LU":
        """A random rotation (Kingma and Dhariwal's start), drawn uniformly, possibly with reflections."""
        q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((channels, channels)))
        return LU.from_matrix(q * np.sign(np.diagonal(r)), rank, dtype)


@module
class Triangular(_Linear):
    r"""A linear map by a triangular matrix. For every x `(C,)`,

        y = T x + b                                                                (1)
        log|det dy/dx| = n sum_i a_i,   t_ii = exp(a_i)                            (2)
        x = T^-1 (y - b), by substitution                                          (3)

    with n = 1 for vectors and n = H W for images. `matrix` `(C, C)` holds the elements of T on the named side of the
    diagonal, and a on it; what stands on the other side is not read. exp(a_i) > 0, so T is invertible. Lower
    triangular, on a standard normal, this is every normal density (Cholesky's factor of its precision).
    """

    matrix: Array
    shift: Array
    lower: bool = True
    rank: int = 1

    def __post_init__(self) -> None:
        _check(self.matrix, self.shift, self.rank)

    @property
    def channels(self) -> int:
        return xp.shape(self.shift)[0]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        t, a = self._triangle()
        rows = xp.matmul(_rows(x), xp.matrix_transpose(t))
        y = xp.reshape(rows + self.shift, tuple(x.shape))  # (1)
        return y, self._repeated(y, xp.sum(a))  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        t, a = self._triangle()
        x = xp.reshape(_solve(t, _rows(y - self.shift), lower=self.lower), tuple(y.shape))  # (3)
        return x, self._repeated(x, -xp.sum(a))  # (2)

    def _triangle(self) -> tuple[Array, Array]:
        """T `(C, C)` and a `(C,)`."""
        a = xp.diagonal(self.matrix)
        beside = xp.tril(self.matrix, -1) if self.lower else xp.triu(self.matrix, 1)
        return beside + xp.diagonal_matrix(xp.exp(a)), a

    @staticmethod
    def init(channels: int, *, lower: bool = True, rank: int = 1, dtype: Any = "float64") -> "Triangular":
        """The identity."""
        return Triangular(np.zeros((channels, channels), dtype=dtype), np.zeros(channels, dtype=dtype), lower, rank)


@module
class Orthogonal(_Linear):
    r"""A product of Householder's reflections (Tomczak and Welling, 2016, section 3.1). For every x `(C,)`,

        y = H_K ... H_1 x,   H_k x = x - 2 v_k (v_k . x) / (v_k . v_k)             (1)
        log|det dy/dx| = 0                                                         (2)
        x = H_1 ... H_K y                                                          (3)

    `vectors` `(K, C)` holds the v_k. H depends on the direction of v alone, so v is first divided by its largest
    element, and nothing overflows or underflows. v = 0 has no direction: H = 1 there, which is orthogonal too.
    K = C reflections reach every orthogonal matrix of determinant (-1)^C.
    """

    vectors: Array
    rank: int = 1

    def __post_init__(self) -> None:
        if len(xp.shape(self.vectors)) != 2 or not self.channels or self.rank < 1:
            raise ShapeError(f"expected vectors (K, C) and rank >= 1, got {xp.shape(self.vectors)} and {self.rank}")

    @property
    def channels(self) -> int:
        return xp.shape(self.vectors)[1]

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self._reflected(x, range(xp.shape(self.vectors)[0])), batch_zeros(x, self.rank)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self._reflected(y, reversed(range(xp.shape(self.vectors)[0]))), batch_zeros(y, self.rank)  # (3), (2)

    def _reflected(self, x: Array, order: Any) -> Array:
        """x after the reflections in that order, the first first."""
        return xp.reshape(reflected(_rows(x), self.vectors, order), tuple(x.shape))

    @staticmethod
    def init(
        channels: int, seed: int | np.random.Generator, *, reflections: int, rank: int = 1, dtype: Any = "float64"
    ) -> "Orthogonal":
        """Reflections in random directions."""
        vectors = np.random.default_rng(seed).standard_normal((reflections, channels))
        return Orthogonal(vectors.astype(dtype), rank)
