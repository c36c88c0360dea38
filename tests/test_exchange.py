"""Programs in other languages: what they are asked, what is believed of their answers, and how they may fail."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import refflow
from refflow.errors import FileError, ShapeError, StructureError
from refflow.modules import map_arrays
from refflow.verification import jacobians
from refflow.verification.guard import TargetError, TargetTimeout
from refflow.verification.programs.exchange import export_request, import_response, program
from refflow.verification.programs.processes import run
from refflow.verification.programs.requests import Answer, Call, in_order, read_request, read_response, write_request
from refflow.verification.programs.rounds import in_rounds, mark, marked
from refflow.verification.reports.report import Report
from refflow.verification.targets import Target

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "c_flow" / "flow.c"
COMPILER = shutil.which("gcc") or shutil.which("cc")
needs_c = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

SERVER = """
import json, os, sys, time
from pathlib import Path
import numpy as np
request, response = map(Path, sys.argv[1:3])
plan = json.loads((request / "request.json").read_text())
for dtype, rows in plan["rows"].items():
    if not rows:
        continue
    x = np.load(request / f"x_{dtype}.npy")
    width = plan["context_dim"]
    c = np.load(request / f"context_{dtype}.npy") if width else np.zeros((rows, 1), dtype)
    value, log = np.zeros_like(x), np.zeros(rows, dtype)
    for call in plan["calls"]:
        if call["dtype"] != dtype:
            continue
        own = slice(call["first"], call["first"] + call["rows"])
        shift, d = c[own, :1], x.shape[1]
        if call["function"] == "forward":
            value[own], log[own] = np.sinh(x[own]) + shift, np.log(np.cosh(x[own])).sum(-1)
        elif call["function"] == "inverse":
            back = np.arcsinh(x[own] - shift)
            value[own], log[own] = back, -np.log(np.cosh(back)).sum(-1)
        elif call["function"] == "sample":
            value[own] = np.random.default_rng(call["seed"]).standard_normal((call["rows"], d)) + shift
    np.save(response / f"value_{dtype}.npy", np.asfortranarray(value))
    log.astype(log.dtype.newbyteorder("<")).tofile(response / f"log_{dtype}.bin")
