"""What every recorded run shares: where it ran, how contenders take turns, how results reach `results/`."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def machine(*packages: str) -> dict:
    """Python, processor, packages, date and commit of this run."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    for package in ("numpy", "autograd", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {**found, "commit": commit(), "date": time.strftime("%Y-%m-%d")}


def commit() -> str:
    """The commit of this checkout; what REFFLOW_COMMIT says where the files came without their history, else ''."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    except OSError:
        return os.environ.get("REFFLOW_COMMIT", "")
    return asked.stdout.strip() or os.environ.get("REFFLOW_COMMIT", "")


def save(name: str, found: dict, rows: str = "") -> None:
    """Write `results/name`, whole or not at all; the items of the list `rows`, where one is named, a line each."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / name
    partial = target.with_suffix(".partial")
    text = json.dumps({**found, rows: "ROWS"} if rows else found, indent=1)
    if rows:
        text = text.replace('"ROWS"', "[\n" + ",\n".join(map(json.dumps, found[rows])) + "\n ]")
    partial.write_text(text + "\n")
    partial.replace(target)


def interleaved(contenders: dict[str, Callable[[], object]], seconds: float, calls: int = 1) -> dict[str, list[float]]:
    """Seconds a call of each contender, which take turns, in rounds, for about that long and two rounds at least; the
    order alternates.

    A call must wait for its own result. Everyone runs three times before the clock starts.
    """
    for call in contenders.values():
        for _ in range(3):
            call()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names, end = list(contenders), time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[names[0]]) < 2:
        for name in names:
            call, began = contenders[name], time.perf_counter()
            for _ in range(calls):
                call()
            found[name].append((time.perf_counter() - began) / calls)
        names.reverse()
    return found


def ratio(times: list[float], of: list[float]) -> dict:
    """The median over rounds of a / b, with its quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(times, of, strict=True)], n=4)
    return {"median": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)], "rounds": len(times)}
