"""refflow sample."""

import math
from typing import Annotated

import typer

from refflow.cli.app import Device, Model, Seed, placed, require_format


def sample(
    model: Model,
    n: Annotated[int, typer.Option("--n", "-n", min=0, help="How many samples (for each row of a context).")] = 100,
    out: Annotated[str, typer.Option(help="Where to: .csv, .npy or `-` for CSV on standard output.")] = "-",
    context: Annotated[str, typer.Option(help="A .csv or .npy file of context rows to condition on.")] = "",
    continuous: Annotated[bool, typer.Option(help="Do not round quantised columns down to their levels.")] = False,
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Draw samples, as rows like the data's; with a context, all samples of its first row first.

    CSV has the header of the table that the flow was trained on. A density that reaches a little beyond the data's
    range gives levels beyond it too: nothing is clamped.

    Example: `refflow sample digits-flow/model.safetensors -n 5 --out samples.csv`
    """
    require_format(out)
    from refflow.arrays import asarray, to_numpy
    from refflow.files import load, read_metadata
    from refflow.modules import first_array
    from refflow.streams import write_samples
    from refflow.tables import read_table

    flow, metadata = placed(load(model), device), read_metadata(model)
    rows = None
    if context:
        table = read_table(context)
        rows = asarray(table.columns_named(metadata.get("context", [])).values, like=first_array(flow))
    x = to_numpy(flow.sample(n, rows, seed=seed))
    if flow.dequantization is not None and not continuous:
        x = flow.dequantization.levels(x)
    x = x if rows is None else x.swapaxes(0, 1)
    count = math.prod(x.shape[: x.ndim - len(flow.event_shape)])
    write_samples(out, x.reshape(count, *flow.event_shape), metadata.get("columns", []))
