"""The numbers behind the pictures of a report: plain lists, collected after the checks, at the rows that matter most.

Scatters cost nothing, they are what the checks measured; the others ask the target a few calls more, within a time
limit. Nothing here can fail a verification: a picture that could not be made says why under "missing".
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refflow.verification.calls import forward
from refflow.verification.conditioning import unit
from refflow.verification.derivatives import derivatives
from refflow.verification.limits import require_draws, require_jacobian
from refflow.verification.points import contexts
from refflow.verification.reports.kinks import find_kink
from refflow.verification.reports.report import Outcome
from refflow.verification.runs import Run
from refflow.verification.verdicts import Watch

Figures = dict[str, Any]

CELLS = 48
"""The most cells a side that a picture of a Jacobian has; of larger ones, the largest entry of each block is shown."""

PROBABILITY = 1e-3
"""That the distribution function of correct samples leaves its band (Dvoretzky, Kiefer and Wolfowitz; Massart)."""


class NoPicture(Exception):
    """Why a picture cannot be made."""


def collect(runs: Sequence[Run], outcomes: Sequence[Outcome], seen: Watch) -> Figures:
    """All figures that this run has numbers for."""
    figures: Figures = {"scatter": scatter(seen), "missing": {}}
    if not runs:
        return figures
    run = next((run for run in runs if run.dtype == np.float64 and run.variant in ("", "float64")), runs[0])
    figures["variant"] = run.dtype.name
    if getattr(run.raw, "bulk", False):
        figures["missing"] = dict.fromkeys(PICTURES, "every call costs a run of the program")
        return figures
    seconds = min(max(0.2 * run.level.budget, 0.5), 2.0)
    for name, picture in PICTURES.items():
        try:
            with run.guard.budget(seconds), np.errstate(all="ignore"):
                figures[name] = picture(run, outcomes)
        except Exception as reason:  # whatever foreign code makes of it
            figures["missing"][name] = str(reason) or type(reason).__name__
    return figures


def scatter(seen: Watch) -> list[Figures]:
    """Error and condition scale of every row, as the checks RT* and LD* measured them, at its worst coordinate."""
    found: dict[tuple[str, str], Figures] = {}
    for asked, measured, dtype in seen.found:
        if not asked[0].startswith(("RT", "LD")):
            continue
        if asked in found and len(measured.error) <= len(found[asked]["rows"]):
            continue
        with np.errstate(all="ignore"):
            rho = np.where(measured.error == 0.0, 0.0, measured.error / measured.kappa)
            rho = np.where(np.isnan(rho), np.inf, rho)
        rows = np.arange(len(rho)), np.argmax(rho, axis=1)
        error, kappa = (np.asarray(a, dtype=np.float64)[rows] for a in (measured.error, measured.kappa))
        found[asked] = {
            "check": asked[0], "variant": asked[1], "unit": unit(dtype),
            "rows": np.column_stack([error, kappa, measured.conclusive]).tolist(),
        }  # fmt: skip
    return list(found.values())


def jacobian(run: Run, outcomes: Sequence[Outcome]) -> Figures:
    """|dy_i/dx_j| at the row where the log-determinant is worst."""
    side = _side(run)
    x, c, named = _worst_row(side, outcomes)
    require_jacobian(x[0].size)
    value = np.abs(derivatives(side.f, x, c)[0][0])
    block = -(-max(value.shape) // CELLS)
    declared = side.target.structure
    shown = {
        "values": _pooled(value, block),
        "block": block,
        "x": x[0].tolist(),
        "row": named,
        "rows": list(value.shape),
    }
    if declared is not None and np.shape(declared) == value.shape:
        shown["declared"] = _pooled(np.asarray(declared, dtype=float), block)
    return shown


def log_det(run: Run, _: Sequence[Outcome]) -> Figures:
    """The log-determinants that the target claims, beside those of its Jacobians, in each direction that it has."""
    found: Figures = {}
    for name, side in (("forward", run), ("inverse", run.turned())):
        if side.target.forward is None:
            continue
        x, c = side.points.x, side.points.context
        require_jacobian(x[0].size)
        few = max(1, min(len(x), 20_000 // x[0].size ** 2))
        x, c = x[:few], None if c is None else c[:few]
        matrices = derivatives(side.f, x, c)[0]
        if matrices.shape[1] != matrices.shape[2]:
            raise NoPicture("the Jacobian is not square")
        measured = np.array([np.linalg.slogdet(j)[1] if np.isfinite(j).all() else np.nan for j in matrices])
        claimed = np.broadcast_to(forward(side.f, x, c)[1], measured.shape)
        found[name] = {"claimed": np.asarray(claimed, dtype=np.float64).tolist(), "measured": measured.tolist()}
    return found


def pit(run: Run, _: Sequence[Outcome]) -> Figures:
    """The distribution function of encoded samples, all coordinates together, minus the uniform one."""
    target = run.target
    encode = None if target.to_base is None else getattr(target, target.to_base)
    if target.sample is None or encode is None:
        raise NoPicture("the target has no sample, or does not say which direction encodes")
    from scipy.special import ndtr

    n = max(500, min(run.level.draws, 2_000))
    require_draws(n, target.dim)
    c = contexts(target, n, np.random.default_rng([run.seed, 7]))
    rows = () if c is None else (c.astype(run.dtype),)
    z = np.asarray(encode(target.sample(n, run.seed, *rows), *rows)[0], dtype=np.float64).reshape(n, -1)
    if target.base_log_prob is not None:
        stated = np.asarray(target.base_log_prob(z[:8].reshape(8, *_latent_shape(run)), *(r[:8] for r in rows)))
        normal = -0.5 * (z[:8] ** 2).sum(axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)
        if not np.allclose(stated, normal, rtol=1e-3, atol=1e-3):
            raise NoPicture("the base is no standard normal distribution")
    u = np.sort(ndtr(z.ravel()))
    grid = np.linspace(0.0, 1.0, 201)
    excess = np.searchsorted(u, grid, side="right") / u.size - grid
    return {
        "grid": grid.tolist(), "excess": excess.tolist(), "numbers": int(u.size), "draws": n,
        "band": math.sqrt(math.log(2.0 / PROBABILITY) / (2.0 * u.size)),
    }  # fmt: skip


def knot(run: Run, _: Sequence[Outcome]) -> Figures:
    """A coordinate of y, and its slope, around the sharpest kink along the same coordinate of x."""
    side = _side(run)
    x, c = side.points.first(1).x, side.points.first(1).context
    if side.target.output_shape not in (None, side.target.event_shape):
        raise NoPicture("x and y have different shapes")
    found = find_kink(lambda rows: _values(side, rows, c), x[0], side.target.domain)
    if found is None:
        raise NoPicture("no kink was found along any coordinate")
    return found


def _values(run: Run, rows: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    c = None if context is None else np.repeat(context[:1], len(rows), axis=0)
    return np.asarray(forward(run.f, rows.astype(run.dtype), c)[0])


PICTURES: dict[str, Callable[[Run, Sequence[Outcome]], Figures]] = {
    "jacobian": jacobian, "log_det": log_det, "pit": pit, "knot": knot,
}  # fmt: skip


def _side(run: Run) -> Run:
    """The run in a direction that the target has."""
    return run if run.target.forward is not None else run.turned()


def _worst_row(run: Run, outcomes: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The worst row of the log-determinant where it is at fault, else of any other fault, else the first row drawn."""
    failed = [o for o in outcomes if o.status in ("fail", "xfail") and o.worst_input and o.worst_input["side"] == "x"]
    for outcome in sorted(failed, key=lambda o: o.id != "LD1"):
        row = outcome.worst_input or {}
        x = np.asarray(row["x"], dtype=run.dtype)
        if x.shape == run.points.x.shape[1:] and np.isfinite(x).all():
            c = None if row["context"] is None else np.asarray(row["context"], dtype=run.dtype)[None]
            return x[None], c, f"the worst row of {outcome.id}"
    first = run.points.first(1)
    return first.x, first.context, "one row"


def _latent_shape(run: Run) -> tuple[int, ...]:
    other = run.target.output_shape
    return other if run.target.to_base == "forward" and other is not None else run.target.event_shape


def _pooled(matrix: np.ndarray, block: int) -> list[list[float]]:
    """The largest entry of each block."""
    height, width = (-(-n // block) for n in matrix.shape)
    padded = np.zeros((height * block, width * block))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded.reshape(height, block, width, block).max(axis=(1, 3)).tolist()  # type: ignore[no-any-return]
