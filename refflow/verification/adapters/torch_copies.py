"""Copies of torch objects: in another mode, in another precision, and called without a trace in the caller's process.

The caller's object is never called. Every variant is a copy of it, made before any call.
"""

import contextlib
import copy
import functools
import types
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from refflow.errors import StructureError

INVERSES = ("_InverseTransform", "Inverse")
"""What torch calls the inverse of a transform, and what it is called once zuko has been imported."""


def of(obj: Any, module: str, *names: str) -> bool:
    """Whether a class of this module and one of these names (any, if none is given) is in the object's ancestry;
    `module` may be a package."""
    kind: Any = type(obj)
    return _descends(kind, module, names)


@functools.lru_cache(4096)
def _descends(kind: Any, module: str, names: tuple[str, ...]) -> bool:
    return any(
        (c.__module__ == module or c.__module__.startswith(module + ".")) and (not names or c.__name__ in names)
        for c in kind.__mro__
    )


def is_module(obj: Any) -> bool:
    """Whether it is a torch.nn.Module."""
    return of(obj, "torch.nn.modules.module", "Module")


def reached(obj: Any) -> Iterator[Any]:
    """Every object that a deep copy of this one copies: through attributes, containers, partials and bound methods."""
    seen: set[int] = set()
    waiting = [obj]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(part))
        if _is_tensor(part):
            yield part
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
        elif isinstance(part, functools.partial):
            waiting += (part.func, *part.args, *part.keywords.values())
        elif isinstance(part, types.MethodType):
            waiting.append(part.__self__)
        elif hasattr(part, "__dict__"):
            yield part
            waiting += vars(part).values()


def _is_tensor(obj: Any) -> bool:
    return of(obj, "torch", "Tensor") or of(obj, "torch._tensor", "Tensor")


def copied(obj: Any) -> Any:
    """A deep copy. Tensors that are results of a differentiable computation are copied without it, and inverses of
    torch transforms, which a plain deep copy leaves empty, with what they invert.

    Raises StructureError for what cannot be copied.
    """
    memo: dict[int, Any] = {}
    try:
        parts = list(reached(obj))
        for part in parts:
            if _is_tensor(part) and not part.is_leaf:
                memo[id(part)] = part.detach().clone()
        for part in parts:
            if of(part, "torch.distributions.transforms", *INVERSES) and id(part) not in memo:
                memo[id(part)] = copy.deepcopy(part.inv, memo).inv
        return copy.deepcopy(obj, memo)
    except Exception as error:  # whatever foreign code answers to being copied
        raise StructureError(
            f"expected an object that can be copied, so that its state stays untouched: copy.deepcopy of a "
            f"{type(obj).__qualname__} raised {type(error).__name__}: {error}"
        ) from error


def tensors(obj: Any) -> list[Any]:
    """The tensors of floating-point numbers that the object holds."""
    return [part for part in reached(obj) if _is_tensor(part) and part.is_floating_point()]


def modules(obj: Any) -> list[Any]:
    """The modules that the object holds, itself included."""
    return [part for part in reached(obj) if is_module(part)]


def own_dtype(obj: Any) -> str | None:
    """The precision that most numbers among its parameters have, or, without any, among its tensors; None if it holds
    none. A layer of float32 may have a lone parameter of float64, made of a number of NumPy's."""
    found = [p for module in modules(obj) for p in module.parameters(recurse=False) if p.is_floating_point()]
    counts: Counter[str] = Counter()
    for p in found or tensors(obj):
        counts[str(p.dtype).removeprefix("torch.")] += p.numel()
    return counts.most_common(1)[0][0] if counts else None


def cast(obj: Any, dtype: str) -> list[str]:
    """Move a copy to a precision (and to the CPU), in place: as its users would, by `.to`, and then every tensor that
    `.to` has left. Returns what it left."""
    import torch

    kind = getattr(torch, dtype)
    if is_module(obj):
        obj.to(device="cpu", dtype=kind)
    left = [t for t in tensors(obj) if t.dtype != kind or t.device.type != "cpu"]
    for t in left:
        t.grad = None
        t.data = t.data.to(device="cpu", dtype=kind)
    return [str(tuple(t.shape)) for t in left] if is_module(obj) else []


def set_mode(obj: Any, train: bool) -> None:
    """Put every module of a copy in train or eval mode."""
    for module in [obj] if is_module(obj) else modules(obj):
        module.train(train)


def state(obj: Any) -> list[bytes]:
    """The bits of all parameters and buffers."""
    return [
        t.detach().cpu().contiguous().numpy().tobytes()
        for module in modules(obj)
        for t in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    ]


class Surroundings:
    """What calls find around them, and leave as it was: random numbers of their own, for torch and for NumPy, so that
    one call draws other numbers than the one before; and, where they need it, another default precision of torch."""

    def __init__(self, default: str | None = None) -> None:
        self.default = default
        self._torch: Any = None
        self._numpy: Any = np.random.RandomState(0).get_state()

    @contextlib.contextmanager
    def __call__(self, seed: int | None = None) -> Iterator[None]:
        import torch

        outer = torch.get_rng_state(), np.random.get_state(), torch.get_default_dtype()  # noqa: NPY002
        try:
            if self.default is not None:
                torch.set_default_dtype(getattr(torch, self.default))
            if seed is not None or self._torch is None:
                torch.default_generator.manual_seed(seed or 0)
            else:
                torch.set_rng_state(self._torch)
            np.random.set_state(self._numpy if seed is None else np.random.RandomState(seed).get_state())  # noqa: NPY002
            yield
        finally:
            self._torch, self._numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
            torch.set_rng_state(outer[0])
            np.random.set_state(outer[1])  # noqa: NPY002
            torch.set_default_dtype(outer[2])
