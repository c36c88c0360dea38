"""Full-batch maximum likelihood by SciPy's L-BFGS, for problems small enough to see all rows at every step."""

import time
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.flow import Flow
from refflow.modules import bind, first_array, parameters
from refflow.observations import Observations
from refflow.scoring import log_prob_rows
from refflow.training.likelihood import negative_log_likelihood, real_rows
from refflow.training.optimizers import Flat
from refflow.training.records import Callback, Epoch, FitResult, History


def fit_lbfgs(
    flow: Flow,
    train: Observations,
    held_out: Observations | None,
    iterations: int,
    seed: int,
    callback: Callback | None,
) -> FitResult:
    """Minimise the mean -log p with one fixed draw of noise; keep the iterate that is best on the held-out rows.

    Byrd, Lu, Nocedal and Zhu (1995), as `scipy.optimize.minimize(method="L-BFGS-B")`.
    """
    from scipy.optimize import minimize

    run = _Iterations(flow, train, held_out, seed, callback)
    start = run.host(run.layout.vector(parameters(flow)))
    try:
        if iterations:
            minimize(
                run.objective, start, jac=True, method="L-BFGS-B", callback=run.after, options={"maxiter": iterations}
            )
        run.history.stopped = run.history.stopped or "finished"
    except KeyboardInterrupt:
        run.history.stopped = "interrupted"
    return FitResult(run.at(run.best), run.history)


class _Iterations:
    def __init__(
        self, flow: Flow, train: Observations, held_out: Observations | None, seed: int, callback: Callback | None
    ) -> None:
        self.flow, self.callback = flow, callback
        self.layout = Flat.of(parameters(flow))
        self.like = first_array(flow)
        self.train = real_rows(flow, train, np.random.default_rng((seed, 1)))
        self.held_out = None if held_out is None else real_rows(flow, held_out, np.random.default_rng((seed, 2)))
        size = int(np.prod(flow.event_shape))
        self.history = History(dim=size)
        if flow.dequantization is not None:
            self.history.log_cell = flow.dequantization.log_cell(size)
        self.best: np.ndarray = self.host(self.layout.vector(parameters(flow)))
        self.best_loss = float("inf")
        self.last = (float("nan"), float("nan"))
        self.clock = time.perf_counter()

    def host(self, vector: Array) -> np.ndarray:
        return xp.to_numpy(vector).astype(np.float64)

    def at(self, theta: np.ndarray) -> Flow:
        return bind(self.flow, self.layout.unflatten(xp.asarray(theta, like=self.like)))

    def objective(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        tree = self.layout.unflatten(xp.asarray(theta, like=self.like))
        loss = xp.value_and_grad(lambda p: negative_log_likelihood(bind(self.flow, p), self.train))
        with np.errstate(all="ignore"):
            value, gradient = loss(tree)
        value, g = float(value), self.host(self.layout.vector(gradient))
        if not np.isfinite(value) or not np.isfinite(g).all():  # a line search steps back from +inf, not from NaN
            return float("inf"), np.zeros_like(theta)
        self.last = value, float(np.linalg.norm(g))
        return value, g

    def after(self, intermediate_result: Any) -> None:
        theta, value = intermediate_result.x, float(intermediate_result.fun)
        loss = value
        if self.held_out is not None:
            with np.errstate(all="ignore"):
                loss = -float(np.average(log_prob_rows(self.at(theta), self.held_out), weights=self.held_out.weights))
        improved = loss < self.best_loss
        number = len(self.history.epochs) + 1
        if improved:
            self.best, self.best_loss, self.history.best_epoch = theta.copy(), loss, number
        now = time.perf_counter()
        held = loss if self.held_out is not None else None
        record = Epoch(number, value, held, 1.0, self.last[1], now - self.clock, improved)
        self.clock = now
        self.history.epochs.append(record)
        if self.callback is not None and self.callback(record):
            self.history.stopped = "callback"
            raise StopIteration
