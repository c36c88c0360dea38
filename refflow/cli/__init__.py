"""The command line: train, sample, score, info, verify, selftest.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 an error that one line
explains, 2 wrong usage, 130 interrupted; verify has more.
"""

import contextlib
import os
import sys

from refflow.cli import info, sample, score, selftest, train, verify
from refflow.cli.app import app, say
from refflow.errors import RefflowError

COMMANDS = (train.train, score.score, sample.sample, info.info, verify.verify, selftest.selftest)
"""In the order of the help."""

for _command in COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line; every refflow error becomes one line and exit code 1."""
    try:
        app(prog_name="refflow")
    except BrokenPipeError:  # the reader of our pipe has gone: say nothing, as other tools do
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (RefflowError, OSError) as error:
        say(f"refflow: {error}")
        sys.exit(1)


def script() -> None:
    """`main` as a process: where a call of foreign code hangs, the process ends without it, with the same exit code.

    An interpreter that ends while another thread is in compiled code may be aborted when that returns.
    """
    try:
        main()
    except SystemExit as stop:
        guard = sys.modules.get("refflow.verification.guard")
        if guard is not None and guard.left_behind():
            _leave(stop.code)
        raise


def _leave(code: object) -> None:
    if isinstance(code, str):
        say(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    script()
