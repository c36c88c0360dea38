r"""How much a map may lose to rounding, and so what counts as an error.

A tolerance is not a habit: on correct flows round-trip errors span fifteen decades. What is constant is the **excess**

    rho = error / (u kappa),   u = eps / 2                                         (1)

where the condition scale kappa says by how much one rounding of relative size u, made anywhere in the computation,
can move the result. With layers x_0 -> x_1 ... -> x_K, Jacobians J_k and log-determinants l_k, each layer commits

    phi_k = |x_k| + |dx_k/dp . p|,   lambda_k = |l_k| + D + |dl_k/dp . p|            (2)

The derivatives are with respect to everything the layer computes with (weights, biases, constants p): each product in
a matrix product is one of its weights times the derivative to that weight, so sums that cancel inside are seen. Each
of the D factors of a determinant has a relative error of u at least, hence its logarithm an absolute one: the D in
lambda. To first order then (Wilkinson's running error analysis),

    forward value      F_k = phi_k + |J_k| F_{k-1},                   F_0 = |x_0|   (3)
    log-determinant    sum_k lambda_k + |grad l_k| . F_{k-1}                        (4)
    round trip         R_{k-1} = |x_{k-1}| + |J_k^-1| (R_k + phi_k),  R_K = 0       (5)
    antisymmetry       sum_k 2 lambda_k + |grad l_k| . R_{k-1}                      (6)

A row where u kappa exceeds 1e-3 max(1, |value|) anywhere is inconclusive: first-order theory fails there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from refflow.bijections import Inverse
from refflow.modules import Module, field_names, map_modules, replace
from refflow.verification.calls import cast, current_guard, forward, layers
from refflow.verification.derivatives import derivatives
from refflow.verification.jacobians import STEP
from refflow.verification.limits import NUMBERS, require_jacobian
from refflow.verification.targets import Target

T = TypeVar("T")

PROBES = 6
"""Random sign patterns per derivative along p in (2); the largest of six is within a factor 3 of the 2-norm."""

SATURATED = -18.0
"""log u / 2. Slopes below u leave no trace in float64: a map that saturates says so by a log_det far below this."""

LINEAR = 1e-3
"""The largest relative error that first-order theory is trusted with."""


def unit(dtype: Any) -> float:
    """u = eps / 2, half the distance from 1 to the next number."""
    return float(np.finfo(dtype).eps) / 2.0


@dataclass(frozen=True)
class Conditions:
    """The scales (3) to (6) at the rows of x, events flattened, and which rows first-order theory covers."""

    value: np.ndarray
    log_det: np.ndarray
    round_trip: np.ndarray
    antisymmetry: np.ndarray
    jacobian: np.ndarray
    """The product of the |J_k| + |dJ_k/dp . p|: by how much the entries of the whole Jacobian may have cancelled."""
    singular: np.ndarray
    """Rows where a Jacobian has no inverse though log_det says it has: a clamp, not a want of digits. `(N,)`."""
    worst: np.ndarray
    """The largest kappa / max(1, |value|) met on the way, `(N,)`."""

    size: np.ndarray
    """The largest |value| met on the way, `(N,)`."""

    def conclusive(self, dtype: Any) -> np.ndarray:
        """Which rows the laws may judge in this dtype: where theory holds and nothing overflows."""
        return np.asarray((unit(dtype) * self.worst <= LINEAR) & (self.size < 0.25 * float(np.finfo(dtype).max)))


_known: ContextVar[dict[Any, Any] | None] = ContextVar("conditions that are known", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Within, the scales of one map at the same rows are computed once: most laws of a verification ask for them."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def conditions(f: Any, x: np.ndarray, context: np.ndarray | None = None) -> Conditions:
    """The condition scales of f at the rows x `(N, *event)`, in float64 whatever x's dtype."""
    if len(x) * x[:1].size ** 2 > NUMBERS // 4:  # too large to be kept
        return _conditions(f, x, context)
    guard = current_guard.get()
    which = _identity(f), 0 if guard is None else guard.changes
    key = (which, x.dtype, x.shape, x.tobytes(), None if context is None else context.tobytes())
    return known(key, f, lambda: _conditions(f, x, context))  # type: ignore[no-any-return]


