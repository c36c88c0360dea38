"""How the laws call a map, of whatever kind: forward, turned round, by layers, in another precision.

A map is a refflow bijection, a `Target`, or any object whose `forward` and `inverse` return `(value, log_det)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from refflow.bijections import Bijection, Chain, Frozen, Inverse
from refflow.modules import Module, map_arrays
from refflow.verification.guard import Guard, OutOfBudget
from refflow.verification.limits import chunks
from refflow.verification.targets import Target

T = TypeVar("T")


def forward(f: Any, x: np.ndarray, context: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """f.forward at x; maps without a context need not know the word."""
    arguments = (x,) if context is None else (x, context)
    guard = current_guard.get()
    if guard is not None and isinstance(f, Bijection):
        return guard("forward", f.forward, *arguments)  # type: ignore[no-any-return]
    with np.errstate(all="ignore"):
        if isinstance(f, Target) and len(slices := chunks(len(x), f.dim)) > 1:
            parts = [f.forward(*(a[part] for a in arguments)) for part in slices]  # type: ignore[misc]
            return np.concatenate([y for y, _ in parts]), np.concatenate([log_det for _, log_det in parts])
        return f.forward(*arguments)  # type: ignore[no-any-return]


current_guard: ContextVar[Guard | None] = ContextVar("the guard of modules", default=None)


@contextmanager
def guarding(guard: Guard) -> Iterator[None]:
    """Within, modules are called through the guard, as foreign targets always are."""
    token = current_guard.set(guard)
    try:
        yield
    finally:
        current_guard.reset(token)


def inverse(f: Any, y: np.ndarray, context: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """f.inverse at y."""
    return forward(turned(f), y, context)


@dataclass(frozen=True)
class _Turned:
    """Any map with the two methods, turned round."""

    map: Any

    def forward(self, x: np.ndarray, *context: np.ndarray) -> Any:
        return self.map.inverse(x, *context)

    def inverse(self, y: np.ndarray, *context: np.ndarray) -> Any:
        return self.map.forward(y, *context)


def turned(f: Any) -> Any:
    """The map whose forward is f's inverse."""
    if isinstance(f, Inverse):
        return f.bijection
    if isinstance(f, Target):
        return f.turned()
    return Inverse(f) if isinstance(f, Bijection) else _Turned(f)


def layers(f: Any) -> Iterator[Any]:
    """The maps that f applies one after the other, as far as it shows them."""
    if isinstance(f, Chain):
        for part in f.bijections:
            yield from layers(part)
    elif isinstance(f, Frozen):
        yield from layers(f.bijection)
    elif isinstance(f, Inverse) and isinstance(f.bijection, Chain | Frozen | Inverse):
        yield from map(turned, reversed(list(layers(f.bijection))))
    elif isinstance(f, Target) and f.layers:
        for layer in f.layers:
            yield from layers(layer)
    else:
        yield f


def cast(f: T, dtype: Any) -> T:
    """The map with its arrays in another dtype; a map that has none to cast computes in the dtype of its input."""
    if isinstance(f, Module):
        return map_arrays(lambda a: a.astype(dtype), f)
    if isinstance(f, Target) and f.cast is not None and np.dtype(dtype).name in f.dtypes:
        return f.cast(dtype)  # type: ignore[return-value]
    return f


def takes(f: Any, x: np.ndarray, context: np.ndarray | None, dtype: Any) -> bool:
    """Whether f computes in this precision: modules do, adapters say so, other code is tried."""
    if isinstance(f, Module):
        return True
    if isinstance(f, Target) and f.cast is not None:
        return np.dtype(dtype).name in f.dtypes
    try:
        y, log_det = forward(f, x.astype(dtype), None if context is None else context.astype(dtype))
        return bool(np.asarray(y).dtype == dtype and np.asarray(log_det).dtype == dtype)
    except OutOfBudget:
        raise
    except Exception:  # whatever foreign code answers to numbers it does not know
        return False
