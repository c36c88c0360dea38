"""The run: epochs of minibatches, each from the state that the one before left.

Every random number is a function of (seed, epoch), so a run is a function of its arguments: stopped at any instant and
resumed from its checkpoint, it ends in the same bits.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from os import PathLike
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.conditioners import with_dropout
from refflow.errors import DivergedError
from refflow.flow import Flow
from refflow.modules import bind, parameters
from refflow.observations import Observations
from refflow.scoring import log_prob_rows
from refflow.training.checkpoints import Checkpoint
from refflow.training.likelihood import first_bad_layer, has_dropout, negative_log_likelihood, real_rows
from refflow.training.optimizers import Adam, Flat, Schedule, clip_norm
from refflow.training.records import Callback, Epoch, FitResult, History, Settings, State

MAX_HALVINGS = 12
"""How often a non-finite loss may halve the step before training gives up: 2^-12 of the step is no step."""

VALIDATION_DRAWS = 4
"""Dequantisation draws of the validation rows, the same in every epoch: differences between epochs are not noise."""


class _NonFinite(Exception):
    """A loss or gradient that is not finite, on these rows at these parameters."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


class Run:
    """One call of `fit`: the epochs, from a state to the next."""

    def __init__(
        self,
        flow: Flow,
        train: Observations,
        held_out: Observations | None,
        settings: Settings,
        adam: Adam,
        schedule: Schedule,
        callback: Callback | None,
    ) -> None:
        self.flow, self.settings, self.adam, self.schedule, self.callback = flow, settings, adam, schedule, callback
        self.layout = Flat.of(parameters(flow))
        if train.weights is not None:
            train = replace(train, weights=train.weights / np.mean(train.weights))
        self.train = train
        self.validation = [] if held_out is None else self._validation_rows(held_out)
        self.dropout = has_dropout(flow)
        size = int(np.prod(flow.event_shape))
        self.history = History(
            dim=size, log_cell=0.0 if flow.dequantization is None else flow.dequantization.log_cell(size)
        )
        theta = self.layout.vector(parameters(flow))
        self.state = State(0, theta, adam.start(theta), theta, theta, float("inf"), 0, 1.0, 0)
        self.saver: Any = None

    def keep(self, path: str | PathLike[str], choices: dict[str, Any]) -> None:
        """Write checkpoints to the path, and start from the one that is there if this same run made it."""
        self.saver = Checkpoint.of(path, self.flow, self.train, self.validation, {**asdict(self.settings), **choices})
        found = self.saver.read(self.state.theta)
        if found is not None:
            self.state, self.history = found

    def fit(self) -> FitResult:
        s = self.settings
        try:
            while self.state.epoch < s.epochs and not self.history.stopped:
                self._advance()
            self.history.stopped = self.history.stopped or "finished"
            if self.saver:
                self.saver.write(self.state, self.history)
        except KeyboardInterrupt:
            self.history.stopped = "interrupted"
            if self.saver and len(self.history.epochs) == self.state.epoch:  # else between the two: the last one stays
                self.saver.write(self.state, self.history)
        except DivergedError as error:
            self.history.stopped = "diverged"
            error.result = self.result()  # type: ignore[attr-defined]
            raise
        return self.result()

    def result(self) -> FitResult:
        """The best so far."""
        chosen = self.state.best if self.validation else self._candidate(self.state)
        return FitResult(self._at(chosen), self.history)

    def _at(self, theta: Array) -> Flow:
        return bind(self.flow, xp.tree_map(_owned, self.layout.unflatten(theta)))

    def _candidate(self, state: State) -> Array:
        return state.average if self.settings.ema else state.theta

    def _advance(self) -> None:
        """One epoch, repeated from its start with half the step as long as it meets a loss that is not finite."""
        start = time.perf_counter()
        while True:
            try:
                with np.errstate(all="ignore"):  # what overflows is looked for, and named, after every step
                    state, train_loss, norm = self._epoch(self.state)
                break
            except _NonFinite as event:
                self._halve(event.layer)
        loss = self._validation_loss(state)
        improved = loss is not None and loss < state.best_loss
        if improved and loss is not None:
            state = replace(state, best=self._candidate(state), best_loss=loss, best_epoch=state.epoch)
        rate = self._rate(state, (state.epoch - 1) * self._batches())
        record = Epoch(state.epoch, train_loss, loss, rate, norm, time.perf_counter() - start, improved)
        self.state = state
        self.history.epochs.append(record)
        self.history.best_epoch = state.best_epoch if self.validation else state.epoch
        if self.callback is not None and self.callback(record):
            self.history.stopped = "callback"
        elif self._stale(state):
            self.history.stopped = "early"
        if self.saver:
            self.saver.write_sometimes(self.state, self.history)

    def _stale(self, state: State) -> bool:
        patience = self.settings.patience
        return patience is not None and bool(self.validation) and state.epoch - state.best_epoch >= patience

    def _halve(self, layer: str) -> None:
        state = self.state
        if state.halvings >= MAX_HALVINGS:
            raise DivergedError(
                f"expected finite losses, got a non-finite one in epoch {state.epoch + 1} from {layer} after halving "
                f"the step {state.halvings} times: lower learning_rate, use a bounded scale map, or standardise x"
            )
        self.state = replace(state, step_scale=state.step_scale / 2, halvings=state.halvings + 1)
        self.history.events.append(
            f"epoch {state.epoch + 1}: non-finite loss from {layer}; rolled back and halved the step"
        )

    def _epoch(self, state: State) -> tuple[State, float, float]:
        """The state after one pass over the training rows, its mean loss and its mean gradient norm."""
        theta, moments, average = state.theta, state.moments, state.average
        losses, norms = [], []
        rng = np.random.default_rng((self.settings.seed, 1, state.epoch, state.halvings))
        for batch in self._minibatches(rng):
            loss, g = self._loss_and_gradient(theta, batch, rng)
            g, norm = clip_norm(g, self.settings.clip)
            if not np.isfinite(loss) or not np.isfinite(norm):
                raise _NonFinite(first_bad_layer(self._at(theta), batch))
            theta, moments = self.adam.step(theta, g, moments, self._rate(state, moments.t))
            average = self._averaged(average, theta, moments.t)
            losses.append(loss * len(batch))
            norms.append(norm)
        state = replace(state, epoch=state.epoch + 1, theta=theta, moments=moments, average=average)
        return state, float(np.sum(losses) / len(self.train)), float(np.mean(norms))

    def _batches(self) -> int:
        return -(-len(self.train) // self.settings.batch_size)

    def _minibatches(self, rng: np.random.Generator) -> Iterator[Observations]:
        """The training rows in a random order and in pieces of nearly equal size, with fresh noise."""
        for index in np.array_split(rng.permutation(len(self.train)), self._batches()):
            yield real_rows(self.flow, self.train.rows(index), rng)

    def _loss_and_gradient(self, theta: Array, batch: Observations, rng: np.random.Generator) -> tuple[float, Array]:
        def loss(tree: Any) -> Array:
            flow = bind(self.flow, tree)
            return negative_log_likelihood(with_dropout(flow, rng) if self.dropout else flow, batch)

        value, gradient = xp.value_and_grad(loss)(self.layout.unflatten(theta))
        return float(value), self.layout.vector(gradient)

    def _rate(self, state: State, steps: int) -> float:
        done = steps / max(self.settings.epochs * self._batches(), 1)
        return self.settings.learning_rate * state.step_scale * self.schedule(done)

    def _averaged(self, average: Array, theta: Array, t: int) -> Array:
        """The exponential average, with a decay that starts low so that the first parameters are soon forgotten."""
        if not self.settings.ema:
            return theta
        decay = min(self.settings.ema, (1.0 + t) / (10.0 + t))
        return decay * average + (1.0 - decay) * theta

    def _validation_rows(self, held_out: Observations) -> list[Observations]:
        rng = np.random.default_rng((self.settings.seed, 2))
        draws = 1 if self.flow.dequantization is None else VALIDATION_DRAWS
        return [real_rows(self.flow, held_out, rng) for _ in range(draws)]

    def _validation_loss(self, state: State) -> float | None:
        if not self.validation:
            return None
        flow = self._at(self._candidate(state))
        with np.errstate(all="ignore"):
            return -float(np.mean([_weighted_mean(log_prob_rows(flow, v), v.weights) for v in self.validation]))


def _weighted_mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    return float(np.average(values, weights=weights))


def _owned(view: Array) -> Array:
    """A copy that does not keep the whole parameter vector alive, on its device: CuPy's default is the current one."""
    return xp.namespace(view).asarray(view, copy=True, device=xp.device(view))
