r"""Lower triangular factors L with a positive diagonal, by their parameters.

    L_ii = exp(a_i),   L_ij = l_ij for i > j

a is `(..., D)`; l is `(..., D (D - 1) / 2)`, packed column after column: l_21, l_31, ..., l_D1, l_32, ... No entry of
either is unused. Leading axes of a and l broadcast with those of the vectors: each may have a factor of its own.
"""

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.errors import DataError


def packed_size(dim: int) -> int:
    """How many entries a triangle of a D x D matrix has below its diagonal."""
    return dim * (dim - 1) // 2


def _columns(lower: Array, dim: int) -> tuple[Array, ...]:
    """The parts of L's columns below the diagonal: `(..., D - 1)`, `(..., D - 2)`, ..., `(..., 1)`."""
    return xp.split(lower, tuple(range(dim - 1, 0, -1)))


def whiten(r: Array, log_diagonal: Array, lower: Array) -> Array:
    """L^-1 r, by forward substitution: once e_j is known, its column leaves the residual."""
    dim = xp.shape(r)[-1]
    shrink, found = xp.exp(-log_diagonal), []
    for j, column in enumerate(_columns(lower, dim)):
        e = r[..., :1] * shrink[..., j : j + 1]
        r = r[..., 1:] - e * column
        found.append(e)
    return xp.concat([*found, r * shrink[..., dim - 1 :]], axis=-1)


def color(e: Array, log_diagonal: Array, lower: Array) -> Array:
    """L e."""
    rest, found = xp.exp(log_diagonal) * e, []
    for j, column in enumerate(_columns(lower, xp.shape(e)[-1])):
        found.append(rest[..., :1])
        rest = rest[..., 1:] + e[..., j : j + 1] * column
    return xp.concat([*found, rest], axis=-1)


def factor_of(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a and l of the Cholesky factor of covariance matrices `(..., D, D)`."""
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise DataError("expected a positive definite covariance: some direction has no spread") from error
    columns = [factor[..., j + 1 :, j] for j in range(factor.shape[-1])]
    return np.log(np.diagonal(factor, axis1=-2, axis2=-1)), np.concatenate(columns, axis=-1)
