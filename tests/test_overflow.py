"""Overflow that is not the mathematics'."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow.bijections.mixture import mixture_logit
from refflow.errors import StructureError

DTYPES = (np.float32, np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_identity_of_sinh_arcsinh_reaches_the_largest_floats(dtype):
    """To |x|'s condition: asinh x is rounded, and e to it multiplies that by asinh x."""
    f, info = refflow.SinhArcsinh.init((2,), dtype=np.dtype(dtype).name), np.finfo(dtype)
    x = np.array([[0.85, -0.85], [1e-30, -1e-30], [0.0, 1e-3]], dtype=dtype)
    x[0] *= info.max
    for call in (f.forward, f.inverse):
        y, log_det = call(x)
        np.testing.assert_allclose(y, x, rtol=4.0 * float(info.eps) * np.log(float(info.max)))
        assert np.all(np.isfinite(log_det))


@pytest.mark.parametrize("df", [1e30, 1e36, 1e300])
def test_student_t_of_any_degrees_of_freedom(df):
    z = np.array([[-2.0], [0.0], [1.0]])
    want = refflow.StandardNormal((1,)).log_prob(z)
    np.testing.assert_allclose(refflow.StudentT(df, np.zeros(1), np.zeros(1)).log_prob(z), want, rtol=1e-13)


@np.errstate(over="ignore")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mixtures_slope_stays_where_its_value_overflows(dtype):
    """Far out dL/dx is that of the widest component, whose exp(-s) is least."""
    s = np.array([[-1.0], [-2.0]], dtype=dtype)
    mixture = np.log(np.full((2, 1), 0.5, dtype=dtype)), np.zeros((2, 1), dtype=dtype), s
    x = np.array([0.05, -0.05, 0.9, -0.9]).astype(dtype) * np.finfo(dtype).max
    y, log_slope = mixture_logit(x, *mixture)
    np.testing.assert_allclose(log_slope, 1.0, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(y[:2], np.exp(dtype(1.0)) * x[:2], rtol=8 * np.finfo(dtype).eps)
    assert list(y[2:]) == [np.inf, -np.inf]
    (g,) = xp.value_and_grad(lambda p: xp.sum(mixture_logit(p[0], *mixture)[1]))((x,))[1]
    assert np.all(g == 0.0)


def test_the_volume_of_a_box_is_that_of_its_bounds():
    wide = refflow.Uniform((-1e308,), (1e308,))
    assert wide.log_prob(np.zeros((1, 1)))[0] == pytest.approx(-np.log(2.0) - 308 * np.log(10.0), rel=1e-15)
    narrow = refflow.Uniform((1.0,), (1.0 + 1e-9,))
    assert narrow.log_prob(np.ones((1, 1)))[0] == -np.log(1.0 + 1e-9 - 1.0)
    with pytest.raises(StructureError, match="tells apart"):
        narrow.log_prob(np.ones((1, 1), dtype=np.float32))
