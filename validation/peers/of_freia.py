"""FrEIA 0.2: every public invertible module of one input and one output, and sequences of them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from FrEIA import framework, modules
from item import Item, collector, draw, on, seeded, shaken

D = 4
VECTOR = [(D,)]
IMAGE = (4, 4, 4)
IMAGES = [IMAGE]
UNIT = (0.0, 1.0)


def dense(width: int, out: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.Tanh(), torch.nn.Linear(16, out))


def convolution(width: int, out: int) -> torch.nn.Module:
    first, last = torch.nn.Conv2d(width, 8, 3, padding=1), torch.nn.Conv2d(8, out, 3, padding=1)
    return torch.nn.Sequential(first, torch.nn.Tanh(), last)


def items() -> Iterable[Item]:
    items, add = collector("FrEIA")
    for family in (couplings, all_in_one, fixed, learned, reshapes, residual, sequences):
        family(add)
    return items


def couplings(add: Callable[..., None]) -> None:
    both = ("NICECouplingBlock", "RNVPCouplingBlock", "GLOWCouplingBlock", "GINCouplingBlock", "AffineCouplingOneSided")
    for name in both:
        kind = getattr(modules, name)
        add(name, shaken(lambda k=kind: k(VECTOR, subnet_constructor=dense)), on((D,)))
        add(f"{name}, images", shaken(lambda k=kind: k(IMAGES, subnet_constructor=convolution)), on(IMAGE))
        add(
            f"{name}, condition",
            shaken(lambda k=kind: k(VECTOR, dims_c=[(2,)], subnet_constructor=dense)),
            on((D,), context=2),
        )
    for activation in ("TANH", "SIGMOID"):
        add(
            f"GLOWCouplingBlock, clamp_activation={activation}",
            shaken(
                lambda a=activation: modules.GLOWCouplingBlock(VECTOR, subnet_constructor=dense, clamp_activation=a)
            ),
            on((D,)),
        )
    add(
        "RNVPCouplingBlock, split_len=0.25",
        shaken(lambda: modules.RNVPCouplingBlock(VECTOR, subnet_constructor=dense, split_len=0.25)),
        on((D,)),
    )
    add("GLOWCouplingBlock, D=3", shaken(lambda: modules.GLOWCouplingBlock([(3,)], subnet_constructor=dense)), on((3,)))
    add(
        "ConditionalAffineTransform",
        shaken(lambda: modules.ConditionalAffineTransform(VECTOR, dims_c=[(2,)], subnet_constructor=dense)),
        on((D,), context=2),
    )


def all_in_one(add: Callable[..., None]) -> None:
    variants: dict[str, dict[str, Any]] = {
        "": {},
        ", permute_soft": {"permute_soft": True},
        ", learned_householder_permutation=2": {"learned_householder_permutation": 2},
        ", reverse_permutation": {"reverse_permutation": True},
        ", permute_soft, reverse_permutation": {"permute_soft": True, "reverse_permutation": True},
        ", gin_block": {"gin_block": True},
        ", global_affine_type=SIGMOID": {"global_affine_type": "SIGMOID"},
        ", global_affine_type=EXP": {"global_affine_type": "EXP"},
    }
    for name, more in variants.items():
        add(
            f"AllInOneBlock{name}",
            shaken(lambda m=more: modules.AllInOneBlock(VECTOR, subnet_constructor=dense, **m)),
            on((D,)),
        )
    add(
        "AllInOneBlock, images",
        shaken(lambda: modules.AllInOneBlock(IMAGES, subnet_constructor=convolution)),
        on(IMAGE),
    )
    add(
        "AllInOneBlock, images, permute_soft, gin_block",
        shaken(
            lambda: modules.AllInOneBlock(IMAGES, subnet_constructor=convolution, permute_soft=True, gin_block=True)
        ),
        on(IMAGE),
    )
    add(
        "AllInOneBlock, condition",
        shaken(lambda: modules.AllInOneBlock(VECTOR, dims_c=[(2,)], subnet_constructor=dense)),
        on((D,), context=2),
    )


def matrix() -> Any:
    return draw(D, D) + 2 * torch.eye(D)


def fixed(add: Callable[..., None]) -> None:
    add("PermuteRandom", seeded(lambda: modules.PermuteRandom(VECTOR, seed=1)), on((D,)))
    add("PermuteRandom, images", seeded(lambda: modules.PermuteRandom(IMAGES)), on(IMAGE))
    add("FixedLinearTransform", lambda: modules.FixedLinearTransform(VECTOR, M=matrix(), b=draw(D, seed=1)), on((D,)))
    add("Fixed1x1Conv", lambda: modules.Fixed1x1Conv(IMAGES, M=matrix()), on(IMAGE))
    add("InvertibleSigmoid", lambda: modules.InvertibleSigmoid(VECTOR), on((D,), codomain=UNIT))
    add("InvertibleSigmoid, images", lambda: modules.InvertibleSigmoid(IMAGES), on(IMAGE, codomain=UNIT))


def learned(add: Callable[..., None]) -> None:
    def after(make: Callable[[], Any], *shape: int) -> Any:
        layer = make()
        layer([2.0 * draw(64, *shape, seed=1) + 0.5])
        return layer

    add("InvAutoAct", shaken(lambda: modules.InvAutoAct(VECTOR)), on((D,)))
    add("InvAutoAct, images", shaken(lambda: modules.InvAutoAct(IMAGES)), on(IMAGE))
    add("InvAutoActTwoSided", shaken(lambda: modules.InvAutoActTwoSided(VECTOR)), on((D,)))
    add("InvAutoActTwoSided, images", shaken(lambda: modules.InvAutoActTwoSided(IMAGES)), on(IMAGE))
    add("LearnedElementwiseScaling", shaken(lambda: modules.LearnedElementwiseScaling(VECTOR)), on((D,)))
    add("LearnedElementwiseScaling, images", shaken(lambda: modules.LearnedElementwiseScaling(IMAGES)), on(IMAGE))
    orthogonal = "docstring: the weight is 'projected back to the Stiefel manifold in regular intervals'"
    add(
        "OrthogonalTransform, as constructed", seeded(lambda: modules.OrthogonalTransform(VECTOR)), on((D,)), orthogonal
    )
    for reflections in (2, 3, 4):
        add(
            f"HouseholderPerm, n_reflections={reflections}",
            shaken(lambda n=reflections: modules.HouseholderPerm(VECTOR, n_reflections=n)),
            on((D,)),
        )
    add(
        "HouseholderPerm, fixed",
        seeded(lambda: modules.HouseholderPerm(VECTOR, n_reflections=2, fixed=True)),
        on((D,)),
    )
    add(
        "HouseholderPerm, condition",
        seeded(lambda: modules.HouseholderPerm(VECTOR, dims_c=[(2 * D,)], n_reflections=2)),
        on((D,), context=2 * D),
        "docstring: 'Used as a conditional module, the condition conatins the reflection vectors'",
    )
    first = "docstring: 'use the first batch of data passed through this module'; in train and in eval"
    add("ActNorm, before a batch", seeded(lambda: modules.ActNorm(VECTOR)), on((D,)), first)
    add("ActNorm, after a batch", shaken(lambda: after(lambda: modules.ActNorm(VECTOR), D)), on((D,)))
    add("ActNorm, images, after a batch", shaken(lambda: after(lambda: modules.ActNorm(IMAGES), *IMAGE)), on(IMAGE))
    add("InvAutoFC", seeded(lambda: modules.InvAutoFC(VECTOR)), on((D,)), "docstring: 'only asymptotically invertible'")


def reshapes(add: Callable[..., None]) -> None:
    for name in ("IRevNetDownsampling", "IRevNetUpsampling"):
        kind = getattr(modules, name)
        for legacy in (False, True):
            add(f"{name}, legacy_backend={legacy}", lambda k=kind, b=legacy: k(IMAGES, legacy_backend=b), on(IMAGE))
    for name in ("HaarDownsampling", "HaarUpsampling"):
        kind = getattr(modules, name)
        for note, more in (
            ("", {}),
            (", order_by_wavelet", {"order_by_wavelet": True}),
            (", rebalance=0.5", {"rebalance": 0.5}),
        ):
            add(f"{name}{note}", lambda k=kind, m=more: k(IMAGES, **m), on(IMAGE))
    add(
        "HaarDownsampling, rebalance=-1",
        lambda: modules.HaarDownsampling(IMAGES, rebalance=-1.0),
        on(IMAGE),
        "docstring: rebalance 'Must be !=0'",
    )
    add("Flatten", lambda: modules.Flatten(IMAGES), on(IMAGE))
    add("Reshape", lambda: modules.Reshape(IMAGES, output_dims=(16, 2, 2)), on(IMAGE))


def residual(add: Callable[..., None]) -> None:
    def contractive(**more: Any) -> Any:
        layer = modules.IResNetLayer(VECTOR, **more)
        layer.lipschitz_correction()
        return layer

    remark = "the log-determinant is a Hutchinson estimate of a truncated series; lipschitz_correction() was called"
    add("IResNetLayer", seeded(contractive), on((D,)), remark)
    add("IResNetLayer, spectral_norm_max=0.3", seeded(lambda: contractive(spectral_norm_max=0.3)), on((D,)), remark)


def sequences(add: Callable[..., None]) -> None:
    def glow() -> Any:
        inn = framework.SequenceINN(D)
        for _ in range(2):
            inn.append(modules.AllInOneBlock, subnet_constructor=dense)
        return inn

    def images() -> Any:
        inn = framework.SequenceINN(*IMAGE)
        inn.append(modules.HaarDownsampling)
        inn.append(modules.GLOWCouplingBlock, subnet_constructor=convolution)
        inn.append(modules.Flatten)
        return inn

    def graph() -> Any:
        start = framework.InputNode(D, name="x")
        block = framework.Node(start, modules.GLOWCouplingBlock, {"subnet_constructor": dense})
        mixed = framework.Node(block, modules.PermuteRandom, {"seed": 1})
        return framework.GraphINN([start, block, mixed, framework.OutputNode(mixed, name="z")])

    def conditional() -> Any:
        inn = framework.SequenceINN(D)
        for _ in range(2):
            inn.append(modules.AllInOneBlock, cond=0, cond_shape=(2,), subnet_constructor=dense)
        return inn

    add("SequenceINN of AllInOneBlock", shaken(glow), on((D,)))
    add("SequenceINN of Haar, GLOW, Flatten", shaken(images), on(IMAGE))
    add("SequenceINN of AllInOneBlock, condition", shaken(conditional), on((D,), context=2))
    add("GraphINN of GLOW and PermuteRandom", shaken(graph), on((D,)))
