"""What a person says of the kit's findings in other packages: a fault, a documented limit, or rounding."""

from dataclasses import dataclass

KINDS = {
    "fault": "Faults",
    "limit": "Documented or known limits",
    "rounding": "Digits lost",
    "kit": "False alarms of the kit",
}


@dataclass(frozen=True)
class Judgement:
    """One finding, wherever it shows: `key` names it, the two patterns say where."""

    package: str
    items: str
    checks: str
    kind: str
    key: str
    sentence: str
    statuses: tuple[str, ...] = ("fail",)


JUDGEMENTS: tuple[Judgement, ...] = ()
