"""Functions of a JAX object and rows, compiled once for each shape and called with NumPy arrays.

| functions | of | compiled for |
| --- | --- | --- |
| padded | one point, mapped over rows by `jax.vmap` | `padded` rows, filled up, or `MANY` |
| others | the object's own batches | the very batch that is asked about |

Padding hides nothing of the first: no row can reach another, by what vmap means. Of the others it would hide what a
row does to another, and how a batch of one differs from a batch of many.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.adapters.jax_objects import comes_from, precision
from refflow.verification.guard import preparing

POINTS = 128
"""Rows that maps of one point are compiled for: most calls of the checks have fewer."""

JACOBIANS = 16
"""Rows that Jacobians are compiled for: each of them has D^2 numbers."""

MANY = 4096
"""Rows that padded programs are compiled for besides, where a call has more than `MANY` / 4: samples, not points."""

Rows = Callable[..., Any]
"""(object, *arrays of rows) -> a tree of arrays of rows."""


class Compiler:
    """Programs of one target, of all its precisions and layers; they are freed with it."""

    def __init__(self) -> None:
        import jax

        def run(static: Any, numbers: list[Any], rows: list[Any]) -> Any:
            function, obj = _joined(static, numbers)
            return function(obj, *rows)

        self._run = jax.jit(run, static_argnums=0)
        self._seen: set[Any] = set()
        self._ways: dict[Any, str] = {}

    def way(self, function: Rows, obj: Any, dtype: str, *shapes: tuple[int, ...]) -> str:
        """How `function(obj, ...)` can be run: "compiled"; "eager: ..." where the code asks for numbers while JAX has
        only shapes; "absent: ..." where it says it is not implemented. Found once, by tracing, without computing."""
        import jax

        if (key := (function, shapes)) not in self._ways:
            try:
                with precision(dtype):
                    jax.eval_shape(
                        lambda *rows: function(obj, *rows), *(jax.ShapeDtypeStruct(s, dtype) for s in shapes)
                    )
                self._ways[key] = "compiled"
            except NotImplementedError as error:
                self._ways[key] = f"absent: {error}"
            except (jax.errors.JAXTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
                self._ways[key] = f"eager: {type(error).__name__}"
            except Exception as error:  # whatever foreign code raises: the checks that call it will say so
                wants_numbers = isinstance(error, TypeError) and ("Tracer" in str(error) or "concrete" in str(error))
                self._ways[key] = f"{'eager' if wants_numbers else 'raises'}: {type(error).__name__}"
        return self._ways[key]

    def program(
        self, function: Rows, obj: Any, dtype: str, *, padded: int = 0, eager: bool = False
    ) -> Callable[..., Any]:
        """`function(obj, ...)` as a function of NumPy rows in one precision."""
        import jax

        static, numbers = _split(function, obj)

        def part(rows: list[np.ndarray], size: int) -> Any:
            answer = self._call(static, numbers, [_ready(r, dtype, size) for r in rows], eager)
            n = len(rows[0]) if padded else None
            return jax.tree_util.tree_map(lambda a: np.asarray(a)[:n] if padded else np.asarray(a), answer)

        def call(*rows: np.ndarray) -> Any:
            with precision(dtype):
                found = [part(rows_of, _size(len(rows[0]), padded)) for rows_of in _parts(rows, padded)]
            return found[0] if len(found) == 1 else jax.tree_util.tree_map(lambda *a: np.concatenate(a), *found)

        return call

    def _call(self, static: Any, numbers: list[Any], rows: list[np.ndarray], eager: bool) -> Any:
        import jax

        key = (static, eager, tuple((v.shape, v.dtype.name) for v in (*rows, *numbers)))
        if key in self._seen:
            return self._once(static, numbers, rows, eager)
        with preparing():
            answer = jax.block_until_ready(self._once(static, numbers, rows, eager))
        self._seen.add(key)
        return answer

    def _once(self, static: Any, numbers: list[Any], rows: list[np.ndarray], eager: bool) -> Any:
        import jax

        if not eager:
            return self._run(static, numbers, rows)
        function, obj = _joined(static, numbers)
        return function(obj, *map(jax.numpy.asarray, rows))


def _parts(rows: tuple[np.ndarray, ...], padded: int) -> list[list[np.ndarray]]:
    n, size = len(rows[0]), _size(len(rows[0]), padded)
    if not padded or n <= size:
        return [list(rows)]
    return [[r[i : i + size] for r in rows] for i in range(0, n, size)]


def _size(n: int, padded: int) -> int:
    return MANY if padded == POINTS and n > MANY // 4 else padded


def _ready(rows: np.ndarray, dtype: str, size: int) -> np.ndarray:
    """The rows in the program's precision, repeated up to `size`, if it is not 0."""
    if rows.dtype.kind == "c" or rows.dtype.itemsize > 8:
        raise TypeError(f"expected rows of {dtype}, got {rows.dtype}")
    rows = rows.astype(dtype) if rows.dtype.kind == "f" else rows
    if not size:
        return rows
    return np.resize(rows, (size, *rows.shape[1:]))


