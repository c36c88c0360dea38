"""Named scale maps: how a conditioner's raw output a becomes the log-scale s of an affine coupling.

| name | s(a) | range of s | source |
| --- | --- | --- | --- |
| exp | a | R | Dinh et al., 2017, eq. 4 |
| tanh | c tanh(a / c) | (-c, c) | Dinh et al., 2017, section 4.1 (a learned c there) |
| soft | a / (1 + abs(a) / c) | (-c, c) | softsign; Durkan's and zuko's clamp |
| sigmoid | log sigma(a + 2) | (-inf, 0) | Kingma and Dhariwal, 2018, published code |

All but `sigmoid` have s(0) = 0 and slope 1 there. The bound c is `bound`; `exp` and `sigmoid` have none.
"""

from collections.abc import Callable

from refflow import arrays as xp
from refflow.arrays import Array
from refflow.errors import StructureError


def _tanh(a: Array, bound: float) -> Array:
    c = xp.constant(bound, a)
    return c * xp.tanh(a / c)


def _soft(a: Array, bound: float) -> Array:
    return a / (1.0 + xp.abs(a) / xp.constant(bound, a))


SCALE_MAPS: dict[str, Callable[[Array, float], Array]] = {
    "exp": lambda a, bound: a,
    "tanh": _tanh,
    "soft": _soft,
    "sigmoid": lambda a, bound: xp.log_sigmoid(a + 2.0),
}


def check_scale_map(name: str, bound: float) -> None:
    """Refuse an unknown name or a bound that is not positive."""
    if name not in SCALE_MAPS:
        raise StructureError(f"expected a scale map among {', '.join(SCALE_MAPS)}, got {name!r}")
    if not (0.0 < bound < float("inf")):
        raise StructureError(f"expected a positive, finite bound, got {bound}")
