"""Batch normalisation in its evaluation form: statistics that were taken once, and do not move."""

import math
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.affine import require_varying
from refflow.bijections.base import Bijection, batch_zeros, repeats
from refflow.bijections.chain import Frozen
from refflow.errors import DataError, ShapeError, StructureError
from refflow.modules import module, replace


@module
class Moments(Bijection):
    r"""Channels centred and scaled by known moments:

        u = (x - m) / sqrt(v + eps)                                                (1)
        log|det du/dx| = -n sum_c log(v_c + eps) / 2                               (2)
        x = m + u sqrt(v + eps)                                                    (3)

    with m = `mean`, v = `variance` >= 0, both `(C,)`, and n as in `BatchNorm`, which holds it frozen.
    """

    mean: Array
    variance: Array
    eps: float = 1e-5
    rank: int = 1

    def __post_init__(self) -> None:
        if len(xp.shape(self.mean)) != 1 or xp.shape(self.variance) != xp.shape(self.mean) or self.rank < 1:
            raise ShapeError(
                f"expected a mean and a variance for each channel and rank >= 1, got {xp.shape(self.mean)}, "
                f"{xp.shape(self.variance)} and {self.rank}"
            )
        v = self.variance
        if isinstance(v, np.ndarray) and v.dtype.kind == "f" and np.any(v < 0.0):
            raise StructureError(f"expected variances >= 0, got {v.tolist()}")
        if not 0.0 <= self.eps < float("inf"):
            raise StructureError(f"expected eps >= 0, got {self.eps}")

    @property
    def event_rank(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return xp.shape(self.mean) if self.rank == 1 else None

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        w = self._widened()
        u = (x - self.mean) / xp.sqrt(w)  # (1)
        return u, batch_zeros(u, self.rank) - 0.5 * repeats(u, self.rank) * xp.sum(xp.log(w))  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        w = self._widened()
        x = self.mean + y * xp.sqrt(w)  # (3)
        return x, batch_zeros(x, self.rank) + 0.5 * repeats(x, self.rank) * xp.sum(xp.log(w))  # (2)

    def _widened(self) -> Array:
        return self.variance + xp.constant(self.eps, self.variance)


@module
class BatchNorm(Bijection):
    r"""Batch normalisation as a flow's layer (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.7; Papamakarios et al.,
    2017, appendix B), in evaluation form: with the moments m, v of `Moments`,

        y = exp(a) u + b,   u = (x - m) / sqrt(v + eps)                            (1)
        log|det dy/dx| = n sum_c (a_c - log(v_c + eps) / 2)                        (2)
        x = m + (y - b) exp(-a) sqrt(v + eps)                                      (3)

    for vectors `(..., C)` (n = 1) and images `(..., H, W, C)` (n = H W). a = `log_scale` and b = `shift` `(C,)` train;
    the moments are `Frozen`, and no call changes them or looks at other rows: a density that depends on the batch it
    is asked in is no density. `initialized(x)` returns the map with the moments of the batch x.
    """

    moments: Frozen
    log_scale: Array
    shift: Array

    def __post_init__(self) -> None:
        if not isinstance(self.moments.bijection, Moments):
            raise StructureError(f"expected Frozen(Moments(...)), got a {type(self.moments.bijection).__name__} in it")
        size = xp.shape(self.moments.bijection.mean)
        if not xp.shape(self.log_scale) == xp.shape(self.shift) == size:
            raise ShapeError(
                f"expected log_scale and shift {size}, got {xp.shape(self.log_scale)} and {xp.shape(self.shift)}"
            )

    @property
    def event_rank(self) -> int:
        return self.moments.event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.moments.event_shape

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        u, log_det = self.moments.forward(x)
        y = xp.exp(self.log_scale) * u + self.shift  # (1)
        return y, log_det + repeats(y, self.event_rank) * xp.sum(self.log_scale)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        u = (y - self.shift) * xp.exp(-self.log_scale)
        x, log_det = self.moments.inverse(u)  # (3)
        return x, log_det - repeats(x, self.event_rank) * xp.sum(self.log_scale)  # (2)

    def initialized(self, x: Array) -> "BatchNorm":
        """The map with the moments of the batch x; a channel that is constant there raises DataError."""
        rows = xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        if rows.shape[0] < 2:
            raise DataError(f"expected at least 2 rows to take moments of, got {rows.shape[0]}")
        mean = xp.mean(rows, axis=0)
        variance = xp.mean(xp.square(rows - mean), axis=0)
        require_varying(rows, variance)
        mean, variance = (xp.astype(v, self.log_scale.dtype) for v in (mean, variance))
        return replace(self, moments=Frozen(replace(self.moments.bijection, mean=mean, variance=variance)))

    @staticmethod
    def init(channels: int, *, eps: float = 1e-5, rank: int = 1, dtype: Any = "float64") -> "BatchNorm":
        """The moments 0 and 1, no further scale and shift."""
        zeros, ones = np.zeros(channels, dtype=dtype), np.ones(channels, dtype=dtype)
        return BatchNorm(Frozen(Moments(zeros, ones, eps, rank)), zeros.copy(), zeros.copy())
