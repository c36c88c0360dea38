"""What a copy of a torch object can be asked, and how it is asked with NumPy rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.verification.adapters.torch_copies import Surroundings
from refflow.verification.points import points
from refflow.verification.targets import Box, Target

Maps = Callable[[Any, Any], tuple[Any, Any]]
"""(x, context or None) -> (value, log_det), of tensors."""


@dataclass(frozen=True)
class Calls:
    """What one copy of an object can be asked, as functions of tensors; contexts are None where there are none."""

    forward: Maps | None = None
    inverse: Maps | None = None
    log_prob: Callable[[Any, Any], Any] | None = None
    sample: Callable[[int, Any], Any] | None = None
    """(n, context) -> `(n, *event)`."""
    sample_and_log_prob: Callable[[int, Any], tuple[Any, Any]] | None = None
    base_log_prob: Callable[[Any, Any], Any] | None = None
    layers: "tuple[Calls, ...]" = ()
    """In the order of forward."""
    name: str = ""


@dataclass(frozen=True)
class Description:
    """What an adapter knows of an object."""

    name: str
    shape: tuple[int, ...]
    calls: Callable[[Any], Calls]
    output_shape: tuple[int, ...] | None = None
    to_base: str | None = None
    context: np.ndarray | None = None
    domain: Box | None = None
    codomain: Box | None = None
    structure: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    graph: bool = True
    """Whether the inverse can be differentiated."""
    unavailable: tuple[str, ...] = ("NotImplementedError",)
    """Names of the exceptions by which the library says that it has no map in a direction."""


def some_rows(d: Description, n: int, turned: bool = False) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """n rows of x, or of y if turned, and of the context as a tuple of one array or none."""
    probe = Target(d.name, d.shape, output_shape=d.output_shape, domain=d.domain, codomain=d.codomain,
                   context=d.context)  # fmt: skip
    at = points(probe, n, 0)
    return (at.y if turned else at.x), () if at.context is None else (at.context,)


def on_rows(function: Any, around: Surroundings) -> Any:
    """The function of tensors as one of arrays: without gradients, and with random numbers of its own."""

    def call(x: np.ndarray, *context: np.ndarray) -> Any:
        with around():
            return arrays(_plainly(function, x, tensor(context[0]) if context else None))

    return call


def _plainly(function: Any, x: np.ndarray, context: Any) -> Any:
    """Without gradients, unless it computes with derivatives of its own."""
    import torch

    try:
        with torch.no_grad():
            return function(tensor(x), context)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        return function(tensor(x), context)


def drawing(function: Any, around: Surroundings) -> Any:
    """As `on_rows`, for (n, seed) or (n, seed, context)."""

    def call(n: int, seed: int, *context: np.ndarray) -> Any:
        import torch

        with torch.no_grad(), around(seed):
            return arrays(function(n, tensor(context[0]) if context else None))

    return call


def tensor(x: np.ndarray) -> Any:
    """The array as a tensor that shares its memory, so that writing to an input is seen."""
    import torch

    if x.dtype.kind == "c":
        raise TypeError("real numbers only: the target differentiates itself")
    return torch.from_numpy(x if x.flags.writeable and x.flags.c_contiguous else np.array(x))


def arrays(answer: Any) -> Any:
    """Tensors as arrays, in tuples too; whatever is neither stays as it is."""
    if isinstance(answer, tuple | list):
        return tuple(arrays(part) for part in answer)
    return answer.detach().cpu().numpy() if hasattr(answer, "detach") else answer


def per_row(log_det: Any, x: Any) -> Any:
    """A log-determinant of a library whose layers may give one number, or a Python float, for all rows."""
    import torch

    found = log_det if torch.is_tensor(log_det) else torch.full((), float(log_det), dtype=x.dtype)
    return found.expand(len(x)) if found.ndim == 0 or found.shape == (1,) else found
