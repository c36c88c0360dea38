"""What an iteration needs of a library: values that carry no derivative, a unit of rounding, and a loop.

The iterates of a solver are not differentiated: the answer is, by the implicit function theorem, in `roots`.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from autograd.tracer import getval

from refflow.arrays.elementwise import real
from refflow.arrays.namespaces import Array, library, namespace

State = tuple[Array, ...]


def detach(x: Array) -> Array:
    """The value of x and nothing of its derivative: off autograd's tape, torch's graph and JAX's trace of tangents,
    without the imaginary part that is the complex step's derivative, and, of a ball, its midpoint.

    >>> detach(np.array([1.0 + 1e-30j]))
    array([1.])
    """
    value = real(x)
    if isinstance(value, float | int):
        return value
    name = library(value)
    if name == "torch":
        return value.detach()
    if name == "jax":
        return sys.modules["jax"].lax.stop_gradient(value)
    return namespace(value).detach(value) if name == "balls" else value


def eps(like: Array) -> float:
    """The distance from 1 to the next number of the dtype of `like`; of balls, at the context's precision."""
    value = getval(like)
    return float(namespace(value).finfo(value.dtype).eps)


def _same_in_numpy(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _same_in_torch(a: Array, b: Array) -> bool:
    if sys.modules["torch"].compiler.is_compiling():
        return False
    try:
        return bool(((a == b) | (a != a)).all())  # noqa: PLR0124
    except RuntimeError:  # a batch that vmap hides
        return False


_SAME = {"numpy": _same_in_numpy, "torch": _same_in_torch}


def repeat(step: Callable[[State], State], state: State, times: int) -> State:
    """The state after `times` steps, whatever the values are.

    A state that its step leaves as it was stays so: NumPy, torch and JAX stop there. JAX compiles one loop. (Torch does
    not look under vmap and while it compiles, where values are not there to look at.)
    """
    name = library(state[0])
    if name == "jax":
        return _compiled(step, state, times)
    for _ in range(times):
        new = step(state)
        if name in _SAME and all(_SAME[name](a, b) for a, b in zip(new, state, strict=True)):
            break
        state = new
    return state


def _compiled(step: Callable[[State], State], state: State, times: int) -> State:
    lax, jnp = sys.modules["jax"].lax, sys.modules["jax"].numpy

    def body(carried: tuple[Any, ...]) -> tuple[Any, ...]:
        count, _, old = carried
        new = step(old)
        moved = [jnp.any((a != b) & ~jnp.isnan(a)) for a, b in zip(new, old, strict=True)]
        return count + 1, jnp.stack(moved).any(), new

    start = 0, jnp.asarray(True), tuple(jnp.asarray(a) for a in state)
    return lax.while_loop(lambda carried: (carried[0] < times) & carried[1], body, start)[2]  # type: ignore[no-any-return]
