"""refflow verify: what it takes for a target, what it writes where, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import refflow
from refflow.cli import main
from refflow.verification.reports.report import read_report

FLOWS = """
import ctypes, os
import numpy as np
import refflow

def forward(x):
    return 2.0 * x, np.full(len(x), x[0].size * np.log(2.0)).astype(x.dtype)

def inverse(y):
    return y / 2.0, np.full(len(y), -y[0].size * np.log(2.0)).astype(y.dtype)

def wrong(y):
    return y / 2.0, np.full(len(y), y[0].size * np.log(2.0)).astype(y.dtype)

def factory():
    return refflow.realnvp(2, layers=2, hidden=(4,), seed=0)

class Flow(refflow.Reverse):
    pass

flow = factory()
functions = {"forward": forward, "inverse": wrong, "event_shape": (3,)}
number = 3

def broken():
    raise RuntimeError("no weights")

def loud(x):
    print("python was here")
    os.write(1, b"descriptor 1 was here\\n")
    ctypes.CDLL(None).puts(b"C was here")
    return forward(x)

def hanging(x):
    import sys, time
    print("asked", file=sys.stderr, flush=True)
    time.sleep(60)

def conditional(x, c):
    return x + c[:, :1], np.zeros(len(x), x.dtype)

def lossy(x):
    return (x * 3.3 + 1e4) * 0.7 - 7e3, np.full(len(x), x[0].size * np.log(3.3 * 0.7)).astype(x.dtype)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    (folder / "myflows.py").write_text(FLOWS)
    (folder / "unimportable.py").write_text("import does_not_exist_anywhere\n")
    (folder / "leaving.py").write_text("raise SystemExit(0)\n")
    refflow.realnvp(2, layers=2, hidden=(4,), seed=0).save(folder / "model.safetensors")
    np.save(folder / "context.npy", np.linspace(-1, 1, 12).reshape(6, 2))
    return folder


@pytest.fixture
def run(monkeypatch, capsys, folder):
    """Run the command in this process, in the folder of the targets; return (exit code, output, error)."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        monkeypatch.setattr(sys, "argv", ["refflow", "verify", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def process(folder, *arguments):
    command = [sys.executable, "-m", "refflow", "verify", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


QUICK = ("--level", "quick")


@pytest.mark.parametrize(
    "arguments",
    [
        ("myflows:flow",), ("myflows.py:flow",), ("myflows:factory",), ("model.safetensors",),
        ("myflows:Flow", "--event-shape", "3"), ("myflows:forward", "--event-shape", "2,3"),
        ("myflows:forward", "--inverse", "myflows:inverse", "--event-shape", "4"),
        ("myflows.py:conditional", "--event-shape", "2", "--context-dim", "1"),
        ("myflows:conditional", "--event-shape", "2", "--context", "context.npy"),
        ("myflows:flow", "--dtype", "float32"), ("myflows:forward", "--event-shape", "2", "--domain", "-1", "inf"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_sound_targets_exit_with_0(run, arguments):
    code, out, err = run(*arguments, *QUICK)
    assert (code, err) == (0, ""), out
    assert " pass" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("myflows:functions",), 1),
        (("myflows:functions", "--expect-failure", "LD2", "--expect-failure", "LD3"), 0),
        (("myflows:functions", "--expect-failure", "LD2", "--expect-failure", "LD3", "--expect-failure", "SH"), 1),
        (("myflows:functions", "--only", "RT1,RT2"), 0),
        (("myflows:forward", "--event-shape", "2", "--only", "RT1"), 5),
        (("myflows:lossy", "--event-shape", "2", "--only", "PR", "--dtype", "float32"), 0),
        (("myflows:lossy", "--event-shape", "2", "--only", "PR", "--dtype", "float32", "--strict"), 4),
        (("myflows:hanging", "--event-shape", "2", "--timeout", "0.2"), 3),
    ],
)
def test_exit_codes_of_reports(run, arguments, code):
    found, out, err = run(*arguments, *QUICK)
    assert found == code, out + err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "TARGET"),
        (("myflows",), 2, "package.module:object"),
        (("nowhere_at_all:flow",), 2, "no module 'nowhere_at_all'"),
        (("nowhere.py:flow",), 2, "no file nowhere.py"),
        (("myflows:flwo",), 2, "did you mean 'flow'"),
        (("myflows:number",), 2, "int"),
        (("myflows:forward",), 2, "event_shape"),
        (("myflows:flow", "--only", "XX"), 2, "XX"),
        (("myflows:flow", "--level", "slow"), 2, "slow"),
        (("myflows:flow", "--event-shape", "a"), 2, "event-shape"),
        (("myflows:flow", "--inverse", "myflows:inverse"), 2, "--inverse"),
        (("myflows:flow", "--exec", "x"), 2, "one of"),
        (("--exec", "./flow {request} {response}"), 2, "--event-shape"),
        (("myflows:flow", "--context", "myflows.py"), 2, "context"),
        (("myflows:broken",), 3, "RuntimeError: no weights"),
        (("unimportable:flow",), 3, "does_not_exist_anywhere"),
        (("leaving.py:flow",), 3, "SystemExit"),
        (("gone.safetensors",), 3, "gone.safetensors"),
    ],
)
def test_errors_are_one_clear_line(run, arguments, code, words):
    found, out, err = run(*QUICK, *arguments)
    assert (found, out) == (code, "")
    flat = " ".join(err.replace("│", " ").split())
    assert words in flat
    assert "Traceback" not in err
    if code == 3:
        assert len(err.splitlines()) == 1


def test_files_are_written(run, folder):
    code, _, _ = run("myflows:functions", *QUICK, "--json", "r.json", "--junit", "r.xml", "--html", "r.html")
    assert code == 1
    report = read_report((folder / "r.json").read_text())
    assert {o.id for o in report.of("fail")} == {"LD2", "LD3"}
    assert ElementTree.parse(folder / "r.xml").getroot().find("testsuite").get("failures") == str(
        len(report.of("fail"))
    )
    assert (folder / "r.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("text", [None, "no report", "[]"])
def test_a_replay_of_no_report_is_one_clear_error(run, tmp_path, text):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    code, out, err = run("myflows.py:flow", "--event-shape", 3, "--replay", tmp_path / "report.json")
    assert (code in (1, 2, 3), out) == (True, "")
    assert "report" in err
    assert "Traceback" not in err


def test_replay_tells_what_still_fails(run, folder):
    run("myflows:functions", *QUICK, "--json", "again.json")
    code, out, _ = run("myflows:functions", "--replay", "again.json")
    assert code == 1
    assert out.count("still fails at the worst input alone") == 3
    code, out, _ = run("myflows:forward", "--inverse", "myflows:inverse", "--event-shape", 3, "--replay", "again.json")
    assert code == 0
    assert out.count("no longer fails") == 3
    run("myflows:flow", *QUICK, "--json", "good.json")
    assert run("myflows:flow", "--replay", "good.json")[:2] == (0, "nothing failed in good.json\n")
    assert run("myflows:flow", "--replay", "myflows.py")[0] == 2


def test_progress_goes_to_standard_error(run):
    code, out, err = run("myflows:flow", *QUICK, "--progress", "--json", "-")
    assert code == 0
    assert [line.split()[1] for line in err.splitlines()] == [c.name for c in read_report(out).checks]


def test_what_a_target_prints_does_not_mix_with_the_report(folder):
    found = process(folder, "myflows:loud", "--event-shape", "2", *QUICK, "--json", "-")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["ok"]
    assert "descriptor 1 was here" in found.stderr
    assert "C was here" in found.stderr


@pytest.fixture(scope="module")
def flows_in_c(folder):
    """A program in C, right, and one with the sign of the inverse's log-determinant wrong."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source = Path(__file__).parents[1] / "examples" / "c_flow" / "flow.c"
    for fault in (0, 1):
        command = [compiler, "-std=c99", f"-DFAULT={fault}", source, "-o", folder / f"flow{fault}", "-lm"]
        subprocess.run(command, check=True)
    return folder


