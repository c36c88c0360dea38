"""The command line: train, sample, score, info, verify, selftest.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 an error that one line
explains, 2 wrong usage, 130 interrupted; verify has more.
"""

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


if __name__ == "__main__":
    main()
