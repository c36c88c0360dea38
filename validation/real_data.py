"""Held-out likelihood on real data: settings chosen on validation rows, test rows looked at once a recorded run.

    python validation/real_data.py choose DATA MODEL "layers=6, dropout=.3" ["..." ...]    validation rows only
    python validation/real_data.py run STUDY [SEED ...]                                     a recorded run, test rows
    python validation/real_data.py floors                                                   Gaussians and mixtures
    python validation/real_data.py --tables                                                 writes real_data.md

Needs the extras `data`, `mixture` and `plot`. Options are keyword arguments of the recipe and of `fit`. Every trial is
a line of `results/real_data_choices.jsonl`, every look at test rows a line of `results/real_data_looks.jsonl`.
"""

import ast
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from real_data_page import page
from recording import HERE, RESULTS, machine, save

import refflow
from refflow import jobs, pictures
from refflow.baselines import gaussian
from refflow.data import load_diamonds, load_shuttle
from refflow.observations import Observations
from refflow.tasks import TASKS, Task

CHOICES, LOOKS = RESULTS / "real_data_choices.jsonl", RESULTS / "real_data_looks.jsonl"
FIT_NAMES = set(refflow.fit.__kwdefaults__)
TABLES = {"diamonds": load_diamonds, "shuttle": load_shuttle}
DRAWS = 10
"""Dequantisation draws that a score of images averages."""

MIXTURES = tuple((k, ridge) for k in (10, 20, 40) for ridge in (1e-3, 1e-4, 1e-6))
"""Numbers of components and ridges among which validation rows choose the mixture of a table."""


@dataclass(frozen=True)
class Study:
    """A recipe on data, with the options that the validation rows chose, and the issue's target."""

    data: str
    model: str
    target: float
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)


TABLE = {
    "layers": 8, "hidden": (64, 64), "activation": "silu", "bins": 16, "linear": "lu", "epochs": 40, "ema": 0.998,
    "batch_size": 512, "learning_rate": 2e-3, "patience": None,
}  # fmt: skip
DIGITS = {"activation": "silu", "dropout": 0.5, "ema": 0.999, "linear": "lu"}
STUDIES = {
    "digits-nsf": Study(
        "digits", "nsf", 1.98, {**DIGITS, "layers": 10, "hidden": (256, 256), "bins": 8, "epochs": 200}
    ),
    "digits-realnvp-lu": Study(
        "digits", "realnvp", 2.14,
        {**DIGITS, "layers": 8, "hidden": (256, 256), "mask": "alternating", "epochs": 250},
    ),
    "diamonds-nsf": Study("diamonds", "nsf", 4.93, TABLE),
    "shuttle-nsf": Study("shuttle", "nsf", 8.5, TABLE),
    "mnist5k-glow": Study(
        "mnist5k", "glow", 1.90,
        {
            "levels": 2, "steps": 6, "hidden": (64, 64), "epochs": 40, "ema": 0.995, "batch_size": 128,
            "learning_rate": 2e-3, "patience": None,
        },
        seeds=(0,),
    ),
}  # fmt: skip
"""Seeds: three where a run takes under five minutes."""


def parse(text: str) -> dict[str, Any]:
    call = ast.parse(f"f({text})", mode="eval").body
    return {k.arg: ast.literal_eval(k.value) for k in call.keywords}


def train(task: Task, model: str, options: dict[str, Any], seed: int) -> tuple[refflow.Flow, Any, float]:
    """The trained flow, its history and the seconds it took."""
    recipe = {k: v for k, v in options.items() if k not in FIT_NAMES}
    fit = {k: v for k, v in options.items() if k in FIT_NAMES}
    began = time.perf_counter()
    flow = jobs.build(task, model, seed, "float32", **recipe)
    flow, history = jobs.train(flow, task, seed=seed, callback=note, **fit)
    return flow, history, time.perf_counter() - began


def note(epoch: refflow.Epoch) -> None:
    if epoch.number % 20 == 0:
        print(f"  epoch {epoch.number}: {epoch.train:.3f}, validation {epoch.validation:.3f} nats", flush=True)


# Scores: bits/dim of images, and for tables nats a row of the protocol's standardised data.


def log_probs(task: Task, flow: refflow.Flow, rows: Observations, draws: int = DRAWS) -> np.ndarray:
    """log p of every row in nats: images averaged over draws of noise, tables with the protocol's one draw of it."""
    if task.name in TABLES:
        x, _, spread = protocol(task.name, rows)
        return flow.log_prob(x.astype(np.float32)).astype(np.float64) + np.log(spread).sum()
    return refflow.score(flow, rows.x, rows.context, draws=draws).log_prob


