"""Calls of foreign code: in a thread of their own, on copies, with a time limit, and what they print kept apart.

A target may hang, raise, print, or write to its input; a verification that dies of it tells nobody anything. `Guard`
turns the first two into `TargetError` and `TargetTimeout`, and shields the caller from the others.

A call that is given up, after its time-out or an interrupt, is sent `Abandoned`, which ends it at its next step in
Python. What waits in compiled code stays until that returns, in a daemon thread: `left_behind` says so, and a process
that cannot wait ends by `os._exit`, as the command line does. Two things a thread cannot survive: code that ends the
process (`os._exit`, a crash), and compiled code that never releases the interpreter's lock. A program of its own can
(`--exec`).
"""

import atexit
import contextlib
import ctypes
import io
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refflow.errors import RefflowError


class TargetError(RefflowError, RuntimeError):
    """The target raised an exception, or returned something that is no pair of arrays."""

    dtype = ""
    """The precision that it was asked in, where that is known."""


class TargetTimeout(TargetError, TimeoutError):
    """A single call of the target took longer than it may."""


class OutOfBudget(RefflowError, RuntimeError):
    """A check has used the time it was given; what it has not seen by then, it does not judge."""


patience: ContextVar[float] = ContextVar("seconds that a call may take while a target is made", default=20.0)


class Abandoned(BaseException):
    """Raised within a call that nobody waits for any more."""


class Counted(io.TextIOBase):
    """Takes what is printed, and keeps only its length: what prints without end fills no memory."""

    length = 0

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, text: str) -> int:
        """Count the characters."""
        self.length += len(text)
        return len(text)


_serving = threading.local()


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """Within, in a call that a guard makes, time is not taken from the check's budget: to compile is not to compute."""
    started = time.monotonic()
    try:
        yield
    finally:
        if (guard := getattr(_serving, "guard", None)) is not None:
            guard.prepared += time.monotonic() - started


