"""How the JAX packages' objects are moved away from their initial values: every floating point leaf of the tree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from item import SHAKE


def shaken_tree(tree: Any, seed: int = 0, by: float = SHAKE) -> Any:
    """The tree with every floating point array moved by `by` times a normal draw."""
    leaves, structure = jax.tree_util.tree_flatten(tree)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    return structure.unflatten([_moved(leaf, key, by) for leaf, key in zip(leaves, keys, strict=False)])


def _moved(leaf: Any, key: Any, by: float) -> Any:
    if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return leaf + by * jax.random.normal(key, leaf.shape, leaf.dtype)


def normal(*shape: int, seed: int = 0) -> Any:
    """Normal draws in JAX's default precision: the same numbers, rounded, with and without `jax_enable_x64`."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype=float)
