"""nflows 0.14: every public transform, its flows and its densities. Forward maps data to noise."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from item import Item, collector, draw, on, seeded, shaken
from nflows import distributions, flows, transforms
from nflows.nn.nets import ConvResidualNet, ResidualNet
from nflows.transforms import base
from nflows.transforms.nonlinearities import CauchyCDF, CauchyCDFInverse
from nflows.utils.torchutils import create_alternating_binary_mask

D = 4
UNIT = (0.0, 1.0)
MASK = create_alternating_binary_mask(D)
IMAGE = (4, 4, 4)
EDGES = (1.0, 3.0, 32.0)
"""Tail bounds: nflows' default; the one of its papers; one where 1e-6 is less than half a unit in the last place."""


def net(width: int, out: int) -> torch.nn.Module:
    return ResidualNet(width, out, hidden_features=16)


def net_of_context(width: int, out: int) -> torch.nn.Module:
    return ResidualNet(width, out, hidden_features=16, context_features=2)


def image_net(width: int, out: int) -> torch.nn.Module:
    return ConvResidualNet(width, out, hidden_channels=8, num_blocks=1)


def items() -> Iterable[Item]:
    items, add = collector("nflows")
    for family in (couplings, splines, autoregressive, linear, nonlinearities, normalisation, moves, whole_flows):
        family(add)
    return items


def couplings(add: Callable[..., None]) -> None:
    for name in ("AffineCouplingTransform", "AdditiveCouplingTransform"):
        kind = getattr(transforms, name)
        add(name, shaken(lambda kind=kind: kind(MASK, net)), on((D,)))
        add(f"{name}, context", shaken(lambda kind=kind: kind(MASK, net_of_context)), on((D,), context=2))
        add(f"{name}, images", shaken(lambda kind=kind: kind(MASK, image_net)), on(IMAGE))
    add(
        "AffineCouplingTransform, as constructed",
        seeded(lambda: transforms.AffineCouplingTransform(MASK, net)),
        on((D,)),
    )


def splines(add: Callable[..., None]) -> None:
    """Elementwise, then as couplings: on the unit box, then with linear tails at each bound."""
    for family in ("Linear", "Quadratic", "Cubic", "RationalQuadratic"):
        cdf = getattr(transforms, f"Piecewise{family}CDF")
        coupling = getattr(transforms, f"Piecewise{family}CouplingTransform")
        add(f"Piecewise{family}CDF", shaken(lambda k=cdf: k((D,))), on((D,), domain=UNIT, codomain=UNIT))
        add(
            f"Piecewise{family}CouplingTransform",
            shaken(lambda k=coupling: k(MASK, net)),
            on((D,), domain=UNIT, codomain=UNIT),
        )
        add(
            f"Piecewise{family}CouplingTransform, tails=linear, apply_unconditional_transform",
            shaken(lambda k=coupling: k(MASK, net, tails="linear", apply_unconditional_transform=True)),
            on((D,)),
        )
        for bound in EDGES:
            with_tails = {"tails": "linear", "tail_bound": bound}
            tails = f"tails=linear, tail_bound={bound:g}"
            add(f"Piecewise{family}CDF, {tails}", shaken(lambda k=cdf, w=with_tails: k((D,), **w)), on((D,)))
            add(
                f"Piecewise{family}CouplingTransform, {tails}",
                shaken(lambda k=coupling, w=with_tails: k(MASK, net, **w)),
                on((D,)),
            )
    add(
        "PiecewiseRationalQuadraticCouplingTransform, tails=linear, images",
        shaken(lambda: transforms.PiecewiseRationalQuadraticCouplingTransform(MASK, image_net, tails="linear")),
        on(IMAGE),
    )
    add(
        "PiecewiseRationalQuadraticCDF, identity_init, tails=linear, as constructed",
        seeded(lambda: transforms.PiecewiseRationalQuadraticCDF((D,), tails="linear", identity_init=True)),
        on((D,)),
    )


