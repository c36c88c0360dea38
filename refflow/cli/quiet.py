"""Standard output for the result alone: what someone's code prints meanwhile, in C as well, goes to standard error."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """Within, file descriptor 1 and `sys.stdout` are standard error."""
    sys.stdout.flush()
    kept = _duplicate()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            _flush_c()
            os.dup2(kept, 1)
            os.close(kept)


def _duplicate() -> int | None:
    """A copy of descriptor 1, which then leads to standard error; None where there is no such descriptor."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # closed by whoever started us
        return None
    return kept


def _flush_c() -> None:
    """Empty the buffers of C's stdio, or what they hold would come out after the descriptor is back."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).fflush(None)
