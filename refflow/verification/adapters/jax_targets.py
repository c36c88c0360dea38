"""From functions of a JAX object to a `Target`: what the adapters of JAX packages have in common."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refflow.errors import StructureError
from refflow.verification.adapters.jax_objects import Uncast, arrays
from refflow.verification.adapters.jax_programs import JACOBIANS, POINTS, Compiler, Rows, gradient_of, jacobian_of
from refflow.verification.guard import preparing
from refflow.verification.targets import Box, Target

OPEN: dict[str, tuple[Box | None, Box | None]] = {
    "Exp": (None, (0.0, np.inf)),
    "Expm1": (None, (-1.0, np.inf)),
    "GumbelCDF": (None, (0.0, 1.0)),
    "KumaraswamyCDF": ((0.0, 1.0), (0.0, 1.0)),
    "Log": ((0.0, np.inf), None),
    "Log1p": ((-1.0, np.inf), None),
    "NormalCDF": (None, (0.0, 1.0)),
    "Power": ((0.0, np.inf), (0.0, np.inf)),
    "RayleighCDF": ((0.0, np.inf), (0.0, 1.0)),
    "Reciprocal": ((0.0, np.inf), (0.0, np.inf)),
    "Sigmoid": (None, (0.0, 1.0)),
    "SoftPlus": (None, (0.0, np.inf)),
    "Softplus": (None, (0.0, np.inf)),
    "Softsign": (None, (-1.0, 1.0)),
    "Square": ((0.0, np.inf), (0.0, np.inf)),
    "Tanh": (None, (-1.0, 1.0)),
    "WeibullCDF": ((0.0, np.inf), (0.0, 1.0)),
}
"""Domain and codomain of elementwise maps, by the names that flowjax, distrax and TFP agree on. Reciprocal is taken
on one of its two halves."""


@dataclass(frozen=True)
class Form:
    """How an object is asked: functions `(object, x, *context)` of batches, the same for all of its kind."""

    transform: Rows
    inverse: Rows
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    context_shape: tuple[int, ...] | None = None
    padded: bool = False
    """Whether they map a function of one point."""


def maps(name: str, obj: Any, dtype: str, form: Form, compiler: Any) -> Target:
    """The object's two directions, and their Jacobians, in one precision."""
    if np.prod(form.shape) != np.prod(form.output_shape):
        raise StructureError(f"{name} takes {form.shape} to {form.output_shape}: expected as many coordinates")
    found: dict[str, Any] = {}
    remarks: list[str] = []
    context = [] if form.context_shape is None else [(2, *form.context_shape)]
    for side, function, shape in (
        ("forward", form.transform, form.shape),
        ("inverse", form.inverse, form.output_shape),
    ):
        slope, derivative = {"forward": "jacobian", "inverse": "inverse_jacobian"}[side], jacobian_of(function)
        way, _, why = compiler.way(function, obj, dtype, (2, *shape), *context).partition(": ")
        if way == "absent":
            remarks.append(f"no {side}: {why or 'it is not implemented'}")
            continue
        if way == "eager":
            remarks.append(f"{side} does not compile ({why}): it is run one operation at a time")
        found[side] = compiler.program(function, obj, dtype, padded=form.padded and POINTS, eager=way == "eager")
        if way == "compiled" and compiler.way(derivative, obj, dtype, (2, *shape), *context) == "compiled":
            found[slope] = compiler.program(derivative, obj, dtype, padded=JACOBIANS)
    output = None if form.output_shape == form.shape else form.output_shape
    return Target(name, form.shape, output_shape=output, remarks=tuple(remarks), **found)


