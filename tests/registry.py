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
    def output_shape(self) -> tuple[int, ...]:
        return self.event_shape if self.map.output_shape is None else self.map.output_shape

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


def spline(mask, bins=3, bound=3.0, circular=False, **options):
    size = 3 * bins if circular else 3 * bins - 1
    return refflow.RationalQuadraticCoupling(mask, network(mask, size, **options), bins, bound, circular)


def autoregressive(dim, scale="tanh", *, hidden=(4,), activation="tanh", **options):
    net = refflow.MaskedMLP.init(dim, 2, rng=np.random.default_rng(0), hidden=hidden, activation=activation, **options)
    return refflow.AffineAutoregressive(net, scale)


def linear_entries():
    yield Entry("batch norm", refflow.BatchNorm.init(3), (3,))
    yield Entry("batch norm, images", refflow.BatchNorm.init(2, rank=3), (2, 2, 2))
    yield Entry("lu", refflow.LU.init((2, 0, 1)), (3,))
    yield Entry("lu, D = 1", refflow.LU.init((0,)), (1,))
    yield Entry("lu, images", refflow.LU.init((1, 0), rank=3), (3, 2, 2))
    yield Entry("lower triangular", refflow.Triangular.init(3), (3,))
    yield Entry("upper triangular, images", refflow.Triangular.init(2, lower=False, rank=3), (2, 2, 2))
    yield Entry("orthogonal", refflow.Orthogonal.init(4, 0, reflections=3), (4,))
    yield Entry("orthogonal, images", refflow.Orthogonal.init(2, 0, reflections=1, rank=3), (2, 2, 2))


def autoregressive_entries():
    yield Entry("affine autoregressive", autoregressive(3), (3,))
    yield Entry("affine autoregressive, D = 1", autoregressive(1, "soft"), (1,))
    yield Entry(
        "affine autoregressive, any order, context",
        autoregressive(3, "exp", hidden=(5, 4), degrees=(2, 3, 1), context_dim=2),
        (3,),
    )
    net = refflow.MaskedMLP.init(
        3, 8, rng=np.random.default_rng(0), degrees=(3, 1, 2), hidden=(4,), activation="tanh", context_dim=1
    )
    yield Entry("spline autoregressive, any order, context", refflow.RationalQuadraticAutoregressive(net, 3, 3.0), (3,))
    net = refflow.MaskedMLP.init(1, 5, rng=np.random.default_rng(0), hidden=())
    yield Entry("spline autoregressive, D = 1", refflow.RationalQuadraticAutoregressive(net, 2, 2.0), (1,))
    yield Entry("inverse autoregressive", refflow.Inverse(autoregressive(2, "sigmoid", hidden=())), (2,))
    yield Entry("maf", refflow.maf(3, layers=2, hidden=(4,), actnorm=True, linear="lu", seed=0).bijection, (3,))
    yield Entry("nsf_ar", refflow.nsf_ar(2, layers=2, hidden=(3,), bins=2, seed=0).bijection, (2,))
    yield Entry("iaf, context", refflow.iaf(2, layers=2, hidden=(3,), context_dim=1, seed=0).bijection, (2,))


def mixture(mask, components, **options):
    return refflow.LogisticMixtureCoupling(mask, network(mask, 2 + 3 * components, **options), components)


def root_entries():
    """Maps whose inverse is a root."""
    half, one = refflow.half_mask(4), refflow.half_mask(1)
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


def coupling_entries():
    half, odd, one = refflow.half_mask(4), refflow.half_mask(5), refflow.half_mask(1)
    arbitrary = refflow.Mask((5,), (0, 2, 3))
    board, channel = refflow.checkerboard_mask(2, 3, 2), refflow.channel_mask(2, 2, 3)

    for scale in SCALE_MAPS:
        yield Entry(f"affine coupling, {scale}", affine(half, scale), (4,))
    for activation in (a for a in ACTIVATIONS if a != "tanh"):  # tanh's is the one above
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


def elementwise_entries():
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
    yield Entry("exp", refflow.Exp(), (3,), range=(0.0, 8.0))
    yield Entry("softplus, images", refflow.Softplus(rank=3), (1, 2, 2), range=(0.0, 8.0))
    yield Entry("tanh", refflow.Tanh(), (3,), range=(-1.0, 1.0))
    yield Entry("leaky relu", refflow.LeakyReLU(), (3,))
    yield Entry("leaky relu, images", refflow.LeakyReLU(0.3, rank=2), (2, 2))
    yield Entry("sinh-arcsinh", refflow.SinhArcsinh.init((3,)), (3,))


