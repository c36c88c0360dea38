"""What the adapters of JAX objects share: the precision that JAX computes in, and casts of parameters.

JAX rounds float64 to float32 unless `jax_enable_x64` is on. That setting is the user's, and is left alone: each call
sets it for its own thread and duration, on for float64 and off for float32, so that both precisions are verified
whatever it is. Objects are not written to: a cast makes another object.
"""

import copy
import functools
import importlib
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

FOREIGN = ("jax", "jaxlib", "numpy", "builtins", "functools", "types", "typing", "threading", "weakref", "collections")
"""Packages whose objects hold no parameters of a flow, or not in attributes."""


class Uncast(Exception):
    """An object that cannot be made in another precision: which, and why."""


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Within, and in this thread, JAX computes in float64 or in float32."""
    import jax

    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64
    with enable(dtype == "float64"):
        yield


def comes_from(obj: Any, package: str, name: str) -> bool:
    """Whether a class of that name, of that package, is among the classes of the object."""
    return any(c.__name__ == name and c.__module__.split(".")[0] == package for c in type(obj).__mro__)


def mapped(value: Any, leaf: Callable[[Any], Any], special: Callable[..., Any] | None = None) -> Any:
    """The value with `leaf` applied to its floats and arrays of floats, however deep: in containers, attributes,
    pytrees, partial functions and the closures of functions. What holds none is returned itself, not a copy.

    `special(obj, change)` may answer for an object, with `change` to be applied to its parts, or return None.
    """
    known: dict[int, tuple[Any, Any]] = {}

    def change(v: Any) -> Any:
        if id(v) not in known:
            known[id(v)] = (v, v)  # of a cycle, the way back is left as it is
            known[id(v)] = (v, found(v))
        return known[id(v)][1]

    def found(v: Any) -> Any:
        if isinstance(v, float) or (getattr(getattr(v, "dtype", None), "kind", "") == "f" and hasattr(v, "shape")):
            return leaf(v)
        if isinstance(v, dict):
            return _kept(v, {k: change(u) for k, u in v.items()}, type(v))
        if isinstance(v, list | tuple):
            parts = [change(u) for u in v]
            return _kept(v, parts, type(v)._make if hasattr(v, "_make") else type(v))
        if isinstance(v, types.FunctionType):
            return _function(v, change)
        if isinstance(v, types.MethodType):
            owner = change(v.__self__)
            return v if owner is v.__self__ else types.MethodType(v.__func__, owner)
        if isinstance(v, functools.partial):
            parts = change((v.func, v.args, v.keywords))
            return v if parts[0] is v.func and parts[1] is v.args and parts[2] is v.keywords else functools.partial(
                parts[0], *parts[1], **parts[2]
            )  # fmt: skip
        if comes_from(v, "equinox", "Module"):
            import jax

            return jax.tree_util.tree_map(change, v)
        if isinstance(v, type) or type(v).__module__.split(".")[0] in FOREIGN or not hasattr(v, "__dict__"):
            return v
        answer = None if special is None else special(v, change)
        return _attributes(v, change) if answer is None else answer

    return change(value)


def _kept(old: Any, new: Any, make: Callable[[Any], Any]) -> Any:
    pairs = zip(old.values(), new.values(), strict=True) if isinstance(old, dict) else zip(old, new, strict=True)
    return old if all(a is b for a, b in pairs) else make(new)


def _function(f: types.FunctionType, change: Callable[[Any], Any]) -> Any:
    """The function with the same code over changed closures and defaults."""
    try:
        old = [cell.cell_contents for cell in f.__closure__ or ()]
    except ValueError:  # a cell that is still empty
        return f
    cells, defaults = [change(v) for v in old], change(f.__defaults__)
    if all(a is b for a, b in zip(old, cells, strict=True)) and defaults is f.__defaults__:
        return f
    made = types.FunctionType(f.__code__, f.__globals__, f.__name__, defaults, tuple(map(types.CellType, cells)))
    made.__kwdefaults__ = f.__kwdefaults__
    return made


def _attributes(obj: Any, change: Callable[[Any], Any]) -> Any:
    """A shallow copy with changed attributes."""
    new = {k: change(v) for k, v in vars(obj).items()}
    if all(new[k] is v for k, v in vars(obj).items()):
        return obj
    made = copy.copy(obj)
    for k, v in new.items():
        object.__setattr__(made, k, v)
    return made


def cast(obj: Any, dtype: str, special: Callable[..., Any] | None = None) -> Any:
    """The object with its arrays in another precision. Python's floats stay: JAX rounds them where they are used, and
    one may be computed from others, as the intercept of a tail, in all its digits."""

    def leaf(v: Any) -> Any:
        if isinstance(v, float) and not isinstance(v, np.floating):
            return v
        if v.dtype == dtype:
            return v
        if isinstance(v, np.ndarray | np.generic):
            return v.astype(dtype)
        import jax.numpy as jnp

        return jnp.asarray(np.asarray(v), dtype=dtype)

    with precision(dtype), np.errstate(over="ignore"):
        return mapped(obj, leaf, special)


def arrays(obj: Any) -> list[np.ndarray]:
    """All arrays of floats that the object holds."""
    found: list[np.ndarray] = []

    def leaf(v: Any) -> Any:
        if not isinstance(v, float) or isinstance(v, np.floating):
            found.append(np.asarray(v))
        return v

    mapped(obj, leaf)
    return found


def precisions(obj: Any) -> tuple[str, str]:
    """Both precisions, that of the object's arrays first; if it has none, the one that the user has set."""
    import jax

    kinds = {a.dtype.name for a in arrays(obj)} & {"float32", "float64"}
    wide = kinds == {"float64"} if kinds else bool(jax.config.jax_enable_x64)
    return ("float64", "float32") if wide else ("float32", "float64")
