"""Every map of the registry on balls: what comes out encloses the exact value, of both directions and of log p."""

import numpy as np
import pytest
from matrix import UNITS, U, drawn, seeded, wide
from registry import REGISTRY

import refflow
from refflow.verification import conditions, turned

pytest.importorskip("flint")
from refflow import certified

MANY = 400
"""Bits at which a ball stands for the exact value."""

RADII = (2.0**-40, 2.0**-20, 2.0**-8)
"""Radii of balls of points, in units of the distance to the nearest edge of the domain, at most 1."""

NARROW = 2.0**-40
"""Balls this narrow keep some digits. A steep map of wider ones may lose all, and say so: it gives the whole line."""


def by_name(items):
    return [pytest.param(item, id=item.name) for item in items]


def sides(entry):
    """Each direction as a forward map: (map, points, context, the box of its values, the points' box)."""
    f, x, y, context = drawn(entry)
    return (f, x, context, entry.range, entry.domain), (turned(f), y, context, entry.domain, entry.range)


def asked(call, bits, *rows):
    """The call on balls of that many bits; rows that are floats become balls of radius 0."""
    with certified.precision(bits):
        return call(*(a if isinstance(a, certified.BallArray) else certified.balls(a) for a in rows if a is not None))


def exact_and_near(balls, exact, value, kappa):
    """The exact value lies in the balls, and the float64 value no farther from them than rounding takes it."""
    assert np.all(balls.contains(exact))
    assert np.all(balls.distance(value) <= UNITS * U * kappa)


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_values_and_log_determinants_are_enclosed(entry):
    for f, points, context, _, _ in sides(entry):
        call, scales = f.to("balls").forward, conditions(f, points, context)
        kappas = scales.value.reshape(f.forward(points, context)[0].shape), scales.log_det
        rows = (points, context)
        for found in zip(asked(call, 128, *rows), asked(call, MANY, *rows), f.forward(*rows), kappas, strict=True):
            exact_and_near(*found)
            assert np.all(found[0].radius() <= U * found[3])


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_log_prob_is_enclosed(entry):
    """Of a flow in the direction, or the directions, that lead to all of space, where a normal base lives; of a map
    between boxes on a uniform base."""
    tested = [side for side in sides(entry) if side[3] is None] or list(sides(entry))
    for f, points, context, box, _ in tested:
        flow = on_a_base(f, f.forward(points, context)[0].shape[1:], box)
        call, kappa = flow.to("balls").log_prob, kappa_of_log_prob(f, points, context, box)
        few, many = (asked(call, bits, points, context) for bits in (128, MANY))
        exact_and_near(few, many, flow.log_prob(points, context), kappa)
        assert np.all(few.radius() <= U * kappa)


def on_a_base(f, shape, box):
    if box is None:
        return refflow.Flow(refflow.StandardNormal(shape), f)
    (size,) = shape
    return refflow.Flow(refflow.Uniform((box[0],) * size, (box[1],) * size), f)


def kappa_of_log_prob(f, x, context, box):
    """What log p_Z(z) = -sum(z^2 + log 2 pi) / 2 and its slope -z make of the condition scales of z and log-det; a
    uniform base adds the logarithm of its volume."""
    scales, z = conditions(f, x, context), f.forward(x, context)[0].reshape(len(x), -1)
    if box is not None:
        return z.shape[1] * abs(np.log(box[1] - box[0])) + scales.log_det
    normal = 0.5 * np.sum(np.square(z) + np.log(2.0 * np.pi), axis=1)
    return normal + np.sum(np.abs(z) * scales.value, axis=1) + scales.log_det


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_inclusion(entry):
    """f of any point of a ball lies in f of the ball: of exact arithmetic exactly, of float64 up to rounding."""
    rng = seeded(entry)
    for f, centres, context, _, box in sides(entry):
        call = f.to("balls").forward
        room = 1.0 if box is None else np.minimum(centres - box[0], box[1] - centres)
        for radius in RADII:
            width = np.broadcast_to(radius * np.minimum(room, 1.0), centres.shape)
            whole = asked(call, 128, wide(centres, width), context)
            assert radius > NARROW or all(np.all(np.isfinite(part.radius())) for part in whole)
            assert np.all(whole[0].radius() > 0.0)
            points = centres + width * rng.uniform(-0.99, 0.99, centres.shape)
            scales = conditions(f, points, context)
            kappas = scales.value.reshape(f.forward(points, context)[0].shape), scales.log_det
            exact = asked(call, MANY, points, context)
            for found in zip(whole, exact, f.forward(points, context), kappas, strict=True):
                exact_and_near(*found)


def test_a_map_that_is_not_the_one_is_outside():
    """The fuzz can fail: a float64 map off by 1e-12 leaves balls of small radius."""
    f, x, _, context = drawn(REGISTRY[0])
    kappa = conditions(f, x, context).log_det
    log_det = asked(f.to("balls").forward, 128, x, context)[1]
    assert np.all(log_det.distance(f.forward(x, context)[1] + 1e-12) > UNITS * U * kappa)
