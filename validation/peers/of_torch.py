"""torch.distributions 2.13: every transform of a vector, elementwise or as a whole."""

from collections.abc import Callable, Iterable

import torch
from item import Item, collector, draw, on
from torch import distributions
from torch.distributions import transforms

D = 3
INFINITY = float("inf")
POSITIVE = (0.0, INFINITY)
UNIT = (0.0, 1.0)


def items() -> Iterable[Item]:
    items, add = collector("torch.distributions")
    for family in (elementwise, vectors, wrappers, whole_flows):
        family(add)
    return items


def elementwise(add: Callable[..., None]) -> None:
    add("AffineTransform", lambda: transforms.AffineTransform(0.5, 2.0), on((D,)))
    add("AffineTransform, negative scales", lambda: transforms.AffineTransform(draw(D), -draw(D).exp()), on((D,)))
    add("ExpTransform", transforms.ExpTransform, on((D,), codomain=POSITIVE))
    add(
        "PowerTransform, exponent=3",
        lambda: transforms.PowerTransform(3.0),
        on((D,), domain=POSITIVE, codomain=POSITIVE),
    )
    add(
        "PowerTransform, exponent=-0.5",
        lambda: transforms.PowerTransform(-0.5),
        on((D,), domain=POSITIVE, codomain=POSITIVE),
    )
    add("SigmoidTransform", transforms.SigmoidTransform, on((D,), codomain=UNIT))
    add("SoftplusTransform", transforms.SoftplusTransform, on((D,), codomain=POSITIVE))
    add(
        "TanhTransform",
        transforms.TanhTransform,
        on((D,), codomain=(-1.0, 1.0)),
        "docstring: 'it is not numerically stable'; use cache_size=1",
    )
    for name, base in (("Normal", distributions.Normal), ("Cauchy", distributions.Cauchy)):
        add(
            f"CumulativeDistributionTransform of {name}",
            lambda b=base: transforms.CumulativeDistributionTransform(b(torch.tensor(0.5), torch.tensor(2.0))),
            on((D,), codomain=UNIT),
        )
    add("identity_transform", lambda: transforms.identity_transform, on((D,)))


def vectors(add: Callable[..., None]) -> None:
    add("StickBreakingTransform", transforms.StickBreakingTransform, on((D,)), "maps D numbers to D+1 that sum to 1")
    add("CorrCholeskyTransform", transforms.CorrCholeskyTransform, on((D,)), "maps D(D-1)/2 numbers to a matrix")
    add("ReshapeTransform", lambda: transforms.ReshapeTransform((4,), (2, 2)), on((4,)))


def wrappers(add: Callable[..., None]) -> None:
    def parts() -> list[transforms.Transform]:
        return [transforms.ExpTransform(), transforms.AffineTransform(1.0, -2.0), transforms.identity_transform]

    add("IndependentTransform", lambda: transforms.IndependentTransform(transforms.ExpTransform(), 1), on((D,)))
    add("ComposeTransform", lambda: transforms.ComposeTransform([parts()[1], parts()[0]]), on((D,)))
    add("ComposeTransform, cache_size=1", lambda: transforms.ComposeTransform([parts()[1], parts()[0]], 1), on((D,)))
    add("StackTransform", lambda: transforms.StackTransform(parts(), dim=-1), on((D,)))
    add("CatTransform", lambda: transforms.CatTransform(parts(), dim=-1, lengths=[1, 1, 1]), on((D,)))
    add("inverse of ExpTransform", lambda: transforms.ExpTransform().inv, on((D,), domain=POSITIVE))
    add("inverse of AffineTransform", lambda: transforms.AffineTransform(0.5, -2.0).inv, on((D,)))


def whole_flows(add: Callable[..., None]) -> None:
    def normal() -> distributions.Distribution:
        return distributions.Independent(distributions.Normal(torch.zeros(D), torch.ones(D)), 1)

    affine = transforms.AffineTransform(0.5, 2.0)
    add(
        "TransformedDistribution, affine and exp",
        lambda: distributions.TransformedDistribution(normal(), [affine, transforms.ExpTransform()]),
        on((D,), domain=POSITIVE),
    )
    add(
        "TransformedDistribution, affine and tanh",
        lambda: distributions.TransformedDistribution(normal(), [affine, transforms.TanhTransform(cache_size=1)]),
        on((D,), domain=(-1.0, 1.0)),
    )
    add(
        "MixtureSameFamily of normals",
        lambda: distributions.MixtureSameFamily(
            distributions.Categorical(logits=draw(4)),
            distributions.Independent(distributions.Normal(draw(4, D), draw(4, D, seed=1).exp()), 1),
        ),
        on((D,)),
    )
