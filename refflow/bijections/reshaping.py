"""Maps that move the coordinates of an event to other places or into another shape. All preserve volume."""

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_shape, batch_zeros, event_size
from refflow.errors import StructureError
from refflow.modules import module


def _check_sizes(shape: tuple[int, ...]) -> None:
    if not shape or min(shape) < 1:
        raise StructureError(f"expected an event shape of positive sizes, got {shape}")


@module
class Squeeze(Bijection):
    r"""Space to depth (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.6): every r x r square of pixels becomes one
    pixel, (H, W, C) -> (H / r, W / r, r r C) for r = `factor`,

        y_{i, j, (a r + b) C + c} = x_{i r + a, j r + b, c},   0 <= a, b < r              (1)
        log|det dy/dx| = 0                                                         (2)

    so the channels of y are ordered by row in the square, then column, then channel of x. `in_shape` is x's (H, W, C).
    """

    in_shape: tuple[int, ...]
    factor: int = 2

    def __post_init__(self) -> None:
        _check_sizes(self.in_shape)
        if len(self.in_shape) != 3 or self.factor < 1 or any(n % self.factor for n in self.in_shape[:2]):
            raise StructureError(
                f"expected images (H, W, C) whose sides are multiples of the factor {self.factor}, got {self.in_shape}"
            )

    @property
    def event_rank(self) -> int:
        return 3

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.in_shape

    @property
    def output_shape(self) -> tuple[int, int, int]:
        (height, width, channels), r = self.in_shape, self.factor
        return height // r, width // r, r * r * channels

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, (height, width, _), channels, r = self._sizes(x)
        squares = xp.reshape(x, (*batch, height, r, width, r, channels))
        y = xp.reshape(_swap_columns_and_rows(squares), (*batch, *self.output_shape))  # (1)
        return y, batch_zeros(x, 3)  # (2)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, (height, width, _), channels, r = self._sizes(y)
        squares = xp.reshape(y, (*batch, height, width, r, r, channels))
        x = xp.reshape(_swap_columns_and_rows(squares), (*batch, *self.in_shape))  # (1)
        return x, batch_zeros(y, 3)  # (2)

    def _sizes(self, x: Array) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
        return batch_shape(x, 3), self.output_shape, self.in_shape[2], self.factor


def _swap_columns_and_rows(squares: Array) -> Array:
    """(..., i, a, j, b, c) to (..., i, j, a, b, c), which is its own inverse."""
    batch = len(squares.shape) - 5
    order = (0, 2, 1, 3, 4)
    return xp.permute_dims(squares, (*range(batch), *(batch + k for k in order)))


@module
class Reshape(Bijection):
    r"""The same coordinates, in row-major order, as an event of another shape, of another rank or not: y = reshape(x),
    log-determinant 0."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_sizes(self.in_shape)
        _check_sizes(self.out_shape)
        if event_size(self.in_shape) != event_size(self.out_shape):
            raise StructureError(
                f"expected shapes of one number of coordinates, got {self.in_shape} and {self.out_shape}"
            )

    @property
    def event_rank(self) -> int:
        return len(self.in_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.in_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.out_shape

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        rank = len(self.in_shape)
        return xp.reshape(x, (*batch_shape(x, rank), *self.out_shape)), batch_zeros(x, rank)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        rank = len(self.out_shape)
        return xp.reshape(y, (*batch_shape(y, rank), *self.in_shape)), batch_zeros(y, rank)


@module
class PermuteAxes(Bijection):
    r"""The axes of an event in another order, y_{i_{axes_0}, i_{axes_1}, ...} = x_{i_0, i_1, ...}; log-determinant 0.

    `axes` are positions in `in_shape`, the shape of x: y has the shape (in_shape[axes[0]], in_shape[axes[1]], ...).
    """

    in_shape: tuple[int, ...]
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_sizes(self.in_shape)
        if sorted(self.axes) != list(range(len(self.in_shape))):
            raise StructureError(f"expected each axis of {self.in_shape} once, got {self.axes}")

    @property
    def event_rank(self) -> int:
        return len(self.in_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.in_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return tuple(self.in_shape[a] for a in self.axes)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self._permuted(x, self.axes), batch_zeros(x, self.event_rank)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        undo = tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))
        return self._permuted(y, undo), batch_zeros(y, self.event_rank)

    def _permuted(self, x: Array, axes: tuple[int, ...]) -> Array:
        batch = len(x.shape) - len(axes)
        return xp.permute_dims(x, (*range(batch), *(batch + a for a in axes)))
