"""normflows 1.7.3: every public layer, models and bases. Forward maps noise to data."""

from collections.abc import Callable, Iterable
from typing import Any

import normflows as nf
import torch
from item import Item, collector, draw, on, seeded, shaken
from normflows import flows

D = 4
IMAGE = (4, 4, 4)
BOUNDS = (3.0, 32.0)
UNIT = (0.0, 1.0)
ALTERNATING = torch.tensor([1.0, 0.0, 1.0, 0.0])


def mlp(*sizes: int) -> torch.nn.Module:
    return nf.nets.MLP(list(sizes))


def items() -> Iterable[Item]:
    items, add = collector("normflows")
    for family in (affine, splines, linear, free, normalisation, images, moves, models, bases):
        family(add)
    return items


def affine(add: Callable[..., None]) -> None:
    add("AffineConstFlow", shaken(lambda: flows.AffineConstFlow((D,))), on((D,)))
    add("AffineConstFlow, one feature", shaken(lambda: flows.AffineConstFlow((1,))), on((1,)))
    add("AffineConstFlow, scale=False", shaken(lambda: flows.AffineConstFlow((D,), scale=False)), on((D,)))
    add("AffineConstFlow, a scale a channel", shaken(lambda: flows.AffineConstFlow((4, 1, 1))), on(IMAGE))
    add("CCAffineConst", shaken(lambda: flows.CCAffineConst((D,), 3)), on((D,), context=3))
    for scale_map in ("exp", "sigmoid", "sigmoid_inv"):
        add(
            f"AffineCouplingBlock, scale_map={scale_map}",
            shaken(lambda s=scale_map: flows.AffineCouplingBlock(mlp(2, 16, 4), scale_map=s)),
            on((D,)),
        )
    for mode, name in (("channel_inv", "channel_inv"), ("checkerboard", "checkerboard")):
        add(
            f"AffineCouplingBlock, split_mode={name}",
            shaken(lambda m=mode: flows.AffineCouplingBlock(mlp(2, 16, 4), split_mode=m)),
            on((D,)),
        )
    add("AffineCouplingBlock, D=3", shaken(lambda: flows.AffineCouplingBlock(mlp(2, 16, 2))), on((3,)))
    add(
        "AffineCouplingBlock, scale=False",
        shaken(lambda: flows.AffineCouplingBlock(mlp(2, 16, 2), scale=False)),
        on((D,)),
    )
    add(
        "MaskedAffineFlow",
        shaken(lambda: flows.MaskedAffineFlow(ALTERNATING, mlp(D, 16, D), mlp(D, 16, D))),
        on((D,)),
    )
    add("MaskedAffineFlow, no scale", shaken(lambda: flows.MaskedAffineFlow(ALTERNATING, mlp(D, 16, D))), on((D,)))
    name = "MaskedAffineAutoregressive"
    add(name, shaken(lambda: flows.MaskedAffineAutoregressive(D, 16)), on((D,)))
    add(
        f"{name}, context",
        shaken(lambda: flows.MaskedAffineAutoregressive(D, 16, context_features=2)),
        on((D,), context=2),
    )


