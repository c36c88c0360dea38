"""Where the mass of a density without samples is: a random walk of Metropolis et al. (1953) finds its rows.

It starts at given rows, and may never reach a mode that is far from all of them: what rests on it can show too much
mass, and only hint at too little.
"""

from collections.abc import Callable

import numpy as np

from refflow.verification.densities import Context, log_density
from refflow.verification.samples import tiled
from refflow.verification.targets import Target

CHAINS, STEPS, KEPT = 256, 300, 100
"""Walkers, their steps, and how many of the last ones are kept."""

STRIDES = (0.02, 5.0)
"""The least and the largest step, in standard deviations of the starting rows; each is drawn anew, log-uniformly."""


@np.errstate(all="ignore")
def walker(target: Target, x: np.ndarray, context: Context = None) -> Callable[..., np.ndarray]:
    """`sample(n, seed)`, of rows that walk from the rows x by log_prob; with a context, by its first row."""
    rng, rows = np.random.default_rng(8), tiled(None if context is None else context[:1], CHAINS)
    here = np.resize(x, (CHAINS, *x.shape[1:]))
    width = np.maximum(np.std(x, axis=0), 1e-3)
    level, seen = log_density(target, here, rows), []
    for step in range(STEPS):
        stride = np.exp(rng.uniform(np.log(STRIDES[0]), np.log(STRIDES[1]), CHAINS)).reshape(-1, *(1,) * (x.ndim - 1))
        there = (here + stride * width * rng.standard_normal(here.shape)).astype(x.dtype)
        inside = np.ones(CHAINS, dtype=bool)
        if target.domain is not None:
            inside = ((there > target.domain[0]) & (there < target.domain[1])).reshape(CHAINS, -1).all(axis=1)
        there = np.where(inside.reshape(-1, *(1,) * (x.ndim - 1)), there, here)
        other = log_density(target, there, rows)
        taken = (other >= level + np.log(rng.uniform(size=CHAINS))) | ~np.isfinite(level)
        here = np.where(taken.reshape(-1, *(1,) * (x.ndim - 1)), there, here)
        level = np.where(taken, other, level)
        if step >= STEPS - KEPT:
            seen.append(here)
    found = np.concatenate(seen)

    def sample(n: int, seed: int, context: Context = None) -> np.ndarray:
        return found[np.random.default_rng(seed).integers(0, len(found), n)]

    return sample


__all__ = ["walker"]
