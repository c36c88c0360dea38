"""The loss: rows made real, -log p of them, whether it starts well, and where it stops being finite."""

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

FIRST_ROWS = 512
"""How many rows at most are looked at before training."""

FAR = 50.0
"""How many nats a coordinate may be missing before a word is due."""


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


def scale_warnings(flow: Flow, data: Observations, seed: int) -> list[str]:
    """What is wrong with the scale of the first rows and contexts, as an untrained flow sees them.

    Rows: log p_Z falls short of what the base gives its own samples by more than `FAR` nats a coordinate (for a normal,
    a root mean square of |z| of 10). Contexts: a column's root mean square is beyond 10.
    """
    few = real_rows(flow, data.rows(slice(0, FIRST_ROWS)), np.random.default_rng((seed, 8)))
    like, texts = first_array(flow), []
    context = None if few.context is None else xp.asarray(few.context, like=like)
    with np.errstate(all="ignore"):
        z = flow.encode(xp.asarray(few.x, like=like), context)
        own = flow.base.log_prob(flow.base.sample((FIRST_ROWS,), np.random.default_rng((seed, 9)), like))
        short = float(xp.mean(own)) - float(xp.mean(flow.base.log_prob(z)))
        if np.isfinite(short) and short > FAR * np.prod(flow.base.shape):
            far = float(xp.max(xp.abs(z)))
            texts.append(
                f"the untrained flow puts the rows far from its base's mass, at |z| up to {far:.3g}: standardise x "
                f"(preprocessing=refflow.standardize(x))"
            )
        if context is not None:
            read = xp.to_numpy(flow.prepare_context(context)).astype(np.float64)
            sizes = np.sqrt(np.mean(np.square(read), axis=0))
            if wide := np.flatnonzero(sizes > (2.0 * FAR) ** 0.5).tolist():
                texts.append(
                    f"the flow reads the context columns {wide} at sizes up to {sizes.max():.3g}, where networks want "
                    f"unit scale: standardise them (context_preprocessing=refflow.standardize(context))"
                )
    return texts


def has_dropout(m: Any) -> bool:
    """Whether any conditioner in the module drops units while training."""
    if isinstance(m, tuple):
        return any(has_dropout(part) for part in m)
    if not isinstance(m, Module):
        return False
    return drops(m) or any(has_dropout(getattr(m, name)) for name in field_names(type(m)))
