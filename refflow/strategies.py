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

import math
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
from refflow.specs import Spec
from refflow.verification import Finding

try:
    from hypothesis import note, target
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
    edges: Sequence[float] = (),
    dtype: Any = np.float64,
) -> SearchStrategy[np.ndarray]:
    """Rows `(n, *event_shape)` of numbers k / 8 * scale with |k| <= 8; in a domain (low, high), at low + (high - low)
    j / 64 with 0 < j < 64. `rows` is their number, or its least and greatest. Of the `edges` (knots, tail bounds) each
    is drawn too, and its neighbours up to two units in the last place of the dtype away, within the domain."""
    require_sequence(event_shape, "event_shape")
    least, most = (rows, rows) if isinstance(rows, int) else rows
    elements = dyadic(scale)
    if domain is not None:
        low, high = domain
        elements = st.integers(1, 63).map(lambda j: low + (high - low) * j / 64)
    if near := _neighbours(edges, domain, dtype):
        elements = st.one_of(elements, st.sampled_from(near))
    return st.integers(least, most).flatmap(
        lambda n: draw_arrays(np.float64, (n, *event_shape), elements=elements).map(lambda a: a.astype(dtype))
    )


def _neighbours(edges: Sequence[float], domain: tuple[float, float] | None, dtype: Any) -> list[float]:
    """Every edge, then what lies one and two units in the last place beside it."""
    at = np.asarray(edges, dtype=dtype)
    up, down = np.nextafter(at, at.dtype.type(np.inf)), np.nextafter(at, at.dtype.type(-np.inf))
    further = np.nextafter(up, at.dtype.type(np.inf)), np.nextafter(down, at.dtype.type(-np.inf))
    low, high = (-np.inf, np.inf) if domain is None else domain
    return [float(v) for v in np.concatenate([at, up, down, *further]) if low < v < high]


def numbers(shape: Sequence[int], scale: float = 1.0) -> SearchStrategy[np.ndarray]:
    """Arrays of numbers k / 8 * scale with |k| <= 8: weights, biases, the logits of splines."""
    return draw_arrays(np.float64, tuple(shape), elements=dyadic(scale))


def lu_factors(dim: int, scale: float = 1.0) -> SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """(L, U) `(D, D)`: L with ones on its diagonal, U with k / 8 * scale > 0 there; every product L U is invertible."""

    def split(compact: np.ndarray, diagonal: list[float]) -> tuple[np.ndarray, np.ndarray]:
        return np.tril(compact, -1) + np.eye(dim), np.triu(compact, 1) + np.diag(diagonal)

    positive = st.lists(dyadic(scale, positive=True), min_size=dim, max_size=dim)
    return st.builds(split, numbers((dim, dim), scale), positive)


def spline_knots(bins: int, bound: float = 3.0) -> SearchStrategy[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(x, y, slopes), each `(bins + 1,)`: increasing knots from -bound to bound on the grid bound * k / 32, and slopes
    k / 4 > 0, 1 at both ends, where linear tails begin."""
    inner = st.lists(st.integers(-31, 31), min_size=bins - 1, max_size=bins - 1, unique=True).map(sorted)
    knots = inner.map(lambda ks: np.array([-32, *ks, 32]) / 32 * bound)
    slopes = st.lists(dyadic(2.0, positive=True), min_size=bins - 1, max_size=bins - 1)
    return st.tuples(knots, knots, slopes.map(lambda s: np.array([1.0, *s, 1.0])))


def aim(finding: Finding) -> Finding:
    """Lead Hypothesis to points and parameters where a law's excess is larger: `hypothesis.target(log10 rho)`."""
    if finding.status != "inconclusive":
        target(math.log10(max(finding.statistic, 1e-3)), label=finding.law)
    return finding


def contexts(rows: int, dim: int, *, scale: float = 2.0, dtype: Any = np.float64) -> SearchStrategy[np.ndarray | None]:
    """Context rows `(rows, dim)`; None where `dim` is 0."""
    if dim == 0:
        return st.none()
    return draw_arrays(np.float64, (rows, dim), elements=dyadic(scale)).map(lambda a: a.astype(dtype))


def parameters(m: M, scale: float | None = None) -> SearchStrategy[M]:
    """The module with all its arrays drawn anew, at one scale, or at each of `SCALES`.

    Arrays that must be positive (`Standardize.std`, `Moments.variance`) are. The dtypes stay. A test that fails prints
    the arrays, for the module's own repr shows their shapes.
    """
    if scale is None:
        return st.sampled_from(SCALES).flatmap(lambda s: parameters(m, s))
    drawn = [_array_like(a, dyadic(scale, positive=n.endswith(POSITIVE))) for n, a in named_arrays(m).items()]

    def bound(found: tuple[np.ndarray, ...]) -> M:
        for name, a in zip(named_arrays(m), found, strict=True):
            note(f"{type(m).__name__}.{name} = {np.array2string(a, threshold=32)}")
        return bind_arrays(m, rebuild(arrays(m), iter(found))) if found else m

    return st.tuples(*drawn).map(bound)


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


@st.composite
def flow_specs(draw: st.DrawFn, dim: int, scale: float | None = None, layers: int = 4) -> Spec:
    """Flows as plain data (`refflow.specs`), to be built in any library; `from_spec` builds the reference."""
    size = draw(st.sampled_from(SCALES)) if scale is None else scale

    def drawn(*shape: int) -> Any:
        return draw(numbers(shape, size)).tolist()

    def one(kind: str) -> Spec:
        if kind == "permutation":
            return {"order": list(draw(permutations(dim)).order)}
        if kind == "elementwise affine":
            return {"log_scale": drawn(dim), "shift": drawn(dim)}
        if kind == "lu":
            return {"factors": drawn(dim, dim), "shift": drawn(dim), "order": list(draw(permutations(dim)).order)}
        if kind == "spline":
            return {"theta": drawn(dim, 3 * draw(st.integers(2, 4)) - 1), "bound": 3.0}
        moved = list(draw(masks((dim,))).moved)
        shape = dim - len(moved), 2 * len(moved)
        return {"moved": moved, "weight": drawn(*shape), "bias": drawn(shape[1]), "scale": "tanh", "bound": 2.0}

    kinds = ["affine coupling", "elementwise affine", "permutation", "lu", "spline"][0 if dim > 1 else 1 :]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=layers))
    return {"event_shape": [dim], "maps": [{"map": kind, **one(kind)} for kind in chosen]}


__all__ = [
    "SCALES",
    "aim",
    "bijections",
    "contexts",
    "dyadic",
    "flow_specs",
    "flows",
    "lu_factors",
    "masks",
    "networks",
    "numbers",
    "parameters",
    "permutations",
    "points",
    "spline_knots",
]
