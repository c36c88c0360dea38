"""The kit over the public transforms of released packages: writes results/peers.json and peers.md.

    python validation/peers/run.py                  asks every item of the catalogue at level deep, writes both
    python validation/peers/run.py PACKAGE [NAME]   asks those whose name contains NAME, and puts them into the record
    python validation/peers/run.py --tables         writes the page from the recorded run

`catalogue.py` builds the objects; `judgements.py` says of every failure and warning, in a sentence, whether it is a
fault or a limit that the package documents. One that it does not know is printed as "not judged".
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import numpy as np
from catalogue import PACKAGES, items_of
from page import write
from recording import RESULTS, commit, machine, save

import refflow
from refflow.verification.shrink import shrink

LEVEL = "deep"
SHRINKING = 5.0
"""Seconds given to finding a smaller input for one failure."""
DISTRIBUTIONS = (
    "nflows", "normflows", "zuko", "FrEIA", "torch", "pyro-ppl", "flowjax", "distrax", "tfp-nightly", "scikit-learn",
    "jax",
)  # fmt: skip
RECORD = RESULTS / "peers.json"


@contextmanager
def wide(package: str) -> Iterator[None]:
    """Objects that take their precision from where they are built are built in float64; the kit casts them to float32.

    The other way round, a rotation or an inverse that was computed in float32 would keep its errors in the cast.
    Modules of torch are built in float32, as everyone does, and cast to float64 by the kit.
    """
    if package in ("flowjax", "distrax", "tfp"):
        import jax

        with jax.enable_x64(True):
            yield
    elif package in ("torch", "zuko"):
        import torch

        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
    else:
        yield


def ask(package: str, i: int) -> dict:
    """One item as a row of the record."""
    warnings.simplefilter("ignore")
    item = items_of(package)[i]
    began = time.perf_counter()
    row = {"package": package, "name": item.name, "remark": item.remark, "kit": commit()[:7]}
    try:
        report = verified(item)
        found = [told(item, outcome) for outcome in report.of("fail", "warn")]
    except Exception as error:  # the kit refuses it, or the package cannot build it
        return {**row, "refused": f"{type(error).__name__}: {error}", "seconds": round(time.perf_counter() - began, 1)}
    return {
        **row, "counts": report.counts, "error": report.error, "remarks": list(report.remarks), "found": found,
        "undecided": [outcome.name for outcome in report.of("inconclusive", "blocked")],
        "seconds": round(report.seconds, 1),
    }  # fmt: skip


def verified(item, **more) -> refflow.verification.Report:
    with wide(item.package):
        target = item.build()
    return refflow.verify(target, **item.options, **more, level=LEVEL, name=item.name)


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
        again = verified(item, only=[outcome.id], points={worst["side"]: row[None], **context})
        return any(found.name == outcome.name and found.status == "fail" for found in again.checks)

    return {**worst, "x": shrink(fails, np.asarray(worst["x"], dtype=float), tries=60).tolist()}


def measure(package: str = "", part: str = "") -> None:
    """Ask the chosen items, two at a time, each into the record as it is known."""
    chosen = [(p, i) for p in PACKAGES if package in ("", p) for i, item in enumerate(items_of(p)) if part in item.name]
    with get_context("spawn").Pool(2, maxtasksperchild=25) as pool:
        for row in pool.imap_unordered(ask_one, chosen):
            say(row)
            merge(row)


def ask_one(one: tuple[str, int]) -> dict:
    return ask(*one)


def merge(row: dict) -> None:
    """The row in the record, in place of its last one."""
    kept = json.loads(RECORD.read_text())["rows"] if RECORD.exists() else []
    kept = [old for old in kept if (old["package"], old["name"]) != (row["package"], row["name"])]
    rows = sorted([*kept, row], key=lambda row: (PACKAGES.index(row["package"]), row["name"]))
    save("peers.json", {"machine": machine(*DISTRIBUTIONS), "level": LEVEL, "rows": rows}, "rows")


def say(row: dict) -> None:
    """A line an item, and one for each failure."""
    said = row.get("refused") or row["error"] or row["counts"]
    print(f"{row['package']}: {row['name']}: {said} ({row['seconds']:.0f} s)", flush=True)
    for found in row.get("found", []):
        if found["status"] == "fail":
            print(f"    {found['check']} {found['explanation'][:300]} | {found['hint']}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["--tables"]:
        measure(*sys.argv[1:3])
    write()
