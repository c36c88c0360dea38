"""Jacobians of a map and gradients of its log-determinant that condition scales are made of, to a few digits."""

from typing import Any

import numpy as np

from refflow.modules import Module
from refflow.verification.calls import forward
from refflow.verification.jacobians import steps
from refflow.verification.limits import require_jacobian

OTHER = 0.1
"""By what share of its largest entry a target's own Jacobian may be another than differences before these are taken."""

GENEROUS = 25.0
"""How many times eps^(2/3), the error of central differences, their entries may be off."""


def derivatives(layer: Any, x: np.ndarray, context: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J `(N, D, D)`, grad l `(N, D)`, and by what share of a row's largest entry J may be off `(N,)`: by the complex
    step for modules, by differences for foreign maps, unless they differentiate themselves."""
    n, size = x.shape[0], x[0].size
    require_jacobian(size)
    repeated = None if context is None else np.repeat(context, size, axis=0)
    exact = isinstance(layer, Module)
    kind = x.dtype if exact else np.asarray(forward(layer, x, context)[0]).dtype
    h = steps(x.reshape(n, size)) if exact else _steps(layer, x.reshape(n, size), kind)

    def at(factor: complex) -> tuple[np.ndarray, np.ndarray]:
        points = x.reshape(n, 1, size) + factor * h[:, :, None] * np.eye(size)
        y, log_det = forward(layer, points.reshape(n * size, *x.shape[1:]), repeated)
        return y.reshape(n, size, -1), np.broadcast_to(log_det, (n * size,)).reshape(n, size)

    if exact:
        y, log_det = (np.imag(value) for value in at(1j))
        return np.swapaxes(y / h[:, :, None], 1, 2), log_det / h, np.zeros(n)
    (y1, l1), (y0, l0) = at(1.0), at(-1.0)
    slopes = (l1 - l0) / (2.0 * h)
    differences = np.swapaxes(y1 - y0, 1, 2) / (2.0 * h[:, None, :])
    off = np.full(n, GENEROUS * float(np.finfo(kind).eps) ** (2.0 / 3.0))
    if (own := getattr(layer, "jacobian", None)) is None:
        return differences, slopes, off
    found = np.asarray(own(x) if context is None else own(x, context), dtype=np.float64)
    size_of = np.maximum(np.abs(found).max(axis=(1, 2)), np.abs(differences).max(axis=(1, 2)))
    other = np.abs(found - differences).max(axis=(1, 2)) > OTHER * size_of  # as that of an inverse by bisection
    return np.where(other[:, None, None], differences, found), slopes, np.where(other, off, 0.0)


def _steps(layer: Any, x: np.ndarray, kind: Any) -> np.ndarray:
    """Steps for a few digits of a derivative, in the precision that the map computes in, within its domain."""
    h = float(np.finfo(kind).eps) ** (1.0 / 3.0) * np.maximum(1.0, np.abs(x))
    if (box := getattr(layer, "domain", None)) is not None:
        h = np.minimum(h, 0.25 * np.minimum(np.abs(x - box[0]), np.abs(box[1] - x)))
    return np.asarray(h)


__all__ = ["derivatives"]
