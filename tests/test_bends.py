"""Planar, radial and Sylvester maps: against dense matrices, at the edge of their constraints, and their inverses."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import brentq

import refflow
from refflow import arrays as xp
from refflow.bijections.planar import bend_slope, excess, gap, share

RNG = np.random.default_rng(12)
U = 2.0**-53
X = 3.0 * RNG.normal(size=(9, 4))


def jacobian(f, x):
    columns = [f(x + 1e-30j * e)[0].imag / 1e-30 for e in np.eye(x.shape[-1])]
    return np.stack(columns, axis=-1)


def planar(pull=1.0):
    w = RNG.normal(size=4)
    return refflow.Planar(w, RNG.normal(size=4) + pull * w, RNG.normal(size=1))


def sylvester(m=3, scale=1.0):
    return refflow.Sylvester(
        RNG.normal(size=(2, 4)), scale * RNG.normal(size=(2, m)), scale * RNG.normal(size=(2, m * (m - 1) // 2)),
        RNG.normal(size=m),
    )  # fmt: skip


def dense(f):
    """Q, R and R~ of a Sylvester map, from its arrays."""
    q = np.eye(f.dim)
    for v in f.reflectors:
        q = q @ (np.eye(f.dim) - 2.0 * np.outer(v, v) / (v @ v))
    m = f.directions
    r, other = np.zeros((m, m)), np.zeros((m, m))
    r[np.triu_indices(m, 1)], other[np.triu_indices(m, 1)] = f.triangles
    t = f.diagonals[0] * f.diagonals[1]
    product = np.where(t < 0, t / (1.0 - np.minimum(t, 0.0)), t)
    r[np.diag_indices(m)], other[np.diag_indices(m)] = product / f.diagonals[1], f.diagonals[1]
    return q[:, :m], r, other


def test_planar_is_its_equation():
    for pull in (0.5, -2.0):
        f = planar(pull)
        t = f.w @ f.u
        m = t / (1.0 - t) if t < 0 else t
        u = f.u + (m - t) * f.w / (f.w @ f.w)
        assert u @ f.w == pytest.approx(m, rel=1e-13)
        y, log_det = f.forward(X)
        np.testing.assert_allclose(y, X + np.tanh(X @ f.w + f.b)[:, None] * u, rtol=1e-13, atol=1e-14)
        slope = 1.0 - np.tanh(X @ f.w + f.b) ** 2
        by_matrix = [np.linalg.slogdet(np.eye(4) + s * np.outer(u, f.w))[1] for s in slope]
        np.testing.assert_allclose(log_det, by_matrix, rtol=1e-10, atol=1e-12)


def test_radial_is_its_equation():
    f = refflow.Radial(RNG.normal(size=4), np.array([0.3]), np.array([-0.7]))
    alpha, beta = np.exp(0.3), np.exp(0.3) * -0.7 / 1.7
    r = np.linalg.norm(X - f.center, axis=1)
    y, log_det = f.forward(X)
    np.testing.assert_allclose(y, X + (beta / (alpha + r))[:, None] * (X - f.center), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian(f.forward, X))[1], rtol=1e-12, atol=1e-13)
    h = 1.0 / (alpha + r)
    paper = 3 * np.log(1.0 + beta * h) + np.log(1.0 + beta * h - beta * r * h**2)
    np.testing.assert_allclose(log_det, paper, rtol=1e-12, atol=1e-13)


def test_sylvester_is_its_equation():
    f = sylvester()
    q, r, other = dense(f)
    np.testing.assert_allclose(q.T @ q, np.eye(3), atol=1e-14)
    y, log_det = f.forward(X)
    want = X + np.tanh(X @ q @ other.T + f.b) @ r.T @ q.T
    np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian(f.forward, X))[1], rtol=1e-11, atol=1e-12)


def test_sylvester_of_one_direction_is_planar():
    v = RNG.normal(size=(1, 4))
    f = refflow.Sylvester(v, np.array([[-3.0], [0.5]]), np.zeros((2, 0)), np.array([0.25]))
    q = dense(f)[0][:, 0]
    g = refflow.Planar(0.5 * q, -3.0 * q, np.array([0.25]))
    for got, want in zip(f.forward(X) + f.inverse(X), g.forward(X) + g.inverse(X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("t", [-1e12, -1e3, -40.0, -1.0, -1e-9, 0.0, 1e-9, 2.0, 1e6])
def test_the_constraint_is_strict(t):
    """gap > 0 for every raw number, m > -1 and the slope > 0 in floats too."""
    t = np.array(t)
    assert gap(t) > 0
    assert excess(t) > -1
    assert abs(gap(t) - 1.0 - excess(t)) <= 2 * U * max(1.0, abs(float(t)))
    assert 0 < share(t) <= 1
    a = np.array([-800.0, -20.0, -1.0, 0.0, 1e-8, 3.0, 50.0])
    assert np.all(bend_slope(a, t) > 0)


def test_slopes_keep_their_digits_where_the_formula_cancels():
    """1 + m sech^2 at m = 2^-60 - 1: tanh^2 + 2^-60 sech^2, at a = 1e-9 about 1e-18 + 9e-19."""
    a, t = np.array([1e-9, 1e-3]), np.array(1.0 - 2.0**60)
    np.testing.assert_allclose(bend_slope(a, t), np.tanh(a) ** 2 + 2.0**-60 / np.cosh(a) ** 2, rtol=1e-14)
    assert (1.0 + (2.0**-60 - 1.0) / np.cosh(a[0]) ** 2) == 0.0, "what the plain formula gives"


@pytest.mark.parametrize("far", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    "make", [planar, lambda: planar(-10.0), lambda: planar(30.0), sylvester, lambda: sylvester(4, 5.0)]
)
def test_inverses_are_exact_to_conditioning(make, far):
    from refflow import verification

    f, y = make(), far * RNG.normal(size=(30, 4))
    x, log_det = f.inverse(y)
    again, log_det_again = f.forward(x)
    scales = verification.conditions(refflow.Inverse(f), y)
    judged = scales.conclusive(np.float64)
    assert judged.mean() > 0.9
    assert np.all((np.abs(again - y) <= 16 * U * scales.round_trip)[judged])
    assert np.all((np.abs(log_det + log_det_again) <= 16 * U * scales.antisymmetry)[judged])


@pytest.mark.parametrize("raw", [-8.0, -0.5, 0.0, 3.0, 50.0])
def test_the_radial_root_is_brents(raw):
    f = refflow.Radial(np.zeros(2), np.array([-0.4]), np.array([raw]))
    alpha = np.exp(-0.4)
    beta = alpha * (raw / (1.0 - raw) if raw < 0 else raw)
    for s in (0.0, 1e-9, 0.3, 40.0, 1e6):
        r = np.linalg.norm(f.inverse(np.array([[0.6 * s, 0.8 * s]]))[0])
        want = (
            brentq(lambda r, s=s: r + beta * r / (alpha + r) - s, 0.0, 4e3 * s + 1e-300, xtol=1e-300, rtol=1e-15)
            if s
            else 0.0
        )
        assert r == pytest.approx(want, rel=1e-11)


def test_centers_zero_directions_and_zero_reflectors():
    """Values and finite gradients at x = x_0, w = 0, v = 0, where lengths are not differentiable."""
    cases = [
        (refflow.Radial(np.ones(4), np.zeros(1), np.full(1, 2.0)), np.ones((1, 4))),
        (refflow.Planar(np.zeros(4), np.ones(4), np.ones(1)), X),
        (refflow.Sylvester(np.zeros((2, 4)), -np.ones((2, 2)), np.ones((2, 1)), np.zeros(2)), X),
    ]
    for f, x in cases:
        y, log_det = f.forward(x)
        np.testing.assert_allclose(f.inverse(y)[0], x, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian(f.forward, x))[1], atol=1e-13)
        for direction in ("forward", "inverse"):

            def loss(both, f=f, direction=direction):
                value, term = getattr(refflow.bind(f, both[0]), direction)(both[1])
                return xp.sum(value * value) + xp.sum(term)

            for leaf in xp.leaves(xp.value_and_grad(loss)((refflow.parameters(f), y))[1]):
                assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("make", [planar, lambda: planar(-3.0), sylvester])
def test_gradients_of_inverses_are_the_implicit_function_theorems(make):
    """dx/dy = J^-1 with J by the complex step of forward, dx/dp = -J^-1 df/dp: by NumPy's dense inverse."""
    f = make()
    x, _ = f.inverse(X)
    inverses = np.linalg.inv(jacobian(f.forward, x))
    weights = RNG.normal(size=X.shape)
    tree = refflow.parameters(f)
    loss = lambda both: xp.sum(weights * refflow.bind(f, both[0]).inverse(both[1])[0])  # noqa: E731
    by_parameters, by_y = xp.value_and_grad(loss)((tree, X))[1]
    np.testing.assert_allclose(by_y, np.einsum("ni,nij->nj", weights, inverses), rtol=1e-11, atol=1e-12)
    move = xp.tree_map(lambda a: RNG.normal(size=a.shape), tree)
    moved = refflow.bind(f, xp.tree_map(lambda a, d: a + 1e-30j * d, tree, move))
    want = -np.sum(by_y * moved.forward(x)[0].imag) / 1e-30
    got = sum(np.sum(g * d) for g, d in zip(xp.leaves(by_parameters), xp.leaves(move), strict=True))
    scale = sum(np.sum(np.abs(g * d)) for g, d in zip(xp.leaves(by_parameters), xp.leaves(move), strict=True))
    assert abs(got - want) <= 1e-12 * scale