def test_programs_are_verified_by_their_command(run, flows_in_c):
    for fault in (0, 1):
        command = f"{flows_in_c}/flow{fault} {{request}} {{response}}"
        code, out, err = run("--exec", command, "--event-shape", "4", *QUICK, "--progress", "--json", f"c{fault}.json")
        assert code == fault, out + err
        report = read_report((flows_in_c / f"c{fault}.json").read_text())
        assert len(err.splitlines()) == len(report.checks)
    assert {o.id for o in report.of("fail")} == {"LD2", "LD3"}
    code, out, err = run("--exec", command, "--event-shape", "4", "--replay", "c1.json")
    assert code == 1
    assert "still fails at the worst input alone" in out, out + err
    code, _, err = run("--exec", "/no/such/program {request} {response}", "--event-shape", "4", *QUICK)
    assert code == 3, err


def test_programs_are_verified_offline(run, flows_in_c):
    code, out, err = run("--export", "offline", "--event-shape", "4", *QUICK, "--only", "LD3")
    assert (code, out) == (0, "")
    for _ in range(9):
        code, out, err = run("--import", "offline", "--html", "offline.html")
        if code != 3 and "answer" not in err:
            break
        number = sorted(p.name for p in (flows_in_c / "offline").iterdir() if p.is_dir())[-1]
        home = flows_in_c / "offline" / number
        subprocess.run([flows_in_c / "flow1", home / "request", home / "response"], check=True)
    assert code == 1, out + err
    assert "LD3" in out
    assert run("--export", "offline", "--event-shape", "4")[0] == 3
    assert run("--import", "nowhere")[0] == 3


def test_ctrl_c_ends_it(folder):
    command = [sys.executable, "-m", "refflow", "verify", "myflows:hanging", "--event-shape", "2"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert b"asked" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert running.returncode == 130


def test_the_help_names_the_exit_codes(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("--help")
    assert code == 0
    for words in ("--replay", "--html", "--exec", "4 nothing decided"):
        assert words in out


def test_without_standard_output_it_still_ends_well(folder):
    code = textwrap.dedent("""
        import os, sys
        os.close(1)
        sys.argv = ["refflow", "verify", "myflows:flow", "--level", "quick", "--json", "closed.json"]
        sys.stdout = open(os.devnull, "w")
        from refflow.cli import main
        main()
    """)
    found = subprocess.run([sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert os.path.getsize(folder / "closed.json") > 1000
