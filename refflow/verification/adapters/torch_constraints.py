"""The constraints of torch.distributions as boxes, and why some maps cannot be verified: by their attributes alone."""

from typing import Any

from refflow.errors import StructureError
from refflow.verification.targets import Box

LINE: Box = (float("-inf"), float("inf"))


def box(constraint: Any) -> Box | None:
    """The largest box of one interval a coordinate that fulfils the constraint; None if it is no box."""
    inner = constraint
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    name = type(inner).__name__.lower().strip("_")
    low, high = getattr(inner, "lower_bound", None), getattr(inner, "upper_bound", None)
    if low is not None or high is not None:
        return (
            LINE[0] if low is None else float(low.max() if hasattr(low, "max") else low),
            LINE[1] if high is None else float(high.min() if hasattr(high, "min") else high),
        )
    return LINE if name in ("real", "realvector") else None


def common(constraint: Any) -> Box | None:
    """The box of a constraint that is the same for all coordinates; None if they differ, or if it is no box."""
    inner = constraint
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    bounds = [getattr(inner, name, None) for name in ("lower_bound", "upper_bound")]
    same = all(b is None or not hasattr(b, "max") or bool(b.max() == b.min()) for b in bounds)
    return box(constraint) if same else None


def sides(transform: Any) -> tuple[Box | None, Box | None]:
    """The boxes of a transform's domain and codomain, through its parts; None where none is known."""
    parts = composed(transform)
    if not parts:
        return box(transform.domain), box(transform.codomain)
    return _reach(parts), _reach([part.inv for part in reversed(parts)])


def composed(transform: Any) -> list[Any]:
    """The parts of a composition, in order; empty for another transform."""
    kind = {c.__name__: c for c in type(transform).__mro__}
    if "ComposeTransform" in kind:
        found = transform.parts
    elif "ComposedTransform" in kind:
        found = transform.transforms
    else:
        return []
    return [inner for part in found for inner in composed(part) or [part]]


def _reach(parts: list[Any]) -> Box | None:
    """The box that the first part takes, if every further part takes all that comes from the one before; otherwise what
    the parts before take back from it, where they act on every coordinate alike."""
    wanted: Box | None = box(parts[-1].domain)
    for part in reversed(parts[:-1]):
        if wanted is None:
            return None
        given, takes = box(part.codomain), box(part.domain)
        if given is None or takes is None:
            return None
        if wanted[0] <= given[0] and given[1] <= wanted[1]:
            wanted = takes
        else:
            wanted = _ends(part.inv, (max(wanted[0], given[0]), min(wanted[1], given[1])))
    return wanted


def _ends(transform: Any, ends: Box) -> Box | None:
    """Where a monotone elementwise transform takes the ends of a box."""
    import torch

    if transform.domain.event_dim or not ends[0] < ends[1]:
        return None
    with torch.no_grad():
        found = [transform(torch.tensor(end, dtype=torch.float64)) for end in ends]
    low, high = torch.minimum(*found).max(), torch.maximum(*found).min()
    return (float(low), float(high)) if bool(low < high) else None


def refuse(name: str, transform: Any, shape: tuple[int, ...]) -> None:
    """Raise StructureError for a transform that has no log|det J|."""
    output = tuple(transform.forward_shape(shape))
    if _size(output) != _size(shape):
        raise StructureError(
            f"expected as many coordinates of y as of x: {name} takes events of shape {tuple(shape)} to {output}, onto "
            "a set of fewer dimensions than its coordinates, so no square Jacobian is there to compare with"
        )
    if transform.bijective is False:
        raise StructureError(f"expected a bijection: {name} says that it is none (bijective = False)")


def _size(shape: tuple[int, ...]) -> int:
    found = 1
    for n in shape:
        found *= int(n)
    return found
