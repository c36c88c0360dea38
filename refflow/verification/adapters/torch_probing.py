"""What only calls can tell of an object: whether it initialises itself, which directions it has, whether the train mode
is another map, and the shape of what it returns. The calls are made on copies that are thrown away."""

from dataclasses import replace
from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters import torch_copies as copies
from refflow.verification.adapters.torch_calls import Calls, Description, drawing, on_rows, some_rows
from refflow.verification.guard import Guard, TargetError, TargetTimeout, patience


def tried(
    held: Any, d: Description, side: str, n: int, default: str | None = None
) -> "tuple[np.ndarray, ...] | BaseException":
    """What a call at n rows returns, or raises, in a thread of its own; raises TargetTimeout if it hangs."""
    call = getattr(d.calls(held), side)
    if call is None:
        return NotImplementedError(side)
    dtype, (x, context) = copies.own_dtype(held) or "float64", some_rows(d, n, turned=side == "inverse")
    guard = Guard(patience.get())
    try:
        answer = guard(side, on_rows(call, copies.Surroundings(default)), *(a.astype(dtype) for a in (x, *context)))
        return tuple(np.array(part) for part in answer)
    except TargetTimeout:
        raise
    except TargetError as error:
        return error.__cause__ or error
    finally:
        guard.close()


def draws(held: Any, d: Description, default: str | None = None) -> str | None:
    """The precision of samples and of their log-densities ("mixed" if they differ), or the name of the error that they
    raise; None if there are no samples."""
    calls, (_, context) = d.calls(held), some_rows(d, 2)
    rows = [c.astype(copies.own_dtype(held) or "float64") for c in context]
    found: set[str] = set()
    guard = Guard(patience.get())
    try:
        for draw in filter(None, (calls.sample, calls.sample_and_log_prob)):
            answer = guard("sample", drawing(draw, copies.Surroundings(default)), 2, 0, *rows)
            found |= {str(part.dtype) for part in (answer if isinstance(answer, tuple) else (answer,))}
    except TargetTimeout:
        raise
    except TargetError as error:
        return type(error.__cause__ or error).__name__
    finally:
        guard.close()
    return None if not found else "mixed" if len(found) > 1 else found.pop()


def settled(pristine: Any, d: Description) -> Any:
    """A copy after one call in the direction of data, so that layers that initialise themselves have done so."""
    for side in ("inverse", "forward") if d.to_base == "inverse" else ("forward", "inverse"):
        held = _copy(pristine, train=False)
        if not isinstance(tried(held, d, side, 64), BaseException):
            return held
    return pristine


def available(source: Any, d: Description, train: bool) -> tuple[Description, tuple[str, ...]]:
    """The description without the directions and the samples that the library says it has not, and remarks on these."""
    gone: dict[str, str] = {}
    for side in ("forward", "inverse"):
        held = _copy(source, train)
        answer = tried(held, d, side, 2) if getattr(d.calls(held), side) is not None else None
        if isinstance(answer, BaseException) and type(answer).__name__ in d.unavailable:
            gone[side] = f"{type(answer).__name__} {' '.join(str(answer).split())[:120]}".rstrip()
    if len(gone) == 2:
        raise StructureError(f"expected a map, got a {d.name} that can be called in neither direction: {gone}")
    held = _copy(source, train)
    if (raised := draws(held, d)) in d.unavailable:
        gone["sample"] = str(raised)
    mode = "train" if train else "eval"
    remarks = tuple(f"no {side} in {mode} mode: {said}" for side, said in gone.items())
    make, dropped = d.calls, (*gone, *(("sample_and_log_prob",) if "sample" in gone else ()))
    return replace(d, calls=lambda obj: _without(make(obj), dropped)), remarks


def _without(calls: Calls, sides: tuple[str, ...]) -> Calls:
    drop: dict[str, Any] = dict.fromkeys(sides)
    return replace(calls, **drop)


def defaults(source: Any, d: Description, names: tuple[str, ...]) -> tuple[str, ...]:
    """The precisions in which it raises unless they are torch's default: it makes tensors without a precision."""

    def raises(name: str, default: str | None) -> bool:
        for side in ("forward", "inverse"):
            held = _copy(source, train=False)
            copies.cast(held, name)
            if isinstance(tried(held, d, side, 2, default), RuntimeError):
                return True
        held = _copy(source, train=False)
        copies.cast(held, name)
        return draws(held, d, default) not in (None, name)

    return tuple(name for name in names if raises(name, None) and not raises(name, name))


def refuses(source: Any, d: Description, name: str) -> str:
    """What it raises in some direction, or as a density, once it is cast to a precision; empty if nothing."""
    for side in ("forward", "inverse", "log_prob"):
        own, held = _copy(source, train=False), _copy(source, train=False)
        copies.cast(held, name)
        if getattr(d.calls(held), side) is None:
            continue
        answer = tried(held, d, side, 2)
        if isinstance(answer, RuntimeError) and not isinstance(tried(own, d, side, 2), BaseException):
            return " ".join(str(answer).split())[:120]
    return ""


def differentiable(source: Any, d: Description) -> bool:
    """Whether torch sees how the inverse depends on its rows: one that runs under `no_grad` hides it."""
    held = _copy(source, train=False)
    call = d.calls(held).inverse
    dtype, (y, context) = copies.own_dtype(held) or "float64", some_rows(d, 2, turned=True)
    guard = Guard(patience.get())

    def shown(*rows: np.ndarray) -> bool:
        import torch

        with copies.Surroundings(None)(), torch.enable_grad():
            leaf = torch.as_tensor(rows[0]).clone().requires_grad_()
            value = call(leaf.clone(), torch.as_tensor(rows[1]) if len(rows) > 1 else None)[0]  # type: ignore[misc]
            return bool(value.requires_grad)

    try:
        return call is None or bool(guard("inverse", shown, *(a.astype(dtype) for a in (y, *context))))
    except TargetTimeout:
        raise
    except TargetError:  # the checks that call it will say so
        return True
    finally:
        guard.close()


def train_differs(source: Any, d: Description) -> bool:
    """Whether the train mode answers, or changes its state, otherwise than the eval mode."""
    return bool(copies.modules(source)) and _traces(source, d, train=True) != _traces(source, d, train=False)


def _traces(source: Any, d: Description, train: bool) -> list[Any]:
    held = _copy(source, train)
    answers = [tried(held, d, side, 8) for side in ("forward", "inverse")]
    found: list[Any] = [str(a) if isinstance(a, BaseException) else [p.tobytes() for p in a] for a in answers]
    return [*found, copies.state(held)]


def output_shape(source: Any, d: Description) -> tuple[int, ...] | None:
    """The shape of y's events where it differs from x's; raises StructureError if it has another size."""
    answer = tried(_copy(source, train=False), d, "forward", 2)
    if isinstance(answer, BaseException) or len(answer) != 2 or answer[0].shape[:1] != (2,):
        return None
    found = answer[0].shape[1:]
    if np.prod(found) != np.prod(d.shape):
        raise StructureError(
            f"expected as many coordinates of y as of x, for there is no log|det J| otherwise: a {d.name} takes events "
            f"of shape {d.shape} to events of shape {found}"
        )
    return None if found == d.shape else found


def _copy(source: Any, train: bool) -> Any:
    held = copies.copied(source)
    copies.set_mode(held, train)
    return held