def test_shapes_are_checked():
    with pytest.raises(refflow.RefflowError, match="w and u of one shape"):
        refflow.Planar(np.zeros(3), np.zeros(2), np.zeros(1))
    with pytest.raises(refflow.RefflowError, match="log_alpha and raw_beta"):
        refflow.Radial(np.zeros(3), np.zeros(2), np.zeros(1))
    with pytest.raises(refflow.RefflowError, match="triangles"):
        refflow.Sylvester(np.zeros((1, 3)), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(refflow.RefflowError, match="between 1 and D = 2 directions"):
        refflow.Sylvester(np.zeros((1, 2)), np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3))


def exact_product(a, b):
    return sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0, 30.0])
def test_the_planar_constraint_holds_of_the_vector_that_forward_adds(dtype, scale):
    """w.u^ > -1, and within 8 u sum |w_i u^_i| of m(t), in rational arithmetic: u^ is y - x at x = 0 and tanh(b) = 1.
    By (7), a rounding each of p, of what it is made orthogonal by, and of the sum."""
    rng, unit = np.random.default_rng(14), np.finfo(dtype).eps / 2
    for _ in range(100):
        for dim in (2, 4):
            w, u = (scale * rng.normal(size=(2, dim))).astype(dtype)
            f = refflow.Planar(w, u, np.full(1, 100.0, dtype=dtype))
            bent = f.forward(np.zeros((1, dim), dtype=dtype))[0][0]
            got, t = exact_product(w, bent), exact_product(w, u)
            m = t / (1 - t) if t < 0 else t
            assert got > -1
            # t itself is rounded by D u |w||u|, and m by share(t)^2 of that
            slack = 8 * np.abs(w * bent).sum() + dim * np.abs(w * u).sum() / max(1.0, 1.0 - float(t)) ** 2
            assert abs(float(got - m)) <= unit * slack


