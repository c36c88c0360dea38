"""Rational-quadratic splines: values, ends, knots, extremes, gradients, and balls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.bijections.rational_quadratic import LEAST, STEEPEST, _tables, inverse_spline, raw_size, spline
from refflow.errors import ShapeError, StructureError

SCALES = (1.0, 3.0, 10.0)
BOUNDS = (1.0, 3.0, 32.0, 1e3, 1e6)
DTYPES = (np.float32, np.float64)


FALL = 2.0
"""How far y may fall between neighbouring floats within a bin, in eps B: 1.05 were seen, across knots none."""


def drawn(scale, bins=8, m=40, dtype=np.float64, circular=False, seed=0):
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal((m, raw_size(bins, circular)))).astype(dtype)


def tables(theta, bound, circular=False):
    """Knots and slopes of one raw row, by the definition, in long double."""
    theta = theta.astype(np.longdouble)
    bins = (len(theta) + 1) // 3

    def knots(a):
        p = np.exp(a - a.max())
        w = 2 * bound * (LEAST + (1 - bins * LEAST) * p / p.sum())
        return np.concatenate([[-bound], -bound + np.cumsum(w)[:-1], [bound]])

    a = theta[2 * bins :]
    d = np.exp(a / (1 + np.abs(a) / STEEPEST))
    d = np.concatenate([d, d[:1]] if circular else [[1], d, [1]])
    return knots(theta[:bins]), knots(theta[bins : 2 * bins]), d


def published(x, theta, bound, circular=False):
    """Durkan et al. (2019), equations 4 and 5, one number at a time."""
    xs, ys, d = tables(theta, bound, circular)
    k = int(np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2))
    s, t = (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k]), (x - xs[k]) / (xs[k + 1] - xs[k])
    below = s + (d[k + 1] + d[k] - 2 * s) * t * (1 - t)
    y = ys[k] + (ys[k + 1] - ys[k]) * (s * t**2 + d[k] * t * (1 - t)) / below
    slope = s**2 * (d[k + 1] * t**2 + 2 * s * t * (1 - t) + d[k] * (1 - t) ** 2) / below**2
    return y, np.log(slope)


def around(points, dtype):
    """Every point, and its neighbours on either side."""
    p = np.asarray(points, dtype=dtype)
    return np.stack([np.nextafter(p, dtype(-np.inf)), p, np.nextafter(p, dtype(np.inf))])


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_the_published_formula(scale, circular):
    theta, rng = drawn(scale, bins=5, m=60, circular=circular), np.random.default_rng(1)
    x = rng.uniform(-2.0, 2.0, 60)
    y, log_slope = spline(x, theta, 2.0, circular)
    want = np.array([published(np.longdouble(a), t, 2.0, circular) for a, t in zip(x, theta, strict=True)])
    # y: knots to 4 u B, moved by raw numbers rounded to u |a|; the slope multiplies a shift of x
    allowed = 2e-16 * 2.0 * (8 + scale * 4) * (1 + np.exp(want[:, 1].astype(float)))
    assert np.all(np.abs(y - want[:, 0]) <= allowed)
    np.testing.assert_allclose(log_slope, want[:, 1].astype(float), atol=1e-11)


def test_the_inverse_is_the_root_that_scipy_finds():
    theta = drawn(1.0, bins=4, m=20)
    y = np.random.default_rng(2).uniform(-2.9, 2.9, 20)
    x, _ = inverse_spline(y, theta, 3.0)
    want = [
        brentq(lambda a, t=t, v=v: float(published(a, t, 3.0)[0] - v), -3.0, 3.0, xtol=1e-14, rtol=1e-14)
        for v, t in zip(y, theta, strict=True)
    ]
    np.testing.assert_allclose(x, want, atol=1e-11)


def test_by_hand():
    """K = 1, B = 1 on a circle with d = e^(1/(1 + 1/7)): s = 1 and both slopes d, at the middle and at 1/4."""
    theta, d = np.array([[0.0, 0.0, 1.0]]), np.exp(7 / 8)
    for x, t in ((0.0, 0.5), (-0.5, 0.25)):
        y, log_slope = spline(np.array([x]), theta, 1.0, circular=True)
        below = 1 + (2 * d - 2) * t * (1 - t)
        assert y[0] == pytest.approx(-1 + 2 * (t * t + d * t * (1 - t)) / below, abs=1e-15)
        assert log_slope[0] == pytest.approx(
            np.log((d * t * t + 2 * t * (1 - t) + d * (1 - t) ** 2) / below**2), abs=1e-15
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [1, 2, 5, 8, 20, 100])
def test_zeros_are_the_identity(bins, dtype):
    for circular in (False, True):
        x = np.linspace(-5.0, 5.0, 331, dtype=dtype)[:, None]
        for f in (spline, inverse_spline):
            y, log_slope = f(x, np.zeros((1, raw_size(bins, circular)), dtype=dtype), 5.0, circular)
            assert y.dtype == log_slope.dtype == dtype
            assert np.max(np.abs(y - x)) <= 4 * np.finfo(dtype).eps * 5
            assert np.max(np.abs(log_slope)) <= 8 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("scale", SCALES)
def test_ends_are_pinned_and_joined(scale, bound, dtype):
    theta = drawn(scale, dtype=dtype)
    ends = around([-bound, bound], dtype)
    x = np.broadcast_to(ends.reshape(-1, 1), (6, 40))
    inside = np.abs(x) <= bound
    for f in (spline, inverse_spline):
        y, log_slope = f(x, theta, bound)
        at_end = np.abs(x) == dtype(bound)
        assert np.all(y[at_end | ~inside] == x[at_end | ~inside])
        assert np.all(log_slope[~inside] == 0.0)
        assert np.all(np.abs(y[inside]) <= bound)
        assert np.max(np.abs(log_slope[at_end])) <= 8 * np.finfo(dtype).eps
        y_circle, log_circle = f(x, drawn(scale, dtype=dtype, circular=True), bound, circular=True)
        assert np.all(log_circle[~inside] == -np.inf)
        assert np.all(y_circle[at_end] == x[at_end])
        low, high = log_circle[x == dtype(-bound)], log_circle[x == dtype(bound)]
        np.testing.assert_allclose(low, high, atol=16 * np.finfo(dtype).eps * 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("scale", SCALES)
def test_knots_go_to_knots(scale, bound, dtype):
    """Every knot the spline itself looks x up in, the bounds among them: exactly there and back, and neither falls
    between the float below a knot, the knot and the float above."""
    for circular in (False, True):
        theta = drawn(scale, m=6, dtype=dtype, circular=circular)
        _, (xs, ys, _) = _tables(np.zeros(6, dtype), theta, bound, circular)
        for f, here, there in ((spline, xs, ys), (inverse_spline, ys, xs)):
            moved, _ = f(around(here, dtype), theta, bound, circular)
            np.testing.assert_array_equal(moved[1], there)
            assert np.all(np.diff(moved, axis=0) >= 0.0)
    assert moved.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("scale", SCALES)
def test_knots_and_their_neighbours(scale, bound, dtype):
    """At every knot of the definition and one ulp beside it: finite, within the interval, C1, and back again."""
    theta, eps = drawn(scale, m=6, dtype=dtype), np.finfo(dtype).eps
    for row in theta:
        xs, _, d = tables(row, bound)
        x = around(xs[1:-1], dtype)
        at = np.broadcast_to(row, (*x.shape, len(row)))
        y, log_slope = spline(x, at, bound)
        assert np.all(np.isfinite(y) & np.isfinite(log_slope) & (np.abs(y) <= bound))
        steps = np.diff(x.astype(float), axis=0) * np.exp(np.abs(log_slope[1:].astype(float)))
        assert np.all(np.diff(y.astype(float), axis=0) <= 4 * steps + 8 * eps * bound)
        back, log_back = inverse_spline(y, at, bound)
        stretch = 1 + np.exp(-log_slope.astype(float))
        assert np.all(np.abs(back.astype(float) - x) <= 64 * eps * bound * stretch)
        assert np.all(np.isfinite(log_back))
        if dtype == np.float64:
            slopes = np.log(d[1:-1].astype(float))
            narrow = np.minimum(np.diff(xs)[:-1], np.diff(xs)[1:]).astype(float)
            allowed = 1e-13 + 40 * eps * bound / narrow * np.exp(2 * np.abs(slopes) + 7)
            assert np.all(np.abs(log_slope[1] - slopes) <= np.minimum(allowed, 1.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_increasing_along_neighbouring_floats(scale, dtype):
    """Along a chain of neighbours y falls by no more than its rounding, and, where the chain grows by more than that,
    rises from one end to the other."""
    theta = drawn(scale, m=1, dtype=dtype)[0]
    bound, eps = 4.0, np.finfo(dtype).eps
    _, (xs, ys, _) = _tables(np.zeros(1, dtype), theta[None], bound, False)
    for f, knots in ((spline, xs), (inverse_spline, ys)):
        for start in (*knots[:-1, 0], dtype(0.3)):
            chain = [start]
            for _ in range(200):
                chain.append(np.nextafter(chain[-1], dtype(np.inf)))
            chain = np.array(chain)
            y, log_slope = f(chain, np.broadcast_to(theta, (len(chain), len(theta))), bound)
            assert np.all(np.diff(y.astype(float)) >= -FALL * eps * bound)
            growth = float(chain[-1] - chain[0]) * np.exp(float(log_slope.min()))
            assert y[-1] >= y[0]
            assert y[-1] > y[0] or growth <= FALL * eps * bound


@pytest.mark.parametrize("scale", SCALES)
def test_float32_never_leaves_the_numbers(scale):
    """No negative discriminant, no zero slope: all finite at 10^5 points at every scale."""
    theta = drawn(scale, m=500, dtype=np.float32)
    v = np.random.default_rng(5).uniform(-5.5, 5.5, (200, 500)).astype(np.float32)
    for f in (spline, inverse_spline):
        y, log_slope = f(v, theta, 5.0)
        assert np.all(np.isfinite(y))
        assert np.all(np.isfinite(log_slope))
        assert y.dtype == log_slope.dtype == np.float32
        assert np.max(np.abs(y)) <= 5.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_round_trip_in_condition_units(scale, dtype):
    rng = np.random.default_rng(6)
    f = refflow.RationalQuadraticElementwise(drawn(scale, m=4, dtype=dtype), 5.0)
    x = rng.uniform(-6.0, 6.0, (400, 4)).astype(dtype)
    for law in (laws.round_trip, laws.antisymmetry):
        for g in (f, laws.turned(f)):
            found = law(g, x)
            assert found.status in ("pass", "inconclusive")
            assert found.statistic <= 16.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_gradients_are_finite_everywhere(scale, circular, dtype):
    theta = drawn(scale, bins=4, m=1, dtype=dtype, circular=circular)[0]
    xs, ys, _ = tables(theta, 3.0, circular)
    edges = np.concatenate([around(k, dtype).ravel() for k in (xs, ys)])
    x = np.concatenate([edges, np.array([-1e30, -4.0, 0.0, 4.0, 1e30], dtype=dtype)])
    for f in (spline, inverse_spline):

        def scalar(p, f=f):
            y, log_slope = f(p["x"], p["theta"], 3.0, circular)
            finite = np.abs(x) <= 3.0
            return xp.sum(y) + xp.sum(xp.where(finite, log_slope, 0.0))

        _, g = xp.value_and_grad(scalar)({"x": x, "theta": np.broadcast_to(theta, (len(x), len(theta))).copy()})
        assert all(np.all(np.isfinite(a)) and a.dtype == dtype for a in g.values())
        assert np.all(g["x"][np.abs(x) > 3.0] == 1.0)
        assert np.all(g["theta"][np.abs(x) > 3.0] == 0.0)


@pytest.mark.parametrize("f", [spline, inverse_spline])
@pytest.mark.parametrize("circular", [False, True])
def test_gradients_are_those_of_the_complex_step(f, circular):
    rng = np.random.default_rng(8)
    theta, x = drawn(2.0, bins=3, m=5, circular=circular), rng.uniform(-2.0, 2.0, 5)
    a, b = rng.standard_normal((2, 5))

    def scalar(p):
        y, log_slope = f(p["x"], p["theta"], 2.0, circular)
        return xp.sum(a * y) + xp.sum(b * log_slope)

    _, g = xp.value_and_grad(scalar)({"x": x, "theta": theta})
    for name, value in (("x", x), ("theta", theta)):
        for i in np.ndindex(value.shape):
            moved = {"x": x + 0j, "theta": theta + 0j}
            moved[name][i] += 1e-30j
            want = scalar(moved).imag / 1e-30
            assert g[name][i] == pytest.approx(want, rel=1e-11, abs=1e-12)


CURVED = np.linspace(-2.1, 2.1, 24)
"""Both halves of every bin: only in the right half of a bin that is not the last does the knot there move."""


def curved_slope(p):
    """sum_i i y_i + (25 - i) log dy/dx_i of a spline, in x and theta, by the operations of p's library."""
    y, log_slope = spline(p["x"], p["theta"], 2.0)
    up = xp.arange(24, p["x"]) + 1.0
    return xp.sum(up * y) + xp.sum((25.0 - up) * log_slope)


