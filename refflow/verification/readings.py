"""What a wrong log-determinant is instead: readings of it that fit log|det J| at all rows, the plainest first."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from refflow.verification.calls import cast, forward, inverse, layers
from refflow.verification.comparison import Context, taken
from refflow.verification.conditioning import unit
from refflow.verification.determinants import takes_complex
from refflow.verification.jacobians import SAFETY, STEP

ROWS = 12
"""Rows at which readings are compared: a reading that fits by chance at one does not at all."""

FITS = 1e-6
"""The relative distance at which a reading fits, besides the error of the Jacobian: differences give that much."""

SINGLE = "log_det is off by no more than float32 rounds: is something on the way rounded to it?"

Reading = tuple[str, np.ndarray]
"""A sentence's end, and the log-determinants that it predicts `(n,)`."""


@dataclass(frozen=True)
class Truth:
    """Rows at which J is known: J `(n, D, D)`, log|det J| and its error `(n,)`, and what was claimed, as it came."""

    x: np.ndarray
    context: Context
    jacobian: np.ndarray
    log_det: np.ndarray
    error: np.ndarray
    claimed: np.ndarray

    def fits(self, predicted: np.ndarray, claimed: np.ndarray | None = None) -> bool:
        """Whether a reading predicts what was claimed, at every row."""
        claimed = self.claimed if claimed is None else claimed
        if np.shape(predicted) != np.shape(claimed) or not (np.isfinite(predicted) & np.isfinite(claimed)).all():
            return False
        allowed = FITS * (1.0 + np.abs(predicted)) + SAFETY * self.error * (1.0 + np.abs(predicted / self.size))
        return bool((np.abs(predicted - claimed) <= allowed).all())

    @property
    def size(self) -> np.ndarray:
        """max(1, |log|det J||)."""
        return np.asarray(np.maximum(1.0, np.abs(self.log_det)))


@np.errstate(all="ignore")
def truth(f: Any, x: np.ndarray, context: Context = None) -> Truth | None:
    """log|det J| in float64 where it is known to three digits: by differences with two steps, or, where the code takes
    complex numbers and that agrees, by the complex step; None if it is known at fewer than two rows."""
    f, x = cast(f, np.float64), x[:ROWS].astype(np.float64)
    context = None if context is None else context[:ROWS].astype(np.float64)
    h = 2.0**-17 * np.maximum(1.0, np.abs(x.reshape(len(x), -1)))
    fine, coarse = (_central(f, x, context, factor * h) for factor in (1.0, 2.0))
    if fine.shape[1] != fine.shape[2] or fine.dtype != np.float64:
        return None
    rounding = 4.0 * unit(np.float64) * np.abs(fine).max(axis=(1, 2), keepdims=True) / h[:, None, :]
    spread = np.abs(fine - coarse) + rounding
    if takes_complex(f, x[:1], taken(context, slice(1))):
        step = _complex(f, x, context)
        if (np.abs(step - fine) <= SAFETY * spread + 1e-6 * np.abs(fine)).all():
            fine, spread = step, 1e-13 * np.abs(step)
    value, error = np.full(len(x), np.nan), np.full(len(x), np.inf)
    good = np.isfinite(fine).all(axis=(1, 2))
    value[good] = np.linalg.slogdet(fine[good])[1]
    good &= np.isfinite(value)
    error[good] = np.einsum("nij,nji->n", np.abs(np.linalg.inv(fine[good])), spread[good])
    known = np.flatnonzero(SAFETY * error <= 1e-3)
    if len(known) < 2:
        return None
    x, context = x[known], taken(context, known)
    claimed = np.asarray(forward(f, x, context)[1], dtype=np.float64)
    return Truth(x, context, fine[known], value[known], error[known], claimed)


def _central(f: Any, x: np.ndarray, context: Context, h: np.ndarray) -> np.ndarray:
    up, down = (_moved(f, x, context, sign * h) for sign in (1.0, -1.0))
    return np.asarray(np.swapaxes((up - down) / (2.0 * h[:, :, None]), 1, 2))


