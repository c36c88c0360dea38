"""Derivatives where formulas break: at ties, at kinks and far out, in every library that differentiates."""

import importlib.util

import mpmath
import numpy as np
import pytest
from matrix import LIBRARIES, home

from refflow import arrays as xp
from refflow.conditioners import ACTIVATIONS

FUNCTIONS = {**ACTIVATIONS, "sigmoid": xp.sigmoid, "log_sigmoid": xp.log_sigmoid}


def sigma(x):
    return 1 / (1 + mpmath.exp(-x))


def gelu_slope(x):
    k, c = mpmath.sqrt(2 / mpmath.pi), mpmath.mpf(0.044715)
    u, slope = k * (x + c * x**3), k * (1 + 3 * c * x**2)
    return sigma(2 * u) + 2 * x * slope * sigma(2 * u) * sigma(-2 * u)


SLOPES = {
    "relu": lambda x: x > 0,
    "leaky_relu": lambda x: 1 if x > 0 else 0.01,
    "elu": lambda x: 1 if x > 0 else mpmath.exp(x),
    "silu": lambda x: sigma(x) + x * sigma(x) * sigma(-x),
    "gelu": gelu_slope,
    "softplus": sigma,
    "tanh": lambda x: 4 * sigma(2 * x) * sigma(-2 * x),
    "sigmoid": lambda x: sigma(x) * sigma(-x),
    "log_sigmoid": lambda x: sigma(-x),
}
"""The derivatives; on the left where there are two."""

FAR = {"float32": (1.0, 20.0, 88.0, 100.0, 1e4, 1e30), "float64": (1.0, 30.0, 700.0, 800.0, 1e3, 1e4, 1e300)}


def by_numpy(function, x):
    return xp.value_and_grad(lambda x: xp.sum(function(x)))(x)[1]


def by_torch(function, x):
    import torch

    x = torch.asarray(x, copy=True).requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0].numpy()


def by_jax(function, x, compiled=False):
    import jax

    jax.config.update("jax_enable_x64", True)
    slope = jax.grad(lambda x: function(x).sum())
    return np.asarray((jax.jit(slope) if compiled else slope)(jax.numpy.asarray(x)))


def by_compiled_jax(function, x):
    return by_jax(function, x, compiled=True)


def on_host_and_beyond():
    for name, slope in (("numpy", by_numpy), ("torch", by_torch), ("jax", by_jax), ("jax.jit", by_compiled_jax)):
        here = importlib.util.find_spec(name.removesuffix(".jit")) is not None
        yield pytest.param(slope, id=name, marks=[] if here else [pytest.mark.skip(reason=f"no {name}")])


every_library = pytest.mark.parametrize("slope", list(on_host_and_beyond()))


def test_every_activation_has_its_slope():
    assert set(SLOPES) == set(FUNCTIONS)


@every_library
@pytest.mark.parametrize("dtype", FAR)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_at_zero_and_far_out(name, dtype, slope):
    """To 32 roundings of themselves, tanh's and elu's, 1 - tanh^2 and 1 + expm1, to those of 1; and as far as sigma,
    by x, is a normal number."""
    x = np.array([0.0, *FAR[dtype], *(-v for v in FAR[dtype])], dtype=dtype)
    got = slope(FUNCTIONS[name], x)
    with mpmath.workdps(50):
        want = np.array([float(SLOPES[name](mpmath.mpf(float(v)))) for v in x])
    info = np.finfo(dtype)
    assert got.dtype == np.dtype(dtype)
    size = np.abs(want) + (name in ("tanh", "elu"))
    allowed = 32 * float(info.eps) * size + float(info.smallest_normal) * (1.0 + np.minimum(np.abs(x), 1e3))
    assert np.all(np.abs(got - want) <= allowed), [got, want]


@every_library
def test_ties(slope):
    """Of two equals the first has the derivative of `maximum` and `minimum`, and each half of that of `logaddexp`."""
    x = np.array([-3.0, 0.0, 2.0])
    for operation, first in ((xp.maximum, 1.0), (xp.minimum, 1.0), (xp.logaddexp, 0.5)):
        with_x = slope(lambda v, f=operation: f(v, xp.asarray(x, like=v)), x)
        np.testing.assert_array_equal(with_x, np.full(3, first))
        with_y = slope(lambda v, f=operation: f(xp.asarray(x, like=v), v), x)
        np.testing.assert_array_equal(with_y, np.full(3, 1.0 - first))
    np.testing.assert_array_equal(slope(lambda v: xp.clip(v, -3.0, 2.0), x), np.ones(3))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_nan_stays_and_infinities_pass(name):
    """Where `maximum` and its kin take other steps, because the library differentiates by itself."""
    pytest.importorskip(name)
    x, y = np.array([np.nan, 1.0, np.nan, np.inf, -np.inf]), np.array([1.0, np.nan, np.nan, 2.0, -np.inf])
    there, other = map(LIBRARIES[name].put, (x, y))
    pairs = {
        "maximum": (xp.maximum(there, other), np.maximum(x, y)),
        "minimum": (xp.minimum(there, other), np.minimum(x, y)),
        "relu": (xp.relu(there), np.maximum(x, 0.0)),
        "softplus": (xp.softplus(there), np.array([np.nan, np.logaddexp(1.0, 0.0), np.nan, np.inf, 0.0])),
        "sigmoid": (xp.sigmoid(there), np.array([np.nan, 1.0 / (1.0 + np.exp(-1.0)), np.nan, 1.0, 0.0])),
    }
    for operation, (got, want) in pairs.items():
        np.testing.assert_array_equal(home(got), want, err_msg=operation)
