"""The kit over the public transforms of released packages: writes results/peers.json and peers.md.

    python validation/peers.py                     asks every item of the catalogue at level deep (an hour), writes both
    python validation/peers.py run PACKAGE [NAME]  asks some, prints what fails, and puts them into the record
    python validation/peers.py --tables            writes the page from the recorded run

`peers_catalogue.py` builds the objects; `peers_judgements.py` says of every failure and warning, in a sentence, whether
it is a fault or a limit that the package documents. One that it does not know is printed as "not judged".
"""

import json
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
from peers_catalogue import PACKAGES, items_of
from recording import RESULTS, machine, save

import refflow
from refflow.verification.shrink import shrink

LEVEL = "deep"
SHRINKING = 20.0
"""Seconds given to finding a smaller input for one failure."""
DISTRIBUTIONS = (
    "nflows", "normflows", "zuko", "FrEIA", "torch", "pyro-ppl", "flowjax", "distrax", "tfp-nightly", "scikit-learn",
    "jax",
)  # fmt: skip


def ask(package: str, i: int) -> dict:
    """One item as a row of the record."""
    warnings.simplefilter("ignore")
    item = items_of(package)[i]
    began = time.perf_counter()
    row = {"package": package, "name": item.name, "remark": item.remark}
    try:
        report = refflow.verify(item.build(), **item.options, level=LEVEL, name=item.name)
    except Exception as error:  # the kit refuses it, or the package cannot build it
        return {**row, "refused": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - began}
    return {
        **row, "counts": report.counts, "error": report.error, "remarks": list(report.remarks),
        "found": [told(item, outcome) for outcome in report.of("fail", "warn")],
        "undecided": [outcome.name for outcome in report.of("inconclusive", "blocked")],
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def told(item, outcome) -> dict:
    """A failure or a warning, with the smallest input found that shows it."""
    row = {
        "check": outcome.name, "status": outcome.status, "statistic": outcome.statistic,
        "tolerance": outcome.tolerance, "explanation": outcome.explanation, "hint": outcome.hint,
        "input": outcome.worst_input,
    }  # fmt: skip
    if outcome.status == "fail" and outcome.worst_input and outcome.worst_input.get("side"):
        row["input"] = smallest(item, outcome)
    return row


def smallest(item, outcome) -> dict:
    """The worst input, made simpler as long as the same check still fails at it."""
    worst, end = outcome.worst_input, time.monotonic() + SHRINKING
    context = {} if worst["context"] is None else {"context": np.asarray(worst["context"])[None]}

    def fails(row: np.ndarray) -> bool:
        if time.monotonic() > end:
            return False
        again = refflow.verify(
            item.build(), **item.options, level=LEVEL, only=[outcome.id], points={worst["side"]: row[None], **context}
        )
        return any(found.name == outcome.name and found.status == "fail" for found in again.checks)

    return {**worst, "x": shrink(fails, np.asarray(worst["x"], dtype=float), tries=60).tolist()}


def measure(package: str = "", part: str = "") -> None:
    """Ask the chosen items, two at a time, and merge them into the record."""
    chosen = [(p, i) for p in PACKAGES if package in ("", p) for i, item in enumerate(items_of(p)) if part in item.name]
    rows = []
    with ProcessPoolExecutor(2, max_tasks_per_child=25) as pool:
        for row in pool.map(ask, *zip(*chosen, strict=True)):
            rows.append(row)
            say(row)
    record = RESULTS / "peers.json"
    old = json.loads(record.read_text())["rows"] if record.exists() else []
    asked = {(row["package"], row["name"]) for row in rows}
    kept = [row for row in old if (row["package"], row["name"]) not in asked]
    merged = sorted(kept + rows, key=lambda row: (PACKAGES.index(row["package"]), row["name"]))
    save("peers.json", {"machine": machine(*DISTRIBUTIONS), "level": LEVEL, "rows": merged}, "rows")


def say(row: dict) -> None:
    """A line an item, and one for each failure."""
    said = row.get("refused") or row["error"] or row["counts"]
    print(f"{row['package']}: {row['name']}: {said} ({row['seconds']:.0f} s)")
    for found in row.get("found", []):
        if found["status"] == "fail":
            print(f"    {found['check']} {found['explanation'][:300]} | {found['hint']}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["--tables"]:
        measure(*sys.argv[2:4])
    if len(sys.argv) < 3:
        from peers_page import write

        write()
