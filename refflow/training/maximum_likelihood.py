"""`fit`: maximum likelihood by gradient ascent, with its arguments checked and its rows split."""

import warnings
from os import PathLike
from typing import Any

import numpy as np

from refflow.errors import DataError, StructureError
from refflow.flow import Flow
from refflow.observations import Observations, constant_columns, observations
from refflow.training import optimizers
from refflow.training.epochs import Run
from refflow.training.lbfgs import fit_lbfgs
from refflow.training.likelihood import scale_warnings
from refflow.training.optimizers import Schedule
from refflow.training.records import Callback, FitResult, Settings


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

    * `context`, `weights`: one row, one non-negative weight for each row of x. A context should be of unit scale, as x
      should: give the flow `context_preprocessing=standardize(context)`, which its file keeps.
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

    Warns (UserWarning), and notes in `history.events`, where the untrained flow puts the rows far from where its base
    has its mass, or where it reads a context far from unit scale: training from there is slow and often bad, so
    standardise. Warns of rows that are off the grid of the flow's quantisation steps.

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
    events = scale_warnings(flow, train, seed)
    for text in events:
        warnings.warn(text, stacklevel=2)
    if optimizer == "lbfgs":
        if checkpoint is not None or weight_decay or ema:
            raise StructureError("expected no checkpoint, weight_decay or ema with lbfgs")
        fitted, history = fit_lbfgs(flow, train, held_out, epochs, seed, callback)
        history.events[:0] = events
        return FitResult(fitted, history)
    run = Run(
        flow, train, held_out, settings, optimizers.optimizer(optimizer, weight_decay),
        optimizers.schedule_function(schedule), callback,
    )  # fmt: skip
    run.history.events.extend(events)
    if checkpoint is not None:
        name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", "function")
        run.keep(checkpoint, {"optimizer": optimizer, "schedule": name, "weight_decay": weight_decay})
    return run.fit()


def _check(s: Settings) -> None:
    rules = {
        "epochs >= 0": (s.epochs, s.epochs >= 0),
        "batch_size >= 1": (s.batch_size, s.batch_size >= 1),
        "a positive, finite learning_rate": (s.learning_rate, 0.0 < s.learning_rate < float("inf")),
        "a positive clip or None": (s.clip, s.clip is None or s.clip > 0.0),
        "ema in [0, 1)": (s.ema, 0.0 <= s.ema < 1.0),
        "patience >= 1 or None": (s.patience, s.patience is None or s.patience >= 1),
    }
    broken = [f"{rule}, got {value}" for rule, (value, holds) in rules.items() if not holds]
    if broken:
        raise StructureError(f"expected {'; '.join(broken)}")


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
