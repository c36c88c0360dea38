"""Which library an array belongs to.

The one file that asks. NumPy is answered from a table; every other library is found by `array_api_compat` from the
type of the array in hand, so a library is never imported that the caller has not already imported.
"""

from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
from autograd.tracer import getval, isbox

from refflow.errors import DTypeError

Array = Any
"""An array of any library, or a traced array. The libraries share no base class, so neither can the type."""

_SCALARS = (float, int, bool, complex, type(None))
_NAMESPACES: dict[type, ModuleType | None] = {np.ndarray: np, **dict.fromkeys(_SCALARS)}
_NAMES = {"jax.numpy": "jax", "dask.array": "dask", "refflow.certified.namespace": "balls"}


def _lookup(array_type: type, value: Any) -> ModuleType | None:
    if issubclass(array_type, np.generic | np.ndarray):
        found: ModuleType | None = np
    elif array_api_compat.is_array_api_obj(value):
        found = array_api_compat.array_namespace(value)
    else:
        found = None
    return _NAMESPACES.setdefault(array_type, found)


def _namespace_or_none(x: Any) -> ModuleType | None:
    value = getval(x)
    try:
        return _NAMESPACES[type(value)]
    except KeyError:
        return _lookup(type(value), value)


def namespace(*operands: Any) -> ModuleType:
    """Return the namespace of the first array among the operands.

    >>> namespace(2.0, np.zeros(3)).__name__
    'numpy'
    """
    for x in operands:
        found = _NAMESPACES[type(x)] if type(x) in _NAMESPACES else _namespace_or_none(x)
        if found is not None:
            return found
    names = ", ".join(type(x).__name__ for x in operands)
    raise DTypeError(f"expected an array among the operands, got {names}")


def is_array(x: Any) -> bool:
    """Whether x is an array (traced or not) of some library; Python and NumPy scalars are not.

    >>> is_array(np.zeros(3)), is_array(1.5), is_array(np.float64(1.5))
    (True, False, False)
    """
    return isbox(x) or (_namespace_or_none(x) is not None and not isinstance(x, np.generic))


def device(x: Array) -> Any:
    """The device that the array lives on."""
    value = getval(x)
    found = _namespace_or_none(value)
    if found is None:
        raise DTypeError(f"expected an array, got {type(x).__name__}")
    if found is np or found.__name__ == "array_api_compat.torch":  # an attribute that needs no other library's wrapper
        return value.device
    return array_api_compat.device(value)


def library(x: Array) -> str:
    """The name of the library that the array belongs to: numpy, cupy, torch, jax, dask, balls, array_api_strict.

    >>> library(np.zeros(3))
    'numpy'
    """
    name = namespace(x).__name__.removeprefix("array_api_compat.")
    return _NAMES.get(name, name)


def require_same_library(name: str, x: Array, like: Array) -> None:
    """Refuse an array of another library or device than `like`: operators alone would coerce some of them silently."""
    if namespace(x) is not namespace(like):
        raise DTypeError(
            f"expected {name} to be a {library(like)} array like the flow's parameters, got a {library(x)} array; "
            f"convert one of them first"
        )
    here, there = device(x), device(like)
    if here != there and None not in (here, there):  # JAX's tracers live nowhere yet
        raise DTypeError(f"expected {name} on device {there} like the flow's parameters, got {here}")


def to_numpy(x: Array) -> np.ndarray:
    """Copy the array to NumPy, whatever its library: the one place where data leaves a device on purpose."""
    value = getval(x)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if library(value) == "cupy":
        return np.asarray(value.get())
    if library(value) == "torch":
        value = value.detach().cpu()
    return np.asarray(np.from_dlpack(value)) if library(value) == "array_api_strict" else np.asarray(value)
