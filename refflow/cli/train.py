"""refflow train."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from refflow.cli.app import AsJson, Device, Seed, columns_known, given, names, placed, require, say
from refflow.errors import DataError, DivergedError, FileError


def train(
    data: Annotated[
        str, typer.Argument(help="`digits`, `mnist5k`, `diamonds`, `shuttle`, a .csv or .npy file, or `-`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for model, pictures and report; NAME-flow by default, NAME-MODEL-flow of a --model."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The recipe: realnvp, nice, nsf, maf, iaf, nsf-ar; of images realnvp-image or glow.")
    ] = "realnvp",
    layers: Annotated[int | None, typer.Option(min=1, help="Number of couplings (of images: a level).")] = None,
    hidden: Annotated[str | None, typer.Option(help="Widths of the hidden layers, such as 128,128.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout rate in the couplings' networks.")] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows in a minibatch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's step at the start.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average over parameters; 0 for none.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after that many epochs without a new best.")] = None,
    context: Annotated[str, typer.Option(help="Columns to condition on, by name or number: a,b.")] = "",
    drop: Annotated[str, typer.Option(help="Columns to leave out.")] = "",
    bounds: Annotated[str, typer.Option(help="LOW,HIGH of all values: puts logit(alpha) before the flow.")] = "",
    alpha: Annotated[float, typer.Option(help="The logit's alpha.")] = 0.05,
    test: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Fraction of rows held out for the test (not for digits).")
    ] = 0.1,
    draws: Annotated[int, typer.Option(min=1, help="Dequantisation draws that a test score averages.")] = 10,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Device = "cpu",
    resume: Annotated[bool, typer.Option(help="Go on from a checkpoint that the same command left.")] = True,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
) -> None:
    """Train a flow and compare it with Gaussians on held-out rows.

    Writes `model.safetensors`, `report.json`, `curve.png` and `samples.png`, and prints one table: the test score of
    the flow beside a Gaussian's and a Gaussian mixture's on the same rows. Columns whose values repeat on a grid (such
    as integers) are dequantised, and it says so. A killed run goes on where it was when the same command is given
    again. Ctrl-C saves the best flow so far.

    The models of images, realnvp-image and glow, take the digits or an .npy array (n, H, W) or (n, H, W, C); integers
    are levels, from 0 to the largest if no --bounds are given.

    Defaults that are not shown depend on the model and the data; the run says which it takes.

    Examples:

        refflow train digits

        refflow train measurements.csv --context age,dose --epochs 400 --seed 1

        refflow train images.npy --model glow --bounds 0,256
    """
    from refflow import jobs
    from refflow.streams import json_text

    known = {name.replace("_", "-"): name for name in (*jobs.RECIPES, *jobs.IMAGE_RECIPES)}
    require(model.replace("_", "-") in known, f"--model {model}: expected one of {', '.join(known)}")
    model = known[model.replace("_", "-")]
    choices = given(layers=layers, hidden=_widths(hidden), dropout=dropout)
    options = given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, ema=ema, patience=patience)
    _check(options, dropout, alpha)
    require(dtype in ("float32", "float64"), f"--dtype {dtype}: expected float32 or float64")
    images = model in jobs.IMAGE_RECIPES
    task = _task(data, seed, names(context), names(drop), test, _pair(bounds), alpha, images)
    kind = "" if model == "realnvp" else f"{model}-"  # so that a second model does not replace the first
    folder = _folder(out or Path(f"{task.name}-{kind}flow"))
    remarks = [] if quiet else [*task.remarks, jobs.plan(task, model, choices, options)]
    for remark in remarks:
        say(remark)
    flow = placed(jobs.build(task, model, seed, dtype, **choices), device)
    checkpoint, path = folder / "checkpoint.safetensors", folder / "model.safetensors"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    flow, history, seconds, failure = _fit(flow, task, seed, checkpoint, options, quiet)
    try:
        flow.save(path, {**jobs.description(task, model, seed, options), **jobs.outcome_of_training(history)})
    except FileError as error:
        raise error if failure is None else DivergedError(f"{failure}; {error}") from error
    what = "the best flow so far is in" if history.best_epoch else "no epoch improved the flow: untrained, it is in"
    if failure is not None:
        raise DivergedError(f"{failure}; {what} {path}")
    if history.stopped == "interrupted":
        say(f"interrupted after epoch {len(history.epochs)}; {what} {path}")
        raise typer.Exit(130)
    outcome = jobs.evaluate(task, flow, history, seconds, f"{model} flow", draws, seed)
    found = {**jobs.report(outcome), "peak_megabytes": _peak_megabytes()}
    found["files"] = [str(file) for file in (path, folder / "report.json")]
    jobs.write_report(folder, found)  # before the pictures: if they fail, this is kept
    jobs.log_look(folder, found)
    made, failed = jobs.draw_pictures(outcome, folder, seed)
    found["files"] += map(str, made)
    found["peak_megabytes"] = _peak_megabytes()
    jobs.write_report(folder, found)
    checkpoint.unlink(missing_ok=True)
    print(json_text(found)) if as_json else _print_table(found)
    if not quiet:
        for text in [*failed, *history.events, *(r for r in outcome.remarks if r not in remarks)]:
            say(text)


def _check(options: dict[str, Any], dropout: float | None, alpha: float) -> None:
    """Wrong usage unless the numbers are in the open ranges that Typer does not know."""
    rate, ema = options.get("learning_rate", 1.0), options.get("ema", 0.0)
    require(0.0 < rate < float("inf"), f"--learning-rate {rate}: expected a positive, finite number")
    require(0.0 <= ema < 1.0, f"--ema {ema}: expected a number in [0, 1)")
    require(dropout is None or 0.0 <= dropout < 1.0, f"--dropout {dropout}: expected a number in [0, 1)")
    require(0.0 <= alpha < 0.5, f"--alpha {alpha}: expected a number in [0, 0.5)")


def _task(
    data: str,
    seed: int,
    context: list[str],
    drop: list[str],
    test: float,
    bounds: tuple[float, float] | None,
    alpha: float,
    images: bool,
) -> Any:
    from dataclasses import replace

    from refflow.tables import read_table
    from refflow.tasks import IMAGE_CHOICES, TASKS, image_task, table_task

    require(not (images and (context or drop)), "models of images take no --context and no --drop")
    if data in TASKS:
        require(not (context or drop or bounds), f"no --context, --drop or --bounds with {data}, which has its own")
        return replace(TASKS[data](), choices=IMAGE_CHOICES) if images else TASKS[data]()
    name = "stdin" if data == "-" else data
    if images:
        return image_task(read_table(data), name, seed=seed, test=test, bounds=bounds, alpha=alpha)
    table = read_table(data)
    columns_known(table, context, drop)
    return table_task(table, name, seed=seed, context=context, drop=drop, test=test, bounds=bounds, alpha=alpha)


def _fit(
    flow: Any, task: Any, seed: int, checkpoint: Path, options: dict[str, Any], quiet: bool
) -> tuple[Any, Any, float, DivergedError | None]:
    """The best flow, the history, the seconds, and what training died of, if it did."""
    from refflow import jobs
    from refflow.progress import Progress

    size, noise = task.train.x[0].size, task.dequantization
    log_cell = noise.log_cell(size) if noise is not None and noise.quantised(size) == size else None
    began = time.perf_counter()
    failure: DivergedError | None = None
    with Progress({**task.choices["fit"], **options}["epochs"], size, log_cell, quiet) as progress:
        try:
            flow, history = jobs.train(flow, task, seed=seed, callback=progress, checkpoint=checkpoint, **options)
        except DivergedError as error:
            failure, (flow, history) = error, error.result  # type: ignore[attr-defined]
    return flow, history, time.perf_counter() - began, failure


def _print_table(found: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    train_rows, held, test = found["rows"]
    rows = f"{test} test rows ({train_rows} train, {held} validation)"
    print(f"{found['data']}: {found['unit']}; {rows}")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model")
    for name in ("test", "+- s.e.", "seconds", "flow better by"):
        table.add_column(name, justify="right", no_wrap=True)
    gains = {g["over"]: f"{g['mean']:.3f} +- {g['half_width_95']:.3f}" for g in found["paired_advantage_of_flow"]}
    for row in found["scores"]:
        table.add_row(
            row["model"], f"{row['test']:.3f}", f"{row['standard_error']:.3f}", f"{row['seconds']:.1f}",
            gains.get(row["model"], ""),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 80).print(table)
    for text in _warnings(found):
        print(text)
    errors = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in found["round_trip_error"].items())
    print(f"worst round-trip error |decode(encode(x)) - x|: {errors}")
    print("+- s.e.: of the mean over test rows; flow better by: paired over rows, with its 95 % interval")
    peak = "" if found["peak_megabytes"] is None else f"; peak memory {found['peak_megabytes']} MB"
    print(f"kept epoch {found['best_epoch']} of {found['epochs']} ({found['stopped']}){peak}")
    print("wrote " + ", ".join(found["files"]))


def _warnings(found: dict[str, Any]) -> list[str]:
    """What a reader of the table must not overlook."""
    lost = [g["over"] for g in found["paired_advantage_of_flow"] if g["mean"] < 0.0]
    texts = []
    if lost:
        texts.append(f"the flow is worse than the {' and the '.join(lost)}: train it longer, or take the simpler model")
    if not found["best_epoch"]:
        texts.append("no epoch improved the flow: it is untrained")
    return texts


def _peak_megabytes() -> int | None:
    """The largest resident memory of this process in 10^6 bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _widths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    require(all(w.isdigit() and int(w) > 0 for w in names(text)), f"--hidden {text}: expected widths such as 128,128")
    return tuple(int(w) for w in names(text))


def _pair(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        low, high = (float(v) for v in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--bounds {text}: expected LOW,HIGH") from None
    require(low < high, f"--bounds {text}: expected LOW below HIGH")
    return low, high


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror}; give another one with --out") from error
    return path
