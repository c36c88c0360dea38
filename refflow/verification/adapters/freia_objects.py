"""FrEIA: invertible modules, `SequenceINN` and `GraphINN`.

Modules take and return sequences of tensors, and a direction: `m([x], c=[c], rev=False, jac=True) -> ((y,), log_det)`;
nets take tensors. The log-determinant is that of the direction run; where no row changes it, it may be a Python float.
Several conditions are handed as the columns of one context, in their order.
"""

from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description, per_row
from refflow.verification.adapters.torch_copies import of
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Target

Shapes = list[tuple[int, ...]]


def matches(obj: Any) -> bool:
    """Whether it is an invertible module or net of FrEIA."""
    return of(obj, "FrEIA.modules.base", "InvertibleModule")


def target(obj: Any, given: Given) -> Target:
    """A net or a module of one input and one output."""
    name, shapes = type(obj).__name__, _conditions(obj)
    inputs = [tuple(obj.dims_in)] if isinstance(obj.dims_in[0], int) else obj.dims_in  # some keep the only shape bare
    if len(inputs) != 1:
        raise StructureError(f"expected a module of one input, got a {name} of {len(inputs)}")
    width = sum(int(np.prod(shape)) for shape in shapes)
    if shapes and (given.context is None or given.context.shape[1] != width):
        raise StructureError(
            f"expected context=, rows (M, {width}): the conditions of this {name} have shapes {shapes}"
        )
    event = given.shape(tuple(int(n) for n in inputs[0]), name)
    return torch_target(obj, Description(
        given.name or name, event, _calls, to_base=None, domain=given.domain, codomain=given.codomain,
        context=given.context if shapes else None,
    ))  # fmt: skip


def _conditions(obj: Any) -> Shapes:
    """The shapes of its conditions, in the order in which it takes them."""
    if not of(obj, "FrEIA.framework.sequence_inn", "SequenceINN"):
        return [tuple(shape) for shape in getattr(obj, "dims_c", None) or []]
    found = {i: tuple(module.dims_c[0]) for i, module in zip(obj.conditions, obj.module_list, strict=True)
             if i is not None}  # fmt: skip
    return [found[i] for i in sorted(found)]


def _split(context: Any, shapes: Shapes) -> list[Any]:
    parts = context.split([int(np.prod(shape)) for shape in shapes], dim=1)
    return [part.reshape(len(context), *shape) for part, shape in zip(parts, shapes, strict=True)]


def _calls(obj: Any) -> Calls:
    net = of(obj, "FrEIA.framework")
    shapes = _conditions(obj)

    def along(rev: bool) -> Any:
        def call(x: Any, c: Any) -> tuple[Any, Any]:
            more = {"c": _split(c, shapes)} if shapes and c is not None else {}
            y, log_det = obj(x if net else [x], rev=rev, jac=True, **more)
            return (y[0] if isinstance(y, tuple | list) else y), per_row(log_det, x)

        return call

    simple = of(obj, "FrEIA.framework.sequence_inn", "SequenceINN") and not shapes
    layers = tuple(map(_calls, obj.module_list)) if simple else ()
    return Calls(along(False), along(True), layers=layers, name=type(obj).__name__)
