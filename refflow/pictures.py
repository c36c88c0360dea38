"""Pictures of a run and of a density: training curve, samples beside data, densities in two dimensions.

Needs matplotlib (the extra `plot`). Nothing here touches matplotlib's global state: figures are made and saved
directly, with the Agg canvas.
"""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import MissingExtraError
from refflow.storage import write_atomic
from refflow.training import History

INK, TRAIN, HELD = "#222222", "#8da0cb", "#d95f02"


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'refflow[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | PathLike[str]) -> Path:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png", metadata={"Software": None})
    return write_atomic(path, buffer.getvalue())


def training_curve(history: History, path: str | PathLike[str], bits: bool = False) -> Path:
    """The loss on training and validation rows in every epoch, and the epoch that was kept.

    In nats a row, or in bits per dimension.
    """
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    unit: Callable[[float], float] = history.bits_per_dim if bits else float
    numbers = [e.number for e in history.epochs]
    axes.plot(numbers, [unit(e.train) for e in history.epochs], color=TRAIN, label="training rows")
    held = [(e.number, unit(e.validation)) for e in history.epochs if e.validation is not None]
    if held:
        axes.plot(*zip(*held, strict=True), color=HELD, label="validation rows")
        best = dict(held).get(history.best_epoch)
        if best is not None:
            axes.plot(history.best_epoch, best, "o", color=HELD, label=f"kept: epoch {history.best_epoch}, {best:.3f}")
    values = np.array([unit(e.train) for e in history.epochs] + [v for _, v in held])
    if len(values) and np.isfinite(values).any():
        finite = values[np.isfinite(values)]
        low, high = finite.min(), np.quantile(finite, 0.97)
        axes.set_ylim(low - 0.05 * (high - low + 1e-9), high + 0.1 * (high - low + 1e-9))
    axes.set(xlabel="epoch", ylabel="bits per dimension" if bits else "-log p, nats a row", title="Training curve")
    axes.spines[["top", "right"]].set_visible(False)
    if numbers:
        axes.legend(frameon=False)
    return _save(figure, path)


def image_grid(
    real: np.ndarray, drawn: np.ndarray, shape: tuple[int, int, int], path: str | PathLike[str], columns: int = 10
) -> Path:
    """Real images (H, W, C) on the left, samples on the right, as two grids: in colour if they have three channels,
    else the first channel in one grey scale."""
    figure = _figure(10.4, 5.6)
    low, high = float(real.min()), float(real.max())
    for place, (images, title) in enumerate(((real, "real"), (drawn, "samples of the flow")), start=1):
        axes = figure.add_subplot(1, 2, place)
        tiles = _tile(np.clip(images, low, high), shape, min(columns, len(images)), high)
        colour = (tiles - low) / ((high - low) or 1.0) if shape[2] == 3 else tiles[..., 0]
        axes.imshow(colour, cmap="gray_r", vmin=low, vmax=high)
        axes.set_title(title)
        axes.axis("off")
    return _save(figure, path)


def _tile(images: np.ndarray, shape: tuple[int, int, int], columns: int, edge: float) -> np.ndarray:
    """Images in rows of a grid, one pixel of `edge` at an eighth of its strength between them."""
    height, width, channels = shape
    rows = len(images) // columns
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 0.125 * edge)
    for k in range(rows * columns):
        i, j = divmod(k, columns)
        place = np.s_[i * (height + 1) : i * (height + 1) + height, j * (width + 1) : j * (width + 1) + width]
        grid[place] = images[k].reshape(shape)
    return grid


def scatter_pairs(
    real: np.ndarray, drawn: np.ndarray, path: str | PathLike[str], columns: tuple[str, ...] = (), most: int = 4
) -> Path:
    """Data and samples over each other in every pair of the first columns, with histograms on the diagonal."""
    dims = min(real.shape[1], most)
    names = columns[:dims] if columns else tuple(f"column {i}" for i in range(dims))
    figure = _figure(2.4 * dims + 0.8, 2.4 * dims + 0.4)
    grid = figure.subplots(dims, dims, squeeze=False)
    for i in range(dims):
        for j in range(dims):
            axes = grid[i][j]
            low, high = np.quantile(real[:, j], [0.002, 0.998])
            margin = 0.1 * (high - low) or 1.0
            if i == j:
                bins = np.linspace(low - margin, high + margin, 40)
                axes.hist(real[:, i], bins, density=True, color=TRAIN, label="data")
                axes.hist(drawn[:, i], bins, density=True, histtype="step", color=HELD, label="samples")
            else:
                axes.plot(real[:2000, j], real[:2000, i], ".", markersize=1.5, color=TRAIN)
                axes.plot(drawn[:2000, j], drawn[:2000, i], ".", markersize=1.5, color=HELD)
                floor, ceiling = np.quantile(real[:, i], [0.002, 0.998])
                edge = 0.1 * (ceiling - floor) or 1.0
                axes.set_ylim(floor - edge, ceiling + edge)
            axes.set_xlim(low - margin, high + margin)
            if i == dims - 1:
                axes.set_xlabel(names[j])
            if j == 0:
                axes.set_ylabel(names[i])
    grid[0][0].legend(frameon=False)
    return _save(figure, path)


def density_2d(
    log_prob: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    path: str | PathLike[str],
    title: str = "",
    cells: int = 160,
) -> Path:
    """A density on the plane as shades, with data points over it."""
    figure = _figure(5.6, 5.0)
    axes = figure.add_subplot()
    (x0, y0), (x1, y1) = np.quantile(points, [0.001, 0.999], axis=0)
    mx, my = 0.15 * (x1 - x0), 0.15 * (y1 - y0)
    xs, ys = np.linspace(x0 - mx, x1 + mx, cells), np.linspace(y0 - my, y1 + my, cells)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    density = np.exp(log_prob(grid)).reshape(cells, cells)
    axes.pcolormesh(xs, ys, density, cmap="Blues", shading="nearest", rasterized=True)
    axes.plot(points[:1000, 0], points[:1000, 1], ".", markersize=1.5, color=HELD)
    axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), title=title)
    return _save(figure, path)
