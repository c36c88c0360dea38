"""The shape of the package: imports point up, importing is cheap and quiet, the public surface is what it says."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import refflow

ROOT = Path(refflow.__file__).parent

ROOMS = (
    "errors", "arrays", "modules", "conditioners", "masked", "bijections", "convolutions", "distributions",
    "preprocessing", "flow", "recipes", "verification", "selftest", "specs", "strategies", "data", "observations",
    "scoring", "certified", "lazy", "pytrees", "backends", "storage", "files", "training", "baselines", "tables",
    "streams", "pictures", "progress", "tasks", "jobs", "cli", "__main__",
)  # fmt: skip
"""From the ground up: a room imports only from rooms before it."""

LOOKING_DOWN = {("flow", "files"), ("flow", "lazy"), ("modules", "backends"), ("verification", "storage")}
"""The conveniences that look down: flow.save, flows of Dask arrays, module.to and files of reports, thin, over free
functions, and imported when called."""


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    """(room, whether at module level) of every import of refflow in a file."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "refflow":
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".")[1] for a in node.names if a.name.startswith("refflow.")]
        for name in names:
            yield name, node in top


def files():
    return sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def test_every_file_is_in_a_known_room():
    assert {room(p) for p in files()} == set(ROOMS)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_rooms_above(path):
    here = ROOMS.index(room(path))
    for name, at_top in imported_rooms(path):
        assert name in ROOMS, f"{path} imports refflow.{name}: name the room"
        if (room(path), name) in LOOKING_DOWN:
            assert not at_top, f"{path} imports {name} before it is called for"
        else:
            assert ROOMS.index(name) <= here, f"{path} imports {name}, a room below it"


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_refflow_imports_no_framework():
    heavy = "scipy matplotlib torch jax cupy dask sklearn pandas hypothesis pytest typer rich IPython".split()
    assert run(f"import sys, refflow; print([m for m in {heavy} if m in sys.modules])").strip() == "[]"


def test_importing_refflow_is_quick():
    """Under 0.4 s of a core, the best of five fresh processes: what else the machine does only ever adds."""
    code = "import time; t = time.process_time(); import refflow; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.4


def test_public_names_exist_and_are_documented():
    assert sorted(refflow.__all__) == sorted(set(refflow.__all__))
    for name in refflow.__all__:
        value = getattr(refflow, name)
        assert inspect.getdoc(value), name
        if inspect.isclass(value) and value.__module__.startswith("refflow"):
            for member, method in inspect.getmembers(value, inspect.isfunction):
                if not member.startswith("_") and method.__module__.startswith("refflow"):
                    assert inspect.getdoc(method), f"{name}.{member}"


def test_names_that_the_owner_fixed():
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.Reverse())
    assert isinstance(flow.base, refflow.StandardNormal)
    assert isinstance(flow.bijection, refflow.Reverse)
    assert {"Flow", "parameters", "bind", "fit", "load", "nice", "realnvp"} <= set(refflow.__all__)
    assert isinstance(refflow.nice(2, layers=2, hidden=(4,), seed=0), refflow.Flow)
    assert isinstance(refflow.realnvp(2, layers=2, hidden=(4,), seed=0), refflow.Flow)


def test_every_library_module_states_its_purpose():
    for path in files():
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_nothing_is_pickled():
    for path in files():
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
