"""A torch.nn.Module of nobody's library: `forward(x) -> (y, log_det)` and `inverse(y) -> (x, log_det)`.

Also taken, where they are there: `log_prob(x)`, `sample(n)`. With contexts, all take them last.
"""

from typing import Any

from refflow.verification.adapters.given import Given
from refflow.verification.adapters.torch_calls import Calls, Description
from refflow.verification.adapters.torch_copies import is_module
from refflow.verification.adapters.torch_objects import target as torch_target
from refflow.verification.targets import Target


def matches(obj: Any) -> bool:
    """Whether it is a module with an inverse or a density."""
    return is_module(obj) and any(callable(getattr(obj, name, None)) for name in ("inverse", "log_prob"))


def target(obj: Any, given: Given) -> Target:
    """The module by its methods."""
    name = type(obj).__name__
    return torch_target(obj, Description(
        given.name or name, given.shape(_shape(obj), f"torch module {name}"), _calls,
        context=given.context, domain=given.domain, codomain=given.codomain,
    ))  # fmt: skip


def _shape(obj: Any) -> tuple[int, ...] | None:
    shape = getattr(obj, "event_shape", None)
    return None if shape is None else tuple(int(n) for n in shape)


def _calls(obj: Any) -> Calls:
    def method(name: str) -> Any:
        function = getattr(obj, name, None)
        if not callable(function):
            return None
        return lambda first, c: function(first) if c is None else function(first, c)

    inverse = method("inverse")
    return Calls(
        None if inverse is None else lambda x, c: obj(x) if c is None else obj(x, c),
        inverse, method("log_prob"), method("sample"),
    )  # fmt: skip