def _identity(f: Any) -> Any:
    """What is the same for two objects that are one map, turned round twice, say, or a target with fewer functions."""
    if isinstance(f, Target):
        return "target", id(f.forward), id(f.inverse), id(f.module)
    return ("inverse", id(f.bijection)) if isinstance(f, Inverse) else id(f)


def known(key: Any, f: Any, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, once for each key within `remembered`; f is kept, so that its id stays its own."""
    kept = _known.get()
    if kept is None:
        return compute()
    if key not in kept:
        kept[key] = compute(), f
    return kept[key][0]


def _conditions(f: Any, x: np.ndarray, context: np.ndarray | None) -> Conditions:
    require_jacobian(x[0].size)
    kind = np.float32 if isinstance(f, Target) and f.dtypes == ("float32",) else np.float64
    x = x.astype(kind)
    context = None if context is None else context.astype(kind)
    n = x.shape[0]
    steps = []
    with np.errstate(all="ignore"):
        for layer in layers(cast(f, np.float64)):
            steps.append(_step(layer, x, context))
            x = forward(layer, x, context)[0]
        dim = steps[0].x.shape[1]
        value, log_det, product = np.abs(steps[0].x), np.zeros(n), np.broadcast_to(np.eye(dim), (n, dim, dim))
        worst, singular = np.zeros(n), np.zeros(n, dtype=bool)
        for s in steps:
            singular |= s.singular
            log_det = log_det + s.lam + _dot(s.gradient, value)  # (4)
            value = s.phi + _apply(s.jacobian, value)  # (3)
            product = s.majorant @ product
            worst = np.maximum(worst, _relative(value, s.y))
        back, antisymmetry = np.zeros((n, dim)), np.zeros(n)
        for s in reversed(steps):
            inverses = _inverses(s.jacobian)
            back = np.abs(s.x) + _apply(inverses, back + s.phi)  # (5)
            worst = np.where(_blur(inverses, s.jacobian, s.off) > BLURRED, np.inf, worst)
            antisymmetry = antisymmetry + 2.0 * s.lam + _dot(s.gradient, back)  # (6)
            worst = np.maximum(worst, _relative(back, s.x))
        for scale in (log_det, antisymmetry):
            worst = np.maximum(worst, scale)
    size = np.max([np.abs(s.y).max(axis=1, initial=0.0) for s in steps], axis=0)
    finite = np.isfinite(worst) & np.isfinite(product).all(axis=(1, 2))
    worst = np.where(finite, worst, np.inf)
    return Conditions(value, log_det, back, antisymmetry, product, singular, worst, size)


def _apply(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(matrices) @ vectors[..., None])[..., 0])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(np.abs(a) * b, axis=-1))


def _relative(scale: np.ndarray, x: np.ndarray) -> np.ndarray:
    ratio = scale / np.maximum(1.0, np.abs(x))
    return np.max(np.where(np.isfinite(ratio), ratio, np.inf), axis=-1)  # type: ignore[no-any-return]


def _inverses(matrices: np.ndarray) -> np.ndarray:
    """J^-1 of every row; infinite where there is none."""
    usable = np.isfinite(matrices).all(axis=(1, 2))
    usable[usable] = np.linalg.slogdet(matrices[usable])[1] > -np.inf
    found = np.full(matrices.shape, np.inf)
    found[usable] = np.linalg.inv(matrices[usable])
    return found


BLURRED = 0.1
"""By what share an inverse Jacobian may be moved by what the Jacobian is off, for its scale to be known."""


def _blur(inverses: np.ndarray, matrices: np.ndarray, off: np.ndarray) -> np.ndarray:
    """How far J^-1 is moved, relatively `(N,)`, if every entry of J is off by a share of its row's largest: the norm of
    |J^-1| E, with these as E."""
    errors = off[:, None, None] * np.max(np.abs(matrices), axis=2, keepdims=True, initial=0.0) * np.ones_like(matrices)
    found = np.sum(np.abs(inverses) @ errors, axis=2).max(axis=1, initial=0.0)
    return np.asarray(np.where(np.isfinite(found), found, 0.0))  # a singular one is judged as such


@dataclass(frozen=True)
class _Step:
    """One layer at one batch: its two points, its derivatives, and what it commits (2)."""

    x: np.ndarray
    y: np.ndarray
    jacobian: np.ndarray
    majorant: np.ndarray
    gradient: np.ndarray
    phi: np.ndarray
    lam: np.ndarray
    singular: np.ndarray
    off: np.ndarray
    """By what share of a row's largest entry the Jacobian may be off `(N,)`."""


def _step(layer: Any, x: np.ndarray, context: np.ndarray | None) -> _Step:
    n, size = x.shape[0], x[0].size
    y, log_det = forward(layer, x, context)
    rows, log_det = y.reshape(n, -1), np.broadcast_to(log_det, (n,))
    jacobian, gradient, off = derivatives(layer, x, context)
    by_value, by_log_det = _probe(layer, x, context)
    lam = np.abs(log_det) + size + by_log_det
    majorant = np.abs(jacobian) + _jacobian_probe(layer, x, context, jacobian)
    regular = np.isfinite(jacobian).all(axis=(1, 2)) & np.isfinite(log_det)
    sign = np.linalg.slogdet(np.where(regular[:, None, None], jacobian, np.eye(size)))[0]
    if not isinstance(layer, Module):  # elimination of entries that are not known to u proves nothing; a zero row does
        sign = np.where((jacobian == 0.0).all(axis=1).any(axis=1) | (jacobian == 0.0).all(axis=2).any(axis=1), 0.0, 1.0)
    singular = regular & (log_det > SATURATED) & (sign == 0.0)
    size_of_y = np.abs(rows)
    if not isinstance(layer, Module):  # its constants, which cannot be reached, are of the size of its usual values
        size_of_y = np.maximum(size_of_y, np.nanmedian(size_of_y, axis=0) if n else 0.0)
    return _Step(x.reshape(n, -1), rows, jacobian, majorant, gradient, size_of_y + by_value, lam, singular, off)


def _probe(layer: Any, x: np.ndarray, context: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The largest |dy/dp . (+-p)| and |dl/dp . (+-p)| over random signs of the layer's own numbers p; 0 for a foreign
    map, whose numbers cannot be reached."""
    n = x.shape[0]
    value, log_det = np.zeros((n, x[0].size)), np.zeros(n)
    rng = np.random.default_rng(0)
    for _ in range(PROBES if isinstance(layer, Module) else 0):
        y, term = forward(_shaken(layer, rng), x, context)
        value = np.maximum(value, np.abs(np.imag(y)).reshape(n, -1) / STEP)
        log_det = np.maximum(log_det, np.abs(np.imag(term)) / STEP)
    return value, log_det


def _jacobian_probe(layer: Any, x: np.ndarray, context: np.ndarray | None, jacobian: np.ndarray) -> np.ndarray:
    """The largest |dJ/dp . (+-p)| over two random patterns of signs, by differences: a few digits are enough."""
    found = np.zeros_like(jacobian)
    if isinstance(layer, Module):
        rng, step = np.random.default_rng(1), 2.0**-20
        for _ in range(2):
            moved = derivatives(_shaken(layer, rng, step), x, context)[0]
            found = np.maximum(found, np.abs(moved - jacobian) / step)
    return found


def _shaken(module: Module, rng: np.random.Generator, step: Any = 1j * STEP) -> Any:
    """The module with p (1 + step s) for every number p, s random signs: its arrays and its float constants."""

    def shake(p: Any) -> Any:
        moved = p * (1.0 + step * (rng.integers(0, 2, np.shape(p)) * 2 - 1))
        return moved if isinstance(p, np.ndarray) else moved[()]

    def part(m: Any) -> Any:
        numbers = {k: v for k in field_names(type(m)) if isinstance(v := getattr(m, k), np.ndarray | float)}
        return replace(m, **{k: shake(v) for k, v in numbers.items()})

    change: Callable[[Any], Any] = part
    return map_modules(change, module)
