"""Bare functions of NumPy arrays."""

from dataclasses import replace
from typing import Any

from refflow.errors import StructureError
from refflow.verification.adapters.given import Given
from refflow.verification.targets import Target

CALLS = ("forward", "inverse", "log_prob", "sample", "sample_and_log_prob")


def target(given: Given, told: dict[str, Any]) -> Target:
    """The functions as a target; layers may be given as dictionaries of functions."""
    if not any(name in told for name in CALLS):
        raise StructureError(f"expected a flow, or at least one function of {', '.join(CALLS)}")
    for name in CALLS:
        if name in told and not callable(told[name]):
            raise StructureError(f"expected a function for {name}, got a {type(told[name]).__name__}")
    shape = given.shape(None, "function")
    layers = tuple(
        part if isinstance(part, Target) else Target(f"layer {i}", shape, **part)
        for i, part in enumerate(told.get("layers", ()))
    )
    changes: dict[str, Any] = {"layers": layers}
    if (fresh := told.get("fresh")) is not None:  # it may return the functions again, as verify takes them
        changes["fresh"] = lambda: made if isinstance(made := fresh(), Target) else _again(given, made)
    return Target(given.name or _name(told), **{**told, **changes})


def _again(given: Given, made: dict[str, Any]) -> Target:
    shape = made.get("event_shape", given.event_shape)
    return target(replace(given, event_shape=shape), {**made, "event_shape": shape})


def _name(told: dict[str, Any]) -> str:
    function = next(told[name] for name in CALLS if name in told)
    return str(getattr(function, "__qualname__", type(function).__name__))
