"""TensorFlow Probability, on JAX, NumPy or TensorFlow: bijectors and distributions.

A bijector takes the base to the data. Its value and its log-determinant are two calls; the second sums over the axes
of the event (`event_ndims`), and is one number where the Jacobian is constant. Objects are cast by making them anew
from their `parameters`: their numbers must all have one dtype.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refflow.verification.adapters import jax_targets as jt
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.jax_objects import Uncast, arrays, cast, comes_from, precisions
from refflow.verification.adapters.jax_programs import Compiler, Rows
from refflow.verification.targets import Box, Target

PACKAGE = "tensorflow_probability"


def is_bijector(obj: Any) -> bool:
    """Whether it is a bijector of TFP."""
    return comes_from(obj, PACKAGE, "Bijector")


def matches(obj: Any) -> bool:
    """Whether it is a bijector or a distribution of TFP, or of a class derived from one."""
    return is_bijector(obj) or comes_from(obj, PACKAGE, "Distribution")


def target(obj: Any, given: Given) -> Target:
    """On JAX in both precisions; on NumPy and TensorFlow too, without derivatives."""
    on_jax = any(".substrates.jax." in c.__module__ for c in type(obj).__mro__)
    compiler: Any = Compiler() if on_jax else Plain()
    kinds = precisions(obj) if on_jax else _kinds(obj)
    family = jt.Family(lambda obj, dtype: _target(obj, dtype, given, compiler), recast if on_jax else recast_plainly)
    return replace(family.first(obj, kinds), fresh=lambda: target(obj, given))


def _kinds(obj: Any) -> tuple[str, str]:
    wide = {a.dtype.name for a in arrays(obj)} == {"float64"}
    return ("float64", "float32") if wide else ("float32", "float64")


def recast(obj: Any, dtype: str) -> Any:
    """The object in another precision."""
    return cast(obj, dtype, functools.partial(remade, dtype=dtype))


def recast_plainly(obj: Any, dtype: str) -> Any:
    """The object in another precision, where JAX has no part in it."""

    def change(v: Any) -> Any:
        if matches(v):
            return remade(v, change, dtype=dtype)
        if isinstance(v, list | tuple) and not hasattr(v, "_make"):
            return type(v)(change(u) for u in v)
        if getattr(getattr(v, "dtype", None), "kind", "") == "f" and isinstance(v, np.ndarray | np.generic):
            return v.astype(dtype)
        return v

    return change(obj)


def remade(obj: Any, change: Callable[[Any], Any], *, dtype: str) -> Any:
    """A TFP object made anew from changed parameters, its Python floats become arrays; None of other objects."""
    if not matches(obj):
        return None

    def part(v: Any) -> Any:
        if isinstance(v, float) and not isinstance(v, np.floating):
            return np.asarray(v, dtype=dtype)
        if isinstance(v, list | tuple) and v and all(isinstance(u, float | int) and u is not True for u in v):
            return np.asarray(v, dtype=dtype) if any(isinstance(u, float) for u in v) else v
        return change(v)

    known = inspect.signature(type(obj).__init__).parameters
    if lost := [k for k, p in known.items() if p.default is p.empty and k not in ("self", *obj.parameters)
                and p.kind is p.POSITIONAL_OR_KEYWORD]:  # fmt: skip
        raise Uncast(f"{type(obj).__name__} does not keep its {', '.join(lost)}")
    changed = {k: part(v) for k, v in obj.parameters.items() if k in known}
    if changed.get("dtype") is not None:
        changed["dtype"] = np.dtype(dtype)
    return type(obj)(**changed)


def _target(obj: Any, dtype: str, given: Given, compiler: Any) -> Target:
    name = given.name or type(obj).__name__
    if is_bijector(obj):
        return replace(bijector(obj, dtype, given.shape(None, "TFP bijector"), given, compiler), name=name)
    return replace(_distribution(obj, dtype, given, compiler), name=name)


def bijector(obj: Any, dtype: str, shape: tuple[int, ...], given: Given, compiler: Any) -> Target:
    """A bijector on events of this shape, with its parts."""
    output = tuple(map(int, obj.forward_event_shape(shape)))
    form = jt.Form(*calls(len(shape), len(output)), shape, output)
    found = jt.maps(type(obj).__name__, obj, dtype, form, compiler)
    domain, codomain = boxes(obj)
    layers: list[Target] = []
    if len(parts := parts_of(obj)) > 1:
        for part in parts:
            layers.append(replace(bijector(part, dtype, shape, Given(), compiler), dtypes=(dtype,)))
            shape = tuple(map(int, part.forward_event_shape(shape)))
    return replace(found, layers=tuple(layers), domain=given.domain or domain, codomain=given.codomain or codomain)


def _distribution(obj: Any, dtype: str, given: Given, compiler: Any) -> Target:
    shape = tuple(map(int, (*obj.batch_shape, *obj.event_shape)))
    if hasattr(obj, "bijector"):
        base = obj.distribution
        inner = tuple(map(int, (*base.batch_shape, *base.event_shape)))
        found = replace(
            bijector(obj.bijector, dtype, inner, given, compiler), to_base="inverse",
            base_log_prob=compiler.program(_log_prob, base, dtype),
        )  # fmt: skip
    else:
        found = Target("distribution", shape)
    found = jt.density(found, _log_prob, obj, dtype, compiler)
    eager = found.gradient is None
    draw = jt.drawn if isinstance(compiler, Compiler) else _drawn
    return replace(found, sample=draw(compiler, _sample, obj, dtype, eager))


@functools.cache
def calls(ndims: int, output_ndims: int) -> tuple[Rows, Rows]:
    """Both directions on batches of events of so many axes."""

    def transform(obj: Any, x: Any) -> Any:
        return obj.forward(x), _whole(obj.forward_log_det_jacobian(x, event_ndims=ndims), len(x))

    def inverse(obj: Any, y: Any) -> Any:
        return obj.inverse(y), _whole(obj.inverse_log_det_jacobian(y, event_ndims=output_ndims), len(y))

    return transform, inverse


def _whole(log_det: Any, n: int) -> Any:
    """TFP leaves out the batch of log-determinants that are the same everywhere."""
    return log_det if len(log_det.shape) else log_det + np.zeros(n, dtype=np.dtype(str(log_det.dtype)))


def _log_prob(obj: Any, x: Any) -> Any:
    return jt.summed(obj.log_prob(x), len(obj.batch_shape))


def _sample(obj: Any, key: Any, n: int) -> Any:
    return obj.sample(n, seed=key)


def _drawn(compiler: Any, draw: Callable[..., Any], obj: Any, dtype: str, eager: bool) -> Callable[..., Any]:
    return lambda n, seed: np.asarray(draw(obj, seed, n))


def parts_of(obj: Any) -> list[Any]:
    """The bijectors that are applied one after the other: a Chain lists its last first."""
    if type(obj).__name__ == "Chain":
        return [part for b in reversed(obj.bijectors) for part in parts_of(b)]
    return [obj]


def boxes(obj: Any) -> tuple[Box | None, Box | None]:
    """Domain and codomain, where the class says so."""
    name, told = type(obj).__name__, getattr(obj, "parameters", {})
    if name == "Invert":
        domain, codomain = boxes(obj.bijector)
        return codomain, domain
    if len(parts := parts_of(obj)) > 1:
        return jt.through([boxes(part) for part in parts])
    if any(told.get(k) is not None for k in ("low", "high")):
        return None, None
    return jt.box(name, "domain"), jt.box(name, "codomain")


class Plain:
    """In the place of a compiler, for code that runs on NumPy arrays as it is: no derivatives."""

    def way(self, function: Any, obj: Any, dtype: str, *shapes: tuple[int, ...]) -> str:
        """ "eager" is not worth a remark here: nothing of it compiles; what has no `_inverse` is absent."""
        try:
            function(obj, np.full(shapes[0], 0.5, dtype=dtype))
        except NotImplementedError as error:
            return f"absent: {error}"
        except Exception as error:  # whatever foreign code raises: the checks that call it will say so
            return f"raises: {type(error).__name__}"
        return "runs"

    def program(self, function: Any, obj: Any, dtype: str, *, padded: int = 0, eager: bool = False) -> Any:
        """`function(obj, ...)` of NumPy rows."""

        def call(x: np.ndarray) -> Any:
            if x.dtype.kind != "f" or x.dtype.itemsize > 8:
                raise TypeError(f"expected rows of {dtype}, got {x.dtype}")
            answer = function(obj, x.astype(dtype))
            return tuple(map(np.asarray, answer)) if isinstance(answer, tuple) else np.asarray(answer)

        return call