@pytest.mark.parametrize(("dtype", "small"), [("float32", 1e-23), ("float64", 1e-170)])
def test_a_planar_map_along_a_tiny_vector(dtype, small):
    """|w|^2 underflows; with t = -2, u^ = u + (m - t) w / |w|^2 = (-2 + 4/3) / small along w, m = -2/3."""
    f = refflow.Planar(*np.array([[small, 0.0], [-2.0 / small, 1.0]], dtype=dtype), np.zeros(1, dtype=dtype))
    x = np.array([[0.5 / small, 0.25]], dtype=dtype)
    y, log_det = f.forward(x)
    bent = np.tanh(0.5)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, [[(0.5 - bent * 2 / 3) / small, 0.25 + bent]], rtol=8 * eps)
    np.testing.assert_allclose(log_det, [np.log(1.0 - 2 / 3 * (1.0 - bent**2))], rtol=16 * eps)
    np.testing.assert_allclose(f.inverse(y)[0], x, rtol=16 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reflections_are_orthogonal_at_any_length(dtype):
    """I - 2 v v^T / |v|^2 depends on v's direction alone: of v times powers of 2 it is the same, bit for bit."""
    far = 120 if dtype == "float32" else 1000
    v = np.random.default_rng(15).normal(size=(2, 4)).astype(dtype)
    diagonals, triangles, b = (np.ones(s, dtype=dtype) for s in ((2, 3), (2, 3), 3))
    x = X.astype(dtype)
    want = refflow.Sylvester(v, diagonals, triangles, b)
    for power in (-far, -60, 60, far):
        f = refflow.Sylvester(np.ldexp(v, power).astype(dtype), diagonals, triangles, b)
        for got, good in zip(f.forward(x) + f.inverse(x), want.forward(x) + want.inverse(x), strict=True):
            assert np.array_equal(got, good)
    q = f._into(np.eye(4, dtype=dtype))
    np.testing.assert_allclose(q.T @ q, np.eye(3), atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 2.0**22), ("float64", 2.0**51)])
def test_the_sylvester_constraint_is_strict_up_to_its_limit(dtype, most):
    rng = np.random.default_rng(16)
    for t in -most * rng.uniform(0.0, 1.0, 200) ** 4:
        a = rng.uniform(0.1, 10.0) * rng.choice([-1.0, 1.0])
        diagonals = np.array([[t / a], [a]], dtype=dtype)
        f = refflow.Sylvester(np.ones((1, 2), dtype=dtype), diagonals, np.zeros((2, 0), dtype), np.zeros(1, dtype))
        assert exact_product([f._r(0, 0)], [f._r(1, 0)]) > -1


