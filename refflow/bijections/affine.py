"""Maps that act on every coordinate by a scale and a shift of its own."""

import math

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros, repeats
from refflow.errors import DataError, ShapeError
from refflow.modules import module, replace


def _check_pair(a: Array, b: Array, names: str) -> None:
    if xp.shape(a) != xp.shape(b) or not xp.shape(a):
        raise ShapeError(f"expected {names} of one event shape, got {xp.shape(a)} and {xp.shape(b)}")


def require_varying(rows: Array, spread: Array) -> None:
    """Refuse channels `(N, C)` that hold one number, to the last digit, or whose spread is 0, infinite or NaN."""
    spread, least, most = (xp.to_numpy(a) for a in (spread, xp.min(rows, axis=0), xp.max(rows, axis=0)))
    refused = np.flatnonzero(~((spread > 0.0) & (spread < np.inf) & (least < most)))
    if refused.size:
        raise DataError(f"expected channels that vary, got constant or non-finite channels {refused.tolist()}")


@module
class ElementwiseAffine(Bijection):
    r"""A scale and a shift for every coordinate:

        y = exp(a) * x + b                                                         (1)
        log|det dy/dx| = sum_i a_i                                                 (2)
        x = (y - b) * exp(-a)                                                      (3)

    with a = `log_scale` and b = `shift`, both of the event's shape.
    """

    log_scale: Array
    shift: Array

    def __post_init__(self) -> None:
        _check_pair(self.log_scale, self.shift, "log_scale and shift")

    @property
    def event_rank(self) -> int:
        return len(xp.shape(self.log_scale))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return xp.shape(self.log_scale)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y = xp.exp(self.log_scale) * x + self.shift  # (1)
        return y, batch_zeros(y, self.event_rank) + xp.sum(self.log_scale)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        x = (y - self.shift) * xp.exp(-self.log_scale)  # (3)
        return x, batch_zeros(x, self.event_rank) - xp.sum(self.log_scale)

    @staticmethod
    def init(event_shape: tuple[int, ...], dtype: str = "float64") -> "ElementwiseAffine":
        """The identity on events of the shape."""
        return ElementwiseAffine(np.zeros(event_shape, dtype=dtype), np.zeros(event_shape, dtype=dtype))


@module
class Standardize(Bijection):
    r"""Centre and scale by known statistics:

        y = (x - mean) / std                                                       (1)
        log|det dy/dx| = -sum_i log std_i                                          (2)
        x = mean + std * y                                                         (3)

    Its Jacobian is part of the density: a scaler outside the model silently changes every likelihood. Wrap it in
    `Frozen` (as `preprocessing.standardize` does), or its statistics train.
    """

    mean: Array
    std: Array

    def __post_init__(self) -> None:
        _check_pair(self.mean, self.std, "mean and std")

    @property
    def event_rank(self) -> int:
        return len(xp.shape(self.mean))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return xp.shape(self.mean)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y = (x - self.mean) / self.std  # (1)
        return y, batch_zeros(y, self.event_rank) - xp.sum(xp.log(self.std))  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        x = self.mean + self.std * y  # (3)
        return x, batch_zeros(x, self.event_rank) + xp.sum(xp.log(self.std))


@module
class ActNorm(Bijection):
    r"""Glow's activation normalisation (Kingma and Dhariwal, 2018, section 3.1): one scale and one shift a channel,

        y = exp(a) * x + b                                                         (1)
        log|det dy/dx| = n sum_c a_c,   n = events' coordinates a channel          (2)
        x = (y - b) * exp(-a)                                                      (3)

    with a and b of shape `(C,)`, for vectors `(..., C)` (n = 1) and images `(..., H, W, C)` (n = H W). It starts as the
    identity. `initialized(x)` returns the map whose output on x has mean 0 and variance 1 in every channel; nothing
    happens on first call.
    """

    log_scale: Array
    shift: Array
    rank: int = 1

    def __post_init__(self) -> None:
        _check_pair(self.log_scale, self.shift, "log_scale and shift")
        if len(xp.shape(self.log_scale)) != 1 or self.rank < 1:
            raise ShapeError(
                f"expected one log_scale a channel and rank >= 1, got {xp.shape(self.log_scale)}, {self.rank}"
            )

    @property
    def event_rank(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return xp.shape(self.log_scale) if self.rank == 1 else None

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        y = xp.exp(self.log_scale) * x + self.shift  # (1)
        return y, batch_zeros(y, self.rank) + self._repeats(y) * xp.sum(self.log_scale)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        x = (y - self.shift) * xp.exp(-self.log_scale)  # (3)
        return x, batch_zeros(x, self.rank) - self._repeats(x) * xp.sum(self.log_scale)

    def _repeats(self, x: Array) -> float:
        return repeats(x, self.rank)

    def initialized(self, x: Array) -> "ActNorm":
        """The ActNorm with exp(a) = 1 / std and b = -mean / std of every channel of the batch x.

        A channel that is constant in the batch has no scale: DataError names it.
        """
        rows = xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        if rows.shape[0] < 2:
            raise DataError(f"expected at least 2 rows to initialise an ActNorm from, got {rows.shape[0]}")
        mean = xp.mean(rows, axis=0)
        std = xp.sqrt(xp.mean(xp.square(rows - mean), axis=0))
        require_varying(rows, std)
        dtypes = self.log_scale.dtype, self.shift.dtype
        return replace(self, log_scale=xp.astype(-xp.log(std), dtypes[0]), shift=xp.astype(-mean / std, dtypes[1]))

    @staticmethod
    def init(channels: int, rank: int = 1, dtype: str = "float64") -> "ActNorm":
        """The identity."""
        return ActNorm(np.zeros(channels, dtype=dtype), np.zeros(channels, dtype=dtype), rank)
