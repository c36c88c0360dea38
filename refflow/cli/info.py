"""refflow info."""

import json
import math
import os
from pathlib import Path
from typing import Annotated

import typer

from refflow.cli.app import AsJson, require


def info(
    model: Annotated[
        Path | None, typer.Argument(help="A model file that `refflow train` or `flow.save` wrote.")
    ] = None,
    backends: Annotated[bool, typer.Option("--backends", help="Say which array libraries work here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a model file holds: structure, parameters, shapes, how it was trained. Verifies it first.

    With `--backends`, say instead which array libraries are installed, which work, and on which devices.
    """
    require((model is None) == backends, "expected a model file, or --backends without one")
    if model is None:
        _backends(as_json)
    else:
        _model(model, as_json)


def _model(model: Path, as_json: bool) -> None:
    from refflow.arrays import leaves, shape
    from refflow.files import load, read_metadata
    from refflow.modules import arrays, first_array, parameters

    flow = load(model)
    trained, everything = (sum(math.prod(shape(a)) for a in leaves(tree(flow))) for tree in (parameters, arrays))
    found = {
        "file": str(model), "event_shape": list(flow.event_shape), "context_dim": flow.context_dim,
        "dtype": str(first_array(flow).dtype), "parameters": trained, "frozen": everything - trained,
        "bytes": os.path.getsize(model), "check": "digest and check vectors agree", **read_metadata(model),
    }  # fmt: skip
    if as_json:
        print(json.dumps({**found, "structure": repr(flow)}))
    else:
        for key, value in found.items():
            print(f"{key.replace('_', ' '):14s} {value if isinstance(value, str) else json.dumps(value)}")
        print(flow)


def _backends(as_json: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from refflow.backends import report

    rows = report()
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("library", "version", "works", "devices", ""):
        table.add_column(name, no_wrap=bool(name))
    for row in rows:
        works = "yes" if row["works"] else "no"
        cells = row["library"], row["version"] or "not installed", works, ", ".join(row["devices"]), row["note"]
        table.add_row(*map(escape, cells))  # [cuda13] is no markup
    Console(width=None).print(table)
