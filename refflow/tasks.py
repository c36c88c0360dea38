"""Tasks: data split for training, and how they enter a flow.

Rows are split once: the digits in file order, as everybody splits them, other data by a permutation drawn from the
seed.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refflow.bijections import Bijection, Logit
from refflow.data import (
    DIGITS_SPLIT,
    MNIST5K_SPLIT,
    Quantised,
    load_diamonds,
    load_digits,
    load_mnist5k,
    load_shuttle,
)
from refflow.errors import DataError
from refflow.modules import map_arrays
from refflow.observations import Observations, constant_columns, require_finite
from refflow.preprocessing import Dequantization, standardize
from refflow.tables import Table, quantisation_steps, tied_columns

DIGITS_CHOICES: dict[str, Any] = {
    "model": {
        "layers": 12,
        "hidden": (192, 192),
        "activation": "silu",
        "dropout": 0.5,
        "mask": "alternating",
        "linear": "permutation",
    },
    "fit": {"epochs": 300, "ema": 0.999, "learning_rate": 1e-3},
}
"""Chosen on the validation rows of the digits; `validation/digits_choices.md` has the runs."""

TABLE_CHOICES: dict[str, Any] = {
    "model": {"layers": 8, "hidden": (64, 64), "dropout": 0.0, "mask": "alternating"},
    "fit": {"epochs": 200, "ema": 0.99, "learning_rate": 2e-3, "patience": 60},
}


IMAGE_CHOICES: dict[str, Any] = {
    "model": {"hidden": (64, 64), "dropout": 0.0},
    "fit": {"epochs": 100, "ema": 0.999, "learning_rate": 1e-3, "patience": 30},
}


FEW_ROWS = 20
"""Fewer rows than that, and a task says so."""


@dataclass(frozen=True)
class Task:
    """Data split for training, and how they enter the flow."""

    name: str
    train: Observations
    validation: Observations
    test: Observations
    dequantization: Dequantization | None
    bounds: tuple[float, float] | None
    alpha: float
    image: tuple[int, int, int] | None = None
    """The shape (H, W, C) of rows that are images, flattened or not."""
    columns: tuple[str, ...] = ()
    context_columns: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    choices: dict[str, Any] = field(default_factory=lambda: TABLE_CHOICES)


def digits_task() -> Task:
    """The digits in file order, pixels as levels 0 .. 16 in [0, 17), logit(0.05)."""
    images, _ = load_digits()
    first, second = DIGITS_SPLIT
    train, held, test = (Observations(images[a:b]) for a, b in ((0, first), (first, second), (second, len(images))))
    return Task(
        "digits", train, held, test, Dequantization((1.0,)), (0.0, 17.0), 0.05, (8, 8, 1), choices=DIGITS_CHOICES
    )


def image_task(
    table: Table,
    name: str,
    *,
    seed: int,
    test: float = 0.1,
    validation: float = 0.1,
    bounds: tuple[float, float] | None = None,
    alpha: float = 0.05,
) -> Task:
    """Images `(n, H, W)` or `(n, H, W, C)` from an .npy file, split by the seed.

    Integers are levels: dequantised, in the bounds 0 and the largest level of all rows plus 1 if no others are given.
    """
    shape = table.event_shape
    if len(shape) not in (2, 3):
        raise DataError(
            f"expected images (n, H, W) or (n, H, W, C) in an .npy file, got an array of shape "
            f"{(len(table.values), *(shape or table.values.shape[1:]))} in {name}: rows of numbers are for a model of "
            f"vectors, such as realnvp"
        )
    require_finite(table.values, name)
    levels, remarks = table.values.dtype.kind in "iub", []
    if levels and bounds is None:
        if table.values.min() < 0:
            raise DataError(f"expected levels >= 0 in {name}, got {table.values.min()}: give --bounds LOW,HIGH")
        bounds = (0.0, float(table.values.max()) + 1.0)
    if levels and bounds is not None:
        remarks.append(f"levels {bounds[0]:g} .. {bounds[1] - 1.0:g}, dequantised: bounds {bounds[0]:g},{bounds[1]:g}")
    elif tied_columns(table.values, (0.0,) * table.values.shape[1]):
        remarks.append("values repeat: likelihoods may be inflated; give levels as integers")
    train, held, tested = _split(
        Observations(table.values.reshape(len(table.values), *shape)), name, seed, test, validation
    )
    remarks += _few(table.values, tested)
    height, width, channels = (*shape, 1)[:3]
    return Task(
        Path(name).stem, train, held, tested, Dequantization((1.0,)) if levels else None, bounds, alpha,
        (height, width, channels), remarks=tuple(remarks), choices=IMAGE_CHOICES,
    )  # fmt: skip


def table_task(
    table: Table,
    name: str,
    *,
    seed: int,
    context: Sequence[str] = (),
    drop: Sequence[str] = (),
    test: float = 0.1,
    validation: float = 0.1,
    bounds: tuple[float, float] | None = None,
    alpha: float = 0.05,
) -> Task:
    """A user's table: checked, dequantised where its values repeat on a grid, and split by the seed."""
    require_finite(table.values, name)
    context_numbers = table.column_numbers(context)
    rest = table.without([*context_numbers, *table.column_numbers(drop)])
    x, remarks = rest.values, []
    if x.shape[1] == 0:
        raise DataError(f"expected columns to model in {name}, got none beside the context and the dropped ones")
    if constant := constant_columns(x):
        raise DataError(
            f"expected columns that vary in {name}, got constant columns {_labels(rest, constant)}: --drop them"
        )
    if len(table.event_shape) > 1:
        sides = " x ".join(map(str, table.event_shape))
        remarks.append(f"images of {sides} are flattened: see --model glow for one that knows neighbours")
    steps = quantisation_steps(x)
    if any(steps):
        remarks.append(f"dequantised, because values repeat on a grid: {_steps_in_words(rest, steps)}")
    if tied := tied_columns(x, steps):
        remarks.append(f"values repeat off any decimal grid in {_labels(rest, tied)}: likelihoods may be inflated")
    data = Observations(x, table.values[:, context_numbers] if context_numbers else None)
    train, held, tested = _split(data, name, seed, test, validation)
    remarks += _few(data, tested)
    if train.context is not None and (constant := constant_columns(train.context)):
        labels = _labels(table, [context_numbers[i] for i in constant])
        raise DataError(
            f"expected context columns that vary in the training rows of {name}, got constant columns {labels}: "
            f"--drop them"
        )
    return Task(
        Path(name).stem, train, held, tested, Dequantization(steps) if any(steps) else None,
        bounds, alpha, columns=rest.columns, remarks=tuple(remarks),
        context_columns=tuple(table.columns[i] for i in context_numbers) if table.columns else (),
    )  # fmt: skip


