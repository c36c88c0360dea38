"""refflow selftest."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from refflow.cli.app import require, say


def selftest(
    short: Annotated[
        bool, typer.Option("--short", help="A fixed third of the subjects: half a minute on two cores.")
    ] = False,
    level: Annotated[str, typer.Option(help="quick, standard or deep.")] = "standard",
    seeds: Annotated[int, typer.Option(min=1, help="Draw the sound subjects this many times.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes to share the work.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Write all verdicts here as JSON.")] = None,
    progress: Annotated[bool | None, typer.Option(help="A line a subject on standard error.")] = None,
) -> None:
    """Test the tester: ask `refflow verify` about flows with a seeded fault, and about sound ones.

    Prints which checks kill which faults. Exit codes: 0 all faults were killed and nothing else was accused, 1 not so.
    """
    require(level in ("quick", "standard", "deep"), f"--level {level}: expected quick, standard or deep")
    from refflow.cli.quiet import to_stderr
    from refflow.selftest import runner

    tell = _told if (sys.stderr.isatty() if progress is None else progress) else None
    with to_stderr():
        found = runner.selftest(level, short=short, seeds=seeds, processes=processes, progress=tell)
    if json is not None:
        from refflow.storage import write_atomic

        write_atomic(json, (json_module.dumps(found.to_dict(), indent=1) + "\n").encode())
    print(found)
    raise typer.Exit(int(not found.ok))


def _told(done: int, of: int, verdict: Any) -> None:
    said = " ".join(verdict.failed) or verdict.error or "nothing"
    say(f"{done:4d}/{of} {'ok ' if verdict.ok else 'NOT'} {verdict.seconds:6.2f} s  {verdict.name}: {said}")