def autoregressive(add: Callable[..., None]) -> None:
    size = {"features": D, "hidden_features": 16}
    affine = transforms.MaskedAffineAutoregressiveTransform
    rational = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    quadratic = transforms.MaskedPiecewiseQuadraticAutoregressiveTransform
    name = "MaskedAffineAutoregressiveTransform"
    add(name, shaken(lambda: affine(**size)), on((D,)))
    add(f"{name}, context", shaken(lambda: affine(**size, context_features=2)), on((D,), context=2))
    add(f"{name}, use_batch_norm", shaken(lambda: affine(**size, use_batch_norm=True)), on((D,)))
    add(f"{name}, random_mask", shaken(lambda: affine(**size, random_mask=True, use_residual_blocks=False)), on((D,)))
    for family in ("Linear", "Cubic"):
        kind = getattr(transforms, f"MaskedPiecewise{family}AutoregressiveTransform")
        add(kind.__name__, shaken(lambda k=kind: k(num_bins=10, **size)), on((D,), domain=UNIT, codomain=UNIT))
    for kind in (quadratic, rational):
        add(kind.__name__, shaken(lambda k=kind: k(**size)), on((D,), domain=UNIT, codomain=UNIT))
        for bound in EDGES:
            add(
                f"{kind.__name__}, tails=linear, tail_bound={bound:g}",
                shaken(lambda k=kind, b=bound: k(**size, tails="linear", tail_bound=b)),
                on((D,)),
            )


def linear(add: Callable[..., None]) -> None:
    for cached in (False, True):
        note = ", using_cache" if cached else ""
        add(f"NaiveLinear{note}", shaken(lambda c=cached: transforms.NaiveLinear(D, using_cache=c)), on((D,)))
        add(f"LULinear{note}", shaken(lambda c=cached: transforms.LULinear(D, using_cache=c)), on((D,)))
        add(f"QRLinear{note}", shaken(lambda c=cached: transforms.QRLinear(D, 3, using_cache=c)), on((D,)))
        add(f"SVDLinear{note}", shaken(lambda c=cached: transforms.SVDLinear(D, 4, using_cache=c)), on((D,)))
        add(
            f"OneByOneConvolution{note}",
            shaken(lambda c=cached: transforms.OneByOneConvolution(4, using_cache=c)),
            on(IMAGE),
        )
    add("HouseholderSequence", shaken(lambda: transforms.HouseholderSequence(D, 3)), on((D,)))
    add("LULinear, as constructed", seeded(lambda: transforms.LULinear(D)), on((D,)))


def nonlinearities(add: Callable[..., None]) -> None:
    ball = (-1.0, 1.0)
    add("Tanh", transforms.Tanh, on((D,), codomain=ball))
    add("LogTanh", transforms.LogTanh, on((D,)), "docstring: matches 'the value and the first derivative of tanh'")
    add("LogTanh, cut_point=2", lambda: transforms.LogTanh(cut_point=2), on((D,)))
    add("LeakyReLU", transforms.LeakyReLU, on((D,)))
    add("LeakyReLU, negative_slope=0.2", lambda: transforms.LeakyReLU(0.2), on((D,)))
    add("Sigmoid", transforms.Sigmoid, on((D,), codomain=UNIT))
    add("Sigmoid, temperature=2", lambda: transforms.Sigmoid(temperature=2), on((D,), codomain=UNIT))
    add(
        "Sigmoid, learn_temperature",
        shaken(lambda: transforms.Sigmoid(learn_temperature=True)),
        on((D,), codomain=UNIT),
    )
    add("Logit", transforms.Logit, on((D,), domain=UNIT), "eps=1e-6 is an argument; it has no docstring")
    add("CauchyCDF", CauchyCDF, on((D,), codomain=UNIT))
    add("CauchyCDFInverse", CauchyCDFInverse, on((D,), domain=UNIT))
    add("GatedLinearUnit", transforms.GatedLinearUnit, on((D,), context=D))
    add("GatedLinearUnit, one gate for the row", transforms.GatedLinearUnit, on((D,), context=1))
    cdf = transforms.PiecewiseRationalQuadraticCDF
    add(
        "CompositeCDFTransform, Sigmoid and PiecewiseRationalQuadraticCDF",
        shaken(lambda: transforms.CompositeCDFTransform(transforms.Sigmoid(), cdf((D,)))),
        on((D,)),
    )
    add(
        "CompositeCDFTransform, CauchyCDF and PiecewiseLinearCDF",
        shaken(lambda: transforms.CompositeCDFTransform(CauchyCDF(), transforms.PiecewiseLinearCDF((D,)))),
        on((D,)),
    )


