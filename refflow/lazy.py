"""Flows over Dask arrays: every block of rows is one task, which asks the flow about a NumPy or CuPy array.

Rows are independent, so nothing crosses blocks: results have the blocks of the rows that went in, and are computed when
Dask is asked for them, on as many cores or machines as it has. The flow's parameters are what the blocks are: NumPy's
for NumPy blocks, CuPy's for CuPy blocks (`flow.to("cupy")`).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from refflow import arrays as xp
from refflow.errors import DTypeError, MissingExtraError, ShapeError
from refflow.flow import Flow, Seed, require_floating
from refflow.modules import first_array
from refflow.scoring import host_dtype

if TYPE_CHECKING:
    import dask.array


def encode(flow: Flow, x: "dask.array.Array", context: Any = None) -> "dask.array.Array":
    """`Flow.encode`, block by block."""
    return _rowwise(flow, "encode", x, context, flow.event_shape, flow.base.shape)


def decode(flow: Flow, z: "dask.array.Array", context: Any = None) -> "dask.array.Array":
    """`Flow.decode`, block by block."""
    return _rowwise(flow, "decode", z, context, flow.base.shape, flow.event_shape)


def log_prob(flow: Flow, x: "dask.array.Array", context: Any = None) -> "dask.array.Array":
    """`Flow.log_prob`, block by block."""
    return _rowwise(flow, "log_prob", x, context, flow.event_shape, ())


def sample_and_log_prob(
    flow: Flow, n: int, context: Any, seed: Seed, chunks: int | None
) -> tuple["dask.array.Array", "dask.array.Array"]:
    """`Flow.sample_and_log_prob`, drawn block by block: blocks of n without a context, else those of its rows.

    Block i draws from `numpy.random.default_rng((seed, i))`, so what is drawn depends on the blocks and the seed alone.
    """
    try:
        from dask import array as da
        from dask import delayed
    except ImportError as error:
        raise MissingExtraError("expected dask for samples in blocks: pip install 'refflow[dask]'") from error

    root = int(seed.integers(2**63)) if isinstance(seed, np.random.Generator) else seed
    draw = delayed(_draw, pure=True, nout=2)
    batches: list[tuple[int, ...]]
    if context is None:
        if not isinstance(n, int | np.integer) or n < 0:
            raise ShapeError(f"expected a number n >= 0 of samples, got {n!r}")
        batches = [(k,) for k in da.core.normalize_chunks((chunks,), (int(n),))[0]]
        pairs = [draw(flow, k, None, (root, i)) for i, (k,) in enumerate(batches)]
    else:
        if xp.library(context) != "dask":
            context = da.from_array(context, chunks=(chunks, *context.shape[1:]))
        if context.ndim != 2 or context.shape[-1] != flow.context_dim:
            raise ShapeError(f"expected a context of shape (n, {flow.context_dim}), got {context.shape}")
        blocks = context.rechunk({1: -1})
        batches = [(n, k) for k in blocks.chunks[0]]
        pairs = [draw(flow, n, part, (root, i)) for i, part in enumerate(blocks.to_delayed().ravel())]
    axis = len(batches[0]) - 1
    meta = _empty(first_array(flow), axis + 1, host_dtype(flow))
    points = [da.from_delayed(p[0], (*b, *flow.event_shape), meta=meta) for p, b in zip(pairs, batches, strict=True)]
    terms = [da.from_delayed(p[1], b, meta=meta) for p, b in zip(pairs, batches, strict=True)]
    return da.concatenate(points, axis=axis), da.concatenate(terms, axis=axis)


def _draw(flow: Flow, n: int, context: Any, seed: tuple[int, int]) -> tuple[Any, Any]:
    return flow.sample_and_log_prob(n, context, seed=np.random.default_rng(seed))


def _rowwise(
    flow: Flow, method: str, x: Any, context: Any, event_shape: tuple[int, ...], found_shape: tuple[int, ...]
) -> Any:
    """The method of the flow at every block of rows; the events, and what is found for each, whole in every block."""
    from dask import array as da

    rank = len(event_shape)
    if x.ndim < rank or x.shape[x.ndim - rank :] != event_shape:
        text = ", ".join(map(str, event_shape))
        raise ShapeError(f"expected a Dask array of shape (..., {text}), got {x.shape}")
    require_floating(x, "x")
    _require_blocks(x, flow)
    batch = x.ndim - rank
    axes = tuple(range(x.ndim))
    operands: list[Any] = [x.rechunk(dict.fromkeys(axes[batch:], -1)), axes]
    if context is not None:
        operands += _context(flow, context, x, batch)
    dtype = np.result_type(x.dtype, host_dtype(flow))
    new = {x.ndim + 1 + i: n for i, n in enumerate(found_shape)}  # x.ndim is the axis of the context's columns
    found = (*axes[:batch], *new)
    return da.blockwise(
        _asked, found, *operands, flow=flow, method=method, dtype=dtype, meta=_empty(x._meta, len(found), dtype),
        concatenate=True, new_axes=new,
    )  # fmt: skip


def _asked(*blocks: Any, flow: Flow, method: str) -> Any:
    return getattr(flow, method)(*blocks)


def _context(flow: Flow, context: Any, x: Any, batch: int) -> list[Any]:
    """The context as an operand whose batch axes are those of x; one row for all is given to every block whole."""
    from dask import array as da

    if xp.library(context) != "dask":
        context = da.from_array(context, chunks=context.shape)
    shape = context.shape
    if shape[-1:] != (flow.context_dim,) or shape[:-1] not in ((), x.shape[:batch]):
        raise ShapeError(f"expected a context of shape {(*x.shape[:batch], flow.context_dim)}, got {shape}")
    feature = x.ndim
    return [context.rechunk({context.ndim - 1: -1}), (*range(context.ndim - 1), feature)]


def _require_blocks(x: Any, flow: Flow) -> None:
    like = first_array(flow)
    if xp.library(x._meta) != xp.library(like):
        raise DTypeError(
            f"expected blocks of {xp.library(like)} arrays like the flow's parameters, got blocks of "
            f"{xp.library(x._meta)}: convert the flow with flow.to, or the blocks with map_blocks"
        )


def _empty(like: Any, rank: int, dtype: Any) -> Any:
    return xp.zeros((0,) * rank, like=like, dtype=dtype)
