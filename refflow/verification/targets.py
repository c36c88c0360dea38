"""Someone's flow as the checks see it: functions of NumPy arrays of rows, whatever they are written in.

An adapter (`adapters/`) makes a `Target` of an object; `verify` makes one of bare functions. Every function takes and
returns NumPy arrays: x `(N, *event)`, context `(N, C)` where the target has one, value `(N, *event)`, log_det `(N,)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Box = tuple[float, float]
Transform = Callable[..., tuple[np.ndarray, np.ndarray]]
"""(x) or (x, context) -> (value, log_det)."""


@dataclass(frozen=True)
class Target:
    """What the checks may ask of a flow; whatever is None is not asked, and the report says so."""

    name: str
    event_shape: tuple[int, ...]
    forward: Transform | None = None
    """The map in the direction that its author calls forward, with log|det dy/dx|."""
    inverse: Transform | None = None
    """(y) -> (x, log|det dx/dy|)."""
    log_prob: Callable[..., np.ndarray] | None = None
    """(x) or (x, context) -> nats `(N,)`."""
    sample: Callable[..., np.ndarray] | None = None
    """(n, seed) or (n, seed, context `(n, C)`) -> `(n, *event)`, one row for each row of the context."""
    sample_and_log_prob: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    """As `sample`, with the log-density of each row."""
    to_base: str | None = None
    """Which of "forward" and "inverse" takes data to the base; None if it is not known."""
    base_log_prob: Callable[..., np.ndarray] | None = None
    """(z) or (z, context) -> nats `(N,)`; None: a standard normal is tried, and taken if it fits."""
    output_shape: tuple[int, ...] | None = None
    """The shape of y's events, where it differs from x's."""
    context: np.ndarray | None = None
    """Rows of context to use, `(M, C)`."""
    domain: Box | None = None
    """The open box that x lies in; None: all of space."""
    codomain: Box | None = None
    """The box that y fills; None: all of space."""
    dtypes: tuple[str, ...] = ("float64", "float32")
    """The precisions that it computes in, the one of its parameters first."""
    cast: Callable[[Any], "Target"] | None = None
    """The target with its parameters in another precision; None: it computes in the precision of its input."""
    constants: bool = False
    """Whether it holds numbers of that precision that are no parameters: they may have been computed in it."""
    jacobian: Callable[..., np.ndarray] | None = None
    """(x) or (x, context) -> dy/dx `(N, M, D)` of events flattened, by the target's own differentiation."""
    inverse_jacobian: Callable[..., np.ndarray] | None = None
    """(y) -> dx/dy."""
    gradient: Callable[..., np.ndarray] | None = None
    """(x) or (x, context) -> d log_prob / dx `(N, D)`, by the target's own differentiation."""
    parameter_gradient: Callable[..., dict[str, np.ndarray]] | None = None
    """(x) or (x, context) -> d sum(log_prob) / dp for every parameter by name."""
    layers: tuple["Target", ...] = ()
    """The maps it applies one after the other, in the order of forward."""
    structure: np.ndarray | None = None
    """Boolean `(M, D)`: where dy_i / dx_j may differ from 0."""
    fresh: Callable[[], "Target"] | None = None
    """The target as it was before any call."""
    parameters: Callable[[], dict[str, np.ndarray]] | None = None
    set_parameters: Callable[[dict[str, np.ndarray]], None] | None = None
    """Change parameters through the way its users do; parameters and set_parameters belong together."""
    modes: dict[str, "Target"] = field(default_factory=dict)
    """Other modes it has, by name ("train")."""
    module: Any = None
    """The refflow bijection that it stands for: the laws read its layers and its numbers."""
    reference: "Target | None" = None
    """What it should equal, with its forward in the same direction."""
    any_batch: bool = False
    """Whether it claims to take batches of no row, and of several axes."""
    bulk: bool = False
    """Whether a round trip to it is dear and many calls at once are cheap: points are then fixed beforehand."""
    rounds: Callable[["Target", Callable[["Target"], Any]], Any] | None = None
    """(target, ask) -> the report, where `ask` (target) -> report is run on stand-ins for it; None: ask it itself."""
    remarks: tuple[str, ...] = ()
    """What the adapter has to say: what it left out, and why."""

    @property
    def dim(self) -> int:
        """The number of coordinates of an event."""
        return int(np.prod(self.event_shape))

    def turned(self) -> "Target":
        """The same map with forward and inverse exchanged."""
        swap = {"forward": "inverse", "inverse": "forward", None: None}
        return replace(
            self,
            forward=self.inverse, inverse=self.forward, to_base=swap[self.to_base],
            event_shape=self.event_shape if self.output_shape is None else self.output_shape,
            output_shape=None if self.output_shape is None else self.event_shape,
            domain=self.codomain, codomain=self.domain,
            jacobian=self.inverse_jacobian, inverse_jacobian=self.jacobian,
            layers=tuple(part.turned() for part in reversed(self.layers)),
            structure=None,
            reference=None if self.reference is None else self.reference.turned(),
            cast=_then_turned(self.cast), fresh=_then_turned(self.fresh),
            modes={},
            module=None,
            rounds=None,
        )  # fmt: skip


def _then_turned(make: Callable[..., Target] | None) -> Callable[..., Target] | None:
    return None if make is None else lambda *arguments: make(*arguments).turned()
