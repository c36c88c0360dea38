"""The flow: a base density seen through a bijection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections import Bijection
from refflow.distributions import Distribution
from refflow.errors import DTypeError, ShapeError, StructureError
from refflow.modules import Module, first_array, module
from refflow.preprocessing import Dequantization

if TYPE_CHECKING:
    from os import PathLike

Seed = int | np.random.Generator


@module
class Flow(Module):
    r"""A density on data, by change of variables. With a base density p_Z and a bijection f from data to latent,

        z = f(x),   log p_X(x) = log p_Z(f(x)) + log|det df/dx|                    (1)
        x = f^-1(z),   z ~ p_Z                                                     (2)

    Latents have the base's shape, and so have data unless f changes the shape. Log-densities are in nats, of the data
    as they came: preprocessing is part of f.
    `dequantization`, if any, says how integer data become real; `fit` and `score` use it, `log_prob` never does.
    `context_preprocessing`, if any, is what every context goes through before f reads it, such as `standardize` of the
    training rows' contexts. It has no Jacobian in (1): the context is not what the density is of.

    >>> from refflow import ElementwiseAffine, StandardNormal
    >>> flow = Flow(StandardNormal((2,)), ElementwiseAffine(np.zeros(2), np.zeros(2)))
    >>> flow.log_prob(np.zeros((1, 2)))
    array([-1.83787707])
    """

    base: Distribution
    bijection: Bijection
    dequantization: Dequantization | None = None
    context_preprocessing: Bijection | None = None

    def __post_init__(self) -> None:
        shape = self.bijection.output_shape
        if len(self.base.shape) != self.bijection.output_rank or shape not in (None, self.base.shape):
            raise StructureError(
                f"expected a base whose events fit the bijection's (rank {self.bijection.output_rank}, shape {shape}), "
                f"got a base with events of shape {self.base.shape}"
            )
        g, columns = self.context_preprocessing, (self.context_dim,)
        if g is not None and self.context_dim == 0:
            raise StructureError("expected no context_preprocessing: this flow is unconditional")
        if g is None:
            return
        if g.context_dim or g.event_rank != 1 or not {g.event_shape, g.output_shape} <= {None, columns}:
            raise StructureError(
                f"expected a context_preprocessing of {self.context_dim} context columns, got one of events of shape "
                f"{g.event_shape}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one data point."""
        return self.base.shape if self.bijection.event_shape is None else self.bijection.event_shape

    @property
    def context_dim(self) -> int:
        """How many context columns the flow is conditioned on; 0 if none."""
        return self.bijection.context_dim

    def encode(self, x: Array, context: Array | None = None) -> Array:
        """z = f(x), `(..., *base.shape)`. Points outside the domain of f have no latent: their rows are NaN."""
        if xp.is_array(x) and xp.library(x) == "dask":
            return _lazy().encode(self, x, context)
        x, context = self._checked(x, context, "x", self.event_shape)
        z, log_det = self.bijection.forward(x, context)
        outside = xp.equal(log_det, -float("inf"))
        return xp.where(xp.reshape(outside, (*outside.shape, *(1,) * len(self.base.shape))), float("nan"), z)

    def decode(self, z: Array, context: Array | None = None) -> Array:
        """x = f^-1(z), `(..., *event_shape)`."""
        if xp.is_array(z) and xp.library(z) == "dask":
            return _lazy().decode(self, z, context)
        z, context = self._checked(z, context, "z", self.base.shape)
        return self.bijection.inverse(z, context)[0]

    def log_prob(self, x: Array, context: Array | None = None) -> Array:
        """log p(x) in nats by (1), of the batch shape of x; minus infinity outside the support, NaN where x has one."""
        if xp.is_array(x) and xp.library(x) == "dask":
            return _lazy().log_prob(self, x, context)
        x, context = self._checked(x, context, "x", self.event_shape)
        z, log_det = self.bijection.forward(x, context)
        log_p = self.base.log_prob(z) + log_det  # (1)
        largest = xp.max(xp.abs(xp.real(x)), axis=tuple(range(-len(self.event_shape), 0)))
        return xp.where(xp.equal(largest, float("inf")), -float("inf"), log_p)

    def sample(self, n: int, context: Array | None = None, *, seed: Seed, chunks: int | None = None) -> Array:
        """n draws by (2), of shape `(n, *event_shape)`; given a context `(..., C)`, n for each of its rows, of shape
        `(n, ..., *event_shape)`.

        With `chunks`, a number of rows, or with a Dask array for context, a Dask array whose blocks are drawn when they
        are asked for, each with a seed of its own.
        """
        return self.sample_and_log_prob(n, context, seed=seed, chunks=chunks)[0]

    def sample_and_log_prob(
        self, n: int, context: Array | None = None, *, seed: Seed, chunks: int | None = None
    ) -> tuple[Array, Array]:
        """Draws by (2) and their log-densities, for less than the price of both apart."""
        if chunks is not None or (xp.is_array(context) and xp.library(context) == "dask"):
            return _lazy().sample_and_log_prob(self, n, context, seed, chunks)  # type: ignore[no-any-return]
        if not isinstance(n, int | np.integer) or n < 0:
            raise ShapeError(f"expected a number n >= 0 of samples, got {n!r}")
        like = first_array(self)
        context = self._checked_context(context, like)
        batch = (int(n),) if context is None else (int(n), *context.shape[:-1])
        z = self.base.sample(batch, np.random.default_rng(seed), like)
        if context is not None:
            context = xp.broadcast_to(context, (*batch, context.shape[-1]))
        x, log_det = self.bijection.inverse(z, context)  # (2)
        return x, self.base.log_prob(z) - log_det

    def save(self, path: str | PathLike[str], metadata: dict[str, Any] | None = None) -> Path:
        """Write the flow, and JSON metadata if there are any, to one self-describing file; see `refflow.files`."""
        from refflow import files

        return files.save(self, path, metadata)

    def _checked(
        self, x: Array, context: Array | None, name: str, event_shape: tuple[int, ...]
    ) -> tuple[Array, Array | None]:
        """x and context with one batch shape, or an error that says what was expected."""
        rank, text = len(event_shape), ", ".join(map(str, event_shape))
        if not xp.is_array(x):
            raise DTypeError(f"expected {name} to be an array of shape (..., {text}), got a {type(x).__name__}")
        if tuple(x.shape[max(len(x.shape) - rank, 0) :]) != event_shape:
            raise ShapeError(f"expected {name} of shape (..., {text}), got {tuple(x.shape)}")
        require_floating(x, name)
        xp.require_same_library(name, x, like=self._like(x))
        context = self._checked_context(context, x)
        if context is None:
            return x, None
        shapes = tuple(x.shape[: len(x.shape) - rank]), tuple(context.shape[:-1])
        try:
            batch = np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ShapeError(
                f"expected a context for each {name}, of batch shape {shapes[0]}, got {shapes[1]}"
            ) from error
        return xp.broadcast_to(x, (*batch, *event_shape)), xp.broadcast_to(context, (*batch, context.shape[-1]))

    def prepare_context(self, context: Array | None) -> Array | None:
        """The context as the bijection reads it: through `context_preprocessing`, if there is one."""
        if context is None or self.context_preprocessing is None:
            return context
        return self.context_preprocessing.forward(context)[0]

    def _checked_context(self, context: Array | None, like: Array) -> Array | None:
        """The context, checked and as the bijection reads it."""
        dim = self.context_dim
        if dim == 0:
            if context is not None:
                raise ShapeError("expected no context: this flow is unconditional")
            return None
        if context is None or not xp.is_array(context) or not context.shape or context.shape[-1] != dim:
            came = "none" if context is None else str(getattr(context, "shape", type(context).__name__))
            raise ShapeError(f"expected a context of shape (..., {dim}), got {came}")
        require_floating(context, "context")
        xp.require_same_library("context", context, like)
        return self.prepare_context(context)

    def _like(self, x: Array) -> Array:
        """An array of the flow, or x itself if the flow has none."""
        leaf = first_array(self)
        return x if xp.shape(leaf) == () else leaf


def _lazy() -> Any:
    from refflow import lazy

    return lazy


def require_floating(x: Array, name: str) -> None:
    """Refuse integers and booleans, which have probabilities, not densities; and half precision, float16 and bfloat16.

    Every wider dtype computes in itself, or in the wider of it and the parameters' by the library's own promotion.
    """
    dtype = xp.namespace(x).asarray(x.dtype.type(0)).dtype if isinstance(x, np.generic) else x.dtype
    kind = str(dtype).rpartition(".")[2]
    if kind in ("float16", "bfloat16"):
        raise DTypeError(
            f"expected {name} of float32 or wider, got {kind}: three digits are too few for log-densities. Convert it "
            f"to float32 (nothing is lost)"
        )
    if not kind.startswith(("float", "complex", "longdouble", "ball")):
        raise DTypeError(
            f"expected {name} of a floating dtype, got {kind}: integer data have no density. Dequantise them "
            f"(refflow.Dequantization, used by fit and score) or convert them to float if they are measurements"
        )
