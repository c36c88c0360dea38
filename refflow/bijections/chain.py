"""Composition: maps applied one after the other, and a map turned round."""

from refflow.arrays import Array
from refflow.bijections.base import Bijection
from refflow.errors import StructureError
from refflow.modules import module, tupled


@module
class Chain(Bijection):
    r"""f = f_K o ... o f_1, applied left to right as written.

    y = f_K(... f_2(f_1(x)))                                                   (1)
    log|det df/dx| = sum_k log|det df_k/dx_{k-1}|,  x_k = f_k(x_{k-1})         (2)
    x = f_1^-1(... f_K^-1(y))                                                  (3)

    Each part takes events of the shape that the part before it gives, as far as they say.
    """

    bijections: tuple[Bijection, ...]

    def __post_init__(self) -> None:
        tupled(self, "bijections")
        if not self.bijections:
            raise StructureError("expected at least one bijection in a Chain, got none")
        check_contexts(self.bijections)
        rank, shape = self.event_rank, self.event_shape
        for k, f in enumerate(self.bijections):
            if f.event_rank != rank:
                raise StructureError(
                    f"expected bijections that agree in event_rank, got {f.event_rank} at {k}, not {rank}"
                )
            if f.event_shape not in (None, shape):
                raise StructureError(
                    f"expected bijections that agree in event_shape, got {f.event_shape} at {k}, where {shape} comes"
                )
            rank, shape = f.output_rank, shape if f.output_shape is None else f.output_shape

    @property
    def event_rank(self) -> int:
        return self.bijections[0].event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return next((f.event_shape for f in self.bijections if f.event_shape is not None), None)

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        return next((f.output_shape for f in reversed(self.bijections) if f.output_shape is not None), None)

    @property
    def context_dim(self) -> int:
        return max(f.context_dim for f in self.bijections)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        first, *others = self.bijections
        x, log_det = first.forward(x, context)
        for f in others:
            x, term = f.forward(x, context)  # (1)
            log_det = log_det + term  # (2)
        return x, log_det

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        *others, last = self.bijections
        y, log_det = last.inverse(y, context)
        for f in reversed(others):
            y, term = f.inverse(y, context)  # (3)
            log_det = log_det + term
        return y, log_det


def check_contexts(bijections: tuple[Bijection, ...]) -> None:
    """Refuse parts that read contexts of different widths."""
    found = [f.context_dim for f in bijections if f.context_dim]
    if len(set(found)) > 1:
        raise StructureError(f"expected bijections that agree in context_dim, got {found}")


@module
class Inverse(Bijection):
    """The map turned round: forward is the other's inverse, and the reverse."""

    bijection: Bijection

    @property
    def event_rank(self) -> int:
        return self.bijection.output_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.bijection.output_shape

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        return self.bijection.event_shape

    @property
    def context_dim(self) -> int:
        return self.bijection.context_dim

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.inverse(x, context)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.forward(y, context)


@module
class Frozen(Bijection):
    """The same map, whose arrays do not train: data statistics, or a layer taken as it is."""

    trainable = False
    bijection: Bijection

    @property
    def event_rank(self) -> int:
        return self.bijection.event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.bijection.event_shape

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        return self.bijection.output_shape

    @property
    def context_dim(self) -> int:
        return self.bijection.context_dim

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.forward(x, context)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.inverse(y, context)
