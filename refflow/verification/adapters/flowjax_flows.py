"""flowjax: bijections of one point at a time and distributions, all of them immutable pytrees.

`transform` takes the base to the data. Rows are mapped by `jax.vmap`; conditions are the rows of context.
"""

import math
from dataclasses import replace
from typing import Any

from refflow.verification.adapters import jax_targets as jt
from refflow.verification.adapters.given import Given
from refflow.verification.adapters.jax_objects import cast, comes_from, precision, precisions
from refflow.verification.adapters.jax_programs import JACOBIANS, POINTS, Compiler, jacobian_of, parameter_gradient_of
from refflow.verification.targets import Box, Target


def matches(obj: Any) -> bool:
    """Whether it is a bijection or a distribution of flowjax, or of a class derived from one."""
    return comes_from(obj, "flowjax", "AbstractBijection") or comes_from(obj, "flowjax", "AbstractDistribution")


def target(obj: Any, given: Given) -> Target:
    """Both precisions; the one of its parameters first."""
    compiler = Compiler()
    family = jt.Family(lambda obj, dtype: _target(obj, dtype, given, compiler), cast)
    return replace(family.first(obj, precisions(obj)), fresh=lambda: target(obj, given))


def _target(obj: Any, dtype: str, given: Given, compiler: Compiler) -> Target:
    build = _bijection if hasattr(obj, "transform_and_log_det") else _distribution
    context = None if obj.cond_shape is None else jt.rows_of_context(obj.cond_shape, given.context)
    return replace(build(obj, dtype, given, compiler), name=given.name or type(obj).__name__, context=context)


def _bijection(obj: Any, dtype: str, given: Given, compiler: Compiler) -> Target:
    found = _maps(obj, dtype, compiler)
    domain, codomain = _boxes(obj)
    with precision(dtype):
        parts = _parts(obj)
    layers = tuple(_layer(part, dtype, found, compiler) for part in parts) if len(parts) > 1 else ()
    return replace(found, layers=layers, domain=given.domain or domain, codomain=given.codomain or codomain)


def _maps(obj: Any, dtype: str, compiler: Compiler) -> Target:
    shape = None if obj.cond_shape is None else tuple(obj.cond_shape)
    flat = None if shape is None else (math.prod(shape),)
    form = jt.Form(_transform, _inverse, tuple(obj.shape), tuple(obj.shape), flat, padded=True)
    return jt.maps(type(obj).__name__, obj, dtype, form, compiler)


def _layer(obj: Any, dtype: str, whole: Target, compiler: Compiler) -> Target:
    """A part of a chain; it is called with the chain's context, whether it has any use for one or not."""
    domain, codomain = _boxes(obj)
    run = compiler.program
    return Target(
        type(obj).__name__, tuple(obj.shape), domain=domain, codomain=codomain, dtypes=(dtype,),
        forward=run(_transform, obj, dtype, padded=POINTS),
        inverse=None if whole.inverse is None else run(_inverse, obj, dtype, padded=POINTS),
        jacobian=None if whole.jacobian is None else run(jacobian_of(_transform), obj, dtype, padded=JACOBIANS),
        inverse_jacobian=None if whole.inverse_jacobian is None else run(
            jacobian_of(_inverse), obj, dtype, padded=JACOBIANS
        ),
    )  # fmt: skip


def _distribution(obj: Any, dtype: str, given: Given, compiler: Compiler) -> Target:
    if hasattr(obj, "bijection"):
        found = replace(
            _bijection(obj.bijection, dtype, given, compiler), to_base="inverse",
            base_log_prob=compiler.program(_log_prob, obj.base_dist, dtype, padded=POINTS),
        )  # fmt: skip
    else:
        found = Target(type(obj).__name__, tuple(obj.shape))
    context = None if obj.cond_shape is None else jt.rows_of_context(obj.cond_shape, given.context)
    found = jt.density(replace(found, context=context), _log_prob, obj, dtype, compiler, padded=POINTS)
    eager = found.gradient is None
    return replace(
        found,
        sample=jt.drawn(compiler, _sample, obj, dtype, eager),
        sample_and_log_prob=jt.drawn(compiler, _sample_and_log_prob, obj, dtype, eager),
        parameter_gradient=None if eager else compiler.program(parameter_gradient_of(_log_prob), obj, dtype),
    )


def _mapped(method: str, obj: Any, x: Any, *context: Any) -> Any:
    import jax

    if not hasattr(obj, method):  # a wrapper of parameters around a bijection
        from paramax import unwrap

        obj = unwrap(obj)
    if obj.cond_shape is None or not context:
        return jax.vmap(getattr(obj, method))(x)
    return jax.vmap(getattr(obj, method))(x, context[0].reshape(-1, *obj.cond_shape))


def _transform(obj: Any, x: Any, *context: Any) -> Any:
    return _mapped("transform_and_log_det", obj, x, *context)


def _inverse(obj: Any, y: Any, *context: Any) -> Any:
    return _mapped("inverse_and_log_det", obj, y, *context)


def _log_prob(obj: Any, x: Any, *context: Any) -> Any:
    return _mapped("log_prob", obj, x, *context)


def _sample(obj: Any, key: Any, n: int, *context: Any) -> Any:
    if obj.cond_shape is None or not context:
        return obj.sample(key, (n,))
    return obj.sample(key, (), context[0].reshape(-1, *obj.cond_shape))


def _sample_and_log_prob(obj: Any, key: Any, n: int, *context: Any) -> Any:
    if obj.cond_shape is None or not context:
        return obj.sample_and_log_prob(key, (n,))
    return obj.sample_and_log_prob(key, (), context[0].reshape(-1, *obj.cond_shape))


def _parts(obj: Any) -> list[Any]:
    """The bijections that are applied one after the other, in the order of transform."""
    kind = type(obj).__name__
    if kind == "Chain":
        return [part for b in obj.bijections for part in _parts(b)]
    if kind == "Invert":
        inner = _parts(obj.bijection)
        return [type(obj)(part) for part in reversed(inner)] if len(inner) > 1 else [obj]
    if kind == "Scan":
        return [part for b in _slices(obj.bijection) for part in _parts(b)]
    return [obj]


def _slices(obj: Any) -> list[Any]:
    """The bijections whose arrays are stacked along the first axis."""
    import jax

    arrays = [v for v in jax.tree_util.tree_leaves(obj) if isinstance(v, jax.Array)]
    return [
        jax.tree_util.tree_map(lambda v, i=i: v[i] if isinstance(v, jax.Array) else v, obj)
        for i in range(arrays[0].shape[0] if arrays else 0)
    ] or [obj]


def _boxes(obj: Any) -> tuple[Box | None, Box | None]:
    parts = _parts(obj)
    if len(parts) > 1:
        return jt.through([_boxes(part) for part in parts])
    if type(obj).__name__ == "Invert":
        domain, codomain = _boxes(obj.bijection)
        return codomain, domain
    name = type(obj).__name__
    return jt.box(name, "domain"), jt.box(name, "codomain")
