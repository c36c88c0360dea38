"""Residual blocks: the Lipschitz bound, the exact log-determinant, the fixed point, and what balls prove of it."""

import numpy as np
import pytest
from scipy.optimize import root

import refflow
from refflow import arrays as xp
from refflow.bijections.residual import schatten8

RNG = np.random.default_rng(13)
X = 3.0 * RNG.normal(size=(7, 3))


def block(scale=1.0, hidden=(5,), activation="elu", lipschitz=0.875, dim=3):
    f = refflow.ResidualBlock.init(dim, rng=RNG, hidden=hidden, activation=activation, lipschitz=lipschitz)
    return refflow.map_arrays(lambda a: scale * RNG.normal(size=a.shape), f)


PHI = {
    "elu": lambda a: np.where(a > 0, a, np.exp(np.minimum(a, 0)) - 1),
    "tanh": np.tanh,
    "softplus": lambda a: np.logaddexp(0, a),
}


def by_hand(f):
    """W~ from singular values, b."""
    k = f.lipschitz ** (1 / len(f.layers))
    for layer in f.layers:
        s = np.linalg.svd(layer.weight, compute_uv=False)
        yield layer.weight * k / (k**8 + np.sum(s**8)) ** (1 / 8), layer.bias


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("hidden", [(), (5,), (4, 6)])
def test_it_is_its_equation(activation, hidden):
    f = block(hidden=hidden, activation=activation)
    h, layers = X, list(by_hand(f))
    for w, b in layers[:-1]:
        h = PHI[activation](h @ w + b)
    want = X + h @ layers[-1][0] + layers[-1][1]
    y, log_det = f.forward(X)
    np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-13)
    j = np.stack([f.forward(X + 1e-30j * e)[0].imag / 1e-30 for e in np.eye(3)], axis=-1)
    sign, by_lapack = np.linalg.slogdet(j)
    assert np.all(sign > 0)
    np.testing.assert_allclose(log_det, by_lapack, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e4])
def test_the_lipschitz_constant_is_enforced(scale):
    """Each spectral norm below kappa, never far below where the weights are large: rank^(-1/8) at least; and every
    Jacobian of g below c."""
    f = block(scale, hidden=(8, 4))
    kappa = 0.875 ** (1 / 3)
    for layer, w in zip(f.layers, f.bounded()[0::2], strict=True):
        top, rank = np.linalg.norm(w, 2), min(w.shape)
        assert top < kappa
        if scale >= 10.0:
            assert top > kappa * rank ** (-1 / 8) * 0.99
        if scale == 1e-3:
            np.testing.assert_allclose(w, layer.weight, rtol=1e-12)
    x = RNG.normal(size=(200, 3)) / scale
    j = np.stack([f.forward(x + 1e-30j * e)[0].imag / 1e-30 for e in np.eye(3)], axis=-1) - np.eye(3)
    assert np.linalg.norm(j, 2, axis=(1, 2)).max() < 0.875


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", s) for s in (1e3, 1e5, 1e30)] + [("float64", s) for s in (1e3, 1e5, 1e40, 1e200)],
)
@pytest.mark.parametrize("activation", PHI)
def test_weights_of_any_size_are_bounded_not_lost(dtype, scale, activation):
    """sigma^8 overflows from 6e4 in float32: W~ is that of W times any number, and its gradient is not 0."""
    rng, eps = np.random.default_rng(17), np.finfo(dtype).eps
    weights = [rng.normal(size=(3, 4)), rng.normal(size=(4, 3))]
    make = lambda s: refflow.ResidualBlock(  # noqa: E731
        tuple(refflow.Linear((s * w).astype(dtype), np.zeros(w.shape[1], dtype)) for w in weights), activation
    )
    f, kappa = make(scale), 0.875**0.5
    for w, layer in zip(f.bounded()[0::2], weights, strict=True):
        sigma = np.linalg.svd(layer, compute_uv=False)
        np.testing.assert_allclose(w, layer * kappa / np.sum(sigma**8) ** (1 / 8), rtol=32 * eps, atol=2 * scale**-8)
        assert 0.8 * kappa < np.linalg.norm(w.astype(float), 2) < kappa * (1.0 + 8 * eps)
    x = X.astype(dtype)
    assert np.abs(f.forward(x)[0] - x).max() > 0.25
    loss = lambda tree: xp.sum(refflow.bind(f, tree).forward(x)[1])  # noqa: E731
    for layer in xp.value_and_grad(loss)(refflow.parameters(f))[1]["layers"]:
        assert np.all(np.isfinite(layer["weight"]))
        assert 1e-3 < np.abs(layer["weight"] * scale).max() < 1e3