def second(p, move):
    """The derivative along `move` of the gradient's product with `move`, both through the tape."""

    def along(p):
        found = xp.value_and_grad(curved_slope)(p)[1]
        return sum(xp.sum(found[name] * move[name]) for name in p)

    return xp.value_and_grad(along)(p)[1]


def curved(scale):
    return {"x": CURVED, "theta": drawn(scale, bins=4, m=24, seed=3)}


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_second_derivatives(scale):
    """In x and theta together: those of central differences of the gradient, which are good to (h s)^2."""
    p, rng, h = curved(scale), np.random.default_rng(4), 2.0**-17
    first = lambda p: xp.value_and_grad(curved_slope)(p)[1]  # noqa: E731
    for moved in (("x",), ("theta",), ("x", "theta")):
        move = {name: (name in moved) * rng.standard_normal(a.shape) for name, a in p.items()}
        found = second(p, move)
        ends = [first(xp.tree_map(lambda a, d, h=h: a + h * d, p, move)) for h in (h, -h)]
        for name, got in found.items():
            want = (ends[0][name] - ends[1][name]) / (2.0 * h)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7 * (1.0 + np.abs(want).max()))


def test_second_derivatives_are_jaxs():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    p, rng = curved(1.0), np.random.default_rng(5)
    move = {name: rng.standard_normal(a.shape) for name, a in p.items()}
    there = [{name: jax.numpy.asarray(a) for name, a in tree.items()} for tree in (p, move)]
    want = jax.jvp(jax.grad(curved_slope), *[(tree,) for tree in there])[1]
    for name, got in second(p, move).items():
        np.testing.assert_allclose(got, want[name], rtol=1e-10, atol=1e-11 * np.abs(want[name]).max())