def density(target: Target, log_prob: Rows, obj: Any, dtype: str, compiler: Any, padded: int = 0) -> Target:
    """The target with the log-density of the object and its gradient."""
    rows = [(2, *target.event_shape)] + ([] if target.context is None else [(2, *target.context.shape[1:])])
    way = compiler.way(log_prob, obj, dtype, *rows).partition(": ")[0]
    return replace(
        target,
        log_prob=compiler.program(log_prob, obj, dtype, padded=padded, eager=way == "eager"),
        gradient=None if way != "compiled" else compiler.program(gradient_of(log_prob), obj, dtype, padded=JACOBIANS),
    )


def drawn(compiler: Compiler, draw: Callable[..., Any], obj: Any, dtype: str, eager: bool) -> Callable[..., Any]:
    """`draw(object, key, n, *context)` as a function of (n, seed) or (n, seed, context)."""
    import jax

    programs: dict[int, Any] = {}

    def sample(n: int, seed: int, *context: np.ndarray) -> Any:
        def function(obj: Any, data: Any, *c: Any) -> Any:
            return draw(obj, jax.random.wrap_key_data(data), n, *c)

        if n not in programs:
            programs[n] = compiler.program(function, obj, dtype, eager=eager)
        return programs[n](np.asarray(jax.random.key_data(jax.random.key(seed))), *context)

    return sample


@contextmanager
def quietly() -> Iterator[None]:
    """Within, libraries warn nobody: of dtypes that they do not get, mostly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Family:
    """The target of one object in both precisions, each made once: a cast of a cast rounds only once.

    `build(object, dtype)` makes the target, and `recast(object, dtype)` the object in another precision.
    """

    def __init__(self, build: Callable[[Any, str], Target], recast: Callable[[Any, str], Any]) -> None:
        self.build, self.recast = build, recast

    def first(self, obj: Any, kinds: tuple[str, ...]) -> Target:
        """The target in the first of the precisions; if the object has but its own, in that one alone."""
        try:
            with quietly():
                self.recast(obj, kinds[1])
                own = self.recast(obj, kinds[0])
        except Uncast as error:
            found = self.target(obj, kinds[0], kinds[:1])
            return replace(found, remarks=(*found.remarks, f"asked in {kinds[0]} only: {error}"))
        return self.target(own, kinds[0], kinds)

    def target(self, obj: Any, dtype: str, kinds: tuple[str, ...]) -> Target:
        """The target of the object, in the precision that the object has."""
        made: dict[str, Target] = {}

        def cast(other: str) -> Target:
            other = np.dtype(other).name
            if other not in made:
                with preparing(), quietly():
                    made[other] = self.target(self.recast(obj, other), other, kinds)
            return made[other]

        with preparing(), quietly():
            found = self.build(obj, dtype)
        made[dtype] = replace(
            found, dtypes=kinds, cast=cast if len(kinds) > 1 else None, constants=bool(arrays(obj))
        )  # fmt: skip
        return made[dtype]


def summed(values: Any, axes: int) -> Any:
    """The values added up over so many last axes, but for those that have no axis left then."""
    return values.sum(tuple(range(-axes, 0))) if axes and len(values.shape) > axes else values


def rows_of_context(shape: tuple[int, ...], given: np.ndarray | None) -> np.ndarray:
    """The contexts given, else sixteen standard normal ones, rounded to float32, that both precisions agree on."""
    if given is not None:
        return given
    rows = np.random.default_rng(0).standard_normal((16, int(np.prod(shape))))
    return rows.astype(np.float32).astype(np.float64)


def box(name: str, of: str) -> Box | None:
    """The domain or codomain of a class of `OPEN`."""
    domain, codomain = OPEN.get(name, (None, None))
    return domain if of == "domain" else codomain


def through(sides: list[tuple[Box | None, Box | None]]) -> tuple[Box | None, Box | None]:
    """Domain and codomain of maps one after the other, where it is sure: an end that meets all of space on its way is
    all that counts."""
    domain = sides[0][0] if all(s[0] is None for s in sides[1:]) else None
    codomain = sides[-1][1] if all(s[1] is None for s in sides[:-1]) else None
    return domain, codomain
