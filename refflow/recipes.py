"""Named models, each with its paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refflow.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Chain,
    ElementwiseAffine,
    Mask,
    Permutation,
    RationalQuadraticCoupling,
    alternating_mask,
    half_mask,
)
from refflow.bijections.rational_quadratic import raw_size
from refflow.conditioners import MLP
from refflow.distributions import StandardNormal
from refflow.errors import StructureError
from refflow.flow import Flow, Seed
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


def nsf(
    dim: int,
    *,
    layers: int = 6,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    bins: int = 8,
    bound: float = 5.0,
    mask: str = "alternating",
    shuffle: bool = True,
    context_dim: int = 0,
    dropout: float = 0.0,
    preprocessing: Sequence[Bijection] = (),
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """Neural spline flow, coupling layers (Durkan, Bekasov, Murray and Papamakarios, 2019): rational-quadratic splines
    whose masks alternate, on a standard normal. With `shuffle`, a random permutation before every pair of couplings.

    Outside [-bound, bound] every spline is the identity, so data should be of unit scale: see `standardize`. The paper
    uses 10 couplings with K = 8 bins, bound 3 and residual networks of 2 blocks and 256 units for its tables, and LU
    layers in place of permutations; the defaults here fit small data.

    >>> flow = nsf(3, layers=2, hidden=(8,), bins=4, seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps: list[Bijection] = list(preprocessing)
    for k, m in enumerate(_masks(dim, mask, layers)):
        if shuffle and k % 2 == 0 and k > 0:
            maps.append(Permutation.random(dim, rng))
        net = MLP.init(
            len(m.kept), raw_size(bins) * len(m.moved), rng=rng, hidden=hidden, activation=activation,
            context_dim=context_dim, dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(RationalQuadraticCoupling(m, net, bins, bound))
    return Flow(StandardNormal((dim,)), Chain(tuple(maps)), dequantization)


def initialize(flow: Flow, x: Any, context: Any = None) -> Flow:
    """Return the flow with every ActNorm set from the batch x, in order: each sees what those before it make of x."""
    if not isinstance(flow.bijection, Chain):
        raise StructureError(f"expected a flow whose bijection is a Chain, got a {type(flow.bijection).__name__}")
    maps = []
    for f in flow.bijection.bijections:
        f = f.initialized(x) if isinstance(f, ActNorm) else f
        x = f.forward(x, context)[0]
        maps.append(f)
    return Flow(flow.base, Chain(tuple(maps)), flow.dequantization)
