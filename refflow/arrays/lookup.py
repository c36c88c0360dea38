"""Tables of numbers at knots, and formulas between neighbouring knots.

Bins run along the *first* axis of a table: comparing, selecting and summing along it are then operations on whole rows.
"""

from collections.abc import Callable

from autograd.extend import defvjp

from refflow.arrays.creation import zeros_like
from refflow.arrays.elementwise import less, multiply, piecewise, real
from refflow.arrays.namespaces import Array, library, namespace
from refflow.arrays.shapes import concat, getitem, unbroadcast
from refflow.arrays.tracing import primitive

Tables = tuple[Array, ...]
Formula = Callable[[Array, Tables, Tables, Tables], tuple[Array, ...]]


@primitive
def pick(chosen: Array, table: Array) -> Array:
    """sum_k chosen_k table_k along the first axis: for chosen_k one 1 among zeros, that entry of the table.

    Numbers that are not finite anywhere in a column make it NaN.
    """
    xp = namespace(chosen, table)
    return xp.sum(chosen * table, axis=0)


defvjp(pick, None, lambda ans, chosen, table: lambda g: unbroadcast(multiply(chosen, g), table))


def between(x: Array, at_knots: Tables, in_bins: Tables, formula: Formula) -> tuple[Array, ...]:
    """formula(x, left, right, inside): with the entries of tables at the knots left and right of x, and in its bin.

    Tables at knots are `(K + 1, ...)`, of which the first holds the knots, increasing; tables in bins are `(K, ...)`;
    the rest broadcasts to x. x on a knot belongs to the bin on its right, x outside to the outermost bin. The formula
    returns a tuple of arrays of the shape of x.

    Balls may leave open in which bin x lies: then the formula is evaluated in every bin, and what remains possible is
    joined. (To join the entries instead, and evaluate once, would also enclose, but x on a knot would cost all digits.)
    """
    if library(x) == "balls":
        bins = range(in_bins[0].shape[0])
        before = [less(x, at_knots[0][k + 1, ...]) for k in bins[:-1]]
        found = [
            formula(x, *(_entries(t, i) for t, i in ((at_knots, k), (at_knots, k + 1), (in_bins, k)))) for k in bins
        ]
        return tuple(piecewise(before, pieces) for pieces in zip(*found, strict=True))
    inside = _bin(x, at_knots[0])
    none = zeros_like(inside[:1, ...])
    left, right = concat([inside, none], axis=0), concat([none, inside], axis=0)
    return formula(
        x, *(tuple(pick(m, t) for t in ts) for m, ts in ((left, at_knots), (right, at_knots), (inside, in_bins)))
    )


def _entries(tables: Tables, k: int) -> Tables:
    return tuple(getitem(t, (k, ...)) for t in tables)


def _bin(x: Array, knots: Array) -> Array:
    """1 in the bin of x and 0 in the others, along the first axis, off the tape."""
    x, interior = real(x), real(knots)[1:-1, ...]
    none = zeros_like(x)[None, ...]
    passed = namespace(x).astype(interior <= x, x.dtype)  # ones, then zeros: the interior knots up to x
    return concat([none + 1.0, passed], axis=0) - concat([passed, none], axis=0)