def test_nan_stays_and_infinity_passes():
    theta = drawn(1.0, m=3)
    y, log_slope = spline(np.array([np.nan, np.inf, -np.inf]), theta, 5.0)
    assert np.isnan(y[0])
    assert np.isnan(log_slope[0])
    assert list(y[1:]) == [np.inf, -np.inf]
    assert list(log_slope[1:]) == [0.0, 0.0]
    broken = theta.copy()
    broken[0, 20] = np.nan
    assert np.isnan(spline(np.zeros(3), broken, 5.0)[0][0]), "no number among the slopes hides behind its bin"


@settings(max_examples=15)
@given(st.data(), st.sampled_from(SCALES), st.booleans())
def test_balls_enclose(data, scale, circular):
    """Knots included: the ball at a point holds the value at more bits, and its width is of the last digits."""
    pytest.importorskip("flint")
    from refflow import certified

    bins = data.draw(st.integers(1, 4))
    grid = st.integers(-8, 8).map(lambda k: k / 8 * scale)
    theta = np.array([data.draw(st.lists(grid, min_size=raw_size(bins, circular), max_size=raw_size(bins, circular)))])
    x = np.array([data.draw(st.integers(-24, 24)) / 8])
    bound = 3.0
    for f in (spline, inverse_spline):
        found = {}
        for bits in (128, 300):
            with certified.precision(bits):
                found[bits] = f(certified.balls(x), certified.balls(theta), bound, circular)
        for few, many in zip(*found.values(), strict=True):
            assert np.all(few.contains(many))
            assert np.all(few.radius() < 1e-12)
            assert np.all(many.radius() < 1e-40)
        want = f(x, theta, bound, circular)
        assert np.all(found[300][0].distance(want[0]) <= 1e-13 * (1 + np.exp(np.abs(want[1]))))


