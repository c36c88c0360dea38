"""Flows as plain data: what JSON holds, a reader of any language understands, and refflow builds.

A spec is `{"event_shape": [D], "maps": [...]}`; x goes through the maps in their order. Every map says what it is:

    {"map": "affine coupling", "moved": [...], "weight": [[...]], "bias": [...], "scale": "tanh", "bound": 2.0}
    {"map": "elementwise affine", "log_scale": [...], "shift": [...]}
    {"map": "permutation", "order": [...]}                                  y_i = x_order_i
    {"map": "lu", "factors": [[...]], "shift": [...], "order": [...]}       `LU`
    {"map": "spline", "theta": [[...]], "bound": 3.0}                       `RationalQuadraticElementwise`

The coupling's network is one linear layer, [a | t] = x_kept weight + bias, `(D - m, 2 m)` for m moved coordinates;
then y_moved = exp(S(a)) x_moved + t with the named scale map S. A port that builds the same flow can be compared with
the reference number by number.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refflow.bijections import (
    LU,
    AffineCoupling,
    Bijection,
    Chain,
    ElementwiseAffine,
    Mask,
    Permutation,
    RationalQuadraticElementwise,
)
from refflow.conditioners import MLP, Linear
from refflow.distributions import StandardNormal
from refflow.errors import StructureError
from refflow.flow import Flow

Spec = dict[str, Any]


def from_spec(spec: Mapping[str, Any], dtype: Any = "float64") -> Flow:
    """The flow on a standard normal that a spec describes.

    >>> from refflow.specs import from_spec
    >>> spec = {"event_shape": [2], "maps": [{"map": "permutation", "order": [1, 0]}]}
    >>> from_spec(spec).encode(np.array([[1.0, 2.0]]))
    array([[2., 1.]])
    """
    try:
        shape = tuple(spec["event_shape"])
        maps = [_MAPS[part["map"]](part, shape, lambda a: np.asarray(a, dtype=dtype)) for part in spec["maps"]]
    except KeyError as error:
        raise StructureError(
            f"expected a spec with maps of {', '.join(_MAPS)}; {error} is missing or unknown"
        ) from error
    return Flow(StandardNormal(shape), Chain(tuple(maps)))


ToArray = Callable[[Any], np.ndarray]


def _coupling(part: Mapping[str, Any], shape: tuple[int, ...], array: ToArray) -> Bijection:
    network = MLP((Linear(array(part["weight"]), array(part["bias"])),))
    return AffineCoupling(Mask(shape, tuple(part["moved"])), network, part["scale"], part["bound"])


def _elementwise(part: Mapping[str, Any], _: tuple[int, ...], array: ToArray) -> Bijection:
    return ElementwiseAffine(array(part["log_scale"]), array(part["shift"]))


def _permutation(part: Mapping[str, Any], *_: Any) -> Bijection:
    return Permutation(tuple(part["order"]))


def _lu(part: Mapping[str, Any], _: tuple[int, ...], array: ToArray) -> Bijection:
    return LU(array(part["factors"]), array(part["shift"]), tuple(part["order"]))


def _spline(part: Mapping[str, Any], _: tuple[int, ...], array: ToArray) -> Bijection:
    return RationalQuadraticElementwise(array(part["theta"]), part["bound"])


_MAPS: dict[str, Callable[..., Bijection]] = {
    "affine coupling": _coupling, "elementwise affine": _elementwise, "permutation": _permutation, "lu": _lu,
    "spline": _spline,
}  # fmt: skip

__all__ = ["Spec", "from_spec"]
