"""Draws from a target, and how far rounding spoils what is computed at them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from refflow.verification.calls import forward, inverse
from refflow.verification.conditioning import unit
from refflow.verification.densities import Context, at, log_density
from refflow.verification.limits import chunks
from refflow.verification.targets import Target

ROUNDINGS = 64.0
"""A row is moved by so many units in its last place to see whether anything computed there is its own."""

SEEDS = 1_000_003
"""From the seed of a chunk of draws to that of the next: further than the seeds that checks use are apart."""

STEADY = 1e-2
"""Nats, and standard deviations, by which that may move it."""


def tiled(context: Context, n: int) -> Context:
    """n rows of context, the given ones over and over."""
    return None if context is None else np.resize(context, (n, context.shape[-1]))


def draw(target: Target, n: int, seed: int, context: Context = None) -> np.ndarray:
    """n draws, one for each of the tiled rows of the context; many of them a chunk at a time, of other seeds."""
    rows, found = tiled(context, n), []
    for i, part in enumerate(chunks(n, target.dim)):
        asked = part.stop - part.start, seed + SEEDS * i
        found.append(target.sample(*asked) if rows is None else target.sample(*asked, rows[part]))  # type: ignore[misc]
    return np.asarray(found[0]) if len(found) == 1 else np.concatenate(found)


def draw_with_density(target: Target, n: int, seed: int, context: Context = None) -> tuple[np.ndarray, np.ndarray]:
    """As `draw`, with the log-density of each."""
    rows, both = tiled(context, n), target.sample_and_log_prob
    x, log_p = both(n, seed) if rows is None else both(n, seed, rows)  # type: ignore[misc]
    return np.asarray(x), np.asarray(log_p)


def unstable_density(target: Target, x: np.ndarray, context: Context) -> np.ndarray:
    """Rows `(N,)` whose log_prob is not finite, or is moved by rounding."""
    return _unstable(lambda p, c: log_density(target, p, c)[:, None], target, x, context)


def unstable_code(target: Target, x: np.ndarray, context: Context) -> np.ndarray:
    """Rows `(N,)` whose z is not finite, is moved by rounding, or is not the one that the inverse starts from."""

    def code(p: np.ndarray, c: Context) -> np.ndarray:
        z, log_det = forward(target, p, c)
        outside = np.where(np.isfinite(log_det), 0.0, np.nan).reshape(len(p), 1)
        return np.asarray(z, dtype=np.float64).reshape(len(p), -1) + outside

    found = _unstable(code, target, x, context)
    if target.inverse is not None:
        z = forward(target, x, context)[0]
        again = code(np.asarray(inverse(target, z, context)[0]), context)
        found |= ~(np.abs(again - z.reshape(len(z), -1)) <= STEADY).all(axis=1)
    return found


def _unstable(function: Callable[..., Any], target: Target, x: np.ndarray, context: Context) -> np.ndarray:
    """Rows that a few units in the last place move, in either direction, or take to the domain's end."""
    low, high = (-np.inf, np.inf) if target.domain is None else target.domain
    signs = np.random.default_rng(2).integers(0, 2, x.shape) * 2 - 1
    with np.errstate(all="ignore"):
        here, found = function(x, context), np.zeros(len(x), dtype=bool)
        for way in (1.0, -1.0):
            moved = np.asarray(x * (1.0 + way * ROUNDINGS * unit(x.dtype) * signs), dtype=x.dtype)
            inside = ((moved > low) & (moved < high)).reshape(len(x), -1).all(axis=1)
            moved = np.where(inside.reshape(-1, *(1,) * (x.ndim - 1)), moved, x)
            found |= ~inside | ~(np.abs(function(moved, context) - here) <= STEADY).all(axis=1)
    return found


__all__ = ["at", "draw", "draw_with_density", "tiled", "unstable_code", "unstable_density"]
