"""What a verification found: outcomes, their statuses, and the report that holds them.

| status | meaning |
| --- | --- |
| pass | the statement holds at every row that could be judged |
| warn | it holds, but digits are lost beyond what conditioning explains, or in a mode that is no density |
| fail | it does not hold |
| xfail, xpass | it does not hold as expected; it holds though it was expected not to |
| inconclusive | nothing could be judged: ill-conditioned rows, or the check's time was used up |
| blocked | a check that it rests on failed |
| skipped | the target does not offer what the check asks |
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import RefflowError

SCHEMA = "refflow-report-1"
"""The version of the JSON form."""

STATUSES = ("fail", "xpass", "warn", "inconclusive", "blocked", "xfail", "skipped", "pass")
"""The worst first."""


class VerificationError(RefflowError, AssertionError):
    """A target did not pass its verification."""


@dataclass(frozen=True)
class Outcome:
    """One check of one variant of a target (a precision, a mode)."""

    id: str
    variant: str
    statement: str
    status: str
    statistic: float | None = None
    """The excess rho, an error, or -log10 of a probability: what the statement says."""
    tolerance: float | None = None
    judged: float | None = None
    """The share of rows that could be judged."""
    worst_input: dict[str, Any] | None = None
    """The row "x" where it is worst, its "context", lists of floats that JSON keeps to the last bit, and its "side":
    "x" or "y" if it is a row of the domain or of the codomain, "" if a check made it on its way."""
    explanation: str = ""
    hint: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The id with its variant: "RT1[float32]"."""
        return f"{self.id}[{self.variant}]" if self.variant else self.id


@dataclass(frozen=True)
class Report:
    """All outcomes of one verification, and what is needed to repeat it."""

    target: str
    level: str
    seed: int
    checks: tuple[Outcome, ...]
    remarks: tuple[str, ...] = ()
    """What was left out and why, and what the target printed."""
    error: str = ""
    """Why the target could not be asked at all."""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict, repr=False)
    """Numbers that the pictures of the page are drawn from."""

    @property
    def ok(self) -> bool:
        """Whether no check failed, none passed that was expected to fail, and at least one was decided."""
        return not self.error and not self.of("fail", "xpass") and bool(self.of("pass", "warn", "xfail"))

    def of(self, *statuses: str) -> tuple[Outcome, ...]:
        """The outcomes with these statuses."""
        return tuple(check for check in self.checks if check.status in statuses)

    @property
    def counts(self) -> dict[str, int]:
        """How many outcomes have each status."""
        found = Counter(check.status for check in self.checks)
        return {status: found[status] for status in STATUSES if found[status]}

    def exit_code(self, strict: bool = False) -> int:
        """0 passed, 1 a check failed, 3 the target could not be asked, 4 nothing but inconclusive or blocked, 5 nothing
        ran; with `strict`, also 4 where digits are lost or a check was inconclusive."""
        if self.error:
            return 3
        if self.of("fail", "xpass"):
            return 1
        if not self.checks or len(self.of("skipped")) == len(self.checks):
            return 5
        if not self.of("pass", "warn", "xfail"):
            return 4
        return 4 if strict and self.of("warn", "inconclusive", "blocked") else 0

    def raise_for_status(self) -> "Report":
        """The report itself if it is ok; raises VerificationError, with all that failed, if not."""
        if not self.ok:
            raise VerificationError(str(self))
        return self

    def __str__(self) -> str:
        """A line a check that is not plainly passed or skipped, the worst first."""
        head = f"{self.target}: " + (self.error or ", ".join(f"{n} {status}" for status, n in self.counts.items()))
        lines = [f"{head} (level {self.level}, seed {self.seed}, {self.seconds:.1f} s)"]
        for status in STATUSES[:-2]:
            lines += _blocked(self.of(status)) if status == "blocked" else [_line(check) for check in self.of(status)]
        if any(check.statistic is not None and np.isfinite(check.statistic) for check in self.of("fail", "warn")):
            lines.append(
                "  (numbers: the error, in units of what rounding explains or as the check says, of what is allowed)"
            )
        return "\n".join(lines + [f"  note: {remark}" for remark in self.remarks])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists, numbers and strings; infinities and NaN as strings."""
        found = asdict(self) | {"schema": SCHEMA, "ok": self.ok, "counts": self.counts, "exit_code": self.exit_code()}
        return _plain(found)  # type: ignore[no-any-return]

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON (`schema` says which version), written to `path` if given."""
        return _kept(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", path)

    def to_junit(self, path: str | Path | None = None) -> str:
        """The report as JUnit XML: a test case a check."""
        from refflow.verification.reports.junit import junit

        return _kept(junit(self), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one self-contained page with pictures."""
        from refflow.verification.reports.page import page

        return _kept(page(self), path)


def read_report(text: str) -> Report:
    """The report that `to_json` wrote."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RefflowError(f"expected a report in JSON, got {text[:60]!r}: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise RefflowError(f"expected a report of schema {SCHEMA!r}, got {text[:60]!r}")
    try:
        checks = tuple(Outcome(**_numbers(check)) for check in found["checks"])
        keep = {k: found[k] for k in ("target", "level", "seed", "error", "seconds", "versions")}
        return Report(checks=checks, remarks=tuple(found["remarks"]), figures=_floats(found["figures"]), **keep)
    except (KeyError, TypeError) as error:
        raise RefflowError(f"expected all fields of {SCHEMA!r}: {error}") from error


def _kept(text: str, path: str | Path | None) -> str:
    from refflow.storage import write_atomic

    if path is not None:
        write_atomic(path, text.encode())
    return text


def _line(check: Outcome) -> str:
    """The statement, the number, where and why."""
    known = check.statistic is not None and np.isfinite(check.statistic) and check.tolerance
    numbers = f" {check.statistic:.3g} of {check.tolerance:.3g}" if known else ""
    said = check.explanation or ("nothing could be judged" if check.status == "inconclusive" else "")
    parts = [f"{check.statement}:{numbers}".removesuffix(":"), *([said] if said else [])]
    hint = f" -> {check.hint}" if check.hint else ""
    return f"  {check.status.upper():12s} {check.name:14s} {'; '.join(parts)}{hint}"


def _blocked(checks: Sequence[Outcome]) -> list[str]:
    """A line for all checks that rest on the same ones."""
    reasons = dict.fromkeys(check.explanation for check in checks)
    together = {reason: [check.name for check in checks if check.explanation == reason] for reason in reasons}
    return [f"  {'BLOCKED':12s} {' '.join(names)}: {reason}" for reason, names in together.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value) if isinstance(value, float) and not np.isfinite(value) else value


def _numbers(check: dict[str, Any]) -> dict[str, Any]:
    """inf and nan again as floats."""
    return check | {k: _floats(check[k]) for k in ("statistic", "tolerance", "judged", "worst_input")}


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_floats(v) for v in value]
    return float(value) if value in ("inf", "-inf", "nan") else value
