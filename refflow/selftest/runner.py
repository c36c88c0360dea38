"""`refflow selftest`: the kit asked about every seeded fault and every sound subject, and what it makes of them.

A fault is killed if a check fails; a warning kills nothing. A sound subject of which a check fails is a false alarm.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "refflow-selftest-1"

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One a process: the processes would fight for the cores otherwise."""


@dataclass(frozen=True)
class Verdict:
    """What the kit made of one subject."""

    name: str
    family: str
    sound: bool
    expected: tuple[str, ...]
    failed: tuple[str, ...]
    """Checks that fail, in any precision or mode."""
    warned: tuple[str, ...]
    undecided: int
    """Outcomes that are inconclusive or warnings, of `decided + undecided`."""
    decided: int
    error: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether a fault was killed, or a sound subject was not accused."""
        return not (self.failed or self.error) if self.sound else bool(self.failed)


@dataclass(frozen=True)
class Place:
    """Where a subject is found: picklable, which functions of subjects are not."""

    index: int
    seed: int | None = None
    """The seed of a sound subject; None for a fault."""


@dataclass(frozen=True)
class SelfTest:
    """All verdicts of one run."""

    level: str
    verdicts: tuple[Verdict, ...]

    @property
    def ok(self) -> bool:
        """Whether all faults were killed and no sound subject was accused."""
        return bool(self.verdicts) and all(verdict.ok for verdict in self.verdicts)

    @property
    def faults(self) -> tuple[Verdict, ...]:
        """Those of seeded faults."""
        return tuple(v for v in self.verdicts if not v.sound)

    @property
    def sound(self) -> tuple[Verdict, ...]:
        """Those of sound subjects."""
        return tuple(v for v in self.verdicts if v.sound)

    def kills(self) -> dict[str, tuple[int, list[str]]]:
        """Check -> how many faults it killed, and the names of those that no other check killed."""
        total = Counter(id for v in self.faults for id in v.failed)
        return {id: (n, [v.name for v in self.faults if v.failed == (id,)]) for id, n in total.most_common()}

    def undecided_share(self) -> float:
        """The share of outcomes on sound subjects that are inconclusive or warnings."""
        asked = sum(v.decided + v.undecided for v in self.sound)
        return sum(v.undecided for v in self.sound) / asked if asked else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The run as plain lists, numbers and strings."""
        return {
            "schema": SCHEMA, "ok": self.ok, "level": self.level, "faults": len(self.faults),
            "killed": sum(v.ok for v in self.faults), "sound": len(self.sound),
            "false_alarms": sum(not v.ok for v in self.sound), "undecided_share": self.undecided_share(),
            "kills": {id: {"kills": n, "alone": alone} for id, (n, alone) in self.kills().items()},
            "verdicts": [asdict(v) | {"ok": v.ok} for v in self.verdicts],
        }  # fmt: skip

    def __str__(self) -> str:
        """The table of checks, then what went wrong."""
        killed, accused = [v for v in self.faults if v.ok], [v for v in self.sound if not v.ok]
        lines = [f"{'check':6s}{'kills':>7s}{'alone':>7s}   a fault that only it killed"]
        for id, (n, alone) in self.kills().items():
            lines.append(f"{id:6s}{n:7d}{len(alone):7d}   {alone[0] if alone else ''}".rstrip())
        lines.append(f"{len(killed)} of {len(self.faults)} faults killed at level {self.level}")
        lines += [
            f"  SURVIVED     {v.name} (expected {' '.join(v.expected)}){_said(v)}" for v in self.faults if not v.ok
        ]
        other = [v for v in killed if not set(v.failed) & set(v.expected)]
        lines += [f"  elsewhere    {v.name}: by {' '.join(v.failed)}, not {' '.join(v.expected)}" for v in other]
        lines.append(f"{len(accused)} false alarms on {len(self.sound)} sound subjects")
        lines += [f"  FALSE ALARM  {v.name}: {' '.join(v.failed)}{_said(v)}" for v in accused]
        lines.append(f"{100 * self.undecided_share():.1f} % of their outcomes are inconclusive or warnings")
        return "\n".join(lines)


def _said(verdict: Verdict) -> str:
    return f" {verdict.error}" if verdict.error else ""


def chosen(level: str, short: bool, seeds: int) -> list[Place]:
    """Which subjects are asked: all faults that a check of the level can kill, and the sound subjects of every seed;
    with `short`, every third of each."""
    from refflow.selftest import CLEAN, FAULTS
    from refflow.verification.checks import CHECKS
    from refflow.verification.runs import LEVELS

    names = list(LEVELS)
    asked = {check.id for check in CHECKS if names.index(check.level) <= names.index(level)}
    faults = [Place(i) for i, fault in enumerate(FAULTS) if fault.expected & asked]
    sound = [Place(i, seed) for seed in range(seeds) for i in range(len(CLEAN))]
    return faults[::3] + sound[::3] if short else faults + sound


def ask(place: Place, level: str) -> Verdict:
    """The verdict on one subject."""
    from refflow.selftest import FAULTS, clean
    from refflow.verification.kit import verify

    subject = FAULTS[place.index] if place.seed is None else clean(place.seed)[place.index]
    report = verify(**subject.build(), fresh=subject.build, level=level)

    def ids(*statuses: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(outcome.id for outcome in report.of(*statuses)))

    return Verdict(
        subject.name, subject.family, place.seed is not None, tuple(sorted(subject.expected)), ids("fail"), ids("warn"),
        len(report.of("warn", "inconclusive")), len(report.of("pass", "fail")), report.error, report.seconds,
    )  # fmt: skip


def selftest(
    level: str = "standard", *, short: bool = False, seeds: int = 1, processes: int = 2,
    progress: Callable[[int, int, Verdict], None] | None = None,
) -> SelfTest:  # fmt: skip
    """Verify all subjects in several processes; `progress` is told (how many are done, of how many, the last)."""
    places = chosen(level, short, seeds)
    found: dict[Place, Verdict] = {}
    for place, verdict in _asked(places, level, processes):
        found[place] = verdict
        if progress is not None:
            progress(len(found), len(places), verdict)
    return SelfTest(level, tuple(found[place] for place in places))


def _asked(places: Sequence[Place], level: str, processes: int) -> Iterable[tuple[Place, Verdict]]:
    if processes <= 1:
        yield from ((place, ask(place, level)) for place in places)
        return
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # the new processes inherit it
    try:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(ask, place, level): place for place in places}
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool as error:
                    raise RuntimeError("a process of the self-test died: run it with --processes 1") from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
