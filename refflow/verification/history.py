"""The laws of memory: an answer depends on its question and the parameters, not on what was asked before.

Where a target can be made anew (`fresh`), each question comes first to one copy and after others to a second; where it
cannot, the same object is asked before and after. Calls in training mode may change running statistics by design, so
the modes of a target are verified each for itself and not in turns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from refflow.verification.calls import turned
from refflow.verification.densities import at, difference, scales
from refflow.verification.density_laws import change_of_variables
from refflow.verification.laws import antisymmetry, round_trip
from refflow.verification.points import Points
from refflow.verification.samples import draw, draw_with_density
from refflow.verification.sampling import sampled_density
from refflow.verification.targets import Target
from refflow.verification.verdicts import EXCESS, Finding, LawViolation, Measured

STEP = 2.0**-6
"""By what share parameters are changed: enough to be seen, little enough to stay what they are."""

Parameters = dict[str, np.ndarray]


@np.errstate(all="ignore")
def history(target: Target, points: Points, seed: int = 0) -> Finding:
    """The target's answers are the same, within rounding, at first and after each of its other calls."""
    makes = target.fresh or (lambda: target)
    questions = dict(_questions(target, points))
    first = {name: ask(makes()) for name, ask in questions.items()}
    largest = 0.0
    subject = makes()
    for event, happen in _events(target, points, seed).items():
        happen(subject)
        for name, ask in questions.items():
            largest = max(largest, _same(target, points, name, first[name], ask(subject), f"{name} after {event}"))
    return Finding("history", "pass", largest, EXCESS)


def _questions(target: Target, points: Points) -> Iterator[tuple[str, Callable[[Target], Any]]]:
    """What is compared: arrays `(N, k)` of all that a call answers."""
    x, y, c = points.x, points.y, points.context
    if target.forward is not None:
        yield "forward", lambda t: _columns(at(t.forward, x, c))
    if target.inverse is not None:
        yield "inverse", lambda t: _columns(at(t.inverse, y, c))
    if target.log_prob is not None:
        data = y if target.to_base == "inverse" else x
        yield "log_prob", lambda t: _columns((at(t.log_prob, data, c),))


def _columns(answers: Any) -> np.ndarray:
    return np.column_stack([np.asarray(a).reshape(len(a), -1) for a in answers])


def _events(target: Target, points: Points, seed: int) -> dict[str, Callable[[Target], Any]]:
    """What may happen to a target between two questions."""
    c = points.context
    found: dict[str, Callable[[Target], Any]] = {"nothing": lambda t: None}
    x, y = (np.asarray(0.5 * side[::-1], dtype=side.dtype) for side in (points.x, points.y))
    if target.domain is not None or target.codomain is not None:  # half a point may lie outside
        x, y = np.array(points.x[::-1]), np.array(points.y[::-1])
    if target.forward is not None:
        found["forward at other points"] = lambda t: at(t.forward, x, c)
    if target.inverse is not None:
        found["inverse at other points"] = lambda t: at(t.inverse, y, c)
    if target.log_prob is not None:
        data = y if target.to_base == "inverse" else x
        found["log_prob at other points"] = lambda t: at(t.log_prob, data, c)
    if target.sample is not None:
        found["sample"] = lambda t: draw(t, 16, seed, c)
    if target.sample_and_log_prob is not None:
        found["sample_and_log_prob"] = lambda t: draw_with_density(t, 16, seed, c)
    if target.gradient is not None:
        data = y if target.to_base == "inverse" else x
        found["gradient"] = lambda t: at(t.gradient, data, c)
    return found


def _same(target: Target, points: Points, name: str, a: np.ndarray, b: np.ndarray, where: str) -> float:
    """rho of the difference of two answers to one question, 0 if they are the same bits."""
    if a.shape == b.shape and np.array_equal(a, b, equal_nan=True):
        return 0.0
    if a.shape != b.shape:
        raise LawViolation("history", float("inf"), EXCESS, f"{where}: shapes {a.shape} and {b.shape}")
    kappa, conclusive = _scale(target, points, name, a)
    rho = Measured(np.where(np.isnan(a) & np.isnan(b), 0.0, difference(a, b)), kappa, conclusive).excess(points.x.dtype)
    row = int(np.argmax(rho.max(axis=1)))
    if rho.max() > EXCESS:
        side = points.y if name == "inverse" or (name == "log_prob" and target.to_base == "inverse") else points.x
        context = None if points.context is None else points.context[row]
        raise LawViolation("history", float(rho.max()), EXCESS, where, (side[row], context), float(conclusive.mean()))
    return float(rho.max())


