"""The law of structure: y_i does not depend on x_j where the target says so, and what passes through stays exact."""

from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.comparison import SUMMATION, Context, columns, excess, half, taken
from refflow.verification.conditioning import unit
from refflow.verification.verdicts import Finding, LawViolation

COLUMNS = 32
"""At most so many coordinates are changed, spread over all of them."""

ROWS = 6


@np.errstate(all="ignore")
def independence(f: Any, structure: np.ndarray, x: np.ndarray, context: Context = None) -> Finding:
    """y_i stays the same where structure_ij is False and x_j becomes another row's.

    The rows stay in their places and the batch keeps its size. Bit for bit, but for what picking rows out of a batch
    may cost: 64 u kappa.
    """
    x, context = x[:ROWS], taken(context, slice(ROWS))
    changed, index, tiled = flipped(x)
    c = taken(context, tiled)
    before, after = forward(f, x[tiled], c), forward(f, changed, c)
    size = len(columns(before)[0]) - 1
    if structure.shape != (size, x[0].size):
        where = f"structure of shape {structure.shape}: y has {size} coordinates"
        raise LawViolation("independence", np.inf, 0.0, where)
    free = ~structure[:, index].T
    unjudged = columns(after)
    unjudged[:, :-1] = np.where(free, unjudged[:, :-1], columns(before)[:, :-1])
    unjudged[:, -1] = columns(before)[:, -1]
    kept = unjudged[:, :-1].reshape(np.shape(after[0])), unjudged[:, -1]
    rho = excess(f, x[tiled], c, before, kept)
    row, i = (int(k) for k in np.unravel_index(np.argmax(rho), rho.shape))
    if rho.max() > half(x.dtype):
        where = f"x = {x[tiled][row].tolist()}: y[{i}] moves with x[{index[row]}]"
        raise LawViolation("independence", float(rho.max()), half(x.dtype), where, (x[tiled][row], taken(c, row)))
    return Finding("independence", "pass" if free.any() else "inconclusive", float(rho.max()), half(x.dtype),
                   1.0 if free.any() else 0.0)  # fmt: skip


def flipped(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with one coordinate replaced by another row's, the number of that coordinate, and of the row it was."""
    n, size = len(x), x[0].size
    chosen = np.unique(np.linspace(0, size - 1, COLUMNS).astype(int))
    tiled, index = np.tile(np.arange(n), len(chosen)), np.repeat(chosen, n)
    flat = np.array(x).reshape(n, size)[tiled]
    flat[np.arange(len(flat)), index] = np.roll(x.reshape(n, size), 1, axis=0)[tiled, index]
    return flat.reshape(-1, *x.shape[1:]), index, tiled


def influence(f: Any, x: np.ndarray, context: Context = None, limit: int = ROWS) -> np.ndarray:
    """Which y_i move when x_j does, `(M, D)`, at any of a few rows; all of a column where it was not tried."""
    x, context = x[:limit], taken(context, slice(limit))
    changed, index, tiled = flipped(x)
    c = taken(context, tiled)
    with np.errstate(all="ignore"):
        a, b = (columns(forward(f, rows, c))[:, :-1] for rows in (x[tiled], changed))
        moves = np.abs(a - b) > SUMMATION * unit(x.dtype) * (np.abs(a) + np.abs(b))
    found = np.ones((a.shape[1], x[0].size), dtype=bool)
    for j in np.unique(index):
        found[:, j] = (moves | np.isnan(a) | np.isnan(b))[index == j].any(axis=0)
    return found


@np.errstate(all="ignore")
def passes_through(f: Any, x: np.ndarray, context: Context = None) -> Finding:
    """Coordinates that are handed on unchanged at all rows are so at numbers with more digits, too.

    Rows are rounded to float32, so that a cast on the way shows only beside them. What is handed on through other
    numbers may lose its last digits: a fault is what loses half of them.
    """
    y = np.asarray(forward(f, x, context)[0])
    rows, image = x.reshape(len(x), -1), y.reshape(len(x), -1)
    pairs = [(i, j) for i in range(image.shape[1]) for j in range(rows.shape[1])
             if rows.shape[1] <= COLUMNS and np.array_equal(image[:, i], rows[:, j])]  # fmt: skip
    if not pairs:
        return Finding("passes_through", "skipped", judged=0.0, remark="no mask is declared, nothing passes through")
    shift = 1.0 + np.random.default_rng(0).uniform(0.25, 0.75, rows.shape) * 2.0**-23
    near = np.asarray(rows * shift, dtype=x.dtype)
    image = np.asarray(forward(f, near.reshape(x.shape), context)[0]).reshape(len(x), -1)
    i, j = (list(k) for k in zip(*pairs, strict=True))
    lost = np.abs(image[:, i] - near[:, j]) / (unit(x.dtype) * np.abs(near[:, j]))
    lost = np.where(image[:, i] == near[:, j], 0.0, lost)
    line = float(unit(x.dtype) ** -0.5)
    if not lost.max() <= line:
        row, k = (int(n) for n in np.unravel_index(np.argmax(lost), lost.shape))
        where = f"x = {near[row].tolist()}: x[{j[k]}] passes through to y[{i[k]}] with a rounding"
        found = near[row].reshape(x.shape[1:]), taken(context, row)
        raise LawViolation("passes_through", float(lost.max()), line, where, found)
    return Finding("passes_through", "pass", float(lost.max()), line)
