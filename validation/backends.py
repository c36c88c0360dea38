"""Every map of the registry on every library: how far from NumPy in float64, and which laws hold there.

    python validation/backends.py            measures (half an hour), writes results/backends.json and the page
    python validation/backends.py torch jax  measures these libraries, and keeps the record of the others
    python validation/backends.py --tables   writes the page from the recorded run

`tests/matrix.py` says what is compared and how; `tests/test_backends.py` asserts it.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from matrix import (
    GRADIENT,
    LAWS,
    LIBRARIES,
    UNITS,
    Elsewhere,
    Library,
    differences,
    drawn,
    gradient_difference,
    is_at_home,
)
from recording import HERE, RESULTS, machine, save
from registry import REGISTRY, Entry

from refflow.verification import LawViolation, LossyWarning, row_independence, turned

ASKED = (*LAWS, row_independence)
RANKS = ("pass", "inconclusive", "lossy", "fail")
"""Verdicts on a law, the worse the later: of two directions, the worse counts."""

BITS = (
    "no promise of the library: its vector code computes a row in other instructions when it stands elsewhere in a "
    "batch, so that last bits differ; the law `batching` holds, which allows for rounding"
)
REASONS = {
    ("cupy", "run"): "needs a CUDA device, and the machine of this run had none. Its dispatch is tested on genuine "
    "CuPy arrays without a device, its manners (no silent way to the host) by the strict second device",
    ("dask", "gradient"): "Dask's arrays have no derivatives; train in NumPy or CuPy and score Dask arrays",
    ("dask", "laws"): "not asked: blocks are computed by NumPy, whose laws hold",
    ("balls", "gradient"): "enclosures are of values and log-determinants; derivatives of balls are not defined yet",
    (
        "balls",
        "float32",
    ): "balls have no dtype: a float32 is held exactly, and computed with in the precision asked for",
    ("balls", "laws"): "not asked: laws judge rounding, and balls prove their own error (`tests/test_enclosures.py`)",
    ("torch", "row_independence"): BITS,
    ("jax", "row_independence"): BITS,
    ("jax.jit", "laws"): "not asked: laws evaluate at many shapes, and each would be compiled anew; compiled values, "
    "log-determinants and gradients are compared with NumPy's",
    ("jax", "laws"): "not asked in this record: every operation is compiled at every shape that a law asks for, which "
    "takes too long for a record; `pytest -m deep tests/test_backends.py -k jax` asks them",
}
"""Why a cell does not hold, by library and what was asked. A cell without a reason is a fault of refflow's."""

WITHOUT_LAWS = ("jax", "jax.jit", "dask", "balls")


def sides(entry: Entry, dtype: type = np.float64) -> Iterator[tuple]:
    """Both directions of an entry as (name, forward map, points, context)."""
    f, x, y, context = drawn(entry, dtype=dtype)
    yield "forward", f, x, context
    yield "inverse", turned(f), y, context


def cell(library: Library, entry: Entry) -> dict:
    """What one map does in one library: differences of both directions, and whether float32 stays."""
    found: dict = {}
    for name, f, points, context in sides(entry):
        value, log_det = differences(library, f, points, context)
        found[name] = {"value": value, "log_det": log_det}
        if library.gradients:
            found[name]["gradient"] = gradient_difference(library, f, points, context)
    if library.name != "balls":
        calls = [library.call(*side[1:]) for side in sides(entry, np.float32)]
        found["float32"] = all(is_at_home(a, library.name, np.float32) for call in calls for a in call)
    return found


def verdict(law, library: Library, entry: Entry) -> str:
    """The worse verdict of both directions."""
    found = []
    for _, f, points, context in sides(entry):
        try:
            found.append(law(Elsewhere(f, library.name), points, context).status)
        except LawViolation:
            found.append("fail")
    return max(found, key=RANKS.index)