def test_wide_balls_hold_what_floats_find():
    flint = pytest.importorskip("flint")
    from test_balls import wide

    assert flint
    theta, rng = drawn(1.0, bins=4, m=1)[0], np.random.default_rng(9)
    from refflow import certified

    for radius in (1e-12, 1e-3, 0.1):
        mid = rng.uniform(-3.2, 3.2, 12)
        for f in (spline, inverse_spline):
            with certified.precision(128):
                whole = f(wide(mid, radius), certified.balls(np.broadcast_to(theta, (12, len(theta)))), 3.0)
                for u in rng.uniform(-1.0, 1.0, 4):
                    x = mid + radius * u
                    points = f(certified.balls(x), certified.balls(np.broadcast_to(theta, (12, len(theta)))), 3.0)
                    assert all(np.all(w.contains(p)) for w, p in zip(whole, points, strict=True))


def test_wrong_structure_is_refused():
    mask = refflow.half_mask(2)
    net = refflow.MLP.init(1, 5, rng=np.random.default_rng(0), hidden=())
    with pytest.raises(StructureError, match="23 for each moved coordinate"):
        refflow.RationalQuadraticCoupling(mask, net)
    for bins, bound in ((0, 1.0), (2, 0.0), (2, float("inf")), (2.0, 1.0)):
        with pytest.raises(StructureError, match="expected a"):
            refflow.RationalQuadraticCoupling(mask, net, bins, bound)
    for shape in ((3,), (2, 4), (2, 0)):
        with pytest.raises(ShapeError, match="numbers for K bins"):
            refflow.RationalQuadraticElementwise(np.zeros(shape))


