"""refflow's own bijections and flows: the laws read their layers and their numbers."""

from dataclasses import replace
from typing import Any

import numpy as np

from refflow.bijections import Bijection, Inverse
from refflow.distributions import Uniform
from refflow.flow import Flow
from refflow.modules import named_arrays
from refflow.verification.adapters.given import Given
from refflow.verification.calls import cast
from refflow.verification.calls import forward as call
from refflow.verification.targets import Box, Target


def matches(obj: Any) -> bool:
    """Whether it is one of ours."""
    return isinstance(obj, Bijection | Flow)


def target(obj: Any, given: Given) -> Target:
    """A bijection with its module, or a flow's bijection with its density."""
    if given.context is None and obj.context_dim:
        rows = np.random.default_rng(0).standard_normal((16, obj.context_dim))
        given = replace(given, context=rows.astype(np.float32).astype(np.float64))
    return _flow(obj, given) if isinstance(obj, Flow) else _bijection(obj, given)


def _bijection(f: Bijection, given: Given) -> Target:
    return Target(
        given.name or type(f).__name__, given.shape(f.event_shape, type(f).__name__),
        forward=lambda x, *c: call(f, x, *c), inverse=lambda y, *c: call(Inverse(f), y, *c), to_base="forward",
        context=given.context, output_shape=f.output_shape, domain=given.domain, codomain=given.codomain,
        cast=lambda dtype: _bijection(cast(f, dtype), given), module=f, any_batch=True, dtypes=_precisions(f),
    )  # fmt: skip


def _precisions(f: Bijection | Flow) -> tuple[str, ...]:
    """Those it is asked in, that of its arrays first: a flow trained in float32 is asked in float64 after a cast."""
    kinds = {a.dtype.name for a in named_arrays(f).values() if a.dtype.kind == "f"}
    return ("float32", "float64") if kinds == {"float32"} else ("float64", "float32")


def _flow(flow: Flow, given: Given) -> Target:
    def draw(n: int, seed: int, *context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not context:
            return flow.sample_and_log_prob(n, seed=seed)
        x, log_p = flow.sample_and_log_prob(1, context[0], seed=seed)
        return x[0], log_p[0]

    def only_draw(n: int, seed: int, *context: np.ndarray) -> Any:
        return flow.sample(n, seed=seed) if not context else flow.sample(1, context[0], seed=seed)[0]

    f, prepared = flow.bijection, flow.context_preprocessing is not None
    found = _bijection(f, replace(given, event_shape=flow.event_shape))
    if prepared:  # the laws of a module would hand it the contexts as they came
        found = replace(
            found, module=None,
            forward=lambda x, c: f.forward(x, flow.prepare_context(c)),
            inverse=lambda y, c: f.inverse(y, flow.prepare_context(c)),
        )  # fmt: skip
    return replace(
        found, codomain=given.codomain or _support(flow), name=given.name or "Flow",
        cast=lambda dtype: _flow(cast(flow, dtype), given), dtypes=_precisions(flow),
        log_prob=flow.log_prob, sample=only_draw, sample_and_log_prob=draw,
        base_log_prob=lambda z, *_: flow.base.log_prob(z),
    )  # fmt: skip


def _support(flow: Flow) -> Box | None:
    """The box that latents fill, where the base has one and the same for all coordinates."""
    if not isinstance(flow.base, Uniform):
        return None
    ends = np.unique(flow.base.low), np.unique(flow.base.high)
    return (float(ends[0][0]), float(ends[1][0])) if len(ends[0]) == len(ends[1]) == 1 else None
