r"""Hypothesis strategies: points, parameters, masks, permutations and whole flows, for property tests of your own.

Every number is drawn on a dyadic grid, k / 8 times a scale, and never through a seed: what Hypothesis shrinks to is
then something to read ("weight = 0, bias = 2.125, x = (0, 0.125)" points at a clamp, "seed 47148" at nothing), and sums
of such numbers round little. Use parameter scales 1, 3 and 10: some faults show only where a network's output is large.

>>> from hypothesis import given, settings
>>> import refflow
>>> from refflow import strategies, verification
>>> layer = refflow.ElementwiseAffine.init((2,))
>>> @settings(max_examples=5, database=None)
... @given(strategies.parameters(layer, scale=3.0), strategies.points((2,)))
... def test_round_trip(layer, x):
...     verification.round_trip(layer, x)
>>> test_round_trip()
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from refflow.arrays import rebuild
from refflow.bijections import (
    SCALE_MAPS,
    AdditiveCoupling,
    AffineCoupling,
    Bijection,
    Chain,
    ElementwiseAffine,
    Mask,
    Permutation,
    Reverse,
)
from refflow.bijections.base import event_size
from refflow.conditioners import ACTIVATIONS, MLP
from refflow.distributions import StandardNormal
from refflow.errors import MissingExtraError, require_sequence
from refflow.flow import Flow
from refflow.modules import arrays, bind_arrays, named_arrays

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays as draw_arrays
    from hypothesis.strategies import SearchStrategy
except ImportError as error:
    raise MissingExtraError("refflow.strategies needs Hypothesis: pip install 'refflow[laws]'") from error

M = TypeVar("M")

SCALES = (1.0, 3.0, 10.0)
"""The parameter scales that property tests should visit."""

POSITIVE = ("std", "variance")
"""How the names of arrays end whose numbers must be positive."""


def dyadic(scale: float = 1.0, *, positive: bool = False) -> SearchStrategy[float]:
    """Numbers k / 8 * scale with |k| <= 8, or 1 <= k <= 8."""
    return st.integers(1 if positive else -8, 8).map(lambda k: k / 8 * scale)


def points(
    event_shape: Sequence[int],
    *,
    rows: int | tuple[int, int] = (1, 6),
    scale: float = 4.0,
    domain: tuple[float, float] | None = None,
    dtype: Any = np.float64,
) -> SearchStrategy[np.ndarray]:
    """Rows `(n, *event_shape)` of numbers k / 8 * scale with |k| <= 8; in a domain (low, high), at low + (high - low)
    j / 64 with 0 < j < 64. `rows` is their number, or its least and greatest."""
    require_sequence(event_shape, "event_shape")
    least, most = (rows, rows) if isinstance(rows, int) else rows
    elements = dyadic(scale)
    if domain is not None:
        low, high = domain
        elements = st.integers(1, 63).map(lambda j: low + (high - low) * j / 64)
    return st.integers(least, most).flatmap(
        lambda n: draw_arrays(np.float64, (n, *event_shape), elements=elements).map(lambda a: a.astype(dtype))
    )


def contexts(rows: int, dim: int, *, scale: float = 2.0, dtype: Any = np.float64) -> SearchStrategy[np.ndarray | None]:
    """Context rows `(rows, dim)`; None where `dim` is 0."""
    if dim == 0:
        return st.none()
    return draw_arrays(np.float64, (rows, dim), elements=dyadic(scale)).map(lambda a: a.astype(dtype))


def parameters(m: M, scale: float | None = None) -> SearchStrategy[M]:
    """The module with all its arrays drawn anew, at one scale, or at each of `SCALES`.

    Arrays that must be positive (`Standardize.std`, `Moments.variance`) are. The dtypes stay.
    """
    if scale is None:
        return st.sampled_from(SCALES).flatmap(lambda s: parameters(m, s))
    drawn = [_array_like(a, dyadic(scale, positive=n.endswith(POSITIVE))) for n, a in named_arrays(m).items()]
    return st.tuples(*drawn).map(lambda found: bind_arrays(m, rebuild(arrays(m), iter(found))) if found else m)


def _array_like(a: np.ndarray, elements: SearchStrategy[float]) -> SearchStrategy[np.ndarray]:
    return draw_arrays(np.float64, a.shape, elements=elements).map(lambda values: values.astype(a.dtype))


def masks(event_shape: Sequence[int]) -> SearchStrategy[Mask]:
    """Masks that keep something and move something; the one mask of a single coordinate moves it."""
    size = event_size(tuple(event_shape))
    if size == 1:
        return st.just(Mask(tuple(event_shape), (0,)))
    moved = st.sets(st.integers(0, size - 1), min_size=1, max_size=size - 1)
    return moved.map(lambda s: Mask(tuple(event_shape), tuple(sorted(s))))


def permutations(dim: int) -> SearchStrategy[Permutation]:
    """Orders of `dim` coordinates; they shrink to the identity."""
    return st.permutations(range(dim)).map(lambda order: Permutation(tuple(order)))


def networks(in_features: int, out_features: int, context_dim: int = 0) -> SearchStrategy[MLP]:
    """Networks with at most one hidden layer of at most four units, their weights zero: draw them by `parameters`."""
    hidden = st.lists(st.integers(1, 4), max_size=1)

    def network(sizes: list[int], activation: str) -> MLP:
        return MLP.init(
            in_features, out_features, rng=np.random.default_rng(0), hidden=sizes, activation=activation,
            context_dim=context_dim,
        )  # fmt: skip

    return st.builds(network, hidden, st.sampled_from(sorted(ACTIVATIONS)))


@st.composite
def bijections(draw: st.DrawFn, event_shape: Sequence[int], context_dim: int = 0, scale: float | None = None) -> Any:
    """One map of events of the shape: a coupling of either kind, elementwise affine, a permutation or a reversal."""
    shape = tuple(event_shape)
    kind = draw(st.sampled_from(["affine coupling", "additive coupling", "elementwise", "order"]))
    if kind == "order":
        rank = len(shape)
        m: Bijection = Reverse(rank) if draw(st.booleans()) else Permutation(draw(permutations(shape[-1])).order, rank)
        return m
    if kind == "elementwise":
        return draw(parameters(ElementwiseAffine.init(shape), scale))
    mask = draw(masks(shape))
    per_coordinate = 2 if kind == "affine coupling" else 1
    network = draw(networks(len(mask.kept), per_coordinate * len(mask.moved), context_dim))
    if kind == "additive coupling":
        return draw(parameters(AdditiveCoupling(mask, network), scale))
    name, bound = draw(st.sampled_from(sorted(SCALE_MAPS))), draw(st.sampled_from([1.0, 2.0, 5.0]))
    return draw(parameters(AffineCoupling(mask, network, name, bound), scale))


@st.composite
def flows(
    draw: st.DrawFn, event_shape: Sequence[int], context_dim: int = 0, scale: float | None = None, layers: int = 4
) -> Flow:
    """Flows of one to `layers` maps on a standard normal. With a context, the last map is a coupling that reads it."""
    shape = tuple(event_shape)
    maps = draw(st.lists(bijections(shape, context_dim, scale), min_size=1, max_size=layers))
    if context_dim:
        mask = draw(masks(shape))
        network = draw(networks(len(mask.kept), 2 * len(mask.moved), context_dim))
        maps.append(draw(parameters(AffineCoupling(mask, network), scale)))
    return Flow(StandardNormal(shape), Chain(tuple(maps)))


__all__ = [
    "SCALES",
    "bijections",
    "contexts",
    "dyadic",
    "flows",
    "masks",
    "networks",
    "parameters",
    "permutations",
    "points",
]
