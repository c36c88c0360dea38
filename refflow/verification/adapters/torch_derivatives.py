"""Derivatives of functions of tensors, one row at a time with its context: a leak between rows would corrupt them."""

from typing import Any


def jacobian(function: Any, x: Any, context: Any) -> Any:
    """dy/dx `(N, M, D)` of the value, events flattened, by reverse-mode differentiation."""
    import torch

    return torch.stack([_row(function, x[i : i + 1], None if context is None else context[i : i + 1])
                        for i in range(len(x))])  # fmt: skip


def _row(function: Any, x: Any, context: Any) -> Any:
    import torch

    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        y = function(leaf.clone(), context)[0].reshape(-1)
        if not y.requires_grad:
            return x.new_zeros((len(y), leaf.numel()))
        rows = torch.eye(len(y), dtype=y.dtype)
        try:  # all rows of J in one pass; the forward pass is not batched, so that it may branch on its input
            (found,) = torch.autograd.grad(y, leaf, rows, is_grads_batched=True, retain_graph=True, allow_unused=True)
        except RuntimeError:
            found = torch.stack([_zeros(torch.autograd.grad(y, leaf, row, retain_graph=True, allow_unused=True)[0],
                                        leaf) for row in rows])  # fmt: skip
    return _zeros(found, x.new_zeros((len(y), leaf.numel()))).reshape(len(y), -1).detach()


def gradient(log_prob: Any, x: Any, context: Any) -> Any:
    """d log_prob / dx `(N, D)`."""
    import torch

    found = []
    with torch.enable_grad():
        for i in range(len(x)):
            leaf = x[i : i + 1].detach().clone().requires_grad_()
            value = log_prob(leaf.clone(), None if context is None else context[i : i + 1]).sum()
            (slope,) = torch.autograd.grad(value, leaf, allow_unused=True)
            found.append(_zeros(slope, leaf).reshape(-1))
    return torch.stack(found).detach()


def parameter_gradient(log_prob: Any, parameters: list[Any], x: Any, context: Any = None) -> tuple[Any, ...]:
    """d sum(log_prob) / dp for every parameter."""
    import torch

    with torch.enable_grad():
        value = log_prob(x, context).sum()
        slopes = torch.autograd.grad(value, parameters, allow_unused=True)
    return tuple(_zeros(slope, p) for slope, p in zip(slopes, parameters, strict=True))


def _zeros(slope: Any, like: Any) -> Any:
    """A derivative that is None, of what was not used, as zeros."""
    import torch

    return torch.zeros_like(like) if slope is None else slope
