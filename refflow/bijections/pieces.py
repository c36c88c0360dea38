"""Maps that cut an event into pieces: one map a piece, and multi-scale flows."""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_shape, batch_zeros, event_size
from refflow.bijections.chain import check_contexts
from refflow.errors import StructureError
from refflow.modules import module, tupled


@module
class Concatenate(Bijection):
    r"""Map f_k on the k-th piece of the event. With x = (x_1, ..., x_K) cut along one axis into pieces of the `sizes`,

        y = (f_1(x_1), ..., f_K(x_K))                                              (1)
        log|det dy/dx| = sum_k log|det df_k/dx_k|                                  (2)
        x = (f_1^-1(y_1), ..., f_K^-1(y_K))                                        (3)

    `axis` counts the event's axes from the last, -1. A piece may change its length along that axis, and nothing else.
    Every piece sees the whole context.
    """

    bijections: tuple[Bijection, ...]
    sizes: tuple[int, ...]
    axis: int = -1

    def __post_init__(self) -> None:
        tupled(self, "bijections", "sizes")
        if not self.bijections or len(self.sizes) != len(self.bijections) or min(self.sizes) < 1:
            raise StructureError(
                f"expected one size >= 1 for each of {len(self.bijections)} bijections, at least one, got {self.sizes}"
            )
        ranks = {r for f in self.bijections for r in (f.event_rank, f.output_rank)}
        if len(ranks) > 1 or not -min(ranks) <= self.axis < 0:
            raise StructureError(
                f"expected bijections of one event rank and an axis of it, counted from the last as -1, "
                f"got ranks {sorted(ranks)} and axis {self.axis}"
            )
        check_contexts(self.bijections)
        for k, (f, size) in enumerate(zip(self.bijections, self.sizes, strict=True)):
            if f.event_shape is not None and f.event_shape[self.axis] != size:
                raise StructureError(f"expected piece {k} of size {size} along the axis, got one of {f.event_shape}")
        for shapes in self._shapes():
            if len({self._whole(s, 0) for s in shapes if s is not None}) > 1:
                raise StructureError(f"expected pieces that agree off the axis {self.axis}, got {shapes}")

    @property
    def event_rank(self) -> int:
        return self.bijections[0].event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self._joined(self._shapes()[0], self.sizes)

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        return self._joined(self._shapes()[1], self._output_sizes())

    @property
    def context_dim(self) -> int:
        return max(f.context_dim for f in self.bijections)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        pieces = xp.split(x, self.sizes, axis=self.axis)
        found = [f.forward(piece, context) for f, piece in zip(self.bijections, pieces, strict=True)]
        return self._put_together(found)  # (1), (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        pieces = xp.split(y, self._output_sizes(), axis=self.axis)
        found = [f.inverse(piece, context) for f, piece in zip(self.bijections, pieces, strict=True)]
        return self._put_together(found)  # (3), (2)

    def _put_together(self, found: list[tuple[Array, Array]]) -> tuple[Array, Array]:
        log_det = found[0][1]
        for _, term in found[1:]:
            log_det = log_det + term
        return xp.concat([value for value, _ in found], axis=self.axis), log_det

    def _shapes(self) -> tuple[list[tuple[int, ...] | None], list[tuple[int, ...] | None]]:
        return [f.event_shape for f in self.bijections], [f.output_shape for f in self.bijections]

    def _output_sizes(self) -> tuple[int, ...]:
        shapes = [f.output_shape for f in self.bijections]
        return tuple(n if s is None else s[self.axis] for s, n in zip(shapes, self.sizes, strict=True))

    def _joined(self, shapes: list[tuple[int, ...] | None], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
        known = next((s for s in shapes if s is not None), (0,) if self.event_rank == 1 else None)
        return None if known is None else self._whole(known, sum(sizes))

    def _whole(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        at = len(shape) + self.axis
        return (*shape[:at], size, *shape[at + 1 :])


@module
class MultiScale(Bijection):
    r"""A flow from which half of the channels leave after every level (Dinh, Sohl-Dickstein and Bengio, 2017,
    section 3.6, eq. 13 to 16). With h_0 = x and levels f_1, ..., f_L,

        (z_k, h_k) = f_k(h_{k-1}),   k < L,   z_L = f_L(h_{L-1})                   (1)
        y = [z_1 | z_2 | ... | z_L]                                                (2)
        log|det dy/dx| = sum_k log|det df_k/dh_{k-1}|                              (3)
        h_{k-1} = f_k^-1(z_k, h_k),   k = L - 1, ..., 1,   h_{L-1} = f_L^-1(z_L)   (4)

    Of the C channels of f_k's images the first C // 2 are z_k and leave; the others are h_k. y is one flat vector
    `(..., D)`: each z_k in row-major order of (row, column, channel), the first that left in front.
    """

    levels: tuple[Bijection, ...]

    def __post_init__(self) -> None:
        tupled(self, "levels")
        if not self.levels:
            raise StructureError("expected at least one level, got none")
        check_contexts(self.levels)
        for k, f in enumerate(self.levels):
            if f.event_shape is None or f.output_shape is None:
                raise StructureError(f"expected levels that know the shape of their events, got {type(f).__name__}")
            if k > 0 and f.event_shape != (expected := _staying(self._output(k - 1))):
                raise StructureError(f"expected level {k} to take events of shape {expected}, got {f.event_shape}")
            if k < len(self.levels) - 1 and f.output_shape[-1] < 2:
                raise StructureError(f"expected at least 2 channels to split after level {k}, got {f.output_shape}")

    @property
    def event_rank(self) -> int:
        return self.levels[0].event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.levels[0].event_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (sum(event_size(shape) for shape in self.latent_shapes),)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of z_1, ..., z_L before they are flattened."""
        last = len(self.levels) - 1
        return (*(_leaving(self._output(k)) for k in range(last)), self._output(last))

    @property
    def context_dim(self) -> int:
        return max(f.context_dim for f in self.levels)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        h, log_det, rank, flat = x, batch_zeros(x, self.event_rank), self.event_rank, []
        for k, f in enumerate(self.levels):
            h, term = f.forward(h, context)
            log_det = log_det + term  # (3)
            z, h = self.split(h, k)  # (1)
            flat.append(xp.reshape(z, (*batch_shape(x, rank), event_size(self.latent_shapes[k]))))
        return xp.concat(flat, axis=-1), log_det  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        shapes, log_det = self.latent_shapes, batch_zeros(y, 1)
        pieces = xp.split(y, tuple(event_size(shape) for shape in shapes), axis=-1)
        zs = [xp.reshape(z, (*batch_shape(y, 1), *shape)) for z, shape in zip(pieces, shapes, strict=True)]
        h = zs.pop()
        for f in reversed(self.levels):
            h, term = f.inverse(h, context)  # (4)
            log_det = log_det + term
            h = xp.concat([zs.pop(), h], axis=-1) if zs else h
        return h, log_det

    def split(self, h: Array, k: int) -> tuple[Array, Array]:
        """(z_k, h_k): the channels that leave after the level at position k, and those that stay; after the last level
        all leave."""
        channels = h.shape[-1]
        leaving = _leaving((channels,))[0] if k < len(self.levels) - 1 else channels
        z, h = xp.split(h, (leaving, channels - leaving), axis=-1)
        return z, h

    def _output(self, k: int) -> tuple[int, ...]:
        shape = self.levels[k].output_shape
        assert shape is not None  # __post_init__ has looked
        return shape


def _leaving(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] // 2)


def _staying(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] - shape[-1] // 2)
