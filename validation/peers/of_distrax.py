"""distrax 0.1.9: every public bijector and transformed distributions. Bijectors map noise to data."""

from collections.abc import Callable, Iterable
from typing import Any

import distrax
import jax.numpy as jnp
from item import Item, collector, on
from jax_tools import normal

D = 4
BALL = (-1.0, 1.0)
UNIT = (0.0, 1.0)


def items() -> Iterable[Item]:
    items, add = collector("distrax")
    for family in (elementwise, splines, linear, couplings, densities):
        family(add)
    return items


def vector(bijector: Any) -> Any:
    """An elementwise bijector as one of a vector: distrax's own wrapper."""
    return distrax.Block(bijector, 1)


def elementwise(add: Callable[..., None]) -> None:
    add("ScalarAffine", lambda: vector(distrax.ScalarAffine(normal(D), log_scale=normal(D, seed=1))), on((D,)))
    add("ScalarAffine, negative scale", lambda: vector(distrax.ScalarAffine(0.5, scale=-2.0 * jnp.ones(D))), on((D,)))
    add("Shift", lambda: vector(distrax.Shift(normal(D))), on((D,)))
    add("Sigmoid", lambda: vector(distrax.Sigmoid()), on((D,), codomain=UNIT))
    add("Tanh", lambda: vector(distrax.Tanh()), on((D,), codomain=BALL))
    add("GumbelCDF", lambda: vector(distrax.GumbelCDF()), on((D,), codomain=UNIT))
    add("Lambda, sinh", lambda: vector(distrax.Lambda(jnp.sinh)), on((D,)))
    add("Lambda, exp", lambda: vector(distrax.Lambda(jnp.exp)), on((D,), codomain=(0.0, float("inf"))))
    add("Inverse of Sigmoid", lambda: vector(distrax.Inverse(distrax.Sigmoid())), on((D,), domain=UNIT))
    add("Chain", lambda: distrax.Chain([vector(distrax.Tanh()), triangular()]), on((D,), codomain=BALL))


def splines(add: Callable[..., None]) -> None:
    for slopes in ("unconstrained", "lower_identity", "upper_identity", "identity", "circular"):
        box = {"domain": (-3.0, 3.0), "codomain": (-3.0, 3.0)} if slopes == "circular" else {}
        add(
            f"RationalQuadraticSpline, boundary_slopes={slopes}",
            lambda s=slopes: vector(distrax.RationalQuadraticSpline(normal(D, 25), -3.0, 3.0, boundary_slopes=s)),
            on((D,), **box),
        )
    for bound in (1.0, 32.0, 1000.0):
        add(
            f"RationalQuadraticSpline, range {bound:g}",
            lambda b=bound: vector(distrax.RationalQuadraticSpline(normal(D, 25), -b, b, boundary_slopes="identity")),
            on((D,)),
        )
    add(
        "RationalQuadraticSpline, zeros",
        lambda: vector(distrax.RationalQuadraticSpline(jnp.zeros(25), -3.0, 3.0)),
        on((D,)),
    )


def triangular() -> Any:
    return distrax.TriangularLinear(jnp.tril(normal(D, D), -1) + 1.5 * jnp.eye(D))


def linear(add: Callable[..., None]) -> None:
    add("DiagLinear", lambda: distrax.DiagLinear(jnp.exp(normal(D))), on((D,)))
    add("TriangularLinear", triangular, on((D,)))
    add(
        "TriangularLinear, is_lower=False",
        lambda: distrax.TriangularLinear(jnp.triu(normal(D, D), 1) + 1.5 * jnp.eye(D), is_lower=False),
        on((D,)),
    )
    add(
        "LowerUpperTriangularAffine",
        lambda: distrax.LowerUpperTriangularAffine(normal(D, D) + 2 * jnp.eye(D), normal(D, seed=1)),
        on((D,)),
    )
    add(
        "UnconstrainedAffine",
        lambda: distrax.UnconstrainedAffine(normal(D, D) + 2 * jnp.eye(D), normal(D, seed=1)),
        on((D,)),
    )
    add(
        "DiagPlusLowRankLinear",
        lambda: distrax.DiagPlusLowRankLinear(jnp.exp(normal(D)), normal(D, 2, seed=1), 0.5 * normal(D, 2, seed=2)),
        on((D,)),
    )


def couplings(add: Callable[..., None]) -> None:
    def affine(parameters: Any) -> Any:
        shift, log_scale = jnp.split(parameters, 2, axis=-1)
        return distrax.ScalarAffine(shift, log_scale=log_scale)

    def spline(parameters: Any) -> Any:
        return distrax.RationalQuadraticSpline(parameters.reshape(*parameters.shape[:-1], -1, 13), -3.0, 3.0)

    def conditioner(out: int) -> Callable[[Any], Any]:
        return lambda x: jnp.sin(x @ normal(x.shape[-1], out)) + 0.1

    mask = jnp.arange(D) % 2 == 0
    masked = {"mask": mask, "bijector": affine, "conditioner": conditioner(2 * D)}
    add("MaskedCoupling, affine", lambda: distrax.MaskedCoupling(**masked), on((D,)))
    add(
        "MaskedCoupling, splines",
        lambda: distrax.MaskedCoupling(mask=mask, bijector=spline, conditioner=conditioner(13 * D)),
        on((D,)),
    )
    for swap in (False, True):
        add(
            f"SplitCoupling, affine, swap={swap}",
            lambda s=swap: distrax.SplitCoupling(
                split_index=2, event_ndims=1, conditioner=conditioner(4), bijector=lambda p: vector(affine(p)), swap=s
            ),
            on((D,)),
        )


def densities(add: Callable[..., None]) -> None:
    base = lambda: distrax.MultivariateNormalDiag(jnp.zeros(D), jnp.ones(D))  # noqa: E731
    add("Transformed, triangular", lambda: distrax.Transformed(base(), triangular()), on((D,)))
    add(
        "Transformed, tanh",
        lambda: distrax.Transformed(base(), vector(distrax.Tanh())),
        on((D,), domain=BALL),
    )
    add("MultivariateNormalTri", lambda: distrax.MultivariateNormalTri(normal(D), triangular().matrix), on((D,)))
    add(
        "MultivariateNormalDiagPlusLowRank",
        lambda: distrax.MultivariateNormalDiagPlusLowRank(normal(D), jnp.exp(normal(D)), 0.3 * normal(D, 2, seed=1)),
        on((D,)),
    )
    add(
        "MixtureSameFamily of normals",
        lambda: distrax.MixtureSameFamily(
            distrax.Categorical(logits=normal(3)),
            distrax.MultivariateNormalDiag(normal(3, D), jnp.exp(normal(3, D, seed=1))),
        ),
        on((D,)),
    )
