"""Models of vectors by autoregressive layers, each with its paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow.bijections import (
    ActNorm,
    AffineAutoregressive,
    Bijection,
    Chain,
    Inverse,
    RationalQuadraticAutoregressive,
)
from refflow.bijections.rational_quadratic import raw_size
from refflow.distributions import Distribution, StandardNormal
from refflow.flow import Flow, Seed
from refflow.masked import MaskedMLP
from refflow.preprocessing import Dequantization, Preprocessing, maps_of
from refflow.recipes.vectors import check_size, mixing


def _orders(dim: int, layers: int) -> list[tuple[int, ...]]:
    """The degrees of each layer's coordinates: as they stand, reversed, as they stand, ..."""
    check_size(dim, layers)
    forwards = tuple(range(1, dim + 1))
    return [forwards if k % 2 == 0 else forwards[::-1] for k in range(layers)]


def maf(
    dim: int,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    scale: str = "tanh",
    bound: float = 2.0,
    actnorm: bool = False,
    linear: str | None = None,
    context_dim: int = 0,
    dropout: float = 0.0,
    base: Distribution | None = None,
    preprocessing: Preprocessing = (),
    context_preprocessing: Bijection | None = None,
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """The masked autoregressive flow (Papamakarios, Pavlakou and Murray, 2017): affine autoregressive layers of
    alternating order, on a standard normal. A density is one pass a layer, a sample D passes.

    With `actnorm`, an ActNorm before each layer, where the paper has batch normalisation; with `linear`, a map that
    mixes the coordinates before every layer but the first (`LINEAR`). The paper uses 5 or 10 layers of 1 or 2 hidden
    layers of 100 units (512 for its larger data) and unbounded scales (`scale="exp"`).

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = maf(3, layers=2, hidden=(8,), seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for k, degrees in enumerate(_orders(dim, layers)):
        if k > 0:
            maps.extend(mixing(linear, dim, rng, dtype))
        if actnorm:
            maps.append(ActNorm.init(dim, dtype=dtype))
        net = MaskedMLP.init(
            dim, 2, rng=rng, degrees=degrees, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(AffineAutoregressive(net, scale, bound))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)


def iaf(
    dim: int,
    *,
    layers: int = 4,
    hidden: Sequence[int] = (128, 128),
    activation: str = "elu",
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
    """The inverse autoregressive flow (Kingma et al., 2016): the layers of `maf` turned round, so that a sample with
    its density is one pass a layer, and the density of given data D passes.

    The paper uses 2 to 8 layers, ELUs, and gates z' = sigma(s) z + (1 - sigma(s)) m, which `scale="sigmoid"` is with
    t = (1 - sigma(s)) m.

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for degrees in _orders(dim, layers):
        net = MaskedMLP.init(
            dim, 2, rng=rng, degrees=degrees, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(Inverse(AffineAutoregressive(net, scale, bound)))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)


def nsf_ar(
    dim: int,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    bins: int = 8,
    bound: float = 5.0,
    actnorm: bool = False,
    linear: str | None = "lu",
    context_dim: int = 0,
    dropout: float = 0.0,
    base: Distribution | None = None,
    preprocessing: Preprocessing = (),
    context_preprocessing: Bijection | None = None,
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """Neural spline flow, autoregressive layers (Durkan, Bekasov, Murray and Papamakarios, 2019): as `maf`, with
    rational-quadratic splines in place of scales and shifts, and an LU layer between layers.

    Outside [-bound, bound] every spline is the identity, so data should be of unit scale: see `standardize`. The paper
    uses 10 layers with 8 bins, bound 3 and masked residual networks of 2 blocks and 256 units for its tables; the
    networks here are plain.

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = nsf_ar(3, layers=2, hidden=(8,), bins=4, seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for k, degrees in enumerate(_orders(dim, layers)):
        if k > 0:
            maps.extend(mixing(linear, dim, rng, dtype))
        if actnorm:
            maps.append(ActNorm.init(dim, dtype=dtype))
        net = MaskedMLP.init(
            dim, raw_size(bins), rng=rng, degrees=degrees, hidden=hidden, activation=activation,
            context_dim=context_dim, dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(RationalQuadraticAutoregressive(net, bins, bound))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)
