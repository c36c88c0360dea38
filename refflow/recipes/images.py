"""Named models of images (H, W, C), each with its paper. Their latents are flat vectors (`MultiScale`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow.bijections import (
    LU,
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    Mask,
    MultiScale,
    Squeeze,
    channel_mask,
    checkerboard_mask,
)
from refflow.conditioners import Conditioner
from refflow.convolutions import ConvNet, ConvResidualNet
from refflow.distributions import Distribution, StandardNormal
from refflow.errors import StructureError, require_sequence
from refflow.flow import Flow, Seed
from refflow.preprocessing import Dequantization, Preprocessing, maps_of


def realnvp_image(
    shape: tuple[int, int, int],
    *,
    scales: int | None = None,
    couplings: int = 3,
    hidden: Sequence[int] = (64, 64),
    blocks: int = 0,
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    actnorm: bool = True,
    context_dim: int = 0,
    dropout: float = 0.0,
    base: Distribution | None = None,
    preprocessing: Preprocessing = (),
    context_preprocessing: Bijection | None = None,
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """RealNVP for images (H, W, C) (Dinh, Sohl-Dickstein and Bengio, 2017, sections 3.4 to 3.6), on a standard normal
    or another base of vectors.

    Every scale but the last has `couplings` affine couplings with alternating checkerboard masks, a squeeze and as
    many with alternating channel masks, after which half of the channels leave; the last has one checkerboard coupling
    more and nothing else. `scales` is 2 if not given, or 1 for sides that cannot be halved. Networks are plain, of the
    `hidden` widths, or residual with so many `blocks` of hidden[0] channels.

    The paper has 3 couplings, images scaled down to 4 x 4, residual networks of 32 or 64 channels in 2 to 8 blocks, and
    batch normalisation, in whose place stands an ActNorm before each coupling (`initialize` sets it).

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = realnvp_image((4, 4, 1), couplings=1, hidden=(4,), seed=0)
    >>> flow.sample(3, seed=1).shape, flow.base.shape
    ((3, 4, 4, 1), (16,))
    """
    if scales is None:
        scales = 2 if _halvings(shape) and shape[:2] != (2, 2) else 1
    _check_levels(shape, scales, couplings, halvings=scales - 1)
    if shape[0] * shape[1] < 2 * 4 ** (scales - 1):
        raise StructureError(f"expected at least 2 pixels at the last scale, got {shape} in {scales} scales")
    rng = np.random.default_rng(seed)
    network: dict[str, Any] = {
        "rng": rng, "hidden": hidden, "blocks": blocks, "activation": activation, "context_dim": context_dim,
        "dropout": dropout, "dtype": dtype,
    }  # fmt: skip

    def coupling(mask: Mask) -> list[Bijection]:
        net = _network(mask, **network)
        norm: list[Bijection] = [ActNorm.init(mask.event_shape[-1], rank=3, dtype=dtype)] if actnorm else []
        return [*norm, AffineCoupling(mask, net, scale, bound)]

    levels = []
    for level in range(scales):
        last = level == scales - 1
        maps = [m for k in range(couplings + last) for m in coupling(checkerboard_mask(*shape, k % 2 == 0))]
        if not last:
            squeeze = Squeeze(shape)
            height, width, channels = squeeze.output_shape
            masks = [channel_mask(height, width, channels, k % 2 == 0) for k in range(couplings)]
            maps += [squeeze, *(m for mask in masks for m in coupling(mask))]
            shape = (height, width, channels - channels // 2)
        levels.append(Chain(tuple(maps)))
    return _image_flow(levels, base, preprocessing, dequantization, context_preprocessing)


def glow(
    shape: tuple[int, int, int],
    *,
    levels: int | None = None,
    steps: int = 4,
    hidden: Sequence[int] = (64, 64),
    blocks: int = 0,
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    context_dim: int = 0,
    dropout: float = 0.0,
    base: Distribution | None = None,
    preprocessing: Preprocessing = (),
    context_preprocessing: Bijection | None = None,
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """Glow (Kingma and Dhariwal, 2018) for images (H, W, C), on a standard normal or another base of vectors: L
    `levels`, each a squeeze and K `steps` of ActNorm (`initialize` sets it), invertible 1 x 1 convolution and affine
    coupling of the channels (the last half moves), after which, but for the last level, half of the channels leave.

    `levels` is 2 if not given, or 1 for sides that can be halved once only. The paper has K = 32, L = 3 for images of
    32 x 32, networks of 512 channels, and a trainable base; the defaults here fit small images. `scale="sigmoid"` is
    the published code's. Networks as in `realnvp_image`.

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = glow((4, 4, 1), steps=1, hidden=(4,), seed=0)
    >>> flow.encode(np.zeros((2, 4, 4, 1))).shape
    (2, 16)
    """
    if levels is None:
        levels = 2 if _halvings(shape) >= 2 else 1
    _check_levels(shape, levels, steps, halvings=levels)
    rng = np.random.default_rng(seed)
    network: dict[str, Any] = {
        "rng": rng, "hidden": hidden, "blocks": blocks, "activation": activation, "context_dim": context_dim,
        "dropout": dropout, "dtype": dtype,
    }  # fmt: skip
    made = []
    for _ in range(levels):
        squeeze = Squeeze(shape)
        maps: list[Bijection] = [squeeze]
        height, width, channels = squeeze.output_shape
        mask = channel_mask(height, width, channels)
        for _ in range(steps):
            maps.append(ActNorm.init(channels, rank=3, dtype=dtype))
            maps.append(LU.random(channels, rng, rank=3, dtype=dtype))
            net = _network(mask, **network)
            maps.append(AffineCoupling(mask, net, scale, bound))
        shape = (height, width, channels - channels // 2)
        made.append(Chain(tuple(maps)))
    return _image_flow(made, base, preprocessing, dequantization, context_preprocessing)


def _network(mask: Mask, *, hidden: Sequence[int], blocks: int, **options: Any) -> Conditioner:
    """The network of an affine coupling: plain, or residual if it has blocks."""
    require_sequence(hidden, "hidden")
    if blocks:
        return ConvResidualNet.init(mask, 2, width=hidden[0], blocks=blocks, **options)
    return ConvNet.init(mask, 2, hidden=hidden, **options)


def _is_image(shape: Any) -> bool:
    return isinstance(shape, tuple | list) and len(shape) == 3 and min(shape) > 0


def _halvings(shape: tuple[int, ...]) -> int:
    """How often height and width can be halved."""
    n = 0
    while _is_image(shape) and all(side % 2 ** (n + 1) == 0 for side in shape[:2]):
        n += 1
    return n


def _check_levels(shape: tuple[int, ...], levels: int, steps: int, halvings: int) -> None:
    if not _is_image(shape):
        raise StructureError(f"expected an image shape (H, W, C), got {shape}")
    if levels < 1 or steps < 1:
        raise StructureError(f"expected at least one level and one step in each, got {levels} and {steps}")
    if any(n % 2**halvings for n in shape[:2]):
        raise StructureError(
            f"expected sides that can be halved {halvings} times, got {shape[0]} x {shape[1]}: take fewer levels, or "
            f"pad or crop the images"
        )


def _image_flow(
    levels: Sequence[Bijection],
    base: Distribution | None,
    preprocessing: Preprocessing,
    dequantization: Dequantization | None,
    context_preprocessing: Bijection | None,
) -> Flow:
    body = MultiScale(tuple(levels))
    chain = Chain((*maps_of(preprocessing), body))
    return Flow(base or StandardNormal(body.output_shape), chain, dequantization, context_preprocessing)
