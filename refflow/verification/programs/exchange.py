r"""Flows written in C, C++, Julia, R, ...: a program that reads a request and writes a response, and no binding.

    refflow verify --exec "./flow {request} {response}" --event-shape 4

`{request}` and `{response}` are two folders. The program reads the first, calls its flow, writes the second (which is
there, and empty), and ends with exit code 0. It is run a few times, each time with all calls that the checks can
foresee. It may keep nothing between runs. What it prints does not matter; errors repeat the end of it.

**The request.** `request.txt` is for languages without a JSON reader. Its first line has six entries, then one line a
call follows, entries parted by single blanks:

    refflow-request-1 D C rows64 rows32 calls
    id function dtype first rows seed

D is the number of coordinates of an event, C of a context (0: there is none). `id` counts 1, 2, ...; `function` is
`forward`, `inverse`, `log_prob`, `sample` or `sample_and_log_prob`, of those that the program was said to have;
`dtype` is `float64`, or `float32` if it was said to take that; `seed` matters to the last two functions only.
`request.json` says the same: `{"schema": "refflow-request-1", "event_shape": [...], "context_dim": C, "rows":
{"float64": ..., "float32": ...}, "calls": [{"id": ..., "function": ..., "dtype": ..., "first": ..., "rows": ...,
"seed": ...}, ...]}`.

The numbers of all calls in one precision lie together, row after row; call k owns rows first .. first + rows - 1:

    x_float64.npy        (rows64, *event_shape)   what the flow is asked at; of samples, rows of zeros to be ignored
    context_float64.npy  (rows64, C)              only if C > 0

and so for float32, each only if it has rows. Files are .npy, little-endian, in C order (the last axis runs fastest),
and their numbers begin at byte 128: a program that cannot read .npy skips 128 bytes and reads bare numbers. Inputs may
be NaN or very large, on purpose.

**The response.** Arrays with the same rows in the same places:

    value_float64.npy    (rows64, *event_shape)   y of forward, x of inverse, the samples
    log_float64.npy      (rows64,)                log|det dy/dx| of forward at x, log|det dx/dy| of inverse at y, log p

as .npy, or as bare little-endian numbers with the ending .bin, without header. Rows of a function that has no value
(log_prob) or no logarithm (sample) may hold anything; an array that no call needs may be missing. To refuse single
calls, write lines `id message` to `errors.txt`.

**What matters.** Run the calls in their order, each with exactly its own rows as the batch: do not join calls, do not
part them, do not remember answers to equal ones. Most faults that the checks find show between calls.

A whole flow of 200 lines that does this is `examples/c_flow/flow.c`; `flow.jl` beside it sketches the same in Julia.

Offline, where the program runs on another machine, `export_request` writes the first request into a folder,
and `import_response` reads its response and returns the report, or the next request. An exported request is also the
way to run a program that fails by hand, in a debugger.
"""

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from refflow.errors import StructureError
from refflow.verification.programs.answering import connected, described, width
from refflow.verification.programs.offline import export_request, import_response
from refflow.verification.programs.processes import run
from refflow.verification.programs.requests import Answer, Call, read_response, write_request
from refflow.verification.programs.rounds import in_rounds
from refflow.verification.reports.report import Report
from refflow.verification.targets import Box, Target


def program(
    command: str | Sequence[str],
    *,
    event_shape: int | tuple[int, ...],
    functions: Sequence[str] = ("forward", "inverse"),
    context: np.ndarray | None = None,
    domain: Box | None = None,
    codomain: Box | None = None,
    dtypes: Sequence[str] = ("float64",),
    to_base: str | None = None,
    base: str | None = None,
    timeout: float = 60.0,
    name: str | None = None,
) -> Target:
    """A program that answers requests, as a target of `verify`.

    command:
        Its words, as a list or as a shell would part them (no shell is run); `{request}` and `{response}` in them stand
        for the two folders.
    functions:
        Those that it has, of forward, inverse, log_prob, sample, sample_and_log_prob.
    dtypes:
        Its precisions. With float32 as well, rounding is told from faults by comparing the two.
    to_base, base:
        Which of "forward" and "inverse" leads to the base, and "normal" if that is a standard normal: log_prob is then
        judged to its constant.
    timeout:
        Seconds that one run may take; then it is killed with its children.

    `verify` asks it in a few runs of many calls each. A call of one of its functions by itself costs a run.
    Raises StructureError or ShapeError for arguments that do not fit. TargetError, in a report its `error`, says that
    the program cannot be started, fails, takes too long, or writes a response that does not fit the request.
    """
    words = _words(command)
    flow = described(name or Path(words[0]).name, event_shape, functions, context, domain, codomain, dtypes, to_base,
                     base)  # fmt: skip

    def answer(flow: Target, calls: Sequence[Call]) -> list[Answer]:
        with tempfile.TemporaryDirectory(prefix="refflow-", ignore_cleanup_errors=True) as folder:
            request, response = Path(folder, "request"), Path(folder, "response")
            write_request(request, calls, flow.event_shape, width(flow))
            response.mkdir()
            places = {"{request}": str(request), "{response}": str(response)}
            run([_filled(word, places) for word in words], timeout)
            return read_response(response, calls, flow.event_shape)

    def rounds(flow: Target, ask: Callable[[Target], Report]) -> Report:
        alone = replace(flow, rounds=None)
        return in_rounds(ask, lambda one: connected(alone, functions, one), lambda calls: answer(flow, calls))

    return replace(connected(flow, functions, lambda call: answer(flow, [call])[0]), rounds=rounds)


def _words(command: str | Sequence[str]) -> list[str]:
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise StructureError(f"expected a command, got {command!r}: {error}") from error
    if not words or any(not any(place in word for word in words[1:]) for place in ("{request}", "{response}")):
        raise StructureError(f"expected a command such as './flow {{request}} {{response}}', got {command!r}")
    return words


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


__all__ = ["export_request", "import_response", "program"]