def protocol(name: str, rows: Observations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows with that draw, and the mean and standard deviation of the rows that train, so drawn."""
    table = TABLES[name]()
    x, cells = table.dequantised(), table.cells()
    part = next(s for s in table.split() if np.array_equal(cells[s], rows.x))
    train = x[table.split()[0]]
    return x[part], train.mean(axis=0), train.std(axis=0)


def summary(task: Task, values: np.ndarray) -> dict[str, float]:
    """Mean, standard error and median over rows, in the task's unit."""
    scale = -1.0 / (task.train.x[0].size * np.log(2.0)) if task.image is not None else 1.0
    found = values * scale
    return {
        "mean": round(float(found.mean()), 4),
        "standard_error": round(float(found.std(ddof=1) / len(found) ** 0.5), 4),
        "median": round(float(np.median(found)), 4),
    }


def choose(data: str, model: str, text: str) -> dict[str, Any]:
    """A trial: what the validation rows say."""
    options = parse(text)
    task = TASKS[data]()
    flow, history, seconds = train(task, model, options, options.pop("seed", 0))
    value = summary(task, log_probs(task, flow, task.validation, draws=4))["mean"]
    return {
        "data": data, "model": model, "choices": text, "validation": value, "best_epoch": history.best_epoch,
        "epochs": len(history.epochs), "seconds": round(seconds, 1),
    }  # fmt: skip


def run(name: str, seed: int) -> dict[str, Any]:
    """A recorded run: validation and test rows."""
    study = STUDIES[name]
    task = TASKS[study.data]()
    flow, history, seconds = train(task, study.model, study.options, seed)
    test = log_probs(task, flow, task.test)
    append(LOOKS, {"date": time.strftime("%Y-%m-%d %H:%M"), "study": name, "seed": seed, **summary(task, test)})
    np.save(scratch() / f"{name}-{seed}.npy", test)
    if task.image is not None and seed == study.seeds[0]:
        drawn = jobs.sample_levels(flow, 100, seed=seed).reshape(100, -1)
        pictures.image_grid(task.test.x[:100].astype(float), drawn, task.image, RESULTS / f"{name}_samples.png")
    return {
        "seed": seed, "test": summary(task, test), "log_spread": log_spread(task),
        "validation": summary(task, log_probs(task, flow, task.validation)), "seconds": round(seconds, 1),
        "epochs": len(history.epochs), "best_epoch": history.best_epoch, "parameters": size(flow),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        "gain": gain(name, task, test), "machine": here(),
    }  # fmt: skip


def here() -> dict[str, Any]:
    return {**machine("scipy", "scikit-learn"), "blas threads": os.environ.get("OPENBLAS_NUM_THREADS", "default")}


def size(flow: refflow.Flow) -> int:
    return sum(a.size for a in refflow.arrays.leaves(refflow.parameters(flow)))


def log_spread(task: Task) -> float | None:
    """sum log std: nats of standardised data minus this are nats of the data as they came."""
    return None if task.name not in TABLES else float(np.log(protocol(task.name, task.test)[2]).sum())


def gain(name: str, task: Task, test: np.ndarray) -> dict[str, float] | None:
    """The mean over rows of the flow's advantage over the mixture, in nats, with half its 95 % interval."""
    file = scratch() / f"{task.name}-mixture.npy"
    if not file.exists():
        return None
    d = test - np.load(file)
    return {"mean": round(float(d.mean()), 4), "half_width_95": round(1.96 * float(d.std(ddof=1)) / len(d) ** 0.5, 4)}


def scratch() -> Path:
    """Where values of single rows are kept between runs of one machine; never committed."""
    folder = HERE.parent / "out"
    folder.mkdir(exist_ok=True)
    return folder


def floors(name: str) -> list[dict[str, Any]]:
    """The Gaussian and the best mixture of Gaussians of the protocol's standardised data."""
    from sklearn.mixture import GaussianMixture

    task = TASKS[name]()
    x, held, test = ((protocol(name, r)[0] - m) / s for r, m, s in ((r, *protocol(name, r)[1:]) for r in parts(task)))
    began = time.perf_counter()
    tries = [GaussianMixture(k, reg_covar=r, random_state=0, max_iter=100).fit(x) for k, r in MIXTURES]
    best = max(tries, key=lambda m: m.score(held))
    seconds = time.perf_counter() - began
    found = best.score_samples(test)
    np.save(scratch() / f"{name}-mixture.npy", found)
    label = f"Gaussian mixture, K = {best.n_components}, ridge {best.reg_covar:g}"
    rows = [("Gaussian", gaussian(x).log_prob(test), 0.0), (label, found, seconds)]
    looks = [{"model": n, "test": summary(task, v), "seconds": round(s, 1)} for n, v, s in rows]
    append(LOOKS, {"date": time.strftime("%Y-%m-%d %H:%M"), "study": f"floors of {name}", "scores": looks})
    return looks


def parts(task: Task) -> tuple[Observations, Observations, Observations]:
    return task.train, task.validation, task.test


def append(path: Path, line: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def record(key: str, name: str, found: list[dict[str, Any]]) -> None:
    """Put the findings into results/real_data.json, in place of older ones of that name."""
    path = RESULTS / "real_data.json"
    known = json.loads(path.read_text()) if path.exists() else {"studies": {}, "floors": {}}
    known[key][name] = found
    save("real_data.json", known)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["choose", data, model, *texts]:
            for text in texts:
                found = choose(data, model, text)
                print(json.dumps(found), flush=True)
                append(CHOICES, found)
        case ["run", name, *seeds]:
            runs = [run(name, int(seed)) for seed in seeds or STUDIES[name].seeds]
            study = STUDIES[name]
            setting = {"data": study.data, "model": study.model, "target": study.target, "options": study.options}
            record("studies", name, [{**setting, "runs": runs}])
        case ["floors"]:
            for name in TABLES:
                record("floors", name, floors(name))
        case ["--tables"]:
            (HERE / "real_data.md").write_text(page())
        case _:
            raise SystemExit(__doc__)
