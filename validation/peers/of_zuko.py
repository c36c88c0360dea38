"""zuko 1.6.0: every public transform and flow, and its distributions. Flows map data to noise."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import zuko
from item import Item, collector, draw, on, seeded, shaken
from zuko import distributions, flows, transforms

D = 3
ELEMENTWISE = (D,)


def items() -> Iterable[Item]:
    items, add = collector("zuko")
    for family in (elementwise, monotone, vectors, lazy, whole_flows, densities):
        family(add)
    return items


def elementwise(add: Callable[..., None]) -> None:
    half, ball = math.pi / 2, (-1.0, 1.0)
    add("IdentityTransform", transforms.IdentityTransform, on(ELEMENTWISE))
    add("CosTransform", transforms.CosTransform, on(ELEMENTWISE, domain=(0.0, math.pi), codomain=ball))
    add("SinTransform", transforms.SinTransform, on(ELEMENTWISE, domain=(-half, half), codomain=ball))
    add("SoftclipTransform", transforms.SoftclipTransform, on(ELEMENTWISE, codomain=ball))
    add(
        "SoftclipTransform, bound=5",
        lambda: transforms.SoftclipTransform(bound=5.0),
        on(ELEMENTWISE, codomain=(-5.0, 5.0)),
    )
    add(
        "CircularShiftTransform",
        transforms.CircularShiftTransform,
        on(ELEMENTWISE, domain=ball, codomain=ball),
        "docstring: 'only bijective over its domain [-B, B]'",
    )
    for name, sign in (("alpha > 0", 1.0), ("alpha < 0", -1.0)):
        add(
            f"SignedPowerTransform, {name}",
            lambda s=sign: transforms.SignedPowerTransform(s * draw(D).abs()),
            on(ELEMENTWISE),
        )
    add("AdditiveTransform", lambda: transforms.AdditiveTransform(draw(D)), on(ELEMENTWISE))
    add(
        "MonotonicAffineTransform",
        lambda: transforms.MonotonicAffineTransform(draw(D), draw(D, seed=1)),
        on(ELEMENTWISE),
    )
    for bound in (5.0, 32.0, 100.0):
        add(f"MonotonicRQSTransform, bound={bound:g}", lambda b=bound: rqs(b), on(ELEMENTWISE))


def rqs(bound: float) -> Any:
    return transforms.MonotonicRQSTransform(draw(D, 8), draw(D, 8, seed=1), draw(D, 7, seed=2), bound=bound)


def monotone(add: Callable[..., None]) -> None:
    approximate = "docstring: 'eps: The absolute tolerance for the inverse transformation', 1e-6"
    add("BernsteinTransform", lambda: transforms.BernsteinTransform(draw(D, 10)), on(ELEMENTWISE), approximate)
    add(
        "BoundedBernsteinTransform",
        lambda: transforms.BoundedBernsteinTransform(draw(D, 10)),
        on(ELEMENTWISE),
        "docstring: 'ensuring a smooth transition to the identity function outside the bounds'",
    )
    add(
        "GaussianizationTransform",
        lambda: transforms.GaussianizationTransform(draw(D, 8), 0.3 * draw(D, 8, seed=1)),
        on(ELEMENTWISE),
        f"declares domain and codomain real; {approximate}",
    )
    add(
        "SOSPolynomialTransform",
        lambda: transforms.SOSPolynomialTransform(draw(D, 3, 5)),
        on(ELEMENTWISE),
        approximate,
    )
    add(
        "MonotonicTransform, f = sinh",
        lambda: transforms.MonotonicTransform(torch.sinh),
        on(ELEMENTWISE),
        approximate,
    )
    add(
        "UnconstrainedMonotonicTransform, g = 1 + x^2",
        lambda: transforms.UnconstrainedMonotonicTransform(lambda x: 1 + x.square()),
        on(ELEMENTWISE),
        f"docstring: 'estimated by a n-point Gauss-Legendre quadrature'; {approximate}",
    )


def vectors(add: Callable[..., None]) -> None:
    def scaled(x: Any) -> Any:
        return transforms.MonotonicAffineTransform(x.sum(dim=-1, keepdim=True).sin(), x.sum(dim=-1, keepdim=True).cos())

    def past(x: Any) -> Any:
        before = torch.cumsum(x, dim=-1) - x
        return transforms.DependentTransform(transforms.MonotonicAffineTransform(before.sin(), before.cos()), 1)

    mask = torch.tensor([True, False, True])
    add("PermutationTransform", lambda: transforms.PermutationTransform(torch.tensor([2, 0, 1])), on((D,)))
    add("RotationTransform", lambda: transforms.RotationTransform(draw(D, D)), on((D,)))
    add("LULinearTransform", lambda: transforms.LULinearTransform(draw(D, D) + 2 * torch.eye(D)), on((D,)))
    add(
        "CouplingTransform",
        lambda: transforms.CouplingTransform(lambda x: transforms.DependentTransform(scaled(x), 1), mask),
        on((D,)),
    )
    add("AutoregressiveTransform", lambda: transforms.AutoregressiveTransform(past, passes=D), on((D,)))
    add("DependentTransform of MonotonicRQSTransform", lambda: transforms.DependentTransform(rqs(5.0), 1), on((D,)))
    add(
        "ComposedTransform",
        lambda: transforms.ComposedTransform(rqs(5.0), transforms.RotationTransform(draw(D, D))),
        on((D,)),
    )
    add(
        "FreeFormJacobianTransform",
        lambda: transforms.FreeFormJacobianTransform(lambda t, x: torch.tanh(x @ (0.5 * draw(D, D)).to(x.dtype))),
        on((D,)),
        "docstring: 'atol: The absolute integration tolerance', 1e-6, rtol 1e-5",
    )


def lazy(add: Callable[..., None]) -> None:
    """Transforms with parameters or networks: modules that give a transform when called with the context."""
    size = {"features": D, "hidden_features": (16,)}
    for name, context in (("", 0), (", context", 2)):
        kinds: dict[str, Callable[..., Any]] = {
            "MaskedAutoregressiveTransform": flows.MaskedAutoregressiveTransform,
            "GeneralCouplingTransform": flows.GeneralCouplingTransform,
            "ElementWiseTransform": flows.ElementWiseTransform,
        }
        for kind, make in kinds.items():
            add(
                f"flows.{kind}{name}",
                shaken(lambda m=make, c=context: m(context=c, **size)),
                on((D,), context=context),
            )
    add(
        "flows.MaskedAutoregressiveTransform, passes=2",
        shaken(lambda: flows.MaskedAutoregressiveTransform(passes=2, **size)),
        on((D,)),
    )


def whole_flows(add: Callable[..., None]) -> None:
    remarks = {
        "NSF": "docstring: 'defined over the domain [-5, 5]. Any feature outside of this domain is not transformed.'",
        "NCSF": "docstring: 'defined over the domain [-pi, pi]'",
        "BPF": "docstring: 'defined over the domain [-5, 5]'",
        "GF": "inverse by bisection, eps 1e-6",
        "CNF": "an ODE, atol 1e-6, rtol 1e-5",
    }
    sizes: dict[str, dict[str, Any]] = {
        name: {"hidden_features": (16,), "transforms": 2} for name in "MAF NICE RealNVP NSF NCSF SOSPF BPF".split()
    }
    sizes["GF"] = {"transforms": 2, "components": 4}
    sizes["CNF"] = {"hidden_features": (16,)}
    small = {"hidden_features": (8,)}
    sizes |= {name: {"transforms": 1, "hidden_features": (16,), "network": small} for name in ("NAF", "UNAF")}
    circle = {"domain": (-math.pi, math.pi)}
    for name, size in sizes.items():
        kind, remark = getattr(flows, name), remarks.get(name, "")
        for note, context in (("", 0), (", context", 2)):
            more = circle if name == "NCSF" else {}
            add(
                f"flows.{name}{note}",
                shaken(lambda k=kind, s=size, c=context: k(D, context=c, **s), by=0.1),
                on((D,), context=context, **more),
                remark,
            )
    add("flows.GMM", shaken(lambda: flows.GMM(D, components=3)), on((D,)))
    add(
        "flows.NSF, passes=2, randperm",
        shaken(lambda: flows.NSF(D, passes=2, randperm=True, hidden_features=(16,), transforms=2), by=0.1),
        on((D,)),
    )
    add("flows.MAF, as constructed", seeded(lambda: flows.MAF(D, hidden_features=(16,))), on((D,)))


def densities(add: Callable[..., None]) -> None:
    add("distributions.DiagNormal", lambda: distributions.DiagNormal(draw(D), draw(D, seed=1).exp()), on((D,)))
    add(
        "distributions.BoxUniform",
        lambda: distributions.BoxUniform(-torch.ones(D), 2 * torch.ones(D)),
        on((D,), domain=(-1.0, 2.0)),
    )
    add("distributions.NormalizingFlow", shaken_flow, on((D,)))
    mixture = zuko.distributions.Mixture
    normals = lambda: distributions.DiagNormal(draw(4, D), draw(4, D, seed=1).exp())  # noqa: E731
    add("distributions.Mixture", lambda: mixture(normals(), draw(4, seed=2)), on((D,)))
    add(
        "distributions.GeneralizedNormal",
        lambda: torch.distributions.Independent(distributions.GeneralizedNormal(draw(D).exp()), 1),
        on((D,)),
    )


def shaken_flow() -> Any:
    base = distributions.DiagNormal(torch.zeros(D), torch.ones(D))
    return distributions.NormalizingFlow(transforms.DependentTransform(rqs(5.0), 1), base)
