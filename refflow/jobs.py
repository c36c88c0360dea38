"""The main job: from a task to a trained flow, its score beside the baselines, and pictures.

Choices are made on training and validation rows; the test rows are looked at once, by `evaluate`, and `log_look`
logs it.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow import pictures
from refflow.baselines import Baseline, gaussian, mixture
from refflow.bijections import Logit, Reshape
from refflow.errors import DataError, MissingExtraError
from refflow.flow import Flow
from refflow.modules import first_array, map_arrays
from refflow.recipes import glow, iaf, initialize, maf, nice, nsf, nsf_ar, realnvp, realnvp_image
from refflow.scoring import Score, host_dtype, mean_log_prob, score, summary
from refflow.storage import write_atomic
from refflow.streams import json_text
from refflow.tasks import Task, context_preprocessing, preprocessing, real_values
from refflow.training import History, fit

RECIPES: dict[str, Callable[..., Flow]] = {
    "realnvp": realnvp, "nice": nice, "nsf": nsf, "maf": maf, "iaf": iaf, "nsf_ar": nsf_ar,
}  # fmt: skip

IMAGE_RECIPES: dict[str, Callable[..., Flow]] = {"realnvp-image": realnvp_image, "glow": glow}
"""Those that take the shape of an image for a number of dimensions."""

DEPTH = {"realnvp-image": "couplings", "glow": "steps"}
"""What `layers` are called there."""

WARM_UP_ROWS = 512
"""How many rows at most an image model's ActNorms are set from."""

