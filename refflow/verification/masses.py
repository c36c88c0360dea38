r"""The mass of a density: its integral is 1.

In one and two dimensions (three, if asked) by quadrature over cells that reach to infinity, or to the ends of the
domain. Above, importance sampling is no judge: on sound flows its weights have no variance. There `bridging` compares
the density with another one that is normalised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.verification.bounds import FALSE_ALARM
from refflow.verification.bridging import bridge
from refflow.verification.calls import forward, inverse
from refflow.verification.conditioning import known, unit
from refflow.verification.densities import Context, as_target, density_scale, log_density, oriented
from refflow.verification.jacobians import INCONCLUSIVE, SAFETY
from refflow.verification.samples import draw, tiled, unstable_density
from refflow.verification.targets import Box, Target
from refflow.verification.verdicts import EXCESS, Finding, LawViolation
from refflow.verification.walks import walker

MASS_FLOOR = 1e-12
"""The error granted to sums of some 10^5 products in float64."""

AUDIT = 8192
"""Samples that look for peaks between the nodes; a region with more than 0.25 % of the mass shows in them."""

HIGHER = 0.7
"""By how many nats a sample may lie above all nodes of its cell."""

PLAIN = 0.1
"""By how much the mass of a density without samples has to be off to be warned of."""

HALVINGS = 30
"""How often cells on the line are cut where the quadrature's error is largest."""

FINE = 1e-6
"""Where cutting ends."""

LEVELS: dict[int, tuple[int, ...]] = {1: (13, 14, 11, 10), 2: (13, 14, 10), 3: (5, 6, 5)}
"""By dimension: quantiles of each cloud of points, nodes of the rules, the finest first."""


@dataclass(frozen=True)
class Cells:
    """A grid that holds all of the mass of a density, and the mass of every cell with its error."""

    edges: list[np.ndarray]
    mass: np.ndarray
    gap: float
    """The error of the quadrature, as the difference of two rules."""
    error: float
    """That and the rounding of log_prob, infinite where it is not known."""
    hidden: float
    """The mass that jumps of the density may shift unseen, at the edges of cells."""
    unseen: float
    """That, and the mass of what no audited sample may have shown: narrow peaks between the nodes, far tails."""
    missed: bool
    """Whether samples show that the nodes miss a peak, or that rounding decides where the mass is."""

    @property
    def decides(self) -> bool:
        return not self.missed and SAFETY * self.error <= INCONCLUSIVE


@np.errstate(all="ignore")
def normalisation(
    f: Any, x: np.ndarray, context: Context = None, *, draws: int = 4_000, seed: int = 0, quadrature: int = 2
) -> Finding:
    """The integral of exp(log_prob) is 1: by Gauss-Legendre quadrature in up to `quadrature` dimensions, within 30 of
    its estimated error plus 1e-12 and for the first row of the context; above, and where it does not converge, by
    `bridge`, which needs samples.

    Too little mass is granted what `AUDIT` samples may not have shown: quadrature cannot know of a narrow peak between
    its nodes."""
    target = as_target(f, context)
    if target.sample is None:
        return _without_samples(target, x, context, quadrature)
    found = cells(target, x, context) if x[0].size <= quadrature else None
    if found is None or not found.decides:
        return bridge(target, x, context, draws, seed)
    total = float(found.mass.sum())
    error, allowed = abs(total - 1.0), SAFETY * found.error + MASS_FLOOR
    allowed += found.unseen if total < 1.0 else found.hidden
    if not error <= allowed:
        raise LawViolation("normalisation", error, allowed, f"total mass {total:.12g}")
    return Finding("normalisation", "pass", error, allowed, 1.0)


def _without_samples(target: Target, x: np.ndarray, context: Context, quadrature: int) -> Finding:
    """What quadrature over the cells of a random walk can say: a warning, where the mass is plainly another."""
    found = cells(_walking(target, x, context), x, context) if x[0].size <= quadrature else None
    total = np.nan if found is None else float(found.mass.sum())
    allowed = np.inf if found is None else SAFETY * found.gap + found.unseen + MASS_FLOOR
    if found is not None and allowed < PLAIN < abs(total - 1.0):
        said = f"total mass {total:.6g} where a random walk got: without samples, other modes may be missed"
        return Finding("normalisation", "lossy", abs(total - 1.0), allowed, 1.0, remark=said)
    if found is None or not found.decides or not abs(total - 1.0) <= allowed:
        return Finding("normalisation", "inconclusive", judged=0.0, remark="no samples to say where the mass is")
    return Finding("normalisation", "pass", abs(total - 1.0), allowed, 1.0)


