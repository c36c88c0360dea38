"""Held-out likelihood on real data: choices made on validation rows, and the test rows looked at once a recorded run.

    python validation/real_data.py choose DATA MODEL "layers=6, dropout=.3" ["..." ...]    validation rows only
    python validation/real_data.py run STUDY [SEED ...]                                     a recorded run, test rows
    python validation/real_data.py                                                          writes the page

Needs the extra `data`. Every trial is a line of `results/real_data_choices.jsonl`, every look at test rows a line of
`results/real_data_looks.jsonl`. Options are keyword arguments of the recipe and of `fit`.
"""

import ast
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recording import RESULTS

import refflow
from refflow import jobs
from refflow.data import load_diamonds, load_shuttle
from refflow.tasks import TASKS, Task

CHOICES, LOOKS = RESULTS / "real_data_choices.jsonl", RESULTS / "real_data_looks.jsonl"
FIT_NAMES = set(refflow.fit.__kwdefaults__)
TABLES = {"diamonds": load_diamonds, "shuttle": load_shuttle}


@dataclass(frozen=True)
class Study:
    """A recipe on data, with the options that the validation rows chose, and what the issue asks of it."""

    data: str
    model: str
    target: float
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)


STUDIES: dict[str, Study] = {}


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


def held_out(task: Task, flow: refflow.Flow, rows: Any, draws: int = 10) -> tuple[float, float]:
    """Mean and standard error over rows: bits/dim where all is quantised at step 1, else nats of standardised data."""
    if task.name in TABLES:
        values = protocol_log_prob(task.name, flow, rows)
        return float(np.mean(values)), float(np.std(values) / len(values) ** 0.5)
    score = refflow.score(flow, rows.x, rows.context, draws=draws)
    return score.bits_per_dim, score.bits_standard_error


def protocol_log_prob(name: str, flow: refflow.Flow, rows: Any) -> np.ndarray:
    """log p of the rows with the protocol's draw of noise, as a density of data that training rows standardise."""
    x, _, spread = protocol(name)
    part = protocol_part(name, rows)
    values = flow.log_prob(x[part].astype(np.float32)).astype(np.float64)
    return values + np.log(spread).sum()


def protocol(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All rows with that draw, and the mean and standard deviation of those that train."""
    table = TABLES[name]()
    x = table.dequantised()
    train = x[table.split()[0]]
    return x, train.mean(axis=0), train.std(axis=0)


def protocol_part(name: str, rows: Any) -> slice:
    table = TABLES[name]()
    return next(
        s for s in table.split() if len(table.rows[s]) == len(rows) and np.array_equal(table.cells()[s], rows.x)
    )


def choose(data: str, model: str, text: str) -> dict[str, Any]:
    options = parse(text)
    seed = options.pop("seed", 0)
    task = TASKS[data]()
    flow, history, seconds = train(task, model, options, seed)
    value, _ = held_out(task, flow, task.validation, draws=4)
    return {
        "data": data, "model": model, "choices": text, "validation": round(value, 4), "best_epoch": history.best_epoch,
        "epochs": len(history.epochs), "seconds": round(seconds, 1),
    }  # fmt: skip


def append(path: Path, line: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["choose", data, model, *texts]:
            for text in texts:
                found = choose(data, model, text)
                print(json.dumps(found), flush=True)
                append(CHOICES, found)
