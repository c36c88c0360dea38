"""torch.distributions and pyro: transforms, transformed distributions, and pyro's conditional ones.

Forward goes from the base to the data. A transform has one log-determinant, `log_abs_det_jacobian(x, y)`, summed over
the event that it declares; the rest is summed here, as `TransformedDistribution` does. That of the inverse at y is its
negative at (g(y), y), so LD3 holds by construction. Caches of a transform stay as they are: rows come as new tensors.
"""

from collections.abc import Callable
from typing import Any

from refflow.errors import StructureError
from refflow.verification.adapters import torch_densities
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description, Maps
from refflow.verification.adapters.torch_constraints import LINE, common, composed, refuse, sides
from refflow.verification.adapters.torch_copies import copied, of
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Box, Target

TRANSFORM = ("torch.distributions.transforms", "Transform")
CONDITIONAL = ("pyro.distributions.conditional", "ConditionalTransform", "ConditionalDistribution")
BY_CONSTRUCTION = "the library gives one log-determinant for both directions: LD3 holds by construction"


def matches(obj: Any) -> bool:
    """Whether it is a transform, a distribution with transforms, or one of pyro's that are conditioned first."""
    transformed = of(obj, "torch.distributions.distribution", "Distribution") and hasattr(obj, "transforms")
    return of(obj, *TRANSFORM) or of(obj, *CONDITIONAL) or transformed


def target(obj: Any, given: Given) -> Target:
    """The object, conditioned on the rows' contexts if it wants them."""
    name, conditional = type(obj).__name__, of(obj, *CONDITIONAL)
    if conditional and given.context is None:
        raise StructureError(f"expected context=, rows (M, C), for {name}.condition(context)")
    at = _conditioned if conditional else lambda held, _: held
    example = at(copied(obj), None if given.context is None else _tensor(given.context[:1], obj))
    density = not of(example, *TRANSFORM)
    if density and not _fills(example):
        return torch_densities.density(obj, given, example, at)
    transform = _compose(example.transforms) if density else example
    shape = given.shape(_event(example) if density else None, f"transform {name}")
    if density:
        shape = tuple(transform.inverse_shape(shape))
    refuse(name, transform, shape)
    (domain, codomain), remarks = _boxes(transform, given)
    return torch_target(obj, Description(
        given.name or name, shape,
        lambda held: calls(held, at, density, shape, codomain is not None, domain is not None),
        output_shape=_other(tuple(transform.forward_shape(shape)), shape), to_base="inverse" if density else None,
        context=given.context if conditional else None, domain=_open(domain), codomain=_open(codomain),
        remarks=(BY_CONSTRUCTION, *remarks), unavailable=("NotImplementedError", "KeyError"),
    ))  # fmt: skip


def _fills(flow: Any) -> bool:
    """Whether its base fills what its map takes, one-to-one: else the map is no bijection onto the flow's rows, which
    are then verified as those of a density."""
    base = common(flow.base_dist.support)
    return (
        base is not None and base == sides(_compose(flow.transforms))[0] and all(t.bijective for t in flow.transforms)
    )


def _conditioned(held: Any, context: Any) -> Any:
    return held.condition(context)


def _tensor(rows: Any, obj: Any) -> Any:
    import torch

    from refflow.verification.adapters.torch_copies import own_dtype

    return torch.as_tensor(rows, dtype=getattr(torch, own_dtype(obj) or "float64"))


def _event(distribution: Any) -> tuple[int, ...]:
    """The shape of a row: batch axes of a distribution are coordinates that are independent; a number is a vector."""
    return tuple(distribution.batch_shape) + tuple(distribution.event_shape) or (1,)


def _compose(transforms: list[Any]) -> Any:
    from torch.distributions.transforms import ComposeTransform

    return transforms[0] if len(transforms) == 1 else ComposeTransform(list(transforms))


def _other(output: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if output == shape else output


def _boxes(transform: Any, given: Given) -> tuple[tuple[Box | None, Box | None], list[str]]:
    """Domain and codomain, None where points cannot be drawn: that direction is left out, and a remark says so."""
    found = [mine or theirs for mine, theirs in zip((given.domain, given.codomain), sides(transform), strict=True)]
    remarks = [
        f"its {side}, {getattr(transform, side)}, is no box that is known: the {map_} is not asked; give {side}="
        for side, map_, box in zip(("domain", "codomain"), ("forward", "inverse"), found, strict=True) if box is None
    ]  # fmt: skip
    if len(remarks) == 2:
        raise StructureError(f"expected domain= and codomain=: those of {transform} are no boxes")
    return (found[0], found[1]), remarks


def _open(box: Box | None) -> Box | None:
    return None if box == LINE else box


def calls(
    held: Any, at: Callable[[Any, Any], Any], density: bool, shape: tuple[int, ...], inverse: bool, forward: bool
) -> Calls:
    """What a copy can be asked; `at(held, context)` is its transform or distribution."""

    def transform(context: Any) -> Any:
        found = at(held, context)
        return _compose(found.transforms) if density else found

    conditional = at is _conditioned
    output = shape if conditional else tuple(transform(None).forward_shape(shape))
    whole = Calls(
        along(transform, len(shape)) if forward else None,
        along(_inverted(transform), len(output)) if inverse else None,
        layers=() if conditional else _layers(transform, shape),
    )
    if not density:
        return whole

    def draw(n: int, context: Any) -> Any:
        found = at(held, context)
        return found.sample((n,)).reshape(n, *_event(found))

    return Calls(
        whole.forward, whole.inverse, lambda x, c: _rows(at(held, c).log_prob(x), len(x)), draw,
        base_log_prob=lambda z, c: _rows(at(held, c).base_dist.log_prob(z), len(z)), layers=whole.layers,
    )  # fmt: skip


def along(transform: Callable[[Any], Any], axes: int) -> Maps:
    """The map of a transform at events of that many axes."""

    def call(x: Any, context: Any) -> tuple[Any, Any]:
        t = transform(context)
        y = t(x)
        return y, _summed(t.log_abs_det_jacobian(x, y), axes - t.domain.event_dim, len(x))

    return call


def _layers(transform: Callable[[Any], Any], shape: tuple[int, ...]) -> tuple[Calls, ...]:
    """The parts of a composition, each with the shape of its own events."""

    def part(i: int) -> Callable[[Any], Any]:
        return lambda c: composed(transform(c))[i]

    found = []
    for i, t in enumerate(composed(transform(None))):
        output = tuple(t.forward_shape(shape))
        backwards = along(_inverted(part(i)), len(output))
        found.append(Calls(along(part(i), len(shape)), backwards, name=type(t).__name__))
        shape = output
    return tuple(found)


def _inverted(transform: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda context: transform(context).inv


def _summed(value: Any, last: int, n: int) -> Any:
    """Summed over the last axes, those of the event that the transform does not sum itself; one number for all rows is
    taken for every row, as broadcasting does."""
    found = value.sum(tuple(range(-min(last, value.ndim), 0))) if last > 0 and value.ndim else value
    return found.expand(n) if found.ndim == 0 or found.shape == (1,) else found


def _rows(value: Any, n: int) -> Any:
    """Summed over all axes but the first."""
    return value.reshape(n, -1).sum(-1)