"""


@pytest.fixture
def script(tmp_path):
    """A maker of commands: SERVER with other lines after it, or instead of it."""

    def make(after="", before=SERVER):
        path = tmp_path / "server.py"
        path.write_text(before + after)
        return [sys.executable, str(path), "{request}", "{response}"]

    return make


def calls():
    rng = np.random.default_rng(0)
    return [
        Call("forward", "float64", 3, rng.standard_normal((3, 2)), np.ones((3, 1))),
        Call("inverse", "float32", 2, np.full((2, 2), np.nan, np.float32), np.ones((2, 1), np.float32)),
        Call("sample", "float64", 4, None, np.zeros((4, 1)), 7),
        Call("forward", "float64", 1, np.array([[np.inf, -0.0]]), np.ones((1, 1))),
    ]


def flat(dtype="float64", rows=3, function="forward"):
    return [Call(function, dtype, rows, np.zeros((rows, 2), dtype))]


def test_a_request_reads_back_to_the_last_bit(tmp_path):
    asked = in_order(calls())
    write_request(tmp_path / "r", calls(), (2,), 1)
    assert [call.key for call in read_request(tmp_path / "r")] == [call.key for call in asked]
    assert [call.function for call in asked] == ["forward", "sample", "forward", "inverse"]


def test_both_listings_say_the_same_and_numbers_begin_at_byte_128(tmp_path):
    write_request(tmp_path / "r", calls(), (2,), 1)
    plan = json.loads((tmp_path / "r" / "request.json").read_text())
    head, *lines = (tmp_path / "r" / "request.txt").read_text().splitlines()
    assert head == "refflow-request-1 2 1 8 2 4"
    assert [line.split() for line in lines] == [[str(v) for v in call.values()] for call in plan["calls"]]
    whole = np.load(tmp_path / "r" / "x_float64.npy")
    assert (tmp_path / "r" / "x_float64.npy").read_bytes()[128:] == whole.astype("<f8").tobytes()
    assert whole.shape == (8, 2)
    np.testing.assert_array_equal(whole[:3], calls()[0].x)
    np.testing.assert_array_equal(whole[3:7], 0.0)


def test_a_request_that_was_cut_is_refused(tmp_path):
    write_request(tmp_path / "r", calls(), (2,), 1)
    path = tmp_path / "r" / "x_float64.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="refflow-request-1"):
        read_request(tmp_path / "r")
    with pytest.raises(FileError, match="refflow-request-1"):
        read_request(tmp_path)


def answered(folder, value, log, ending="npy"):
    for name, array in (("value_float64", value), ("log_float64", log)):
        if array is not None and ending == "npy":
            np.save(folder / f"{name}.npy", array)
        elif array is not None:
            (folder / f"{name}.bin").write_bytes(array.tobytes())


@pytest.mark.parametrize("ending", ["npy", "bin"])
def test_a_response_comes_as_npy_or_as_bare_numbers(tmp_path, ending):
    value, log = np.arange(6.0).reshape(3, 2), np.array([1.0, np.nan, -np.inf])
    answered(tmp_path, value, log, ending)
    (answer,) = read_response(tmp_path, flat(), (2,))
    np.testing.assert_array_equal(answer.value, value)
    np.testing.assert_array_equal(answer.log, log)


def test_arrays_in_the_order_of_fortran_and_of_other_machines_are_read(tmp_path):
    value = np.arange(6.0).reshape(3, 2)
    answered(tmp_path, np.asfortranarray(value).astype(">f8"), np.zeros(3))
    np.testing.assert_array_equal(read_response(tmp_path, flat(), (2,))[0].value, value)


def test_a_nan_of_the_program_is_no_mark(tmp_path):
    answered(tmp_path, mark((3, 2), "float64"), mark((3,), "float64"))
    (answer,) = read_response(tmp_path, flat(), (2,))
    assert np.isnan(answer.value).all()
    assert not marked(answer.value)
    assert not marked(answer.log)


GOOD = np.zeros((3, 2)), np.zeros(3)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda f: None, "an empty folder"),
        (lambda f: f.rmdir(), "no folder"),
        (lambda f: answered(f, GOOD[0], None), "log_float64"),
        (lambda f: answered(f, GOOD[0][:2], GOOD[1]), "shape"),
        (lambda f: answered(f, GOOD[0].astype("float32"), GOOD[1]), "got float32"),
        (lambda f: answered(f, GOOD[0], GOOD[1][:, None]), "shape"),
        (lambda f: answered(f, GOOD[0][:2], GOOD[1], "bin"), "expected 48 bytes"),
        (lambda f: (answered(f, *GOOD), answered(f, *GOOD, "bin")), "one of value_float64.npy and value_float64.bin"),
        (lambda f: (answered(f, *GOOD), (f / "value_float64.npy").write_bytes(b"what is this?")), "value_float64.npy"),
        (lambda f: (answered(f, *GOOD), (f / "value_float64.npy").write_bytes(b"")), "value_float64.npy"),
        (lambda f: (answered(f, *GOOD), os.truncate(f / "value_float64.npy", 140)), "value_float64.npy"),
        (lambda f: (answered(f, *GOOD), (f / "errors.txt").write_text("2 no such call")), "errors.txt"),
        (lambda f: (answered(f, *GOOD), (f / "errors.txt").write_text("oh")), "errors.txt"),
    ],
)  # fmt: skip
def test_a_response_that_does_not_fit_is_refused(tmp_path, write, said):
    folder = tmp_path / "response"
    folder.mkdir()
    write(folder)
    with pytest.raises(TargetError, match=said):
        read_response(folder, flat(), (2,))


def test_what_no_call_needs_may_be_missing(tmp_path):
    answered(tmp_path, None, np.ones(3))
    (answer,) = read_response(tmp_path, flat(function="log_prob"), (2,))
    assert answer.value is None
    assert answer.log.tolist() == [1.0, 1.0, 1.0]


# processes


def python(code):
    return [sys.executable, "-c", code]


def test_a_program_that_fails_is_quoted():
    with pytest.raises(TargetError, match="exit code 3; it printed: no weights"):
        run(python("import sys; print('no weights', file=sys.stderr); sys.exit(3)"), 20.0)
    with pytest.raises(TargetError, match="SIGSEGV"):
        run(python("import os; os.kill(os.getpid(), 11)"), 20.0)
    with pytest.raises(TargetError, match="cannot run /no/such/program: No such file"):
        run(["/no/such/program"], 20.0)


def test_a_program_that_prints_a_lot_is_not_held_up():
    run(python("print('x' * 5_000_000)"), 20.0)
    with pytest.raises(TargetError) as caught:
        run(python("print('x' * 5_000_000 + 'the end'); raise SystemExit(1)"), 20.0)
    assert str(caught.value).endswith("the end")
    assert len(str(caught.value)) < 3000


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "print('waiting', flush=True)\n"
        "time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(TargetTimeout, match="did not end within 2 s; it printed: waiting"):
        run(python(code), 2.0)
    assert time.monotonic() - started < 20.0
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid):
    """Whether a process has ended, or will be a zombie until its new parent looks; within 10 s."""
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_child_that_is_left_behind_does_not_hold_up_the_end():
    started = time.monotonic()
    run(python("import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(6)'])"), 20.0)
    assert time.monotonic() - started < 5.0


# programs under verify


def test_a_program_passes(script, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    found = program(script(), event_shape=2, dtypes=("float64", "float32"))
    report = refflow.verify(found, level="quick")
    assert report.ok, report
    assert {"RT1[float64]", "RT2[float32]", "LD1[float64]", "LD2[float64]"} <= {c.name for c in report.of("pass")}
    assert not list(scratch.iterdir())


def test_a_program_with_a_context_and_samples(script):
    context = np.linspace(-1.0, 1.0, 5)[:, None]
    found = program(script(), event_shape=2, functions=("forward", "inverse", "sample"), context=context)
    report = refflow.verify(found, level="quick", only=["RT1", "RT2", "LD1", "LD3", "BI"])
    assert report.ok, report
    points = found.sample(3, 5, np.full((3, 1), 2.0))
    np.testing.assert_array_equal(points, np.random.default_rng(5).standard_normal((3, 2)) + 2.0)
    value, log_det = found.forward(np.zeros((1, 2)), np.ones((1, 1)))
    assert value.tolist() == [[1.0, 1.0]]
    assert log_det.tolist() == [0.0]


def test_what_verify_is_told_besides_holds_in_rounds_too(script):
    context = np.full((1, 1), 0.5)
    report = refflow.verify(program(script(), event_shape=2), context=context, name="sinh", only=["RT1"], level="quick")
    assert report.ok, report
    assert report.target == "sinh"
    assert report.checks[0].worst_input["context"] == [0.5]


def test_rounds_ask_at_given_points_and_tell_each_outcome_once(script):
    told = []
    x = np.array([[0.5, -2.0], [1.25, 3.0]])
    report = refflow.verify(
        program(script(), event_shape=2), points=x, only=["RT1", "LD1"], level="quick", progress=told.append
    )
    assert tuple(told) == report.checks
    assert report.checks[0].worst_input["x"] in x.tolist()


def on_the_command_line(*words):
    return subprocess.run(
        [sys.executable, "-m", "refflow", "verify", *map(str, words)], capture_output=True, text=True, check=False
    )


def test_the_command_line_runs_programs(script):
    command = " ".join(script())
    found = on_the_command_line("--exec", command, "--event-shape", 2, "--dtype", "float64,float32",
                                "--level", "quick", "--functions", "forward,inverse", "--only", "RT1,LD1")  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "3 pass" in found.stdout
    failed = on_the_command_line("--exec", command.replace("server.py", "gone.py"), "--event-shape", 2)
    assert failed.returncode == 3
    assert "gone.py" in failed.stdout + failed.stderr


def test_the_command_line_exports_and_imports(script, tmp_path):
    home = tmp_path / "offline"
    made = on_the_command_line("--export", home, "--event-shape", 2, "--level", "quick", "--only", "RT1")
    assert made.returncode == 0, made.stderr
    for number in range(1, 9):
        place = home / f"{number:02d}"
        serve(place / "request", place / "response", script())
        found = on_the_command_line("--import", home)
        if not (home / f"{number + 1:02d}").is_dir():
            break
        assert found.returncode == 4
        assert str(home / f"{number + 1:02d}" / "request") in found.stderr
    assert found.returncode == 0, found.stderr
    assert "1 pass" in found.stdout


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("raise ValueError('out of cheese')", "exit code 1; it printed: .*out of cheese"),
        ("os.truncate(response / 'log_float64.bin', 100)", "expected [0-9]+ bytes"),
        ("(response / 'value_float64.npy').unlink()", "value_float64.npy"),
        ("(response / 'value_float64.npy').write_bytes(b'garbage')", "value_float64.npy of the response"),
        ("time.sleep(60)", "did not end within 2 s"),
    ],
)
def test_a_program_that_fails_is_one_clear_error(script, tmp_path, monkeypatch, after, said):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    report = refflow.verify(program(script(after), event_shape=2, timeout=2.0 if "sleep" in after else 60.0))
    assert report.exit_code() == 3
    assert not report.checks
    with pytest.raises(AssertionError, match=said):
        assert not report.error, report.error
    assert not list(scratch.iterdir())


def test_calls_that_the_program_refuses_fail_their_checks(script):
    refuse = "(response / 'errors.txt').write_text('1 rows of that size are too much for me\\n')"
    report = refflow.verify(program(script(refuse), event_shape=2), level="quick", only=["SH"])
    assert report.exit_code() == 1
    assert "rows of that size are too much for me" in report.checks[0].explanation


@pytest.mark.parametrize(
    ("command", "more", "error"),
    [
        ("./flow", {}, StructureError), ("./flow {request}", {}, StructureError), ("", {}, StructureError),
        ("./flow '{request} {response}", {}, StructureError),
        ("f {request} {response}", {"event_shape": ()}, ShapeError),
        ("f {request} {response}", {"event_shape": (0,)}, ShapeError),
        ("f {request} {response}", {"functions": ("encode",)}, StructureError),
        ("f {request} {response}", {"functions": ()}, StructureError),
        ("f {request} {response}", {"dtypes": ("float16",)}, StructureError),
        ("f {request} {response}", {"base": "cauchy"}, StructureError),
        ("f {request} {response}", {"to_base": "up"}, StructureError),
        ("f {request} {response}", {"context": np.zeros(3)}, ShapeError),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(command, more, error):
    with pytest.raises(error, match="expected"):
        program(command, **{"event_shape": 2} | more)


# rounds


def test_marks_are_handed_on_by_arithmetic():
    for dtype in ("float64", "float32"):
        a = mark((3,), dtype)
        for b in (
            a + 1.0,
            a[::-1] * a,
            np.cumsum(a),
            np.ones((2, 3), dtype) @ a,
            a.astype("float32"),
            a.astype("float64"),
        ):
            assert np.isnan(b).all()
            assert marked(b)
        assert not marked(np.array([np.nan, 1.0, -np.inf, np.finfo(dtype).max], dtype))


def sinh(x):
    return np.sinh(x), np.log(np.cosh(x)).sum(-1)


def arcsinh(y):
    x = np.arcsinh(y)
    return x, -np.log(np.cosh(x)).sum(-1)


def standing(forward=sinh, inverse=arcsinh):
    """What in_rounds needs of a flow in this process: connect, and answer, which notes how many calls came."""
    functions, asked = {"forward": forward, "inverse": inverse}, []

    def connect(one):
        def function(name):
            def call(x):
                if x.dtype != np.float64:
                    raise TypeError(x.dtype)
                found = one(Call(name, x.dtype.name, len(x), np.array(x)))
                return np.array(found.value), np.array(found.log)

            return call

        return Target("flow", (2,), forward=function("forward"), inverse=function("inverse"), dtypes=("float64",),
                      bulk=True)  # fmt: skip

    def answer(calls):
        asked.append(len(calls))
        with np.errstate(all="ignore"):
            return [Answer(*functions[call.function](np.array(call.x))) for call in calls]

    return connect, answer, asked


def outcomes(report):
    return [(c.name, c.status, c.statistic, c.tolerance, c.worst_input, c.explanation) for c in report.checks]


@pytest.mark.parametrize("inverse", [arcsinh, lambda y: (arcsinh(y)[0], -arcsinh(y)[1]), lambda y: (y, 0.0 * y[:, 0])])
def test_rounds_find_what_asking_directly_finds(inverse):
    connect, answer, _ = standing(inverse=inverse)
    by_rounds = in_rounds(lambda target: refflow.verify(target, level="quick"), connect, answer)
    at_once = refflow.verify(connect(lambda call: answer([call])[0]), level="quick")
    assert outcomes(by_rounds) == outcomes(at_once)
    assert by_rounds.exit_code() == at_once.exit_code()


def of_refflow(scale, drop=0.0):
    """A coupling flow with weights of that scale; a share of a layer may be left out of the log_det of forward."""
    flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0).bijection
    rng = np.random.default_rng(5)
    f = map_arrays(lambda a: scale * 0.5 * rng.standard_normal(a.shape) if a.dtype.kind == "f" else a, flow)

    def forward(x):
        y, log_det = f.forward(x)
        return y, log_det - drop * f.bijections[0].forward(x)[1]

    return forward, f.inverse


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
def test_log_determinants_are_judged_by_differences_at_fixed_steps(scale):
    ask = {}
    for drop in (0.0, 1.0):
        connect, answer, _ = standing(*of_refflow(scale, drop))
        ask[drop] = in_rounds(lambda target: refflow.verify(target, level="standard", only=["LD1"]), connect, answer)
    assert ask[0.0].ok, ask[0.0]
    assert ask[1.0].exit_code() == 1, ask[1.0]


def test_few_rounds_are_enough():
    connect, answer, asked = standing()
    report = in_rounds(lambda target: refflow.verify(target, level="standard"), connect, answer)
    assert report.ok, report
    assert len(asked) <= 8, asked  # chains of calls that rest on answers are no longer than that
    assert report.remarks[0] == f"asked {sum(asked)} calls in {len(asked)} requests"


def test_a_target_that_changes_from_call_to_call_is_seen():
    count = [0]

    def drifting(x):
        count[0] += 1
        return np.sinh(x) + 1e-13 * count[0], np.log(np.cosh(x)).sum(-1)

    connect, answer, _ = standing(forward=drifting)
    report = in_rounds(lambda target: refflow.verify(target, level="quick"), connect, answer)
    assert "DE" in {check.id for check in report.of("fail")}


def test_rows_that_look_at_each_other_are_seen():
    def leaking(x):
        return np.sinh(x) + 0.1 * x.mean(), np.log(np.cosh(x)).sum(-1)

    connect, answer, _ = standing(forward=leaking)
    report = in_rounds(lambda target: refflow.verify(target, level="quick"), connect, answer)
    assert "BI" in {check.id for check in report.of("fail")}


def test_checks_that_never_end_are_given_up():
    connect, answer, _ = standing()
    rng = np.random.default_rng(0)

    def ask(target):
        target.forward(rng.standard_normal((1, 2)))
        return Report("flow", "quick", 0, ())

    report = in_rounds(ask, connect, answer)
    assert report.exit_code() == 3
    assert "still asked for more" in report.error


# offline


def serve(request, response, command):
    words = [w.replace("{request}", str(request)).replace("{response}", str(response)) for w in command]
    subprocess.run(words, check=True)


def test_offline_runs_find_what_runs_here_find(script, tmp_path):
    command, home = script(), tmp_path / "offline"
    found = export_request(home, event_shape=(2,), level="quick", seed=3, dtypes=("float64", "float32"))
    requests = 0
    while isinstance(found, Path):
        requests += 1
        assert found == home / f"{requests:02d}" / "request"
        serve(found, found.parent / "response", command)
        found = import_response(home)
    here = refflow.verify(
        program(command, event_shape=2, dtypes=("float64", "float32")), level="quick", seed=3
    )  # fmt: skip
    assert found.ok
    assert outcomes(found) == outcomes(here)
    assert outcomes(import_response(home)) == outcomes(found)
    assert found.remarks == here.remarks
    assert requests <= 8


def test_a_response_that_is_not_there_yet_changes_nothing(script, tmp_path):
    home = tmp_path / "offline"
    request = export_request(home, event_shape=2, only=["RT1"], expected_failures={"RT1": "it is coarse"})
    before = sorted(home.rglob("*"))
    with pytest.raises(TargetError, match=r"01.response: expected one of value_float64"):
        import_response(home)
    assert sorted(home.rglob("*")) == before
    serve(request, request.parent / "response", script())
    assert import_response(home) == home / "02" / "request"


def test_an_export_of_what_does_not_fit_writes_nothing(tmp_path):
    for wrong in (
        {"level": "slow"},
        {"only": ["XX"]},
        {"dtypes": ["float16"]},
        {"functions": ["log_prob"], "only": "RT1"},
    ):
        with pytest.raises(StructureError, match="expected"):
            export_request(tmp_path / "offline", **{"event_shape": 2} | wrong)
        assert not (tmp_path / "offline").exists()


def test_an_export_needs_a_folder_of_its_own(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(FileError, match="expected a new or empty folder"):
        export_request(tmp_path, event_shape=2)
    with pytest.raises(FileError, match=r"settings\.json"):
        import_response(tmp_path)


def test_replays_are_deterministic(script, tmp_path):
    for name in ("a", "b"):
        found = export_request(tmp_path / name, event_shape=2, level="quick")
        serve(found, found.parent / "response", script())
        import_response(tmp_path / name)
    for number in ("01", "02"):
        for path in (tmp_path / "a" / number / "request").iterdir():
            assert path.read_bytes() == (tmp_path / "b" / number / "request" / path.name).read_bytes()


# differences at fixed steps


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
def test_extrapolated_differences_know_their_error(scale):
    weights = scale * np.random.default_rng(1).standard_normal((2, 2))

    def f(rows):
        s = np.tanh(rows[:, :2] @ weights)
        return np.concatenate([rows[:, :2], rows[:, 2:] * np.exp(s) + s], axis=1)

    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal(4)
        exact = jacobians.complex_step(f, x).log_abs_det()[0]
        value, error = jacobians.extrapolated(f, x).log_abs_det()
        assert abs(value - exact) <= jacobians.SAFETY * error + jacobians.FLOOR
        assert error < 1e-4


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("dim", [1, 2, 4])
def test_extrapolated_differences_see_that_digits_are_lost(dim, offset):
    """A correct map with a large number on its way: its noise, not its conditioning, limits what differences know."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, x = rng.standard_normal((dim, dim)) + 2.0 * np.eye(dim), rng.standard_normal(dim)

        def f(rows, a=a):
            return np.sinh(0.5 * ((rows @ a.T + offset) * 0.7 - 0.7 * offset))

        exact = np.linalg.slogdet(0.35 * a)[1] + np.log(np.cosh(0.35 * (a @ x))).sum()
        value, error = jacobians.extrapolated(f, x).log_abs_det()
        assert abs(value - exact) <= jacobians.SAFETY * error + jacobians.FLOOR


