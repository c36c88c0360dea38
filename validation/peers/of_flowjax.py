"""flowjax 19.1.2: every public bijection and flow. One point at a time; bijections map noise to data."""

from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax import bijections, distributions, flows
from item import Item, collector, on
from jax_tools import normal, shaken_tree

D = 4
BALL = (-1.0, 1.0)
UNIT = (0.0, 1.0)
POSITIVE = (0.0, float("inf"))


def items() -> Iterable[Item]:
    items, add = collector("flowjax")
    for family in (elementwise, linear, splines, networks, combinations, whole_flows):
        family(add)
    return items


def moved(make: Callable[[], Any], by: float = 0.3) -> Callable[[], Any]:
    return lambda: shaken_tree(make(), by=by)


def key(seed: int = 0) -> Any:
    return jax.random.key(seed)


def elementwise(add: Callable[..., None]) -> None:
    add("Affine", moved(lambda: bijections.Affine(normal(D), jnp.exp(normal(D, seed=1)))), on((D,)))
    add("Loc", lambda: bijections.Loc(normal(D)), on((D,)))
    add("Scale", lambda: bijections.Scale(jnp.exp(normal(D))), on((D,)))
    add("Exp", lambda: bijections.Exp((D,)), on((D,), codomain=POSITIVE))
    add("SoftPlus", lambda: bijections.SoftPlus((D,)), on((D,), codomain=POSITIVE))
    add("Sigmoid", lambda: bijections.Sigmoid((D,)), on((D,), codomain=UNIT))
    add("Tanh", lambda: bijections.Tanh((D,)), on((D,), codomain=BALL))
    add("LeakyTanh, max_val=3", lambda: bijections.LeakyTanh(3, (D,)), on((D,)))
    add("LeakyTanh, max_val=1", lambda: bijections.LeakyTanh(1.0, (D,)), on((D,)))
    for exponent in (2, 0.5, -1.5):
        add(
            f"Power, exponent={exponent:g}",
            lambda e=exponent: bijections.Power(e, (D,)),
            on((D,), domain=POSITIVE, codomain=POSITIVE),
            "docstring: 'Supports postive values, over which this is a bijection'",
        )


def linear(add: Callable[..., None]) -> None:
    for lower in (True, False):
        add(
            f"TriangularAffine, lower={lower}",
            lambda low=lower: bijections.TriangularAffine(
                normal(D), normal(D, D, seed=1).at[jnp.diag_indices(D)].set(jnp.exp(normal(D))), lower=low
            ),
            on((D,)),
        )
    add("Householder", lambda: bijections.Householder(normal(D)), on((D,)))
    add("DiscreteCosine", lambda: bijections.DiscreteCosine((D,)), on((D,)))
    add("Permute", lambda: bijections.Permute(jnp.array([2, 0, 3, 1])), on((D,)))
    add("Flip", lambda: bijections.Flip((D,)), on((D,)))
    add("Identity", lambda: bijections.Identity((D,)), on((D,)))
    add("Reshape of Affine", lambda: bijections.Reshape(bijections.Affine(normal(D)), (2, 2)), on((2, 2)))
    add("Planar", moved(lambda: bijections.Planar(key(), dim=D)), on((D,)), "no inverse with tanh")
    add("Planar, negative_slope=0.2", moved(lambda: bijections.Planar(key(), dim=D, negative_slope=0.2)), on((D,)))
    add(
        "Planar, negative_slope=0.2, condition",
        moved(lambda: bijections.Planar(key(), dim=D, cond_dim=2, negative_slope=0.2, width_size=8, depth=1)),
        on((D,), context=2),
    )
    add(
        "AdditiveCondition",
        lambda: bijections.AdditiveCondition(eqx.nn.Linear(2, D, key=key()), (D,), (2,)),
        on((D,), context=2),
    )


def splines(add: Callable[..., None]) -> None:
    def spline(interval: Any) -> Any:
        make = lambda k: shaken_tree(bijections.RationalQuadraticSpline(knots=8, interval=interval), k)  # noqa: E731
        return bijections.Stack([make(i) for i in range(D)])

    for interval in (1, 4, 32, 1000, (0.0, 1.0)):
        add(f"RationalQuadraticSpline, interval={interval}", lambda i=interval: spline(i), on((D,)))
    add(
        "RationalQuadraticSpline, as constructed",
        lambda: bijections.RationalQuadraticSpline(knots=8, interval=4),
        on(()),
    )
    add(
        "Vmap of RationalQuadraticSpline",
        moved(
            lambda: bijections.Vmap(
                eqx.filter_vmap(lambda: bijections.RationalQuadraticSpline(knots=8, interval=4), axis_size=D)(),
                in_axes=eqx.if_array(0),
            )
        ),
        on((D,)),
    )


