"""Hypothesis profiles: repeatable by default; `HYPOTHESIS_PROFILE=search` looks elsewhere each time.

One BLAS thread a process: the tests run in two, and threads that wait for each other's cores spin.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before the first array, and for the workers, which inherit it

from dataclasses import replace  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("repeatable", derandomize=True, database=None, **COMMON)
settings.register_profile("search", print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True)
def time_for_all_checks(monkeypatch):
    """Ten times what a check may take: a quick verification ends after 2.7 s, on a busy machine too."""
    from refflow.verification import kit, runs

    monkeypatch.setattr(
        kit, "LEVELS", {n: replace(level, total=10.0 * level.budget) for n, level in runs.LEVELS.items()}
    )
