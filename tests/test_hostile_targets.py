"""What a target may do to a verification: it always ends, soon, with a report that says what happened, and leaves the
caller's process as it was."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest

import refflow
from refflow.errors import ShapeError, StructureError
from refflow.verification.answers import guarded
from refflow.verification.guard import Guard, OutOfBudget, TargetError, TargetTimeout, left_behind
from refflow.verification.targets import Target

D = 3
LOG2 = float(np.log(2.0))
SOON = 10.0
"""Seconds within which a quick verification of anything has ended, on a busy machine: its own limit is 10."""


def forward(x):
    return 2.0 * x, np.full(len(x), x[0].size * LOG2).astype(x.dtype)


def inverse(y):
    return y / 2.0, np.full(len(y), -y[0].size * LOG2).astype(y.dtype)


def log_prob(x):
    flat = x.reshape(len(x), -1)
    return (-0.5 * (flat**2).sum(axis=1) - 0.5 * flat.shape[1] * np.log(2.0 * np.pi)).astype(x.dtype)


def sample(n, seed, dim=D):
    return np.random.default_rng(seed).standard_normal((n, dim))


def ask(**given):
    started = time.monotonic()
    report = refflow.verify(**{"event_shape": D, "level": "quick", **given})
    assert time.monotonic() - started < SOON + 2.0 * given.get("timeout", 0.0)
    json.loads(report.to_json())
    return report


def value(make):
    """A map whose value is made otherwise, its log-determinant as it should be."""
    return lambda x: (make(x), forward(x)[1])


def said(report):
    return "; ".join(check.explanation for check in report.of("fail"))


WRONG = {
    "another shape": (value(lambda x: x[:, :2]), r"y of shape \(12, 2\)"),
    "a log_det for every coordinate": (lambda x: (x, x), r"log_det of \(12, 3\)"),
    "a list that is no table": (lambda x: ([[1.0], [1.0, 2.0]], [1.0]), "no NumPy array but a list"),
    "None": (lambda x: None, "forward returned None; expected a pair"),
    "a pair of None": (lambda x: (None, None), "got None"),
    "a string": (lambda x: "ab", "returned a str; expected a pair"),
    "two strings": (lambda x: ("a", "b"), "expected an array of floats"),
    "objects": (value(lambda x: x.astype(object)), "holds object; expected an array of floats"),
    "a generator": (lambda x: (a for a in forward(x)), "returned a generator"),
    "a generator of rows": (value(lambda x: (row for row in x)), "got a generator"),
    "a number": (lambda x: 1.0, "returned a float"),
    "two numbers": (lambda x: (1.0, 1.0), r"y of shape \(\), log_det of \(\)"),
    "three arrays": (lambda x: (x, x, x), "expected a pair"),
    "integers": (value(lambda x: x.astype(int)), "holds int64; expected an array of floats"),
    "booleans": (value(lambda x: x > 0.0), "holds bool"),
    "complex numbers": (value(lambda x: x + 0j), "got y of complex128"),
    "half precision": (lambda x: tuple(a.astype(np.float16) for a in forward(x)), "got y of float16"),
    "masked entries": (value(lambda x: np.ma.masked_greater(x, 1.0)), "masked"),
    "NaN everywhere": (lambda x: (np.nan * x, forward(x)[1]), "not finite anywhere"),
    "infinity everywhere": (lambda x: (np.inf + x, forward(x)[1]), "not finite anywhere"),
    "10^9 numbers": (value(lambda x: np.broadcast_to(1.0, 10**9)), "far more numbers than were asked for"),
    "10^10 log_dets": (lambda x: (x, np.broadcast_to(1.0, (10**5, 10**5))), "far more numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_fail_with_an_explanation(name):
    function, words = WRONG[name]
    report = ask(forward=function)
    assert report.exit_code() == 1
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(said(report))


@pytest.mark.parametrize("make", [list, tuple], ids=["list", "tuple"])
def test_lists_and_unmasked_arrays_are_arrays(make):
    assert ask(forward=lambda x: make(a.tolist() for a in forward(x)), dtype="float64").ok
    assert ask(forward=value(lambda x: np.ma.array(2.0 * x)), dtype="float64").ok


def test_huge_answers_of_samplers_are_not_copied():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = ask(sample=lambda n, seed: np.broadcast_to(1.0, 10**9), log_prob=log_prob)
    assert "far more numbers" in said(report)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # 10^9 floats are 8 GB


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even this")

    __repr__ = __str__


def endless(x):
    return endless(x)


RAISED = [
    ValueError("a reason"), SystemExit(3), KeyboardInterrupt(), MemoryError(), GeneratorExit(),
    StopIteration(1), Mute(),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
def test_whatever_is_raised_is_reported(error):
    def failing(x):
        raise error

    report = ask(forward=failing)
    assert report.exit_code() == 1
    assert f"raised {type(error).__name__}" in said(report)


def test_endless_recursion_is_reported():
    assert "RecursionError" in said(ask(forward=endless))


def test_failures_beside_the_map_are_reported():
    def failing(*_):
        raise SystemExit(1)

    report = ask(forward=forward, inverse=failing)
    assert "inverse(float64[12, 3]) raised SystemExit" in said(report)
    for calls in ({"log_prob": failing}, {"sample": failing}, {"log_prob": log_prob, "sample": failing}):
        assert ask(**calls).exit_code() == 1, calls


def test_the_caller_is_as_before(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def meddling(x):
        print("heard?")
        warnings.warn("seen?", stacklevel=1)
        np.seterr(all="raise")
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        os.chdir("/")
        return forward(x)

    np.random.seed(11)  # noqa: NPY002
    random.seed(11)
    before = np.random.get_state()[1].copy(), random.getstate(), np.geterr(), list(warnings.filters), sys.stdout  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = ask(forward=meddling)
    after = np.random.get_state()[1], random.getstate(), np.geterr(), list(warnings.filters), sys.stdout  # noqa: NPY002
    assert report.ok
    assert any("printed" in remark for remark in report.remarks)
    assert np.array_equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert os.getcwd() == str(tmp_path)
    assert "heard?" not in capfd.readouterr().out


def looping(x):
    while True:
        pass


def printing(x):
    while True:
        print("and again")


def sleeping(x):
    time.sleep(4.0)
    return forward(x)


@pytest.mark.parametrize("hanging", [looping, printing, sleeping])
@pytest.mark.parametrize("side", ["forward", "inverse"])
def test_what_hangs_is_left(hanging, side, capsys):
    before = threading.enumerate()
    report = ask(**{"forward": forward, "inverse": inverse, side: hanging}, timeout=0.3)
    assert report.exit_code() == 3
    assert f"{side} did not return within 0.3 s" in str(report)
    print("still heard")
    assert capsys.readouterr().out == "still heard\n"
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert bool(left) == (hanging is sleeping)  # Python can be stopped
    assert left_behind(0.0) >= bool(left)
    for thread in left:
        thread.join(10.0)


def test_a_call_that_hangs_in_a_check_is_a_failure_of_it():
    def hanging_for_many(x):
        if len(x) > 100:
            looping(x)
        return forward(x)

    report = ask(forward=hanging_for_many, timeout=0.3, dtype="float64")
    assert report.exit_code() == 1
    assert "did not return" in said(report)


def test_slow_targets_are_asked_what_there_is_time_for():
    def slow(function):
        def late(*a):
            time.sleep(0.05)
            return function(*a)

        return late

    started = time.monotonic()
    report = refflow.verify(
        forward=slow(forward), inverse=slow(inverse), log_prob=slow(log_prob), sample=slow(sample), event_shape=D,
        level="quick",
    )  # fmt: skip
    assert time.monotonic() - started < 15.0
    assert report.exit_code() in (0, 4)
    assert any("time of" in check.explanation for check in report.of("inconclusive"))


def test_parameters_are_put_back_when_the_time_is_up():
    held = {"w": np.array([1.5])}
    guard = Guard(5.0, end=time.monotonic() - 1.0)
    target = guarded(
        Target("f", (D,), forward=forward, parameters=lambda: dict(held), set_parameters=held.update), guard
    )
    with pytest.raises(OutOfBudget):
        target.parameters()
    target.set_parameters({"w": np.array([2.0])})
    assert held["w"] == np.array([2.0])
    with pytest.raises(OutOfBudget):
        target.forward(np.ones((2, D)))
    guard.close()


def turning(x):
    """A view of its input."""
    return x[:, ::-1], np.zeros(len(x), x.dtype)


def same(x):
    return x, np.zeros(len(x), x.dtype)


def test_inputs_are_copies():
    kept = []

    def keeping(x):
        kept.append(x)
        y, log_det = forward(x)
        x *= np.nan
        return y, log_det

    report = ask(forward=keeping, inverse=inverse)
    assert {check.id for check in report.of("fail")} <= {"AL"}  # no other check sees what one call did to its input
    assert ask(forward=turning, inverse=turning).ok


def test_answers_that_change_are_seen():
    calls = []

    def drifting(x):
        calls.append(0)
        return forward(x)[0] + 1e-3 * len(calls), forward(x)[1]

    assert {check.id for check in ask(forward=drifting, inverse=inverse).of("fail")} == {"DE"}


def test_threads_processes_and_a_verification_within():
    def busy(x):
        thread = threading.Thread(target=sum, args=(range(1000),))
        thread.start()
        thread.join()
        return forward(x)

    def spawning(x):
        subprocess.run([sys.executable, "-S", "-c", ""], check=True)
        return forward(x)

    def nested(x):
        assert refflow.verify(forward=forward, event_shape=D, level="quick", only="SH").ok
        return forward(x)

    for function in (busy, spawning, nested):
        assert ask(forward=function, only="SH").ok


SHAPES = {
    "one coordinate": {"forward": forward, "inverse": inverse, "event_shape": 1},
    "images": {"forward": forward, "inverse": inverse, "event_shape": (2, 3, 4)},
    "the identity": {"forward": same, "inverse": same},
    "forward only": {"forward": forward}, "inverse only": {"inverse": inverse}, "log_prob only": {"log_prob": log_prob},
    "sample only": {"sample": sample},
    "1000 columns of context": {
        "forward": lambda x, c: (x + c[:, :D], np.zeros(len(x), x.dtype)),
        "inverse": lambda y, c: (y - c[:, :D], np.zeros(len(y), y.dtype)),
        "context": np.random.default_rng(0).standard_normal((16, 1000)),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_sound_targets_of_odd_sizes_pass(name):
    report = ask(**SHAPES[name])
    assert report.exit_code() == 0, report
    assert not report.of("warn", "inconclusive")


def test_a_context_of_another_width_is_reported():
    report = ask(forward=lambda x, c: (x + c[:, 5:8], forward(x)[1]), context=np.ones((4, 2)))
    assert "could not be broadcast" in said(report)
    assert "takes 1 positional argument" in said(ask(forward=forward, context=np.ones((4, 2))))


def test_a_constant_map_fails():
    assert ask(forward=lambda x: (0.0 * x + 1.0, forward(x)[1]), inverse=inverse).exit_code() == 1


def test_rows_outside_a_domain_may_be_refused():
    def positive(x):
        if not (x > 0.0).all():
            raise ValueError("expected positive numbers")
        return np.log(x), -np.log(x).sum(axis=1)

    both = {"forward": positive, "inverse": lambda y: (np.exp(y), y.sum(axis=1))}
    assert ask(**both, domain=(0.0, np.inf)).ok
    assert "expected positive numbers" in said(ask(**both))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"event_shape": 0}, ShapeError, "at least 1"), ({"event_shape": (2, -1)}, ShapeError, "at least 1"),
        ({"event_shape": "ab"}, ShapeError, "'ab'"), ({"event_shape": 2.5}, ShapeError, "2.5"),
        ({"domain": (1.0, 1.0)}, StructureError, "low < high"), ({"domain": (2.0, 1.0)}, StructureError, "low < high"),
        ({"domain": (np.nan, 1.0)}, StructureError, "low < high"), ({"codomain": 5}, StructureError, "low < high"),
        ({"context": np.ones(4)}, ShapeError, "rows"), ({"context": np.ones((0, 2))}, ShapeError, "rows"),
        ({"context": np.array([["a"]])}, ShapeError, "finite numbers"),
        ({"context": np.array([[np.nan]])}, ShapeError, "finite numbers"),
        ({"dtype": "int8"}, StructureError, "float64"), ({"seed": -1}, StructureError, "seed"),
        ({"timeout": 0.0}, StructureError, "timeout"), ({"forward": 3}, StructureError, "a function for forward"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_usage_is_one_clear_error(given, error, words):
    with pytest.raises(error, match=words):
        refflow.verify(**{"forward": forward, "event_shape": D, **given})


def process(code, *, arguments=(), timeout=60):
    """A script in a process of its own: (exit code, output, error, seconds)."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *(arguments or ("-c", textwrap.dedent(code)))], capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


