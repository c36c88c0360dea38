"""Elementwise curves against closed forms in NumPy's own functions and in balls, at their extremes and outside their
domains.

Tolerances are relative, in roundings eps: each map is a handful of elementary functions of one or two units each, so 8
eps of the value cover it, and where logarithms cancel 8 eps of the largest term.
"""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TINY = {np.float32: [1e-30, 1e-10], np.float64: [1e-300, 1e-100, 1e-30, 1e-10]}


def near(got, want, scale=None, roundings=8.0):
    """got agrees with want, computed in a wider precision, to that many roundings of got's dtype."""
    info = np.finfo(got.dtype)
    bound = roundings * float(info.eps) * np.abs(want if scale is None else scale) + info.smallest_normal
    error = np.abs(got.astype(np.longdouble) - want)
    assert np.all(error <= bound), (got, want, error / bound)


def column(values, dtype):
    return np.array(values, dtype=dtype)[:, None]


@DTYPES
def test_exp_is_its_equation(dtype):
    x = column([-80.0, -1.0, -1e-10, 0.0, 0.5, 80.0], dtype)
    wide = x.astype(np.longdouble)
    y, log_det = refflow.Exp().forward(x)
    assert y.dtype == log_det.dtype == dtype
    near(y, np.exp(wide))
    assert np.array_equal(log_det, x[:, 0])
    back, log_det_back = refflow.Exp().inverse(y)
    near(back, np.log(y.astype(np.longdouble)))
    assert np.array_equal(log_det_back, -back[:, 0])


@DTYPES
def test_softplus_is_its_equation_at_both_ends(dtype):
    """y = e^x far left and x far right, to the last digits; and the way back from 1e-300."""
    x = column([-80.0, -20.0, -1.0, 0.0, 1.0, 20.0, 80.0, 1e4], dtype)
    wide = x.astype(np.longdouble)
    y, log_det = refflow.Softplus().forward(x)
    near(y, np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide))))
    near(log_det[:, None], np.minimum(wide, 0) - np.log1p(np.exp(-np.abs(wide))))
    y = column([*TINY[dtype], 0.1, 0.5, np.log(2.0), 1.0, 5.0, 30.0, 1e4], dtype)
    wide = y.astype(np.longdouble)
    x, log_det = refflow.Softplus().inverse(y)
    log_slope = np.log(-np.expm1(-wide))
    near(x, wide + log_slope, scale=np.abs(wide) + np.abs(log_slope))
    near(log_det[:, None], -log_slope, scale=1.0 + np.abs(log_slope))
    assert x.dtype == log_det.dtype == dtype


@DTYPES
def test_tanh_keeps_its_slope_where_its_value_has_none(dtype):
    """log(1 - tanh^2 x) at |x| up to 1000, where tanh is 1; artanh at 1 minus one rounding and at 1e-300."""
    x = column([-1000.0, -40.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 40.0, 1000.0], dtype)
    wide = np.abs(x.astype(np.longdouble))
    y, log_det = refflow.Tanh().forward(x)
    near(y, np.tanh(x.astype(np.longdouble)))
    near(log_det[:, None], 2 * (np.log(np.longdouble(2)) - wide - np.log1p(np.exp(-2 * wide))), scale=2 + 2 * wide)
    end = 1.0 - float(np.finfo(dtype).eps) / 2
    y = column([-end, -0.99, -0.4140855, *TINY[dtype], 0.5, 0.99, end], dtype)
    wide = y.astype(np.longdouble)
    x, log_det = refflow.Tanh().inverse(y)
    near(x, np.arctanh(wide))
    near(log_det[:, None], -np.log((1 - wide) * (1 + wide)), scale=1 - np.log((1 - wide) * (1 + wide)))


@DTYPES
@pytest.mark.parametrize("slope", [2.0**-7, 0.3, 5.0])
def test_leaky_relu_is_two_lines(dtype, slope):
    f, x = refflow.LeakyReLU(slope), np.array([[-3.0, 0.0, 2.0], [-1e-30, 1e30, -0.0]], dtype=dtype)
    y, log_det = f.forward(x)
    assert np.array_equal(y, np.where(x >= 0, x, dtype(slope) * x))
    near(log_det, np.log(np.longdouble(slope)) * np.array([1, 1]))  # -0.0 counts to the right, as 0.0 does
    back, log_det_back = f.inverse(y)
    near(back, x)
    assert np.array_equal(log_det_back, -log_det)
    if slope == 2.0**-7:
        assert np.array_equal(back, x), "a power of two loses nothing"


