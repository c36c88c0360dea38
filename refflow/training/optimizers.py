"""Gradient steps on one flat vector of parameters.

A flow has dozens of small arrays; an optimiser that touches each of them spends its time on the touching. `Flat` lays
them out in one vector, of which the arrays are views, and the steps below are a few operations on that vector.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, prod

from refflow import arrays as xp
from refflow.arrays import Array, Tree
from refflow.errors import StructureError


@dataclass(frozen=True)
class Flat:
    """How a tree of arrays of one dtype lies in one vector, in the order of its leaves."""

    tree: Tree
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(tree: Tree) -> "Flat":
        """The layout of the tree's arrays."""
        leaves = xp.leaves(tree)
        dtypes = {str(leaf.dtype) for leaf in leaves}
        if not leaves:
            raise StructureError("expected a flow with trainable parameters, got one without")
        if len(dtypes) > 1:
            raise StructureError(f"expected parameters of one dtype, got {sorted(dtypes)}")
        return Flat(tree, tuple(xp.shape(leaf) for leaf in leaves))

    def vector(self, tree: Tree) -> Array:
        """The arrays of a tree of this layout as one new vector."""
        return xp.concat([xp.reshape(leaf, (prod(xp.shape(leaf)),)) for leaf in xp.leaves(tree)], axis=0)

    def unflatten(self, vector: Array) -> Tree:
        """The tree whose arrays are views of the vector."""
        pieces = xp.split(vector, [prod(s) for s in self.shapes], axis=0)
        return xp.rebuild(self.tree, (xp.reshape(v, s) for v, s in zip(pieces, self.shapes, strict=True)))


@dataclass(frozen=True)
class Adam:
    r"""Adam (Kingma and Ba, 2015, algorithm 1), and AdamW where `decoupled` (Loshchilov and Hutter, 2019, algorithm 2):

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2                         (1)
        theta <- theta - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)         (2)

    Weight decay w adds w theta to g, or, decoupled, r w theta to the step (2).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def start(self, theta: Array) -> "Moments":
        """No steps taken yet."""
        return Moments(0, xp.zeros_like(theta), xp.zeros_like(theta))

    def step(self, theta: Array, g: Array, moments: "Moments", rate: float) -> tuple[Array, "Moments"]:
        """theta and the moments after one step against the gradient g at learning rate r."""
        t = moments.t + 1
        shrink = rate * self.weight_decay if self.decoupled else 0.0
        if self.weight_decay and not self.decoupled:
            g = g + self.weight_decay * theta
        m = self.beta1 * moments.m + (1.0 - self.beta1) * g  # (1)
        v = self.beta2 * moments.v + (1.0 - self.beta2) * (g * g)
        scale = xp.sqrt(v / (1.0 - self.beta2**t)) + self.epsilon
        theta = (1.0 - shrink) * theta - (rate / (1.0 - self.beta1**t)) * (m / scale)  # (2)
        return theta, Moments(t, m, v)


@dataclass(frozen=True)
class Moments:
    """Adam's memory: the number of steps taken and the running means of g and g^2."""

    t: int
    m: Array
    v: Array


OPTIMIZERS: dict[str, Adam] = {"adam": Adam(), "adamw": Adam(decoupled=True)}


def optimizer(name: str, weight_decay: float) -> Adam:
    """The optimiser of that name."""
    if name not in OPTIMIZERS:
        raise StructureError(f"expected an optimizer among {', '.join(OPTIMIZERS)}, lbfgs, got {name!r}")
    return replace(OPTIMIZERS[name], weight_decay=weight_decay)


def clip_norm(g: Array, largest: float | None) -> tuple[Array, float]:
    """g scaled down to a Euclidean norm of at most `largest`, and its norm before (Pascanu et al., 2013)."""
    norm = float(xp.sqrt(xp.sum(xp.square(g))))
    if largest is None or not norm > largest:
        return g, norm
    return g * (largest / norm), norm


Schedule = Callable[[float], float]
"""From the fraction of training done, in [0, 1], to a factor of the learning rate."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1.0 + cos(pi * done)),
}
"""constant; cosine decay to 0 (Loshchilov and Hutter, 2017, eq. 5, one period)."""


def schedule_function(schedule: str | Schedule) -> Schedule:
    """The schedule of that name, or the function itself."""
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise StructureError(f"expected a schedule among {', '.join(SCHEDULES)} or a function, got {schedule!r}")
    return SCHEDULES[schedule]
