"""Starting values from data: an explicit function from a flow and a batch to a new flow."""

from typing import Any

from refflow import arrays as xp
from refflow.bijections import ActNorm, BatchNorm, Bijection, Chain, Concatenate, MultiScale
from refflow.flow import Flow
from refflow.modules import replace


def initialize(flow: Flow, x: Any, context: Any = None) -> Flow:
    """Return the flow with every ActNorm and BatchNorm set from the batch x, in order: each sees what those before it
    make of x.

    It looks into chains, multi-scale levels and concatenated pieces; what runs the other way (`Inverse`) or is `Frozen`
    stays as it is.
    """
    return replace(flow, bijection=_initialized(flow.bijection, x, flow.prepare_context(context))[0])


def _initialized(f: Bijection, x: Any, context: Any) -> tuple[Bijection, Any]:
    """f with its ActNorms and BatchNorms set, and f(x)."""
    if isinstance(f, Chain):
        maps = []
        for part in f.bijections:
            part, x = _initialized(part, x, context)
            maps.append(part)
        return replace(f, bijections=tuple(maps)), x
    if isinstance(f, ActNorm | BatchNorm):
        f = f.initialized(x)
    elif isinstance(f, MultiScale):
        h, levels = x, []
        for k, level in enumerate(f.levels):
            level, h = _initialized(level, h, context)
            h = f.split(h, k)[1]
            levels.append(level)
        f = replace(f, levels=tuple(levels))
    elif isinstance(f, Concatenate):
        pieces = zip(f.bijections, xp.split(x, f.sizes, axis=f.axis), strict=True)
        f = replace(f, bijections=tuple(_initialized(g, piece, context)[0] for g, piece in pieces))
    return f, f.forward(x, context)[0]