def test_leaky_relu_in_a_ball_that_holds_zero():
    """The enclosure joins both slopes: every value, and every element of Clarke's gradient."""
    pytest.importorskip("flint")
    from flint import arb

    from refflow.certified.arrays import BallArray, objects

    y, log_det = refflow.LeakyReLU(0.25).forward(BallArray(objects((1, 1), [arb(0, 1)])))
    assert y.contains(np.array([[-0.25]])).all()
    assert y.contains(np.array([[1.0]])).all()
    assert log_det.contains(np.array([0.0])).all()
    assert log_det.contains(np.array([np.log(0.25)])).all()
    assert log_det.radius()[0] < 0.75


@DTYPES
def test_sinh_arcsinh_is_its_equation(dtype):
    """Against sinh, arcsinh and cosh in long double, |x| from 1e-10 to 1e6. The roundings of u = e^a (asinh x + b) come
    back in y as many times larger as u is, which is what conditioning says."""
    x = np.array([-1e6, -30.0, -1e-3, 1e-10, 0.2, 5.0, 1e6])[:, None].astype(dtype) * np.ones(3, dtype)
    a, b = np.array([0.5, -1.0, 0.0], dtype), np.array([0.25, -2.0, 0.0], dtype)
    wide = x.astype(np.longdouble)
    v = np.arcsinh(wide)
    u = np.exp(a.astype(np.longdouble)) * (v + b)
    terms = np.exp(a) * (np.abs(v) + np.abs(b))
    f = refflow.SinhArcsinh(a, b)
    y, log_det = f.forward(x)
    near(y, np.sinh(u), scale=np.abs(np.sinh(u)) + np.cosh(u) * terms)
    slopes = np.cosh(u) * np.exp(a.astype(np.longdouble)) / np.hypot(1, wide)
    near(log_det, np.sum(np.log(slopes), axis=1), scale=np.sum(1 + np.abs(u) + np.abs(v) + terms, axis=1))
    w = np.exp(-a.astype(np.longdouble)) * np.arcsinh(wide) - b
    back, log_det_back = f.inverse(x)
    near(back, np.sinh(w), scale=np.abs(np.sinh(w)) + np.cosh(w) * (np.abs(w) + 2 * np.abs(b)))
    slopes = np.cosh(w) * np.exp(-a.astype(np.longdouble)) / np.hypot(1, wide)
    near(log_det_back, np.sum(np.log(slopes), axis=1), scale=np.sum(1 + np.abs(w) + np.abs(v) + 4, axis=1))
    assert y.dtype == log_det.dtype == back.dtype == dtype


def test_sinh_arcsinh_starts_as_the_identity():
    x = np.array([[-1e6, -2.0, 1e-8, 0.0, 3.0, 1e6]])
    y, log_det = refflow.SinhArcsinh.init((6,)).forward(x)
    np.testing.assert_allclose(y, x, rtol=4e-15)
    assert abs(log_det[0]) == 0.0


def test_sinh_arcsinh_is_the_published_density():
    """Jones and Pewsey (2009), equation 2: sqrt(d^2 (1 + S^2) / (2 pi (1 + x^2))) exp(-S^2 / 2) with
    S = sinh(d asinh x - e). At d = 1/4 a thousand is no rare event."""
    delta, epsilon = 0.25, 0.75
    flow = refflow.Flow(
        refflow.StandardNormal((1,)), refflow.SinhArcsinh(np.log([delta]), np.array([-epsilon / delta]))
    )
    x = np.array([-1e6, -3.0, 0.0, 1.0, 1e3, 1e6])
    s = np.sinh(delta * np.arcsinh(x) - epsilon)
    exact = 0.5 * np.log(delta**2 * (1 + s**2) / (2 * np.pi * (1 + x**2))) - 0.5 * s**2
    np.testing.assert_allclose(flow.log_prob(x[:, None]), exact, rtol=1e-13)
    assert np.mean(np.abs(flow.sample(1000, seed=0)) > 1e3) > 0.01