def _split(
    data: Observations, name: str, seed: int, test: float, validation: float
) -> tuple[Observations, Observations, Observations]:
    """Training, validation and test rows."""
    n = len(data)
    order = np.random.default_rng((seed, 3)).permutation(n)
    cut_test, cut_held = n - max(1, round(test * n)), max(1, round(validation * n))
    if cut_test - cut_held < 2:
        raise DataError(f"expected at least 4 rows to split for training, validation and test in {name}, got {n}")
    first, second, third = order[: cut_test - cut_held], order[cut_test - cut_held : cut_test], order[cut_test:]
    return data.rows(np.sort(first)), data.rows(np.sort(second)), data.rows(np.sort(third))


def _few(data: Sized, tested: Sized) -> list[str]:
    text = f"only {len(data)} rows, {len(tested)} of them to test on: no score of so few means much"
    return [text] if len(data) < FEW_ROWS else []


def _labels(table: Table, numbers: Sequence[int]) -> list[str]:
    return [table.columns[i] if table.columns else str(i) for i in numbers]


def _steps_in_words(table: Table, steps: Sequence[float]) -> str:
    if len(steps) > 1 and len(set(steps)) == 1:
        return f"all {len(steps)} columns (step {steps[0]:g})"
    found = [i for i, s in enumerate(steps) if s]
    named = zip(found, _labels(table, found), strict=True)
    return ", ".join(f"{label} (step {steps[i]:g})" for i, label in named)


def preprocessing(task: Task, dtype: Any, seed: int) -> list[Bijection]:
    """Logit if there are bounds, then standardisation by the training rows."""
    rank = task.train.x.ndim - 1
    maps: list[Bijection] = [] if task.bounds is None else [Logit(task.alpha, *task.bounds, rank)]
    x = real_values(task, task.train, np.random.default_rng((seed, 4)), np.dtype("float64"))
    for f in maps:
        x, log_det = f.forward(x)
        if not np.isfinite(log_det).all():
            raise DataError(
                f"expected all rows inside the bounds {task.bounds}, got row {int(np.argmin(log_det))} outside"
            )
    return [*maps, map_arrays(lambda a: a.astype(dtype), standardize(x))]


def context_preprocessing(task: Task, dtype: Any) -> Bijection | None:
    """Standardisation of the context by the training rows, if there is a context."""
    if task.train.context is None:
        return None
    return map_arrays(lambda a: a.astype(dtype), standardize(task.train.context.astype(np.float64)))


def real_values(task: Task, data: Observations, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """The rows as points of the line, dequantised if they are quantised."""
    return data.x.astype(dtype) if task.dequantization is None else task.dequantization.noisy(data.x, rng, dtype)


def mnist5k_task() -> Task:
    """5,000 digits of MNIST, pixels as levels 0 .. 255 in [0, 256), logit(1e-6); needs the extra `data`."""
    images, _ = load_mnist5k()
    first, second = MNIST5K_SPLIT
    train, held, test = (Observations(images[a:b]) for a, b in ((0, first), (first, second), (second, len(images))))
    return Task(
        "mnist5k", train, held, test, Dequantization((1.0,)), (0.0, 256.0), 1e-6, (28, 28, 1), choices=IMAGE_CHOICES
    )


def quantised_task(name: str, load: Callable[[], Quantised]) -> Task:
    """A table of rounded numbers, as the lower corners of their cells; needs the extra `data`."""
    table = load()
    train, held, test = (Observations(table.cells()[rows]) for rows in table.split())
    return Task(name, train, held, test, Dequantization(table.steps), None, 0.0, columns=table.columns)


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits_task,
    "mnist5k": mnist5k_task,
    "diamonds": partial(quantised_task, "diamonds", load_diamonds),
    "shuttle": partial(quantised_task, "shuttle", load_shuttle),
}
"""Data that the command line knows by name."""
