"""What stands between data as they come and a flow's first layer.

Standardising is a bijection, and its Jacobian belongs to the density. Dequantising is not: it adds noise, so it lives
on the data's side, with `fit` and `score`; the flow only remembers the steps.
"""

from collections.abc import Sequence

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections import Bijection, Frozen, Standardize
from refflow.errors import DataError, ShapeError, StructureError
from refflow.modules import Module, module

Preprocessing = Bijection | Sequence[Bijection]
"""What a recipe takes: the maps between the data and its first layer, in order, or a single one."""


def maps_of(preprocessing: Preprocessing) -> list[Bijection]:
    """The maps as a list."""
    maps = [preprocessing] if isinstance(preprocessing, Bijection) else preprocessing
    if not isinstance(maps, Sequence) or not all(isinstance(f, Bijection) for f in maps):
        of = ", ".join(type(f).__name__ for f in maps[:3]) if isinstance(maps, Sequence) else ""
        raise StructureError(
            f"expected a bijection or a list of them as preprocessing, got a {type(maps).__name__} ({of})"
        )
    return list(maps)


def standardize(x: Array, axis: int | tuple[int, ...] = 0) -> Frozen:
    """The frozen map (x - mean) / std with the statistics of the rows of x: for data, as a recipe's `preprocessing`;
    for a context, as its `context_preprocessing`.

    A constant column has no density; DataError names it.

    >>> layer = standardize(np.array([[1.0], [3.0]]))
    >>> layer.forward(np.array([[5.0]]))
    (array([[3.]]), array([0.]))
    """
    mean = xp.mean(x, axis=axis)
    std = xp.sqrt(xp.mean(xp.square(x - mean), axis=axis))
    spread, scale = xp.to_numpy(std), np.abs(xp.to_numpy(mean))
    constant = np.flatnonzero(~(spread > 8.0 * np.finfo(spread.dtype).eps * scale))
    if constant.size:
        raise DataError(
            f"expected columns that vary, got constant or non-finite columns {constant.tolist()}: "
            f"a constant has no density, so leave them out"
        )
    return Frozen(Standardize(mean, std))


@module
class Dequantization(Module):
    r"""Uniform dequantisation: integers k become x = k + step * u, u uniform on [0, 1) (Theis, van den Oord and Bethge,
    2016, section 3.1).

    `steps` has one quantisation step a coordinate (in the event's row-major order), or a single one for all; a step of
    0 marks a continuous coordinate. The mean of log p(k + step u) over u is a lower bound of the log-probability of the
    level k, up to sum log step.
    """

    steps: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.steps or any(not 0.0 <= s < float("inf") for s in self.steps) or not any(self.steps):
            raise StructureError(f"expected non-negative steps, one of them positive, got {self.steps}")

    def noisy(self, x: np.ndarray, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
        """One draw x + step * u in the dtype, strictly inside the cell of each level."""
        noise = rng.random(x.shape, dtype=np.float64)
        widths = self._widths(x.shape)
        inside = np.nextafter((x + widths).astype(dtype), x.astype(dtype), dtype=dtype)
        return np.where(widths > 0.0, np.minimum((x + widths * noise).astype(dtype), inside), x).astype(dtype)

    def off_grid(self, x: np.ndarray) -> list[int]:
        """The coordinates of rows x (in row-major order) whose values do not lie whole steps apart.

        >>> Dequantization((1.0, 0.0)).off_grid(np.array([[0.5, 0.1], [2.5, 0.2]]))
        []
        >>> Dequantization((1.0, 0.0)).off_grid(np.array([[0.5, 0.1], [0.75, 0.2]]))
        [0]
        """
        flat = x.reshape(len(x), -1)
        widths = np.ravel(self._widths(x.shape[1:] if len(self.steps) > 1 else flat.shape[1:]))
        number = np.asarray(flat, dtype=np.float64) / np.where(widths > 0.0, widths, 1.0)
        apart = number - number[:1]
        eps = float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0.0
        rounding = np.maximum(0.01, 8.0 * eps * np.max(np.abs(number), axis=0))
        off = np.max(np.abs(apart - np.round(apart)), axis=0) > rounding
        return [int(i) for i in np.flatnonzero(off & (widths > 0.0))]

    def levels(self, x: np.ndarray) -> np.ndarray:
        """The levels below points of the line, such as samples: step * floor(x / step)."""
        widths = self._widths(x.shape)
        safe = np.where(widths > 0.0, widths, 1.0)
        return np.where(widths > 0.0, np.floor(x / safe) * safe, x).astype(x.dtype)

    def log_cell(self, size: int) -> float:
        """sum log step over the quantised coordinates of an event of that size: what turns density into probability."""
        widths = self._widths((size,)).ravel()
        return float(np.sum(np.log(widths[widths > 0.0])))

    def quantised(self, size: int) -> int:
        """How many coordinates of an event of that size are quantised."""
        return int(np.count_nonzero(self._widths((size,))))

    def _widths(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(self.steps) == 1:
            return np.full(shape[-1:], self.steps[0])
        for rank in range(1, len(shape) + 1):
            if int(np.prod(shape[-rank:])) == len(self.steps):
                return np.asarray(self.steps).reshape(shape[-rank:])
        raise ShapeError(f"expected events of {len(self.steps)} coordinates, one for each step, got shape {shape}")