def _walking(target: Target, x: np.ndarray, context: Context) -> Target:
    """A density without samples, with those of a random walk."""
    walk = known(
        ("walk", id(target.log_prob), x.tobytes(), None if context is None else context[:1].tobytes()),
        target,
        lambda: walker(target, x, context),
    )
    return replace(target, sample=walk)


def cells(target: Target, x: np.ndarray, context: Context) -> Cells | None:
    """The cells of a target's density, once in a verification; None where there is no grid."""
    key = ("cells", id(target.log_prob), id(target.sample), x.shape[1:], x.dtype, target.domain)
    row = None if context is None else context[:1]
    return known((*key, None if row is None else row.tobytes()), target, lambda: _cells(target, x, row))  # type: ignore[no-any-return]


def _cells(target: Target, x: np.ndarray, row: Context) -> Cells | None:
    """Cells with edges at quantiles of samples, and of samples two and three times as far from their median, in the
    latent space if there is one, and their range beyond these; the first and the last cells reach to infinity, for
    heavy tails, or to the ends of the domain."""
    dim = x[0].size
    if dim not in LEVELS:
        return None
    clouds = [cloud.reshape(len(cloud), dim).astype(float) for cloud in _clouds(target, x, row)]
    box = (-np.inf, np.inf) if target.domain is None else target.domain
    if not all(np.isfinite(cloud).all() for cloud in clouds):
        return None
    levels = np.linspace(0.0, 1.0, LEVELS[dim][0])
    edges = [_edges(np.concatenate([np.quantile(c[:, i], levels) for c in clouds]), box) for i in range(dim)]
    if any(len(e) < 3 for e in edges):
        return None
    rules = LEVELS[dim][1:]
    found = _compared(target, edges, box, x.shape[1:], row, rules)
    for _ in range(HALVINGS if dim == 1 else 0):
        if SAFETY * found.gap.sum() <= FINE:
            break
        halved = _halved(edges[0], found.gap)
        edges = [halved[(halved > box[0]) & (halved < box[1])]]
        found = _compared(target, edges, box, x.shape[1:], row, rules)
    missed, rounding = _audit(target, x, row, edges, found.peaks)
    full = [np.concatenate([[-np.inf], e, [np.inf]]) for e in edges]
    hidden = found.hidden - float(np.log(FALSE_ALARM)) / AUDIT
    gap = float(found.gap.sum())
    return Cells(full, found.mass, gap, gap + rounding, found.hidden, hidden, missed)


@dataclass(frozen=True)
class _Compared:
    """The masses of cells by the finest rule, how far others are from them, and what lies between the nodes."""

    mass: np.ndarray
    gap: np.ndarray
    peaks: np.ndarray
    """The largest log p at the nodes of each cell."""
    hidden: float
    """The mass that a jump may shift between the last node of a cell and the first of the next, where no rule looks."""


def _compared(
    target: Target, edges: list[np.ndarray], box: Box, event: tuple[int, ...], row: Context, rules: tuple[int, ...]
) -> _Compared:
    mass, peaks, hidden = _masses(target, edges, box, event, row, rules[0])
    others = [_masses(target, edges, box, event, row, nodes)[0] for nodes in rules[1:]]
    return _Compared(mass, np.max([np.abs(mass - other) for other in others], axis=0), peaks, hidden)


def _audit(
    target: Target, x: np.ndarray, row: Context, edges: list[np.ndarray], peaks: np.ndarray
) -> tuple[bool, float]:
    """Whether a sample lies higher than all nodes of its cell, or rounding moves one in a hundred; and by how much
    rounding may move the mass: u E_p[kappa] times what a correct density may be off."""
    points = draw(target, AUDIT, 6, row)
    rows = tiled(row, AUDIT)
    log_p = log_density(target, points, rows)
    flat = points.reshape(AUDIT, -1).astype(np.float64)
    cell = tuple(np.searchsorted(e, flat[:, i]) for i, e in enumerate(edges))
    missed = bool(np.any(log_p > peaks[cell] + HIGHER)) or float(unstable_density(target, points, rows).mean()) > 0.01
    few = points[:32]
    kappa, conclusive = density_scale(target, few, tiled(row, len(few)))
    missed |= not conclusive.all()
    u = max(unit(x.dtype), unit(points.dtype))
    return missed, float(EXCESS / SAFETY * u * np.mean(kappa)) if not missed else np.inf