def splines(add: Callable[..., None]) -> None:
    coupled, autoregressive = flows.CoupledRationalQuadraticSpline, flows.AutoregressiveRationalQuadraticSpline
    circular = flows.CircularCoupledRationalQuadraticSpline
    circular_ar = flows.CircularAutoregressiveRationalQuadraticSpline
    for bound in BOUNDS:
        tail = f"tail_bound={bound:g}"
        add(f"{coupled.__name__}, {tail}", shaken(lambda b=bound: coupled(D, 1, 16, tail_bound=b)), on((D,)))
        add(
            f"{autoregressive.__name__}, {tail}",
            shaken(lambda b=bound: autoregressive(D, 1, 16, tail_bound=b)),
            on((D,)),
        )
        inside = {"domain": (-bound, bound), "codomain": (-bound, bound)}
        for kind in (circular, circular_ar):
            add(
                f"{kind.__name__}, two of four circular, {tail}",
                shaken(lambda k=kind, b=bound: k(D, 1, 16, ind_circ=[0, 1], tail_bound=b)),
                on((D,)),
                "docstring: 'ind_circ (Iterable): Indices of the circular coordinates'; the others have linear tails",
            )
            add(
                f"{kind.__name__}, two of four circular, {tail}, inside the box",
                shaken(lambda k=kind, b=bound: k(D, 1, 16, ind_circ=[0, 1], tail_bound=b)),
                on((D,), **inside),
            )
    add(
        f"{coupled.__name__}, tails=circular",
        shaken(lambda: coupled(D, 1, 16, tails="circular")),
        on((D,), domain=(-3.0, 3.0), codomain=(-3.0, 3.0)),
    )
    add(
        f"{coupled.__name__}, tails=None",
        shaken(lambda: coupled(D, 1, 16, tails=None)),
        on((D,), domain=UNIT, codomain=UNIT),
        "docstring: 'None for distribution on the compact interval'",
    )
    add(
        f"{coupled.__name__}, context",
        shaken(lambda: coupled(D, 1, 16, num_context_channels=2)),
        on((D,), context=2),
    )
    add(
        f"{autoregressive.__name__}, context, permute_mask",
        shaken(lambda: autoregressive(D, 1, 16, num_context_channels=2, permute_mask=True)),
        on((D,), context=2),
    )
    add(f"{autoregressive.__name__}, as constructed", seeded(lambda: autoregressive(D, 1, 16)), on((D,)))


def linear(add: Callable[..., None]) -> None:
    add("LULinearPermute", shaken(lambda: flows.LULinearPermute(D)), on((D,)))
    add("LULinearPermute, as constructed", seeded(lambda: flows.LULinearPermute(D)), on((D,)))
    for use_lu in (True, False):
        add(
            f"InvertibleAffine, use_lu={use_lu}",
            shaken(lambda lu=use_lu: flows.InvertibleAffine(D, use_lu=lu)),
            on((D,)),
        )
        add(
            f"Invertible1x1Conv, use_lu={use_lu}",
            shaken(lambda lu=use_lu: flows.Invertible1x1Conv(4, use_lu=lu)),
            on(IMAGE),
        )


def free(add: Callable[..., None]) -> None:
    add("Planar", shaken(lambda: flows.Planar((D,))), on((D,)), "no inverse: 'This flow has no algebraic inverse.'")
    add("Planar, act=leaky_relu", shaken(lambda: flows.Planar((D,), act="leaky_relu")), on((D,)))
    add("Planar, images", shaken(lambda: flows.Planar((3, 2, 2))), on((3, 2, 2)))
    add("Radial", shaken(lambda: flows.Radial((D,))), on((D,)), "no inverse")
    for width, exact in ((2, False), (3, True), (3, False)):
        add(
            f"Residual, D={width}, exact_trace={exact}",
            seeded(lambda w=width, e=exact: residual(w, e)),
            on((width,)),
            "the log-determinant is estimated, save in two dimensions in eval mode",
        )


def residual(width: int, exact: bool) -> Any:
    net = nf.nets.LipschitzMLP([width, 16, width], init_zeros=False, lipschitz_const=0.9)
    return flows.Residual(net, reduce_memory=False, exact_trace=exact)


def normalisation(add: Callable[..., None]) -> None:
    def after(make: Callable[[], Any], *shape: int) -> Any:
        layer = make()
        layer(2.0 * draw(64, *shape, seed=1) + 0.5)
        return layer

    first = "docstring: 'on the very first batch we clever initialize the s,t'; in train and in eval"
    add("ActNorm, before a batch", seeded(lambda: flows.ActNorm((D,))), on((D,)), first)
    add("ActNorm, after a batch", shaken(lambda: after(lambda: flows.ActNorm((D,)), D)), on((D,)))
    add("ActNorm, images, after a batch", shaken(lambda: after(lambda: flows.ActNorm((4, 1, 1)), *IMAGE)), on(IMAGE))
    add(
        "BatchNorm",
        flows.BatchNorm,
        on((D,)),
        "docstring: 'Batch Normalization with out considering the derivatives of the batch statistics'",
    )


