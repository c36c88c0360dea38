"""`parametrize_with_checks`: one pytest case for each check of each flow, after scikit-learn's decorator."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refflow.errors import StructureError
from refflow.verification.checks import CHECKS
from refflow.verification.kit import require_known, verify
from refflow.verification.replaying import reproduction
from refflow.verification.reports.report import Outcome, Report
from refflow.verification.runs import LEVELS

NOT_DECIDED = ("inconclusive", "blocked", "skipped")

Expected = Mapping[str, str] | Iterable[str]


@dataclass
class Verified:
    """A flow whose report is computed when it is first asked for, and once."""

    flow: Any
    arguments: dict[str, Any]
    reports: dict[str, Report] = field(default_factory=dict)

    def report(self, level: str) -> Report:
        """The report at a level."""
        if level not in self.reports:
            self.reports[level] = verified(self.flow, level=level, **self.arguments)
        return self.reports[level]


def verified(flow: Any, **arguments: Any) -> Report:
    """The report of a flow: an object, a dictionary of `verify`'s arguments, or a function that makes either."""
    from types import FunctionType

    if isinstance(flow, FunctionType):
        flow = flow()
    if isinstance(flow, Mapping):
        return verify(**{**arguments, **flow})
    return verify(flow, **arguments)


@dataclass
class CheckCase:
    """One check as pytest's argument: `check(flow)` fails, skips or passes as the check does."""

    id: str
    statement: str
    verified: Verified
    level: str | None

    def __call__(self, flow: Any) -> None:
        """Ask the check, in every precision and mode that the flow has; another flow than the decorator's is verified
        anew."""
        import pytest

        __tracebackhide__ = True
        level = self.level or _level_of_run()
        if flow is self.verified.flow:
            report = self.verified.report(level)
        else:
            report = verified(flow, **{**self.verified.arguments, "only": [self.id], "level": level})
        if report.error:
            pytest.fail(f"{report.target}: {report.error}", pytrace=False)
        found = [outcome for outcome in report.checks if outcome.id == self.id]
        failed = [outcome for outcome in found if outcome.status in ("fail", "xpass")]
        if failed:
            pytest.fail("\n\n".join(_message(outcome, report) for outcome in failed), pytrace=False)
        if expected := [outcome for outcome in found if outcome.status == "xfail"]:
            pytest.xfail(f"{expected[0].name}: {expected[0].hint or expected[0].explanation}")
        if all(outcome.status in NOT_DECIDED for outcome in found):
            reasons = dict.fromkeys(f"{outcome.status}: {outcome.explanation}" for outcome in found)
            pytest.skip("; ".join(reasons) or "not asked")

    def __repr__(self) -> str:
        return f"{self.id}: {self.statement}"


def parametrize_with_checks(
    flows: Sequence[Any],
    *,
    level: str | None = None,
    expected_failures: Expected | Callable[[Any], Expected] | None = None,
    only: Iterable[str] | None = None,
    **arguments: Any,
) -> Callable[[Any], Any]:
    """Decorate a test of the arguments (flow, check) so that it runs once for each check of each flow.

    flows:
        Objects as `verify` takes them, dictionaries of its arguments, or functions without argument that make either
        when the first of their checks runs. All checks of a flow share one verification.
    level:
        "quick", "standard" or "deep"; None: pytest's option --refflow-level, else "standard".
    expected_failures:
        Ids of checks, best with reasons, or a function of the flow that gives them. They run; one that does not fail is
        a failed case.
    only:
        Ids of checks; None: all up to the level.
    arguments:
        Further arguments of `verify`, for all flows.

        @parametrize_with_checks([flow, {"forward": f, "inverse": g, "event_shape": (4,)}], level="quick")
        def test_flow(flow, check):
            check(flow)
    """
    import pytest

    if level is not None and level not in LEVELS:
        raise StructureError(f"expected a level of {', '.join(LEVELS)}, got {level!r}")
    chosen = None if only is None else {only} if isinstance(only, str) else set(only)
    if chosen is not None:
        arguments["only"] = sorted(chosen)
    for id in chosen or ():
        require_known(id, "only")
    cases = []
    for flow in flows:
        expected = expected_failures(flow) if callable(expected_failures) else expected_failures
        for name in expected or ():
            require_known(name.partition("[")[0], "expected_failures")
        shared = Verified(flow, {**arguments, "expected_failures": _of_chosen(expected, chosen)})
        for check in CHECKS:
            if chosen is None or check.id in chosen:
                case = CheckCase(check.id, check.statement, shared, level)
                cases.append(pytest.param(flow, case, id=f"{_name(flow)}-{check.id}"))
    return pytest.mark.parametrize(("flow", "check"), cases)


def _of_chosen(expected: Expected | None, chosen: set[str] | None) -> Expected | None:
    if expected is None or chosen is None:
        return expected
    reasons = dict(expected) if isinstance(expected, Mapping) else dict.fromkeys(expected, "")
    return {name: reason for name, reason in reasons.items() if name.partition("[")[0] in chosen}


def _name(flow: Any) -> str:
    """What a case is called: nothing is built or called for it."""
    if isinstance(flow, Mapping):
        given = flow.get("name") or getattr(flow.get("forward"), "__name__", None) or "functions"
        return str(given)
    return str(getattr(flow, "__name__", None) or type(flow).__name__)


def _level_of_run() -> str:
    """The option --refflow-level of the run that is going on; "standard" without the plugin."""
    plugin = sys.modules.get("_refflow_pytest")
    return (plugin.chosen[-1] if plugin is not None and plugin.chosen else None) or "standard"


def _message(outcome: Outcome, report: Report) -> str:
    numbers = "" if outcome.statistic is None or not outcome.tolerance else (
        f" ({outcome.statistic:.3g}, allowed {outcome.tolerance:.3g})"
    )  # fmt: skip
    lines = [f"{report.target}: {outcome.name} {outcome.status}: {outcome.statement}{numbers}"]
    lines += [outcome.explanation] if outcome.explanation else []
    lines += [f"look for: {outcome.hint}"] if outcome.hint else []
    if outcome.status == "fail":
        lines += ["to see it again:", *(f"    {line}" for line in reproduction(outcome, report).splitlines() if line)]
    return "\n".join(lines)
