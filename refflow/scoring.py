"""How likely held-out data are under a flow, with the error of that number."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.bijections.base import event_size
from refflow.errors import StructureError
from refflow.flow import Flow
from refflow.modules import first_array
from refflow.observations import Observations, observations
from refflow.preprocessing import Dequantization


@dataclass(frozen=True)
class Score:
    """Log-likelihoods of rows, in nats, and their summary.

    For dequantised data each row's value is the mean over draws of log p(x + step u), counting step volumes: a lower
    bound of the row's log-probability.
    """

    log_prob: np.ndarray
    """One value for each row."""
    dim: int
    """How many coordinates a row has."""
    quantised: bool
    """Whether every coordinate is quantised, so that bits/dim count levels."""
    log_cell: float
    """The sum of the logarithms of the quantisation steps of a row."""

    @property
    def mean(self) -> float:
        """The mean log-density a row, in nats."""
        return float(np.mean(self.log_prob))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over rows, in nats; NaN for one row."""
        return (
            float(np.std(self.log_prob, ddof=1) / len(self.log_prob) ** 0.5) if len(self.log_prob) > 1 else float("nan")
        )

    @property
    def bits_per_dim(self) -> float:
        """-(mean log p + sum log step) / (D log 2): bits for each coordinate of quantised data."""
        return -(self.mean + self.log_cell) / (self.dim * float(np.log(2.0)))

    @property
    def bits_standard_error(self) -> float:
        """The standard error of `bits_per_dim`."""
        return self.standard_error / (self.dim * float(np.log(2.0)))


def score(
    flow: Flow, x: Any, context: Any = None, *, draws: int = 10, seed: int | tuple[int, ...] = 0, batch_size: int = 4096
) -> Score:
    """Score every row of x: the mean over dequantisation draws of log p, or log p itself for continuous data.

    Rows that are off the grid of the flow's quantisation steps are scored with a UserWarning.

    >>> import refflow
    >>> flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
    >>> round(score(flow, np.zeros((3, 2))).mean, 4)
    -1.8379
    """
    data = observations(flow, x, context)
    rng = np.random.default_rng(seed)
    dtype = host_dtype(flow)
    blocks = (data.rows(slice(i, i + batch_size)) for i in range(0, len(data), batch_size))
    values = [mean_log_prob(partial(log_prob_rows, flow), b, flow.dequantization, draws, rng, dtype) for b in blocks]
    return summary(np.concatenate(values), flow.event_shape, flow.dequantization)


def summary(log_prob: np.ndarray, event_shape: tuple[int, ...], noise: Dequantization | None) -> Score:
    """The score made of values for single rows."""
    size = event_size(event_shape)
    quantised = noise is not None and noise.quantised(size) == size
    return Score(log_prob, size, quantised, 0.0 if noise is None else noise.log_cell(size))


def mean_log_prob(
    density: Callable[[Observations], np.ndarray],
    data: Observations,
    noise: Dequantization | None,
    draws: int,
    rng: np.random.Generator,
    dtype: np.dtype,
) -> np.ndarray:
    """For every row the mean over dequantisation draws of a log-density; the log-density itself without noise."""
    if noise is None:
        return density(replace(data, x=data.x.astype(dtype)))
    if draws < 1:
        raise StructureError(f"expected at least one dequantisation draw, got {draws}")
    total = np.zeros(len(data))
    for _ in range(draws):
        total += density(replace(data, x=noise.noisy(data.x, rng, dtype)))
    return total / draws


def host_dtype(flow: Flow) -> np.dtype:
    """The NumPy dtype of the flow's parameters."""
    return np.dtype(str(first_array(flow).dtype).rpartition(".")[2])


def log_prob_rows(flow: Flow, data: Observations) -> np.ndarray:
    """log p of rows that are real already, computed where the flow lives, as float64 on the host."""
    like = first_array(flow)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    return xp.to_numpy(flow.log_prob(xp.asarray(data.x, like=like), context)).astype(np.float64)
