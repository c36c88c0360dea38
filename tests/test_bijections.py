"""The maps against their equations, written out again in plain NumPy; and on another library's second device."""

import numpy as np
import pytest
from registry import REGISTRY
from strict import boxes_on_the_right, is_strict, to_strict

import refflow
from refflow import arrays as xp
from refflow.bijections import SCALE_MAPS

RNG = np.random.default_rng(3)
X = RNG.normal(size=(7, 4))


def dyadic(a):
    return RNG.integers(1, 9, np.shape(a)) / 8.0


def filled(m):
    return refflow.map_arrays(lambda a: dyadic(a).astype(a.dtype), m)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


SCALE_DEFINITIONS = {
    "exp": lambda a, c: a,
    "tanh": lambda a, c: c * np.tanh(a / c),
    "soft": lambda a, c: a / (1.0 + np.abs(a) / c),
    "sigmoid": lambda a, c: np.log(sigmoid(a + 2.0)),
}


@pytest.mark.parametrize("scale", SCALE_MAPS)
def test_affine_coupling_is_its_equation(scale):
    """y1 = x1, y2 = exp(s(x1)) * x2 + t(x1), by hand: weights, layout, order of the blocks, log-determinant."""
    w, b = RNG.normal(size=(2, 4)), RNG.normal(size=4)
    net = refflow.MLP((refflow.Linear(w, b),))
    f = refflow.AffineCoupling(refflow.Mask((4,), (0, 2)), net, scale, 1.5)
    theta = X[:, [1, 3]] @ w + b
    s, t = SCALE_DEFINITIONS[scale](theta[:, :2], 1.5), theta[:, 2:]
    y = X.copy()
    y[:, [0, 2]] = np.exp(s) * X[:, [0, 2]] + t
    got, log_det = f.forward(X)
    assert np.allclose(got, y, rtol=1e-14, atol=1e-15)
    assert np.array_equal(got[:, [1, 3]], X[:, [1, 3]])
    assert np.allclose(log_det, s.sum(axis=1), rtol=1e-14, atol=1e-15)
    back, log_det_back = f.inverse(y)
    assert np.allclose(back, X, rtol=1e-13, atol=1e-14)
    assert np.allclose(log_det_back, -s.sum(axis=1), rtol=1e-13, atol=1e-14)


def test_additive_coupling_is_its_equation():
    w, b = RNG.normal(size=(2, 2)), RNG.normal(size=2)
    f = refflow.AdditiveCoupling(refflow.half_mask(4), refflow.MLP((refflow.Linear(w, b),)))
    y, log_det = f.forward(X)
    assert np.array_equal(y[:, :2], X[:, :2])
    assert np.allclose(y[:, 2:], X[:, 2:] + X[:, :2] @ w + b, rtol=1e-15, atol=1e-15)
    assert np.array_equal(log_det, np.zeros(7))


def test_the_context_follows_the_kept_coordinates():
    w = RNG.normal(size=(4, 2))
    net = refflow.MLP((refflow.Linear(w, np.zeros(2)),), context_dim=2)
    f = refflow.AdditiveCoupling(refflow.half_mask(4), net)
    c = RNG.normal(size=(7, 2))
    expected = X[:, 2:] + X[:, :2] @ w[:2] + c @ w[2:]
    assert np.allclose(f.forward(X, c)[0][:, 2:], expected, rtol=1e-14, atol=1e-14)


def test_elementwise_maps_are_their_equations():
    a, b = RNG.normal(size=4), RNG.normal(size=4)
    y, log_det = refflow.ElementwiseAffine(a, b).forward(X)
    assert np.allclose(y, np.exp(a) * X + b, rtol=1e-15)
    assert np.allclose(log_det, np.full(7, a.sum()), rtol=1e-15)
    mean, std = RNG.normal(size=4), RNG.uniform(0.5, 2.0, 4)
    y, log_det = refflow.Standardize(mean, std).forward(X)
    assert np.allclose(y, (X - mean) / std, rtol=1e-15)
    assert np.allclose(log_det, np.full(7, -np.log(std).sum()), rtol=1e-14)


