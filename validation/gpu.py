"""refflow on a GPU: tests, accuracy, training, speed and memory, in one call that ends within its budget.

    python validation/gpu.py                 on a machine with a CUDA device: writes results/gpu.json
    python validation/gpu.py --dry-run       NumPy in CuPy's place and small sizes: writes results/gpu_dry_run.json
    python validation/gpu.py --tables        writes gpu.md from what has been recorded

`--budget` is in seconds. Every section is saved when it ends, however it ends: an error, or the time running out, is
recorded with what was found before it. `--only accuracy,memory` runs some sections and keeps the others of the file,
each of which carries its own commit and date. Needs numpy, scipy, autograd, array-api-compat, array-api-strict, pytest,
hypothesis, safetensors, typer and cupy; torch and JAX compete if they are here and see the GPU. Where the files came
without their history, REFFLOW_COMMIT names the commit.
"""

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

START = time.monotonic()
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the card from the others
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
import test_arrays as table
from gpu_steps import memory, timings
from gpu_tables import write_tables
from matrix import LIBRARIES, differences, drawn, gradient_difference
from recording import RESULTS, commit, machine, save
from registry import REGISTRY
from workloads import W1, W2, W4, Workload

import refflow
from refflow import arrays as xp
from refflow import jobs
from refflow.tasks import digits_task
from refflow.verification import turned

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Sizes:
    """How much of everything: the run on a GPU, and the dry run."""

    name: str
    library: str
    device: str
    epochs: int
    model: dict
    seconds: float
    """For the rounds of one workload."""
    timed: tuple[tuple[str, str, Workload], ...]
    compiled: dict


MILLION = replace(W4, name="1M rows", rows=1_000_000)
GPU = Sizes(
    "gpu", "cupy", "cuda", 20, {}, 8.0,
    (("W1 step", "step", W1), ("W2 step", "step", W2), ("W4 log_prob", "log_prob", W4),
     ("1M rows log_prob", "log_prob", MILLION)),
    {"mode": "reduce-overhead"},
)  # fmt: skip
SMALL = {"layers": 2, "hidden": (8, 8)}
DRY = Sizes(
    "gpu_dry_run", "numpy", "cpu", 2, SMALL, 0.5,
    tuple((f"{w.name} {task}", task, replace(w, rows=64, **SMALL)) for w, task in ((W1, "step"), (W4, "log_prob"))),
    {"backend": "eager"},
)  # fmt: skip


# Sections. Each fills a dict, which is saved whatever happens.


def describe(found: dict, sizes: Sizes) -> None:
    found.update(machine("scipy", "array-api-compat", "cupy-cuda13x", "cupy-cuda12x", "torch", "jax", "pytest"))
    found["GPU"] = None
    if sizes.library == "cupy":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        found["GPU"] = properties["name"].decode()
        found["compute capability"] = f"{properties['major']}.{properties['minor']}"
        found["CUDA runtime"] = cupy.cuda.runtime.runtimeGetVersion()
        found["CUDA driver"] = cupy.cuda.runtime.driverGetVersion()
        asked = "nvidia-smi --query-gpu=driver_version --format=csv,noheader".split()
        found["driver"] = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


OUTCOME = re.compile(r"^(tests/.*) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")


def tests(found: dict, sizes: Sizes) -> None:
    """What `pytest -m gpu` says, line by line, so that a run which is cut off still counts."""
    command = [sys.executable, "-m", "pytest", "tests", "-o", "addopts=", "-m", "gpu", "-v", "--no-header",
               "--tb=short", "-p", "no:cacheprovider", "--continue-on-collection-errors"]  # fmt: skip
    with tempfile.TemporaryFile("w+") as stream:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            found["exit code"] = done.returncode
        finally:
            stream.seek(0)
            lines = stream.read().splitlines()
            outcomes = [match.groups() for line in lines if (match := OUTCOME.match(line))]
            for word in ("PASSED", "FAILED", "ERROR", "SKIPPED"):
                found[word.lower()] = sum(outcome == word for _, outcome in outcomes)
            found["failures"] = [name for name, outcome in outcomes if outcome in ("FAILED", "ERROR")]
            found["not collected"] = [line for line in lines if line.startswith("ERROR tests/") and "::" not in line]
            found["reasons"] = [line for line in lines if line.startswith("E  ")][:60]
            found["last line"] = lines[-1] if lines else ""


def accuracy(found: dict, sizes: Sizes) -> None:
    """Every operation and its derivative, every map and its gradient, against NumPy in float64.

    Operations in eps of the dtype times the scale of `tests/test_arrays.py`; maps in condition units u kappa, their
    gradients relative to the largest element of each leaf.
    """
    found["operations"], found["maps"] = {}, {}
    for case in table.CASES:
        for dtype in DTYPES:
            worst = found["operations"].setdefault(case.name, {}).setdefault(dtype, {"value": 0.0, "gradient": 0.0})
            for name, units in operation_units(case, sizes, dtype).items():
                worst[name] = largest([worst[name], units])
    for entry in REGISTRY:
        found["maps"][entry.name] = {dtype: map_units(entry, sizes, dtype) for dtype in DTYPES}


