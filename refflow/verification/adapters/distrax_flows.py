"""distrax: bijectors of batches of events, and distributions.

A bijector takes the base to the data. Its log-determinant has an entry for each of its own events: of a scalar
bijector on vectors, one a coordinate, which are added up here. distrax keeps no list of what an object was made of;
a cast makes it anew where its constructor's arguments are found among its attributes and give the same object again.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refflow.verification.adapters import jax_targets as jt
from refflow.verification.adapters import tfp_flows
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.jax_objects import Uncast, arrays, cast, comes_from, precision, precisions
from refflow.verification.adapters.jax_programs import Compiler, Rows
from refflow.verification.targets import Box, Target

SELF_CONSISTENT = ("LowerUpperTriangularAffine", "RationalQuadraticSpline")
"""Classes that keep none of their constructor's arguments, but no number that another one of theirs determines either:
knots and slopes, or parts that are cast themselves."""


def is_bijector(obj: Any) -> bool:
    """Whether it is a bijector of distrax."""
    return comes_from(obj, "distrax", "Bijector")


def matches(obj: Any) -> bool:
    """Whether it is a bijector or a distribution of distrax, or of a class derived from one."""
    return is_bijector(obj) or comes_from(obj, "distrax", "Distribution")


def target(obj: Any, given: Given) -> Target:
    """Both precisions if the object can be cast, else its own."""
    compiler = Compiler()
    family = jt.Family(lambda obj, dtype: _target(obj, dtype, given, compiler), recast)
    return replace(family.first(obj, precisions(obj)), fresh=lambda: target(obj, given))


def recast(obj: Any, dtype: str) -> Any:
    """The object in another precision; raises Uncast where it cannot be made anew."""
    return cast(obj, dtype, functools.partial(_special, dtype=dtype))


def _special(obj: Any, change: Callable[[Any], Any], *, dtype: str) -> Any:
    if not matches(obj):
        return tfp_flows.remade(obj, change, dtype=dtype)
    if (arguments := _arguments(obj)) is not None:
        return type(obj)(**{k: change(v) for k, v in arguments.items()})
    own = [k for k, v in vars(obj).items() if getattr(getattr(v, "dtype", None), "kind", "") == "f"]
    if own and type(obj).__name__ not in SELF_CONSISTENT:
        raise Uncast(f"what {type(obj).__name__} computed its {', '.join(own)} from cannot be found")
    return None


def _arguments(obj: Any) -> dict[str, Any] | None:
    """Arguments with which the constructor makes the object again, number for number; None if none are found."""
    signature = list(inspect.signature(type(obj).__init__).parameters.values())[1:]
    found = {
        p.name: vars(obj).get(f"_{p.name}", vars(obj).get(p.name)) for p in signature
        if f"_{p.name}" in vars(obj) or p.name in vars(obj)
    }  # fmt: skip
    if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in found for p in signature):
        return None
    optional = [p.name for p in signature if p.default is not p.empty and p.name in found]
    own, kinds = arrays(obj), precisions(obj)
    for left_out in itertools.chain.from_iterable(
        itertools.combinations(reversed(optional), k) for k in range(min(len(optional), 2) + 1)
    ):
        chosen = {k: v for k, v in found.items() if k not in left_out}
        try:
            with precision(kinds[0]):
                again = arrays(type(obj)(**chosen))
        except Exception:  # arguments that exclude one another
            continue
        if len(again) == len(own) and all(np.array_equal(a, b) for a, b in zip(own, again, strict=True)):
            return chosen
    return None


def _target(obj: Any, dtype: str, given: Given, compiler: Compiler) -> Target:
    name = given.name or type(obj).__name__
    if is_bijector(obj):
        return replace(_bijector(obj, dtype, given.shape(_shape(obj), "distrax bijector"), given, compiler), name=name)
    return replace(_distribution(obj, dtype, given, compiler), name=name)


def _bijector(obj: Any, dtype: str, shape: tuple[int, ...], given: Given, compiler: Compiler) -> Target:
    output = _output(obj, dtype, shape)
    extra = len(shape) - obj.event_ndims_in
    found = jt.maps(type(obj).__name__, obj, dtype, jt.Form(*calls(extra), shape, output), compiler)
    domain, codomain = _boxes(obj)
    layers: list[Target] = []
    if len(parts := _parts(obj)) > 1:
        for part in parts:
            layers.append(replace(_bijector(part, dtype, shape, Given(), compiler), dtypes=(dtype,)))
            shape = _output(part, dtype, shape)
    return replace(found, layers=tuple(layers), domain=given.domain or domain, codomain=given.codomain or codomain)


def _output(obj: Any, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one event's value; if it cannot be found, that of the event."""
    import jax

    try:
        with precision(dtype):
            return tuple(jax.eval_shape(obj.forward, jax.ShapeDtypeStruct((2, *shape), dtype)).shape[1:])
    except Exception:  # whatever foreign code raises: the check of shapes will say so
        return shape


