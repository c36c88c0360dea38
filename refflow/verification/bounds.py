r"""Statistical tests that a correct target fails once in 10^9 runs, whatever its density.

Every statistic is a mean of bounded numbers, or a distance of distribution functions, and its limit is a theorem with
no condition on tails:

    |mean - E| <= M L / 3n + sqrt((M L / 3n)^2 + 2 V L / n),   L = log(2 / alpha)        (1), Bernstein (1924)
    sup |F_n - F| <= sqrt(L / 2n)                                                         (2), Massart (1990)

with |X - E X| <= M, and the variance V estimated from the numbers themselves. A failure counts only if fresh draws,
four times as many, fail the same statistic again: nothing is retried until it passes, and what (1) leaves to the
estimate of V is squared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refflow.verification.verdicts import Finding, LawViolation

FALSE_ALARM = 1e-9
"""The probability with which a run of all statistical tests fails a correct target."""

TESTS = 16
"""How many tests of this kind a run may hold, precisions and modes included: each gets its share of `FALSE_ALARM`."""

REPEAT = 4
"""How many times as many draws confirm a failure."""


@dataclass(frozen=True)
class Statistic:
    """A deviation from what a correct target has, and the limit that it stays within."""

    name: str
    value: float
    limit: float

    @property
    def margin(self) -> float:
        return self.value / self.limit if self.limit > 0.0 else 0.0


def share(tests: int) -> float:
    """alpha for each of so many statistics of one test."""
    return FALSE_ALARM / (TESTS * max(tests, 1))


def bernstein(numbers: np.ndarray, bound: float, alpha: float) -> float:
    """The limit (1) of the mean of numbers that lie within `bound` of their expectation."""
    return float("inf") if len(numbers) < 2 else _limit(float(np.var(numbers, ddof=1)), bound, len(numbers), alpha)


def binomial(p: float, n: int, alpha: float) -> float:
    """The limit (1) of a share that is p in expectation: its variance is known."""
    return _limit(p * (1.0 - p), 1.0, n, alpha)


def _limit(variance: float, bound: float, n: int, alpha: float) -> float:
    log = float(np.log(2.0 / alpha))
    first = bound * log / (3.0 * n)
    return first + float(np.sqrt(first**2 + 2.0 * variance * log / n))


def massart(n: int, alpha: float) -> float:
    """The limit (2)."""
    return float(np.sqrt(np.log(2.0 / alpha) / (2.0 * max(n, 1))))


def kolmogorov(numbers: np.ndarray, distribution: Callable[[np.ndarray], np.ndarray]) -> float:
    """sup |F_n - F|."""
    n = len(numbers)
    exact = distribution(np.sort(numbers))
    steps = np.arange(n + 1) / n
    return float(max(np.max(exact - steps[:-1]), np.max(steps[1:] - exact)))


Test = Callable[[int, int], Sequence[Statistic] | None]
"""(draws, seed) -> statistics, each with its limit; None where nothing can be judged."""


def decide(law: str, test: Test, draws: int, seed: int, remark: str = "") -> Finding:
    """The verdict: passed if every statistic is within its limit; raises LawViolation if one is beyond it twice."""
    found = test(draws, seed)
    if not found:
        return Finding(law, "inconclusive", judged=0.0, remark=remark)
    top = max(found, key=lambda s: s.margin)
    text = f"seed {seed}, {draws} draws: detects {top.name} of {top.limit:.2g}"
    if top.margin <= 1.0:
        return Finding(law, "pass", top.value, top.limit, remark=text)
    if not (repeated := test(REPEAT * draws, seed + 1)):
        said = f"{top.name} is beyond its limit once, and could not be taken again"
        return Finding(law, "inconclusive", top.value, top.limit, 0.0, remark=said)
    again = {s.name: s for s in repeated}
    confirmed = [s for first in found if first.margin > 1.0 and (s := again.get(first.name)) and s.margin > 1.0]
    if not confirmed:
        return Finding(
            law, "pass", top.value, top.limit, remark=f"{text}; beyond it once, not with {REPEAT} times more"
        )
    top = max(confirmed, key=lambda s: s.margin)
    raise LawViolation(law, top.value, top.limit, f"{top.name}, seeds {seed} and {seed + 1}, {REPEAT * draws} draws")
