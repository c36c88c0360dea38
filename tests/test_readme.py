"""What the README and the validation pages say is so: their code runs, their tables are the recorded runs'."""

import ast
import importlib.util
import inspect
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matrix import LAWS, LIBRARIES
from registry import REGISTRY

import refflow
from refflow.verification.checks import CHECKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "validation" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = [b for b in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if not b.startswith("    ")]
    names = {}
    missing = [m for block in blocks for m in imported(block) if importlib.util.find_spec(m) is None]
    for block in blocks:
        if not set(missing) & set(imported(block)):
            exec(compile(block, "README.md", "exec"), names)
    assert isinstance(names["flow"], refflow.Flow)
    assert {check.id for check in names["report"].of("fail")} == {"LD2", "LD3"}
    assert "FAIL         LD3" in capsys.readouterr().out
    names["test_shear"]()
    if missing:
        pytest.skip(f"ran all but the block that needs {', '.join(missing)}")
    assert isinstance(names["gradient"], refflow.Flow)
    np.testing.assert_allclose(names["log_p"].midpoint(), names["flow"].log_prob(names["x"][:5]), rtol=1e-12)
    assert np.all(names["log_p"].radius() < np.spacing(np.abs(names["log_p"].midpoint()))), (
        "closer than float64 can say"
    )


def imported(block):
    """The packages that a block of code imports."""
    return re.findall(r"^(?:import|from) (\w+)", block, flags=re.MULTILINE)


def test_the_method_that_the_readme_shows_is_the_method():
    """But for annotations, which the README leaves out."""
    shown = re.search(r"```python\n(    def forward.*?)```", README, flags=re.DOTALL).group(1)
    trees = [ast.parse(textwrap.dedent(t)) for t in (shown, inspect.getsource(refflow.AffineCoupling.forward))]
    for function in (tree.body[0] for tree in trees):
        function.returns = None
        for argument in function.args.args:
            argument.annotation = None
    assert ast.dump(trees[0]) == ast.dump(trees[1])


def test_the_table_of_the_readme_is_the_recorded_runs():
    block = re.search(r"<!-- digits: .*? -->\n(.*?)\n<!-- end -->", README, flags=re.DOTALL).group(1)
    assert block.splitlines() == script("digits").short()


def test_the_pages_are_generated_from_the_records(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "validation")
    pages = dict.fromkeys(("digits", "digits_choices", "overhead", "backends", "accuracy", "verify_cost", "selftest"))
    for page, writer in {**pages, "gpu": "gpu_tables", "real_data": "real_data_page"}.items():
        assert (ROOT / "validation" / f"{page}.md").read_text(encoding="utf-8") == script(writer or page).page()


def test_without_a_gpu_the_page_says_so(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "validation")
    found = {"dry run": True, "tests": {"status": "skipped: no time left"}}
    text = "\n".join(script("gpu_tables").lines(found, "gpu_dry_run"))
    assert "**No GPU has been met yet.**" in text
    assert "**skipped: no time left**" in text
    assert "No GPU" not in "\n".join(script("gpu_tables").lines({"dry run": False}, "gpu"))


def test_the_record_of_the_libraries_covers_the_registry():
    """A new map, or a new library, asks for new records: `python validation/backends.py`, `validation/accuracy.py`."""
    found = json.loads((ROOT / "validation/results/backends.json").read_text())
    assert list(found["entries"]) == [entry.name for entry in REGISTRY]
    exact = json.loads((ROOT / "validation/results/accuracy.json").read_text())
    assert [item["map"] for item in exact["maps"]] == [entry.name for entry in REGISTRY], (
        "python validation/accuracy.py"
    )
    for cells in found["entries"].values():
        assert {*cells, *found["missing"]} == set(LIBRARIES)
    assert all(list(laws) == [*(law.__name__ for law in LAWS), "row_independence"] for laws in found["laws"].values())


def test_the_recorded_kit_finds_every_fault_and_accuses_nothing():
    found = json.loads((ROOT / "validation/results/selftest.json").read_text())
    assert found["killed"] == found["faults"] >= 60
    assert found["false_alarms"] == 0
    assert {check.id for check in CHECKS} - {"RF"} == {id for id, kills in found["kills"].items() if kills["alone"]}
    rows = json.loads((ROOT / "validation/results/false_alarms.json").read_text())["rows"]
    assert len(rows) >= 500
    assert not [row for row in rows if row["failed"]]
    assert {row["name"] for row in rows if row["kind"] == "map"} == {entry.name for entry in REGISTRY}


def test_the_peers_findings_are_judged(monkeypatch):
    """`python validation/peers/run.py PACKAGE NAME` asks anew; `judgements.py` says what a person makes of it."""
    monkeypatch.syspath_prepend(ROOT / "validation")
    monkeypatch.syspath_prepend(ROOT / "validation/peers")
    page = script("peers/page")
    assert (ROOT / "validation/peers.md").read_text(encoding="utf-8") == page.page()
    rows = json.loads((ROOT / "validation/results/peers.json").read_text())["rows"]
    found = [(row, page.judged(row, failure)) for row in rows for failure in row.get("found", [])]
    assert not [row["name"] for row, judgement in found if judgement is None]
    faults = {(row["package"], judgement.key) for row, judgement in found if judgement.kind == "fault"}
    assert len(faults) > 12
    assert len({package for package, _ in faults}) >= 4


def test_cells_that_do_not_hold_have_reasons():
    module = script("backends")
    found = json.loads((ROOT / "validation/results/backends.json").read_text())
    assert module.open_cells(found).keys() <= module.REASONS.keys()


def test_the_recorded_digits_keep_the_promise():
    """Mean of three seeds at most 2.17 bits/dim; four minutes, 300 MB; the mixture beaten beyond doubt."""
    runs = json.loads((ROOT / "validation/results/digits.json").read_text())["runs"]
    assert len(runs) == 3
    assert np.mean([r["scores"][0]["test"] for r in runs]) <= 2.17
    assert max(r["wall_seconds"] for r in runs) < 240
    assert max(r["peak_megabytes"] for r in runs) < 300
    for r in runs:
        gain = r["paired_advantage_of_flow"][-1]
        assert gain["over"].startswith("Gaussian mixture")
        assert gain["mean"] - gain["half_width_95"] > 0.0


def test_the_digits_are_exact_in_float64():
    found = json.loads((ROOT / "validation/results/digits_exact.json").read_text())
    for law in ("round_trip", "antisymmetry", "log_det_complex_step"):
        assert found[law]["condition_units"] <= 16.0
        assert found[law]["judged"] == 1.0
    assert found["gradient"]["worst"] <= 1e-7


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_links_of_the_readme_lead_somewhere(path):
    assert (ROOT / path).exists()


def test_versions_agree():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == refflow.__version__
    assert f"version: {refflow.__version__}" in (ROOT / "CITATION.cff").read_text()