def combined_entries():
    half, odd = refflow.half_mask(4), refflow.half_mask(5)
    yield Entry("inverse", refflow.Inverse(affine(half)), (4,))
    yield Entry("frozen", refflow.Frozen(affine(half, context_dim=1)), (4,))
    yield Entry("chain", refflow.Chain((refflow.Reverse(), affine(odd), refflow.ActNorm.init(5))), (5,))
    yield Entry(
        "chain in a chain, with inverses",
        refflow.Chain((refflow.Inverse(refflow.Chain((affine(half), refflow.Reverse()))), additive(half))),
        (4,),
    )
    yield Entry("realnvp", refflow.realnvp(3, layers=4, hidden=(4,), actnorm=True, linear="lu", seed=0).bijection, (3,))
    yield Entry("realnvp, context", refflow.realnvp(2, layers=3, hidden=(3,), context_dim=2, seed=0).bijection, (2,))
    yield Entry("realnvp, D = 1", refflow.realnvp(1, layers=2, hidden=(3,), seed=0).bijection, (1,))
    yield Entry("nice", refflow.nice(5, layers=3, hidden=(4,), seed=0).bijection, (5,))


def spline_entries():
    half, odd, one = refflow.half_mask(4), refflow.half_mask(5), refflow.half_mask(1)
    board = refflow.checkerboard_mask(2, 3, 2)
    yield Entry("spline coupling", spline(half), (4,))
    yield Entry("spline coupling, D = 1", spline(one, bins=2, bound=2.0), (1,))
    yield Entry("spline coupling, images, context", spline(board, hidden=(3,), bins=2, context_dim=1), (2, 3, 2))
    yield Entry("spline coupling, circular", spline(odd, bound=1.0, circular=True), (5,), (-1.0, 1.0), (-1.0, 1.0))
    torus = refflow.nsf_circular(2, layers=2, hidden=(3,), bins=2, bound=1.0, context_dim=1, seed=0)
    yield Entry("nsf on the torus", torus.bijection, (2,), (-1.0, 1.0), (-1.0, 1.0))
    elementwise = refflow.RationalQuadraticElementwise.init
    yield Entry("elementwise spline", elementwise((3,), bins=5, bound=3.0), (3,))
    yield Entry("elementwise spline, images", elementwise((2, 1, 2), bins=2, bound=2.0), (2, 1, 2))
    yield Entry(
        "elementwise spline, circular",
        elementwise((2,), bins=3, bound=2.0, circular=True),
        (2,),
        (-2.0, 2.0),
        (-2.0, 2.0),
    )
    yield Entry("nsf", refflow.nsf(3, layers=3, hidden=(4,), bins=3, context_dim=1, seed=0).bijection, (3,))


def conv(mask, per_coordinate=2, *, hidden=(3,), activation="tanh", context_dim=0):
    return refflow.ConvNet.init(
        mask, per_coordinate, rng=np.random.default_rng(0), hidden=hidden, activation=activation,
        context_dim=context_dim,
    )  # fmt: skip


def conv_affine(mask, **options):
    return refflow.AffineCoupling(mask, conv(mask, **options))


def image_entries():
    board, channel = refflow.checkerboard_mask(2, 2), refflow.channel_mask(2, 1, 3, move_last=False)
    yield Entry("squeeze", refflow.Squeeze((2, 4, 1)), (2, 4, 1))
    yield Entry("squeeze by 3, inverted", refflow.Inverse(refflow.Squeeze((3, 3, 1), 3)), (1, 1, 9))
    yield Entry("reshape", refflow.Reshape((2, 1, 2), (4,)), (2, 1, 2))
    yield Entry("permute axes", refflow.PermuteAxes((1, 2, 3), (2, 0, 1)), (1, 2, 3))
    yield Entry(
        "concatenate",
        refflow.Concatenate(
            (affine(refflow.half_mask(2), context_dim=1), refflow.ElementwiseAffine.init((2,))), (2, 2)
        ),
        (4,),
    )
    yield Entry(
        "concatenate, rows of images",
        refflow.Concatenate((refflow.ActNorm.init(2, rank=3), refflow.Reverse(rank=3)), (1, 2), axis=-3),
        (3, 1, 2),
    )
    yield Entry("affine coupling, convolution, checkerboard", conv_affine(board), (2, 2, 1))
    yield Entry(
        "affine coupling, convolution, channel, context", conv_affine(channel, hidden=(3, 2), context_dim=2), (2, 1, 3)
    )
    yield Entry(
        "additive coupling, convolution, arbitrary",
        refflow.AdditiveCoupling(refflow.Mask((2, 1, 2), (1, 2)), conv(refflow.Mask((2, 1, 2), (1, 2)), 1)),
        (2, 1, 2),
    )
    net = refflow.ConvResidualNet.init(
        board, 2, rng=np.random.default_rng(0), width=2, blocks=1, kernel=1, activation="silu", context_dim=1
    )
    yield Entry("affine coupling, residual convolution, context", refflow.AffineCoupling(board, net), (2, 2, 1))
    yield Entry(
        "multi-scale",
        refflow.MultiScale(
            (
                refflow.Chain((refflow.Squeeze((2, 2, 1)), affine(refflow.channel_mask(1, 1, 4), context_dim=1))),
                refflow.ElementwiseAffine.init((1, 1, 2)),
            )
        ),
        (2, 2, 1),
    )
    yield Entry(
        "realnvp for images", refflow.realnvp_image((2, 4, 1), couplings=1, hidden=(), seed=0).bijection, (2, 4, 1)
    )
    yield Entry(
        "glow",
        refflow.glow((2, 2, 2), levels=1, steps=1, hidden=(3,), activation="tanh", context_dim=1, seed=0).bijection,
        (2, 2, 2),
    )


