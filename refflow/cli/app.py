"""What all commands share: the application, common options, and how option texts are read."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from refflow.errors import DataError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Train a normalizing flow, score rows with it, sample from it.

    DATA is `digits` (1,797 real 8x8 images that ship with refflow), `mnist5k`, `diamonds` or `shuttle` (with
    `pip install 'refflow[data]'`), a CSV file with or without a header, an .npy
    array, or `-` for CSV on standard input. Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted.""",
)

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random number: the same seed gives the same result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda or cuda:1 (needs CuPy).")]
Model = Annotated[Path, typer.Argument(help="A model file that `refflow train` or `flow.save` wrote.")]


def say(text: str) -> None:
    """A remark, on standard error."""
    print(text, file=sys.stderr, flush=True)


def require(condition: bool, message: str) -> None:
    """Wrong usage (exit code 2) unless the condition holds."""
    if not condition:
        raise typer.BadParameter(message)


def columns_known(table: Any, context: list[str], drop: list[str]) -> None:
    """Wrong usage unless --context and --drop name columns of the table, and different ones."""
    numbers = []
    for option, wanted in (("--context", context), ("--drop", drop)):
        try:
            numbers.append(table.column_numbers(wanted))
        except DataError as error:
            raise typer.BadParameter(f"{option}: {error}") from error
    both = sorted(set(numbers[0]) & set(numbers[1]))
    require(not both, f"--context and --drop share {[table.columns[i] if table.columns else i for i in both]}")


def require_format(out: str) -> None:
    """Wrong usage unless the path is one that can be written: .csv, .npy, or `-`."""
    require(
        out in ("", "-") or Path(out).suffix in (".csv", ".npy"), f"--out {out}: expected a .csv or .npy file, or -"
    )


def placed(flow: Any, device: str) -> Any:
    """The flow where it is to compute."""
    kind, _, number = device.partition(":")
    known = kind == "cuda" and (not number or number.isdigit())
    require(known or device == "cpu", f"--device {device}: expected cpu, cuda or cuda:N")
    if not known:
        return flow
    if number:
        from refflow.backends import compute_on

        compute_on(device)
    return flow.to("cupy")


def names(text: str) -> list[str]:
    """The entries of a list such as `a,b`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