def _distribution(obj: Any, dtype: str, given: Given, compiler: Compiler) -> Target:
    with precision(dtype):
        shape = tuple(map(int, (*obj.batch_shape, *obj.event_shape)))
        parts = (obj.distribution, obj.bijector) if hasattr(obj, "bijector") and hasattr(obj, "distribution") else None
        inner = shape if parts is None else tuple(map(int, (*parts[0].batch_shape, *parts[0].event_shape)))
    if parts is not None:
        found = replace(
            _bijector(parts[1], dtype, inner, given, compiler), to_base="inverse",
            base_log_prob=compiler.program(_log_prob, parts[0], dtype),
        )  # fmt: skip
    else:
        found = Target("distribution", shape)
    found = jt.density(found, _log_prob, obj, dtype, compiler)
    eager = found.gradient is None
    return replace(
        found,
        sample=jt.drawn(compiler, _sample, obj, dtype, eager),
        sample_and_log_prob=jt.drawn(compiler, _sample_and_log_prob, obj, dtype, eager),
    )


@functools.cache
def calls(extra: int) -> tuple[Rows, Rows]:
    """Both directions, on events that have so many axes more than the bijector's own."""

    def transform(obj: Any, x: Any) -> Any:
        y, log_det = obj.forward_and_log_det(x)
        return y, jt.summed(log_det, extra)

    def inverse(obj: Any, y: Any) -> Any:
        x, log_det = obj.inverse_and_log_det(y)
        return x, jt.summed(log_det, extra)

    return transform, inverse


def _log_prob(obj: Any, x: Any) -> Any:
    return jt.summed(obj.log_prob(x), len(obj.batch_shape))


def _sample(obj: Any, key: Any, n: int) -> Any:
    return obj.sample(seed=key, sample_shape=n)


def _sample_and_log_prob(obj: Any, key: Any, n: int) -> Any:
    x, log_p = obj.sample_and_log_prob(seed=key, sample_shape=n)
    return x, jt.summed(log_p, len(obj.batch_shape))


def _parts(obj: Any) -> list[Any]:
    """The bijectors that are applied one after the other: a Chain lists its last first."""
    if type(obj).__name__ == "Chain":
        return [part for b in reversed(obj.bijectors) for part in _parts(b)]
    return [obj]


def _shape(obj: Any) -> tuple[int, ...] | None:
    """The shape of an event, where a mask or a matrix tells it."""
    for part in _parts(obj):
        for name, axes in (("mask", slice(None)), ("matrix", slice(-1, None)), ("diag", slice(-1, None))):
            if (found := getattr(part, name, None)) is not None and np.ndim(found):
                return tuple(np.shape(found)[axes])
    return None


def _boxes(obj: Any) -> tuple[Box | None, Box | None]:
    if comes_from(obj, "distrax", "BijectorFromTFP"):
        return tfp_flows.boxes(obj._tfp_bijector)
    if len(parts := _parts(obj)) > 1:
        return jt.through([_boxes(part) for part in parts])
    name = type(obj).__name__
    if name in ("Block", "Inverse"):
        domain, codomain = _boxes(obj.bijector if hasattr(obj, "bijector") else obj._bijector)
        return (domain, codomain) if name == "Block" else (codomain, domain)
    return jt.box(name, "domain"), jt.box(name, "codomain")