def test_extrapolated_differences_say_that_there_is_a_kink():
    _, error = jacobians.extrapolated(np.abs, np.array([1e-7, 1.0])).log_abs_det()
    assert jacobians.SAFETY * error > jacobians.INCONCLUSIVE


# a real foreign implementation


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    def make(fault):
        binary = tmp_path_factory.mktemp("c") / "flow"
        options = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-DFAULT={fault}"]
        subprocess.run([COMPILER, *options, str(EXAMPLE), "-o", str(binary), "-lm"], check=True)
        return [str(binary), "{request}", "{response}"]

    return make


def of_c(command, **more):
    return program(command, event_shape=4, functions=("forward", "inverse", "log_prob"), base="normal", **more)


@needs_c
@pytest.mark.parametrize("dtypes", [("float64",), ("float32",), ("float64", "float32"), ("float32", "float64")])
@pytest.mark.parametrize("level", ["quick", "standard"])
def test_the_flow_in_c_passes(compiled, dtypes, level):
    report = refflow.verify(of_c(compiled(0), dtypes=dtypes), level=level)
    assert report.ok, report
    assert not report.of("warn")


@needs_c
@pytest.mark.parametrize(
    ("fault", "caught"),
    [(1, "LD3[float64]"), (2, "RT1[float64]"), (3, "LD1[float64]"), (4, "RT2[float64]"), (5, "DE[float64]"),
     (6, "BI[float64]"), (7, "NF[float64]"), (8, "LP[float64]")],
)  # fmt: skip
def test_faults_of_the_flow_in_c_are_caught(compiled, fault, caught):
    report = refflow.verify(of_c(compiled(fault), dtypes=("float64", "float32")), level="quick")
    assert report.exit_code() == 1
    assert caught in {check.name for check in report.of("fail")}


@needs_c
@pytest.mark.parametrize("fault", [1, 3, 4, 5, 6, 7, 8])
def test_faults_are_caught_in_one_precision_alone(compiled, fault):
    assert refflow.verify(of_c(compiled(fault)), level="quick").exit_code() == 1


@needs_c
def test_a_float_inside_is_at_least_warned_of_where_no_other_precision_can_be_asked(compiled):
    report = refflow.verify(of_c(compiled(2)), level="quick")
    assert "RT1" in {check.id for check in report.of("warn", "fail")}
    assert report.exit_code(strict=True) != 0


@needs_c
def test_the_flow_in_c_computes_what_it_says(compiled):
    flow = of_c(compiled(0))
    x = np.random.default_rng(0).standard_normal((5, 4))
    z, log_det = flow.forward(x)
    np.testing.assert_allclose(flow.log_prob(x), log_det - 0.5 * (z**2).sum(1) - 2.0 * np.log(2.0 * np.pi), rtol=1e-14)
    with pytest.raises(TargetError, match="this flow has no sample"):
        program(compiled(0), event_shape=4, functions=("sample",)).sample(3, 0)
