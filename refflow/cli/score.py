"""refflow score."""

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer

from refflow.cli.app import AsJson, Device, Model, Seed, columns_known, names, placed, require, require_format, say
from refflow.errors import DataError, RefflowError
from refflow.observations import Observations
from refflow.tables import Table


def score(
    model: Model,
    data: Annotated[
        str, typer.Argument(help="A .csv or .npy file, `-`, or a name such as `digits` for its test rows.")
    ],
    out: Annotated[str, typer.Option(help="Write each row's log-likelihood in nats here: .csv, .npy or `-`.")] = "",
    context: Annotated[str, typer.Option(help="The columns that are the context, in the order of training.")] = "",
    drop: Annotated[str, typer.Option(help="Columns to leave out.")] = "",
    draws: Annotated[int, typer.Option(min=1, help="Dequantisation draws to average.")] = 10,
    device: Device = "cpu",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score rows: mean log-likelihood with standard error, and each row's to a file.

    Reads in blocks, so files larger than memory work. A table with a header may have its columns in any order, and
    others beside them: those that the flow was trained on are found by name.

    Examples:

        refflow score digits-flow/model.safetensors digits

        cat new.csv | refflow score model.safetensors - --out -
    """
    require_format(out)
    from refflow.files import load, read_metadata
    from refflow.scoring import score as score_rows
    from refflow.streams import RunningScore, json_text, row_writer

    flow, metadata = placed(load(model), device), read_metadata(model)
    total, remarks = RunningScore(), dict[str, None]()
    with row_writer(out) as write:
        for rows in blocks(data, metadata, names(context), names(drop), flow.context_dim):
            rows = _shaped(rows, flow.event_shape)
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", UserWarning)
                    piece = score_rows(
                        flow, rows.x, rows.context, draws=draws, seed=(seed, total.blocks) if total.blocks else seed
                    )
                remarks.update(dict.fromkeys(str(w.message) for w in caught))
            except RefflowError as error:
                where = f" (in the block that starts at row {total.rows})" if total.rows else ""
                raise type(error)(f"{error}{where}") from error
            total.add(piece)
            write(piece.log_prob)
    for remark in remarks:
        say(remark)
    stream = sys.stderr if out == "-" else sys.stdout
    print(json_text(total.report()) if as_json else _sentence(total.report()), file=stream)


def blocks(
    data: str, metadata: dict[str, Any], context: list[str], drop: list[str], context_dim: int
) -> Iterator[Observations]:
    """The rows to score, block by block, their columns in the order of training."""
    from refflow.tables import read_blocks
    from refflow.tasks import TASKS

    if data in TASKS:
        yield TASKS[data]().test
        return
    for block in read_blocks(data):
        yield _select(block, metadata, context, drop, context_dim)


def _shaped(rows: Observations, event_shape: tuple[int, ...]) -> Observations:
    """Rows that were flattened in the shape of the flow's events, if they fit; if not, the flow complains."""
    if len(event_shape) == 1 or rows.x[0].size != math.prod(event_shape):
        return rows
    return replace(rows, x=rows.x.reshape(len(rows), *event_shape))


def _select(
    table: Table, metadata: dict[str, Any], context: list[str], drop: list[str], context_dim: int
) -> Observations:
    known = [*metadata.get("columns", []), *metadata.get("context", [])]
    if table.columns and known and not (context or drop):
        x = table.columns_named(metadata["columns"]).values
        return Observations(x, table.columns_named(metadata["context"]).values if context_dim else None)
    columns_known(table, context, drop)
    numbers = table.column_numbers(context)
    require(len(numbers) == context_dim, f"the model is conditioned on {context_dim} columns: name them with --context")
    rest = table.without([*numbers, *table.column_numbers(drop)])
    if table.columns and known and list(rest.columns) != metadata["columns"]:
        raise DataError(f"expected the columns {metadata['columns']} in that order, got {list(rest.columns)}")
    return Observations(rest.values, table.values[:, numbers] if numbers else None)


def _sentence(found: dict[str, Any]) -> str:
    text = f"{found['rows']} rows: {found['mean_nats']:.4f} +- {found['standard_error_nats']:.4f} nats a row"
    if found["bits_per_dim"] is None:
        return text
    return f"{text}, {found['bits_per_dim']:.4f} +- {found['bits_standard_error']:.4f} bits/dim"
