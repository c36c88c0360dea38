"""refflow verify."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from refflow.cli.app import Seed, given, names, require, say
from refflow.errors import RefflowError, ShapeError, StructureError

TARGET_FAILED = 3
"""The exit code where the target cannot be asked."""


def verify(
    target: Annotated[
        str, typer.Argument(help="package.module:object, path/to/file.py:object, or a refflow model file.")
    ] = "",
    inverse: Annotated[str, typer.Option(help="The inverse, where TARGET is a function.")] = "",
    event_shape: Annotated[str, typer.Option(help="The shape of one row: 4, or 3,8,8.")] = "",
    context: Annotated[Path | None, typer.Option(help="An .npy file of context rows.")] = None,
    context_dim: Annotated[int, typer.Option(min=0, help="Draw context rows of this many columns instead.")] = 0,
    domain: Annotated[tuple[float, float] | None, typer.Option(help="The box LOW HIGH that x lies in.")] = None,
    codomain: Annotated[tuple[float, float] | None, typer.Option(help="The box LOW HIGH that y fills.")] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32 only; of a program, those that it has.")] = "",
    functions: Annotated[str, typer.Option(help="Of a program: those that it has.")] = "",
    level: Annotated[str, typer.Option(help="quick, standard or deep.")] = "standard",
    only: Annotated[str, typer.Option(help="Ids of checks to ask, such as RT1,LD1.")] = "",
    expect_failure: Annotated[list[str] | None, typer.Option(help="A check expected to fail; repeatable.")] = None,
    seed: Seed = 0,
    timeout: Annotated[float, typer.Option(help="Seconds that one call may take.")] = 20.0,
    json: Annotated[str, typer.Option(help="Write the report here, or `-` for standard output.")] = "",
    junit: Annotated[str, typer.Option(help="Write the report as JUnit XML here.")] = "",
    html: Annotated[str, typer.Option(help="Write the report as a page with pictures here.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings and undecided checks exit with 4.")] = False,
    replay: Annotated[Path | None, typer.Option(help="A JSON report: ask again what failed in it.")] = None,
    exec_: Annotated[str, typer.Option("--exec", help='A program: "./flow {request} {response}".')] = "",
    export: Annotated[Path | None, typer.Option(help="Write a request for an offline program here.")] = None,
    import_: Annotated[Path | None, typer.Option("--import", help="Read an offline program's response.")] = None,
    progress: Annotated[bool | None, typer.Option(help="A line a check on standard error.")] = None,
) -> None:
    """Find the faults in a flow, of any library or none.

    TARGET names an object, a class or a function that makes one, or a function of rows with its `--inverse`; a
    dictionary holds the arguments of `refflow.verify`. Exit codes: 0 passed, 1 a check failed, 2 wrong usage, 3 the
    target failed, 4 nothing decided, 5 nothing ran.

    Examples:

        refflow verify model.py:flow --html report.html

        refflow verify port:forward --inverse port:inverse --event-shape 4 --json - > report.json

        refflow verify model.py:flow --replay report.json

        refflow verify --exec "./flow {request} {response}" --event-shape 4 --functions forward,inverse,log_prob

    What a program in C, Julia, R, ... reads and writes: `python -m pydoc refflow.verification.programs.exchange`.
    """
    sources = [bool(target), bool(exec_), export is not None, import_ is not None]
    require(sum(sources) == 1, "expected one of TARGET, --exec, --export and --import")
    require(level in ("quick", "standard", "deep"), f"--level {level}: expected quick, standard or deep")
    known = ["float64", "float32"]
    require(set(names(dtype)) <= set(known), f"--dtype {dtype}: expected {' or '.join(known)}")
    require(not target or len(names(dtype)) < 2, f"--dtype {dtype}: expected one, or none for all")
    for path in filter(None, (json if json != "-" else "", junit, html)):
        require(Path(path).parent.is_dir(), f"{path}: expected a file in a folder that exists")
    require(json != "-" or replay is None, "--json - does not go with --replay")
    flow = given(
        event_shape=_shape(event_shape), context=_context(context, context_dim), domain=domain, codomain=codomain,
        inverse=inverse or None,
    )  # fmt: skip
    own = given(functions=names(functions) or None, dtypes=names(dtype) or None)
    require(bool(exec_ or export) or not functions, "--functions goes with a program")
    asked = given(
        level=level, only=names(only) or None, expected_failures=expect_failure or None, seed=seed, timeout=timeout,
        dtype=dtype if target and dtype else None,
    )  # fmt: skip
    tell = _told if (sys.stderr.isatty() if progress is None else progress) else None
    try:
        if export is not None:
            say(f"wrote {_export(export, {**flow, **own}, asked)}: answer it, then refflow verify --import {export}")
            return
        if import_ is not None:
            report = _import(import_)
        else:
            _ask = _by_command(exec_, {**flow, **own}) if exec_ else _by_name(target, flow)
            if replay is not None:
                raise typer.Exit(_replayed(_ask, asked, replay))
            report = _quietly(_ask, {**asked, "progress": tell})
    except KeyboardInterrupt as error:
        say("interrupted: no report was written")
        raise typer.Exit(130) from error
    except (ShapeError, StructureError) as error:
        raise typer.BadParameter(str(error)) from error
    except RefflowError as error:
        say(f"refflow: {error}")
        raise typer.Exit(TARGET_FAILED) from error
    _write(report, json, junit, html)
    raise typer.Exit(report.exit_code(strict))


Ask = Callable[[Callable[..., Any], dict[str, Any]], Any]
"""(refflow.verify or something like it, what is asked) -> its report: how a target is handed over."""


def _by_name(target: str, flow: dict[str, Any]) -> Ask:
    """The target that a name stands for."""

    def ask(verify: Callable[..., Any], asked: dict[str, Any]) -> Any:
        from refflow.cli.naming import is_factory, is_function, made, named

        if target.endswith(".safetensors"):
            from refflow.files import load

            return verify(load(target), **_without_inverse(flow, target), **asked)
        found = named(target)
        if is_function(found) and ("inverse" in flow or not is_factory(found)):
            functions = {"forward": found} | ({"inverse": named(flow["inverse"])} if "inverse" in flow else {})
            return verify(**{"name": target, **flow, **functions}, **asked)
        found = made(found, target)
        if isinstance(found, Mapping):
            return verify(**{"name": target, **found, **_without_inverse(flow, target)}, **asked)
        return verify(found, **{"name": target, **_without_inverse(flow, target)}, **asked)

    return ask


def _without_inverse(flow: dict[str, Any], target: str) -> dict[str, Any]:
    require("inverse" not in flow, f"--inverse goes with a function, and {target} is none")
    return flow


def _by_command(command: str, flow: dict[str, Any]) -> Ask:
    """The target that a program is."""
    require("inverse" not in flow, "--inverse does not go with --exec")
    require("event_shape" in flow, "--exec needs --event-shape, the shape of one row")

    def ask(verify: Callable[..., Any], asked: dict[str, Any]) -> Any:
        from refflow.verification.programs.exchange import program

        return verify(program(command, timeout=asked["timeout"], **flow), **asked)

    return ask


def _export(folder: Path, flow: dict[str, Any], asked: dict[str, Any]) -> Path:
    """Write the first request for a program that is run by hand."""
    require("inverse" not in flow, "--inverse does not go with --export")
    require("event_shape" in flow, "--export needs --event-shape, the shape of one row")
    from refflow.verification.programs.offline import export_request

    kept = {k: v for k, v in asked.items() if k not in ("timeout", "dtype")}
    return export_request(folder, **flow, **kept)


def _import(folder: Path) -> Any:
    """The report that the program's responses give; exits where it must answer another request first."""
    from refflow.verification.programs.offline import import_response

    found = import_response(folder)
    if isinstance(found, Path):
        say(f"answer {found} as well, then refflow verify --import {folder} again")
        raise typer.Exit(4)
    return found


