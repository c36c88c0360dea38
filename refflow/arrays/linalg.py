"""Triangles of matrices, and equations with them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from autograd.core import defvjp_argnums
from autograd.extend import defvjp
from autograd.tracer import getval

from refflow.arrays.elementwise import divide, negative, subtract
from refflow.arrays.namespaces import Array, library, namespace
from refflow.arrays.shapes import (
    astype,
    broadcast_to,
    concat,
    expand_dims,
    getitem,
    matmul,
    matrix_transpose,
    shape,
    sum,
)
from refflow.arrays.tracing import primitive
from refflow.errors import ShapeError


@primitive
def tril(x: Array, k: int = 0) -> Array:
    """The elements on and below the k-th diagonal of a matrix, zeros above it, whatever stood there."""
    return namespace(x).tril(x, k=k)


@primitive
def triu(x: Array, k: int = 0) -> Array:
    """The elements on and above the k-th diagonal of a matrix, zeros below it, whatever stood there."""
    return namespace(x).triu(x, k=k)


defvjp(tril, lambda ans, x, k=0: lambda g: tril(g, k))
defvjp(triu, lambda ans, x, k=0: lambda g: triu(g, k))


def diagonal(x: Array) -> Array:
    """The diagonal `(n,)` of a matrix `(n, n)`."""
    return sum(tril(triu(x)), axis=-1)


def diagonal_matrix(x: Array) -> Array:
    """The matrix `(n, n)` with the diagonal x `(n,)` and zeros elsewhere."""
    n = shape(x)[0]
    return tril(triu(broadcast_to(expand_dims(x, -1), (n, n))))


def solve_triangular(a: Array, b: Array, *, lower: bool, unit_diagonal: bool = False) -> Array:
    """The solution x `(n, k)` of a x = b, for a triangular matrix a `(n, n)` and a right-hand side b `(n, k)`.

    Only the lower or the upper triangle of a is read, and of that not the diagonal if it is a unit one. The computed
    x solves (a + e) x = b with |e| <= (n + 1) u |a| element by element (Higham, 2002, theorem 8.5; u more where the
    library multiplies by 1 / a_ii), as substitution does.
    """
    if len(shape(a)) != 2 or len(shape(b)) != 2 or shape(a) != (shape(b)[0],) * 2:
        raise ShapeError(f"expected a of shape (n, n) and b of shape (n, k), got {shape(a)} and {shape(b)}")
    return _solve(a, b, lower, unit_diagonal)


@primitive
def _solve(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    if namespace(a) is namespace(b) and 0 not in shape(b):
        solver = _SOLVERS.get(library(b))
        if solver is not None and (library(b) != "numpy" or np.result_type(a, b).char in "fdFD"):
            dtype = namespace(b).result_type(a, b)
            return solver(_cast(a, dtype), _cast(b, dtype), lower, unit_diagonal)
    return _substitute(a, b, lower, unit_diagonal)


def _substitute(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    """x_i = (b_i - sum_j a_ij x_j) / a_ii, over the j that are known, in any arithmetic."""
    n = shape(b)[0]
    x: list[Any] = [None] * n
    for i in range(n) if lower else reversed(range(n)):
        row, known = slice(i, i + 1), slice(0, i) if lower else slice(i + 1, n)
        rest = getitem(b, (row, slice(None)))
        if x[known]:
            rest = subtract(rest, matmul(getitem(a, (row, known)), concat(x[known], axis=0)))
        x[i] = rest if unit_diagonal else divide(rest, getitem(a, (row, row)))
    return concat(x, axis=0)


def _solve_vjp(argnums: Sequence[int], ans: Array, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """With h = a^-T g: the cotangent of b is h, and that of a is -h x^T where a was read."""
    a, b, lower, unit_diagonal = args

    def vjp(g: Array) -> Any:
        h = _solve(matrix_transpose(a), g, not lower, unit_diagonal)
        for i in argnums:
            if i == 0:
                whole = negative(matmul(h, matrix_transpose(ans)))
                read = tril(whole, -int(unit_diagonal)) if lower else triu(whole, int(unit_diagonal))
                yield _cast(read, getval(a).dtype)
            else:
                yield _cast(h, getval(b).dtype)

    return vjp


defvjp_argnums(_solve, _solve_vjp)


def _cast(x: Array, dtype: Any) -> Array:
    return x if getval(x).dtype == dtype else astype(x, dtype)


# The libraries' own solvers, imported when an array of theirs is first met.


def _numpy(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    """BLAS, without SciPy's checks: a NaN or an underflown diagonal spoils its own columns and raises nothing."""
    from scipy.linalg import get_blas_funcs

    (trsm,) = get_blas_funcs(("trsm",), (a, b))
    return trsm(1.0, a, b, lower=lower, diag=unit_diagonal)


def _torch(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    import torch

    return torch.linalg.solve_triangular(a, b, upper=not lower, unitriangular=unit_diagonal)


def _jax(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    from jax.scipy.linalg import solve_triangular

    return solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal)


def _cupy(a: Array, b: Array, lower: bool, unit_diagonal: bool) -> Array:
    from cupyx.scipy.linalg import solve_triangular

    return solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal)


_SOLVERS: dict[str, Callable[[Array, Array, bool, bool], Array]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "cupy": _cupy,
}
