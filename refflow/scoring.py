"""How likely held-out data are under a flow, with the error of that number."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.bijections.base import event_size
from refflow.flow import Flow
from refflow.observations import Observations, observations
from refflow.parameters import first_array


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
        return float(np.std(self.log_prob, ddof=1) / len(self.log_prob) ** 0.5) if len(self.log_prob) > 1 else float("nan")

    @property
    def bits_per_dim(self) -> float:
        """-(mean log p + sum log step) / (D log 2): bits for each coordinate of quantised data."""
        return -(self.mean + self.log_cell) / (self.dim * float(np.log(2.0)))

    @property
    def bits_standard_error(self) -> float:
        """The standard error of `bits_per_dim`."""
        return self.standard_error / (self.dim * float(np.log(2.0)))


def score(
    flow: Flow, x: Any, context: Any = None, *, draws: int = 10, seed: int = 0, batch_size: int = 4096
) -> Score:
    """Score every row of x: the mean over dequantisation draws of log p, or log p itself for continuous data.

    >>> import refflow
    >>> flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
    >>> round(score(flow, np.zeros((3, 2))).mean, 4)
    -1.8379
    """
    data = observations(flow, x, context)
    rng = np.random.default_rng(seed)
    pieces = [
        _mean_log_prob(flow, data.rows(slice(i, i + batch_size)), draws, rng) for i in range(0, len(data), batch_size)
    ]
    size, noise = event_size(flow.event_shape), flow.dequantization
    quantised = noise is not None and noise.quantised(size) == size
    return Score(np.concatenate(pieces), size, quantised, 0.0 if noise is None else noise.log_cell(size))


def _mean_log_prob(flow: Flow, data: Observations, draws: int, rng: np.random.Generator) -> np.ndarray:
    if flow.dequantization is None:
        return log_prob_rows(flow, data)
    dtype = np.dtype(str(first_array(flow).dtype).rpartition(".")[2])
    total = np.zeros(len(data))
    for _ in range(draws):
        noisy = flow.dequantization.noisy(data.x, rng, dtype)
        total += log_prob_rows(flow, Observations(noisy, data.context))
    return total / draws


def log_prob_rows(flow: Flow, data: Observations) -> np.ndarray:
    """log p of rows that are real already, computed where the flow lives, as float64 on the host."""
    like = first_array(flow)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    return xp.to_numpy(flow.log_prob(xp.asarray(data.x, like=like), context)).astype(np.float64)