def _quietly(ask: Ask, asked: dict[str, Any]) -> Any:
    from refflow.cli.quiet import to_stderr
    from refflow.verification.kit import verify as verify_target

    with to_stderr():
        return ask(verify_target, asked)


def _replayed(ask: Ask, asked: dict[str, Any], path: Path) -> int:
    """Ask again what failed in a report; 1 if anything still fails."""
    from refflow.cli.quiet import to_stderr
    from refflow.verification.replaying import replay
    from refflow.verification.reports.report import read_report

    try:
        report = read_report(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RefflowError) as error:
        raise typer.BadParameter(f"--replay {path}: expected a report that --json wrote: {error}") from error
    kept = {k: v for k, v in asked.items() if k in ("timeout", "dtype")}

    def again(target: Any = None, **arguments: Any) -> Any:
        return replay(report, target, **arguments)

    with to_stderr():
        found = ask(again, kept)
    for one in found:
        print(one)
    if not found:
        print(f"nothing failed in {path}")
    if any(one.after is None for one in found):
        return TARGET_FAILED
    return int(any(one.failed for one in found))


def _write(report: Any, json: str, junit: str, html: str) -> None:
    """The report's forms to their files; to standard output JSON if it was asked for, else the text."""
    print(report.to_json() if json == "-" else report, end="" if json == "-" else "\n")
    for path, form in ((json, report.to_json), (junit, report.to_junit), (html, report.to_html)):
        if path and path != "-":
            form(path)


def _told(outcome: Any) -> None:
    numbers = (
        ""
        if outcome.statistic is None or not outcome.tolerance
        else f" {outcome.statistic:.2g}/{outcome.tolerance:.2g}"
    )
    clock = time.strftime("%H:%M:%S")
    say(f"{clock} {outcome.name:14s} {outcome.status:12s} {outcome.seconds:6.2f} s{numbers}")


def _shape(text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    parts = [part for part in text.replace("x", ",").split(",") if part.strip()]
    require(
        all(part.strip().isdigit() and int(part) > 0 for part in parts), f"--event-shape {text}: expected 4 or 3,8,8"
    )
    return tuple(map(int, parts))


def _context(path: Path | None, dim: int) -> Any:
    """Rows of a file, or 16 drawn ones."""
    require(path is None or not dim, "--context and --context-dim do not go together")
    if path is None and not dim:
        return None
    import numpy as np

    if path is None:
        return np.random.default_rng(0).standard_normal((16, dim)).astype(np.float32).astype(np.float64)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--context {path}: {error}") from error
    require(getattr(found, "ndim", 0) == 2, f"--context {path}: expected rows (M, C)")
    return found