def networks(add: Callable[..., None]) -> None:
    affine = bijections.Affine
    width = {"nn_width": 16, "nn_depth": 1}
    for note, cond in (("", None), (", condition", 2)):
        context = cond or 0
        add(
            f"Coupling{note}",
            moved(
                lambda c=cond: bijections.Coupling(
                    key(), transformer=affine(), untransformed_dim=2, dim=D, cond_dim=c, **width
                )
            ),
            on((D,), context=context),
        )
        add(
            f"MaskedAutoregressive{note}",
            moved(
                lambda c=cond: bijections.MaskedAutoregressive(key(), transformer=affine(), dim=D, cond_dim=c, **width)
            ),
            on((D,), context=context),
        )
        add(
            f"BlockAutoregressiveNetwork{note}",
            moved(lambda c=cond: bijections.BlockAutoregressiveNetwork(key(), dim=D, cond_dim=c, depth=1, block_dim=4)),
            on((D,), context=context),
            "no inverse: 'Consider providing a numerical method'",
        )


def combinations(add: Callable[..., None]) -> None:
    def triangular() -> Any:
        return bijections.TriangularAffine(jnp.zeros(D), normal(D, D).at[jnp.diag_indices(D)].set(1.5))

    add("Chain", lambda: bijections.Chain([triangular(), bijections.Tanh((D,))]), on((D,), codomain=BALL))
    add("Invert of TriangularAffine", lambda: bijections.Invert(triangular()), on((D,)))
    add(
        "Concatenate",
        lambda: bijections.Concatenate([bijections.Affine(normal(2)), bijections.LeakyTanh(2, (2,))]),
        on((D,)),
    )
    add("Stack", lambda: bijections.Stack([bijections.Affine(0.5, 2.0), bijections.LeakyTanh(2)]), on((2,)))
    add(
        "Indexed",
        lambda: bijections.Indexed(bijections.Affine(normal(2)), jnp.array([0, 2]), (D,)),
        on((D,)),
    )
    add("Sandwich", lambda: bijections.Sandwich(bijections.LeakyTanh(2, (D,)), triangular()), on((D,)))
    add(
        "Scan of Householder",
        lambda: bijections.Scan(eqx.filter_vmap(lambda k: bijections.Householder(jax.random.normal(k, (D,))))(keys())),
        on((D,)),
    )


def keys() -> Any:
    return jax.random.split(key(3), D)


def whole_flows(add: Callable[..., None]) -> None:
    base = lambda: distributions.Normal(jnp.zeros(D))  # noqa: E731
    spline = lambda: bijections.RationalQuadraticSpline(knots=6, interval=4)  # noqa: E731
    small = {"flow_layers": 2, "nn_width": 16}
    variants: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "coupling_flow": (flows.coupling_flow, small),
        "coupling_flow, splines": (flows.coupling_flow, small | {"transformer": spline()}),
        "masked_autoregressive_flow": (flows.masked_autoregressive_flow, small),
        "masked_autoregressive_flow, splines": (flows.masked_autoregressive_flow, small | {"transformer": spline()}),
        "block_neural_autoregressive_flow": (flows.block_neural_autoregressive_flow, {"nn_block_dim": 4}),
        "planar_flow": (flows.planar_flow, {"flow_layers": 2, "negative_slope": 0.2}),
        "triangular_spline_flow": (flows.triangular_spline_flow, {"flow_layers": 2}),
    }
    for name, (make, more) in variants.items():
        add(f"flows.{name}", moved(lambda m=make, o=more: m(key(), base_dist=base(), **o), by=0.1), on((D,)))
    add(
        "flows.coupling_flow, condition",
        moved(lambda: flows.coupling_flow(key(), base_dist=base(), cond_dim=2, **small), by=0.1),
        on((D,), context=2),
    )
    add(
        "flows.masked_autoregressive_flow, condition",
        moved(lambda: flows.masked_autoregressive_flow(key(), base_dist=base(), cond_dim=2, **small), by=0.1),
        on((D,), context=2),
    )
    for name in ("Normal", "StudentT", "Laplace", "Logistic", "Cauchy", "Gumbel"):
        kind = getattr(distributions, name)
        parameters = {"df": 3.0 * jnp.ones(D)} if name == "StudentT" else {}
        add(f"distributions.{name}", lambda k=kind, p=parameters: k(loc=normal(D), scale=jnp.ones(D), **p), on((D,)))
