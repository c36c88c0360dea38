"""Tables of numbers at knots, and formulas between neighbouring knots.

Bins run along the *first* axis of a table: comparing, selecting and summing along it are then operations on whole rows.
"""

from collections.abc import Callable
from typing import Any

from autograd.extend import defvjp

from refflow.arrays.creation import zeros_like
from refflow.arrays.elementwise import less, multiply, piecewise, real
from refflow.arrays.namespaces import Array, library, namespace
from refflow.arrays.shapes import concat, getitem, unbroadcast
from refflow.arrays.tracing import primitive


@primitive
def pick(chosen: Array, table: Array) -> Array:
    """sum_k chosen_k table_k along the first axis: for chosen_k one 1 among zeros, that entry of the table.

    Numbers that are not finite anywhere in a column make it NaN.
    """
    xp = namespace(chosen, table)
    return xp.sum(chosen * table, axis=0)


defvjp(pick, None, lambda ans, chosen, table: lambda g: unbroadcast(multiply(chosen, g), table))


def between(
    x: Array, tables: tuple[Array, ...], formula: Callable[[Array, tuple[Array, ...], tuple[Array, ...]], Any]
) -> Any:
    """formula(x, left, right) with the entries of every table at the knots to the left and the right of x.

    Tables are `(K + 1, ...)`, the rest broadcasting to x; the first holds the knots, increasing. x on a knot belongs
    to the bin on its right, x outside to the outermost bin. The formula returns a tuple of arrays of the shape of x.

    Balls may leave open in which bin x lies: then the formula is evaluated in every bin, and what remains possible is
    joined. (To join the entries instead, and evaluate once, would also enclose, but x on a knot would cost all digits.)
    """
    if library(x) == "balls":
        count = tables[0].shape[0] - 1
        right_of_x = [less(x, tables[0][k, ...]) for k in range(1, count)]
        found = [formula(x, _entries(tables, k), _entries(tables, k + 1)) for k in range(count)]
        return tuple(piecewise(right_of_x, pieces) for pieces in zip(*found, strict=True))
    left, right = _neighbours(x, tables[0])
    return formula(x, tuple(pick(left, t) for t in tables), tuple(pick(right, t) for t in tables))


def _entries(tables: tuple[Array, ...], k: int) -> tuple[Array, ...]:
    return tuple(getitem(t, (k, ...)) for t in tables)


def _neighbours(x: Array, knots: Array) -> tuple[Array, Array]:
    """Where along the first axis the knots to the left and to the right of x stand: 1 there, 0 elsewhere."""
    x, knots = real(x), real(knots)
    xp = namespace(x)
    passed = xp.astype(knots[1:-1, ...] <= x, x.dtype)  # ones, then zeros: the interior knots up to x
    none = zeros_like(x)[None, ...]
    after, before = concat([passed, none], axis=0), concat([none + 1.0, passed], axis=0)
    hot = before - after
    return concat([hot, none], axis=0), concat([none, hot], axis=0)
