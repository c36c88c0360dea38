"""Derivatives of functions of tensors by reverse-mode differentiation.

All rows that are handed in are differentiated together: with the sum over rows, which is each row's own derivative if
rows do not leak into one another. Whoever cannot rely on that, as the law of log-determinants, hands in one row.
"""

from functools import cache
from typing import Any


def jacobian(function: Any, x: Any, context: Any) -> Any:
    """dy/dx `(N, M, D)` of the value, events flattened."""
    import torch

    n, size = len(x), x[0].numel()
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        y = function(leaf.clone(), context)[0].reshape(n, -1)
        if not y.requires_grad:
            return x.new_zeros((n, y.shape[1], size))
        rows = torch.eye(y.shape[1], dtype=y.dtype)[:, None].expand(-1, n, -1)
        try:  # all rows of J in one pass; the forward pass is not batched, so that it may branch on its input
            (found,) = torch.autograd.grad(y, leaf, rows, is_grads_batched=True, retain_graph=True, allow_unused=True)
            found = x.new_zeros((y.shape[1], n, size)) if found is None else found
        except RuntimeError:
            slopes = [torch.autograd.grad(y, leaf, row, retain_graph=True, allow_unused=True)[0] for row in rows]
            found = torch.stack([_zeros(slope, leaf) for slope in slopes])
    return found.reshape(y.shape[1], n, size).transpose(0, 1).detach()


@cache
def warm() -> None:
    """One small derivative: torch takes a second for its first, which is nobody's budget."""
    import torch

    jacobian(lambda x, _: (x * x, None), torch.ones(1, 2), None)


def gradient(log_prob: Any, x: Any, context: Any) -> Any:
    """d log_prob / dx `(N, D)`."""
    import torch

    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        value = log_prob(leaf.clone(), context).sum()
        slope = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    return _zeros(slope, leaf).reshape(len(x), -1).detach()


def parameter_gradient(log_prob: Any, parameters: list[Any], x: Any, context: Any = None) -> tuple[Any, ...]:
    """d sum(log_prob) / dp for every parameter."""
    import torch

    with torch.enable_grad():
        value = log_prob(x, context).sum()
        nothing = (None,) * len(parameters)
        slopes = torch.autograd.grad(value, parameters, allow_unused=True) if value.requires_grad else nothing
    return tuple(_zeros(slope, p) for slope, p in zip(slopes, parameters, strict=True))


def _zeros(slope: Any, like: Any) -> Any:
    """A derivative that is None, of what was not used, as zeros."""
    import torch

    return torch.zeros_like(like) if slope is None else slope
