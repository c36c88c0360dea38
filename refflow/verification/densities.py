r"""What the laws of densities are written in: log_prob, the base, the map to it, and what rounding may move.

    log p(x) = log p_Z(f(x)) + log|det df/dx|                                          (1)

They take a `refflow.Flow` or a `Target` with `log_prob`, rows x and, for conditional ones, `context`. A target that
does not say which of its maps leads to the base is asked both ways, and the one that fits (1) better is taken.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.adapters import refflow_flows
from refflow.verification.adapters.given import Given
from refflow.verification.calls import cast, forward
from refflow.verification.conditioning import Conditions, conditions
from refflow.verification.derivatives import derivatives
from refflow.verification.guard import OutOfBudget, TargetError, TargetTimeout
from refflow.verification.limits import chunks
from refflow.verification.targets import Target

Context = np.ndarray | None


def as_target(f: Any, context: Context = None) -> Target:
    """A flow of refflow as a target; a target as it is, its map to the base forward."""
    if isinstance(f, Target):
        return f.turned() if f.to_base == "inverse" else f
    return refflow_flows.target(f, Given(None, f.event_shape, context, None, None))


def at(function: Callable[..., Any] | None, x: np.ndarray, context: Context = None) -> Any:
    """function(x) or function(x, context), of a target that has it."""
    assert function is not None
    with np.errstate(all="ignore"):
        return function(x) if context is None else function(x, context)


def log_density(target: Target, x: np.ndarray, context: Context = None) -> np.ndarray:
    """log_prob of many rows, in float64, a chunk at a time."""
    parts = chunks(len(x), x[:1].size)
    found = [at(target.log_prob, x[s], None if context is None else context[s]) for s in parts]
    return np.concatenate(
        [np.asarray(a, dtype=np.float64).reshape(len(x[s])) for a, s in zip(found, parts, strict=True)]
    )


def normal(z: np.ndarray) -> np.ndarray:
    """log N(z; 0, I) of rows."""
    flat = np.asarray(z, dtype=np.promote_types(z.dtype, np.float64)).reshape(len(z), -1)
    return np.asarray(-0.5 * np.sum(flat**2, axis=1) - 0.5 * flat.shape[1] * math.log(2.0 * math.pi))


def base_density(target: Target, z: np.ndarray, context: Context = None) -> np.ndarray:
    """log p_Z of rows, in float64; the standard normal's where the target does not tell its own."""
    if target.base_log_prob is None:
        return normal(z)
    try:
        return np.asarray(at(target.base_log_prob, z, context), dtype=np.float64)
    except (TargetTimeout, OutOfBudget):
        raise
    except Exception:  # most bases have no context
        if context is None:
            raise
        return np.asarray(at(target.base_log_prob, z), dtype=np.float64)


def oriented(target: Target, x: np.ndarray, context: Context = None) -> Target | None:
    """The target with forward leading to the base: as it says, else as fits (1) better; None without a map."""
    if target.to_base is not None or target.log_prob is None:
        return target if target.forward is not None else None
    ways = [way for way in (target, target.turned()) if way.forward is not None]
    if len(ways) < 2:
        return ways[0] if ways else None
    return min(ways, key=lambda way: _misfit(way, x, context))


def _misfit(way: Target, x: np.ndarray, context: Context) -> float:
    try:
        error = np.abs(np.asarray(at(way.log_prob, x, context)) - sum(parts_of(way, x, context)[1:]))
    except (TargetTimeout, OutOfBudget):
        raise
    except (TargetError, ValueError):  # events of another shape, points outside a domain
        return float("inf")
    return float(np.median(np.where(np.isfinite(error), error, np.inf)))


def parts_of(target: Target, x: np.ndarray, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, log p_Z(z) and log_det at x."""
    z, log_det = forward(target, x, context)
    return z, base_density(target, z, context), np.asarray(log_det, dtype=np.float64).reshape(len(x))


def scales(target: Target, x: np.ndarray, context: Context) -> Conditions:
    """The condition scales of the map to the base: of its layers, where it is a module."""
    return conditions(target if target.module is None else target.module, x, context)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, 0 where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, np.abs(np.asarray(a, dtype=np.float64) - b))


def density_scale(target: Target, x: np.ndarray, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """How much rounding may move log_prob at rows `(N,)`, and which rows first-order theory covers: through the map
    where there is one, else by the slope of log_prob itself."""
    way = None if target.forward is None and target.inverse is None else oriented(target, x, context)
    if way is not None:
        return rounding_scale(way, x, context)
    log_p = np.asarray(at(target.log_prob, x, context), dtype=np.float64).reshape(len(x))
    slope = np.abs(slopes(lambda p, c: at(target.log_prob, p, c), x, context, box=target.domain))
    kappa = np.abs(log_p) + x[0].size + np.sum(slope * np.abs(x).reshape(len(x), -1), axis=1)
    return kappa, np.isfinite(kappa)


def rounding_scale(target: Target, x: np.ndarray, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """How much rounding may move (1): its two terms, the scales of z through the base's slope, that of log_det."""
    found = scales(target, x, context)
    _, base, log_det = parts_of(target, x, context)
    size = np.abs(base) + np.abs(log_det) + x[0].size + found.log_det
    kappa = size + np.sum(np.abs(base_slopes(target, x, context)) * found.value, axis=1)
    return kappa, found.conclusive(x.dtype)


def base_slopes(target: Target, x: np.ndarray, context: Context) -> np.ndarray:
    """d log p_Z / dz at f(x) `(N, D)`, to a few digits."""
    wide, c = cast(target, np.float64), None if context is None else context.astype(np.float64)
    z = np.asarray(forward(wide, x.astype(np.float64), c)[0])
    if target.base_log_prob is None:
        return -z.reshape(len(z), -1).astype(np.float64)
    return slopes(lambda points, rows: base_density(wide, points, rows), z, c)


def slopes(
    function: Callable[..., Any], x: np.ndarray, context: Context, box: tuple[float, float] | None = None
) -> np.ndarray:
    """The derivatives `(N, D)` of a function of rows by central differences, all in one call."""
    n, flat = len(x), x.reshape(len(x), -1)
    h = float(np.finfo(x.dtype).eps) ** (1.0 / 3.0) * np.maximum(1.0, np.abs(flat))
    if box is not None:
        h = np.minimum(h, 0.25 * np.minimum(np.abs(flat - box[0]), np.abs(box[1] - flat)))
    moves = h[:, None, :] * np.eye(flat.shape[1])
    both = np.stack([flat[:, None] + moves, flat[:, None] - moves], axis=1).astype(x.dtype)  # (N, 2, D, D)
    rows = None if context is None else np.repeat(context, 2 * flat.shape[1], axis=0)
    values = np.asarray(function(both.reshape(-1, *x.shape[1:]), rows), dtype=np.float64).reshape(n, 2, -1)
    with np.errstate(all="ignore"):
        return np.asarray((values[:, 0] - values[:, 1]) / (2.0 * h))


def image(target: Target, x: np.ndarray, context: Context, back: np.ndarray) -> np.ndarray:
    """|J| times a scale of x."""
    f = target if target.module is None else target.module
    c = None if context is None else context.astype(np.float64)
    jacobian = derivatives(cast(f, np.float64), x.astype(np.float64), c)[0]
    return np.asarray((np.abs(jacobian) @ back[..., None])[..., 0])
