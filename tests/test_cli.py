"""The command line: what it writes and prints, what it pipes, and how it fails."""

import io
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from matrix import LIBRARIES

import refflow
from refflow.cli import main
from refflow.files import read_metadata
from refflow.modules import named_arrays
from refflow.tables import read_table


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; return (exit code, standard output, standard error)."""

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["refflow", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def rows(n=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -2.0], [0.0, 0.0, 0.3]])
    return x + np.array([0.0, 10.0, -3.0])


def write_csv(path, x, header="a,b,c"):
    lines = [header] if header else []
    path.write_text("\n".join([*lines, *(",".join(map(repr, row)) for row in x.tolist())]) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model trained by the command on columns a and b given c, and the table it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    table = write_csv(folder / "data.csv", rows())
    subprocess.run(
        [sys.executable, "-m", "refflow", "train", table, "--context", "c", "--epochs", "3", "--layers", "2",
         "--hidden", "8", "--out", folder / "flow", "-q"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "flow" / "model.safetensors", table


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An untrained flow of two columns without names."""
    flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
    return flow.save(tmp_path_factory.mktemp("plain") / "plain.safetensors")


SMALL = ("--epochs", "2", "--layers", "2", "--hidden", "8")


def test_train_writes_model_report_and_pictures_and_prints_one_table(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    code, out, err = run("train", table, *SMALL, "--out", tmp_path / "o")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "curve.png", "model.safetensors", "report.json", "samples.png", "test-looks.jsonl",
    ]  # fmt: skip
    for name in ("curve.png", "samples.png"):
        assert (tmp_path / "o" / name).read_bytes().startswith(b"\x89PNG")
    for text in ("realnvp flow", "Gaussian", "Gaussian mixture", "+- s.e.", "seconds", "round-trip error", "peak"):
        assert text in out
    assert "epoch 2/2" in err
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["rows"] == [96, 12, 12]
    assert report["scores"][0]["model"] == "realnvp flow"
    assert report["round_trip_error"]["float64"] < 1e-12
    assert 50 < report["peak_megabytes"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 + 1


def test_the_report_is_what_json_prints(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    code, out, _ = run("train", table, *SMALL, "--out", tmp_path / "o", "--json", "-q")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "o" / "report.json").read_text())


def test_the_test_score_of_the_table_is_the_score_of_the_saved_model(run, tmp_path):
    """Score the test rows again, from the file, split as the task splits them."""
    from refflow.tasks import table_task

    table = write_csv(tmp_path / "t.csv", rows())
    run("train", table, *SMALL, "--out", tmp_path / "o", "--seed", "3", "-q")
    task = table_task(read_table(str(table)), "t", seed=3)
    again = refflow.score(refflow.load(tmp_path / "o" / "model.safetensors"), task.test.x)
    assert json.loads((tmp_path / "o" / "report.json").read_text())["scores"][0]["test"] == again.mean