def test_actnorm_counts_pixels_and_is_initialised_only_on_demand():
    images = RNG.normal(2.0, 3.0, size=(50, 4, 5, 3))
    start = refflow.ActNorm.init(3, rank=3)
    assert np.array_equal(start.forward(images)[0], images)
    assert np.array_equal(start.forward(images[:2])[0], images[:2])  # still the identity: no state
    f = start.initialized(images)
    y, log_det = f.forward(images)
    assert np.allclose(y.mean(axis=(0, 1, 2)), 0.0, atol=1e-13)
    assert np.allclose(y.std(axis=(0, 1, 2)), 1.0, rtol=1e-13)
    assert np.allclose(log_det, 4 * 5 * f.log_scale.sum(), rtol=1e-13)


def test_initialize_sets_every_actnorm_from_what_comes_before_it():
    flow = refflow.realnvp(4, layers=3, hidden=(8,), actnorm=True, seed=0)
    x = RNG.normal(5.0, [1.0, 2.0, 3.0, 4.0], size=(200, 4))
    z = x
    for f in refflow.initialize(flow, x).bijection.bijections:
        z = f.forward(z)[0]
        if isinstance(f, refflow.ActNorm):
            assert np.allclose(z.mean(axis=0), 0.0, atol=1e-12)
            assert np.allclose(z.std(axis=0), 1.0, rtol=1e-12)


def test_orders():
    assert np.array_equal(refflow.Permutation((2, 0, 3, 1)).forward(X)[0], X[:, [2, 0, 3, 1]])
    assert np.array_equal(refflow.Reverse().forward(X)[0], X[:, ::-1])
    drawn = refflow.Permutation.random(50, 0).order
    assert sorted(drawn) == list(range(50)) != list(drawn)


def test_logit_and_sigmoid_are_their_equations_and_each_others_inverse():
    x = RNG.uniform(-1.0, 17.0, size=(9, 3))
    f = refflow.Logit(0.05, -1.0, 17.0)
    p = 0.05 + 0.9 * (x + 1.0) / 18.0
    y, log_det = f.forward(x)
    assert np.allclose(y, np.log(p / (1.0 - p)), rtol=1e-13, atol=1e-14)
    assert np.allclose(log_det, np.sum(np.log(0.9 / 18.0) - np.log(p * (1.0 - p)), axis=1), rtol=1e-13)
    u, log_det_u = refflow.Sigmoid().forward(y)
    assert np.allclose(u, p, rtol=1e-14)
    assert np.allclose(log_det_u, np.sum(np.log(p * (1.0 - p)), axis=1), rtol=1e-13)
    assert np.allclose(refflow.Logit().forward(u)[0], y, rtol=1e-12, atol=1e-13)


def test_logit_stays_exact_at_both_ends():
    """At distance 1e-300 from 0 and 2^-53 from 1: log p and log(1 - p) have all their digits."""
    y, log_det = refflow.Logit().forward(np.array([[1e-300], [1.0 - 2.0**-53]]))
    assert np.allclose(y[:, 0], [np.log(1e-300), 53 * np.log(2.0)], rtol=1e-15)
    assert np.allclose(log_det, [-np.log(1e-300), 53 * np.log(2.0)], rtol=1e-15)


def test_masks_name_what_moves():
    assert refflow.half_mask(5).moved == (3, 4)
    assert refflow.half_mask(5, move_last=False).moved == (0, 1, 2)
    assert refflow.alternating_mask(5).moved == (1, 3)
    assert refflow.checkerboard_mask(2, 3).moved == (1, 3, 5)
    assert refflow.checkerboard_mask(2, 2, 2).moved == (2, 3, 4, 5)
    assert refflow.channel_mask(1, 2, 3).moved == (2, 5)
    for mask in (refflow.half_mask(6), refflow.alternating_mask(7), refflow.checkerboard_mask(4, 3, 2)):
        flipped = mask.flip()
        assert set(flipped.moved) == set(mask.kept)
        events = RNG.normal(size=(2, 3, *mask.event_shape))
        assert np.array_equal(mask.join(*mask.split(events)), events)
        assert np.array_equal(flipped.split(events)[0], mask.split(events)[1])