RADIAL = [
    ("float32", [2e19, 0.5], 0.0, 1.0), ("float32", [3e37, 0.5], 0.0, -3.0), ("float32", [1e-23, 2e-23], -52.0, 1.0),
    ("float32", [1e-23, 2e-23], -52.0, -0.5), ("float32", [1.0, 2.0], 90.0, 1.0), ("float32", [1.0, 2.0], 90.0, -3.0),
    ("float32", [1e30, 1.0], 70.0, 2.0), ("float32", [3.0, 4.0], 0.0, 1e20), ("float32", [3.0, 4.0], 0.0, -1e20),
    ("float32", [0.0, 0.0], -70.0, 2.0), ("float32", [1e30, 1e30], -60.0, 2.0), ("float32", [1e-12, 0.0], 0.0, -1e6),
    ("float64", [1e160, 0.5], 0.0, 1.0), ("float64", [1e-170, 1e-171], -390.0, 2.0),
    ("float64", [1.0, 2.0], 170.0, -3.0),
    ("float64", [1e300, 2.0], -170.0, -3.0), ("float64", [3.0, 4.0], 0.0, 1e160),
    ("float64", [1e160, 1.0], 170.0, -9.0),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "x", "log_alpha", "raw"), RADIAL)
def test_radial_maps_far_out_and_close_in(dtype, x, log_alpha, raw):
    """Against the equation in 64 bits of mantissa and 15 of exponent, where neither |x|^2 nor alpha overflows."""
    f = refflow.Radial(*(np.array(v, dtype=dtype) for v in ([0.0, 0.0], [log_alpha], [raw])))
    x, eps, wide = np.array([x], dtype=dtype), np.finfo(dtype).eps, np.longdouble
    r, alpha, t = np.hypot(*x[0].astype(wide)), np.exp(wide(log_alpha)), wide(f.raw_beta[0])
    q = alpha / (alpha + r)
    g = 1 + t if t > 0 else 1 / (1 - t)
    k = (1 - q) + g * q if g > 1 else r / (alpha + r) + g * q
    slope = r / (alpha + r) * (1 + q) + g * q * q
    y, log_det = f.forward(x)
    np.testing.assert_allclose(y, x * k, rtol=8 * eps)
    np.testing.assert_allclose(log_det, [np.log(k) + np.log(slope)], rtol=8 * eps, atol=8 * eps)
    again, term = f.inverse(y)
    lost = 1 + r * k / (r * slope) if r else wide(1)  # by the rounding of y
    np.testing.assert_allclose(again, x, rtol=float(16 * eps * lost))
    np.testing.assert_allclose(term, -log_det, rtol=float(16 * eps * lost), atol=float(16 * eps * lost))
    for direction in ("forward", "inverse"):
        loss = lambda both, d=direction: xp.sum(getattr(refflow.bind(f, both[0]), d)(both[1])[1])  # noqa: E731
        for leaf in xp.leaves(xp.value_and_grad(loss)((refflow.parameters(f), y))[1]):
            assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_radial_identity_everywhere(dtype):
    f = refflow.Radial(*np.zeros((2, 1), dtype=dtype), np.zeros(1, dtype=dtype))
    x = np.exp2(np.linspace(np.finfo(dtype).minexp, np.finfo(dtype).maxexp - 0.5, 400)).astype(dtype)[:, None]
    for z, log_det in (f.forward(x), f.inverse(x)):
        assert np.array_equal(z, x)
        assert np.abs(log_det).max() <= 4 * np.finfo(dtype).eps


def test_a_nan_stays_in_its_row():
    f = refflow.Radial(np.zeros(2), np.zeros(1), np.ones(1))
    for z, log_det in (
        f.forward(np.array([[np.nan, 1.0], [1.0, 1.0]])),
        f.inverse(np.array([[np.nan, 1.0], [1.0, 1.0]])),
    ):
        assert np.array_equal(np.isnan(z).all(axis=1), np.isnan(log_det))
        assert np.array_equal(np.isnan(log_det), [True, False])


@pytest.mark.parametrize("raw", [-0.75, 0.0, 2.0])
def test_radial_balls_that_hold_the_centre(raw):
    """Finite, no wider than 8 times y's, and around the values at points of them."""
    pytest.importorskip("flint")
    from test_roots import ball_of

    from refflow import certified

    f = refflow.Radial(np.ones(2), np.zeros(1), np.full(1, raw))
    for radius in (2.0**-10, 2.0**-30):
        ends = [np.ones((1, 2)) + radius * np.array([[a, b]]) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 0.5)]
        for direction in ("forward", "inverse"):
            with certified.precision(128):
                z, log_det = getattr(f.to("balls"), direction)(ball_of(np.ones((1, 2)), radius))
                assert z.radius().max() <= 8 * radius
                assert log_det.radius().max() <= 32 * radius
                points = [getattr(f.to("balls"), direction)(certified.balls(x)) for x in ends]
            for at, term in points:
                assert np.all(z.contains(at))
                assert np.all(log_det.contains(term))