def operation_units(case, sizes: Sizes, dtype: str) -> dict:
    case, library = table.in_single(case), LIBRARIES[sizes.library]
    there = table.Elsewhere(
        library.name, library.put, lambda a, dtype: (xp.library(a), a.dtype) == (library.name, dtype)
    )
    got, got_gradient = table.elsewhere(case, there, np.dtype(dtype))
    info = np.finfo(dtype)
    eps, tiny = max(float(info.eps), table.coarsest(case)), float(info.smallest_normal)
    want = table.flat(table.parts(case.reference(*case.inputs)))
    want_gradient = table.flat(table.gradient(case, case.inputs)[1])
    scale = np.abs(want) + table.conditioning(case)
    return {
        "value": largest(np.abs(got - want) / (eps * scale + tiny)),
        "gradient": largest(
            np.abs(got_gradient - want_gradient) / (eps * table.gradient_scale(case).max(initial=0) + tiny)
        ),
    }


def map_units(entry, sizes: Sizes, dtype: str) -> dict:
    f, x, y, context = drawn(entry)
    library, found = LIBRARIES[sizes.library], {}
    for direction, g, points in (("forward", f, x), ("inverse", turned(f), y)):
        value, log_det = differences(library, g, points, context, dtype)
        difference = gradient_difference(library, g, points, context, dtype)
        found[direction] = {"value": value, "log_det": log_det, "gradient": difference}
    return found


def largest(errors) -> float:
    """The largest of them, NaN if one is, which Python's max may pass over."""
    return float(np.max(errors, initial=0.0))


def training(found: dict, sizes: Sizes) -> None:
    """Held-out bits a dimension of the digits and nats of plane data, trained from one start on both devices.

    Validation rows only: the digits' test rows are not looked at.
    """
    task, options = digits_task(), {"epochs": sizes.epochs, "seed": 0}
    x, held = crescents(2000, 0), crescents(1000, 1)
    for dtype in DTYPES:
        flow = refflow.realnvp(2, **{"hidden": (64, 64), **sizes.model}, activation="tanh", seed=0, dtype=dtype)
        run = found[f"plane, {dtype}"] = {"unit": "nats", **options}
        both_devices(run, sizes, flow, lambda flow: refflow.fit(flow, x, validation=(held,), **options))
    flow = jobs.build(task, "realnvp", 0, "float32", **sizes.model)
    run = found["digits, float32"] = {"unit": "bits/dim", **options}
    both_devices(run, sizes, flow, lambda flow: jobs.train(flow, task, **options))


def both_devices(run: dict, sizes: Sizes, flow: refflow.Flow, fit) -> None:
    """What a training run reached on each device, and the GPU's minus the CPU's."""
    for name, library in (("GPU", sizes.library), ("CPU", "numpy")):
        began = time.perf_counter()
        _, history = fit(flow.to(library))
        losses = [e.validation for e in history.epochs]
        score = [history.bits_per_dim(loss) if run["unit"] == "bits/dim" else -loss for loss in losses]
        run[name] = {
            "first epoch": score[0], "kept": score[history.best_epoch - 1], "kept epoch": history.best_epoch,
            "seconds": round(time.perf_counter() - began, 2),
        }  # fmt: skip
    run["difference"] = {key: run["GPU"][key] - run["CPU"][key] for key in ("first epoch", "kept")}


def crescents(n: int, seed: int) -> np.ndarray:
    """Two interleaved half circles with noise of 0.1."""
    rng = np.random.default_rng(seed)
    angle, side = rng.uniform(0.0, math.pi, n), rng.choice((-1.0, 1.0), n)
    x = np.stack([np.cos(angle) * side + 0.5 * side, np.sin(angle) * side - 0.25 * side], axis=-1)
    return x + 0.1 * rng.standard_normal(x.shape)


SECTIONS = {
    "machine": (5, describe), "tests": (200, tests), "accuracy": (110, accuracy), "training": (90, training),
    "timings": (120, timings), "memory": (15, memory),
}  # fmt: skip
"""Each with its share of the time that is left when its turn comes: what one does not need goes to those after it."""


# The run.


class OutOfTime(BaseException):
    """Not an Exception: no section may take it for a contender's error."""


@contextmanager
def at_most(seconds: float):
    def ring(signum, frame):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def run_section(fill, sizes: Sizes, seconds: float) -> dict:
    """The section, its status and, where it did not end by itself, what ended it."""
    found, began, error = {}, time.perf_counter(), None
    if seconds < 1.0:
        return {"status": "skipped: no time left"}
    try:
        with at_most(seconds):
            fill(found, sizes)
        status = "complete"
    except OutOfTime:
        status = f"cut off after {seconds:.0f} s"
    except Exception as failure:
        status, error = "failed", f"{type(failure).__name__}: {failure}"[:2000]
    stamp = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "took": round(time.perf_counter() - began, 1)}
    return {"status": status, **({"error": error} if error else {}), **stamp, "found": found}


def run(sizes: Sizes, budget: float, names: list[str]) -> None:
    end = START + budget
    path = RESULTS / f"{sizes.name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found["dry run"] = sizes is DRY
    for k, name in enumerate(names):
        share, fill = SECTIONS[name]
        rest = sum(SECTIONS[later][0] for later in names[k:])
        found[name] = run_section(fill, sizes, (end - time.monotonic()) * share / rest)
        save(path.name, found)
        print(f"{name}: {found[name]['status']} {found[name].get('error', '')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="NumPy in CuPy's place, small sizes")
    parser.add_argument("--tables", action="store_true", help="write gpu.md from the recorded runs, measure nothing")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which the run ends")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to run, the others stay as recorded")
    options = parser.parse_args()
    if not options.tables:
        run(DRY if options.dry_run else GPU, options.budget, options.only.split(","))
    write_tables()


if __name__ == "__main__":
    main()
