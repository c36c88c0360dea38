"""Checkpoints: all that a training run hands from one epoch to the next, in one file written atomically.

A checkpoint belongs to one run: its fingerprint covers the model, the data and every choice. Found by the same call,
it is resumed; found by another, it is refused, for going on would silently mix two runs.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.errors import FileError
from refflow.files import encode
from refflow.flow import Flow
from refflow.modules import named_arrays
from refflow.observations import Observations
from refflow.storage import pack, read_bytes, unpack, write_atomic
from refflow.training.optimizers import Moments
from refflow.training.records import Epoch, History, State

EVERY_SECONDS = 10.0
"""How often a run writes at most: often enough to lose little, seldom enough to cost nothing."""


class Checkpoint:
    """The checkpoint file of one run."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.written = time.monotonic()

    @staticmethod
    def of(
        path: str | PathLike[str],
        flow: Flow,
        train: Observations,
        validation: list[Observations],
        choices: dict[str, Any],
    ) -> Checkpoint:
        """The checkpoint at the path for the run with this model, data and choices."""
        digest = hashlib.sha256(json.dumps(encode(flow), sort_keys=True).encode())
        for name, array in named_arrays(flow).items():
            _update(digest, name, array)
        for rows in (train, *validation):
            for name in ("x", "context", "weights"):
                if (values := getattr(rows, name)) is not None:
                    _update(digest, name, values)
        digest.update(json.dumps(choices, sort_keys=True).encode())
        return Checkpoint(Path(path), digest.hexdigest())

    def write_sometimes(self, state: State, history: History) -> None:
        """Write, unless the last time was less than `EVERY_SECONDS` ago."""
        if time.monotonic() - self.written >= EVERY_SECONDS:
            self.write(state, history)

    def write(self, state: State, history: History) -> None:
        """Write the state and the history."""
        vectors = {
            "theta": state.theta, "average": state.average, "best": state.best,
            "m": state.moments.m, "v": state.moments.v,
        }  # fmt: skip
        tensors = {name: xp.to_numpy(v) for name, v in vectors.items()}
        scalars = {
            "epoch": state.epoch, "steps": state.moments.t, "best_epoch": state.best_epoch,
            "best_loss": None if np.isinf(state.best_loss) else state.best_loss,
            "step_scale": state.step_scale, "halvings": state.halvings,
        }  # fmt: skip
        metadata = {"fingerprint": self.fingerprint, "state": scalars, "history": _plain(history)}
        write_atomic(self.path, pack(tensors, metadata, kind="checkpoint"))
        self.written = time.monotonic()

    def read(self, like: Array) -> tuple[State, History] | None:
        """The state and the history in the file, None if there is no file; vectors go where `like` lives."""
        if not self.path.exists():
            return None
        tensors, metadata = unpack(read_bytes(self.path), kind="checkpoint", name=str(self.path))
        if metadata["fingerprint"] != self.fingerprint:
            raise FileError(
                f"expected {self.path} to be a checkpoint of this run, got one of another model, other data or other "
                f"settings: give another path, or delete it"
            )
        v = {name: xp.asarray(tensor, like=like) for name, tensor in tensors.items()}
        s, h = metadata["state"], metadata["history"]
        history = History(**{**h, "epochs": [Epoch(**e) for e in h["epochs"]]})
        if history.stopped == "interrupted":
            history.stopped = ""
        best_loss = float("inf") if s["best_loss"] is None else s["best_loss"]
        moments = Moments(s["steps"], v["m"], v["v"])
        state = State(
            s["epoch"], v["theta"], moments, v["average"], v["best"], best_loss, s["best_epoch"], s["step_scale"],
            s["halvings"],
        )  # fmt: skip
        return state, history


def _plain(history: History) -> dict[str, Any]:
    """The history as JSON values, which have no infinities: a loss that is not finite becomes None."""
    plain = asdict(history)
    for epoch in plain["epochs"]:
        if epoch["validation"] is not None and not np.isfinite(epoch["validation"]):
            epoch["validation"] = None
    return plain


def _update(digest: Any, name: str, array: Array) -> None:
    values = np.ascontiguousarray(xp.to_numpy(array))
    digest.update(f"{name} {values.dtype} {values.shape}".encode())
    digest.update(values.tobytes())