MIXTURE_DIM = 256
"""A mixture of Gaussians with full covariances takes too long in more dimensions."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    score: Score
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a job found: the flow, its history, the table and the worst round-trip errors."""

    task: Task
    flow: Flow
    history: History
    rows: tuple[Row, ...]
    round_trip: dict[str, float]
    """Worst errors |decode(encode(x)) - x| by dtype: float64, and the flow's own."""
    remarks: tuple[str, ...]

    @property
    def bits(self) -> bool:
        """Whether scores are in bits per dimension: all coordinates quantised."""
        return self.rows[0].score.quantised

    def paired(self) -> list[tuple[str, float, float]]:
        """For every baseline, the mean per-row advantage of the flow and half its 95 % interval (normal
        approximation), in the table's unit, positive where the flow is better."""
        flow, *others = self.rows
        unit = flow.score.dim * float(np.log(2.0)) if self.bits else 1.0
        found = []
        for row in others:
            gain = (flow.score.log_prob - row.score.log_prob) / unit
            half = 1.96 * float(np.std(gain, ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
            found.append((row.name, float(np.mean(gain)), half))
        return found


def build(task: Task, model: str, seed: int, dtype: str, **choices: Any) -> Flow:
    """An untrained flow of the recipe for the task's data."""
    if model in IMAGE_RECIPES:
        return _build_image(task, model, seed, dtype, **choices)
    recipe = RECIPES[model]
    known = inspect.signature(recipe).parameters
    options = {**{k: v for k, v in task.choices["model"].items() if k in known}, **choices}
    dim = task.train.x.shape[1]
    return recipe(
        dim, **options, preprocessing=preprocessing(task, dtype, seed), dequantization=task.dequantization,
        context_dim=0 if task.train.context is None else task.train.context.shape[1],
        context_preprocessing=context_preprocessing(task, dtype), seed=seed, dtype=dtype,
    )  # fmt: skip


def _build_image(task: Task, model: str, seed: int, dtype: str, **choices: Any) -> Flow:
    """The same for images: rows become images (H, W, C) first, and the ActNorms are set from training rows."""
    if task.image is None:
        raise DataError(f"expected images for {model}, got rows without a height and a width")
    event, maps = task.train.x.shape[1:], preprocessing(task, dtype, seed)
    if event != task.image:
        maps.append(Reshape(event, task.image))
    recipe = IMAGE_RECIPES[model]
    known = inspect.signature(recipe).parameters
    options = {k: v for k, v in task.choices["model"].items() if k in known}
    options.update({DEPTH[model] if k == "layers" else k: v for k, v in choices.items()})
    flow = recipe(
        task.image, **options, preprocessing=maps, dequantization=task.dequantization, seed=seed, dtype=dtype
    )  # fmt: skip
    rows = task.train.rows(slice(0, WARM_UP_ROWS))
    return initialize(flow, real_values(task, rows, np.random.default_rng((seed, 7)), np.dtype(dtype)))


def plan(task: Task, model: str, choices: dict[str, Any], options: dict[str, Any]) -> str:
    """One line of what a run is about to do: sizes of the model and of training, chosen or by default."""
    recipe = {**RECIPES, **IMAGE_RECIPES}[model]
    depth = DEPTH.get(model, "layers")
    asked = {depth if k == "layers" else k: v for k, v in choices.items()}
    sizes = _defaults(recipe) | {k: v for k, v in task.choices["model"].items() if k in _defaults(recipe)} | asked
    steps = _defaults(fit) | task.choices["fit"] | options
    shown = {k: sizes[k] for k in (depth, "hidden", "dropout")}
    shown |= {k: steps[k] for k in ("epochs", "batch_size", "learning_rate", "ema", "patience")}
    text = ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in shown.items())
    return f"{model} on {len(task.train)} rows: {text}"


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def train(flow: Flow, task: Task, *, seed: int, **options: Any) -> tuple[Flow, History]:
    """Fit the flow to the task's training rows with the task's choices, changed by the options."""
    v = task.validation
    held = (v.x,) if v.context is None else (v.x, v.context)
    return fit(
        flow, task.train.x, context=task.train.context, validation=held, seed=seed, **{**task.choices["fit"], **options}
    )


def description(task: Task, model: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """How a flow is being trained, for its file's metadata: no times, so that equal runs write equal files."""
    return {
        "data": task.name, "columns": list(task.columns), "context": list(task.context_columns), "recipe": model,
        "seed": seed, "rows": rows_of(task), "fit": {**task.choices["fit"], **options},
    }  # fmt: skip


def outcome_of_training(history: History) -> dict[str, Any]:
    """How the training went, for the same place."""
    held = {e.number: e.validation for e in history.epochs}
    loss = held.get(history.best_epoch)
    return {
        "epochs": len(history.epochs), "best_epoch": history.best_epoch, "stopped": history.stopped,
        "validation_nats": None if loss is None or not np.isfinite(loss) else -loss,
    }  # fmt: skip


def rows_of(task: Task) -> list[int]:
    """The numbers of training, validation and test rows."""
    return [len(task.train), len(task.validation), len(task.test)]


def evaluate(task: Task, flow: Flow, history: History, seconds: float, model: str, draws: int, seed: int) -> Outcome:
    """Score the test rows under the flow and the baselines, with the same noise for all."""
    test = task.test
    began = time.perf_counter()
    rows = [Row(model, score(flow, test.x, test.context, draws=draws, seed=seed), seconds)]
    remarks = list(task.remarks)
    for build_baseline in baselines(task, seed):
        began = time.perf_counter()
        try:
            found = build_baseline()
        except DataError as error:
            remarks.append(f"no Gaussian baseline: {error}")
            continue
        if found is None:
            known = task.train.x[0].size > MIXTURE_DIM
            why = f"more than {MIXTURE_DIM} dimensions" if known else "pip install 'refflow[mixture]'"
            remarks.append(f"no Gaussian mixture beside the flow: {why}")
            continue
        rows.append(Row(found.name, baseline_score(task, found, draws, seed), time.perf_counter() - began))
    errors = {d: round_trip_error(task, flow, seed, d) for d in dict.fromkeys(("float64", str(host_dtype(flow))))}
    return Outcome(task, flow, history, tuple(rows), errors, tuple(remarks))


def baselines(task: Task, seed: int) -> list[Callable[[], Baseline | None]]:
    """The Gaussian in the data's space, the Gaussian behind the logit if there is one, and the mixture. They see no
    context."""
    rng = np.random.default_rng((seed, 5))
    copies = 1 if task.dequantization is None else 4
    x = _flat(np.concatenate([real_values(task, task.train, rng, np.dtype("float64")) for _ in range(copies)]))
    held = _flat(real_values(task, task.validation, rng, np.dtype("float64")))
    maps = [] if task.bounds is None else [Logit(task.alpha, *task.bounds)]
    found: list[Callable[[], Baseline | None]] = [lambda: gaussian(x, name="Gaussian")]
    if maps:
        found.append(lambda: gaussian(x, maps, name=f"Gaussian after logit({task.alpha:g})"))
    found.append(lambda: mixture(x, held, maps, seed) if x.shape[1] <= MIXTURE_DIM else None)
    return found


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def baseline_score(task: Task, baseline: Baseline, draws: int, seed: int) -> Score:
    """The test rows under a baseline, with the noise that `score` draws for the flow."""
    values = mean_log_prob(
        lambda data: baseline.log_prob(_flat(data.x)), task.test, task.dequantization, draws,
        np.random.default_rng(seed), np.dtype("float64"),
    )  # fmt: skip
    return summary(values, task.test.x.shape[1:], task.dequantization)


def round_trip_error(task: Task, flow: Flow, seed: int, dtype: str) -> float:
    """max |decode(encode(x)) - x| over the test rows, in arithmetic of the dtype."""
    flow = map_arrays(lambda a: a.astype(dtype), flow)
    like = first_array(flow)
    x = real_values(task, task.test, np.random.default_rng((seed, 6)), np.dtype(dtype))
    context = None if task.test.context is None else xp.asarray(task.test.context, like=like)
    back = xp.to_numpy(flow.decode(flow.encode(xp.asarray(x, like=like), context), context))
    return float(np.max(np.abs(back.astype(np.float64) - x)))


def report(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain values, for JSON."""
    rows = []
    for row in outcome.rows:
        value, error = (
            (row.score.bits_per_dim, row.score.bits_standard_error)
            if outcome.bits
            else (row.score.mean, row.score.standard_error)
        )
        rows.append({"model": row.name, "test": value, "standard_error": error, "seconds": round(row.seconds, 2)})
    history = outcome.history
    return {
        "data": outcome.task.name,
        "unit": "bits/dim, lower is better" if outcome.bits else "nats a row, higher is better",
        "rows": rows_of(outcome.task),
        "scores": rows,
        "paired_advantage_of_flow": [
            {"over": name, "mean": mean, "half_width_95": half} for name, mean, half in outcome.paired()
        ],
        "round_trip_error": outcome.round_trip,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "stopped": history.stopped,
        "events": history.events,
        "remarks": list(outcome.remarks),
    }


def write_report(folder: Path, found: dict[str, Any]) -> None:
    """Write `report.json`."""
    write_atomic(folder / "report.json", (json_text(found, indent=1) + "\n").encode())


def log_look(folder: Path, found: dict[str, Any]) -> None:
    """Append one line for this look at the test rows to `test-looks.jsonl`."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "data": found["data"], "scores": found["scores"]}
    with (folder / "test-looks.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json_text(line) + "\n")


def draw_pictures(outcome: Outcome, folder: Path, seed: int) -> tuple[list[Path], list[str]]:
    """The training curve and samples beside data; and a remark for each picture that failed: a run is more than they
    are."""
    made, remarks = [], []
    for name, draw in (("curve.png", _draw_curve), ("samples.png", _draw_samples)):
        try:
            made.append(draw(outcome, folder / name, seed))
        except MissingExtraError as error:
            return [], [str(error)]
        except Exception as error:  # whatever a drawing library thinks of the numbers
            remarks.append(f"no {name}: {type(error).__name__}: {error}")
    return made, remarks


def _draw_curve(outcome: Outcome, path: Path, seed: int) -> Path:
    return pictures.training_curve(outcome.history, path, bits=outcome.bits)


def _draw_samples(outcome: Outcome, path: Path, seed: int) -> Path:
    task, flow = outcome.task, outcome.flow
    if task.image is not None:
        real = task.test.x[:100].astype(float)
        return pictures.image_grid(real, sample_levels(flow, len(real), seed=seed), task.image, path)
    count = min(len(task.test), 2000)
    rows = task.test.rows(slice(0, count))
    alone = rows.context is None
    drawn = sample_levels(flow, count if alone else 1, seed=seed, context=rows.context)
    return pictures.scatter_pairs(rows.x, drawn if alone else drawn[0], path, task.columns)


def sample_levels(flow: Flow, n: int, *, seed: int, context: Any = None) -> np.ndarray:
    """Samples on the host, like the data: quantised coordinates on their levels."""
    context = None if context is None else xp.asarray(context, like=first_array(flow))
    x = xp.to_numpy(flow.sample(n, context, seed=seed)).astype(np.float64)
    return x if flow.dequantization is None else flow.dequantization.levels(x)
