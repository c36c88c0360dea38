"""What a training run keeps: its choices, the state that an epoch hands to the next, and what happened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from refflow.arrays import Array
from refflow.flow import Flow
from refflow.training.optimizers import Moments


@dataclass(frozen=True)
class Epoch:
    """What happened in one pass over the training rows. Losses are mean -log p, in nats a row."""

    number: int
    train: float
    validation: float | None
    learning_rate: float
    gradient_norm: float
    seconds: float
    best: bool


@dataclass
class History:
    """The epochs of a run, what interrupted it, and which epoch was kept."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    events: list[str] = field(default_factory=list)
    stopped: str = ""
    dim: int = 1
    log_cell: float = 0.0

    def bits_per_dim(self, loss: float) -> float:
        """A loss in nats a row as bits per dimension, counting quantisation steps."""
        return (loss - self.log_cell) / (self.dim * float(np.log(2.0)))


class FitResult(NamedTuple):
    """The best flow, and how it came about."""

    flow: Flow
    history: History


Callback = Callable[[Epoch], bool | None]
"""Called after every epoch; training stops where it returns True."""


@dataclass(frozen=True)
class Settings:
    """The choices of a run: everything but the data that decides its result."""

    epochs: int
    batch_size: int
    learning_rate: float
    clip: float | None
    ema: float
    patience: int | None
    seed: int


@dataclass(frozen=True)
class State:
    """All that an epoch hands to the next one: what a checkpoint holds."""

    epoch: int
    theta: Array
    moments: Moments
    average: Array
    best: Array
    best_loss: float
    best_epoch: int
    step_scale: float
    halvings: int