def test_the_bound_is_of_singular_values():
    for shape in ((3, 7), (7, 3), (1, 4), (5, 5)):
        w = RNG.normal(size=shape)
        assert schatten8(w) == pytest.approx(np.sum(np.linalg.svd(w, compute_uv=False) ** 8), rel=1e-12)


@pytest.mark.parametrize("lipschitz", [0.5, 0.875, 0.99])
def test_the_inverse_against_scipy_and_a_closed_form(lipschitz):
    f = block(3.0, lipschitz=lipschitz)
    x, log_det = f.inverse(X)
    for row, y in zip(x, X, strict=True):
        found = root(lambda v, y=y: f.forward(v[None])[0][0] - y, y, tol=1e-14)
        np.testing.assert_allclose(row, found.x, rtol=1e-7, atol=1e-7)
    again, log_det_again = f.forward(x)
    assert np.max(np.abs(again - X)) <= 32 * 2.0**-53 * np.max(np.abs(X))
    assert np.max(np.abs(log_det + log_det_again)) <= 32 * 2.0**-53 * 3 / (1 - lipschitz)
    line = block(3.0, hidden=(), lipschitz=lipschitz)
    ((w, b),) = by_hand(line)
    np.testing.assert_allclose(line.inverse(X)[0], (X - b) @ np.linalg.inv(np.eye(3) + w), rtol=1e-11, atol=1e-11)


def test_it_starts_as_the_identity():
    y, log_det = refflow.ResidualBlock.init(3, rng=RNG).forward(X)
    assert np.array_equal(y, X)
    assert np.array_equal(log_det, np.zeros(7))


@pytest.mark.parametrize("radius", [0.0, 2.0**-30, 2.0**-10])
def test_balls_hold_the_inverse(radius):
    """Of every point of y's balls, c = 0.96875; and no wider than 4 sqrt(D) / (1 - c) times y's."""
    pytest.importorskip("flint")
    from test_roots import ball_of

    from refflow import certified

    f = block(2.0, lipschitz=0.96875)
    with certified.precision(128):
        whole, log_det = f.to("balls").inverse(ball_of(X, radius))
    assert whole.radius().max() <= 4.0 * 3**0.5 * 32.0 * radius + 2.0**-100
    for s in (-1.0, 0.0, 1.0):
        with certified.precision(256):
            point, term = f.to("balls").inverse(certified.balls(X + s * radius))
        assert np.all(whole.contains(point))
        assert np.all(log_det.contains(term))


def test_structure_is_checked():
    linear = refflow.Linear(np.zeros((17, 17)), np.zeros(17))
    with pytest.raises(refflow.RefflowError, match="between 1 and 16 coordinates, got 17: the exact log-determinant"):
        refflow.ResidualBlock((linear,))
    with pytest.raises(refflow.RefflowError, match="activation among elu, softplus, tanh, got 'silu'"):
        block(activation="silu")
    with pytest.raises(refflow.RefflowError, match="Lipschitz constant in"):
        block(lipschitz=1.0)
    with pytest.raises(refflow.RefflowError, match="lead from D coordinates to D"):
        refflow.ResidualBlock((refflow.Linear(np.zeros((2, 3)), np.zeros(3)),))
