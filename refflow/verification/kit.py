"""`verify`: every check of a flow, in every precision and mode it has, as one report."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters import recognise
from refflow.verification.answers import guarded
from refflow.verification.calls import guarding
from refflow.verification.checks import CHECKS
from refflow.verification.conditioning import remembered
from refflow.verification.guard import Guard, TargetError, TargetTimeout, patience
from refflow.verification.limits import affordable_rows, unchanged
from refflow.verification.outcomes import ask, left_out
from refflow.verification.points import Points, completed
from refflow.verification.points import points as drawn
from refflow.verification.references import aligned
from refflow.verification.reports import evidence
from refflow.verification.reports.report import Outcome, Report
from refflow.verification.runs import LEVELS, Level, Run
from refflow.verification.targets import Box, Target
from refflow.verification.verdicts import Watch, watched

Function = Callable[..., Any]


def verify(
    target: Any = None,
    *,
    forward: Function | None = None,
    inverse: Function | None = None,
    log_prob: Function | None = None,
    sample: Function | None = None,
    sample_and_log_prob: Function | None = None,
    event_shape: tuple[int, ...] | None = None,
    context: np.ndarray | None = None,
    domain: Box | None = None,
    codomain: Box | None = None,
    dtype: str | None = None,
    level: str = "standard",
    only: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | Iterable[str] | None = None,
    seed: int = 0,
    timeout: float = 20.0,
    name: str | None = None,
    points: Points | Mapping[str, Any] | np.ndarray | None = None,
    reference: Any = None,
    progress: Callable[[Outcome], None] | None = None,
    **more: Any,
) -> Report:
    r"""Ask a flow every check that it offers what it takes for.

    Parameters
    ----------
    target:
        A flow of refflow, nflows, normflows, zuko, torch.distributions, pyro, FrEIA, flowjax, distrax, TFP, or a
        density with scikit-learn's methods; recognised by its attributes. Or nothing, and functions instead:
    forward, inverse:
        `(x)` or `(x, context)` -> `(value, log_det)`: NumPy arrays `(N, *event_shape)`, `(N,)`. Each direction returns
        the log-determinant of the map it has just evaluated. Either may be missing; the report says what was not asked.
    log_prob, sample, sample_and_log_prob:
        `(x)`; `(n, seed)` -> x; `(n, seed)` -> `(x, log_p)`; all with `context` `(n, C)` last, where there is one.
    event_shape:
        The shape of one row. Needed with functions, and with objects that do not know it.
    context:
        Rows of context to use, `(M, C)`.
    domain, codomain:
        The box (low, high) that x lies in and that y fills; None: all of space.
    dtype:
        "float64" or "float32": ask in this precision only. None: in every one that the target computes in.
    level:
        "quick", "standard" or "deep".
    only:
        Ids of checks to ask; None: all.
    expected_failures:
        Ids of checks ("BI", or "BI[train]") that are expected to fail, best with a reason each; they are asked all the
        same, and one that passes is reported (`xpass`) and not ok.
    timeout:
        Seconds that one call of the target may take.
    points:
        Rows to ask at instead of drawn ones: x `(N, *event)`, or a dictionary of "x", "y", "context"; what is missing
        is drawn. `replay` asks a failed check at its worst row in this way.
    reference:
        Another implementation with the same weights, as a refflow flow: values, log-determinants and log_prob have to
        agree (check RF). Anything that `verify` takes; its forward in the target's direction, where neither tells.
    progress:
        Called with each `Outcome` as it is found.
    more:
        Further functions of `Target`: `base_log_prob`, `layers`, `structure`, `parameters` and `set_parameters`,
        `jacobian`, `gradient`, `fresh`.

    Raises
    ------
    StructureError, ShapeError
        Arguments that do not fit. Whatever the target does is in the report instead.

    >>> import numpy as np, refflow
    >>> report = refflow.verify(
    ...     forward=lambda x: (np.sinh(x), np.log(np.cosh(x)).sum(-1)),
    ...     inverse=lambda y: (np.arcsinh(y), np.log(np.cosh(np.arcsinh(y))).sum(-1)),  # the sign is wrong
    ...     event_shape=(2,), level="quick",
    ... )
    >>> report.ok, sorted({check.id for check in report.of("fail")})
    (False, ['LD2', 'LD3'])
    """
    started = time.monotonic()
    if level not in LEVELS:
        raise StructureError(f"expected a level of {', '.join(LEVELS)}, got {level!r}")
    _require_plain(dtype, seed, timeout)
    expected = _expected(expected_failures)
    chosen = _chosen(only)
    token = patience.set(timeout)
    try:
        found = recognise(
            target,
            forward=forward, inverse=inverse, log_prob=log_prob, sample=sample, sample_and_log_prob=sample_and_log_prob,
            event_shape=event_shape, context=context, domain=domain, codomain=codomain, name=name, **more,
        )  # fmt: skip
        found = _with_reference(found, reference)
    except TargetTimeout as failure:
        called = name or type(target).__name__
        return Report(called, level, seed, (), (), str(failure), time.monotonic() - started, _versions())
    finally:
        patience.reset(token)
    if found.rounds is not None:
        asked: dict[str, Any] = {"dtype": dtype, "level": level, "only": chosen, "expected_failures": expected,
                                 "points": points}  # fmt: skip
        report: Report = found.rounds(found, lambda stand_in: verify(stand_in, timeout=timeout, seed=seed, **asked))
        for outcome in report.checks:
            (progress or _silent)(outcome)
        return report
    guard = Guard(timeout, end=started + LEVELS[level].total)
    outcomes: list[Outcome] = []
    error, figures = "", {}
    rows = affordable_rows(LEVELS[level].rows, found)
    at = drawn(found, rows, seed) if points is None else completed(found, points, seed)
    try:
        with unchanged(), remembered(), guarding(guard), watched() as seen:
            runs = []
            for run in _runs(found, guard, LEVELS[level], seed, dtype, at):
                runs.append(run)
                outcomes += _ask_all(run, chosen, expected, progress or _silent, seen)
            figures = evidence.collect(runs, outcomes, seen)
    except TargetError as failure:
        error = str(failure)
    finally:
        guard.close()
    remarks = found.remarks + (("the target printed; it is not repeated here",) if guard.printed.length else ())
    seconds = time.monotonic() - started
    return Report(found.name, level, seed, tuple(outcomes), remarks, error, seconds, _versions(), figures)


def _with_reference(found: Target, reference: Any) -> Target:
    if reference is None:
        return found
    own = getattr(reference, "event_shape", None)
    if own is not None and tuple(own) != found.event_shape:
        raise StructureError(f"expected a reference for rows of shape {found.event_shape}, got one for {tuple(own)}")
    told: dict[str, Any] = {"event_shape": found.event_shape, "context": found.context}
    return replace(found, reference=aligned(found, recognise(reference, **told)))


def _require_plain(dtype: Any, seed: Any, timeout: Any) -> None:
    if dtype not in (None, "float64", "float32"):
        raise StructureError(f"expected dtype as float64, float32 or None, got {dtype!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise StructureError(f"expected seed as a number of at least 0, got {seed!r}")
    if not timeout > 0.0:
        raise StructureError(f"expected timeout as seconds above 0, got {timeout!r}")


def _silent(outcome: Outcome) -> None:
    """No progress is told."""


def _runs(target: Target, guard: Guard, level: Level, seed: int, dtype: str | None, at: Points) -> Iterable[Run]:
    """The variants of the target: every precision, then every other mode, the first as it came."""
    safe = guarded(target, guard)
    names, end = [dtype] if dtype else _precisions(safe, at), guard.end - guard.granted
    weights = [2 if name == "float64" else 1 for name in names] + [1] * len(target.modes)  # most is asked in float64
    for precision in names:
        guard.share_out(end, weights)
        own = precision == target.dtypes[0]
        f = safe if own or safe.cast is None else safe.cast(precision)
        raw = target if own or target.cast is None else target.cast(precision)
        variant = "" if len(names) == 1 and not target.modes else precision
        f = replace(f, reference=safe.reference)
        yield Run(f, raw, _asked(f), at.astype(precision), level, seed, guard, variant)
    for mode, other in target.modes.items():
        guard.share_out(end, weights)
        f = guarded(other, guard)
        yield Run(f, other, _asked(f), at.astype(names[0]), level, seed, guard, mode)


def _precisions(target: Target, at: Points) -> list[str]:
    """Those that the target computes in. Bare functions are tried: one that answers float32 in float64 throughout, as
    NumPy's operations with float64 weights do, computes in float64 alone, and the reverse."""
    if target.cast is not None or target.dtypes != ("float64", "float32"):
        return list(target.dtypes)
    sides = [(f, x) for f, x in ((target.forward, at.x), (target.inverse, at.y)) if f is not None]
    found = []
    for name in target.dtypes:
        values = {
            answer[0].dtype.name for f, x in sides for answer in [_tried(f, x.astype(name), at.context)] if answer
        }
        if not values or name in values:
            found.append(name)
    return found or list(target.dtypes)


