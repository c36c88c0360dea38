r"""The laws of a flow: its density is the one that its map and its base make, it has mass 1, and samples follow it.

Each takes a flow (any object with `log_prob`, `sample`, `sample_and_log_prob`, `encode`, `decode` as `refflow.Flow` has
them), rows x and, for conditional flows, `context`. The last two integrate over the plane, so they decide nothing in
more than two dimensions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.flow import Flow
from refflow.verification.conditioning import conditions, derivatives, forward
from refflow.verification.jacobians import INCONCLUSIVE, SAFETY
from refflow.verification.verdicts import Finding, LawViolation, Measured, judge

Context = np.ndarray | None

MASS_FLOOR = 1e-12
"""The error granted to sums of some 10^5 products in float64."""

FALSE_ALARM = 1e-9
"""The probability with which a correct sampler fails `samples_follow_density`."""

DRAWS = 20_000


@np.errstate(all="ignore")
def change_of_variables(flow: Flow, x: np.ndarray, context: Context = None) -> Finding:
    """log_prob(x) = log p_Z(f(x)) + log|det df/dx|, encode = f and decode = f^-1."""

    def measure(flow: Any, x: np.ndarray, context: Context) -> Measured:
        with np.errstate(all="ignore"):
            prepared = flow.prepare_context(context)
            z, log_det = forward(flow.bijection, x, prepared)
            parts = flow.base.log_prob(z), log_det
            error = np.abs(flow.log_prob(x, context).astype(float) - (parts[0].astype(float) + parts[1]))
            encoded = np.abs(flow.encode(x, context).astype(float) - z).reshape(len(x), -1)
            back = flow.decode(z, context).astype(float) - flow.bijection.inverse(z, prepared)[0]
        size = np.abs(parts[0]) + np.abs(parts[1]) + x[0].size
        error = np.column_stack([error, encoded, np.abs(back).reshape(len(x), -1)])
        kappa = np.column_stack([size, 1.0 + np.abs(z).reshape(len(x), -1), 1.0 + np.abs(x).reshape(len(x), -1)])
        return Measured(error, kappa, np.isfinite(error).all(axis=1) & np.isfinite(size))

    return judge("change_of_variables", measure, flow, x, context)


@np.errstate(all="ignore")
def sampling(flow: Flow, x: np.ndarray, context: Context = None) -> Finding:
    """sample is repeatable by its seed and does not repeat itself; the log-density that comes with a sample is its
    log_prob."""

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray, Context]:
        with np.errstate(all="ignore"):
            if context is None:
                return *flow.sample_and_log_prob(16, seed=seed), None
            points, log_p = flow.sample_and_log_prob(3, context, seed=seed)
            rows = np.broadcast_to(context, (*log_p.shape, context.shape[-1]))
        return points.reshape(-1, *x.shape[1:]), log_p.ravel(), np.array(rows).reshape(-1, context.shape[-1])

    points, log_p, rows = draw(1)
    again = flow.sample(16, seed=1) if context is None else flow.sample(3, context, seed=1)
    if not np.array_equal(again.reshape(points.shape), points, equal_nan=True):
        raise LawViolation("sampling", float("inf"), 0.0, "sample and sample_and_log_prob of one seed")
    if len(np.unique(points.reshape(len(points), -1), axis=0)) < len(points) or np.array_equal(points, draw(2)[0]):
        raise LawViolation("sampling", float("inf"), 0.0, "repeated samples")

    def measure(_: Any, points: np.ndarray, rows: Context) -> Measured:
        with np.errstate(all="ignore"):
            error = np.abs(flow.log_prob(points, rows).astype(float) - given)
        scales = conditions(flow.bijection, points, flow.prepare_context(rows))
        size = np.abs(given) + _base_slope(flow, points, rows, scales.value, scales.round_trip)
        return Measured(error[:, None], (size + scales.antisymmetry)[:, None], scales.conclusive(points.dtype))

    given = log_p.astype(float)
    if not np.isfinite(points).all():
        return Finding("sampling", "inconclusive", judged=0.0)
    return judge("sampling", measure, None, points, rows, elsewhere=False)  # other draws are other points


def _base_slope(flow: Flow, x: np.ndarray, context: Context, value: np.ndarray, back: np.ndarray) -> np.ndarray:
    """|grad log p_Z . dz| for latents moved by what f loses: its own rounding and that of the round trip."""
    prepared = flow.prepare_context(None if context is None else context.astype(float))
    z = forward(flow.bijection, x.astype(float), prepared)[0]
    h = 1e-6 * np.maximum(1.0, np.abs(z))
    flat, steps = z.reshape(len(z), -1), h.reshape(len(z), -1)
    slope = np.empty_like(flat)
    for i in range(flat.shape[1]):
        move = np.zeros_like(flat)
        move[:, i] = steps[:, i]
        up, down = (flow.base.log_prob((flat + s * move).reshape(z.shape)) for s in (1.0, -1.0))
        slope[:, i] = (up - down) / (2.0 * steps[:, i])
    scales = value + np.abs(_image(flow, x, context, back))
    return np.asarray(np.sum(np.abs(slope) * scales, axis=1))


def _image(flow: Flow, x: np.ndarray, context: Context, back: np.ndarray) -> np.ndarray:
    """|J| times the round trip's scale, J by the complex step."""
    prepared = flow.prepare_context(None if context is None else context.astype(float))
    jacobian = derivatives(flow.bijection, x.astype(float), prepared)[0]
    return np.asarray((np.abs(jacobian) @ back[..., None])[..., 0])