FAMILIES = (
    coupling_entries, elementwise_entries, combined_entries, spline_entries, root_entries, linear_entries,
    autoregressive_entries, image_entries,
)  # fmt: skip

REGISTRY = tuple(entry for family in FAMILIES for entry in family())


def flows():
    """Flows in one and two dimensions, whose mass can be integrated, and in more."""
    normal, two, four = refflow.StandardNormal, refflow.half_mask(2), refflow.half_mask(4)
    yield "realnvp, D = 1", refflow.realnvp(1, layers=2, hidden=(3,), actnorm=True, seed=0), None
    yield "realnvp, D = 2", refflow.realnvp(2, layers=3, hidden=(4,), activation="tanh", seed=0), None
    yield (
        "realnvp, D = 2, context",
        refflow.realnvp(2, layers=2, hidden=(3,), activation="softplus", context_dim=1, seed=0),
        None,
    )
    scaled = refflow.Frozen(refflow.Standardize(np.full(1, 40.0), np.full(1, 8.0)))
    yield (
        "realnvp, D = 1, context standardised",
        refflow.realnvp(1, layers=2, hidden=(3,), context_dim=1, context_preprocessing=scaled, seed=0),
        None,
    )
    yield "maf, D = 2", refflow.maf(2, layers=2, hidden=(4,), activation="tanh", linear="lu", seed=0), None
    yield "iaf, D = 2", refflow.iaf(2, layers=2, hidden=(4,), activation="tanh", seed=0), None
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
    yield (
        "full normal base",
        refflow.Flow(
            refflow.FullNormal(np.zeros(2), np.zeros(2), np.ones(1)),
            refflow.Chain((affine(refflow.half_mask(2)), refflow.Reverse())),
        ),
        None,
    )
    yield "full normal base, D = 4", refflow.Flow(refflow.FullNormal.of(np.ones(4), np.eye(4)), affine(four)), None
    yield "uniform base, D = 1", refflow.Flow(refflow.Uniform((0.0,), (1.0,)), refflow.Sigmoid()), None
    yield (
        "uniform base, D = 2",
        refflow.Flow(
            refflow.Uniform((-1.0, -1.0), (3.0, 3.0)),
            refflow.Chain((affine(two), refflow.Inverse(refflow.Logit(0.0, -1.0, 3.0)))),
        ),
        None,
    )
    yield (
        "student base, D = 1",
        refflow.Flow(refflow.StudentT(3.0, np.zeros(1), np.zeros(1)), refflow.SinhArcsinh.init((1,))),
        None,
    )
    yield "student base, D = 2", refflow.Flow(refflow.StudentT(4.5, np.zeros(2), np.zeros(2)), affine(two)), None
    yield (
        "mixture base, D = 1",
        refflow.Flow(refflow.MixtureOfNormals(np.zeros(3), np.ones((3, 1)), np.zeros((3, 1))), refflow.Reverse()),
        None,
    )
    yield (
        "mixture base, D = 2",
        refflow.Flow(
            refflow.MixtureOfNormals(np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 1))), affine(two)
        ),
        None,
    )
    yield "realnvp, D = 3", refflow.realnvp(3, layers=2, hidden=(4,), seed=0), None
    yield "images", refflow.Flow(normal((2, 2, 1)), affine(refflow.checkerboard_mask(2, 2))), None
    yield "glow", refflow.glow((2, 2, 1), levels=1, steps=1, hidden=(2,), seed=0), None


FLOWS = tuple(flows())
