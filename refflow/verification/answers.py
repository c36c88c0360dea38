"""What foreign code answers, made plain arrays: measured before it is copied, and refused if it is none.

`guarded` puts a guard before every function of a target.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refflow.verification.guard import Guard, TargetError, line
from refflow.verification.targets import Target

SPARE = 1 << 20
"""Numbers that an answer may always hold; beyond, four times what was asked for: a wrong shape is reported, not copied
if it fills the memory."""


def guarded(
    target: Target, guard: Guard, precision: str | None = None, casts: "dict[Any, Target] | None" = None
) -> Target:
    """The target, now in this precision, with every function called through the guard, and its answers made plain
    arrays of their own.

    What `cast` makes is kept, in `casts`, until parameters are set: to copy a network takes longer than to call it."""
    kept: dict[Any, Target] = {} if casts is None else casts
    now = precision or target.dtypes[0]

    def through(name: str, plain: Callable[..., Any], power: int = 1) -> Any:
        if (function := getattr(target, name)) is None:
            return None

        def ask(*arguments: Any) -> Any:
            return plain(name, function(*arguments), SPARE + 4 * _asked(target, arguments, power))

        return lambda *arguments: guard(name, ask, *arguments)

    def cast(dtype: Any) -> Target:
        key = id(target), np.dtype(dtype).name
        if key[1] == now:
            return found
        if key not in kept:
            kept[key] = guarded(guard("cast", target.cast, dtype), guard, key[1])  # type: ignore[arg-type]
        return kept[key]

    def write(values: Any) -> None:
        kept.clear()
        guard.changes += 1
        guard.regardless("set_parameters", target.set_parameters, dict(values))  # type: ignore[arg-type]

    changes: dict[str, Any] = {name: through(name, _pair) for name in ("forward", "inverse", "sample_and_log_prob")}
    changes |= {name: through(name, _array) for name in ("log_prob", "sample", "base_log_prob", "gradient")}
    changes |= {name: through(name, _array, 2) for name in ("jacobian", "inverse_jacobian")}
    changes |= {name: through(name, _arrays) for name in ("parameters", "parameter_gradient")}
    changes["set_parameters"] = None if target.set_parameters is None else write
    changes["cast"] = None if target.cast is None else cast
    if (fresh := target.fresh) is not None:
        changes["fresh"] = lambda: guarded(guard("fresh", fresh), guard, now)
    changes["layers"] = tuple(guarded(part, guard, now, kept) for part in target.layers)
    changes["reference"] = None if target.reference is None else guarded(target.reference, guard)
    changes["modes"] = {name: guarded(mode, guard) for name, mode in target.modes.items()}
    found = replace(target, **changes)
    return found


def _asked(target: Target, arguments: Any, power: int) -> int:
    """How many numbers an answer should hold: rows times coordinates, or coordinates squared for Jacobians."""
    dims = [int(np.prod(shape)) for shape in (target.event_shape, target.output_shape) if shape is not None]
    first = arguments[0] if arguments else 1
    if isinstance(first, np.ndarray):
        rows = first.size // max(min(dims), 1)
    else:
        rows = int(first) if isinstance(first, int | np.integer) else 1
    return int(rows * max(dims) ** power)


def _pair(name: str, answer: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise TargetError(f"{name} returned {_what(answer)}; expected a pair (value, log_det) of arrays")
    return _array(f"the value of {name}", answer[0], most), _array(f"the log_det of {name}", answer[1], most)


def _arrays(name: str, answer: Any, most: int) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise TargetError(f"{name} returned {_what(answer)}; expected a dictionary of arrays")
    return {key: None if value is None else np.array(value) for key, value in answer.items()}


def _array(name: str, answer: Any, most: int) -> np.ndarray:
    size = getattr(answer, "size", 0)
    if isinstance(size, int) and size > most:
        raise TargetError(f"{name} is {_what(answer)}: far more numbers than were asked for")
    if isinstance(answer, np.ma.MaskedArray) and np.ma.is_masked(answer):
        raise TargetError(f"{name} is a masked array with masked entries; expected a number in every place")
    try:
        found = np.array(answer)
    except Exception as error:  # whatever foreign arrays answer to NumPy
        raise TargetError(f"{name} is no NumPy array but {_what(answer)}: {line(error)}") from error
    if found.dtype.kind not in "fc":
        raise TargetError(f"{name} holds {found.dtype}; expected an array of floats, got {_what(answer)}")
    return found


def _what(answer: Any) -> str:
    shape, name = getattr(answer, "shape", None), type(answer).__name__
    if answer is None:
        return "None"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" + (
        f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    )