def test_a_chain_applies_its_maps_as_written():
    a, b = filled(refflow.ElementwiseAffine.init((4,))), refflow.Permutation((1, 2, 3, 0))
    y, log_det = refflow.Chain((a, b)).forward(X)
    assert np.array_equal(y, a.forward(X)[0][:, [1, 2, 3, 0]])
    assert np.array_equal(log_det, a.forward(X)[1])


def by_name(entries):
    return [pytest.param(entry, id=entry.name) for entry in entries]


def drawn(entry, dtype):
    f = refflow.map_arrays(lambda a: dyadic(a).astype(dtype), entry.map)
    low, high = entry.domain or (-2.0, 2.0)
    x = (low + (high - low) * RNG.integers(1, 64, (3, *entry.event_shape)) / 64).astype(dtype)
    low, high = entry.range or (-2.0, 2.0)
    y = (low + (high - low) * RNG.integers(1, 64, (3, *entry.output_shape)) / 64).astype(dtype)
    context = RNG.integers(-8, 9, (3, entry.context_dim)).astype(dtype) / 8 if entry.context_dim else None
    return f, x, y, context


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_every_map_runs_on_the_second_device_of_another_library(entry, dtype):
    """Forward, inverse and gradients, strictly in the standard's vocabulary; the same numbers within 64 eps of scale.

    Both sides call NumPy's kernels in the same order, so that only the association of sums can differ.
    """
    f, x, y, context = drawn(entry, dtype)
    g, c = refflow.map_arrays(to_strict, f), None if context is None else to_strict(context)
    with boxes_on_the_right():
        for direction, point in (("forward", x), ("inverse", y)):
            want = getattr(f, direction)(point, context)
            got = getattr(g, direction)(to_strict(point), c)
            for a, b in zip(want, got, strict=True):
                assert is_strict(b, np.dtype(dtype))
                assert_near(a, xp.to_numpy(b))

        def loss(tree, m, point, context):
            value, log_det = refflow.bind(m, tree).forward(point, context)
            return xp.sum(value * value) - xp.sum(log_det)

        want = xp.value_and_grad(loss)(refflow.parameters(f), f, x, context)[1]
        got = xp.value_and_grad(loss)(refflow.parameters(g), g, to_strict(x), c)[1]
        for a, b in zip(xp.leaves(want), xp.leaves(got), strict=True):
            assert is_strict(b, np.dtype(dtype))
            assert_near(a, xp.to_numpy(b))


def assert_near(a, b):
    scale = np.max(np.abs(a), initial=1.0)
    assert np.max(np.abs(a - b), initial=0.0) <= 64 * np.finfo(a.dtype).eps * scale


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_gradients_of_every_map_agree_with_the_complex_step(entry):
    """d(sum y^2 - sum log det) along random directions of all parameters, and of x: 1e-12 relative.

    The complex step is exact to rounding; gradients of some hundred terms lose eps a term at most.
    """
    f, x, _, context = drawn(entry, np.float64)
    if not xp.leaves(refflow.parameters(f)):
        pytest.skip("no parameters")

    def loss(tree, point):
        value, log_det = refflow.bind(f, tree).forward(point, context)
        return xp.sum(value * value) - xp.sum(log_det)

    tree = refflow.parameters(f)
    (gradient, by_point) = xp.value_and_grad(lambda both: loss(*both))((tree, x))[1]
    moves = xp.tree_map(lambda a: RNG.normal(size=a.shape), (tree, x))
    moved = xp.tree_map(lambda a, d: a + 1e-30j * d, (tree, x), moves)
    exact = np.imag(loss(*moved)) / 1e-30
    terms = [g * d for g, d in zip(xp.leaves((gradient, by_point)), xp.leaves(moves), strict=True)]
    found, scale = sum(map(np.sum, terms)), sum(np.sum(np.abs(t)) for t in terms)
    assert abs(found - exact) <= 1e-12 * scale