def test_nsf_starts_as_its_permutations():
    flow = refflow.nsf(3, layers=4, hidden=(8,), seed=0, linear=None)
    x = np.random.default_rng(0).standard_normal((50, 3))
    np.testing.assert_allclose(flow.encode(x), x, atol=1e-14)
    np.testing.assert_allclose(flow.log_prob(x), flow.base.log_prob(x), atol=1e-13)


def test_the_density_on_a_torus_agrees_where_a_circle_closes():
    flow = refflow.nsf_circular(3, layers=3, hidden=(5,), bins=4, bound=2.0, seed=0)
    rng = np.random.default_rng(1)
    flow = refflow.bind(flow, xp.tree_map(lambda a: rng.standard_normal(a.shape), refflow.parameters(flow)))
    x = rng.uniform(-2.0, 2.0, (20, 3))
    for i in range(3):
        ends = [np.where(np.arange(3) == i, end, x) for end in (-2.0, 2.0)]
        here, there = (flow.log_prob(end) for end in ends)
        assert np.all(np.isfinite(here))
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-12 * np.abs(here).max())
    raw = refflow.RationalQuadraticCoupling(
        refflow.half_mask(2), refflow.MLP.init(1, 12, rng=rng, hidden=(4,)), bins=4, bound=2.0, circular=True
    )
    raw = refflow.map_arrays(lambda a: rng.standard_normal(a.shape), raw)
    seam = [raw.forward(np.array([[end, 0.3]]))[1] for end in (-2.0, 2.0)]
    assert abs(seam[0] - seam[1]) > 1e-3, "without Periodic the seam shows: the test can fail"


def test_mass_on_the_circle_is_one():
    flow = refflow.nsf_circular(1, layers=2, hidden=(3,), bins=4, bound=1.0, seed=0)
    rng = np.random.default_rng(2)
    flow = refflow.bind(flow, xp.tree_map(lambda a: rng.standard_normal(a.shape), refflow.parameters(flow)))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    edges = np.linspace(-1.0, 1.0, 257)
    x = (edges[:-1, None] + edges[1:, None]) / 2 + np.diff(edges)[:, None] / 2 * nodes
    density = np.exp(flow.log_prob(x.reshape(-1, 1))).reshape(x.shape)
    assert abs(np.sum(density * weights * np.diff(edges)[:, None] / 2) - 1.0) < 1e-6
