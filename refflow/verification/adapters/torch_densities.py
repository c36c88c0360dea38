"""torch's distributions without a transform, zuko's and pyro's among them: a density, and samples.

Batch axes of a distribution are coordinates that are independent, as a normal of five locations is a density of rows of
five; a single number is a row of one.
"""

from collections.abc import Callable
from typing import Any

from refflow.errors import StructureError
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description
from refflow.verification.adapters.torch_constraints import LINE, common
from refflow.verification.adapters.torch_copies import of
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Box, Target

At = Callable[[Any, Any], Any]
"""(object, context or None) -> the distribution."""


def matches(obj: Any) -> bool:
    """Whether it is a distribution of torch."""
    return of(obj, "torch.distributions.distribution", "Distribution")


def target(obj: Any, given: Given) -> Target:
    """The density."""
    return density(obj, given, obj, lambda held, _: held)


def density(obj: Any, given: Given, example: Any, at: At) -> Target:
    """The density that `at` builds of an object; `example` is one that it has built."""
    event = tuple(example.event_shape)
    shape = given.shape(tuple(example.batch_shape) + event if given.context is None else event, "distribution")
    domain = given.domain or _support(example)
    return torch_target(obj, Description(
        given.name or type(obj).__name__, shape or (1,), lambda held: _calls(held, at, shape),
        context=given.context, domain=None if domain == LINE else domain,
        remarks=("no forward, no inverse: a density without a transform",),
    ))  # fmt: skip


def _support(example: Any) -> Box | None:
    """The box that rows lie in, as far as the distribution says; raises StructureError if they are counts, or lie in
    what is no box, or in another one a coordinate."""
    try:
        support = example.support
    except NotImplementedError:
        return None
    if getattr(support, "is_discrete", False):
        raise StructureError(f"expected a density, got a {type(example).__name__}: its rows are discrete")
    if (found := common(support)) is None:
        raise StructureError(
            f"expected domain=: rows of {type(example).__name__} lie in {support}, which is no one box"
        )
    return found


def _calls(held: Any, at: At, shape: tuple[int, ...]) -> Calls:
    def log_prob(x: Any, context: Any) -> Any:
        found = at(held, context).log_prob(x.reshape(len(x), *shape))
        return found.reshape(len(x), -1).sum(-1)

    def sample(n: int, context: Any) -> Any:
        drawn = at(held, context).sample((n,) if context is None else ())
        return drawn.reshape(n, *(shape or (1,)))

    return Calls(log_prob=log_prob, sample=sample)


__all__ = ["density", "matches", "target"]
