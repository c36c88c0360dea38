"""From calls on tensors to a `Target` of NumPy rows: what all adapters for torch have in common.

An adapter says in `Description` what its library's object is; `calls` makes of a copy the functions that may be asked.
Everything is asked of copies, in eval mode; where the train mode answers differently it is a mode of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.verification.adapters import torch_copies as copies
from refflow.verification.adapters import torch_probing as probing
from refflow.verification.adapters.torch_calls import Calls, Description, arrays, drawing, on_rows, some_rows, tensor
from refflow.verification.adapters.torch_derivatives import gradient, jacobian, parameter_gradient, warm
from refflow.verification.targets import Target

Values = dict[str, np.ndarray]


def target(obj: Any, d: Description) -> Target:
    """The target of an object; raises StructureError if it cannot be copied, or is no map between equal sizes."""
    warm()
    pristine = copies.copied(obj)
    if d.output_shape is None:
        d = replace(d, output_shape=probing.output_shape(pristine, d))
    settled, remarks = probing.settled(pristine, d), d.remarks
    if copies.state(settled) == copies.state(pristine):
        settled = pristine
    else:
        remarks += ("it initialises itself from the rows of its first call: asked after a call with normal rows",)
    own = copies.own_dtype(pristine)
    names: tuple[str, ...] = ("float32", "float64") if own == "float32" else ("float64", "float32")
    evaluated, said = probing.available(settled, d, train=False)
    remarks += said + _beyond_to(settled, own, names[1])
    defaults = probing.defaults(settled, evaluated, names) if own is not None else ()
    remarks += tuple(f"it computes in {name} only under torch.set_default_dtype({name}): asked so" for name in defaults)
    if own is not None and names[1] not in defaults and (raised := probing.refuses(settled, evaluated, names[1])):
        names = names[:1]
        remarks += (f"it computes in {names[0]} only: cast to the other precision, it raises {raised}",)
    if not probing.differentiable(settled, evaluated):
        evaluated = replace(evaluated, graph=False)
        remarks += ("torch cannot differentiate its inverse, which runs without a graph: differences are taken",)
    found = _variant(_Source(settled, evaluated, own, names, defaults))
    if probing.train_differs(settled, evaluated):
        training, said = probing.available(settled, d, train=True)
        remarks += said
        found = replace(found, modes={"train": _variant(_Source(settled, training, own, names, defaults, True))})
    return replace(found, remarks=remarks)


def _beyond_to(settled: Any, own: str | None, dtype: str) -> tuple[str, ...]:
    left = [] if own is None else copies.cast(copies.copied(settled), dtype)
    return (f"tensors that are no parameters or buffers, so that .to leaves them: {', '.join(left)}",) if left else ()


@dataclass(frozen=True)
class _Source:
    """What variants are made of: a copy that is never called, what is known of it, and its precisions."""

    settled: Any
    described: Description
    own: str | None
    names: tuple[str, ...]
    defaults: tuple[str, ...] = ()
    train: bool = False

    def copy(self, dtype: str | None) -> Any:
        held = copies.copied(self.settled)
        if self.own is not None and self.own != (dtype or self.names[0]):
            copies.cast(held, dtype or self.names[0])
        copies.set_mode(held, self.train)
        return held


def _variant(source: _Source, dtype: str | None = None, values: Values | None = None) -> Target:
    """A target on two copies: one that is called, and one that is differentiated, so that no call sees a graph."""
    d, changed = source.described, dict(values or {})
    held, twin = source.copy(dtype), source.copy(dtype)
    asked, smooth, own = d.calls(held), d.calls(twin), dtype or source.names[0]
    around = copies.Surroundings(own if own in source.defaults else None)

    def write(new: Values) -> None:
        changed.update(new)
        for part in (held, twin):
            _assign(part, new)

    def casting(other: Any) -> Target:
        return _variant(source, np.dtype(other).name, changed)

    write(changed)
    cast = None if source.own is None else casting
    layers = _layers(d, asked, smooth, around, np.dtype(own))
    parts = tuple(replace(part, dtypes=source.names, cast=None if cast is None else _cast_of(casting, i))
                  for i, part in enumerate(layers))  # fmt: skip
    trainable = bool(_named(held))
    return replace(
        _functions(d, asked, smooth, around), context=d.context, dtypes=source.names, structure=d.structure,
        constants=_has_constants(held),
        output_shape=d.output_shape, domain=d.domain, codomain=d.codomain, to_base=d.to_base,
        layers=parts, cast=cast, fresh=lambda: _variant(source, dtype),
        parameters=(lambda: {name: arrays(p).copy() for name, p in _named(held).items()}) if trainable else None,
        set_parameters=write if trainable else None,
        parameter_gradient=_weights(twin, smooth.log_prob, around) if smooth.log_prob and trainable else None,
    )  # fmt: skip


def _cast_of(casting: Callable[[Any], Target], i: int) -> Callable[[Any], Target]:
    return lambda other: casting(other).layers[i]


def _functions(d: Description, asked: Calls, smooth: Calls, around: copies.Surroundings) -> Target:
    def rows(function: Any, derivative: Any = None) -> Any:
        if function is None:
            return None
        return on_rows(function if derivative is None else lambda x, c: derivative(function, x, c), around)

    def draws(function: Any) -> Any:
        return None if function is None else drawing(function, around)

    return Target(
        d.name, d.shape, forward=rows(asked.forward), inverse=rows(asked.inverse), log_prob=rows(asked.log_prob),
        sample=draws(asked.sample), sample_and_log_prob=draws(asked.sample_and_log_prob),
        base_log_prob=rows(asked.base_log_prob), gradient=rows(smooth.log_prob, gradient),
        jacobian=rows(smooth.forward, jacobian),
        inverse_jacobian=rows(smooth.inverse, jacobian) if d.graph else None,
    )  # fmt: skip


def _layers(d: Description, asked: Calls, smooth: Calls, around: copies.Surroundings, dtype: Any) -> tuple[Target, ...]:
    """The layers with the shapes they have on the way; none if rows cannot be taken through them one by one."""
    if len(asked.layers) < 2:
        return ()
    found: list[Target] = []
    value, context = some_rows(d, 2)
    value, context = value.astype(dtype), tuple(c.astype(dtype) for c in context)
    for call, twin in zip(asked.layers, smooth.layers, strict=True):
        shape = value.shape[1:]
        part = _functions(Description(call.name, shape, d.calls), call, twin, around)
        try:
            value, _ = part.forward(value, *context)  # type: ignore[misc]
            if value.shape[:1] != (2,) or np.prod(value.shape[1:]) != np.prod(shape):
                return ()
        except Exception:  # a layer that takes lists, or needs more than the whole
            return ()
        found.append(
            replace(part, context=d.context, output_shape=None if value.shape[1:] == shape else value.shape[1:])
        )
    return tuple(found)


def _named(obj: Any) -> dict[str, Any]:
    """The parameters that can be trained, by name; those of modules in an object that is none itself are numbered."""
    if copies.is_module(obj):
        found = dict(obj.named_parameters())
    else:
        found = {f"{i}.{name}": p for i, module in enumerate(copies.modules(obj))
                 for name, p in module.named_parameters(recurse=False)}  # fmt: skip
    return {name: p for name, p in found.items() if p.requires_grad}


def _has_constants(obj: Any) -> bool:
    """Whether it holds floating-point tensors besides the parameters that can be trained: buffers, frozen matrices."""
    trained = {id(p) for p in _named(obj).values()}
    return any(id(t) not in trained for t in copies.tensors(obj))


def _assign(obj: Any, values: Values) -> None:
    """Write parameters in place, as an optimiser does."""
    import torch

    with torch.no_grad():
        for name, p in _named(obj).items():
            if name in values:
                p.copy_(torch.from_numpy(np.array(values[name])))


def _weights(twin: Any, log_prob: Any, around: copies.Surroundings) -> Callable[..., Values]:
    def slopes(x: np.ndarray, *context: np.ndarray) -> Values:
        held = _named(twin)
        with around():
            found = parameter_gradient(log_prob, list(held.values()), tensor(x), *map(tensor, context))
        return dict(zip(held, arrays(found), strict=True))

    return slopes
