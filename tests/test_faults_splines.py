"""Seeded faults of splines: each breaks a promise, and the law that should name it does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.bijections import rational_quadratic as rq
from refflow.modules import module

RNG = np.random.default_rng(11)
BOUND = 2.0
THETA = RNG.integers(-16, 17, (3, 11)) / 8.0
CLEAN = refflow.RationalQuadraticElementwise(THETA, BOUND)
X = RNG.integers(-18, 19, (40, 3)) / 8.0 + 1 / 64
NEAR_IDENTITY = refflow.RationalQuadraticElementwise(THETA * 2.0**-20, BOUND)


@dataclass(frozen=True)
class Fault:
    """A broken spline, its clean twin, and the law that must name it."""

    name: str
    law: Any
    broken: Any
    clean: Any


FAULTS = []


def fault(name, law, clean=CLEAN):
    """Function decorator: f(x, theta) -> (y, log_slope) in place of the forward spline."""

    def add(f):
        FAULTS.append(Fault(name, law, _broken(clean, forward=f), clean))
        return f

    return add


def inverse_fault(name, law, clean=CLEAN):
    """Function decorator: f(y, theta) -> (x, log_slope) in place of the inverse spline."""

    def add(f):
        FAULTS.append(Fault(name, law, _broken(clean, inverse=f), clean))
        return f

    return add


def _broken(clean, forward=None, inverse=None):
    @module
    class Broken(refflow.RationalQuadraticElementwise):
        def forward(self, x, context=None):
            y, log_slope = (forward or (lambda v, t: rq.spline(v, t, self.bound)))(x, self.theta)
            return y, xp.sum(log_slope, axis=-1)

        def inverse(self, y, context=None):
            x, log_slope = (inverse or (lambda v, t: rq.inverse_spline(v, t, self.bound)))(y, self.theta)
            return x, xp.sum(log_slope, axis=-1)

    return Broken(clean.theta, clean.bound)


def evaluated(x, theta, choose=None, formula=xp.rational_quadratic, change=lambda at, bins: (at, bins), bound=BOUND):
    """The spline from its parts, any of which may be replaced."""
    bins, (xs, ys, d) = rq._tables(x, theta, BOUND, False)
    at, bins = change((xs, ys, d), bins)
    b = bound
    outside = xp.logical_or(xp.less(x, -b), xp.greater(x, b))
    inner = xp.clip(x, -b, b)
    look = choose or xp.between
    y, log_slope = look(inner, at, bins, formula)
    return xp.where(outside, x, y), xp.where(outside, 0.0, log_slope)


def test_the_parts_make_the_spline():
    for a, b in zip(evaluated(X, THETA), rq.spline(X, THETA, BOUND), strict=True):
        np.testing.assert_array_equal(a, b)


def by_bin(shift=lambda k, last: k):
    """A lookup in the bin whose number is shifted."""

    def look(x, at, bins, formula):
        last = bins[0].shape[0] - 1
        raw = np.real(x)
        number = (
            sum((np.real(at[0])[k] <= raw).astype(int) for k in range(1, last + 1)) if last else 0 * raw.astype(int)
        )
        number = np.clip(shift(number, last), 0, last)
        pick = lambda t, k: np.take_along_axis(np.broadcast_to(t, (t.shape[0], *x.shape)), k[None], 0)[0]  # noqa: E731
        left, right = (tuple(pick(t, number + i) for t in at) for i in (0, 1))
        return formula(x, left, right, tuple(pick(t, number) for t in bins))

    return look


@fault("bin off by one", laws.round_trip)
def _(x, theta):
    return evaluated(x, theta, by_bin(lambda k, last: np.where(k == 1, 2, k)))


@fault("the search along the wrong axis: every row uses the first row's bin", laws.row_independence)
def _(x, theta):
    return evaluated(x, theta, by_bin(lambda k, last: np.broadcast_to(k.reshape(-1, 3)[:1], k.shape)))


@fault("the slopes taken one knot to the right", laws.round_trip)
def _(x, theta):
    return evaluated(x, theta, change=lambda at, bins: ((*at[:2], xp.concat([at[2][1:], at[2][:1]], axis=0)), bins))


@fault("a tail slope that is not 1, forward only", laws.round_trip)
def _(x, theta):
    def change(at, bins):
        return (*at[:2], xp.concat([0.5 * at[2][:1], at[2][1:]], axis=0)), bins

    return evaluated(x, theta, change=change)


@fault("another tail bound forward than inverse", laws.round_trip)
def _(x, theta):
    return evaluated(x, theta, bound=1.75)


@fault("the last knot is not pinned to the bound", laws.round_trip)
def _(x, theta):
    def change(at, bins):
        wide = tuple(xp.concat([t[:-1], t[-1:] * 1.125], axis=0) for t in at[:2])
        return (*wide, at[2]), tuple(xp.concat([b[:-1], b[-1:] + 0.125 * BOUND], axis=0) for b in bins)

    return evaluated(x, theta, change=change)


@fault("a term of the log-slope missing, both ways", laws.log_det_complex_step)
def _(x, theta):
    y, log_slope = rq.spline(x, theta, BOUND)
    return y, log_slope - 2.0 * xp.log(_ratio(x, theta))


def _ratio(x, theta):
    """h / w of the bin of x."""
    bins, at = rq._tables(x, theta, BOUND, False)
    ratio = xp.between(x, at, bins, lambda x, left, right, inside: (inside[1] / inside[0],))[0]
    return xp.where(xp.logical_or(xp.less(x, -BOUND), xp.greater(x, BOUND)), 1.0, ratio)


@fault("t for t^2 in the numerator of the value", laws.log_det_complex_step)
def _(x, theta):
    def formula(x, left, right, inside):
        (x0, y0, d0), (x1, _y1, d1), (w, h) = left, right, inside
        s, (t, q) = h / w, xp.shares(x, x0, x1, w)
        y = y0 + h * (s * t + d0 * t * q) / (s + (d0 + d1 - 2.0 * s) * t * q)
        return y, xp.log_slope(s, t, q, d0, d1)

    return evaluated(x, theta, formula=formula)


@fault("the log-slope with its ends exchanged", laws.log_det_complex_step)
def _(x, theta):
    def formula(x, left, right, inside):
        y, _ = xp.rational_quadratic(x, left, right, inside)
        t, q = xp.shares(x, left[0], right[0], inside[0])
        return y, xp.log_slope(inside[1] / inside[0], t, q, right[2], left[2])

    return evaluated(x, theta, formula=formula)


@fault("points beyond the bound clamped to it", laws.round_trip)
def _(x, theta):
    return rq.spline(xp.clip(x, -BOUND, BOUND), theta, BOUND)


@fault("a log-slope in the tail", laws.log_det_complex_step)
def _(x, theta):
    y, log_slope = rq.spline(xp.clip(x, -BOUND, BOUND), theta, BOUND)
    outside = xp.logical_or(xp.less(x, -BOUND), xp.greater(x, BOUND))
    return xp.where(outside, x, y), log_slope + xp.where(outside, 0.125, 0.0)


@inverse_fault("the inverse searched among the knots of x", laws.round_trip)
def _(y, theta):
    bins, (xs, ys, d) = rq._tables(y, theta, BOUND, False)

    def formula(v, left, right, inside):
        (x0, y0, d0), (x1, y1, d1) = left, right
        return rq._root(y, (y0, x0, d0), (y1, x1, d1), inside)

    x, log_slope = xp.between(xp.clip(y, -BOUND, BOUND), (xs, ys, d), bins, formula)
    outside = xp.logical_or(xp.less(y, -BOUND), xp.greater(y, BOUND))
    return xp.where(outside, y, x), xp.where(outside, 0.0, log_slope)


@inverse_fault("the other root of the quadratic", laws.round_trip)
def _(y, theta):
    return _by_formula(y, theta, lambda a, b, c, root: 2.0 * c / (-b + root))


@inverse_fault("the inverse's log-slope with forward's sign", laws.antisymmetry)
def _(y, theta):
    x, log_slope = rq.inverse_spline(y, theta, BOUND)
    return x, -log_slope


def _by_formula(y, theta, root_of):
    """The inverse as the paper has it, with a root to choose."""

    def formula(y, left, right, inside):
        (y0, x0, d0), (_y1, _x1, d1), (w, h) = left, right, inside
        s, e = h / w, (y - y0) / h
        total = d0 + d1 - 2.0 * s
        a, b, c = s - d0 + e * total, d0 - e * total, -s * e
        t = root_of(a, b, c, xp.sqrt(b * b - 4.0 * a * c))
        return x0 + w * t, -xp.log_slope(s, t, 1.0 - t, d0, d1)

    bins, (xs, ys, d) = rq._tables(y, theta, BOUND, False)
    x, log_slope = xp.between(xp.clip(y, -BOUND, BOUND), (ys, xs, d), bins, formula)
    outside = xp.logical_or(xp.less(y, -BOUND), xp.greater(y, BOUND))
    return xp.where(outside, y, x), xp.where(outside, 0.0, log_slope)


EACH = pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in FAULTS])


@EACH
def test_the_law_catches_the_fault(fault):
    with pytest.raises(laws.LawViolation) as caught:
        fault.law(fault.broken, X.copy())
    assert caught.value.law == fault.law.__name__


@EACH
def test_the_law_passes_the_clean_twin(fault):
    assert fault.law(fault.clean, X.copy()).status == "pass"


@pytest.mark.filterwarnings("ignore::refflow.verification.verdicts.LossyWarning")
def test_the_textbook_root_is_lossy():
    """(-b + sqrt(b^2 - 4ac)) / 2a cancels where a is small, as near the identity: not wrong, but digits are lost."""
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (400, 3))
    naive = _broken(
        NEAR_IDENTITY, inverse=lambda y, t: _by_formula(y, t, lambda a, b, c, root: (-b + root) / (2.0 * a))
    )
    assert laws.round_trip(NEAR_IDENTITY, x).status == "pass"
    assert laws.round_trip(naive, x).status == "lossy"


def test_an_unguarded_branch_spoils_gradients():
    """Without the clip the formula is evaluated far outside its bins, and 0 times infinity reaches the parameters."""

    def gradient(f, theta):
        x = np.array([[-1e30, 0.25, 1e30]])
        return xp.value_and_grad(lambda t: xp.sum(f(x, t)[0]) + xp.sum(f(x, t)[1]))(theta)[1]

    def unguarded(x, theta):
        bins, at = rq._tables(x, theta, BOUND, False)
        y, log_slope = xp.between(x, at, bins, xp.rational_quadratic)
        outside = xp.logical_or(xp.less(x, -BOUND), xp.greater(x, BOUND))
        return xp.where(outside, x, y), xp.where(outside, 0.0, log_slope)

    single = THETA.astype(np.float32)
    with np.errstate(all="ignore"):
        assert np.all(np.isfinite(gradient(lambda x, t: rq.spline(x, t, BOUND), single)))
        assert not np.all(np.isfinite(gradient(lambda x, t: unguarded(x.astype(np.float32), t), single)))
