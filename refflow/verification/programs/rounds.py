"""Asking in few rounds: all that the checks want to know of a program, in one request, as far as it can be foreseen.

The checks call a target whenever they like. A `Recorder` stands in for it: a call whose answer is known gets it, any
other gets NaN and is written down. Then the checks run again with those answers known, and so on until nothing new is
asked; only the last run counts. The NaN carry a mark, the second highest bit of the mantissa, which sums and products
hand on: a call whose input has it depends on an unknown answer, and is not written down before its input is known. A
mark that gets lost costs a superfluous call, never a wrong result: in the last run no NaN of this kind is left.

The first unknown call of a run has a true input, so every round settles at least that one, and the rounds end. A round
asks equal calls as often as the checks do, and each time gets an answer of its own: what differs between them is seen.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from refflow.verification.guard import TargetError
from refflow.verification.programs.requests import WITH_LOG, WITH_VALUE, Answer, Call, in_order
from refflow.verification.reports.report import Report
from refflow.verification.targets import Target

MARKS = {
    "float64": (np.uint64, 0x7FFC_0000_0000_0000),
    "float32": (np.uint32, 0x7FE0_0000),
}
"""The bits of a NaN that stands for an answer which is not known yet."""

ROUNDS = 200
"""After so many rounds the checks are given up: they do not repeat themselves."""


@dataclass
class Ledger:
    """The answers so far: to every call, those of its first, its second, ... occurrence."""

    answers: dict[bytes, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    calls: int = 0
    requests: int = 0

    def add(self, calls: Sequence[Call], answers: Sequence[Answer]) -> None:
        """The answers to one request."""
        for call, answer in zip(calls, answers, strict=True):
            self.answers[call.key].append(answer)
        self.calls += len(calls)
        self.requests += 1

    def summary(self) -> str:
        """How much was asked."""
        return f"asked {self.calls} calls in {self.requests} requests"


@dataclass
class Recorder:
    """Answers calls from the ledger, and writes down those that it does not know."""

    ledger: Ledger
    event_shape: tuple[int, ...]
    wanted: list[Call] = field(default_factory=list)
    seen: "Counter[bytes]" = field(default_factory=Counter)

    def __call__(self, call: Call) -> Answer:
        """The answer, or one of marked NaN."""
        if self.wanted and any(a is not None and marked(a) for a in (call.x, call.context)):
            return self._unknown(call)
        known, occurrence = self.ledger.answers.get(call.key, ()), self.seen[call.key]
        self.seen[call.key] += 1
        if occurrence < len(known):
            return known[occurrence]
        self.wanted.append(call)
        return self._unknown(call)

    def _unknown(self, call: Call) -> Answer:
        value = mark((call.rows, *self.event_shape), call.dtype) if call.function in WITH_VALUE else None
        return Answer(value, mark((call.rows,), call.dtype) if call.function in WITH_LOG else None)

    def request(self) -> list[Call]:
        """The calls to ask next, in the order of a request."""
        return in_order(self.wanted)


def mark(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of marked NaN."""
    kind, bits = MARKS[dtype]
    return np.full(shape, bits, dtype=kind).view(dtype)


def marked(array: np.ndarray) -> bool:
    """Whether any number is a marked NaN."""
    kind, bits = MARKS[array.dtype.name]
    return bool(np.any((np.ascontiguousarray(array).view(kind) & kind(bits)) == kind(bits)))


def in_rounds(
    ask: Callable[[Target], Report],
    connect: Callable[[Callable[[Call], Answer]], Target],
    answer: Callable[[list[Call]], list[Answer]],
) -> Report:
    """The report of `ask`, with each round's calls answered at once by `answer`; `connect` makes a target of a function
    that answers one call. A TargetError of `answer` ends it: the report says so."""
    started, ledger = time.monotonic(), Ledger()
    try:
        for _ in range(ROUNDS):
            report, wanted = one_round(ask, connect, ledger)
            if not wanted:
                break
            ledger.add(wanted, answer(wanted))
        else:
            raise TargetError(f"after {ROUNDS} rounds of calls the checks still asked for more")
    except TargetError as failure:
        report = replace(report, checks=(), error=str(failure))
    return replace(report, remarks=(ledger.summary(), *report.remarks), seconds=time.monotonic() - started)


def one_round(
    ask: Callable[[Target], Report], connect: Callable[[Callable[[Call], Answer]], Target], ledger: Ledger
) -> tuple[Report, list[Call]]:
    """What the checks say by the answers so far, and the calls that they lack; the report counts if there are none."""
    target = connect(lambda call: recorder(call))
    recorder = Recorder(ledger, target.event_shape)
    report = ask(target)
    return report, recorder.request()