@dataclass
class Guard:
    """Runs calls one at a time in a daemon thread; after a time-out it runs no further call."""

    timeout: float
    """Seconds that one call may take."""
    deadline: float = float("inf")
    """When the running check's budget ends, in `time.monotonic()`."""
    end: float = float("inf")
    """When the whole verification ends, likewise."""
    calls: int = 0
    prepared: float = 0.0
    """Seconds of the running call that its budget is not charged for."""
    granted: float = 0.0
    """Seconds of all calls that no budget was charged for."""
    changes: int = 0
    """How often parameters were set: what was known before is of other maps."""
    hung: str | None = None
    printed: Counted = field(default_factory=Counted)
    _tasks: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    _answers: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), with arrays copied; raises TargetError, TargetTimeout or OutOfBudget."""
        if self.hung:
            raise TargetTimeout(self.hung)
        if time.monotonic() > min(self.deadline, self.end):
            raise OutOfBudget(f"the time of {'the check' if self.deadline < self.end else 'all checks'} is used up")
        self.calls += 1
        self._start()
        with contextlib.redirect_stdout(self.printed):  # here, not in the thread: one that hangs would keep it
            value, error = self._answer(name, function, arguments)
        self._grant()
        if isinstance(error, TargetError):
            raise error
        if error is not None:
            said = f"{type(error).__name__}: {line(error)}".removesuffix(": ")
            failure = TargetError(f"{name}{_shapes(arguments)} raised {said}")
            failure.dtype = next((a.dtype.name for a in arguments if isinstance(a, np.ndarray)), "")
            raise failure from error
        return value

    def share_out(self, end: float, weights: list[int]) -> None:
        """Give the first of these shares of what is left until the end, which is moved by what was granted, and take it
        off the list."""
        now = time.monotonic()
        self.end = now + max(end + self.granted - now, 0.0) * weights[0] / sum(weights)
        weights.pop(0)

    def _grant(self) -> None:
        more, self.prepared = self.prepared, 0.0
        self.deadline, self.end, self.granted = self.deadline + more, self.end + more, self.granted + more

    def regardless(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same whatever the time: to put a target back as it was."""
        limits, self.deadline, self.end = (self.deadline, self.end), float("inf"), float("inf")
        try:
            return self(name, function, *arguments)
        finally:
            self.deadline, self.end = limits

    def _answer(self, name: str, function: Callable[..., Any], arguments: Any) -> tuple[Any, BaseException | None]:
        self._tasks.put((function, [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments]))
        try:
            return self._waited()
        except queue.Empty:
            self.hung = f"{name} did not return within {self.timeout:g} s"
            self._abandon()
            raise TargetTimeout(self.hung) from None
        except BaseException:  # an interrupt by the user
            self.hung = f"{name} was interrupted"
            self._abandon()
            raise

    @contextlib.contextmanager
    def budget(self, seconds: float) -> Iterator[None]:
        """Within, calls are made for at most that many seconds."""
        self.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self.deadline = float("inf")

    @contextlib.contextmanager
    def share(self, seconds: float) -> Iterator[None]:
        """Within a budget, calls are made for at most that many seconds of it."""
        outer, granted = self.deadline, self.granted
        self.deadline = min(outer, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = outer + self.granted - granted

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True, name="refflow.verify target")
            self._thread.start()

    def _serve(self) -> None:
        _serving.guard = self
        with contextlib.suppress(Abandoned):
            while not self.hung:
                function, arguments = self._tasks.get()
                if function is None:
                    return
                self._answers.put(_outcome(function, arguments))

    def _waited(self) -> tuple[Any, BaseException | None]:
        """The answer, within the time-out. In short waits: an interrupt that comes between two steps of Python, just
        before a wait begins, is only seen when the wait ends."""
        end = time.monotonic() + self.timeout
        while True:
            try:
                answer: tuple[Any, BaseException | None] = self._answers.get(
                    timeout=max(min(end - time.monotonic(), 0.25), 0.0)
                )
                return answer
            except queue.Empty:
                if time.monotonic() >= end:
                    raise

    def _abandon(self) -> None:
        """End the running call at its next step in Python, if it takes one; else the thread is left behind."""
        thread = self._thread
        if thread is not None:
            _abandoned.append(thread)
            _interrupt(thread)
            thread.join(0.1)

    def close(self) -> None:
        """End the thread."""
        self._tasks.put((None, None))
        if self._thread is not None and not self.hung:
            self._thread.join(1.0)  # a thread that ends while the interpreter does may abort the process


def _outcome(function: Callable[..., Any], arguments: Any) -> tuple[Any, BaseException | None]:
    try:
        with np.errstate(all="ignore"):
            return function(*arguments), None
    except Abandoned:
        raise
    except BaseException as error:  # whatever foreign code raises, SystemExit included
        return None, error


_abandoned: list[threading.Thread] = []
"""Threads whose call did not end in time."""


def left_behind(seconds: float = 0.5) -> bool:
    """Whether, after so many seconds at most, a call that was given up still runs: compiled code, or Python that
    catches every exception. An interpreter that ends meanwhile may be aborted by it."""
    end = time.monotonic() + seconds
    while running := [thread for thread in _abandoned if thread.is_alive()]:
        if time.monotonic() > end:
            return True
        for thread in running:
            _interrupt(thread)
        running[0].join(0.05)
    return False


atexit.register(left_behind)


def _interrupt(thread: threading.Thread) -> None:
    if thread.ident is not None and thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Abandoned))


def _shapes(arguments: Any) -> str:
    said = [f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else f"{a!r:.40}" for a in arguments]
    return f"({', '.join(said)})"


def line(error: BaseException, width: int = 300) -> str:
    """What an exception says, on one line; nothing if it fails to."""
    try:
        text = " ".join(str(error).split())
    except Exception as failure:  # an exception of foreign code need not be able to
        return f"(its message cannot be read: {type(failure).__name__})"
    return text if len(text) <= width else text[: width - 3] + "..."