def _scale(target: Target, points: Points, name: str, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """kappa of the columns of an answer: order of summation is all that may change."""
    everywhere = np.ones(len(a), dtype=bool)
    if name == "log_prob":
        size = target.dim + np.abs(a) * (1.0 + float(np.max(np.abs(points.x[np.isfinite(points.x)]), initial=1.0)))
        return size, everywhere & np.isfinite(size).all(axis=1)
    way, x = (target.turned(), points.y) if name == "inverse" else (target, points.x)
    if name == "inverse" and target.module is not None:
        way = replace(way, module=turned(target.module))
    found = scales(way, x, points.context)
    return np.column_stack([found.value, found.log_det]), found.conclusive(x.dtype)


@dataclass(frozen=True)
class _Change:
    """Parameters as they are and as they are changed, and a target that is changed and put back."""

    before: Parameters
    after: Parameters

    @staticmethod
    def of(target: Target, seed: int) -> "_Change | None":
        if target.parameters is None or target.set_parameters is None:
            return None
        before = {name: np.array(p) for name, p in target.parameters().items()}
        after = {name: moved(p, STEP * _signs(p, [seed, i])) for i, (name, p) in enumerate(before.items())}
        return _Change(before, after) if any(p.dtype.kind == "f" and p.size for p in before.values()) else None


def _signs(p: np.ndarray, seed: Any) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, p.shape) * 2 - 1


def moved(p: np.ndarray, by: np.ndarray) -> np.ndarray:
    """p (1 + by), and `by` itself where p is 0; what is no float stays."""
    if p.dtype.kind != "f":
        return p
    return np.asarray(np.where(p == 0.0, by, p * (1.0 + by)), dtype=p.dtype)


@np.errstate(all="ignore")
def parameter_change(target: Target, points: Points, seed: int = 0) -> Finding:
    """After a change of its parameters a target that has been used is what one that has not been used becomes by the
    same change; its directions, density and samples still belong together; and it is itself again when the parameters
    are put back."""
    if (change := _Change.of(target, seed)) is None:
        return Finding("parameter_change", "inconclusive", judged=0.0)
    questions = dict(_questions(target, points))
    first = {name: ask(target) for name, ask in questions.items()}
    ties = _ties(replace(target, module=None), points)
    try:
        target.set_parameters(change.after)  # type: ignore[misc]
        there = {name: ask(target) for name, ask in questions.items()}
        if all(np.array_equal(first[name], there[name], equal_nan=True) for name in questions):
            raise LawViolation("history", float("inf"), EXCESS, "set_parameters, which changed nothing")
        if target.fresh is not None:
            other = target.fresh()
            other.set_parameters(change.after)  # type: ignore[misc]
            for name, ask in questions.items():
                _same(target, points, name, ask(other), there[name], f"{name} after set_parameters, used and unused")
        _belong_together(replace(target, module=None), ties)
    finally:
        target.set_parameters(change.before)  # type: ignore[misc]
    for name, ask in questions.items():
        _same(target, points, name, first[name], ask(target), f"{name} after the parameters were put back")
    return Finding("parameter_change", "pass")


def _ties(target: Target, points: Points) -> list[Callable[[Target], Finding]]:
    """The laws that tie the functions of a target together, those that it obeys."""
    data = points.y if target.to_base == "inverse" else points.x
    found: list[Callable[[Target], Finding]] = []
    for law, x, needs in (
        (round_trip, points.x, ("forward", "inverse")),
        (antisymmetry, points.x, ("forward", "inverse")),
        (change_of_variables, data, ("log_prob",)),
        (sampled_density, data, ("log_prob", "sample_and_log_prob")),
    ):
        if all(getattr(target, name) is not None for name in needs):
            ask = partial(_asked, law, x, points.context)
            try:
                ask(target)
            except LawViolation:  # its own check says so
                continue
            found.append(ask)
    return found


def _asked(law: Any, x: np.ndarray, context: Any, target: Target) -> Finding:
    return law(target, x, context)  # type: ignore[no-any-return]


def _belong_together(target: Target, ties: list[Callable[[Target], Finding]]) -> None:
    """The laws again. (`target` is a copy: what is known of the conditions of the original is of other parameters.)"""
    for ask in ties:
        try:
            ask(target)
        except LawViolation as violation:
            where = f"{violation.law} after set_parameters, {violation.worst}"
            raise LawViolation("history", violation.statistic, violation.tolerance, where, violation.row) from None


__all__ = ["history", "parameter_change"]
