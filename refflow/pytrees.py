"""Modules as JAX's pytrees, so that a flow itself goes through `jax.jit`, `jax.grad`, `jax.vmap` and an optimiser.

The leaves of a module are its trainable arrays, those of `parameters`: a gradient with respect to a flow is a flow of
gradients. All else is the tree's structure, compared by value, so that a step of training is compiled once. A frozen
module, and what a module has worked out of its structure (its transient fields), go along as they are, constants of
the compiled function: nothing that maps over leaves can train them.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from refflow import arrays as xp
from refflow.modules import Module, field_names, tree_equal

_CHILDREN = "_children"
"""Where a rebuilt module notes which of its fields are children: JAX puts axes and dummies there, which do not show."""


def register(jax: Any) -> None:
    """Make all classes of modules known to JAX as pytrees; those that it knows already stay as they are."""
    for cls in _subclasses(Module):
        with contextlib.suppress(ValueError):  # JAX's word for a class that is registered
            jax.tree_util.register_pytree_with_keys(
                cls, partial(_flatten_with_keys, jax.tree_util.GetAttrKey), partial(_unflatten, cls), _flatten
            )


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _is_child(value: Any) -> bool:
    """Whether a field holds arrays or modules, or a tuple of them."""
    return isinstance(value, Module) or xp.is_array(value) or (isinstance(value, tuple) and any(map(_is_child, value)))


class _Constant:
    """What goes along as it is, compared by value; its hash, asked for at every call, does not read arrays."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and _same(self.value, other.value)

    def __hash__(self) -> int:
        return hash(type(self.value))


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Module):
        return all(_same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))  # type: ignore[arg-type]
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if xp.is_array(a):
        try:
            return tree_equal(a, b)
        except TypeError:  # JAX's word for an array that is not known yet
            return False
    return bool(a == b)


def _flatten(m: Any) -> tuple[tuple[Any, ...], Any]:
    """The children of a module, among the fields that are part of the model, and its structure."""
    if not m.trainable:
        return (), _Constant(m)
    fields = {n: getattr(m, n) for n in field_names(type(m))}
    names = vars(m).get(_CHILDREN) or tuple(n for n, v in fields.items() if _is_child(v))
    structure = tuple((n, v) for n, v in fields.items() if n not in names)
    transient = tuple((f.name, getattr(m, f.name)) for f in dataclasses.fields(m) if f.name not in fields)
    return tuple(fields[n] for n in names), (names, structure, _Constant(transient))


def _flatten_with_keys(key: Any, m: Any) -> tuple[tuple[tuple[Any, Any], ...], Any]:
    children, structure = _flatten(m)
    names = structure[0] if children else ()
    return tuple((key(n), child) for n, child in zip(names, children, strict=True)), structure


def _unflatten(cls: type[Any], structure: Any, children: tuple[Any, ...]) -> Any:
    """The module again, without validation: JAX rebuilds trees of what are no arrays, too."""
    if isinstance(structure, _Constant):
        return structure.value
    names, values, transient = structure
    new: Any = object.__new__(cls)
    vars(new).update(values, **dict(transient.value), **dict(zip(names, children, strict=True)), **{_CHILDREN: names})
    return new
