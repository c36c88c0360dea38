"""Models of vectors by couplings, each with its paper."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refflow.bijections import (
    LU,
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
from refflow.conditioners import MLP, Periodic
from refflow.distributions import Distribution, StandardNormal, Uniform
from refflow.errors import StructureError
from refflow.flow import Flow, Seed
from refflow.preprocessing import Dequantization, Preprocessing, maps_of

MASKS = {"half": half_mask, "alternating": alternating_mask}


LINEAR: dict[str, Callable[..., Bijection]] = {
    "permutation": lambda dim, rng, dtype: Permutation.random(dim, rng),
    "lu": lambda dim, rng, dtype: LU.init(Permutation.random(dim, rng).order, dtype=dtype),
    "rotation": lambda dim, rng, dtype: LU.random(dim, rng, dtype=dtype),
}
"""Linear maps by which layers mix their coordinates: `permutation`, a fixed random one; `lu`, any matrix by its LU
factors, at a random permutation to start with (Durkan et al., 2019, section 4.1); `rotation`, the same at a random
rotation (Kingma and Dhariwal, 2018, section 3.2)."""


def mixing(kind: str | None, dim: int, rng: np.random.Generator, dtype: Any) -> list[Bijection]:
    """The linear map of that name, or none."""
    if kind is None:
        return []
    if kind not in LINEAR:
        raise StructureError(f"expected a linear map among {', '.join(LINEAR)}, or None, got {kind!r}")
    return [LINEAR[kind](dim, rng, dtype)]


def check_size(dim: int, layers: int) -> None:
    """Refuse numbers of dimensions and layers that make no flow."""
    if not isinstance(dim, int) or dim < 1:
        raise StructureError(f"expected a number of dimensions dim >= 1, got {dim!r}")
    if layers < 1:
        raise StructureError(f"expected at least one layer, got {layers}")


def _masks(dim: int, kind: str, layers: int) -> list[Mask]:
    """One mask a layer, of which each moves what the one before kept."""
    check_size(dim, layers)
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
    base: Distribution | None = None,
    preprocessing: Preprocessing = (),
    context_preprocessing: Bijection | None = None,
    dequantization: Dequantization | None = None,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """NICE (Dinh, Krueger and Bengio, 2015): additive couplings with alternating masks, then one trainable scale a
    dimension (section 3.3), on a standard normal or another base.

    The paper uses 4 couplings of 5 hidden layers of 1000 units; the default widths here fit small data.

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for m in _masks(dim, mask, layers):
        net = MLP.init(
            len(m.kept), len(m.moved), rng=rng, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(AdditiveCoupling(m, net))
    maps.append(ElementwiseAffine(np.zeros(dim, dtype=dtype), np.zeros(dim, dtype=dtype)))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)


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
    """RealNVP (Dinh, Sohl-Dickstein and Bengio, 2017) for vectors: affine couplings whose masks alternate, on a
    standard normal or another base. With `actnorm`, an ActNorm before each coupling; with `linear`, a map that mixes
    the halves before every pair of couplings: "permutation", "lu" or "rotation" (`LINEAR`).

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = realnvp(3, layers=2, hidden=(8,), seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for k, m in enumerate(_masks(dim, mask, layers)):
        if k % 2 == 0 and k > 0:
            maps.extend(mixing(linear, dim, rng, dtype))
        if actnorm:
            maps.append(ActNorm.init(dim, dtype=dtype))
        net = MLP.init(
            len(m.kept), 2 * len(m.moved), rng=rng, hidden=hidden, activation=activation, context_dim=context_dim,
            dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(AffineCoupling(m, net, scale, bound))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)


def nsf(
    dim: int,
    *,
    layers: int = 6,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    bins: int = 8,
    bound: float = 5.0,
    mask: str = "alternating",
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
    """Neural spline flow, coupling layers (Durkan, Bekasov, Murray and Papamakarios, 2019): rational-quadratic splines
    whose masks alternate, on a standard normal. With `linear`, a map that mixes the coordinates before every pair of
    couplings (`LINEAR`).

    Outside [-bound, bound] every spline is the identity, so data should be of unit scale: see `standardize`. The paper
    uses 10 couplings with K = 8 bins, bound 3 and residual networks of 2 blocks and 256 units for its tables; the
    defaults here fit small data.

    Data and context should be of unit scale: `preprocessing=standardize(x)`,
    `context_preprocessing=standardize(context)`.

    >>> flow = nsf(3, layers=2, hidden=(8,), bins=4, seed=0)
    >>> flow.sample(5, seed=1).shape
    (5, 3)
    """
    rng = np.random.default_rng(seed)
    maps = maps_of(preprocessing)
    for k, m in enumerate(_masks(dim, mask, layers)):
        if k % 2 == 0 and k > 0:
            maps.extend(mixing(linear, dim, rng, dtype))
        net = MLP.init(
            len(m.kept), raw_size(bins) * len(m.moved), rng=rng, hidden=hidden, activation=activation,
            context_dim=context_dim, dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(RationalQuadraticCoupling(m, net, bins, bound))
    return Flow(base or StandardNormal((dim,)), Chain(tuple(maps)), dequantization, context_preprocessing)


def nsf_circular(
    dim: int,
    *,
    layers: int = 6,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    bins: int = 8,
    bound: float = math.pi,
    mask: str = "alternating",
    context_dim: int = 0,
    dropout: float = 0.0,
    seed: Seed,
    dtype: Any = "float64",
) -> Flow:
    """A flow on the torus (Rezende et al., 2020, section 3.2): couplings by circular splines on angles in
    [-bound, bound], whose networks read cosines and sines, on the uniform density. The density agrees where a circle
    closes.

    >>> flow = nsf_circular(2, layers=2, hidden=(8,), bins=4, seed=0)
    >>> float(np.abs(flow.sample(100, seed=1)).max()) <= math.pi
    True
    """
    rng = np.random.default_rng(seed)
    maps: list[Bijection] = []
    for m in _masks(dim, mask, layers):
        net = MLP.init(
            2 * len(m.kept), raw_size(bins, circular=True) * len(m.moved), rng=rng, hidden=hidden,
            activation=activation, context_dim=context_dim, dropout=dropout, dtype=dtype,
        )  # fmt: skip
        maps.append(RationalQuadraticCoupling(m, Periodic(net, bound), bins, bound, circular=True))
    return Flow(Uniform((-bound,) * dim, (bound,) * dim), Chain(tuple(maps)))
