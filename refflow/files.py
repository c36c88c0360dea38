r"""The self-describing model file.

A `storage` file of kind "model", whose payload is an object with

    structure   the flow: a module is {"type": name, "fields": {...}}, an array {"tensor": its name}, a tuple a list;
                numbers, strings, true, false and null are themselves
    direction   "forward maps data to latent"
    units       "nats"
    metadata    what the writer added, such as how the flow was trained
    versions    of refflow and numpy, for people

Every class name is that of a class in refflow, whose docstring gives its equations and the layout of its arrays; a
structure's field is the class's field. Transient fields are not written. An array's name is its path of fields and
positions, as in `bijection.bijections.0.conditioner.layers.0.weight`.

Beside the flow's arrays lie `check.x` (8 of the flow's own samples), `check.log_prob` (their log-densities) and, for a
conditional flow, `check.context` (8 rows, as a user has them: before the flow's `context_preprocessing`). A reader
tests itself by comparing log p(check.x) with check.log_prob where that is finite, to half of the digits: within
sqrt(eps) (1 + |log p|), eps the dtype's. Libraries round differently by less; a wrong reading of the structure differs
by more.

A file never names something to import: classes come from the table that `register` fills.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from refflow import arrays as xp
from refflow import bijections, conditioners, convolutions, distributions, masked, preprocessing
from refflow.errors import FileError, RefflowError, StructureError
from refflow.flow import Flow
from refflow.modules import Module, arrays, bind_arrays, field_names, first_array, named_arrays
from refflow.storage import pack, read_bytes, unpack, write_atomic

CHECK_ROWS = 8
CONVENTIONS = {"direction": "forward maps data to latent", "units": "nats"}
KEYS = {*CONVENTIONS, "structure", "metadata", "versions"}
M = TypeVar("M", bound=type[Module])

_TYPES: dict[str, type[Module]] = {}


def register(cls: M) -> M:
    """Let model files hold modules of this class, by its name; usable as a decorator, above `module`.

    The program that loads such a file registers the class too.
    """
    if not (isinstance(cls, type) and issubclass(cls, Module) and "__dataclass_fields__" in vars(cls)):
        raise StructureError(f"expected a subclass of Module decorated with refflow.module to register, got {cls!r}")
    known = _TYPES.get(cls.__name__, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise StructureError(
            f"expected a new name to register, got {cls.__name__}, which {known.__module__} has: rename the class"
        )
    _TYPES[cls.__name__] = cls  # the newest, when a notebook's cell runs again
    return cls


for _room in (bijections, conditioners, masked, convolutions, distributions, preprocessing):
    for _value in vars(_room).values():
        if isinstance(_value, type) and issubclass(_value, Module) and "__dataclass_fields__" in vars(_value):
            register(_value)
register(Flow)


def save(flow: Flow, path: str | PathLike[str], metadata: dict[str, Any] | None = None) -> Path:
    """Write the flow, and JSON metadata if there are any, to one file; return its path.

    What `load` would make of the bytes is tried before they are written, and the old file, if there is one, is replaced
    only when the new one is complete. The same flow and metadata give the same bytes.
    """
    try:
        data = _bytes(flow, {} if metadata is None else metadata)
        _flow(*unpack(data, kind="model", name="the file"))
    except RefflowError as error:
        raise FileError(f"cannot save to {path}: {error}; nothing was written") from error
    return write_atomic(path, data)


def load(path: str | PathLike[str]) -> Flow:
    """Read a flow. Its arrays are NumPy's, owned and writable.

    Verified before it is returned: the digest over every byte, the structure, and the check vectors. Any other file is
    a `FileError` that says what was found.
    """
    tensors, payload = unpack(read_bytes(path), kind="model", name=str(path))
    try:
        return _flow(tensors, payload)
    except RefflowError as error:
        raise FileError(
            f"expected a flow in {path} that this refflow can build: {error} (read it with what wrote it)"
        ) from error


def read_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """The metadata that `save` was given, once the file's digest has been verified."""
    payload = unpack(read_bytes(path), kind="model", name=str(path))[1]
    if not isinstance(metadata := payload.get("metadata"), dict):
        raise FileError(f"expected metadata in {path}, got {metadata!r}")
    return metadata


def _bytes(flow: Flow, metadata: dict[str, Any]) -> bytes:
    if not isinstance(flow, Flow) or not isinstance(metadata, dict):
        raise StructureError(f"expected a Flow and a dict, got {type(flow).__name__} and {type(metadata).__name__}")
    import refflow

    payload = {
        **CONVENTIONS,
        "structure": encode(flow),
        "metadata": metadata,
        "versions": {"refflow": refflow.__version__, "numpy": np.__version__},
    }
    host = bind_arrays(flow, xp.tree_map(xp.to_numpy, arrays(flow)))  # the check vectors are of what load will return
    tensors = named_arrays(host)
    _require_finite(tensors)
    return pack({**tensors, **_check_vectors(host)}, payload, kind="model")


def _flow(tensors: dict[str, np.ndarray], payload: dict[str, Any]) -> Flow:
    """The flow of a payload, verified."""
    if payload.keys() != KEYS or any(payload[k] != v for k, v in CONVENTIONS.items()):
        raise StructureError(f"expected the entries {sorted(KEYS)} with {CONVENTIONS}, got {sorted(payload)}")
    check = {name: tensors.pop(name) for name in list(tensors) if name.startswith("check.")}
    _require_finite(tensors)
    size = check["check.x"].size // CHECK_ROWS if "check.x" in check else 0
    try:
        flow = decode(payload["structure"], tensors, size)
        if not isinstance(flow, Flow) or named_arrays(flow).keys() != tensors.keys():
            raise StructureError(f"expected a Flow with all arrays of the file, got {type(flow).__name__}")
        _verify(flow, check)
    except RefflowError:
        raise
    except Exception as error:  # whatever a hostile structure provokes in a constructor
        raise StructureError(f"its structure is not valid: {type(error).__name__}: {error}") from error
    return flow


