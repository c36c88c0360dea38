"""Hypothesis profiles: repeatable by default; `HYPOTHESIS_PROFILE=search` looks elsewhere each time."""

import os

from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("repeatable", derandomize=True, database=None, **COMMON)
settings.register_profile("search", print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
