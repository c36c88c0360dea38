"""What an entry of the catalogue of the peer packages says, and how objects are built: seeded, away from identity.

A freshly built flow often is the identity, or has a conditioner whose last layer is zero; a test of it then tests next
to nothing. So every parameter is moved by `SHAKE` times a standard normal draw. Entries named "as constructed" are not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Box = tuple[float, float]

SHAKE = 0.3
"""Standard deviation of the move of every parameter: the conditioners answer, and no scale leaves exp(+-2) or so."""


@dataclass(frozen=True)
class Item:
    """One object of a package: `build()` gives a fresh one, `options` are what `refflow.verify` must be told of it."""

    package: str
    name: str
    build: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.package}: {self.name}"


def on(
    event_shape: tuple[int, ...], *, context: int = 0, domain: Box | None = None, codomain: Box | None = None
) -> dict[str, Any]:
    """Options of `verify`: the shape of a row of x, the width of the context, the boxes of x and of y."""
    options: dict[str, Any] = {"event_shape": event_shape}
    if context:
        options["context"] = np.random.default_rng(5).normal(size=(16, context))
    if domain is not None:
        options["domain"] = domain
    if codomain is not None:
        options["codomain"] = codomain
    return options


def collector(package: str) -> tuple[list[Item], Callable[..., None]]:
    """An empty list of items and the function that adds one to it: `add(name, build, options, remark)`."""
    items: list[Item] = []

    def add(name: str, build: Callable[[], Any], options: dict[str, Any], remark: str = "") -> None:
        items.append(Item(package, name, build, options, remark))

    return items, add


def seeded(make: Callable[[], Any], seed: int = 0) -> Callable[[], Any]:
    """`make`, after seeding the generators of torch and of NumPy that these packages draw their parameters from."""

    def build() -> Any:
        import torch

        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  FrEIA draws from the global generator
        return make()

    return build


def shaken(make: Callable[[], Any], seed: int = 0, by: float = SHAKE) -> Callable[[], Any]:
    """`seeded(make)`, then every trainable parameter moved by `by` times a normal draw."""

    def build() -> Any:
        import torch

        module = seeded(make, seed)()
        with torch.no_grad():
            for parameter in trainable(module):
                parameter.add_(by * torch.randn(parameter.shape))
        return module

    return build


def trainable(module: Any) -> Iterable[Any]:
    """The floating point parameters that a training step would move."""
    return [p for p in module.parameters() if p.requires_grad and p.is_floating_point()]


def draw(*shape: int, seed: int = 0) -> Any:
    """Normal draws with their own seed, in torch's default precision: parameters of objects that are given theirs.

    Under `torch.set_default_dtype(torch.float64)` an object is built of the same numbers, and not of rounded ones.
    """
    import torch

    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.to(torch.get_default_dtype())