def _complex(f: Any, x: np.ndarray, context: Context) -> np.ndarray:
    h = np.full((len(x), x[0].size), STEP)
    return np.asarray(np.swapaxes(np.imag(_moved(f, x, context, 1j * h)) / STEP, 1, 2))


def _moved(f: Any, x: np.ndarray, context: Context, h: np.ndarray) -> np.ndarray:
    """Values `(n, D, M)` with coordinate j moved by h."""
    n, size = h.shape
    rows = (x.reshape(n, 1, size) + h[:, :, None] * np.eye(size)).reshape(n * size, *x.shape[1:])
    repeated = None if context is None else np.repeat(context, size, axis=0)
    return np.asarray(forward(f, rows, repeated)[0]).reshape(n, size, -1)


def name_log_det(f: Any, x: np.ndarray, context: Context = None) -> str:
    """What the log-determinant of f is, if it is not that of f; empty if it is, or if nothing fits."""
    known = truth(f, x, context)
    if known is None or known.claimed.shape != known.log_det.shape:
        return ""
    if known.fits(known.log_det):
        off = np.abs(known.claimed - known.log_det).max()
        return SINGLE if off > 1e-9 and known.error.max() < 1e-11 else ""
    if np.isnan(known.claimed).any() and (np.linalg.det(known.jacobian) < 0.0)[np.isnan(known.claimed)].all():
        return "log_det is NaN where det J is negative: take its absolute value"
    if said := _fitting(known, _plain(known)):
        return said
    if said := by_layer(f, known.x, known.context, name_log_det):
        return said
    if said := _fitting(known, _readings(f, known)):
        return said
    error = np.abs(known.claimed - known.log_det)
    if (error <= 64.0 * unit(np.float32) * known.size).all() and error.max() > FITS * 1e-3:
        return SINGLE
    return ""


def _fitting(known: Truth, readings: Iterator[Reading]) -> str:
    """The first reading that predicts what was claimed."""
    for said, predicted in readings:
        if known.fits(predicted):
            constant = np.ptp(known.log_det) <= FITS * known.size.max() and "constant" not in said
            besides = " (it is the same at all rows, so that other causes fit as well)" if constant else ""
            return f"log_det {said}{besides}"
    return ""


def by_layer(f: Any, x: np.ndarray, context: Context, name: Callable[..., str]) -> str:
    """What `name` says of each layer that shows, at the rows that reach it; the same of several layers once."""
    parts, found = list(layers(f)), dict[str, list[int]]()
    for k, part in enumerate(parts if len(parts) > 1 else []):
        if said := name(part, x, context):
            found.setdefault(said, []).append(k)
        x = np.asarray(forward(part, x, context)[0])
    return "; ".join(
        f"layer{'s' if len(k) > 1 else ''} {' and '.join(map(str, k))}: {said}" for said, k in found.items()
    )


def _plain(known: Truth) -> Iterator[Reading]:
    t, n = known.log_det, len(known.log_det)
    yield "is 0", 0.0 * t
    yield "has the wrong sign: it is that of the other direction", -t
    yield "is twice log|det J|", 2.0 * t
    yield "is half of log|det J|", 0.5 * t
    yield from _factors(known)
    yield "is in base 2, not e", t / math.log(2.0)
    yield "is in base 10, not e", t / math.log(10.0)
    yield "is |det J|, without the logarithm", np.exp(t)
    yield "is the sum over the batch", np.full(n, t.sum())
    yield "is the mean over the batch", np.full(n, t.mean())
    yield "is that of row 0, at all rows", np.full(n, t[0])
    yield "is that of the next row", np.roll(t, -1)
    yield "is that of the row before", np.roll(t, 1)
    yield "is that of the rows in reverse", t[::-1]


