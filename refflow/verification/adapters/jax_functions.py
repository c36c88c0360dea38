"""Functions of JAX arrays, and objects with `forward` and `inverse` that return `(value, log_det)` as JAX arrays.

They take batches; an object that takes one point at a time, as equinox modules often do, is mapped over rows.
"""

import functools
import types
from dataclasses import dataclass, replace
from typing import Any

from refflow.verification.adapters import jax_targets as jt
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.jax_objects import cast, comes_from, precision, precisions
from refflow.verification.adapters.jax_programs import POINTS, Compiler, Rows
from refflow.verification.targets import Target


@dataclass(frozen=True)
class Functions:
    """Functions `(x)` or `(x, context)` of JAX arrays."""

    forward: Any = None
    inverse: Any = None
    log_prob: Any = None


def matches(obj: Any) -> bool:
    """A pair of functions, or an object with the two methods, that computes with JAX."""
    if isinstance(obj, tuple) and len(obj) == 2:
        return all(map(callable, obj)) and any(map(computes_with_jax, obj))
    return all(callable(getattr(obj, name, None)) for name in ("forward", "inverse")) and _of_jax(obj)


def _of_jax(obj: Any) -> bool:
    return (
        comes_from(obj, "equinox", "Module")
        or any(computes_with_jax(getattr(obj, name)) for name in ("forward", "inverse"))
        or any(type(v).__module__.split(".")[0] in ("jax", "jaxlib") for v in getattr(obj, "__dict__", {}).values())
    )


def computes_with_jax(function: Any) -> bool:
    """Whether a function is JAX's own (`jax.jit(f)`), or its code names a module of JAX."""
    if type(function).__module__.split(".")[0] in ("jax", "jaxlib", "equinox"):
        return True
    if isinstance(function, functools.partial):
        return computes_with_jax(function.func)
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return False
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    held = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    return any(isinstance(v, types.ModuleType) and v.__name__.split(".")[0] == "jax" for v in named) or any(
        type(v).__module__.split(".")[0] in ("jax", "jaxlib") for v in held
    )


def target(obj: Any, given: Given) -> Target:
    """Both precisions."""
    if isinstance(obj, tuple):
        obj = Functions(*obj)
    shape = given.shape(_shape(obj), type(obj).__name__)
    kinds, compiler = precisions(obj), Compiler()
    with precision(kinds[0]):
        pointwise = _takes_points(obj, shape, None if given.context is None else given.context.shape[1:])
    family = jt.Family(lambda obj, dtype: _target(obj, dtype, shape, pointwise, given, compiler), cast)
    found = family.first(obj, kinds)
    remarks = (*found.remarks, "it takes one point at a time: mapped over rows") if pointwise else found.remarks
    return replace(found, fresh=lambda: target(obj, given), remarks=remarks)


def _target(obj: Any, dtype: str, shape: tuple[int, ...], pointwise: bool, given: Given, compiler: Compiler) -> Target:
    context = None if given.context is None else given.context.shape[1:]
    transform, inverse, log_prob = (_call(name, pointwise) for name in ("forward", "inverse", "log_prob"))
    found = jt.maps(
        given.name or type(obj).__name__, obj, dtype,
        jt.Form(transform, inverse, shape, shape, context, padded=pointwise), compiler,
    )  # fmt: skip
    if getattr(obj, "forward", None) is None:
        found = replace(found, forward=None, jacobian=None)
    if getattr(obj, "inverse", None) is None:
        found = replace(found, inverse=None, inverse_jacobian=None)
    found = replace(found, context=given.context, domain=given.domain, codomain=given.codomain)
    if callable(getattr(obj, "log_prob", None)):
        return jt.density(found, log_prob, obj, dtype, compiler, padded=pointwise and POINTS)
    return found


@functools.cache
def _call(name: str, pointwise: bool) -> Rows:
    import jax

    def call(obj: Any, x: Any, *context: Any) -> Any:
        method = getattr(obj, name)
        return jax.vmap(method)(x, *context) if pointwise else method(x, *context)

    return call


def _takes_points(obj: Any, shape: tuple[int, ...], context: tuple[int, ...] | None) -> bool:
    """Whether one point gives one number as log-determinant, and a batch does not give one a row."""
    import jax

    def answers(*batch: int) -> bool:
        rows = [jax.ShapeDtypeStruct((*batch, *s), "float32") for s in (shape, context) if s is not None]
        try:
            y, log_det = jax.eval_shape(obj.forward or obj.inverse, *rows)
        except Exception:  # whatever foreign code raises: the check of shapes will say so
            return False
        return bool(y.shape == (*batch, *shape) and log_det.shape == batch)

    return not answers(3) and answers()


def _shape(obj: Any) -> tuple[int, ...] | None:
    found = next((v for name in ("event_shape", "shape") if (v := getattr(obj, name, None)) is not None), None)
    return tuple(found) if isinstance(found, tuple | list) else None
