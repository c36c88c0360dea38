r"""Gaussian elimination without pivoting, for small matrices whose leading minors are positive.

It is exact algebra wherever no pivot vanishes, and backward stable where the pivots are bounded from below and the
matrix from above. Both hold for A = I + J with ||J||_2 <= c < 1: each leading block A_k = I + J_k has ||J_k||_2 <= c,
so det(I + t J_k) is nowhere 0 for t in [0, 1] and, being 1 at t = 0, positive at t = 1; and the k-th pivot is
1 / (A_k^-1)_kk >= 1 - c, for ||A_k^-1||_2 <= 1 / (1 - c).
"""

from refflow.arrays.elementwise import log
from refflow.arrays.namespaces import Array
from refflow.arrays.shapes import concat, expand_dims, shape, stack, sum


def log_det_leading(a: Array) -> Array:
    """log det of matrices `(..., D, D)` whose leading minors are positive: the sum of the logarithms of the pivots."""
    logs = []
    for _ in range(shape(a)[-1]):
        logs.append(log(a[..., 0, 0]))
        a = _eliminated(a)
    return sum(stack(logs, axis=-1), axis=-1)


def solve_leading(a: Array, b: Array) -> Array:
    """The x `(..., D)` of A x = b for matrices `(..., D, D)` whose leading minors are positive and b `(..., D)`."""
    rows, size = concat([a, expand_dims(b, -1)], axis=-1), shape(a)[-1]
    pivots = []
    for _ in range(size):
        pivots.append(rows[..., 0, :])
        rows = _eliminated(rows)
    x: list[Array] = []
    for row in reversed(pivots):  # row: the pivot, what multiplies the unknowns found, the right side
        right = row[..., -1]
        for i, known in enumerate(x):
            right = right - row[..., i + 1] * known
        x.insert(0, right / row[..., 0])
    return stack(x, axis=-1)


def _eliminated(rows: Array) -> Array:
    """The rows below the first, and the columns behind it, less what the first row takes away: Schur's complement."""
    factor = rows[..., 1:, :1] / rows[..., :1, :1]
    return rows[..., 1:, 1:] - factor * rows[..., :1, 1:]
