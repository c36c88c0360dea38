"""pyro-ppl 1.9.2: every transform of a vector or an image, and those that take a context."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from item import Item, collector, draw, on, seeded, shaken
from pyro.distributions import transforms

D = 4
BALL = (-1.0, 1.0)
POSITIVE = (0.0, float("inf"))
NO_INVERSE = "docstring: 'The inverse of this transform does not possess an analytical solution'"


def items() -> Iterable[Item]:
    items, add = collector("pyro")
    for family in (elementwise, fixed, couplings, free, linear, splines, contexts):
        family(add)
    return items


def elementwise(add: Callable[..., None]) -> None:
    add("ELUTransform", transforms.ELUTransform, on((D,), codomain=(-1.0, float("inf"))), "declares codomain positive")
    add("LeakyReLUTransform", transforms.LeakyReLUTransform, on((D,)))
    add(
        "PositivePowerTransform",
        lambda: transforms.PositivePowerTransform(1.5),
        on((D,)),
        "docstring: 'The Jacobian is typically zero or infinite at the origin.'",
    )
    add("SoftplusTransform", transforms.SoftplusTransform, on((D,), codomain=POSITIVE))


def fixed(add: Callable[..., None]) -> None:
    add("DiscreteCosineTransform", transforms.DiscreteCosineTransform, on((D,)))
    add("DiscreteCosineTransform, smooth=1", lambda: transforms.DiscreteCosineTransform(smooth=1.0), on((D,)))
    add("HaarTransform", transforms.HaarTransform, on((D,)))
    add("HaarTransform, D=5, flip", lambda: transforms.HaarTransform(flip=True), on((5,)))
    add("OrderedTransform", transforms.OrderedTransform, on((D,)), "codomain: increasing vectors")
    add("SimplexToOrderedTransform", transforms.SimplexToOrderedTransform, on((D,)), "domain: the simplex")
    add("Permute", lambda: transforms.Permute(torch.tensor([2, 0, 3, 1])), on((D,)))
    add(
        "LowerCholeskyAffine",
        lambda: transforms.LowerCholeskyAffine(draw(D), torch.tril(draw(D, D, seed=1), -1) + 2 * torch.eye(D)),
        on((D,)),
    )


def couplings(add: Callable[..., None]) -> None:
    small = {"hidden_dims": [16]}
    add("AffineCoupling", shaken(lambda: transforms.affine_coupling(D, **small)), on((D,)))
    add("AffineAutoregressive", shaken(lambda: transforms.affine_autoregressive(D, **small)), on((D,)))
    add(
        "AffineAutoregressive, stable",
        shaken(lambda: transforms.affine_autoregressive(D, stable=True, **small)),
        on((D,)),
    )
    add(
        "BatchNorm",
        shaken(lambda: transforms.batchnorm(D)),
        on((D,)),
        "docstring: 'it is not the case that x=g(g^{-1}(x)) during training'",
    )


def free(add: Callable[..., None]) -> None:
    add("Planar", shaken(lambda: transforms.planar(D)), on((D,)), NO_INVERSE)
    add("Radial", shaken(lambda: transforms.radial(D)), on((D,)), NO_INVERSE)
    add("Sylvester", shaken(lambda: transforms.sylvester(D)), on((D,)), NO_INVERSE)
    add("Sylvester, as constructed", seeded(lambda: transforms.sylvester(D)), on((D,)), NO_INVERSE)
    add("Polynomial", shaken(lambda: transforms.polynomial(D)), on((D,)), NO_INVERSE)
    for activation in ("ELU", "LeakyReLU", "sigmoid", "tanh"):
        add(
            f"NeuralAutoregressive, activation={activation}",
            shaken(lambda a=activation: transforms.neural_autoregressive(D, activation=a, hidden_dims=[16])),
            on((D,)),
            NO_INVERSE,
        )
    for residual in (None, "normal", "gated"):
        add(
            f"BlockAutoregressive, residual={residual}",
            shaken(lambda r=residual: transforms.block_autoregressive(D, residual=r), by=0.1),
            on((D,)),
            NO_INVERSE,
        )
    for activation in ("ELU", "LeakyReLU", "sigmoid"):
        add(
            f"BlockAutoregressive, activation={activation}",
            shaken(lambda a=activation: transforms.block_autoregressive(D, activation=a), by=0.1),
            on((D,)),
            NO_INVERSE,
        )


def linear(add: Callable[..., None]) -> None:
    add("Householder", shaken(lambda: transforms.householder(D)), on((D,)))
    add(
        "MatrixExponential",
        shaken(lambda: transforms.matrix_exponential(D)),
        on((D,)),
        "docstring: 'iterations: the number of terms to use in the truncated power series', 8",
    )
    add(
        "GeneralizedChannelPermute",
        shaken(lambda: transforms.generalized_channel_permute(channels=3)),
        on((3, 4, 4)),
    )


def splines(add: Callable[..., None]) -> None:
    for order in ("linear", "quadratic"):
        for bound in (3.0, 32.0):
            note = f"order={order}, bound={bound:g}"
            add(
                f"Spline, {note}",
                shaken(lambda o=order, b=bound: transforms.spline(D, order=o, bound=b), by=1.0),
                on((D,)),
            )
            add(
                f"SplineAutoregressive, {note}",
                shaken(
                    lambda o=order, b=bound: transforms.spline_autoregressive(D, hidden_dims=[16], order=o, bound=b)
                ),
                on((D,)),
            )
    add("SplineCoupling", shaken(lambda: transforms.spline_coupling(D, hidden_dims=[16])), on((D,)))
    add(
        "SplineCoupling, bound=32",
        shaken(lambda: transforms.spline_coupling(D, hidden_dims=[16], bound=32.0)),
        on((D,)),
    )


def contexts(add: Callable[..., None]) -> None:
    makers: dict[str, Callable[..., Any]] = {
        "ConditionalAffineAutoregressive": transforms.conditional_affine_autoregressive,
        "ConditionalAffineCoupling": transforms.conditional_affine_coupling,
        "ConditionalHouseholder": transforms.conditional_householder,
        "ConditionalMatrixExponential": transforms.conditional_matrix_exponential,
        "ConditionalPlanar": transforms.conditional_planar,
        "ConditionalRadial": transforms.conditional_radial,
        "ConditionalSpline": transforms.conditional_spline,
        "ConditionalSplineAutoregressive": transforms.conditional_spline_autoregressive,
        "ConditionalNeuralAutoregressive": transforms.conditional_neural_autoregressive,
    }
    for name, make in makers.items():
        add(name, shaken(lambda m=make: m(D, 2, hidden_dims=[16]), by=0.1), on((D,), context=2))