def _halved(edges: np.ndarray, error: np.ndarray) -> np.ndarray:
    """With the worst eighth of the cells cut in two, as at a spline's knots; the last ones by a cell."""
    ends = np.concatenate([2 * edges[:1] - edges[1:2], edges, 2 * edges[-1:] - edges[-2:-1]])
    worst = error >= np.quantile(error, 0.875)
    middles = np.where(np.arange(len(error)) == 0, ends[0], 0.5 * (ends[:-1] + ends[1:]))
    middles[-1] = ends[-1]
    return np.unique(np.concatenate([edges, middles[worst]]))


def _edges(found: np.ndarray, box: Box) -> np.ndarray:
    e = np.unique(found)
    e = np.concatenate([2 * e[:1] - e[-1:], e, 2 * e[-1:] - e[:1]])
    return np.unique(e[(e > box[0]) & (e < box[1])])


def _clouds(target: Target, x: np.ndarray, row: Context) -> list[np.ndarray]:
    """Samples, and points that lie two and three times as far out."""
    inner = draw(target, 2048, 4, row)
    way = oriented(target, x[:1], row)
    if way is None or way.inverse is None:
        middle = np.median(inner, axis=0)
        return [inner, *(middle + k * (inner - middle) for k in (2.0, 3.0))]
    rows = tiled(row, len(inner))
    z = forward(way, inner, rows)[0]
    middle = np.median(z, axis=0)
    return [inner, *(inverse(way, np.asarray(middle + k * (z - middle), dtype=z.dtype), rows)[0] for k in (2.0, 3.0))]


def _masses(
    target: Target, edges: list[np.ndarray], box: Box, event: tuple[int, ...], row: Context, nodes: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """The integral of exp(log_prob) over every cell, by a product of Gauss-Legendre rules, its largest log p, and the
    mass that jumps between the cells may hide."""
    axes, weights = zip(*(_rule(e, box, nodes) for e in edges), strict=True)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    points = grid.reshape(-1, *event)
    log_p = log_density(target, points, tiled(row, len(points))).reshape(grid.shape[:-1])
    split = [n for e in edges for n in (len(e) + 1, nodes)]
    inner = tuple(range(1, 2 * len(edges), 2))
    peaks = np.nanmax(log_p.reshape(split), axis=inner)
    density = np.exp(log_p)
    hidden = sum(_between(density, axes, weights, axis, nodes) for axis in range(len(edges)))
    return np.sum(_weighted(density, weights).reshape(split), axis=inner), peaks, float(hidden)


def _weighted(density: np.ndarray, weights: Sequence[np.ndarray | None]) -> np.ndarray:
    """The density times the weights of every axis that has some."""
    for axis, weight in enumerate(weights):
        if weight is not None:
            density = density * weight.reshape(-1, *(1,) * (density.ndim - 1 - axis))
    return density


def _between(
    density: np.ndarray, axes: Sequence[np.ndarray], weights: Sequence[np.ndarray], axis: int, nodes: int
) -> float:
    """The change of the density from cell to cell along an axis, times the width between their nodes."""
    last = np.arange(nodes - 1, len(axes[axis]) - 1, nodes)
    change = np.abs(np.take(density, last + 1, axis) - np.take(density, last, axis))
    width = axes[axis][last + 1] - axes[axis][last]
    return float(np.sum(_weighted(change, [*weights[:axis], width, *weights[axis + 1 :]])))


def _rule(edges: np.ndarray, box: Box, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on the cells between the edges, and on the two beyond them: e + r t / (1 - t) for 0 < t < 1,
    with r the range of the edges, makes of a tail that falls as a power a smooth function of t. Where the domain ends,
    the last cell ends there."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    reach, far = edges[-1] - edges[0], 0.5 * (1.0 + t)

    def outer(edge: float, end: float, sign: float) -> tuple[np.ndarray, np.ndarray]:
        if np.isfinite(end):
            return edge + (end - edge) * far, 0.5 * w * abs(end - edge)
        return edge + sign * reach * far / (1.0 - far), 0.5 * w * reach / (1.0 - far) ** 2

    low, high = outer(edges[0], box[0], -1.0), outer(edges[-1], box[1], 1.0)
    low = low[0][::-1], low[1][::-1]
    half = 0.5 * np.diff(edges)[:, None]
    inside = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * t
    points = np.concatenate([low[0][None], inside, high[0][None]])
    return points.ravel(), np.concatenate([low[1][None], half * w, high[1][None]]).ravel()


__all__ = ["normalisation"]
