"""The digits, as the README promises them: three seeds of `refflow train digits`, with time and peak memory.

    python validation/digits.py            runs the command three times (about ten minutes) and writes the tables
    python validation/digits.py --tables   writes the tables from the recorded runs

Every run looks at the test rows once; `results/digits_test_looks.jsonl` logs each look, this script's and any other.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SEEDS = (0, 1, 2)


def run(seed: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = f"-m refflow train digits --seed {seed} --json --quiet --out".split()
        done = subprocess.run([sys.executable, *command, folder], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        found["wall_seconds"] = round(time.perf_counter() - began, 1)
        found["seed"] = seed
        with (RESULTS / "digits_test_looks.jsonl").open("a") as stream:
            stream.write((Path(folder) / "test-looks.jsonl").read_text())
        if seed == SEEDS[0]:
            (RESULTS / "digits_samples.png").write_bytes((Path(folder) / "samples.png").read_bytes())
            (RESULTS / "digits_curve.png").write_bytes((Path(folder) / "curve.png").read_bytes())
    del found["files"]
    return found


def record() -> None:
    runs = [run(seed) for seed in SEEDS]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    machine = {
        "python": platform.python_version(), "numpy": version("numpy"), "scipy": version("scipy"),
        "autograd": version("autograd"), "machine": platform.machine(), "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    (RESULTS / "digits.json").write_text(json.dumps({"machine": machine, "runs": runs}, indent=1) + "\n")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def short() -> list[str]:
    """The table of the README."""
    runs = json.loads((RESULTS / "digits.json").read_text())["runs"]
    lines = ["| model | test bits/dim, mean of 3 seeds |", "| --- | --- |"]
    for rows in zip(*(r["scores"] for r in runs), strict=True):
        lines.append(f"| {rows[0]['model']} | {mean([row['test'] for row in rows]):.3f} |")
    return lines


def table() -> list[str]:
    found = json.loads((RESULTS / "digits.json").read_text())
    runs, machine = found["runs"], found["machine"]
    names = [row["model"] for row in runs[0]["scores"]]
    lines = [
        "| model | test bits/dim, mean of 3 seeds | single seeds | +- s.e. over rows | seconds |",
        "| --- " * 5 + "|",
    ]
    for i, name in enumerate(names):
        rows = [r["scores"][i] for r in runs]
        tests = [row["test"] for row in rows]
        seconds = mean([row["seconds"] for row in rows])
        lines.append(
            f"| {name} | {mean(tests):.3f} | {', '.join(f'{t:.3f}' for t in tests)} | "
            f"{mean([row['standard_error'] for row in rows]):.3f} | {seconds:.0f} |"
        )
    gains = [r["paired_advantage_of_flow"][-1] for r in runs]
    lines += [
        "",
        "Paired per-row advantage over the mixture, with 95 % interval: "
        + "; ".join(f"{g['mean']:.3f} +- {g['half_width_95']:.3f}" for g in gains)
        + f". Worst round-trip error {max(r['round_trip_error']['float64'] for r in runs):.1e} in float64 and "
        f"{max(r['round_trip_error']['float32'] for r in runs):.1e} in float32. The whole command took "
        f"{max(r['wall_seconds'] for r in runs):.0f} s and {max(r['peak_megabytes'] for r in runs)} MB at most.",
        "",
        f"1,293 training, 144 validation, 360 test rows; mean of log p over 10 dequantisation draws. Measured "
        f"{machine['date']} on 2 cores with Python {machine['python']}, NumPy {machine['numpy']}.",
    ]
    return lines


def exactness() -> list[str]:
    """What `digits_exact.py` found."""
    e = json.loads((RESULTS / "digits_exact.json").read_text())
    laws = {"round_trip": "round trip", "antisymmetry": "log-determinants of both directions"}
    laws["log_det_complex_step"] = "log-determinant against the complex step"
    lines = [
        f"In float64, on all {e['rows']} test rows, dequantised once (`python validation/digits_exact.py`):",
        "",
        "| law | 99th percentile of the error, condition units (16 pass) | rows judged |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {text} | {e[k]['condition_units']:.2g} | {e[k]['judged']:.0%} |" for k, text in laws.items()]
    gradient = e["gradient"]
    return [
        *lines,
        "",
        f"Largest round-trip error in absolute terms: {e['round_trip']['absolute']:.1e}. Gradient of the mean "
        f"log-likelihood in all parameters against central differences along {gradient['directions']} random "
        f"directions: largest relative difference {gradient['worst']:.1e}, median {gradient['median']:.1e}.",
    ]


def page() -> str:
    looks = len((RESULTS / "digits_test_looks.jsonl").read_text().splitlines())
    text = [
        "# Digits",
        "",
        "Generated by `python validation/digits.py --tables` from `results/digits.json` and",
        "`results/digits_exact.json`.",
        "",
        *table(),
        "",
        *exactness(),
        "",
        f"The test rows have been looked at {looks} times in all, no choice was made from them:",
        "`results/digits_test_looks.jsonl`. Besides, every run of this repository's CI prints the test score of a flow",
        "trained for three epochs.",
        "",
        "![samples](results/digits_samples.png)",
        "",
        "![curve](results/digits_curve.png)",
    ]
    return "\n".join(text) + "\n"


def tables() -> None:
    (HERE / "digits.md").write_text(page())
    readme = HERE.parent / "README.md"
    block = "<!-- digits: generated by validation/digits.py -->\n" + "\n".join(short()) + "\n<!-- end -->"
    readme.write_text(re.sub(r"<!-- digits: .*?<!-- end -->", lambda _: block, readme.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    if "--tables" not in sys.argv:
        record()
    tables()