def judged(law, library: Library) -> dict[str, list[str]]:
    """Of the entries, those that do not pass, by verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyWarning)
        verdicts = {entry.name: verdict(law, library, entry) for entry in REGISTRY}
    return {rank: [n for n, v in verdicts.items() if v == rank] for rank in RANKS[1:]}


def blank() -> dict:
    """A record without measurements."""
    return {
        "machine": machine("torch", "jax", "dask", "cupy-cuda13x", "array-api-strict", "python-flint"),
        "units": UNITS, "gradient": GRADIENT,
        "missing": {name: library.missing for name, library in LIBRARIES.items() if library.missing},
        "entries": {entry.name: {} for entry in REGISTRY}, "laws": {},
    }  # fmt: skip


def record(names: list[str]) -> None:
    """Measure the libraries and put them into the record, those measured before beside them."""
    new: dict = {"entries": {}, "laws": {}}
    for name in names:
        new["entries"][name] = {entry.name: cell(LIBRARIES[name], entry) for entry in REGISTRY}
        if name not in WITHOUT_LAWS:
            new["laws"][name] = {law.__name__: judged(law, LIBRARIES[name]) for law in ASKED}
        print(f"{name}: done", flush=True)
    save("backends.json", merged(new))


def merged(new: dict) -> dict:
    """The new measurements, and of the record those of the same maps in other libraries, in the order of the lists."""
    found, path = blank(), RESULTS / "backends.json"
    old = json.loads(path.read_text()) if path.exists() else found
    for name in LIBRARIES:
        if name not in WITHOUT_LAWS and (name in new["laws"] or name in old["laws"]):
            found["laws"][name] = new["laws"].get(name) or old["laws"][name]
        for entry, cells in found["entries"].items():
            measured = new["entries"].get(name, {}).get(entry) or old["entries"].get(entry, {}).get(name)
            if measured:
                cells[name] = measured
    return found


def worst(cells: dict[str, dict], quantity: str) -> tuple[float, str, str] | None:
    """The largest of a quantity over entries and directions, with where it is; None if nobody has it."""
    found = [
        (c[side][quantity], name, side) for name, c in cells.items() for side in ("forward", "inverse")
        if quantity in c.get(side, {})
    ]  # fmt: skip
    return max(found) if found else None


def text(number: float) -> str:
    return "0" if number == 0.0 else f"{number:.1e}" if number < 1e-3 else f"{number:.2g}"


def summary(found: dict) -> list[str]:
    """One row a library: the worst of each quantity, and where."""
    lines = [
        "| library | entries | worst value, units | worst log-det, units | worst gradient, relative | float32 stays |",
        "| --- " * 6 + "|",
    ]
    for name in LIBRARIES:
        cells = {entry: c[name] for entry, c in found["entries"].items() if name in c}
        if not cells:
            lines.append(f"| {name} | not run | | | | |")
            continue
        largest = (worst(cells, quantity) for quantity in ("value", "log_det", "gradient"))
        parts = ["" if w is None else text(w[0]) + (f" ({w[1]}, {w[2]})" if w[0] else "") for w in largest]
        kept = [c["float32"] for c in cells.values() if "float32" in c]
        lines.append(f"| {name} | {len(cells)} | {' | '.join(parts)} | {f'{sum(kept)}' if kept else ''} |")
    return lines


def laws(found: dict) -> list[str]:
    """One row a law: in how many entries it passed, both directions counted as one."""
    total, names = len(found["entries"]), list(found["laws"])
    lines = ["| law | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for law in next(iter(found["laws"].values())):
        counts = ({k: len(v) for k, v in found["laws"][name][law].items() if v} for name in names)
        row = [" ".join([str(total - sum(c.values())), *(f"({n} {k})" for k, n in c.items())]) for c in counts]
        lines.append(f"| {law} | " + " | ".join(row) + " |")
    return lines


def entries(found: dict) -> list[str]:
    """One row an entry, one cell a library: value / log-det / gradient, the worse of both directions."""
    names = [name for name in LIBRARIES if name not in found["missing"]]
    lines = ["| entry | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for entry, cells in found["entries"].items():
        row = []
        for name in names:
            largest = [worst({entry: cells[name]}, quantity) for quantity in ("value", "log_det", "gradient")]
            row.append(" / ".join(text(w[0]) for w in largest if w is not None))
        lines.append(f"| {entry} | " + " | ".join(row) + " |")
    return lines


def open_cells(found: dict) -> dict[tuple[str, str], str]:
    """What does not hold, by library and what was asked, with what was found: all of it from the record."""
    cells: dict[tuple[str, str], str] = {(name, "run"): f"not run ({why})" for name, why in found["missing"].items()}
    for name in (name for name in LIBRARIES if name not in found["missing"]):
        here = {entry: c[name] for entry, c in found["entries"].items()}
        for quantity, limit in (
            ("value", found["units"]),
            ("log_det", found["units"]),
            ("gradient", found["gradient"]),
        ):
            largest = worst(here, quantity)
            if largest is None or largest[0] > limit:
                cells[name, quantity] = "none" if largest is None else f"{text(largest[0])}, more than {text(limit)}"
        lost = [entry for entry, c in here.items() if not c.get("float32", False)]
        if lost:
            cells[name, "float32"] = f"{len(lost)} of {len(here)} entries"
        if name not in found["laws"]:
            cells[name, "laws"] = "not run"
        for law, verdicts in found["laws"].get(name, {}).items():
            if verdicts["fail"]:
                cells[name, law] = f"fails for {len(verdicts['fail'])} of {len(here)} entries"
    return cells


def page() -> str:
    found = json.loads((RESULTS / "backends.json").read_text())
    where = found["machine"]
    lines = [
        "# One definition, every library",
        "",
        "Generated by `python validation/backends.py --tables` from `results/backends.json`. Every map of",
        "`tests/registry.py`, with normal parameters, four rows, both directions, against NumPy in float64.",
        "",
        "Values and log-determinants differ by so many condition units: 1 is what one rounding of each operation may",
        f"move the result by (`refflow.verification`), up to {text(found['units'])} counts as rounding. Gradients are",
        "each library's own (autograd's for NumPy and strict), of a weighted sum of values and log-determinants, in",
        "parameters and points; their difference is relative to the largest entry of each array, or to 1 if that is",
        f"less, and at most {text(found['gradient'])} is asked for. Balls: how far float64 is from what is proven.",
        "Strict is array-api-strict on its second device, which has a GPU's manners.",
        "",
        *summary(found),
        "",
        "## Laws",
        "",
        f"In how many of the {len(found['entries'])} entries each law passes, both directions:",
        "",
        *laws(found),
        "",
        "NumPy and strict promise that a row keeps its bits wherever it stands (`row_independence`). For torch and JAX",
        "the figure is an observation on these few rows: their vector code may compute a row in other instructions.",
        "",
        "## Cells that do not hold, and why",
        "",
        *(
            f"* {name}, {what}: {seen}. Reason: {REASONS[name, what]}."
            for (name, what), seen in open_cells(found).items()
        ),
        "",
        "## Every entry",
        "",
        "Value / log-determinant / gradient, the worse of both directions.",
        "",
        *entries(found),
        "",
        f"NumPy {where['numpy']}, torch {where['torch']}, JAX {where['jax']}, Dask {where['dask']}, CuPy "
        f"{where['cupy-cuda13x']}, array-api-strict {where['array-api-strict']}, python-flint {where['python-flint']}, "
        f"Python {where['python']}, {where['cores']} cores, {where['date']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--tables" not in sys.argv:
        here = [name for name, library in LIBRARIES.items() if not library.missing]
        record(sys.argv[1:] or here)
    (HERE / "backends.md").write_text(page())