LARGE = """
import sys
import numpy as np, refflow
D = int(sys.argv[1]) if len(sys.argv) > 1 else {dim}
f = lambda x: (2.0 * x, np.full(len(x), x[0].size * np.log(2.0)).astype(x.dtype))
g = lambda y: (y / 2.0, np.full(len(y), -y[0].size * np.log(2.0)).astype(y.dtype))
log_prob = lambda x: (-0.5 * (x**2).sum(1) - 0.5 * D * np.log(2 * np.pi)).astype(x.dtype)
sample = lambda n, seed: np.random.default_rng(seed).standard_normal((n, D))
report = refflow.verify(forward=f, inverse=g, log_prob=log_prob, sample=sample, event_shape=D, level="{level}")
print(report)
status = open("/proc/self/status").read()  # ru_maxrss would remember the process that started this one
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
sys.exit(report.exit_code())
"""


@pytest.mark.parametrize("level", ["quick", "standard"])
def test_ten_thousand_coordinates_need_neither_memory_nor_time(level):
    code, out, err, seconds = process(LARGE.format(dim=10_000, level=level))
    assert (code, err) == (0, "")
    assert "too many coordinates for a Jacobian: 10000, at most 512" in out
    assert int(out.splitlines()[-1]) < 1024
    assert seconds < 20.0


