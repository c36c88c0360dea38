"""Modules, and the one bridge from a module to its arrays and back.

A module is a frozen dataclass. A field that holds an array is a trainable parameter; a field that holds an int,
float, str, bool or a tuple of them is structure; other fields hold modules or tuples of modules. Nothing else is
state, so the nested dict of arrays that `parameters` returns, and `bind` puts back, is all that an optimiser, a file,
a device or another framework needs:

>>> import numpy as np, refflow
>>> flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.ElementwiseAffine(np.zeros(2), np.ones(2)))
>>> refflow.parameters(flow)
{'bijection': {'log_scale': array([0., 0.]), 'shift': array([1., 1.])}}
>>> moved = refflow.bind(flow, refflow.tree_map(lambda a: a + 1.0, refflow.parameters(flow)))
>>> moved.bijection.shift
array([2., 2.])

What must not train though it is an array is wrapped in `Frozen`: `parameters` passes over it, `arrays` does not.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np
from autograd.tracer import getval

from refflow import arrays as xp
from refflow.arrays import Array, Tree
from refflow.errors import DTypeError, StructureError

T = TypeVar("T")


class Module:
    """Anything that may hold parameters: bijections, conditioners, base densities, flows."""

    trainable: ClassVar[bool] = True
    """Whether arrays below this module are parameters."""

    def __repr__(self) -> str:
        return _describe(self)

    def to(self: T, library: str, device: Any = None) -> T:
        """The module with its arrays in another library, such as cupy, torch or jax; see `refflow.backends.move`."""
        from refflow import backends

        return backends.move(self, library, device)


@dataclass_transform(frozen_default=True, eq_default=False)
def module(cls: type[T]) -> type[T]:
    """Make the class a module: a frozen dataclass, compared by identity, whose repr shows structure and shapes."""
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)


_FIELDS: dict[type, tuple[str, ...]] = {}


def field_names(cls: type) -> tuple[str, ...]:
    """The fields of a module class that are part of the model; transient ones (a dropout generator) are not."""
    if cls not in _FIELDS:
        _FIELDS[cls] = tuple(f.name for f in dataclasses.fields(cls) if not f.metadata.get("transient"))
    return _FIELDS[cls]


EMPTY: dict[str, Any] = {}
"""The tree of a module without arrays: left out of dicts, kept in tuples to hold the place."""


def _tree(value: Any, everything: bool) -> Tree | None:
    if xp.is_array(value):
        return value
    if isinstance(value, Module):
        if not (everything or value.trainable):
            return EMPTY
        found = {name: _tree(getattr(value, name), everything) for name in field_names(type(value))}
        return (
            EMPTY
            if all(map(_is_empty, found.values()))
            else {name: branch for name, branch in found.items() if not _is_empty(branch)}
        )
    if isinstance(value, tuple | list) and any(isinstance(v, Module) or xp.is_array(v) for v in value):
        if isinstance(value, list):
            raise StructureError(
                "expected a tuple of modules or arrays in a module, got a list: lists are no structure"
            )
        return tuple(_tree(v, everything) for v in value)
    return None


def tupled(m: Module, *names: str) -> None:
    """Make tuples of the fields, given as lists or arrays: for the first lines of `__post_init__`."""
    for name in names:
        value = getattr(m, name)
        if not isinstance(value, tuple):
            items = value.tolist() if isinstance(value, np.ndarray) else value
            object.__setattr__(m, name, tuple(items))


def _is_empty(branch: Tree | None) -> bool:
    return branch is None or branch is EMPTY


def parameters(m: Any) -> Tree:
    """The trainable arrays of a module as a nested dict and tuple, in the order of its fields."""
    return _tree(m, everything=False)


def arrays(m: Any) -> Tree:
    """All arrays of a module, trainable or frozen, in the same form as `parameters`."""
    return _tree(m, everything=True)


def bind(m: T, tree: Tree) -> T:
    """Return the module with its trainable arrays replaced by those of the tree; the inverse of `parameters`.

    The tree must have the structure of `parameters(m)` and its shapes; library, device and dtype may differ.
    """
    return _replace(m, tree, False, type(m).__name__)  # type: ignore[no-any-return]


def bind_arrays(m: T, tree: Tree) -> T:
    """Return the module with all its arrays, frozen ones included, replaced; the inverse of `arrays`."""
    return _replace(m, tree, True, type(m).__name__)  # type: ignore[no-any-return]


def map_arrays(function: Callable[[Array], Array], m: T) -> T:
    """Return the module with the function applied to every array: another dtype, library or device.

    >>> import refflow
    >>> map_arrays(lambda a: a.astype("float32"), refflow.ElementwiseAffine(np.zeros(2), np.ones(2)))
    ElementwiseAffine(log_scale=float32[2], shift=float32[2])
    """
    return bind_arrays(m, xp.tree_map(function, arrays(m)))


def _replace(value: Any, tree: Any, everything: bool, where: str) -> Any:
    if xp.is_array(value):
        if not xp.is_array(tree):
            raise DTypeError(f"expected an array at {where}, got a {type(tree).__name__}")
        if xp.shape(tree) != xp.shape(value):
            raise StructureError(f"expected shape {xp.shape(value)} at {where}, got {xp.shape(tree)}")
        return tree
    if isinstance(value, tuple) and isinstance(tree, tuple | list) and len(tree) == len(value):
        pairs = enumerate(zip(value, tree, strict=True))
        return tuple(_replace(v, t, everything, f"{where}.{i}") for i, (v, t) in pairs)
    if isinstance(value, Module) and isinstance(tree, dict):
        names = field_names(type(value)) if everything or value.trainable else ()
        missing = [n for n in names if n not in tree and not _is_empty(_tree(getattr(value, n), everything))]
        if missing or not tree.keys() <= set(names):
            raise StructureError(f"expected the arrays below {[*tree, *missing]} at {where}, got {list(tree)}")
        changed = {n: _replace(getattr(value, n), t, everything, f"{where}.{n}") for n, t in tree.items()}
        return replace(value, **changed) if changed else value
    raise StructureError(f"expected the tree that parameters() gives at {where}, got {_brief(tree)}")


def _brief(tree: Any) -> str:
    return f"a {type(tree).__name__}" + (f" of length {len(tree)}" if isinstance(tree, tuple | list | dict) else "")


def replace(m: T, **fields: Any) -> T:
    """A copy of the module with some fields replaced, without validation: structure was validated when m was made."""
    new = object.__new__(type(m))
    new.__dict__.update(m.__dict__)
    new.__dict__.update(fields)
    return new


def map_modules(function: Callable[[Any], Any], value: T) -> T:
    """Rebuild a module from its parts upwards, passing every module in it through the function."""
    if isinstance(value, Module):
        fields = {n: getattr(value, n) for n in field_names(type(value))}
        changed = {n: new for n, old in fields.items() if (new := map_modules(function, old)) is not old}
        return function(replace(value, **changed) if changed else value)  # type: ignore[no-any-return]
    if isinstance(value, tuple) and any(isinstance(v, Module) for v in value):
        new = tuple(map_modules(function, v) for v in value)
        return value if all(a is b for a, b in zip(new, value, strict=True)) else new  # type: ignore[return-value]
    return value


def named_arrays(m: Any) -> dict[str, Array]:
    """All arrays by dotted name, in the order of the structure: the tensor names of model files.

    >>> import refflow
    >>> list(named_arrays(refflow.nice(2, layers=1, hidden=(3,), seed=0)))[:2]
    ['bijection.bijections.0.conditioner.layers.0.weight', 'bijection.bijections.0.conditioner.layers.0.bias']
    """
    return dict(_names(arrays(m), ()))


def _names(tree: Tree, path: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    if isinstance(tree, dict):
        for key, branch in tree.items():
            yield from _names(branch, (*path, str(key)))
    elif isinstance(tree, tuple | list):
        for i, branch in enumerate(tree):
            yield from _names(branch, (*path, str(i)))
    else:
        yield ".".join(path), tree


def tree_equal(a: Tree, b: Tree) -> bool:
    """Whether two trees agree in structure and, leaf by leaf, in dtype, shape and every bit pattern's value.

    >>> tree_equal({"a": np.zeros(2)}, {"a": np.zeros(2)}), tree_equal({"a": np.zeros(2)}, {"a": np.zeros(3)})
    (True, False)
    """
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(tree_equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(tree_equal, a, b))
    x, y = xp.to_numpy(a), xp.to_numpy(b)
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def first_array(m: Any) -> Array:
    """The first array of a module: what library, device and dtype it computes in. NumPy float64 if it has none."""
    found = _first(m)
    return np.zeros(()) if found is None else found


def _first(value: Any) -> Array | None:
    if isinstance(value, Module):
        for name in field_names(type(value)):
            if (found := _first(getattr(value, name))) is not None:
                return found
    elif isinstance(value, tuple):
        for part in value:
            if isinstance(part, int | float | str):  # a tuple of numbers or names is structure
                return None
            if (found := _first(part)) is not None:
                return found
    elif xp.is_array(value):
        return value
    return None


def _describe(value: Any, indent: str = "") -> str:
    if xp.is_array(value):
        dtype = str(getval(value).dtype).rpartition(".")[2]
        return f"{dtype}[{', '.join(map(str, xp.shape(value)))}]"
    if isinstance(value, Module):
        parts = [f"{n}={_describe(getattr(value, n), indent + '  ')}" for n in field_names(type(value))]
        return _bracket(type(value).__name__ + "(", parts, ")", indent)
    if isinstance(value, tuple) and any(isinstance(v, Module) or xp.is_array(v) for v in value):
        return _bracket("(", [_describe(v, indent + "  ") for v in value], ")", indent)
    if isinstance(value, tuple) and len(value) > 12:
        return f"({', '.join(map(repr, value[:4]))}, ... {len(value)} in all)"
    return repr(value)


def _bracket(head: str, parts: list[str], tail: str, indent: str) -> str:
    line = head + ", ".join(parts) + tail
    if len(line) + len(indent) <= 100 and "\n" not in line:
        return line
    return head + "".join(f"\n{indent}  {part}," for part in parts) + f"\n{indent}{tail}"