def _split(function: Rows, obj: Any) -> tuple[Any, list[Any]]:
    """What a program is compiled for, and the numbers it is compiled over: those of an equinox module are arguments,
    so that layers of one structure share a program; those of other objects are constants of it."""
    import jax

    if not comes_from(obj, "equinox", "Module"):
        return (function, None, (_Same(obj),), ()), []
    leaves, tree = jax.tree_util.tree_flatten(obj)
    moving = tuple(isinstance(v, jax.Array | np.ndarray) for v in leaves)
    fixed = tuple(_Same(v) for v, m in zip(leaves, moving, strict=True) if not m)
    return (function, tree, fixed, moving), [v for v, m in zip(leaves, moving, strict=True) if m]


def _joined(static: Any, numbers: list[Any]) -> tuple[Rows, Any]:
    import jax

    function, tree, fixed, moving = static
    if tree is None:
        return function, fixed[0].value
    a, b = iter(numbers), iter(fixed)
    return function, jax.tree_util.tree_unflatten(tree, [next(a) if m else next(b).value for m in moving])


class _Same:
    """A value to compile for: plain ones are compared by value, objects by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = value if type(value) in (bool, int, float, str, type(None)) else id(value)

    def __hash__(self) -> int:
        return hash((type(self.value), self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and type(self.value) is type(other.value) and self.key == other.key


@functools.cache
def jacobian_of(function: Rows) -> Rows:
    """The Jacobians of the value of `function`, each row by itself, by forward differentiation: `(N, M, D)`."""
    import jax

    def jacobian(obj: Any, x: Any, *context: Any) -> Any:
        def one(row: Any, *c: Any) -> Any:
            def value(v: Any) -> Any:
                return function(obj, v.reshape(1, *row.shape), *(u[None] for u in c))[0].reshape(-1)

            return jax.jacfwd(value)(row.reshape(-1))

        return jax.vmap(one)(x, *context)

    return jacobian


@functools.cache
def gradient_of(log_prob: Rows) -> Rows:
    """The gradients of `log_prob` in x, each row by itself: `(N, D)`."""
    import jax

    def gradient(obj: Any, x: Any, *context: Any) -> Any:
        def one(row: Any, *c: Any) -> Any:
            return jax.grad(lambda v: log_prob(obj, v.reshape(1, *row.shape), *(u[None] for u in c))[0])(
                row.reshape(-1)
            )

        return jax.vmap(one)(x, *context)

    return gradient


@functools.cache
def parameter_gradient_of(log_prob: Rows) -> Rows:
    """The gradients of the sum of `log_prob` in the arrays of an equinox module, by name."""
    import jax

    def gradient(obj: Any, x: Any, *context: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten_with_path(obj)
        numbers = {
            jax.tree_util.keystr(path).lstrip("."): v
            for path, v in leaves
            if getattr(getattr(v, "dtype", None), "kind", "") == "f"
        }

        def total(changed: dict[str, Any]) -> Any:
            names = [jax.tree_util.keystr(path).lstrip(".") for path, _ in leaves]
            moved = [changed.get(name, v) for name, (_, v) in zip(names, leaves, strict=True)]
            return log_prob(jax.tree_util.tree_unflatten(tree, moved), x, *context).sum()

        return jax.grad(total)(numbers)

    return gradient