OUTSIDE = {
    "exp": (refflow.Exp(), [0.0, -0.0, -1.0, -1e300, -np.inf, np.inf]),
    "softplus": (refflow.Softplus(), [0.0, -0.0, -1e-300, -5.0, -np.inf]),
    "tanh": (refflow.Tanh(), [1.0, -1.0, 1.5, -1e300, np.inf, -np.inf]),
}


@DTYPES
@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_range_is_minus_infinity_and_never_a_clamp(name, dtype):
    f, values = OUTSIDE[name]
    with np.errstate(over="ignore"):
        y = column(values, dtype)
    _, log_det = f.inverse(y)
    assert np.array_equal(log_det, np.full(len(y), -np.inf, dtype))
    mixed = np.concatenate([y, np.full_like(y, 0.5)], axis=1)
    assert np.array_equal(f.inverse(mixed)[1], np.full(len(y), -np.inf, dtype)), "one coordinate is enough"


@DTYPES
@pytest.mark.parametrize("name", OUTSIDE)
def test_gradients_are_finite_outside_too(name, dtype):
    """d/dy of the image at points outside the range: 0, never NaN."""
    f, values = OUTSIDE[name]
    with np.errstate(over="ignore"):
        y = column([v for v in values if np.isfinite(v)], dtype)
    slope = xp.value_and_grad(lambda y: xp.sum(f.inverse(y)[0]))(y)[1]
    assert np.array_equal(slope, np.zeros_like(y))


@pytest.mark.parametrize("f", [refflow.Exp(), refflow.Softplus(), refflow.Tanh(), refflow.LeakyReLU(),
                               refflow.SinhArcsinh.init((1,))], ids=repr)  # fmt: skip
def test_nan_stays_and_gradients_are_finite_far_out(f):
    nan = np.full((1, 1), np.nan)
    assert np.isnan(f.forward(nan)[0]).all()
    assert np.isnan(f.inverse(nan)[0]).all()
    x = np.array([[-600.0], [-40.0], [-1e-300], [0.0], [1e-300], [40.0], [600.0]])
    for a, b in ((1.0, 0.0), (0.0, 1.0)):
        slope = xp.value_and_grad(lambda x, a=a, b=b: a * xp.sum(f.forward(x)[0]) + b * xp.sum(f.forward(x)[1]))(x)[1]
        assert np.isfinite(slope).all()


def test_flows_onto_an_interval_have_no_density_outside():
    """Data in (0, inf) through Inverse(Exp): the log-normal; log p = -inf at 0 and below."""
    import scipy.stats

    flow = refflow.Flow(refflow.StandardNormal((1,)), refflow.Inverse(refflow.Exp()))
    x = np.array([[1e-300], [0.3], [1.0], [7.0], [1e200]])
    np.testing.assert_allclose(flow.log_prob(x), scipy.stats.lognorm.logpdf(x[:, 0], 1.0), rtol=1e-14)
    assert np.array_equal(flow.log_prob(np.array([[0.0], [-1.0], [np.inf]])), [-np.inf] * 3)
    assert np.isnan(flow.encode(np.array([[-1.0]]))).all()


def test_bad_parameters_are_refused():
    for slope in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(refflow.RefflowError, match="positive, finite slope"):
            refflow.LeakyReLU(slope)
    with pytest.raises(refflow.RefflowError, match="one event shape"):
        refflow.SinhArcsinh(np.zeros(2), np.zeros(3))


@DTYPES
def test_images_sum_over_all_their_axes(dtype):
    x = np.random.default_rng(0).normal(size=(4, 2, 3, 1)).astype(dtype)
    for f in (refflow.Exp(3), refflow.Softplus(3), refflow.Tanh(3), refflow.LeakyReLU(0.5, 3)):
        flat = type(f)(rank=1) if not isinstance(f, refflow.LeakyReLU) else refflow.LeakyReLU(0.5)
        y, log_det = f.forward(x)
        assert y.shape == x.shape
        near(log_det, flat.forward(x.reshape(4, 6))[1].astype(np.longdouble), scale=20.0)
