"""Calls of foreign code: in a thread of their own, on copies, with a time limit, and what they print kept apart.

A target may hang, raise, print, or write to its input; a verification that dies of it tells nobody anything. `Guard`
turns the first two into `TargetError` and `TargetTimeout`, and shields the caller from the others.
"""

import contextlib
import io
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refflow.errors import RefflowError
from refflow.verification.targets import Target


class TargetError(RefflowError, RuntimeError):
    """The target raised an exception, or returned something that is no pair of arrays."""


class TargetTimeout(TargetError, TimeoutError):
    """A single call of the target took longer than it may."""


class OutOfBudget(RefflowError, RuntimeError):
    """A check has used the time it was given; what it has not seen by then, it does not judge."""


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
    calls: int = 0
    prepared: float = 0.0
    """Seconds of the running call that its budget is not charged for."""
    hung: str | None = None
    printed: io.StringIO = field(default_factory=io.StringIO)
    _tasks: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    _answers: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), with arrays copied; raises TargetError, TargetTimeout or OutOfBudget."""
        if self.hung:
            raise TargetTimeout(self.hung)
        if time.monotonic() > self.deadline:
            raise OutOfBudget("the check's time is used up")
        self.calls += 1
        self._start()
        stdout = sys.stdout
        self._tasks.put((function, [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments]))
        try:
            value, error = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self.hung = f"{name} did not return within {self.timeout:g} s"
            if sys.stdout is self.printed:  # what hangs keeps it
                sys.stdout = stdout
            raise TargetTimeout(self.hung) from None
        self.deadline, self.prepared = self.deadline + self.prepared, 0.0
        if error is not None:
            raise TargetError(f"{name}{_shapes(arguments)} raised {type(error).__name__}: {_line(error)}") from error
        return value

    @contextlib.contextmanager
    def budget(self, seconds: float) -> Iterator[None]:
        """Within, calls are made for at most that many seconds."""
        self.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self.deadline = float("inf")

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True, name="refflow.verify target")
            self._thread.start()

    def _serve(self) -> None:
        _serving.guard = self
        while True:
            function, arguments = self._tasks.get()
            if function is None:
                return
            answer: tuple[Any, BaseException | None]
            try:
                with contextlib.redirect_stdout(self.printed), np.errstate(all="ignore"):
                    answer = function(*arguments), None
            except BaseException as error:  # whatever foreign code raises, SystemExit included
                answer = None, error
            self._answers.put(answer)

    def close(self) -> None:
        """End the thread; a thread that hangs is left behind, and ends with the process."""
        self._tasks.put((None, None))
        if self._thread is not None and not self.hung:
            self._thread.join(1.0)  # a thread that ends while the interpreter does may abort the process


def _shapes(arguments: Any) -> str:
    return (
        "(" + ", ".join(f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a) for a in arguments) + ")"
    )


def _line(error: BaseException, width: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def guarded(target: Target, guard: Guard) -> Target:
    """The target with every function called through the guard, and its answers made plain arrays of their own."""

    def pair(name: str) -> Any:
        function = getattr(target, name)
        return None if function is None else lambda *a: _pair(name, guard(name, function, *a))

    def single(name: str) -> Any:
        function = getattr(target, name)
        return None if function is None else lambda *a: _array(name, guard(name, function, *a))

    def maker(name: str) -> Any:
        function = getattr(target, name)
        return None if function is None else lambda *a: guarded(guard(name, function, *a), guard)

    changes: dict[str, Any] = {name: pair(name) for name in ("forward", "inverse", "sample_and_log_prob")}
    for name in ("log_prob", "sample", "base_log_prob", "jacobian", "inverse_jacobian", "gradient"):
        changes[name] = single(name)
    changes |= {name: maker(name) for name in ("cast", "fresh")}
    changes["layers"] = tuple(guarded(part, guard) for part in target.layers)
    changes["modes"] = {name: guarded(mode, guard) for name, mode in target.modes.items()}
    return replace(target, **changes)


def _pair(name: str, answer: Any) -> tuple[np.ndarray, np.ndarray]:
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise TargetError(f"{name} returned {_what(answer)}; expected a pair (value, log_det) of arrays")
    return _array(f"the value of {name}", answer[0]), _array(f"the log_det of {name}", answer[1])


def _array(name: str, answer: Any) -> np.ndarray:
    try:
        found = np.array(answer)
    except Exception as error:  # whatever foreign arrays answer to NumPy
        raise TargetError(f"{name} is no NumPy array but {_what(answer)}: {_line(error)}") from error
    if found.dtype.kind not in "fc":
        raise TargetError(f"{name} holds {found.dtype}; expected an array of floats, got {_what(answer)}")
    return found


def _what(answer: Any) -> str:
    shape = getattr(answer, "shape", None)
    return f"a {type(answer).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")
