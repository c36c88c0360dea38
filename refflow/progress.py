"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from refflow.training import Epoch

LINES = 10
"""How many lines a run writes where there is no terminal, at least."""

SECONDS = 30.0
"""How long it is silent there at most, an epoch apart."""


class Progress:
    """A context manager whose instance is a callback for `fit`.

    Shows the losses of the last epoch: bits per dimension where `scale` and `log_cell` say how to count them, nats
    otherwise.
    """

    def __init__(self, epochs: int, dim: int, log_cell: float | None, quiet: bool = False) -> None:
        self.epochs, self.dim, self.log_cell, self.quiet = epochs, dim, log_cell, quiet
        self.bar: Any = None
        self.task: Any = None
        self.written = time.monotonic()

    def __enter__(self) -> "Progress":
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
                TimeRemainingColumn(), console=Console(stderr=True),
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task("", total=self.epochs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, epoch: Epoch) -> None:
        """Show one epoch."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.update(self.task, completed=epoch.number, description=self.describe(epoch))
        elif (
            epoch.number % max(self.epochs // LINES, 1) == 0
            or epoch.number == self.epochs
            or time.monotonic() - self.written >= SECONDS
        ):
            self.written = time.monotonic()
            print(f"epoch {epoch.number}/{self.epochs}  {self.describe(epoch)}", file=sys.stderr, flush=True)

    def describe(self, epoch: Epoch) -> str:
        """The losses in words."""
        held = "" if epoch.validation is None else f", validation {self._unit(epoch.validation)}"
        return f"train {self._unit(epoch.train)}{held}{'' if self.log_cell is None else ' bits/dim'}"

    def _unit(self, loss: float) -> str:
        if self.log_cell is None:
            return f"{loss:.3f}"
        return f"{(loss - self.log_cell) / (self.dim * 0.6931471805599453):.3f}"
