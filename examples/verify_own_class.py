"""A class of your own, in plain NumPy and of no library: under the strategies first, then under the whole kit.

Hypothesis draws small readable numbers for its parameters and its points, the tail bound and its neighbours among them,
and follows the excess rho uphill; `refflow.verify` then asks everything it knows. The second class has a fault.
Run it, or collect it: pytest verify_own_class.py
"""

import numpy as np
from hypothesis import given, settings

import refflow
from refflow import strategies, verification

BOUND = 3.0


class LinearSpline:
    """One increasing piecewise linear curve for every coordinate: the identity beyond the bound."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def curve(self, points, start, end):
        slopes = np.diff(end) / np.diff(start)
        i = np.clip(np.searchsorted(start, points, side="right") - 1, 0, len(slopes) - 1)
        inside = (points >= start[0]) & (points < start[-1])
        value = np.where(inside, end[i] + (points - start[i]) * slopes[i], points)
        return value.astype(points.dtype), np.where(inside, np.log(slopes[i]), 0.0).sum(axis=-1).astype(points.dtype)

    def forward(self, x):
        return self.curve(x, self.x, self.y)

    def inverse(self, y):
        return self.curve(y, self.y, self.x)


class Careless(LinearSpline):
    """The log-determinant of the inverse is the forward one's, with its sign."""

    def inverse(self, y):
        x, log_det = super().inverse(y)
        return x, -log_det


def holds(kind):
    @settings(deadline=None, database=None, derandomize=True)
    @given(strategies.spline_knots(4, BOUND), strategies.points((2,), edges=(-BOUND, BOUND)), strategies.points((2,)))
    def test(knots, at_edges, x):
        spline = kind(*knots[:2])
        f = verification.Functions(spline.forward, spline.inverse)
        strategies.aim(verification.round_trip(f, at_edges))
        strategies.aim(verification.antisymmetry(f, x))  # at an edge the slope jumps, and rounding decides which it is

    return test


test_linear_spline = holds(LinearSpline)

KNOTS = np.array([-3.0, -0.5, 0.75, 3.0]), np.array([-3.0, 0.25, 0.5, 3.0])


def report(kind):
    spline = kind(*KNOTS)
    return refflow.verify(forward=spline.forward, inverse=spline.inverse, event_shape=2, name=kind.__name__)


if __name__ == "__main__":
    test_linear_spline()
    print("the properties hold")
    print(report(LinearSpline).raise_for_status())
    try:
        holds(Careless)()
    except verification.LawViolation as violation:
        print(f"Hypothesis shrinks the fault to: {violation}")
    else:
        raise SystemExit("the fault was not found")
    found = report(Careless)
    print(found)
    if {check.id for check in found.of("fail")} != {"LD2", "LD3"}:
        raise SystemExit("the kit accuses something else")
