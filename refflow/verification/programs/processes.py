"""Running someone's program once: with a time limit, without a shell, and with the end of what it printed kept."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from refflow.verification.guard import TargetError, TargetTimeout

TAIL = 2000
"""How many bytes of what it printed are kept."""


def run(words: Sequence[str], timeout: float) -> None:
    """Run the program to its end; raises TargetError if it cannot be started or fails, TargetTimeout if it is too slow.

    It gets no input. What it prints is read and thrown away but for the last lines, which errors repeat. On a time-out,
    and on Ctrl-C, it is killed with all processes of its group.
    """
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"cannot run {words[0]}: {reason}") from error
    printed = bytearray()
    reader = threading.Thread(target=_drain, args=(process.stdout, printed), daemon=True)
    reader.start()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        _kill(process)
        reader.join(1.0)
        raise TargetTimeout(f"{words[0]} did not end within {timeout:g} s{_said(printed)}") from None
    except BaseException:
        _kill(process)
        raise
    reader.join(1.0)  # a process that it has left behind may hold the pipe open
    if code != 0:
        raise TargetError(f"{words[0]} {_ended(code)}{_said(printed)}")


def _drain(stream: IO[bytes] | None, into: bytearray) -> None:
    if stream is not None:
        with stream:
            while block := stream.read1(1 << 16):  # type: ignore[attr-defined]
                into += block
                del into[:-TAIL]


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _said(printed: bytearray) -> str:
    text = bytes(printed).decode("utf-8", errors="replace").strip()
    return f"; it printed: {text}" if text else ""
