"""Data as they come: checked once, at the rim, with row and column in every complaint."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow import arrays as xp
from refflow.errors import DataError, ShapeError
from refflow.flow import Flow


@dataclass(frozen=True)
class Observations:
    """Rows of data on the host, with the context and the weight of each row if there are any."""

    x: np.ndarray
    context: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Any) -> "Observations":
        """The rows at an index."""
        return Observations(
            self.x[index],
            None if self.context is None else self.context[index],
            None if self.weights is None else self.weights[index],
        )


def observations(flow: Flow, x: Any, context: Any = None, weights: Any = None, name: str = "x") -> Observations:
    """Check data against the flow and bring them to the host; every error says row, column and what to do.

    Rows of a quantised flow whose values do not lie whole quantisation steps apart, such as levels that somebody
    rescaled, are a UserWarning: noise of the flow's steps does not make them the data that it was trained on.
    """
    data = _host(x, name)
    if data.shape[1:] != flow.event_shape or data.ndim != 1 + len(flow.event_shape):
        text = ", ".join(map(str, flow.event_shape))
        raise ShapeError(f"expected {name} of shape (n, {text}), one row for each observation, got {data.shape}")
    if len(data) == 0:
        raise DataError(f"expected at least one row in {name}, got none")
    if data.dtype.kind in "iub" and flow.dequantization is None:
        raise DataError(
            f"expected {name} of a floating dtype, got {data.dtype}: integers have no density. Give the flow a "
            f"Dequantization, or convert the data to float if they are measurements"
        )
    require_finite(data, name)
    if flow.dequantization is not None and (off := flow.dequantization.off_grid(data)):
        warnings.warn(
            f"{name} is not on the grid of the flow's quantisation steps in {_some(off)}: its likelihoods mean little. "
            f"Give levels as the flow was trained on, or ask log_prob about points between them",
            stacklevel=3,
        )
    rows = len(data)
    return Observations(data, _checked_context(flow, context, rows), _checked_weights(weights, rows))


def _host(x: Any, name: str) -> np.ndarray:
    data = xp.to_numpy(x) if xp.is_array(x) else np.asarray(x)
    if data.dtype.kind not in "iubf":
        raise DataError(f"expected real numbers in {name}, got dtype {data.dtype}")
    return data


def require_finite(data: np.ndarray, name: str) -> None:
    """Refuse NaN and infinities, naming the first one's row and column."""
    bad = np.argwhere(~np.isfinite(data)) if data.dtype.kind == "f" else np.empty((0, data.ndim), dtype=int)
    if len(bad):
        first: list[int] = np.asarray(bad[0]).tolist()
        column = f", column {', '.join(map(str, first[1:]))}" if first[1:] else ""
        place = f"row {first[0]}{column}"
        value = data[tuple(first)]
        raise DataError(
            f"expected finite values in {name}, got {value} at {place} ({len(bad)} in all): remove or impute such rows"
        )


def _checked_context(flow: Flow, context: Any, rows: int) -> np.ndarray | None:
    if flow.context_dim == 0:
        if context is not None:
            raise ShapeError("expected no context: this flow is unconditional")
        return None
    if context is None:
        raise ShapeError(f"expected a context of shape ({rows}, {flow.context_dim}), got none")
    data = _host(context, "context")
    if data.shape != (rows, flow.context_dim):
        raise ShapeError(f"expected a context of shape ({rows}, {flow.context_dim}), got {data.shape}")
    require_finite(data, "context")
    return data


def _checked_weights(weights: Any, rows: int) -> np.ndarray | None:
    if weights is None:
        return None
    data = _host(weights, "weights").astype(np.float64)
    if data.shape != (rows,):
        raise ShapeError(f"expected one weight for each of {rows} rows, got shape {data.shape}")
    require_finite(data, "weights")
    if np.any(data < 0.0) or not np.any(data > 0.0):
        raise DataError("expected non-negative weights, at least one of them positive")
    return data


def _some(columns: list[int]) -> str:
    return f"columns {', '.join(map(str, columns[:8]))}" + (f", ... ({len(columns)} in all)" if columns[8:] else "")


def constant_columns(x: np.ndarray) -> list[int]:
    """The coordinates (in row-major order of an event) that take one value in all rows.

    >>> constant_columns(np.array([[1.0, 2.0], [1.0, 3.0]]))
    [0]
    """
    flat = x.reshape(len(x), -1)
    return [int(i) for i in np.flatnonzero((flat == flat[:1]).all(axis=0))]
