"""Programs of other languages as targets, once there is a way to have a call answered."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refflow.errors import ShapeError, StructureError
from refflow.verification.densities import normal
from refflow.verification.guard import TargetError
from refflow.verification.programs.requests import DRAWN, DTYPES, FUNCTIONS, WITH_LOG, WITH_VALUE, Answer, Call
from refflow.verification.targets import Box, Target


def described(
    name: str, event_shape: Any, functions: Sequence[str], context: np.ndarray | None, domain: Box | None,
    codomain: Box | None, dtypes: Sequence[str], to_base: str | None, base: str | None,
) -> Target:  # fmt: skip
    """The target but for its functions; raises StructureError or ShapeError for what does not fit."""
    shape = shape_of(event_shape)
    if not shape or min(shape) < 1:
        raise ShapeError(f"expected event_shape as numbers of at least 1, got {event_shape!r}")
    for what, given, known in (("functions", functions, FUNCTIONS), ("dtypes", dtypes, DTYPES)):
        if isinstance(given, str) or not given or not set(given) <= set(known):
            raise StructureError(f"expected {what} of {', '.join(known)}, got {given!r}")
    for what, side, sides in (("base", base, ("normal",)), ("to_base", to_base, ("forward", "inverse"))):
        if side is not None and side not in sides:
            raise StructureError(f"expected {what} as {' or '.join(sides)}, got {side!r}")
    rows = None if context is None else np.asarray(context, dtype=np.float64)
    if rows is not None and (rows.ndim != 2 or 0 in rows.shape):
        raise ShapeError(f"expected context as rows (M, C), got an array of shape {rows.shape}")
    return Target(
        name, shape, context=rows, domain=None if domain is None else (domain[0], domain[1]),
        codomain=None if codomain is None else (codomain[0], codomain[1]), dtypes=tuple(dtypes), to_base=to_base,
        base_log_prob=None if base is None else lambda z, *_: normal(z), bulk=True,
    )  # fmt: skip


def connected(flow: Target, functions: Sequence[str], one: Callable[[Call], Answer]) -> Target:
    """The target whose functions are answered by `one`, a call at a time; cast, it has the other precision first."""
    found: dict[str, Any] = {name: _function(flow, name, one) for name in functions}

    def cast(dtype: Any) -> Target:
        first = np.dtype(dtype).name
        return connected(replace(flow, dtypes=tuple(sorted(flow.dtypes, key=lambda n: n != first))), functions, one)

    return replace(flow, cast=cast, **found)


def width(target: Target) -> int:
    """The number of coordinates of a context; 0: it takes none."""
    return 0 if target.context is None else int(target.context.shape[1])


def shape_of(event_shape: Any) -> tuple[int, ...]:
    """An event shape given as one number or several."""
    return (int(event_shape),) if isinstance(event_shape, int | np.integer) else tuple(int(n) for n in event_shape)


def _function(flow: Target, name: str, one: Callable[[Call], Answer]) -> Callable[..., Any]:
    def asked(*given: Any) -> Any:
        call = _drawn(flow, name, *given) if name in DRAWN else _evaluated(flow, name, *given)
        answer = one(call)
        if answer.error:
            raise TargetError(answer.error)
        parts = [np.array(a) for a, has in ((answer.value, WITH_VALUE), (answer.log, WITH_LOG)) if name in has]
        return tuple(parts) if len(parts) == 2 else parts[0]

    return asked


def _evaluated(flow: Target, name: str, x: np.ndarray, context: np.ndarray | None = None) -> Call:
    given = np.asarray(x)
    if given.dtype.name not in DTYPES or given.ndim < 1 or given.shape[1:] != flow.event_shape:
        raise TargetError(f"a program is asked at float64 or float32 of shape (n, *{flow.event_shape})")
    dtype = given.dtype.name if given.dtype.name in flow.dtypes else flow.dtypes[0]
    return Call(name, dtype, len(given), given.astype(dtype), None if context is None else np.asarray(context, dtype))


def _drawn(flow: Target, name: str, n: int, seed: int, context: np.ndarray | None = None) -> Call:
    dtype = flow.dtypes[0]
    return Call(name, dtype, int(n), None, None if context is None else np.asarray(context, dtype), int(seed))