def _require_finite(tensors: dict[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if not np.all(np.isfinite(array)):
            raise StructureError(f"expected finite parameters, got NaN or infinity in {name}: this is no density")


def encode(value: Any, name: str = "") -> Any:
    """A module as plain JSON values, its arrays by name."""
    if isinstance(value, np.integer | np.bool):  # a float32 stays one: equations would round otherwise once loaded
        value = value.item()
    if xp.is_array(value):
        return {"tensor": name}
    if isinstance(value, Module):
        cls: Any = type(value)
        if cls not in _TYPES.values():
            raise StructureError(f"expected registered classes, got {cls.__name__}: call refflow.register on it")
        at = f"{name}." if name else ""
        return {"type": cls.__name__, "fields": {n: encode(getattr(value, n), at + n) for n in field_names(cls)}}
    if isinstance(value, tuple):
        return [encode(v, f"{name}.{i}") for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise StructureError(
        f"expected a finite Python number, str, None, array, module or tuple of them in {name}, got {value!r}"
    )


def decode(value: Any, tensors: dict[str, np.ndarray], size: int) -> Any:
    """The inverse of `encode`, for events of at most `size` coordinates; every constructor checks what it is given."""
    if isinstance(value, list):
        return tuple(decode(v, tensors, size) for v in value)
    if isinstance(value, dict):
        return _decode_tensor(value, tensors) if "tensor" in value else _decode_module(value, tensors, size)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise StructureError(f"expected integers of 64 bits, got one of {value.bit_length()}")
    return value


def _decode_tensor(value: dict[str, Any], tensors: dict[str, np.ndarray]) -> np.ndarray:
    if len(value) != 1 or value["tensor"] not in tensors:
        raise StructureError(f"expected the name of an array of the file, got {value}")
    return tensors[value["tensor"]]


def _decode_module(value: dict[str, Any], tensors: dict[str, np.ndarray], size: int) -> Any:
    if value.keys() != {"type", "fields"} or not isinstance(value["fields"], dict):
        raise StructureError(f"expected a type and its fields, got the keys {sorted(value)}")
    if value["type"] not in _TYPES:
        raise StructureError(
            f"got the unknown type {value['type']!r}; if it is yours, call refflow.register before load"
        )
    cls: Any = _TYPES[value["type"]]
    if value["fields"].keys() != set(field_names(cls)):
        raise StructureError(f"expected the fields {field_names(cls)} of {cls.__name__}, got {sorted(value['fields'])}")
    fields = {name: decode(v, tensors, size) for name, v in value["fields"].items()}
    for name, field in fields.items():
        hint = _hints(cls).get(name, Any)
        if not _fits(field, hint):
            raise StructureError(f"expected {cls.__name__}.{name} of type {hint}, got {field!r:.100}")
    shape: Any = fields.get("event_shape")
    if _fits(shape, tuple[int, ...]) and math.prod(shape) > size:  # else a constructor may list all those positions
        raise StructureError(f"expected events of the {size} coordinates of check.x, got event_shape {shape}")
    return cls(**fields)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The declared types of a class's fields; none where a user's class hides the names they use."""
    try:
        return typing.get_type_hints(cls)
    except Exception:  # a NameError, or whatever evaluating the user's annotations raises
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has its field's declared type. Of arrays the constructors know more than the hints."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if typing.get_origin(hint) is tuple:
        each = parts[:1] * len(value) if isinstance(value, tuple) and parts[1:] == (...,) else parts
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if hint is float:
        return type(value) in (float, int)
    if hint in (int, str, bool, types.NoneType):
        return type(value) is hint
    return not (isinstance(hint, type) and issubclass(hint, Module)) or isinstance(value, hint)


def _check_vectors(flow: Flow) -> dict[str, np.ndarray]:
    """Eight samples of the flow and their log-densities; the context, preprocessed, is drawn from a standard normal."""
    found = {}
    if flow.context_dim:
        drawn = np.random.default_rng(0).standard_normal((CHECK_ROWS, flow.context_dim))
        found["check.context"] = xp.asarray(drawn, like=first_array(flow))
        if flow.context_preprocessing is not None:  # of the scale that the flow's own contexts have
            found["check.context"] = flow.context_preprocessing.inverse(found["check.context"])[0]
    context = found.get("check.context")
    with np.errstate(all="ignore"):
        x = flow.sample(CHECK_ROWS, seed=0) if context is None else flow.sample(1, context, seed=0)[0]
        return {**found, "check.x": x, "check.log_prob": flow.log_prob(x, context)}


def _verify(flow: Flow, check: dict[str, np.ndarray]) -> None:
    """Compare log p at the check points with the file's."""
    shapes = {"check.x": (CHECK_ROWS, *flow.event_shape), "check.log_prob": (CHECK_ROWS,)}
    if flow.context_dim:
        shapes["check.context"] = (CHECK_ROWS, flow.context_dim)
    came = {name: array.shape for name, array in check.items()}
    if came != shapes:
        raise StructureError(f"expected check vectors of shapes {shapes}, got {came}")
    want = check["check.log_prob"]
    with np.errstate(all="ignore"):
        got = flow.log_prob(check["check.x"], check.get("check.context"))
        near = np.abs(got - want) <= float(np.finfo(want.dtype).eps) ** 0.5 * (1.0 + np.abs(want))
    finite = np.isfinite(want)
    if not finite.any() or got.dtype != want.dtype or not near[finite].all():
        raise StructureError(f"expected finite {want.dtype} log p = {want} at the check points, got {got.dtype} {got}")
