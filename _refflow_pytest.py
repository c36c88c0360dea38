"""The pytest plugin of refflow: the fixture `verify_flow` and the option `--refflow-level`.

It lies beside the package and not in it, so that pytest loads it, as it does in every run of every project in an
environment that has refflow, without importing refflow or NumPy.
"""

from collections.abc import Callable
from typing import Any

import pytest

LEVELS = ("quick", "standard", "deep")


chosen: list[str | None] = []
"""--refflow-level of the run, for `parametrize_with_checks`; of runs within runs, the innermost last."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep the level."""
    chosen.append(config.getoption("--refflow-level"))


def pytest_unconfigure() -> None:
    """Forget it."""
    del chosen[-1:]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --refflow-level."""
    group = parser.getgroup("refflow", "verification of normalizing flows")
    group.addoption(
        "--refflow-level",
        choices=LEVELS,
        default=None,
        help="how much refflow asks of flows that do not say it themselves (default: standard)",
    )


@pytest.fixture
def verify_flow(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`refflow.verify` that fails the test where a check fails; takes the same arguments and returns the report."""

    def verify(target: Any = None, **arguments: Any) -> Any:
        import refflow

        __tracebackhide__ = True
        arguments.setdefault("level", request.config.getoption("--refflow-level") or "standard")
        report = refflow.verify(target, **arguments)
        if not report.ok:
            pytest.fail(str(report), pytrace=False)
        return report

    return verify
