"""A report as JUnit XML, which GitLab, Jenkins, GitHub Actions and others show beside the tests of a build.

One suite a report, one case a check and variant. `fail` and `xpass` are failures; `skipped`, `inconclusive`, `blocked`
and `xfail` are skipped, with the reason; a target that could not be asked is an error. A warning passes, and is told in
the case's output.
"""

import re
from typing import Any
from xml.etree import ElementTree

from refflow.verification.reports.report import Outcome, Report

FAILED = ("fail", "xpass")

NOT_DECIDED = ("skipped", "inconclusive", "blocked", "xfail")

ILLEGAL = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (section 2.2)."""


def junit(report: Report) -> str:
    """The report as one XML document."""
    counts: dict[str, Any] = {
        "tests": len(report.checks) + bool(report.error), "failures": len(report.of(*FAILED)),
        "errors": int(bool(report.error)), "skipped": len(report.of(*NOT_DECIDED)), "time": f"{report.seconds:.3f}",
    }  # fmt: skip
    root = _element(None, "testsuites", name="refflow verify", **counts)
    suite = _element(root, "testsuite", name=report.target, **counts)
    properties = _element(suite, "properties")
    for name, value in {"level": report.level, "seed": report.seed, **report.versions}.items():
        _element(properties, "property", name=name, value=value)
    for outcome in report.checks:
        _case(suite, report.target, outcome)
    if report.error:
        case = _element(suite, "testcase", classname=report.target, name="the target can be asked", time="0.000")
        _element(case, "error", report.error, type="TargetError", message=report.error)
    if report.remarks:
        _element(suite, "system-out", "\n".join(report.remarks))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, target: str, outcome: Outcome) -> None:
    name = f"{outcome.name} {outcome.statement}"
    case = _element(suite, "testcase", classname=target, name=name, time=f"{outcome.seconds:.3f}")
    if outcome.status in FAILED:
        _element(case, "failure", _details(outcome), type=outcome.status, message=_message(outcome))
    elif outcome.status in NOT_DECIDED:
        _element(case, "skipped", message=f"{outcome.status}: {_message(outcome)}")
    elif outcome.status == "warn":
        _element(case, "system-out", f"warning: {_details(outcome)}")


def _message(outcome: Outcome) -> str:
    text = outcome.explanation or outcome.hint or outcome.statement
    return text if len(text) <= 300 else text[:297] + "..."


def _details(outcome: Outcome) -> str:
    lines = [outcome.statement, outcome.explanation, outcome.hint and f"look for: {outcome.hint}"]
    if outcome.statistic is not None and outcome.tolerance is not None:
        lines.insert(1, f"{outcome.statistic:.6g}, where at most {outcome.tolerance:.6g} is allowed")
    if outcome.worst_input is not None:
        lines.append(f"worst input: {outcome.worst_input}")
    return "\n".join(line for line in lines if line)


def _element(parent: ElementTree.Element | None, tag: str, text: str = "", **attributes: Any) -> ElementTree.Element:
    """A child with text and attributes, without the characters that XML cannot hold."""
    clean = {name: legal(str(value)) for name, value in attributes.items()}
    found = ElementTree.Element(tag, clean) if parent is None else ElementTree.SubElement(parent, tag, clean)
    if text:
        found.text = legal(text)
    return found


def legal(text: str) -> str:
    """The text with every character that XML cannot hold spelt out."""
    return ILLEGAL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