def normalisation(add: Callable[..., None]) -> None:
    def after(make: Callable[[], Any], *shape: int) -> Any:
        layer = make()
        layer.train()
        layer(2.0 * draw(64, *shape, seed=1) + 0.5)
        return layer

    limits = "docstring: 'Inverse is not available in training mode, only in eval mode.'"
    add("BatchNorm, after a batch", shaken(lambda: after(lambda: transforms.BatchNorm(D), D)), on((D,)), limits)
    add("BatchNorm, as constructed", seeded(lambda: transforms.BatchNorm(D)), on((D,)), limits)
    add("ActNorm, before a batch", seeded(lambda: transforms.ActNorm(D)), on((D,)), "initialises itself in train mode")
    add("ActNorm, after a batch", shaken(lambda: after(lambda: transforms.ActNorm(D), D)), on((D,)))
    add("ActNorm, images, after a batch", shaken(lambda: after(lambda: transforms.ActNorm(4), *IMAGE)), on(IMAGE))


def moves(add: Callable[..., None]) -> None:
    add("IdentityTransform", transforms.IdentityTransform, on((D,)))
    add("PointwiseAffineTransform", lambda: transforms.PointwiseAffineTransform(0.5, 3.0), on((D,)))
    add(
        "PointwiseAffineTransform, a scale a feature",
        lambda: transforms.PointwiseAffineTransform(draw(D), torch.exp(draw(D, seed=1))),
        on((D,)),
    )
    add("Permutation", lambda: transforms.Permutation(torch.tensor([2, 0, 3, 1])), on((D,)))
    add("RandomPermutation", seeded(lambda: transforms.RandomPermutation(D)), on((D,)))
    add("ReversePermutation", lambda: transforms.ReversePermutation(D), on((D,)))
    add("SqueezeTransform", transforms.SqueezeTransform, on((3, 4, 4)))
    add("SqueezeTransform, factor=3", lambda: transforms.SqueezeTransform(factor=3), on((1, 3, 3)))
    add("MultiscaleCompositeTransform", shaken(multiscale), on((D,)))
    add("InverseTransform of LULinear", shaken(lambda: base.InverseTransform(transforms.LULinear(D))), on((D,)))


def multiscale() -> Any:
    whole = transforms.MultiscaleCompositeTransform(num_transforms=2)
    hidden = whole.add_transform(transforms.LULinear(D), (D,))
    whole.add_transform(transforms.LULinear(hidden[0]), hidden)
    return whole


def whole_flows(add: Callable[..., None]) -> None:
    add(
        "flows.MaskedAutoregressiveFlow",
        shaken(lambda: flows.MaskedAutoregressiveFlow(D, 16, num_layers=2, num_blocks_per_layer=1)),
        on((D,)),
    )
    add(
        "flows.MaskedAutoregressiveFlow, batch_norm_between_layers",
        shaken(
            lambda: flows.MaskedAutoregressiveFlow(
                D, 16, num_layers=2, num_blocks_per_layer=1, batch_norm_between_layers=True
            )
        ),
        on((D,)),
        "BatchNorm: 'Inverse is not available in training mode, only in eval mode.'",
    )
    add(
        "flows.SimpleRealNVP",
        shaken(lambda: flows.SimpleRealNVP(D, 16, num_layers=2, num_blocks_per_layer=1)),
        on((D,)),
    )
    add("Flow, spline couplings on a StandardNormal, context", shaken(neural_spline_flow), on((D,), context=2))
    add("distributions.StandardNormal", lambda: distributions.StandardNormal((D,)), on((D,)))
    add("distributions.DiagonalNormal", shaken(lambda: distributions.DiagonalNormal((D,))), on((D,)))
    add(
        "distributions.ConditionalDiagonalNormal",
        lambda: distributions.ConditionalDiagonalNormal((D,)),
        on((D,), context=2 * D),
    )
    add("distributions.uniform.BoxUniform", box, on((D,), domain=(-1.0, 2.0)))
    add("distributions.uniform.LotkaVolterraOscillating", lotka_volterra, on((4,), domain=(-5.0, 2.0)))


def neural_spline_flow() -> Any:
    spline = transforms.PiecewiseRationalQuadraticCouplingTransform(
        MASK, net_of_context, tails="linear", tail_bound=3.0
    )
    mixed = transforms.CompositeTransform([spline, transforms.LULinear(D), transforms.RandomPermutation(D)])
    return flows.Flow(mixed, distributions.StandardNormal((D,)))


def box() -> Any:
    from nflows.distributions.uniform import BoxUniform

    return BoxUniform(-torch.ones(D), 2 * torch.ones(D))


def lotka_volterra() -> Any:
    from nflows.distributions.uniform import LotkaVolterraOscillating

    return LotkaVolterraOscillating()