@dataclass(frozen=True)
class Cells:
    """A grid that holds all of the mass of a density, and the mass of every cell with its error."""

    edges: list[np.ndarray]
    mass: np.ndarray
    error: float


@np.errstate(all="ignore")
def normalisation(flow: Flow, x: np.ndarray, context: Context = None) -> Finding:
    """The integral of exp(log_prob) is 1, by Gauss-Legendre quadrature, within 30 of its estimated error plus 1e-12.

    In one and two dimensions, for the first row of the context.
    """
    cells = _cells(flow, x, context)
    if cells is None or not SAFETY * cells.error <= INCONCLUSIVE:
        return Finding("normalisation", "inconclusive", judged=0.0)
    error, allowed = abs(float(cells.mass.sum()) - 1.0), SAFETY * cells.error + MASS_FLOOR
    if not error <= allowed:
        raise LawViolation("normalisation", error, allowed, f"total mass {cells.mass.sum():.12g}")
    return Finding("normalisation", "pass", error / allowed, 1.0)


@np.errstate(all="ignore")
def samples_follow_density(flow: Flow, x: np.ndarray, context: Context = None) -> Finding:
    """20,000 samples fall into the cells of a grid as often as the integral of exp(log_prob) over each cell says.

    Pearson's chi-squared over cells with at least 5 expected, the rest joined; it fails where a correct sampler would
    once in 10^9 runs. In one and two dimensions, for the first row of the context.
    """
    from scipy.special import chdtrc

    cells = _cells(flow, x, context)
    if cells is None or not SAFETY * cells.error <= INCONCLUSIVE:
        return Finding("samples_follow_density", "inconclusive", judged=0.0)
    row = None if context is None else context[0]
    points = flow.sample(DRAWS, row, seed=3).reshape(DRAWS, -1)
    counts, _ = np.histogramdd(points, cells.edges)
    expected = DRAWS * cells.mass / cells.mass.sum()
    large = expected >= 5.0
    seen = np.append(counts[large], DRAWS - counts[large].sum())
    hoped = np.append(expected[large], max(DRAWS - expected[large].sum(), 1.0))
    statistic = float(np.sum((seen - hoped) ** 2 / hoped))
    probability = float(chdtrc(len(hoped) - 1, statistic))
    if probability < FALSE_ALARM:
        raise LawViolation("samples_follow_density", -np.log10(probability + 1e-300), 9.0, f"chi2 = {statistic:.4g}")
    return Finding("samples_follow_density", "pass", -float(np.log10(probability)), 9.0)


def _cells(flow: Flow, x: np.ndarray, context: Context) -> Cells | None:
    """Cells with edges at quantiles of samples, and of samples two and three times as far from their median in the
    latent space, and their range beyond these; the first and the last cells reach to infinity, for heavy tails."""
    dim = x[0].size
    if dim > 2:
        return None
    row = None if context is None else context[0]
    with np.errstate(all="ignore"):
        inner = flow.sample(2048, row, seed=4)
        z = flow.encode(inner, row)
        middle = np.median(z, axis=0)
        outer = [np.asarray(middle + k * (z - middle), dtype=z.dtype) for k in (2.0, 3.0)]
        clouds = [inner, *(flow.decode(points, row) for points in outer)]
    flat = [cloud.reshape(len(cloud), dim).astype(float) for cloud in clouds]
    if not all(np.isfinite(cloud).all() for cloud in flat):
        return None
    levels = np.linspace(0.0, 1.0, 13)
    found = [np.unique(np.concatenate([np.quantile(c[:, i], levels) for c in flat])) for i in range(dim)]
    edges = [np.concatenate([2 * e[:1] - e[-1:], e, 2 * e[-1:] - e[:1]]) for e in found]
    fine, coarse = (_masses(flow, edges, x.shape[1:], row, nodes) for nodes in (14, 10))
    ends = [np.array([-np.inf]), np.array([np.inf])]
    return Cells([np.concatenate([ends[0], e, ends[1]]) for e in edges], fine, float(np.abs(fine - coarse).sum()))


def _masses(flow: Flow, edges: list[np.ndarray], event: tuple[int, ...], row: Context, nodes: int) -> np.ndarray:
    """The integral of exp(log_prob) over every cell, by a product of Gauss-Legendre rules."""
    axes, weights = zip(*(_rule(e, nodes) for e in edges), strict=True)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    with np.errstate(all="ignore"):
        density = np.exp(flow.log_prob(grid.reshape(-1, *event), row)).reshape(grid.shape[:-1])
    for weight in weights:
        density = np.moveaxis(density * weight.reshape(-1, *(1,) * (density.ndim - 1)), 0, -1)
    for axis, e in enumerate(edges):
        shape = (*density.shape[:axis], len(e) + 1, nodes, *density.shape[axis + 1 :])
        density = density.reshape(shape).sum(axis=axis + 1)
    return np.asarray(density)


def _rule(edges: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on the cells between the edges, and on the two beyond them: e + r t / (1 - t) for 0 < t < 1,
    with r the range of the edges, makes of a tail that falls as a power a smooth function of t."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    half, far = 0.5 * np.diff(edges)[:, None], 0.5 * (1.0 + t)
    reach = edges[-1] - edges[0]
    out, weight = reach * far / (1.0 - far), 0.5 * w * reach / (1.0 - far) ** 2
    inside = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * t
    points = np.concatenate([edges[:1, None] - out, inside, edges[-1:, None] + out])
    return points.ravel(), np.concatenate([weight[None], half * w, weight[None]]).ravel()


__all__ = ["change_of_variables", "normalisation", "samples_follow_density", "sampling"]
