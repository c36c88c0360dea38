"""Maximum likelihood by gradient ascent.

`fit` minimises the mean of -log p(x) over the training rows (weighted, if weights are given) and returns the
parameters that were best on the validation rows. Every random number is a function of (seed, epoch), so a run is a
function of its arguments: stopped at any instant and resumed from its checkpoint, it ends in the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections import Chain
from refflow.conditioners import MLP, ResidualNet, with_dropout
from refflow.errors import DataError, DivergedError, StructureError
from refflow.flow import Flow
from refflow.modules import Module, bind, field_names, first_array, parameters
from refflow.observations import Observations, constant_columns, observations
from refflow.optimizers import Adam, Flat, Moments, Schedule, clip_norm, optimizer, schedule_function
from refflow.scoring import host_dtype, log_prob_rows

MAX_HALVINGS = 12
"""How often a non-finite loss may halve the step before training gives up: 2^-12 of the step is no step."""

VALIDATION_DRAWS = 4
"""Dequantisation draws of the validation rows, the same in every epoch: differences between epochs are not noise."""


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


def fit(
    flow: Flow,
    x: Any,
    *,
    context: Any = None,
    weights: Any = None,
    validation: float | tuple[Any, ...] = 0.1,
    epochs: int = 200,
    batch_size: int = 256,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    schedule: str | Schedule = "cosine",
    weight_decay: float = 0.0,
    clip: float | None = 5.0,
    ema: float = 0.0,
    patience: int | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> FitResult:
    r"""Fit the flow's parameters to the rows of x by maximum likelihood; return the best flow and the history.

    Minimises L(theta) = -sum_i w_i log p(x_i; theta) / sum_i w_i over minibatches.

    * `context`, `weights`: one row, one non-negative weight for each row of x.
    * `validation`: the fraction of rows held out, drawn by the seed; or the held-out rows themselves, as `x`, or as
      `(x, context)`; 0 for none, and then the last parameters are returned.
    * `optimizer`: adam, adamw (Adam with decoupled `weight_decay`), or lbfgs (SciPy's, on all rows at once: for tiny
      problems; `epochs` is then its number of iterations).
    * `schedule`: constant, cosine, or a function from the fraction of training done to a factor of `learning_rate`.
    * `clip`: the largest Euclidean norm of a gradient, None for any.
    * `ema`: the decay of an exponential average of the parameters, which is then what is validated and returned;
      0 for none.
    * `patience`: stop after that many epochs without a new best on the validation rows.
    * `callback`: called with each `Epoch`; training stops where it returns True.
    * `checkpoint`: a file written after every epoch (at most every ten seconds); a run that finds one made by the same
      call and data goes on from it and ends in the same bits.

    A flow with a `dequantization` sees fresh noise in every epoch. A loss that is not finite rolls back to the epoch's
    start, halves the step and says which layer it came from. Ctrl-C returns the best so far.

    Raises `DataError` for NaN, infinities, constant columns or integers without dequantisation, `DivergedError` if
    halving the step does not help.

    >>> import refflow
    >>> x = np.random.default_rng(0).normal(3.0, 2.0, (200, 2))
    >>> flow = refflow.realnvp(2, layers=2, hidden=(8,), preprocessing=[refflow.standardize(x)], seed=0)
    >>> flow, history = fit(flow, x, epochs=2)
    >>> len(history.epochs)
    2
    """
    settings = Settings(epochs, batch_size, learning_rate, clip, ema, patience, seed)
    _check(settings)
    train, held_out = _split(flow, observations(flow, x, context, weights), validation, seed)
    if flow.dequantization is None and (constant := constant_columns(train.x)):
        raise DataError(f"expected columns that vary, got constant columns {constant}: leave them out")
    if optimizer == "lbfgs":
        from refflow.lbfgs import fit_lbfgs

        if checkpoint is not None or weight_decay or ema:
            raise StructureError("expected no checkpoint, weight_decay or ema with lbfgs")
        return fit_lbfgs(flow, train, held_out, epochs, seed, callback)
    run = _Run(
        flow, train, held_out, settings, make_optimizer(optimizer, weight_decay), schedule_function(schedule), callback
    )
    if checkpoint is not None:
        name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", "function")
        run.keep(checkpoint, {"optimizer": optimizer, "schedule": name, "weight_decay": weight_decay})
    return run.fit()


make_optimizer = optimizer


def _check(s: Settings) -> None:
    rules = {
        "epochs >= 0": s.epochs >= 0,
        "batch_size >= 1": s.batch_size >= 1,
        "a positive, finite learning_rate": 0.0 < s.learning_rate < float("inf"),
        "a positive clip or None": s.clip is None or s.clip > 0.0,
        "ema in [0, 1)": 0.0 <= s.ema < 1.0,
        "patience >= 1 or None": s.patience is None or s.patience >= 1,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise StructureError(f"expected {'; '.join(broken)}; got {asdict(s)}")


def _split(
    flow: Flow, data: Observations, validation: float | tuple[Any, ...] | Any, seed: int
) -> tuple[Observations, Observations | None]:
    """The rows to train on and the rows held out."""
    if isinstance(validation, tuple):
        return data, _held_out(flow, *validation)
    if not isinstance(validation, int | float):
        return data, _held_out(flow, validation)
    if not 0.0 <= validation < 1.0:
        raise StructureError(f"expected a validation fraction in [0, 1), got {validation}")
    if validation == 0.0:
        return data, None
    held = max(1, round(validation * len(data)))
    if held >= len(data):
        raise DataError(f"expected more than {held} rows to hold {held} out for validation, got {len(data)}")
    order = np.random.default_rng((seed, 0)).permutation(len(data))
    return data.rows(np.sort(order[held:])), data.rows(np.sort(order[:held]))


def _held_out(flow: Flow, x: Any, context: Any = None, weights: Any = None) -> Observations:
    return observations(flow, x, context, weights, name="validation")


def real_rows(flow: Flow, data: Observations, rng: np.random.Generator) -> Observations:
    """The rows as points of the line, in the flow's dtype: dequantised if they are quantised."""
    dtype = host_dtype(flow)
    x = data.x.astype(dtype) if flow.dequantization is None else flow.dequantization.noisy(data.x, rng, dtype)
    return replace(data, x=x)


