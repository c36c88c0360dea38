"""Densities with scikit-learn's methods: `score_samples(X)` and `sample(n)`, as those of mixtures and kernels.

They are copied, for their `random_state` is set to the seed of every draw. Mixtures return their rows sorted by
component, which are shuffled here, and kernel densities take the seed as an argument.
"""

import copy
import inspect
from typing import Any

import numpy as np

from refflow.verification.adapters.given import Given
from refflow.verification.targets import Target


def matches(obj: Any) -> bool:
    """Whether it has the two methods."""
    return all(callable(getattr(obj, name, None)) for name in ("score_samples", "sample"))


def target(obj: Any, given: Given) -> Target:
    """A density without a transform, in the precision it was fitted in."""
    own = copy.deepcopy(obj)
    shape = given.shape((int(own.n_features_in_),) if hasattr(own, "n_features_in_") else None, type(obj).__name__)
    kinds = {v.dtype.name for k, v in vars(own).items() if k.endswith("_") and isinstance(v, np.ndarray)}
    samples, remark = _has_samples(own, shape)
    return Target(
        given.name or type(obj).__name__, shape, dtypes=("float32",) if kinds == {"float32"} else ("float64",),
        log_prob=lambda x: own.score_samples(x.reshape(len(x), -1)),
        sample=(lambda n, seed: _sample(own, n, seed, shape)) if samples else None,
        fresh=lambda: target(obj, given), remarks=("no forward, no inverse: a density without a transform", *remark),
    )  # fmt: skip


def _has_samples(density: Any, shape: tuple[int, ...]) -> tuple[bool, tuple[str, ...]]:
    """Whether it draws, and what to say if it does not: some kernels say so only when they are asked."""
    try:
        _sample(density, 1, 0, shape)
    except NotImplementedError:
        return False, ("sample raises NotImplementedError: no samples",)
    except Exception:  # the checks of samples will say so
        return True, ()
    return True, ()


def _sample(density: Any, n: int, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    density = copy.deepcopy(density)
    takes_seed = "random_state" in inspect.signature(density.sample).parameters
    if hasattr(density, "random_state"):
        density.random_state = seed
    answer = density.sample(n, random_state=seed) if takes_seed else density.sample(n)
    if not isinstance(answer, tuple):
        return np.asarray(answer).reshape(-1, *shape)
    rows = np.asarray(answer[0])[np.random.default_rng(seed).permutation(len(answer[0]))]
    return rows.reshape(-1, *shape)
