"""The loss: rows made real, -log p of them, and where it stops being finite."""

from dataclasses import replace
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections import Chain
from refflow.conditioners import drops
from refflow.flow import Flow
from refflow.modules import Module, field_names, first_array
from refflow.observations import Observations
from refflow.scoring import host_dtype


def real_rows(flow: Flow, data: Observations, rng: np.random.Generator) -> Observations:
    """The rows as points of the line, in the flow's dtype: dequantised if they are quantised."""
    dtype = host_dtype(flow)
    x = data.x.astype(dtype) if flow.dequantization is None else flow.dequantization.noisy(data.x, rng, dtype)
    return replace(data, x=x)


def negative_log_likelihood(flow: Flow, data: Observations) -> Array:
    """-sum_i w_i log p(x_i) / n over rows that are real already, on the flow's device. Weights have mean 1 over all
    training rows."""
    like = first_array(flow)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    log_p = flow.log_prob(xp.asarray(data.x, like=like), context)
    if data.weights is not None:
        log_p = log_p * xp.asarray(data.weights, like=like)
    return -xp.mean(log_p)


def first_bad_layer(flow: Flow, data: Observations) -> str:
    """The first layer whose output or log-determinant is not finite on these rows, for a message."""
    like = first_array(flow)
    x = xp.asarray(data.x, like=like)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    context = flow.prepare_context(context)
    layers = flow.bijection.bijections if isinstance(flow.bijection, Chain) else (flow.bijection,)
    with np.errstate(all="ignore"):
        for k, f in enumerate(layers):
            x, log_det = f.forward(x, context)
            if not (xp.all(xp.isfinite(x)) and xp.all(xp.isfinite(log_det))):
                return f"layer {k} ({type(f).__name__})"
    return "the gradient (every layer's output is finite)"


def has_dropout(m: Any) -> bool:
    """Whether any conditioner in the module drops units while training."""
    if isinstance(m, tuple):
        return any(has_dropout(part) for part in m)
    if not isinstance(m, Module):
        return False
    return drops(m) or any(has_dropout(getattr(m, name)) for name in field_names(type(m)))
