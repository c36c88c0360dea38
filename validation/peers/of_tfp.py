"""TensorFlow Probability (nightly, on JAX): every bijector of scalars, vectors or images. They map noise to data."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from item import Item, collector, on
from jax_tools import normal
from tensorflow_probability.substrates import jax as tfp

D = 4
BALL = (-1.0, 1.0)
UNIT = (0.0, 1.0)
INFINITY = float("inf")
POSITIVE = (0.0, INFINITY)
tfb, tfd = tfp.bijectors, tfp.distributions


def items() -> Iterable[Item]:
    items, add = collector("tfp")
    for family in (elementwise, distribution_functions, vectors, splines, networks, densities):
        family(add)
    return items


def arrays(values: dict[str, float]) -> dict[str, Any]:
    """As arrays of JAX's default precision: TFP makes float32 of Python's floats, whatever `jax_enable_x64` says."""
    return {name: jnp.asarray(value, dtype=float) for name, value in values.items()}


def elementwise(add: Callable[..., None]) -> None:
    def to(name: str, codomain: Any = None, domain: Any = None, remark: str = "", **arguments: Any) -> None:
        note = "".join(f", {k}={v:g}" for k, v in arguments.items())
        options = on((D,), domain=domain, codomain=codomain)
        add(f"{name}{note}", lambda: getattr(tfb, name)(**arrays(arguments)), options, remark)

    add("Shift", lambda: tfb.Shift(normal(D)), on((D,)))
    add("Scale", lambda: tfb.Scale(jnp.exp(normal(D))), on((D,)))
    add("Scale, negative", lambda: tfb.Scale(-jnp.exp(normal(D))), on((D,)))
    add("Scale, log_scale", lambda: tfb.Scale(log_scale=normal(D)), on((D,)))
    to("Exp", POSITIVE)
    to("Expm1", (-1.0, INFINITY))
    to("Log", None, POSITIVE)
    to("Log1p", None, (-1.0, INFINITY))
    to("Identity")
    to("Reciprocal", POSITIVE, POSITIVE)
    to("Sigmoid", UNIT)
    to("Sigmoid", (-2.0, 3.0), low=-2.0, high=3.0)
    to("Sinh")
    to("SinhArcsinh", skewness=0.5, tailweight=1.5)
    to("SinhArcsinh", skewness=-1.0, tailweight=0.5)
    to("SoftClip", (-2.0, 3.0), low=-2.0, high=3.0)
    to("SoftClip", (-2.0, 3.0), low=-2.0, high=3.0, hinge_softness=0.1)
    to("Softfloor", temperature=0.5, remark="docstring: 'a differentiable approximation to tf.math.floor'")
    to("Softplus", POSITIVE)
    to("Softplus", POSITIVE, hinge_softness=0.2)
    to("Softplus", (0.5, INFINITY), low=0.5)
    to("Softsign", BALL)
    to("Square", POSITIVE, POSITIVE)
    to("Tanh", BALL)
    to("Power", POSITIVE, POSITIVE, power=1.5)
    to("PowerTransform", POSITIVE, (-2.0, INFINITY), power=0.5)
    to("PowerTransform", POSITIVE, power=0.0)
    to("LambertWTail", shift=0.5, scale=2.0, tailweight=0.2)


def distribution_functions(add: Callable[..., None]) -> None:
    arguments: dict[str, tuple[dict[str, float], Any]] = {
        "NormalCDF": ({}, None),
        "GumbelCDF": ({"loc": 0.5, "scale": 2.0}, None),
        "MoyalCDF": ({"loc": 0.5, "scale": 2.0}, None),
        "WeibullCDF": ({"scale": 2.0, "concentration": 1.5}, POSITIVE),
        "RayleighCDF": ({"scale": 2.0}, POSITIVE),
        "KumaraswamyCDF": ({"concentration1": 1.5, "concentration0": 0.7}, UNIT),
        "GompertzCDF": ({"concentration": 0.7, "rate": 1.5}, POSITIVE),
        "ShiftedGompertzCDF": ({"concentration": 0.7, "rate": 1.5}, POSITIVE),
        "FrechetCDF": ({"loc": 0.5, "scale": 2.0, "concentration": 1.5}, (0.5, INFINITY)),
        "GeneralizedExtremeValueCDF": ({"loc": 0.5, "scale": 2.0, "concentration": 0.4}, (-4.5, INFINITY)),
    }
    for name, (values, domain) in arguments.items():
        add(name, lambda n=name, v=values: getattr(tfb, n)(**arrays(v)), on((D,), domain=domain, codomain=UNIT))
    for concentration in (0.4, -0.4):
        high = INFINITY if concentration > 0 else 0.5 + 2.0 / 0.4
        add(
            f"GeneralizedPareto, concentration={concentration:g}",
            lambda c=concentration: tfb.GeneralizedPareto(**arrays({"loc": 0.5, "scale": 2.0, "concentration": c})),
            on((D,), codomain=(0.5, high)),
        )


def triangle() -> Any:
    return jnp.tril(normal(D, D), -1) + 1.5 * jnp.eye(D)


def vectors(add: Callable[..., None]) -> None:
    add("Ascending", tfb.Ascending, on((D,)), "codomain: increasing vectors")
    add("Cumsum", tfb.Cumsum, on((D,)))
    add("Householder", lambda: tfb.Householder(normal(D)), on((D,)))
    add("Permute", lambda: tfb.Permute([2, 0, 3, 1]), on((D,)))
    add("ScaleMatvecDiag", lambda: tfb.ScaleMatvecDiag(jnp.exp(normal(D))), on((D,)))
    add("ScaleMatvecTriL", lambda: tfb.ScaleMatvecTriL(triangle()), on((D,)))
    add("ScaleMatvecTriL, adjoint", lambda: tfb.ScaleMatvecTriL(triangle(), adjoint=True), on((D,)))
    add(
        "ScaleMatvecLU",
        lambda: tfb.ScaleMatvecLU(normal(D, D) + 2 * jnp.eye(D), jnp.array([2, 0, 3, 1])),
        on((D,)),
    )
    add("SoftmaxCentered", tfb.SoftmaxCentered, on((D,)), "maps D numbers to D+1 that sum to 1")
    add("IteratedSigmoidCentered", tfb.IteratedSigmoidCentered, on((D,)), "maps D numbers to D+1 that sum to 1")
    add("FillTriangular", tfb.FillTriangular, on((6,)), "maps D(D+1)/2 numbers to a matrix")
    add("FillScaleTriL", tfb.FillScaleTriL, on((6,)), "maps D(D+1)/2 numbers to a matrix")
    add("CorrelationCholesky", tfb.CorrelationCholesky, on((3,)), "maps D(D-1)/2 numbers to a matrix")
    add("Reshape", lambda: tfb.Reshape((2, 2), (4,)), on((D,)))
    add("Transpose", lambda: tfb.Transpose([1, 0]), on((2, 3)))
    add("Pad", tfb.Pad, on((D,)), "maps D numbers to D+1")
    add("Chain", lambda: tfb.Chain([tfb.Tanh(), tfb.ScaleMatvecTriL(triangle()), tfb.Shift(normal(D))]), on((D,)))
    add("Invert of Softplus", lambda: tfb.Invert(tfb.Softplus()), on((D,), domain=POSITIVE))
    add("Blockwise", lambda: tfb.Blockwise([tfb.Exp(), tfb.Scale(jnp.asarray(2.0, dtype=float))], [2, 2]), on((D,)))


def splines(add: Callable[..., None]) -> None:
    import jax

    def spline(bound: float) -> Any:
        sizes = lambda seed: 2 * bound * jax.nn.softmax(normal(D, 8, seed=seed))  # noqa: E731
        return tfb.RationalQuadraticSpline(sizes(0), sizes(1), jax.nn.softplus(normal(D, 7, seed=2)), range_min=-bound)

    for bound in (1.0, 3.0, 32.0, 1000.0):
        add(f"RationalQuadraticSpline, range {bound:g}", lambda b=bound: spline(b), on((D,)))


def networks(add: Callable[..., None]) -> None:
    def shift_and_log_scale(x: Any, width: int, **_: Any) -> Any:
        out = jnp.sin(x @ normal(x.shape[-1], 2 * width)) + 0.1
        return out[..., :width], out[..., width:]

    def past(x: Any) -> Any:
        before = jnp.cumsum(x, axis=-1) - x
        return jnp.sin(before), 0.5 * jnp.cos(before)

    add("RealNVP", lambda: tfb.RealNVP(2, shift_and_log_scale_fn=shift_and_log_scale), on((D,)))
    add("RealNVP, negative num_masked", lambda: tfb.RealNVP(-2, shift_and_log_scale_fn=shift_and_log_scale), on((D,)))
    add("MaskedAutoregressiveFlow", lambda: tfb.MaskedAutoregressiveFlow(past), on((D,)))
    add(
        "MaskedAutoregressiveFlow, unroll_loop=True",
        lambda: tfb.MaskedAutoregressiveFlow(past, unroll_loop=True, event_ndims=1),
        on((D,)),
    )


def densities(add: Callable[..., None]) -> None:
    base = lambda: tfd.MultivariateNormalDiag(jnp.zeros(D), jnp.ones(D))  # noqa: E731
    add(
        "TransformedDistribution, triangular",
        lambda: tfd.TransformedDistribution(base(), tfb.ScaleMatvecTriL(triangle())),
        on((D,)),
    )
    add(
        "TransformedDistribution, exp",
        lambda: tfd.TransformedDistribution(base(), tfb.Exp()),
        on((D,), domain=POSITIVE),
    )