HANGING = """
import sys, time, refflow
{body}
report = refflow.verify(forward=hang, event_shape=3, level="quick", timeout=0.3)
print(report.error)
sys.exit(7)
"""

BODIES = {
    "Python": "def hang(x):\n    while True: pass",
    "sleep": "def hang(x):\n    time.sleep(100)",
    "Python that catches everything": (
        "def hang(x):\n    while True:\n        try: time.sleep(0.01)\n        except BaseException: pass"
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_process_that_verified_what_hangs_ends_at_once(body):
    code, out, err, seconds = process(HANGING.format(body=BODIES[body]))
    assert (code, err) == (7, "")
    assert "did not return within 0.3 s" in out
    assert seconds < 8.0


TORCH = """
import torch

class Flow(torch.nn.Module):
    event_shape = (3,)
    def forward(self, x):
        return 2.0 * x, x.new_zeros(len(x))
    def inverse(self, y):
        {hang}
        return y / 2.0, y.new_zeros(len(y))

flow = Flow()
"""

TORCH_HANGS = {
    "loop": "while True: y = y @ torch.eye(3, dtype=y.dtype)",
    "one long call": "torch.linalg.eigvals(torch.randn(3000, 3000))",
    "a loop that catches everything": (
        "\n        while True:\n            try: y = torch.mm(y, torch.eye(3, dtype=y.dtype))"
        "\n            except BaseException: pass"
    ),
}


@pytest.mark.parametrize("hang", TORCH_HANGS)
def test_the_command_ends_at_once_when_torch_hangs(tmp_path, hang):
    pytest.importorskip("torch")
    (tmp_path / "flows.py").write_text(TORCH.format(hang=TORCH_HANGS[hang]))
    report = tmp_path / "report.json"
    arguments = (
        "-m", "refflow", "verify", f"{tmp_path / 'flows.py'}:flow", "--event-shape", "3", "--level", "quick",
        "--timeout", "0.5", "--json", str(report), "--only", "RT1,LD2",
    )  # fmt: skip
    code, out, err, seconds = process("", arguments=arguments, timeout=120)
    assert code in (1, 3), out + err
    assert "did not return" in out
    assert "terminate called" not in err
    assert json.loads(report.read_text())["exit_code"] == code
    assert seconds < 70.0  # probing grants a call 20 s in each mode


@pytest.mark.parametrize("where", ["forward", "inverse"])
def test_an_interrupt_ends_it_and_leaves_no_file(tmp_path, where):
    (tmp_path / "flows.py").write_text(
        textwrap.dedent(f"""
        import sys, time
        import numpy as np
        def forward(x):
            return x, np.zeros(len(x), x.dtype)
        def inverse(y):
            return y, np.zeros(len(y), y.dtype)
        def hang(x):
            print("asked", file=sys.stderr, flush=True)
            while True: time.sleep(0.01)
        {where} = hang
    """)
    )
    command = [
        sys.executable, "-m", "refflow", "verify", "flows.py:forward", "--inverse", "flows.py:inverse",
        "--event-shape", "3", "--json", "report.json", "--html", "report.html", "--junit", "report.xml",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert "asked" in running.stderr.readline()
        started = time.monotonic()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert time.monotonic() - started < 5.0
    assert (out, "Traceback" in err) == ("", False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".pyc" and path.is_file()) == ["flows.py"]


def test_an_interrupt_of_a_script_reaches_it_and_ends_the_thread(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys, threading, time, refflow
        def hang(x):
            print("asked", file=sys.stderr, flush=True)
            while True: time.sleep(0.01)
        try:
            refflow.verify(forward=hang, event_shape=3)
        except KeyboardInterrupt:
            print([t.name for t in threading.enumerate()])
            sys.exit(9)
    """)
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert "asked" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (9, "['MainThread']\n", "")


def test_a_program_that_ends_itself_is_survived(tmp_path):
    """What `os._exit` ends in this process, or a crash, it ends in another: through --exec."""
    (tmp_path / "flow.py").write_text("import os\nos._exit(0)\n")
    command = f"{sys.executable} {tmp_path / 'flow.py'} {{request}} {{response}}"
    arguments = ("-m", "refflow", "verify", "--exec", command, "--event-shape", "3", "--level", "quick",
                 "--functions", "forward")  # fmt: skip
    code, out, err, _ = process("", arguments=arguments)
    assert code == 3, out + err


def test_a_guard_answers_no_more_after_a_call_was_given_up():
    guard = Guard(0.2)
    with pytest.raises(TargetTimeout):
        guard("forward", looping, 0)
    with pytest.raises(TargetTimeout, match="did not return"):
        guard("forward", abs, -1)
    guard.close()
    assert guard.calls == 1


def test_errors_of_targets_are_said_as_they_are():
    def failing():
        raise TargetError("the program is not there")

    guard = Guard(5.0)
    with pytest.raises(TargetError, match=r"^the program is not there$"):
        guard("forward", failing)
    guard.close()


def test_a_quick_verification_of_a_slow_target_ends_in_time_and_asks_both_precisions(monkeypatch, time_for_all_checks):
    from refflow.verification import kit, runs

    monkeypatch.setattr(kit, "LEVELS", runs.LEVELS)

    def forward(x):
        time.sleep(0.03)
        return 2.0 * x, np.full(len(x), 2.0 * np.log(2.0), dtype=x.dtype)

    def inverse(y):
        time.sleep(0.03)
        return 0.5 * y, np.full(len(y), -2.0 * np.log(2.0), dtype=y.dtype)

    started = time.monotonic()
    report = refflow.verify(forward=forward, inverse=inverse, event_shape=(2,), level="quick")
    assert time.monotonic() - started < 4.0
    assert not report.of("fail")
    assert any("time of all checks" in check.explanation for check in report.of("inconclusive"))
    assert {"RT1[float64]", "RT1[float32]"} <= {check.name for check in report.of("pass")}
