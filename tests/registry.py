"""Every map that refflow exports, in the forms that differ: what the laws are asked of.

A map is listed with its parameters untrained; tests draw them with `refflow.strategies.parameters`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

import refflow
from refflow.bijections import SCALE_MAPS
from refflow.conditioners import ACTIVATIONS


@dataclass(frozen=True)
class Entry:
    """A map, the shape of its events, and the box its points lie in (None: all of space)."""

    name: str
    map: Any
    event_shape: tuple[int, ...]
    domain: tuple[float, float] | None = None
    range: tuple[float, float] | None = None

    @property
    def context_dim(self) -> int:
        return self.map.context_dim

    @property
    def onto(self) -> bool:
        """Whether the map claims all of space as its range."""
        return self.range is None


def network(mask, per_coordinate, *, hidden=(4,), activation="tanh", context_dim=0):
    return refflow.MLP.init(
        len(mask.kept), per_coordinate * len(mask.moved), rng=np.random.default_rng(0), hidden=hidden,
        activation=activation, context_dim=context_dim,
    )  # fmt: skip


def residual(mask, per_coordinate, *, context_dim=0):
    return refflow.ResidualNet.init(
        len(mask.kept), per_coordinate * len(mask.moved), rng=np.random.default_rng(0), width=4, blocks=1,
        activation="silu", context_dim=context_dim,
    )  # fmt: skip


def affine(mask, scale="tanh", **options):
    return refflow.AffineCoupling(mask, network(mask, 2, **options), scale)


def additive(mask, **options):
    return refflow.AdditiveCoupling(mask, network(mask, 1, **options))


def mixture(mask, components, **options):
    return refflow.LogisticMixtureCoupling(mask, network(mask, 2 + 3 * components, **options), components)


def entries():
    half, odd, one = refflow.half_mask(4), refflow.half_mask(5), refflow.half_mask(1)
    arbitrary = refflow.Mask((5,), (0, 2, 3))
    board, channel = refflow.checkerboard_mask(2, 3, 2), refflow.channel_mask(2, 2, 3)

    for scale in SCALE_MAPS:
        yield Entry(f"affine coupling, {scale}", affine(half, scale), (4,))
    for activation in ACTIVATIONS:
        yield Entry(f"affine coupling, {activation}", affine(half, activation=activation), (4,))
    for name, mask in {
        "half, first moved": refflow.half_mask(4, move_last=False),
        "half, D = 5": odd,
        "half, D = 1": one,
        "alternating": refflow.alternating_mask(5),
        "alternating, even moved": refflow.alternating_mask(4, move_odd=False),
        "alternating, D = 1": refflow.alternating_mask(1),
        "arbitrary": arbitrary,
        "flipped": arbitrary.flip(),
        "checkerboard": board,
        "channel": channel,
    }.items():
        yield Entry(f"affine coupling, {name}", affine(mask), mask.event_shape)
        yield Entry(f"additive coupling, {name}", additive(mask), mask.event_shape)
    yield Entry("affine coupling, linear network", affine(half, hidden=()), (4,))
    yield Entry("affine coupling, two hidden layers", affine(half, hidden=(3, 5)), (4,))
    yield Entry("affine coupling, residual", refflow.AffineCoupling(odd, residual(odd, 2), "soft"), (5,))
    yield Entry("affine coupling, context", affine(half, context_dim=2), (4,))
    yield Entry("affine coupling, context, D = 1", affine(one, context_dim=1), (1,))
    yield Entry("additive coupling, context", additive(odd, context_dim=3), (5,))
    yield Entry(
        "additive coupling, residual, context",
        refflow.AdditiveCoupling(half, residual(half, 1, context_dim=2)),
        (4,),
    )
    yield Entry("logistic mixture", mixture(half, 3), (4,))
    yield Entry("logistic mixture, one component, context, D = 1", mixture(one, 1, context_dim=1), (1,))
    rng = np.random.default_rng(0)
    yield Entry("planar", refflow.Planar.init(3, rng=rng), (3,))
    yield Entry("radial", refflow.Radial.init(3, rng=rng), (3,))
    yield Entry("sylvester", refflow.Sylvester.init(3, 2, rng=rng), (3,))
    yield Entry("residual block", refflow.ResidualBlock.init(3, rng=rng, hidden=(4,), lipschitz=0.75), (3,))
    yield Entry(
        "residual block, tanh, D = 1",
        refflow.ResidualBlock.init(1, rng=rng, hidden=(3,), activation="tanh", lipschitz=0.5),
        (1,),
    )
    yield Entry("elementwise affine", refflow.ElementwiseAffine.init((3,)), (3,))
    yield Entry("elementwise affine, images", refflow.ElementwiseAffine.init((2, 2, 2)), (2, 2, 2))
    yield Entry("standardise", refflow.Standardize(np.zeros(3), np.ones(3)), (3,))
    yield Entry("actnorm", refflow.ActNorm.init(3), (3,))
    yield Entry("actnorm, images", refflow.ActNorm.init(2, rank=3), (3, 2, 2))
    yield Entry("permutation", refflow.Permutation((2, 0, 3, 1)), (4,))
    yield Entry("permutation, images", refflow.Permutation((2, 0, 1), rank=3), (2, 2, 3))
    yield Entry("reverse", refflow.Reverse(), (3,))
    yield Entry("reverse, D = 1", refflow.Reverse(), (1,))
    yield Entry("reverse, images", refflow.Reverse(rank=3), (2, 1, 3))
    yield Entry("logit", refflow.Logit(), (3,), domain=(0.0, 1.0))
    yield Entry("logit, alpha", refflow.Logit(0.05, -1.0, 17.0), (2,), domain=(-1.0, 17.0))
    yield Entry("logit, images", refflow.Logit(0.01, rank=2), (2, 2), domain=(0.0, 1.0))
    yield Entry("sigmoid", refflow.Sigmoid(), (3,), range=(0.0, 1.0))
    yield Entry("sigmoid, images", refflow.Sigmoid(rank=3), (1, 2, 2), range=(0.0, 1.0))
    yield Entry("inverse", refflow.Inverse(affine(half)), (4,))
    yield Entry("frozen", refflow.Frozen(affine(half, context_dim=1)), (4,))
    yield Entry("chain", refflow.Chain((refflow.Reverse(), affine(odd), refflow.ActNorm.init(5))), (5,))
    yield Entry(
        "chain in a chain, with inverses",
        refflow.Chain((refflow.Inverse(refflow.Chain((affine(half), refflow.Reverse()))), additive(half))),
        (4,),
    )
    yield Entry(
        "realnvp", refflow.realnvp(3, layers=4, hidden=(4,), actnorm=True, shuffle=True, seed=0).bijection, (3,)
    )
    yield Entry("realnvp, context", refflow.realnvp(2, layers=3, hidden=(3,), context_dim=2, seed=0).bijection, (2,))
    yield Entry("realnvp, D = 1", refflow.realnvp(1, layers=2, hidden=(3,), seed=0).bijection, (1,))
    yield Entry("nice", refflow.nice(5, layers=3, hidden=(4,), seed=0).bijection, (5,))


REGISTRY = tuple(entries())


def flows():
    """Flows in one and two dimensions, whose mass can be integrated, and in more."""
    normal = refflow.StandardNormal
    yield "realnvp, D = 1", refflow.realnvp(1, layers=2, hidden=(3,), actnorm=True, seed=0), None
    yield "realnvp, D = 2", refflow.realnvp(2, layers=3, hidden=(4,), activation="tanh", seed=0), None
    yield (
        "realnvp, D = 2, context",
        refflow.realnvp(2, layers=2, hidden=(3,), activation="softplus", context_dim=1, seed=0),
        None,
    )
    yield "nice, D = 2", refflow.nice(2, layers=2, hidden=(4,), activation="silu", seed=0), None
    yield (
        "diagonal normal base",
        refflow.Flow(
            refflow.DiagonalNormal(np.zeros(2), np.zeros(2)),
            refflow.Chain((refflow.Reverse(), affine(refflow.half_mask(2)))),
        ),
        None,
    )
    yield (
        "logit, D = 1",
        refflow.Flow(
            normal((1,)), refflow.Chain((refflow.Logit(0.0, -1.0, 3.0), refflow.ElementwiseAffine.init((1,))))
        ),
        (-1.0, 3.0),
    )
    yield "realnvp, D = 3", refflow.realnvp(3, layers=2, hidden=(4,), seed=0), None
    yield "images", refflow.Flow(normal((2, 2, 1)), affine(refflow.checkerboard_mask(2, 2))), None


FLOWS = tuple(flows())
