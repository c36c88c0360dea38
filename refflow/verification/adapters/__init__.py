"""Adapters: from someone's object to a `Target`, by its attributes and without importing its library.

One file a library. Each has `matches(obj) -> bool` and `target(obj, given: Given) -> Target`; the first that matches is
taken. `given` is what the caller of `verify` has said besides: event_shape, context, domain, codomain, name.
"""

import operator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from refflow.errors import ShapeError, StructureError
from refflow.verification.adapters import (
    distrax_flows,
    flowjax_flows,
    freia_objects,
    functions,
    jax_functions,
    nflows_objects,
    normflows_objects,
    refflow_flows,
    sklearn_densities,
    tfp_flows,
    torch_densities,
    torch_modules,
    torch_transforms,
    zuko_objects,
)
from refflow.verification.adapters.given import Given
from refflow.verification.targets import Target

ADAPTERS = (
    refflow_flows, nflows_objects, normflows_objects, zuko_objects, torch_transforms, torch_densities, freia_objects,
    torch_modules, flowjax_flows, distrax_flows, tfp_flows, jax_functions, sklearn_densities,
)  # fmt: skip
"""In the order asked: the most particular first."""


def recognise(obj: Any, *, name: str | None = None, **given: Any) -> Target:
    """The target that `verify`'s arguments describe."""
    told = {k: v for k, v in given.items() if v is not None}
    names = {f.name for f in fields(Target)}
    if unknown := [k for k in told if k not in names]:
        raise StructureError(f"expected arguments of verify or fields of Target, got {', '.join(unknown)}")
    asked = _given(name, told)
    if obj is not None and (both := [k for k in ("forward", "inverse") if k in told]):
        raise StructureError(f"expected an object or functions, got a {type(obj).__name__} and {' and '.join(both)}=")
    if obj is None:
        if any(jax_functions.computes_with_jax(told.get(name)) for name in ("forward", "inverse", "log_prob")):
            calls = {name: told.pop(name) for name in ("forward", "inverse", "log_prob") if name in told}
            more = {k: v for k, v in told.items() if k not in ("event_shape", "context")}
            return replace(jax_functions.target(jax_functions.Functions(**calls), asked), **more)
        return functions.target(asked, told)
    if isinstance(obj, Target):
        return replace(obj, name=name or obj.name, **told)
    for adapter in ADAPTERS:
        if adapter.matches(obj):
            found: Target = adapter.target(obj, asked)
            more = {k: v for k, v in told.items() if k not in ("event_shape", "context")}
            return _told(found, more)
    if isinstance(obj, type):
        raise StructureError(f"expected a flow, got the class {obj.__qualname__}: give an instance of it")
    raise StructureError(
        f"expected a flow of a known library, got a {type(obj).__module__}.{type(obj).__qualname__}: give its "
        "functions as forward=, inverse=, log_prob=, sample= and its event_shape="
    )


def _told(found: Target, more: dict[str, Any]) -> Target:
    """The target with what the caller has said besides, in every precision, mode and copy of it."""
    if not more:
        return found

    def of(make: Any) -> Any:
        return None if make is None else lambda *arguments: _told(make(*arguments), more)

    modes = {name: _told(mode, more) for name, mode in found.modes.items()}
    return replace(found, **{"cast": of(found.cast), "fresh": of(found.fresh), "modes": modes} | more)


def _given(name: str | None, told: dict[str, Any]) -> Given:
    shape, context = told.get("event_shape"), told.get("context")
    if shape is not None:
        told["event_shape"] = shape = _shape(shape)
    if context is not None:
        context = np.asarray(context)
        if context.ndim != 2 or not len(context):
            raise ShapeError(f"expected context as rows (M, C), got an array of shape {context.shape}")
        if context.dtype.kind not in "fiub" or not np.isfinite(context).all():
            raise ShapeError(f"expected context of finite numbers, got {context.dtype}: {context.ravel()[:3]} ...")
        told["context"] = context
    for side in ("domain", "codomain"):
        if side in told and not (np.shape(told[side]) == (2,) and told[side][0] < told[side][1]):
            raise StructureError(f"expected {side} as (low, high) with low < high, got {told[side]!r}")
        if side in told and np.isneginf(told[side][0]) and np.isposinf(told[side][1]):
            del told[side]  # all of space, which is said by saying nothing
    return Given(name, shape, context, told.get("domain"), told.get("codomain"))


def _shape(given: Any) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(n) for n in (given if np.ndim(given) else (given,)))
    except TypeError as error:
        raise ShapeError(f"expected event_shape as a number or several, got {given!r}") from error
    if shape and min(shape) < 1:
        raise ShapeError(f"expected event_shape as numbers of at least 1, got {given!r}")
    return shape
