"""The pytest plugin and `parametrize_with_checks`, in runs of pytest of their own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import refflow

ROOT = Path(refflow.__file__).parents[1]

FLOWS = """
import numpy as np
import refflow
from refflow.verification import parametrize_with_checks

calls = []

def forward(x):
    calls.append(len(x))
    return 2.0 * x, np.full(len(x), x[0].size * np.log(2.0)).astype(x.dtype)

def inverse(y):
    return y / 2.0, np.full(len(y), -y[0].size * np.log(2.0)).astype(y.dtype)

def wrong(y):
    return y / 2.0, np.full(len(y), y[0].size * np.log(2.0)).astype(y.dtype)

good = dict(forward=forward, inverse=inverse, event_shape=(2,), name="good")
bad = dict(forward=forward, inverse=wrong, event_shape=(2,), name="bad")

def made():
    return refflow.realnvp(2, layers=1, hidden=(4,), seed=0)
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest on a test file; return its result and the lines `PASSED test.py::...` by status."""

    def run(tests, *options, flows=FLOWS):
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\nxfail_strict = true\n")
        (tmp_path / "test_it.py").write_text(flows + tests)
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:refflow", "-p", "_refflow_pytest", "-p", "no:cacheprovider",
             "-rA", "-q", *options, "test_it.py"],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def statuses(found):
    """Case -> status, of the short summary."""
    lines = [line.split() for line in found.stdout.splitlines() if "test_it.py::" in line]
    return {line[1].partition("[")[2].rstrip("]"): line[0] for line in lines if line[0].isupper()}


CHECKED = """
@parametrize_with_checks([good, bad, made], level="quick"%s)
def test_flow(flow, check):
    check(flow)
"""


def test_every_check_of_every_flow_is_a_case(run):
    found = run(CHECKED % "")
    cases = statuses(found)
    assert found.returncode == 1, found.stdout + found.stderr
    assert {case for case, status in cases.items() if status == "FAILED"} == {"bad-LD2", "bad-LD3"}
    for case in ("good-RT1", "good-LD3", "bad-RT1", "made-LD1"):
        assert cases[case] == "PASSED"
    assert "skipped: the target has no layers" in found.stdout
    assert "look for" in found.stdout or "to see it again" in found.stdout
    assert "np.array([[" in found.stdout


def test_expected_failures_run_and_are_strict(run):
    found = run(CHECKED.replace("good, bad, made", "bad") % ', expected_failures={"LD2": "upstream 17", "LD3": ""}')
    cases = statuses(found)
    assert found.returncode == 0, found.stdout
    assert {case for case, status in cases.items() if status == "XFAIL"} == {"bad-LD2", "bad-LD3"}
    assert "upstream 17" in found.stdout
    found = run(CHECKED.replace("good, bad, made", "good") % ', expected_failures=["RT1"]')
    assert statuses(found)["good-RT1"] == "FAILED"
    assert found.returncode == 1
    found = run(CHECKED % ', expected_failures=lambda flow: ["LD2", "LD3"] if flow is bad else []')
    assert found.returncode == 0, found.stdout


def test_one_verification_serves_all_cases_of_a_flow(run):
    tests = CHECKED.replace("good, bad, made", "good") % ', only=["RT1", "RT2", "DT"]'
    count = "\n\ndef test_count():\n    assert len(calls) == {}\n"
    before = run(tests + count.format(0), "-k", "test_count")
    assert before.returncode == 0, before.stdout  # nothing is asked at collection
    one = run(tests + "\n\ndef test_count():\n    raise SystemExit(len(calls))", "-k", "RT1 or test_count", "-x")
    every = run(tests + "\n\ndef test_count():\n    raise SystemExit(len(calls))", "-x")
    assert one.returncode == every.returncode != 0


def test_cases_of_another_level_and_object(run):
    found = run("""
@parametrize_with_checks([good], only="RT1")
def test_level(flow, check):
    check(flow)
    assert list(check.verified.reports) == ["quick"]

@parametrize_with_checks([good], only=["LD2"], level="quick")
def test_other(flow, check):
    check({**flow, "inverse": wrong})
""", "--refflow-level", "quick")  # fmt: skip
    assert statuses(found) == {"good-RT1": "PASSED", "good-LD2": "FAILED"}, found.stdout


def test_a_target_that_dies_fails_its_cases(run):
    found = run("""
import time
@parametrize_with_checks([dict(forward=lambda x: time.sleep(60), event_shape=2, timeout=0.2, name="hangs")], only="DT",
                         level="quick")
def test_flow(flow, check):
    check(flow)
""")
    assert statuses(found) == {"hangs-DT": "FAILED"}
    assert "0.2 s" in found.stdout


def test_the_fixture_fails_the_test_with_the_report(run):
    found = run("""
def test_good(verify_flow):
    assert verify_flow(**good).level == "quick"

def test_level(verify_flow):
    assert verify_flow(**good, level="standard", only="RT1").level == "standard"

def test_bad(verify_flow):
    verify_flow(**bad)
""", "--refflow-level", "quick")  # fmt: skip
    assert "2 passed" in found.stdout
    assert "1 failed" in found.stdout
    assert "LD3[float64]" in found.stdout
    assert "Traceback" not in found.stdout


def test_it_runs_under_xdist(run):
    found = run(CHECKED.replace(", bad, made", "") % "", "-p", "xdist", "-n", "2")
    assert found.returncode == 0, found.stdout + found.stderr


def test_wrong_arguments_are_errors_of_collection(run):
    for argument in (', only=["XX"]', ', expected_failures=["XX"]'):
        found = run(CHECKED.replace("good, bad, made", "good") % argument)
        assert found.returncode != 0
        assert "XX" in found.stdout


def test_the_plugin_imports_neither_refflow_nor_numpy():
    code = "import sys, _refflow_pytest; print([m for m in ('refflow', 'numpy', 'scipy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_run_without_flows_never_imports_refflow(run):
    code = "\nimport sys\n\ndef test_it():\n    assert 'refflow' not in sys.modules and 'numpy' not in sys.modules\n"
    found = run(code, flows="")
    assert found.returncode == 0, found.stdout


def test_it_is_registered_beside_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nrefflow = "_refflow_pytest"' in text
    assert '"_refflow_pytest.py"' in text
    assert Path(importlib.util.find_spec("_refflow_pytest").origin).parent == ROOT