def negative_log_likelihood(flow: Flow, data: Observations) -> Array:
    """-sum_i w_i log p(x_i) / n over rows that are real already, on the flow's device. Weights have mean 1 over all
    training rows."""
    like = first_array(flow)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    log_p = flow.log_prob(xp.asarray(data.x, like=like), context)
    if data.weights is not None:
        log_p = log_p * xp.asarray(data.weights, like=like)
    return -xp.mean(log_p)


def first_bad_layer(flow: Flow, data: Observations) -> str:
    """The first layer whose output or log-determinant is not finite on these rows, for a message."""
    like = first_array(flow)
    x = xp.asarray(data.x, like=like)
    context = None if data.context is None else xp.asarray(data.context, like=like)
    layers = flow.bijection.bijections if isinstance(flow.bijection, Chain) else (flow.bijection,)
    with np.errstate(all="ignore"):
        for k, f in enumerate(layers):
            x, log_det = f.forward(x, context)
            if not (xp.all(xp.isfinite(x)) and xp.all(xp.isfinite(log_det))):
                return f"layer {k} ({type(f).__name__})"
    return "the gradient (every layer's output is finite)"


class _NonFinite(Exception):
    """A loss or gradient that is not finite, on these rows at these parameters."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


class _Run:
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
        from refflow.checkpoints import Checkpoint

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

        with np.errstate(all="ignore"):
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
    """A copy that does not keep the whole parameter vector alive."""
    return xp.namespace(view).asarray(view, copy=True)


def has_dropout(m: Any) -> bool:
    """Whether any conditioner in the module drops units while training."""
    if isinstance(m, tuple):
        return any(has_dropout(part) for part in m)
    if not isinstance(m, Module):
        return False
    if isinstance(m, MLP | ResidualNet):
        return m.dropout > 0.0
    return any(has_dropout(getattr(m, name)) for name in field_names(type(m)))