def _tried(f: Function, x: np.ndarray, context: np.ndarray | None) -> tuple[np.ndarray, ...]:
    try:
        return tuple(f(x) if context is None else f(x, context.astype(x.dtype)))
    except TargetTimeout:
        raise
    except TargetError:  # the check of shapes will say so
        return ()


def _asked(target: Target) -> Any:
    """What the laws are asked of."""
    return target.module if target.module is not None else target


def _ask_all(
    run: Run, chosen: set[str] | None, expected: Mapping[str, str], progress: Callable[[Outcome], None], seen: Watch
) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    asked = [check for check in CHECKS if chosen is not None and check.id in chosen and not left_out(check, run)]
    gates = set().union(*(_gates(check.id) for check in asked))
    for check in CHECKS:
        if chosen is None or check.id in chosen or check.id in gates:
            seen.asked = check.id, run.variant
            outcomes[check.id] = outcome = ask(check, run, outcomes, expected)
            if chosen is None or check.id in chosen:
                progress(outcome)
    return [outcome for outcome in outcomes.values() if chosen is None or outcome.id in chosen]


def _gates(id: str) -> set[str]:
    """All checks that this one rests on."""
    direct = next(check.after for check in CHECKS if check.id == id)
    return set(direct).union(*map(_gates, direct)) if direct else set()


def _expected(given: Mapping[str, str] | Iterable[str] | None) -> dict[str, str]:
    found = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or (), "")
    for name in found:
        require_known(name.partition("[")[0], "expected_failures")
    return found


def _chosen(only: Iterable[str] | None) -> set[str] | None:
    if only is None:
        return None
    found = {only} if isinstance(only, str) else set(only)
    for id in found:
        require_known(id, "only")
    return found


def require_known(id: str, argument: str) -> None:
    """Raises StructureError unless there is a check of this id."""
    ids = [check.id for check in CHECKS]
    if id not in ids:
        raise StructureError(f"expected ids of checks ({' '.join(ids)}) in {argument}, got {id!r}")


def _versions() -> dict[str, str]:
    import platform

    import refflow

    return {"refflow": refflow.__version__, "numpy": np.__version__, "python": platform.python_version()}
