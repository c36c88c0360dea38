"""zuko: lazy flows and transforms, which are called with a context, and the flows and transforms that they build.

A flow's forward is its transform: from data to noise. Transforms that are built already, without a context, are those
of torch.distributions with `call_and_ladj`.
"""

from typing import Any

from refflow.errors import StructureError
from refflow.verification.adapters import torch_densities
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description
from refflow.verification.adapters.torch_constraints import LINE, box, composed, refuse, sides
from refflow.verification.adapters.torch_copies import copied, of, own_dtype
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Box, Target


def matches(obj: Any) -> bool:
    """Whether it is a lazy object, a flow or a transform of zuko."""
    lazy = of(obj, "zuko.lazy", "LazyDistribution", "LazyTransform")
    built = of(obj, "zuko.distributions", "NormalizingFlow") or of(obj, "zuko.transforms")
    return lazy or built


def target(obj: Any, given: Given) -> Target:
    """The flow or transform at the rows' contexts."""
    name, lazy = type(obj).__name__, of(obj, "zuko.lazy", "LazyDistribution", "LazyTransform")
    at = (lambda held, c: held(c)) if lazy else lambda held, _: held
    example = _example(copied(obj), at, given, name)
    density = hasattr(example, "log_prob")
    transform = getattr(example, "transform", None) if density else example
    if density and transform is None:
        return torch_densities.density(obj, given, example, at)
    shape = given.shape(tuple(example.event_shape) or (1,) if density else None, f"transform {name}")
    if lazy and given.context is None:
        _without_context(transform, shape, name)
    refuse(name, transform, shape)
    domain, codomain = (mine or theirs for mine, theirs in
                        zip((given.domain, given.codomain), _sides(transform, example), strict=True))  # fmt: skip
    return torch_target(obj, Description(
        given.name or name, shape, lambda held: _calls(held, at, density, shape),
        to_base="forward" if density else None, context=given.context if lazy else None,
        domain=_open(domain), codomain=_open(codomain),
    ))  # fmt: skip


def _example(held: Any, at: Any, given: Given, name: str) -> Any:
    import torch

    context = None
    if given.context is not None:
        context = torch.as_tensor(given.context[:1], dtype=getattr(torch, own_dtype(held) or "float64"))
    try:
        return at(held, context)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        what = "another context" if given.context is not None else "context=, rows (M, C)"
        raise StructureError(f"expected {what}: {name}({'c' if context is not None else ''}) raised {error}") from error


def _without_context(transform: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise StructureError if the networks were built for a context: their inputs are too narrow without."""
    import torch

    kind = getattr(torch, own_dtype(transform) or "float64")
    try:
        with torch.no_grad():
            transform(torch.full((2, *shape), 0.5, dtype=kind))
    except RuntimeError as error:
        raise StructureError(f"expected context=, rows (M, C): {name} without one raised {error}") from error


def _sides(transform: Any, flow: Any) -> tuple[Box | None, Box | None]:
    """What its parts take and give. Of a flow whose base fills a box: this box, on both sides if the map is one-to-one
    there alone, as that of a circle is. Where parts do not fit: what they declare, for zuko clips between maps that
    take the whole line."""
    found = sides(transform)
    support = getattr(getattr(flow, "base", None), "support", None)  # that of a DependentTransform is a transform
    held = None if support is None else box(support)
    if held is not None and held != LINE and found == (LINE, LINE):
        return (LINE if _one_to_one_beyond(transform, held, tuple(flow.event_shape)) else held), held
    return found[0] or box(transform.domain), found[1] or box(transform.codomain)


def _one_to_one_beyond(transform: Any, held: Box, shape: tuple[int, ...]) -> bool:
    """Whether points outside the box come back from where the transform takes them."""
    import torch

    kind = getattr(torch, own_dtype(transform) or "float64")
    x = torch.full((2, *shape), 2.0 * held[1] - held[0], dtype=kind)
    with torch.no_grad():
        back = transform.inv(transform(x))
    return bool(torch.allclose(back, x, rtol=1e-2))


def _open(found: Box | None) -> Box | None:
    return None if found == LINE else found


def _calls(held: Any, at: Any, density: bool, shape: tuple[int, ...]) -> Calls:
    def transform(context: Any) -> Any:
        return at(held, context).transform if density else at(held, context)

    def along(built: Any) -> Any:
        def call(x: Any, context: Any) -> tuple[Any, Any]:
            y, ladj = built(context).call_and_ladj(x)
            batch = x.ndim - len(shape)
            ladj = ladj.reshape(*ladj.shape[:batch], -1).sum(-1) if ladj.ndim > batch else ladj
            return y, ladj.expand(len(x)) if ladj.ndim == 0 else ladj

        return call

    def layer(i: int) -> Calls:
        def part(c: Any) -> Any:
            return composed(transform(c))[i]

        return Calls(along(part), along(lambda c: part(c).inv), name=f"{type(held).__name__}[{i}]")

    whole = Calls(along(transform), along(lambda c: transform(c).inv), layers=tuple(map(layer, _count(held, shape))))
    if not density:
        return whole

    def drawing(name: str) -> Any:
        def draw(n: int, context: Any) -> Any:
            return getattr(at(held, context), name)((n,) if context is None else ())

        return draw

    return Calls(
        whole.forward, whole.inverse, lambda x, c: at(held, c).log_prob(x), drawing("sample"),
        drawing("rsample_and_log_prob"), lambda z, c: at(held, c).base.log_prob(z), whole.layers,
    )  # fmt: skip


def _count(held: Any, shape: tuple[int, ...]) -> range:
    """How many parts its composition has, as far as it says so before it is called."""
    lazy = getattr(held, "transform", held)
    parts = getattr(lazy, "transforms", None)
    return range(len(parts) if parts is not None and of(lazy, "zuko") else 0)