def images(add: Callable[..., None]) -> None:
    def glow(**more: Any) -> Callable[[], Any]:
        return shaken(lambda: flows.GlowBlock(4, 8, **more))

    def initialised(**more: Any) -> Callable[[], Any]:
        def build() -> Any:
            block = glow(**more)()
            block.inverse(draw(16, *IMAGE, seed=2))
            return block

        return build

    add("GlowBlock, after a batch", initialised(), on(IMAGE))
    add("GlowBlock, scale_map=exp, after a batch", initialised(scale_map="exp"), on(IMAGE))
    add("GlowBlock, use_lu=False, after a batch", initialised(use_lu=False), on(IMAGE))
    add("GlowBlock, split_mode=checkerboard, after a batch", initialised(split_mode="checkerboard"), on(IMAGE))
    add("Squeeze", flows.Squeeze, on(IMAGE), "forward takes channels to pixels")


def moves(add: Callable[..., None]) -> None:
    add("Permute, mode=shuffle", seeded(lambda: flows.Permute(D)), on((D,)))
    add("Permute, mode=swap", lambda: flows.Permute(D, mode="swap"), on((D,)))
    add("Permute, mode=swap, D=3", lambda: flows.Permute(3, mode="swap"), on((3,)))
    box = {"domain": (-1.0, 1.0), "codomain": (-1.0, 1.0)}
    add("PeriodicWrap", lambda: flows.PeriodicWrap([0, 1, 2, 3]), on((D,), **box), "wraps in its inverse only")
    add("PeriodicShift, shift=0.3", lambda: flows.PeriodicShift([0, 2], shift=0.3), on((D,), **box))
    add("Composite", shaken(lambda: flows.Composite([flows.LULinearPermute(D), flows.AffineConstFlow((D,))])), on((D,)))
    add("Reverse of LULinearPermute", shaken(lambda: flows.Reverse(flows.LULinearPermute(D))), on((D,)))
    ends = -0.05 / 0.9, 0.95 / 0.9  # of the default alpha: (sigmoid(z) - alpha) / (1 - 2 alpha)
    add("transforms.Logit", nf.transforms.Logit, on((D,), codomain=ends), "inverse takes data of [0, 1]")
    add("transforms.Shift", nf.transforms.Shift, on((D,)))


def models(add: Callable[..., None]) -> None:
    def real_nvp() -> Any:
        pairs = [(flows.AffineCouplingBlock(mlp(2, 16, 4)), flows.Permute(D, mode="swap")) for _ in range(2)]
        return nf.NormalizingFlow(nf.distributions.DiagGaussian(D), [layer for pair in pairs for layer in pair])

    def spline() -> Any:
        layers = [flows.AutoregressiveRationalQuadraticSpline(D, 1, 16), flows.LULinearPermute(D)]
        return nf.NormalizingFlow(nf.distributions.DiagGaussian(D), layers)

    def conditional() -> Any:
        layers = [flows.MaskedAffineAutoregressive(D, 16, context_features=2), flows.LULinearPermute(D)]
        return nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(D), layers)

    add("NormalizingFlow, affine couplings", shaken(real_nvp, by=0.1), on((D,)))
    add("NormalizingFlow, splines", shaken(spline), on((D,)))
    add("ConditionalNormalizingFlow, autoregressive", shaken(conditional), on((D,), context=2))


def bases(add: Callable[..., None]) -> None:
    kinds = nf.distributions
    add("distributions.DiagGaussian", shaken(lambda: kinds.DiagGaussian(D)), on((D,)))
    add("distributions.base.Uniform", lambda: kinds.base.Uniform(D), on((D,), domain=(-1.0, 1.0)))
    add("distributions.UniformGaussian", lambda: kinds.UniformGaussian(D, [0, 1]), on((D,)))
    add("distributions.GlowBase", shaken(lambda: kinds.GlowBase(IMAGE)), on(IMAGE))
    add("distributions.AffineGaussian", shaken(lambda: kinds.AffineGaussian((D,), (D,))), on((D,)))
    add("distributions.GaussianMixture", shaken(lambda: kinds.GaussianMixture(3, D)), on((D,)))
    add("distributions.GaussianPCA", shaken(lambda: kinds.GaussianPCA(D, 2)), on((D,)))
