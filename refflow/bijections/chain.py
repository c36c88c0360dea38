"""Composition: maps applied one after the other, and a map turned round."""

from refflow.arrays import Array
from refflow.bijections.base import Bijection, batch_zeros
from refflow.errors import StructureError
from refflow.modules import module


@module
class Chain(Bijection):
    r"""f = f_K o ... o f_1, applied left to right as written.

    y = f_K(... f_2(f_1(x)))                                                   (1)
    log|det df/dx| = sum_k log|det df_k/dx_{k-1}|,  x_k = f_k(x_{k-1})         (2)
    x = f_1^-1(... f_K^-1(y))                                                  (3)
    """

    bijections: tuple[Bijection, ...]

    def __post_init__(self) -> None:
        if not self.bijections:
            raise StructureError("expected at least one bijection in a Chain, got none")
        for name in ("event_rank", "event_shape", "context_dim"):
            found = [v for f in self.bijections if (v := getattr(f, name)) not in (None, 0)]
            if len(set(found)) > 1:
                raise StructureError(f"expected bijections that agree in {name}, got {found}")

    @property
    def event_rank(self) -> int:
        return self.bijections[0].event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return next((f.event_shape for f in self.bijections if f.event_shape is not None), None)

    @property
    def context_dim(self) -> int:
        return max(f.context_dim for f in self.bijections)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        log_det = batch_zeros(x, self.event_rank)
        for f in self.bijections:
            x, term = f.forward(x, context)  # (1)
            log_det = log_det + term  # (2)
        return x, log_det

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        log_det = batch_zeros(y, self.event_rank)
        for f in reversed(self.bijections):
            y, term = f.inverse(y, context)  # (3)
            log_det = log_det + term
        return y, log_det


class _Wrapper(Bijection):
    """The properties of a map that is another map seen differently."""

    bijection: Bijection

    @property
    def event_rank(self) -> int:
        return self.bijection.event_rank

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.bijection.event_shape

    @property
    def context_dim(self) -> int:
        return self.bijection.context_dim


@module
class Inverse(_Wrapper):
    """The map turned round: forward is the other's inverse, and the reverse."""

    bijection: Bijection

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.inverse(x, context)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.forward(y, context)


@module
class Frozen(_Wrapper):
    """The same map, whose arrays do not train: data statistics, or a layer taken as it is."""

    trainable = False
    bijection: Bijection

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.forward(x, context)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijection.inverse(y, context)
