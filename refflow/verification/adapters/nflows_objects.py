"""nflows: transforms, flows and distributions, and subclasses of these by others.

A flow's forward is its transform: from data to noise. `log_prob(inputs, context)`; with contexts, `sample(k, context)`
draws k rows for each row of them. One leading batch axis.
"""

from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description
from refflow.verification.adapters.torch_copies import modules, of
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Target


def matches(obj: Any) -> bool:
    """Whether it is a transform or a distribution of nflows."""
    return of(obj, "nflows.transforms.base", "Transform") or of(obj, "nflows.distributions.base", "Distribution")


def target(obj: Any, given: Given) -> Target:
    """A flow, a distribution without a map, or a transform."""
    name = type(obj).__name__
    if given.context is None and (widths := _contexts(obj)):
        raise StructureError(f"expected context=, rows (M, C) with C = {widths}: the networks of this {name} take one")
    density = of(obj, "nflows.distributions.base", "Distribution")
    base = getattr(obj, "_distribution", obj) if density else None
    found = tuple(shape) if (shape := getattr(base, "_shape", None)) is not None else None
    event = given.shape(found, name)
    transform = getattr(obj, "_transform", None) if density else obj
    return torch_target(obj, Description(
        given.name or name, event, _flow if density else _transform,
        to_base="forward" if density and transform is not None else None,
        context=given.context, domain=given.domain, codomain=given.codomain,
        structure=_structure(transform, event), unavailable=("NotImplementedError", "InverseNotAvailable"),
    ))  # fmt: skip


def _contexts(obj: Any) -> list[int]:
    """The context widths that its networks were built for."""
    return sorted({
        layer.in_features for module in modules(obj)
        if (layer := getattr(module, "context_layer", None)) is not None and hasattr(layer, "in_features")
    } | {width for module in modules(obj) if isinstance(width := getattr(module, "context_features", None), int)
         and width})  # fmt: skip


def _transform(t: Any) -> Calls:
    return Calls(
        lambda x, c: t(x, c), lambda y, c: t.inverse(y, c), layers=tuple(map(_transform, _parts(t))),
        name=type(t).__name__,
    )  # fmt: skip


def _parts(t: Any) -> list[Any]:
    if not of(t, "nflows.transforms.base", "CompositeTransform"):
        return []
    return [inner for part in t._transforms for inner in _parts(part) or [part]]


def _flow(flow: Any) -> Calls:
    def draw(n: int, context: Any) -> tuple[Any, Any]:
        if context is None:
            return flow.sample_and_log_prob(n)  # type: ignore[no-any-return]
        x, log_p = flow.sample_and_log_prob(1, context=context)
        return x[:, 0], log_p[:, 0]

    def sample(n: int, context: Any) -> Any:
        return flow.sample(n) if context is None else flow.sample(1, context=context)[:, 0]

    log_prob = lambda x, c: flow.log_prob(x, context=c)  # noqa: E731
    t, base = getattr(flow, "_transform", None), getattr(flow, "_distribution", None)
    if t is None or base is None:
        return Calls(log_prob=log_prob, sample=sample, sample_and_log_prob=draw)
    embed = getattr(flow, "_embedding_net", None) or (lambda c: c)

    def layer(part: Any) -> Calls:
        return Calls(lambda x, c: part(x, embed(c)), lambda y, c: part.inverse(y, embed(c)), name=type(part).__name__)

    return Calls(
        lambda x, c: t(x, context=embed(c)), lambda z, c: t.inverse(z, context=embed(c)), log_prob, sample, draw,
        lambda z, c: base.log_prob(z, context=embed(c)), tuple(map(layer, _parts(t))),
    )  # fmt: skip


def _structure(t: Any, event: tuple[int, ...]) -> np.ndarray | None:
    """Of a coupling of vectors: features that are transformed depend on themselves and on those that are not."""
    if not of(t, "nflows.transforms.coupling", "CouplingTransform") or len(event) != 1:
        return None
    if getattr(t, "unconditional_transform", None) is not None:
        return None
    found = np.eye(event[0], dtype=bool)
    found[np.ix_(t.transform_features.cpu().numpy(), t.identity_features.cpu().numpy())] = True
    return found