def _readings(f: Any, known: Truth) -> Iterator[Reading]:
    yield from _diagonals(known)
    yield from _layers(f, known)
    yield from _offsets(known)
    yield from _other_points(f, known)


def _factors(known: Truth) -> Iterator[Reading]:
    """Missing or superfluous numbers of coordinates, axes and their products."""
    shape, t = known.x.shape[1:], known.log_det
    size = int(np.prod(shape))
    if size > 1:
        yield f"is log|det J| / {size}: the mean over the {size} coordinates, not the sum", t / size
        yield f"is {size} times log|det J|, the number of coordinates: it is summed twice", t * size
    for k in range(1, len(shape)):
        for axes in combinations(range(len(shape)), k):
            part = int(np.prod([shape[a] for a in axes]))
            if part > 1:
                said = " ".join(str(shape[a]) for a in axes)
                yield f"lacks the factor {said} of axes {list(axes)} of the event", t / part
                yield f"has the factor {said} of axes {list(axes)} of the event too much", t * part


def _diagonals(known: Truth) -> Iterator[Reading]:
    with np.errstate(all="ignore"):
        terms = np.log(np.abs(np.einsum("nii->ni", known.jacobian)))
    yield "is that of J's diagonal alone", terms.sum(axis=1)
    for i in range(min(terms.shape[1], 64)):
        yield f"lacks the term of coordinate {i}", known.log_det - terms[:, i]
        yield f"has the term of coordinate {i} twice", known.log_det + terms[:, i]
        yield f"has the term of coordinate {i} with the wrong sign", known.log_det - 2.0 * terms[:, i]


def _layers(f: Any, known: Truth) -> Iterator[Reading]:
    parts = list(layers(f))
    if len(parts) < 2:
        return
    x, found = known.x, []
    for part in parts:
        y, log_det = forward(part, x, known.context)
        found.append(np.broadcast_to(np.asarray(log_det, dtype=np.float64), known.log_det.shape))
        x = np.asarray(y)
    for k, term in enumerate(found):
        if np.abs(term).max() > FITS:
            yield f"lacks layer {k}", known.log_det - term
            yield f"is that of layer {k} alone", np.array(term)
            yield f"has layer {k} with the wrong sign", known.log_det - 2.0 * term
            yield f"has layer {k} twice", known.log_det + term


def _offsets(known: Truth) -> Iterator[Reading]:
    """A constant, named if it is that of a known number a coordinate."""
    off, size = float(np.median(known.claimed - known.log_det)), known.x[0].size
    known_as = {f"log {n}": math.log(n) for n in (2, 3, 4, 5, 10, 256)} | {"1": 1.0, "log pi": math.log(math.pi)}
    known_as |= {"log 2 pi": math.log(2.0 * math.pi), "log 2 pi / 2": 0.5 * math.log(2.0 * math.pi)}
    for each, said in ((size, " a coordinate"), (1, "")):
        for name, value in known_as.items():
            if abs(abs(off / each) - value) <= FITS:
                word = "lacks" if off < 0.0 else "has too much"
                yield f"{word} the constant {abs(off):.6g}, {name}{said}", known.log_det + off
    word = "lacks" if off < 0.0 else "has too much"
    yield f"{word} the constant {abs(off):.6g}", known.log_det + off


def _other_points(f: Any, known: Truth) -> Iterator[Reading]:
    """log|det J| at f(x), as where the log-determinant is taken after the map."""
    for said, way in (("f(x)", forward), ("its inverse image", inverse)):
        try:
            at = np.asarray(way(f, known.x, known.context)[0])
        except Exception:  # there may be no inverse
            continue
        if at.shape == known.x.shape and np.isfinite(at).all():
            there = truth(f, at, known.context)
            if there is not None and len(there.log_det) == len(known.log_det):
                yield f"is log|det J| at {said}, not at x", there.log_det
                yield f"is -log|det J| at {said}, not at x", -there.log_det
