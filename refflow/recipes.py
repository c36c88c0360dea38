"""Named models, each with its paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Chain,
    Concatenate,
    ElementwiseAffine,
    Mask,
    MultiScale,
    Permutation,
    Squeeze,
    alternating_mask,
    channel_mask,
    checkerboard_mask,
    half_mask,
)
from refflow.conditioners import MLP
from refflow.convolutions import ConvNet
from refflow.distributions import StandardNormal
from refflow.errors import StructureError
from refflow.flow import Flow, Seed
from refflow.modules import replace
from refflow.preprocessing import Dequantization

MASKS = {"half": half_mask, "alternating": alternating_mask}


def _masks(dim: int, kind: str, layers: int) -> list[Mask]:
    """One mask a layer, of which each moves what the one before kept."""
    if not isinstance(dim, int) or dim < 1:
        raise StructureError(f"expected a number of dimensions dim >= 1, got {dim!r}")
    if layers < 1:
        raise StructureError(f"expected at least one layer, got {layers}")
    if kind not in MASKS:
        raise StructureError(f"expected a mask among {', '.join(MASKS)}, got {kind!r}")
    return [MASKS[kind](dim, k % 2 == 0) for k in range(layers)]


def nice(
    dim: int,
    *,
    layers: int = 4,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    mask: str = "alternating",
    context_dim: int = 0,
    dropout: float = 0.0,
    preprocessing: Sequence[Bijection] = (),
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """NICE (Dinh, Krueger and Bengio, 2015): additive couplings with alternating masks, then one trainable scale a
    dimension (section 3.3), on a standard normal.

    The paper uses 4 couplings of 5 hidden layers of 1000 units; the default widths here fit small data.
    """
    rng = np.random.default_rng(seed)
    maps: list[Bijection] = list(preprocessing)
    for m in _masks(dim, mask, layers):
        net = MLP.init(
            len(m.kept), len(m.moved), rng=rng, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(AdditiveCoupling(m, net))
    maps.append(ElementwiseAffine(np.zeros(dim, dtype=dtype), np.zeros(dim, dtype=dtype)))
    return Flow(StandardNormal((dim,)), Chain(tuple(maps)), dequantization)


def realnvp(
    dim: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    mask: str = "half",
    actnorm: bool = False,
    shuffle: bool = False,
    context_dim: int = 0,
    dropout: float = 0.0,
    preprocessing: Sequence[Bijection] = (),
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """RealNVP (Dinh, Sohl-Dickstein and Bengio, 2017) for vectors: affine couplings whose masks alternate, on a
    standard normal. With `actnorm`, an ActNorm before each coupling; with `shuffle`, a random permutation before every
    pair of couplings, so that the halves mix.

    >>> flow = realnvp(3, layers=2, hidden=(8,), seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps: list[Bijection] = list(preprocessing)
    for k, m in enumerate(_masks(dim, mask, layers)):
        if shuffle and k % 2 == 0 and k > 0:
            maps.append(Permutation.random(dim, rng))
        if actnorm:
            maps.append(ActNorm.init(dim, dtype=dtype))
        net = MLP.init(
            len(m.kept), 2 * len(m.moved), rng=rng, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(AffineCoupling(m, net, scale, bound))
    return Flow(StandardNormal((dim,)), Chain(tuple(maps)), dequantization)


def realnvp_image(
    shape: tuple[int, int, int],
    *,
    scales: int = 2,
    couplings: int = 3,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    actnorm: bool = True,
    context_dim: int = 0,
    dropout: float = 0.0,
    preprocessing: Sequence[Bijection] = (),
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """RealNVP for images (H, W, C) (Dinh, Sohl-Dickstein and Bengio, 2017, sections 3.4 to 3.6), on a standard normal.

    Every scale but the last has `couplings` affine couplings with alternating checkerboard masks, a squeeze and as
    many with alternating channel masks, after which half of the channels leave; the last has one checkerboard coupling
    more and nothing else. The paper has 3 couplings, images scaled down to 4 x 4, residual networks of 32 or 64
    channels in 4 or 8 blocks, and batch normalisation, in whose place stands an ActNorm before each coupling
    (`initialize` sets it).

    >>> flow = realnvp_image((4, 4, 1), couplings=1, hidden=(4,), seed=0)
    >>> flow.sample(3, seed=1).shape, flow.base.shape
    ((3, 4, 4, 1), (16,))
    """
    _check_levels(shape, scales, couplings, halvings=scales - 1)
    if shape[0] * shape[1] < 2 * 4 ** (scales - 1):
        raise StructureError(f"expected at least 2 pixels at the last scale, got {shape} in {scales} scales")
    rng = np.random.default_rng(seed)

    def coupling(mask: Mask) -> list[Bijection]:
        net = ConvNet.init(
            mask, 2, rng=rng, hidden=hidden, activation=activation, context_dim=context_dim, dropout=dropout,
            dtype=dtype,
        )  # fmt: skip
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
    return _image_flow(levels, preprocessing, dequantization)


def glow(
    shape: tuple[int, int, int],
    *,
    levels: int = 2,
    steps: int = 4,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    context_dim: int = 0,
    dropout: float = 0.0,
    preprocessing: Sequence[Bijection] = (),
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """Glow (Kingma and Dhariwal, 2018) for images (H, W, C), on a standard normal: L `levels`, each a squeeze and K
    `steps` of ActNorm (`initialize` sets it), invertible 1 x 1 convolution and affine coupling of the channels (the
    last half moves), after which, but for the last level, half of the channels leave.

    The paper has K = 32, L = 3 for images of 32 x 32, networks of 512 channels, and a trainable base; the defaults here
    fit small images. `scale="sigmoid"` is the published code's.

    >>> flow = glow((4, 4, 1), steps=1, hidden=(4,), seed=0)
    >>> flow.encode(np.zeros((2, 4, 4, 1))).shape
    (2, 16)
    """
    _check_levels(shape, levels, steps, halvings=levels)
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(levels):
        squeeze = Squeeze(shape)
        maps: list[Bijection] = [squeeze]
        height, width, channels = squeeze.output_shape
        mask = channel_mask(height, width, channels)
        for _ in range(steps):
            maps.append(ActNorm.init(channels, rank=3, dtype=dtype))
            maps.append(Permutation(tuple(int(i) for i in rng.permutation(channels)), rank=3))  # SWAP for LU(rank=3)
            net = ConvNet.init(
                mask, 2, rng=rng, hidden=hidden, activation=activation, context_dim=context_dim, dropout=dropout,
                dtype=dtype,
            )  # fmt: skip
            maps.append(AffineCoupling(mask, net, scale, bound))
        shape = (height, width, channels - channels // 2)
        blocks.append(Chain(tuple(maps)))
    return _image_flow(blocks, preprocessing, dequantization)


def _check_levels(shape: tuple[int, ...], levels: int, steps: int, halvings: int) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise StructureError(f"expected an image shape (H, W, C), got {shape}")
    if levels < 1 or steps < 1:
        raise StructureError(f"expected at least one level and one step in each, got {levels} and {steps}")
    if any(n % 2**halvings for n in shape[:2]):
        raise StructureError(
            f"expected sides that can be halved {halvings} times, got {shape[0]} x {shape[1]}: take fewer levels, or "
            f"pad or crop the images"
        )


def _image_flow(
    levels: Sequence[Bijection], preprocessing: Sequence[Bijection], dequantization: Dequantization | None
) -> Flow:
    body = MultiScale(tuple(levels))
    return Flow(StandardNormal(body.output_shape), Chain((*preprocessing, body)), dequantization)


def initialize(flow: Flow, x: Any, context: Any = None) -> Flow:
    """Return the flow with every ActNorm set from the batch x, in order: each sees what those before it make of x.

    It looks into chains, multi-scale levels and concatenated pieces; what runs the other way (`Inverse`) or is `Frozen`
    stays as it is.
    """
    return Flow(flow.base, _initialized(flow.bijection, x, context)[0], flow.dequantization)


def _initialized(f: Bijection, x: Any, context: Any) -> tuple[Bijection, Any]:
    """f with its ActNorms set, and f(x)."""
    if isinstance(f, Chain):
        maps = []
        for part in f.bijections:
            part, x = _initialized(part, x, context)
            maps.append(part)
        return replace(f, bijections=tuple(maps)), x
    if isinstance(f, ActNorm):
        f = f.initialized(x)
    elif isinstance(f, MultiScale):
        h, levels = x, []
        for k, level in enumerate(f.levels):
            level, h = _initialized(level, h, context)
            h = f.split(h, k)[1]
            levels.append(level)
        f = replace(f, levels=tuple(levels))
    elif isinstance(f, Concatenate):
        pieces = zip(f.bijections, xp.split(x, f.sizes, axis=f.axis), strict=True)
        f = replace(f, bijections=tuple(_initialized(g, piece, context)[0] for g, piece in pieces))
    return f, f.forward(x, context)[0]