def test_equal_commands_write_equal_models(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    for name in "ab":
        run("train", table, *SMALL, "--out", tmp_path / name, "-q")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b
    run("train", table, *SMALL, "--out", tmp_path / "c", "--seed", "1", "-q")
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != a


def test_nice_trains_with_the_choices_it_has(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    code, out, _ = run("train", table, "--model", "nice", *SMALL, "--out", tmp_path / "o", "-q")
    assert code == 0
    assert "nice flow" in out


def test_npy_and_standard_input_train_too(run, tmp_path):
    np.save(tmp_path / "t.npy", rows())
    code, _, _ = run("train", tmp_path / "t.npy", *SMALL, "--out", tmp_path / "o", "-q")
    assert code == 0
    text = write_csv(tmp_path / "t.csv", rows(), header="").read_text()
    code, _, _ = run("train", "-", *SMALL, "--out", tmp_path / "p", "-q", stdin=text)
    assert code == 0
    a, b = (refflow.load(tmp_path / name / "model.safetensors") for name in "op")
    assert refflow.modules.tree_equal(refflow.modules.arrays(a), refflow.modules.arrays(b))


def test_integers_are_dequantised_and_it_says_so(run, tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (100, 2))
    np.save(tmp_path / "t.npy", x)
    code, out, err = run("train", tmp_path / "t.npy", *SMALL, "--out", tmp_path / "o")
    assert code == 0
    assert "dequantised" in err
    assert "bits/dim" in out
    model = tmp_path / "o" / "model.safetensors"
    assert refflow.load(model).dequantization.steps == (1.0, 1.0)
    _, drawn, _ = run("sample", model, "-n", "5")
    assert all(float(v).is_integer() for line in drawn.splitlines() for v in line.split(","))
    _, drawn, _ = run("sample", model, "-n", "5", "--continuous")
    assert not all(float(v).is_integer() for line in drawn.splitlines() for v in line.split(","))


def test_the_model_file_knows_how_it_was_trained(run, trained):
    model, _ = trained
    found = read_metadata(model)
    assert found["columns"] == ["a", "b"]
    assert found["context"] == ["c"]
    assert (found["recipe"], found["seed"], found["epochs"]) == ("realnvp", 0, 3)
    code, out, _ = run("info", model, "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown.items() >= found.items()
    assert shown["event_shape"] == [2]
    assert shown["context_dim"] == 1
    assert "AffineCoupling" in shown["structure"]
    code, out, _ = run("info", model)
    assert code == 0
    assert "parameters" in out
    assert "recipe" in out


@pytest.mark.gpu
@pytest.mark.skipif(bool(LIBRARIES["cupy"].missing), reason=LIBRARIES["cupy"].missing or "cupy is here")
def test_train_and_score_on_a_gpu(run, tmp_path):
    table = write_csv(tmp_path / "data.csv", rows())
    found = {}
    for device in ("cpu", "cuda", "cuda:0"):
        folder = tmp_path / device
        code, out, _ = run(
            "train", table, *SMALL, "--dtype", "float64", "--device", device, "--out", folder, "--json", "-q"
        )
        assert code == 0
        found[device] = json.loads(out)["scores"][0]["test"]
        model = refflow.load(folder / "model.safetensors")
        assert {type(a) for a in named_arrays(model).values()} == {np.ndarray}
        code, out, _ = run("score", folder / "model.safetensors", table, "--device", device, "--json")
        assert code == 0
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1e-6)
    assert found["cuda:0"] == pytest.approx(found["cpu"], abs=1e-6)


def test_samples_go_back_to_score_through_a_pipe(run, plain):
    code, out, _ = run("sample", plain, "-n", "50", "--seed", "4")
    assert code == 0
    code, _, err = run("score", plain, "-", "--json", "--out", "-", stdin=out)
    flow = refflow.load(plain)
    expected = flow.log_prob(flow.sample(50, seed=4))
    assert code == 0
    assert json.loads(err)["rows"] == 50
    assert json.loads(err)["mean_nats"] == pytest.approx(float(np.mean(expected)), rel=1e-12)


def test_samples_carry_the_header_and_files_their_format(run, trained, tmp_path):
    model, table = trained
    code, out, _ = run("sample", model, "-n", "2", "--context", table)
    assert code == 0
    assert out.splitlines()[0] == "a,b"
    assert len(out.splitlines()) == 1 + 2 * 120
    code, _, _ = run("sample", model, "-n", "1", "--context", table, "--out", tmp_path / "s.npy")
    assert code == 0
    assert np.load(tmp_path / "s.npy").shape == (120, 2)
    code, _, _ = run("sample", model, "-n", "1", "--context", table, "--out", tmp_path / "s.csv")
    assert np.allclose(read_table(str(tmp_path / "s.csv")).values, np.load(tmp_path / "s.npy"), rtol=0, atol=0)


def test_no_samples_are_no_rows(run, plain):
    assert run("sample", plain, "-n", "0")[:2] == (0, "")


def test_score_is_refflow_score(run, trained, tmp_path):
    model, table = trained
    x = rows()
    expected = refflow.score(refflow.load(model), x[:, :2], x[:, 2:])
    code, out, _ = run("score", model, table, "--out", tmp_path / "s.csv", "--json")
    assert code == 0
    assert json.loads(out)["mean_nats"] == pytest.approx(expected.mean, rel=1e-12)
    assert json.loads(out)["standard_error_nats"] == pytest.approx(expected.standard_error, rel=1e-9)
    assert np.array_equal(read_table(str(tmp_path / "s.csv")).values[:, 0], expected.log_prob)
    run("score", model, table, "--out", tmp_path / "s.npy")
    assert np.array_equal(np.load(tmp_path / "s.npy"), expected.log_prob)


def test_score_finds_columns_by_name(run, trained, tmp_path):
    """Another order and a further column change nothing; another order without names would score nonsense."""
    model, table = trained
    x = rows()
    other = write_csv(tmp_path / "o.csv", np.column_stack([x[:, 2], np.ones(len(x)), x[:, 1], x[:, 0]]), "c,z,b,a")
    assert run("score", model, other)[1] == run("score", model, table)[1]
    code, _, err = run("score", model, write_csv(tmp_path / "n.csv", x, "a,b,z"))
    assert code == 1
    assert "'c'" in err
    code, _, err = run("score", model, other, "--context", "a", "--drop", "z")
    assert code == 1
    assert "['a', 'b']" in err


def test_score_reads_in_blocks(run, plain, tmp_path, monkeypatch):
    x = rows(100)[:, :2]
    whole = run("score", plain, write_csv(tmp_path / "t.csv", x, ""), "--json")[1]
    np.save(tmp_path / "t.npy", x)
    from refflow import tables

    blocks = tables.read_blocks
    monkeypatch.setattr(tables, "read_blocks", lambda source: blocks(source, rows=7))
    for name in ("t.csv", "t.npy"):
        piecewise = json.loads(run("score", plain, tmp_path / name, "--json")[1])
        assert piecewise["rows"] == 100
        assert piecewise["mean_nats"] == pytest.approx(json.loads(whole)["mean_nats"], rel=1e-12)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_score_needs_memory_for_a_block_not_for_the_file(plain, tmp_path):
    """40 MB of CSV raise the peak over that of one block's file by less than a quarter of the file's size."""
    line = "0.123456789012345,-1.234567890123456\n"
    code = (
        "import sys; from pathlib import Path; sys.argv = ['refflow', 'score', *sys.argv[1:]]; "
        "from refflow.cli import app; app(standalone_mode=False); print(Path('/proc/self/status').read_text())"
    )
    peaks = []
    for name, count in (("small.csv", 20_000), ("large.csv", 1_100_000)):
        (tmp_path / name).write_text(line * count)
        done = subprocess.run(
            [sys.executable, "-c", code, plain, tmp_path / name], check=True, capture_output=True, text=True
        )
        assert f"{count} rows" in done.stdout
        peaks.append(1024 * int(done.stdout.split("VmHWM:")[1].split()[0]))
    assert peaks[1] - peaks[0] < 0.25 * (tmp_path / "large.csv").stat().st_size


def test_a_failing_score_leaves_no_output_file(run, plain, tmp_path):
    (tmp_path / "t.csv").write_text("1,2\n3,oops\n")
    code, _, err = run("score", plain, tmp_path / "t.csv", "--out", tmp_path / "s.csv")
    assert code == 1
    assert "line 2, column 1" in err
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("command", ["train", "sample", "score", "info"])
def test_help_is_worth_reading(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Usage: refflow {command}" in out
    assert len(out.splitlines()) > 10


def test_help_lists_the_commands_and_exit_codes(run):
    code, out, _ = run("--help")
    assert code == 0
    for text in ("train", "sample", "score", "info", "Exit codes: 0 done"):
        assert text in " ".join(out.split())


BAD_TABLES = {
    "empty file": ("t.csv", b"", "empty"),
    "header only": ("t.csv", b"a,b\n", "below the header"),
    "a word in a cell": ("t.csv", b"a,b\n1,2\n3,x\n" + b"4,5\n" * 9, "line 3, column 1"),
    "an empty cell": ("t.csv", b"1,2\n3,\n" + b"4,5\n" * 9, "an empty field on line 2"),
    "a short row": ("t.csv", b"1,2\n3\n" + b"4,5\n" * 9, "got 1 on line 2"),
    "NaN": ("t.csv", b"1,2\nnan,3\n" + b"4,5\n" * 9, "nan at row 1, column 0"),
    "inf": ("t.csv", b"1,2\n3,inf\n" + b"4,5\n" * 9, "inf at row 1, column 1"),
    "a constant column": ("t.csv", b"".join(b"%d,7\n" % i for i in range(30)), "constant columns"),
    "too few rows": ("t.csv", b"1,2\n3,4\n", "at least 4 rows"),
    "bytes that are no text": ("t.csv", b"\xff\xfe\x00\x01" * 20, "UTF-8"),
    "an .npy that is none": ("t.npy", b"hello", "whole .npy"),
    "pickled objects": ("t.npy", None, "whole .npy"),
    "one axis": ("t.npy", None, "rows and columns"),
    "strings": ("t.npy", None, "dtype"),
    "a truncated .npy": ("t.npy", None, "whole .npy"),
}


def bad_table(name, folder):
    file, content, _ = BAD_TABLES[name]
    path = folder / file
    if content is not None:
        path.write_bytes(content)
    elif name == "pickled objects":
        np.save(path, np.array([[{}, 1]], dtype=object), allow_pickle=True)
    elif name == "one axis":
        np.save(path, np.arange(9.0))
    elif name == "strings":
        np.save(path, np.array([["a", "b"]]))
    else:
        np.save(path, rows())
        path.write_bytes(path.read_bytes()[:500])
    return path


def one_line(err):
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("refflow: ")
    return lines[0]


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_one_clear_line(run, tmp_path, name):
    code, out, err = run("train", bad_table(name, tmp_path), "--out", tmp_path / "o", "-q")
    assert (code, out) == (1, "")
    assert BAD_TABLES[name][2] in one_line(err)
    assert not (tmp_path / "o").exists()


def test_other_errors_are_one_clear_line(run, trained, plain, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    (tmp_path / "cut.safetensors").write_bytes(plain.read_bytes()[:-9])
    cases = {
        ("train", tmp_path / "none.csv"): "No such file",
        ("train", tmp_path): "directory",
        ("train", table, "--context", "a,b,c"): "columns to model",
        ("train", table, "--bounds", "0,1"): "outside",
        ("train", table, "--model", "glow"): "got an array of shape (120, 3)",
        ("train", table, "--out", tmp_path / "file" / "o"): "cannot make the folder",
        ("score", tmp_path / "none", table): "No such file",
        ("score", table, table): "expected",
        ("score", tmp_path / "cut.safetensors", table): "expected",
        ("score", plain, table): "expected",
        ("score", plain, tmp_path / "none.npy"): "No such file",
        ("score", plain, write_csv(tmp_path / "d.csv", rows()[:, :2], "a,b"), "--out", folder): "cannot write",
        ("sample", trained[0]): "expected a context",
        ("sample", plain, "--context", table): "unconditional",
        ("sample", plain, "--out", tmp_path / "file" / "s.csv"): "cannot write",
        ("info", tmp_path / "file"): "expected",
    }
    for arguments, text in cases.items():
        extra = ("--out", tmp_path / "o") if arguments[0] == "train" and "--out" not in arguments else ()
        code, out, err = run(*arguments, *extra, *(("-q",) if arguments[0] == "train" else ()))
        assert (code, out) == (1, ""), arguments
        assert text in one_line(err), (arguments, err)


@pytest.mark.parametrize(
    ("model", "shape", "dtype"),
    [("glow", (4, 4), "uint8"), ("realnvp-image", (4, 2, 3), "int64"), ("glow", (2, 4, 2), "float64")],
)
def test_images_keep_their_shape_from_file_to_samples(run, tmp_path, model, shape, dtype):
    """Integers are dequantised levels in bits/dim; other numbers are taken as they are."""
    x = np.random.default_rng(0).poisson(2.0, size=(40, *shape)).astype(dtype)
    if dtype == "float64":
        x = x + np.random.default_rng(1).random(x.shape)
    np.save(tmp_path / "x.npy", x)
    small = ("--epochs", "2", "--layers", "1", "--hidden", "4")
    out = tmp_path / "o"
    code, text, _ = run("train", tmp_path / "x.npy", "--model", model, *small, "--out", out, "--json", "-q")
    found = json.loads(text)
    assert code == 0
    assert found["unit"].startswith("nats" if dtype == "float64" else "bits/dim")
    assert (out / "samples.png").stat().st_size > 1000
    flow = refflow.load(out / "model.safetensors")
    assert flow.event_shape == shape
    scored = json.loads(run("score", out / "model.safetensors", tmp_path / "x.npy", "--json")[1])
    assert scored["rows"] == 40
    assert scored["mean_nats"] == pytest.approx(refflow.score(flow, x).mean, rel=1e-6)
    assert run("sample", out / "model.safetensors", "-n", "3", "--out", tmp_path / "s.npy")[0] == 0
    assert np.load(tmp_path / "s.npy").shape == (3, *shape)


def test_the_digits_are_images_too(run, tmp_path):
    small = ("--epochs", "1", "--layers", "1", "--hidden", "4", "--out", tmp_path / "o", "--json", "-q")
    code, text, _ = run("train", "digits", "--model", "realnvp-image", *small)
    assert code == 0
    assert json.loads(text)["scores"][0]["model"] == "realnvp-image flow"
    flow = refflow.load(tmp_path / "o" / "model.safetensors")
    assert flow.event_shape == (64,)
    assert len(flow.bijection.bijections[-1].levels) == 2
    assert any(isinstance(f, refflow.Reshape) for f in flow.bijection.bijections)


def test_wrong_usage_exits_with_2(run, plain, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    for arguments in (
        ("train",),
        ("train", table, "--layers", "many"),
        ("train", table, "--model", "glowing"),
        ("train", "digits", "--model", "glow", "--drop", "1"),
        ("train", table, "--hidden", "8,x"),
        ("train", table, "--bounds", "1"),
        ("train", table, "--dtype", "float16"),
        ("train", table, "--seed", "-1"),
        ("train", table, "--layers", "0"),
        ("train", table, "--epochs", "-1"),
        ("train", table, "--batch-size", "0"),
        ("train", table, "--patience", "0"),
        ("train", tmp_path / "none.csv", "--learning-rate", "0"),
        ("train", tmp_path / "none.csv", "--ema", "1"),
        ("train", tmp_path / "none.csv", "--dropout", "1"),
        ("train", tmp_path / "none.csv", "--hidden", "0"),
        ("train", tmp_path / "none.csv", "--bounds", "2,1"),
        ("train", table, "--context", "zz"),
        ("train", table, "--drop", "3"),
        ("train", table, "--context", "a", "--drop", "b,0"),
        ("score", plain, table, "--context", "zz"),
        ("score", plain, table, "--out", "s.txt"),
        ("sample", tmp_path / "none", "--out", "s.txt"),
        ("sample", tmp_path / "none", "--out", "s"),
        ("train", "digits", "--context", "a"),
        ("sample", "m", "-n", "-1"),
        ("score", "m", table, "--draws", "0"),
        ("nonsense",),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert "Usage:" in err
        assert "{'" not in err


def start(*arguments, before=(), env=None):
    """The command in a process of its own, after the words `before`: a hook in a fork would warn of JAX's threads."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "refflow", *map(str, arguments)], stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip


def test_ctrl_c_saves_the_best_and_the_same_command_goes_on(tmp_path):
    table, out = write_csv(tmp_path / "t.csv", rows(400)), tmp_path / "o"
    command = ("train", table, "--epochs", "4000", "--layers", "2", "--hidden", "8", "--out", out)
    running = start(*command, "--patience", "4000")
    for line in running.stderr:
        if line.startswith("epoch 400/"):
            break
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted after epoch" in err
    assert "Traceback" not in err
    assert refflow.load(out / "model.safetensors").event_shape == (3,)
    assert read_metadata(out / "model.safetensors")["stopped"] == "interrupted"
    stopped = read_metadata(out / "model.safetensors")["epochs"]
    running = start(*command, "--patience", "4000")
    first = next(line for line in running.stderr if line.startswith("epoch "))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert int(first.split()[1].split("/")[0]) > stopped - 1


def test_a_full_disk_keeps_the_old_model(run, tmp_path):
    table, out = write_csv(tmp_path / "t.csv", rows()), tmp_path / "o"
    assert run("train", table, *SMALL, "--out", out, "-q")[0] == 0
    before = (out / "model.safetensors").read_bytes()

    limit = ("bash", "-c", 'trap "" XFSZ; ulimit -f 1; exec "$@"', "bash")
    running = start("train", table, *SMALL, "--out", out, "--seed", "1", "-q", before=limit)
    printed, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert printed == ""
    assert "cannot write" in one_line(err)
    assert (out / "model.safetensors").read_bytes() == before
    assert not list(out.glob(".refflow*"))


def test_a_reader_that_leaves_is_no_error_message(plain):
    running = start("sample", plain, "-n", "200000")
    running.stdout.readline()
    running.stdout.close()
    with running.stderr as stream:
        err = stream.read()
    assert running.wait(timeout=60) == 1
    assert err == ""


def test_without_extras_it_trains_and_says_what_is_missing(tmp_path):
    """As on a machine without matplotlib, scikit-learn and Hypothesis: what stands in their place fails to import."""
    table = write_csv(tmp_path / "t.csv", rows())
    block = tmp_path / "block"
    for name in ("matplotlib", "sklearn", "hypothesis"):
        (block / name).mkdir(parents=True)
        (block / name / "__init__.py").write_text(f"raise ImportError('no {name}')")
    environment = {**os.environ, "PYTHONPATH": str(block)}
    running = start("train", table, *SMALL, "--out", tmp_path / "o", env=environment)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "refflow[plot]" in err
    assert "refflow[mixture]" in err
    assert "Gaussian" in out
    done = subprocess.run(
        [sys.executable, "-c", "import refflow.strategies"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "MissingExtraError" in done.stderr
    assert "refflow[laws]" in done.stderr


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path):
    table, out = write_csv(tmp_path / "t.csv", rows(400)), tmp_path / "o"
    running = start("train", table, "--epochs", "4000", "--patience", "4000", "--layers", "2", "--out", out)
    next(line for line in running.stderr if line.startswith("epoch 400/"))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert (out / "checkpoint.safetensors").exists()
    code, _, err = run("train", table, "--epochs", "5", "--layers", "2", "--out", out, "-q")
    assert code == 1
    assert "checkpoint of this run" in one_line(err)
    assert run("train", table, "--epochs", "5", "--layers", "2", "--out", out, "-q", "--no-resume")[0] == 0
    assert not (out / "checkpoint.safetensors").exists()


def strict(text):
    """JSON read by a reader that knows no NaN."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_booleans_are_levels_0_and_1(run, tmp_path):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).random((60, 2)) < 0.4)
    assert read_table(str(tmp_path / "t.npy")).values.dtype == np.uint8
    code, _, err = run("train", tmp_path / "t.npy", *SMALL, "--out", tmp_path / "o")
    assert code == 0, err
    assert (tmp_path / "o" / "samples.png").exists()
    code, out, _ = run("score", tmp_path / "o" / "model.safetensors", tmp_path / "t.npy", "--json")
    assert code == 0
    assert strict(out)["bits_per_dim"] is not None


def test_a_picture_that_fails_is_a_remark_and_the_report_is_there_before_it(run, tmp_path, monkeypatch):
    from refflow import pictures

    def fail(*arguments, **options):
        assert (tmp_path / "o" / "report.json").exists()
        raise TypeError("no picture of that")

    monkeypatch.setattr(pictures, "scatter_pairs", fail)
    code, out, err = run("train", write_csv(tmp_path / "t.csv", rows()), *SMALL, "--out", tmp_path / "o")
    assert code == 0
    assert "no samples.png: TypeError: no picture of that" in err
    assert "realnvp flow" in out
    found = strict((tmp_path / "o" / "report.json").read_text())
    assert [file.rpartition(os.sep)[2] for file in found["files"]] == ["model.safetensors", "report.json", "curve.png"]
    assert len((tmp_path / "o" / "test-looks.jsonl").read_text().splitlines()) == 1


def test_what_is_not_a_number_is_null_and_few_rows_are_a_remark(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows(9))
    code, out, err = run("train", table, *SMALL, "--out", tmp_path / "o", "--json")
    assert code == 0
    assert strict(out)["scores"][0]["standard_error"] is None
    assert strict((tmp_path / "o" / "report.json").read_text()) == strict(out)
    strict((tmp_path / "o" / "test-looks.jsonl").read_text())
    assert "only 9 rows, 1 of them to test on" in err
    one = write_csv(tmp_path / "one.csv", rows(1))
    code, out, _ = run("score", tmp_path / "o" / "model.safetensors", one, "--json")
    assert code == 0
    assert strict(out)["standard_error_nats"] is None
    assert "only" not in run("train", write_csv(tmp_path / "u.csv", rows(20)), *SMALL, "--out", tmp_path / "p")[2]


def test_score_says_when_rows_are_off_the_grid(run, tmp_path):
    """The digits' levels divided by 16 under a flow of levels 0 .. 16: once, on standard error, for all blocks."""
    x = np.random.default_rng(0).integers(0, 17, (100, 2))
    np.save(tmp_path / "t.npy", x)
    run("train", tmp_path / "t.npy", *SMALL, "--out", tmp_path / "o", "-q")
    model = tmp_path / "o" / "model.safetensors"
    assert run("score", model, tmp_path / "t.npy")[2] == ""
    np.save(tmp_path / "u.npy", x / 16.0)
    code, out, err = run("score", model, tmp_path / "u.npy")
    assert code == 0
    assert "100 rows" in out
    assert len(err.splitlines()) == 1
    assert "not on the grid" in err


def test_a_run_that_never_improved_is_called_untrained(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    code, out, err = run("train", table, *SMALL, "--out", tmp_path / "o", "--learning-rate", "1e30", "-q")
    assert (code, out) == (1, "")
    assert "no epoch improved the flow: untrained, it is in" in one_line(err)
    code, out, _ = run("train", table, *SMALL, "--epochs", "0", "--out", tmp_path / "p", "-q")
    assert code == 0
    assert "no epoch improved the flow: it is untrained" in out


def test_a_flow_worse_than_a_gaussian_says_so(run, tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 0.99], [0.0, 0.1]])
    code, out, _ = run("train", write_csv(tmp_path / "t.csv", x, ""), *SMALL, "--out", tmp_path / "o", "-q")
    assert code == 0
    assert "the flow is worse than the Gaussian" in out


def test_models_of_one_table_have_folders_of_their_own(run, tmp_path, monkeypatch):
    """Either spelling of a name is the same model; what a second model writes replaces nothing."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "t.csv", rows())
    for model in ("realnvp", "nsf_ar", "nsf-ar"):
        assert run("train", "t.csv", "--model", model, *SMALL, "-q")[0] == 0
    assert sorted(p.name for p in tmp_path.glob("*-flow")) == ["t-flow", "t-nsf_ar-flow"]
    np.save("i.npy", np.random.default_rng(0).normal(size=(30, 2, 2)))
    assert run("train", "i.npy", "--model", "realnvp_image", *SMALL, "-q")[0] == 0
    assert (tmp_path / "i-realnvp-image-flow" / "model.safetensors").exists()


def test_a_run_says_what_it_takes_for_defaults(run, tmp_path):
    table = write_csv(tmp_path / "t.csv", rows())
    err = run("train", table, "--epochs", "2", "--hidden", "8,4", "--out", tmp_path / "o")[2]
    assert err.splitlines()[0] == (
        "realnvp on 96 rows: layers 8, hidden 8,4, dropout 0.0, epochs 2, batch size 256, learning rate 0.002, "
        "ema 0.99, patience 60"
    )
    np.save(tmp_path / "i.npy", np.random.default_rng(0).normal(size=(30, 2, 2)))
    err = run("train", tmp_path / "i.npy", "--model", "glow", *SMALL, "--out", tmp_path / "p")[2]
    assert "glow on 24 rows: steps 2, hidden 8," in err


def test_flattened_images_and_equal_steps_are_said_briefly(run, tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (60, 3, 3))
    np.save(tmp_path / "i.npy", x)
    err = run("train", tmp_path / "i.npy", *SMALL, "--out", tmp_path / "o")[2]
    assert "images of 3 x 3 are flattened: see --model glow" in err
    assert "all 9 columns (step 1)" in err


def test_progress_is_a_line_at_least_every_half_minute(capsys, monkeypatch):
    from refflow import progress
    from refflow.training import Epoch

    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress(1000, 2, None) as show:
        for number in range(1, 8):
            clock[0] += 12.0
            show(Epoch(number, 1.0, None, 1e-3, 1.0, 12.0, False))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["3/1000", "6/1000"]
