"""normflows: flow layers and the models that are made of them.

Forward goes from noise to data. Layers may give one log-determinant for all rows: it is what they add to a sum, so it
is taken for every row. `sample(n)` returns the pair (x, log_prob).
"""

import inspect
from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description, per_row
from refflow.verification.adapters.torch_copies import modules, of
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Target

MODELS = ("NormalizingFlow", "ClassCondFlow", "MultiscaleFlow", "NormalizingFlowVAE")


def matches(obj: Any) -> bool:
    """Whether it is a layer or a model of normflows."""
    return of(obj, "normflows.flows.base", "Flow") or of(obj, "normflows.core", *MODELS)


def target(obj: Any, given: Given) -> Target:
    """A model, or a layer."""
    name, model = type(obj).__name__, of(obj, "normflows.core", *MODELS)
    conditional = of(obj, "normflows.core", "ConditionalNormalizingFlow", "ClassCondFlow") or _takes_context(obj, model)
    if given.context is None and conditional:
        raise StructureError(f"expected context=, rows (M, C): a {name} takes one")
    if of(obj, "normflows.flows", "AffineCoupling", "Split", "Merge"):
        raise StructureError(f"expected a map of one tensor, got a {name}, which takes or returns a list of them")
    if model and not of(obj, "normflows.core", "NormalizingFlow", "ClassCondFlow"):
        raise StructureError(f"expected a NormalizingFlow, got a {name}: give log_prob= and sample= as functions")
    return torch_target(obj, Description(
        given.name or name, given.shape(_shape(getattr(obj, "q0", None)), name), _model if model else _layer,
        to_base="inverse" if model else None, context=given.context, domain=given.domain, codomain=given.codomain,
    ))  # fmt: skip


def _shape(base: Any) -> tuple[int, ...] | None:
    for attribute in ("shape", "dim", "ndim"):
        found = getattr(base, attribute, None)
        if found is not None:
            return (int(found),) if isinstance(found, int | np.integer) else tuple(int(n) for n in found)
    return None


def _takes_context(obj: Any, model: bool) -> bool:
    if not model and _context_word(obj.forward) == "y":
        return True
    return any(getattr(module, "context_layer", None) is not None for module in modules(obj))


def _context_word(method: Any) -> str | None:
    """The name by which a layer takes its context."""
    names = list(inspect.signature(method).parameters)
    return next((word for word in ("context", "y") if word in names), None)


def _layer(layer: Any) -> Calls:
    def along(method: Any) -> Any:
        word = _context_word(method)

        def call(x: Any, c: Any) -> tuple[Any, Any]:
            y, log_det = method(x) if c is None or word is None else method(x, **{word: c})
            return y, per_row(log_det, x)

        return call

    return Calls(along(layer.forward), along(layer.inverse), name=type(layer).__name__)


def _model(model: Any) -> Calls:
    def keyed(c: Any) -> dict[str, Any]:
        return {} if c is None else {word: c}

    classes = of(model, "normflows.core", "ClassCondFlow")
    word = "y" if classes else "context"

    def draw(n: int, c: Any) -> Any:
        return model.sample(n, **keyed(c))

    density = Calls(
        log_prob=lambda x, c: model.log_prob(x, **keyed(c)), sample=lambda n, c: draw(n, c)[0], sample_and_log_prob=draw
    )
    if classes:
        return density
    return Calls(
        lambda z, c: model.forward_and_log_det(z, **keyed(c)), lambda x, c: model.inverse_and_log_det(x, **keyed(c)),
        density.log_prob, density.sample, density.sample_and_log_prob,
        lambda z, c: model.q0.log_prob(z, **keyed(c)), tuple(map(_layer, model.flows)),
    )  # fmt: skip
