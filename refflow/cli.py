"""The command line: train, sample, score, info.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 an error that one line
explains, 2 wrong usage, 130 interrupted.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from refflow.errors import DataError, DivergedError, RefflowError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Train a normalizing flow, score rows with it, sample from it.

    DATA is `digits` (1,797 real 8x8 images that ship with refflow), a CSV file with or without a header, an .npy
    array, or `-` for CSV on standard input. Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted.""",
)

Seed = Annotated[int, typer.Option(help="Seed of every random number: the same seed gives the same result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Model = Annotated[Path, typer.Argument(help="A model file that `refflow train` or `flow.save` wrote.")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command()
def train(  # noqa: PLR0915
    data: Annotated[str, typer.Argument(help="`digits`, a .csv or .npy file, or `-`.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for model, pictures and report; NAME-flow by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="The recipe: realnvp or nice.")] = "realnvp",
    layers: Annotated[int | None, typer.Option(help="Number of couplings.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Widths of the hidden layers, such as 128,128.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout rate in the couplings' networks.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a minibatch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's step at the start.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average over parameters; 0 for none.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after that many epochs without a new best.")] = None,
    context: Annotated[str, typer.Option(help="Columns to condition on, by name or number: a,b.")] = "",
    drop: Annotated[str, typer.Option(help="Columns to leave out.")] = "",
    bounds: Annotated[str, typer.Option(help="LOW,HIGH of all values: puts logit(alpha) before the flow.")] = "",
    alpha: Annotated[float, typer.Option(help="The logit's alpha.")] = 0.05,
    test: Annotated[float, typer.Option(help="Fraction of rows held out for the test (not for digits).")] = 0.1,
    draws: Annotated[int, typer.Option(help="Dequantisation draws that a test score averages.")] = 10,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
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

    Examples:

        refflow train digits

        refflow train measurements.csv --context age,dose --epochs 400 --seed 1
    """
    from refflow import jobs
    from refflow.progress import Progress
    from refflow.tables import read_table
    from refflow.tasks import digits_task, table_task

    _require(model in jobs.RECIPES, f"--model {model}: expected one of {', '.join(jobs.RECIPES)}")
    _require(dtype in ("float32", "float64"), f"--dtype {dtype}: expected float32 or float64")
    if data == "digits":
        _require(not (context or drop or bounds), "digits take no --context, --drop or --bounds")
        task = digits_task()
    else:
        task = table_task(
            read_table(data), "stdin" if data == "-" else data, seed=seed, context=_names(context), drop=_names(drop),
            test=test, bounds=_pair(bounds), alpha=alpha,
        )  # fmt: skip
    folder = _folder(out or Path(f"{task.name}-flow"))
    if not quiet:
        for remark in task.remarks:
            _say(remark)
    choices = _given(layers=layers, hidden=_widths(hidden), dropout=dropout)
    options = _given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, ema=ema, patience=patience)
    flow = jobs.build(task, model, seed, dtype, **{k: v for k, v in choices.items() if (model, k) != ("nice", "scale")})
    checkpoint = folder / "checkpoint.safetensors"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    size, noise = task.train.x.shape[1], task.dequantization
    log_cell = noise.log_cell(size) if noise is not None and noise.quantised(size) == size else None
    total = {**task.choices["fit"], **options}["epochs"]
    began = time.perf_counter()
    failure: DivergedError | None = None
    with Progress(total, size, log_cell, quiet) as progress:
        try:
            flow, history = jobs.train(flow, task, seed=seed, callback=progress, checkpoint=checkpoint, **options)
        except DivergedError as error:
            failure, (flow, history) = error, error.result  # type: ignore[attr-defined]
    seconds = time.perf_counter() - began
    path = folder / "model.safetensors"
    flow.save(path)
    if failure is not None:
        raise DivergedError(f"{failure}; the best flow so far is in {path}")
    if history.stopped == "interrupted":
        _say(f"interrupted after epoch {len(history.epochs)}; the best flow so far is in {path}")
        raise typer.Exit(130)
    outcome = jobs.evaluate(task, flow, history, seconds, f"{model} flow", draws, seed)
    found = jobs.report(outcome)
    jobs.log_look(folder / "test-looks.jsonl", found)
    made, remark = jobs.draw_pictures(outcome, folder, seed)
    _write(folder / "report.json", json.dumps(found, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)
    files = [path, *made, folder / "report.json"]
    if as_json:
        print(json.dumps({**found, "files": [str(f) for f in files]}))
    else:
        _print_table(found)
        print("wrote " + ", ".join(map(str, files)))
    if not quiet:
        for text in filter(None, [remark, *history.events, *(r for r in outcome.remarks if r not in task.remarks)]):
            _say(text)


def _print_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    train_rows, held, test = found["rows"]
    table = RichTable(title=f"{found['data']}: {test} test rows ({train_rows} train, {held} validation)")
    table.add_column("model")
    for name in (found["unit"], "+- s.e.", "seconds", "flow better by (95 %)"):
        table.add_column(name, justify="right")
    gains = {g["over"]: f"{g['mean']:.3f} +- {g['half_width_95']:.3f}" for g in found["paired_advantage_of_flow"]}
    for row in found["scores"]:
        table.add_row(
            row["model"], f"{row['test']:.3f}", f"{row['standard_error']:.3f}", f"{row['seconds']:.1f}",
            gains.get(row["model"], ""),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    print(f"worst round-trip error |decode(encode(x)) - x|: {found['round_trip_error']:.1e}")
    print(f"kept epoch {found['best_epoch']} of {found['epochs']} ({found['stopped']}); peak {_peak_megabytes()} MB")


def _peak_megabytes() -> str:
    try:
        import resource
    except ImportError:  # not on this system
        return "unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (1 if sys.platform == 'darwin' else 1024) / (2**20 if sys.platform == 'darwin' else 1000):.0f}"


@app.command()
def score(
    model: Model,
    data: Annotated[str, typer.Argument(help="A .csv or .npy file, `-`, or `digits` for their test rows.")],
    out: Annotated[str, typer.Option(help="Write each row's log-likelihood in nats here: .csv, .npy or `-`.")] = "",
    context: Annotated[str, typer.Option(help="The columns that are the context, in the order of training.")] = "",
    drop: Annotated[str, typer.Option(help="Columns to leave out.")] = "",
    draws: Annotated[int, typer.Option(help="Dequantisation draws to average.")] = 10,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score rows: mean log-likelihood with standard error, and each row's to a file.

    Reads in blocks, so files larger than memory work.

    Examples:

        refflow score digits-flow/model.safetensors digits

        cat new.csv | refflow score model.safetensors - --out -
    """
    import numpy as np

    from refflow.files import load
    from refflow.scoring import score as score_rows
    from refflow.streams import RunningScore, row_writer

    flow = load(model)
    total = RunningScore()
    with row_writer(out) as write:
        for block in _blocks(data, context, drop, flow.context_dim):
            try:
                piece = score_rows(flow, block.x, block.context, draws=draws, seed=seed + total.blocks)
            except RefflowError as error:
                raise type(error)(f"{error} (in the block of rows that starts at row {total.rows})") from error
            total.add(piece)
            write(piece.log_prob.astype(np.float64))
    found = total.report()
    if as_json:
        print(json.dumps(found), file=sys.stderr if out == "-" else sys.stdout)
    else:
        text = f"{found['rows']} rows: {found['mean_nats']:.4f} +- {found['standard_error_nats']:.4f} nats a row"
        bits = found["bits_per_dim"]
        text += "" if bits is None else f", {bits:.4f} +- {found['bits_standard_error']:.4f} bits/dim"
        print(text, file=sys.stderr if out == "-" else sys.stdout)


def _blocks(data: str, context: str, drop: str, context_dim: int) -> Any:
    from refflow.observations import Observations
    from refflow.tables import read_blocks
    from refflow.tasks import digits_task

    if data == "digits":
        yield digits_task().test
        return
    for block in read_blocks(data):
        chosen = block.column_numbers(_names(context))
        _require(
            len(chosen) == context_dim, f"the model is conditioned on {context_dim} columns: name them with --context"
        )
        rest = block.without([*chosen, *block.column_numbers(_names(drop))])
        yield Observations(rest.values, block.values[:, chosen] if chosen else None)


@app.command()
def sample(
    model: Model,
    n: Annotated[int, typer.Option("--n", "-n", min=0, help="How many samples (for each row of a context).")] = 100,
    out: Annotated[str, typer.Option(help="Where to: .csv, .npy or `-` for CSV on standard output.")] = "-",
    context: Annotated[str, typer.Option(help="A .csv or .npy file of context rows to condition on.")] = "",
    continuous: Annotated[bool, typer.Option(help="Do not round quantised columns down to their levels.")] = False,
    seed: Seed = 0,
) -> None:
    """Draw samples, as rows like the data's; with a context, all samples of its first row first.

    Example: refflow sample digits-flow/model.safetensors -n 5 --out samples.csv
    """
    from refflow.arrays import asarray, to_numpy
    from refflow.files import load
    from refflow.parameters import first_array
    from refflow.streams import write_samples
    from refflow.tables import read_table

    flow = load(model)
    c = asarray(read_table(context).values, like=first_array(flow)) if context else None
    x = to_numpy(flow.sample(n, c, seed=seed))
    if flow.dequantization is not None and not continuous:
        x = flow.dequantization.levels(x)
    x = x if c is None else x.swapaxes(0, 1)
    write_samples(out, x.reshape(-1, *flow.event_shape))


@app.command()
def info(model: Model, as_json: AsJson = False) -> None:
    """Say what a model file holds: structure, parameters, shapes, how it was written. Verifies it first."""
    from refflow.arrays import leaves, shape
    from refflow.files import load
    from refflow.parameters import arrays, first_array, parameters

    flow = load(model)
    count = sum(_size(shape(leaf)) for leaf in leaves(parameters(flow)))
    everything = sum(_size(shape(leaf)) for leaf in leaves(arrays(flow)))
    found = {
        "file": str(model), "event_shape": list(flow.event_shape), "context_dim": flow.context_dim,
        "dtype": str(first_array(flow).dtype), "parameters": count, "frozen": everything - count,
        "bytes": os.path.getsize(model), "check": "digest and check vectors agree",
    }  # fmt: skip
    if as_json:
        print(json.dumps({**found, "structure": repr(flow)}))
    else:
        for key, value in found.items():
            print(f"{key.replace('_', ' '):12s} {value}")
        print(flow)


def _size(shape: tuple[int, ...]) -> int:
    import math

    return math.prod(shape)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise typer.BadParameter(message)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _widths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    _require(all(w.isdigit() and int(w) > 0 for w in _names(text)), f"--hidden {text}: expected widths such as 128,128")
    return tuple(int(w) for w in _names(text))


def _pair(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        low, high = (float(v) for v in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--bounds {text}: expected LOW,HIGH") from None
    return low, high


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror}; give another one with --out") from error
    return path


def _write(path: Path, text: str) -> None:
    from refflow.storage import write_atomic

    write_atomic(path, text.encode())


def main() -> None:
    """Run the command line; every refflow error becomes one line and exit code 1."""
    try:
        app()
    except RefflowError as error:
        _say(f"refflow: {error}")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our pipe has gone: say nothing, as other tools do
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
