"""The logistic mixture coupling: its equation at 60 digits, its tails, its layout, its inverse."""

import mpmath
import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import verification
from refflow.bijections import mixture

RNG = np.random.default_rng(11)
U = 2.0**-53
K = 3


def mixture_logit(x, *parameters):
    """With the components last, which reads better here."""
    shape = np.broadcast_shapes(np.shape(x), parameters[0].shape[:-1])
    return mixture.mixture_logit(
        x, *(np.moveaxis(np.broadcast_to(p, (*shape, p.shape[-1])), -1, 0) for p in parameters)
    )


def reference(x, log_pi, mu, s):
    """L and log L' of one x, by mpmath, from the mixture's F and its density, unnormalised weights and all."""
    with mpmath.workdps(60 + int(abs(x) / 2)):
        x, parts = (
            mpmath.mpf(float(x)),
            [tuple(map(mpmath.mpf, map(float, p))) for p in zip(log_pi, mu, s, strict=True)],
        )
        total = sum(mpmath.exp(l) for l, _, _ in parts)
        below = above = density = mpmath.mpf(0)
        for l, m, t in parts:
            z, weight = (x - m) * mpmath.exp(-t), mpmath.exp(l) / total
            f, g = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            below, above, density = below + weight * f, above + weight * g, density + weight * f * g * mpmath.exp(-t)
        return float(mpmath.log(below / above)), float(mpmath.log(density / (below * above)))


def drawn(scale=1.0, n=20):
    logits, mu, s = (scale * RNG.normal(size=(n, K)) for _ in "lms")
    return xp.log_softmax(logits), mu, s


def condition(x, log_pi, mu, s):
    """|L| + |L' x| + sum_k |dL/dmu_k mu_k| + |dL/ds_k s_k| + |dL/dl_k|: one rounding of each, by complex steps."""
    found, step = np.abs(mixture_logit(x, log_pi, mu, s)[0]), 1e-30
    found = found + np.abs(mixture_logit(x + 1j * step * x, log_pi, mu, s)[0].imag) / step
    for i, p in enumerate((log_pi, mu, s)):
        for k in range(K):
            moved = [log_pi, mu, s]
            moved[i] = p + 1j * step * np.eye(K)[k] * (1.0 if i == 0 else np.abs(p))
            found = found + np.abs(mixture_logit(x, *moved)[0].imag) / step
    return found


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_logit_of_the_mixture_at_sixty_digits(scale):
    drawn_mixture = drawn(scale)
    x = 4.0 * RNG.normal(size=20)
    value, log_slope = mixture_logit(x, *drawn_mixture)
    want = np.array([reference(*row) for row in zip(x, *drawn_mixture, strict=True)])
    kappa = condition(x, *drawn_mixture)
    assert np.all(np.abs(value - want[:, 0]) <= 16 * U * (kappa + 1.0))
    terms = (
        1.0
        + np.max(np.abs(drawn_mixture[2]), axis=1)
        + np.max(np.abs((x[:, None] - drawn_mixture[1]) * np.exp(-drawn_mixture[2])), axis=1)
    )
    assert np.all(np.abs(log_slope - want[:, 1]) <= 16 * U * terms)


def test_near_zero_it_keeps_its_digits():
    """Equal components at 0 of scale 1 are the identity, at 1e-300 too: no difference of logarithms of halves."""
    same = np.full(K, -np.log(3.0)), np.zeros(K), np.zeros(K)
    x = np.array([1e-300, -1e-20, 1e-3, 0.5, -3.0])
    value, log_slope = mixture_logit(x, *same)
    np.testing.assert_allclose(value, x, rtol=8 * U)
    np.testing.assert_allclose(log_slope, np.zeros(5), atol=16 * U)


@pytest.mark.parametrize("x", [40.0, -40.0, 1e3, -1e3, 1e6, -1e6, 1e15])
def test_far_out_it_is_the_line_of_the_widest_component(x):
    """There F or 1 - F is sum_k pi_k exp(-|z_k|): L = -+ logsumexp(log pi_k - |z_k|), its slope exp(-s_widest)."""
    log_pi, mu, s = np.log([0.5, 0.25, 0.25]), np.array([1.0, -2.0, 0.5]), np.array([-1.0, 0.25, 2.0])
    value, log_slope = mixture_logit(np.array(x), log_pi, mu, s)
    z = (x - mu) * np.exp(-s)
    if abs(x) >= 1e3:
        want = np.log(0.25) - abs(z[2])
        assert abs(value + np.sign(x) * want) <= 8 * U * abs(want)
        assert abs(log_slope + 2.0) <= 8 * U
    want = reference(x, log_pi, mu, s) if abs(x) < 1e4 else (value, log_slope)
    np.testing.assert_allclose((value, log_slope), want, rtol=16 * U)


def test_it_never_saturates_and_rises_everywhere():
    for scale in (1.0, 3.0, 10.0):
        log_pi, mu, s = drawn(scale, 5)
        s = np.clip(s, -5.0, 5.0)
        x = np.sort(np.concatenate([-np.logspace(-3, 6, 60), np.logspace(-3, 6, 60)]))
        value, log_slope = mixture_logit(x[:, None], log_pi, mu, s)
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(log_slope))
        assert np.all(np.diff(value, axis=0) >= -32 * U * np.abs(value[1:]) - 4 * U)
        assert np.all(np.abs(value[[0, -1]]) > 1e3), "onto: 1e6 exp(-5) and more"


def coupling(components=K, scale="tanh", context_dim=0, in_features=2, moved=2):
    out = (2 + 3 * components) * moved
    net = refflow.MLP(
        (refflow.Linear(RNG.normal(size=(in_features + context_dim, out)), RNG.normal(size=out)),),
        context_dim=context_dim,
    )
    return refflow.LogisticMixtureCoupling(refflow.Mask((4,), (0, 2)), net, components, scale, 1.5)


def test_the_coupling_is_its_equation_and_its_layout():
    """Blocks [a' | b | l | m | s'], components side by side, mu_k = m_k + k - 1: by hand, from F itself."""
    f, x = coupling(), RNG.normal(size=(6, 4))
    net = f.conditioner.layers[0]
    theta = x[:, [1, 3]] @ net.weight + net.bias
    a, b = 1.5 * np.tanh(theta[:, :2] / 1.5), theta[:, 2:4]
    l, m, s = (theta[:, 4 + 6 * i : 10 + 6 * i].reshape(6, 2, 3) for i in range(3))
    pi = np.exp(l) / np.exp(l).sum(axis=-1, keepdims=True)
    mu, s = m + np.array([-1.0, 0.0, 1.0]), 5.0 * np.tanh(s / 5.0)
    x2 = x[:, [0, 2], None]
    sigma = 1.0 / (1.0 + np.exp(-(x2 - mu) * np.exp(-s)))
    cdf = np.sum(pi * sigma, axis=-1)
    y = x.copy()
    y[:, [0, 2]] = np.exp(a) * np.log(cdf / (1.0 - cdf)) + b
    density = np.sum(pi * sigma * (1.0 - sigma) * np.exp(-s), axis=-1)
    got, log_det = f.forward(x)
    np.testing.assert_allclose(got, y, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        log_det, np.sum(a + np.log(density / (cdf * (1.0 - cdf))), axis=-1), rtol=1e-10, atol=1e-11
    )


def test_one_component_is_affine():
    """L of one component is (x - mu) exp(-s): the inverse's bracket is a point, the quantile."""
    f, x = coupling(1), RNG.normal(size=(6, 4))
    a, b, (_, mu, s) = f.coefficients(x[:, [1, 3]])
    y, log_det = f.forward(x)
    np.testing.assert_allclose(
        y[:, [0, 2]], np.exp(a) * (x[:, [0, 2]] - mu[0]) * np.exp(-s[0]) + b, rtol=1e-14, atol=1e-14
    )
    np.testing.assert_allclose(log_det, np.sum(a - s[0], axis=-1), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(f.inverse(y)[0], x, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("far", [1.0, 1e3, 1e6])
def test_the_inverse_is_exact_to_conditioning(far):
    f, y = coupling(), far * RNG.normal(size=(40, 4))
    x, log_det = f.inverse(y)
    again, log_det_again = f.forward(x)
    kappa = verification.conditions(refflow.Inverse(f), y)
    error = np.abs(x - f.inverse(again)[0])
    assert np.all(error <= 16 * U * kappa.value)
    assert np.all(np.abs(again - y) <= 16 * U * kappa.round_trip)
    assert np.all(np.abs(log_det + log_det_again) <= 16 * U * kappa.antisymmetry)


def test_the_bracket_holds_the_root():
    """F at the least quantile is at most sigma(t), at the largest at least: both, at 60 digits, within rounding."""
    log_pi, mu, s = drawn(2.0, 30)
    t = 5.0 * RNG.normal(size=30)
    quantiles = mu + np.exp(s) * t[:, None]
    for i in range(30):
        low, high = (reference(q, log_pi[i], mu[i], s[i])[0] for q in (quantiles[i].min(), quantiles[i].max()))
        assert low <= t[i] + 1e-9
        assert high >= t[i] - 1e-9


def test_components_differ_from_the_start():
    """With all parameters zero no two components have the same gradient: they can become different ones."""
    f = refflow.map_arrays(np.zeros_like, coupling())
    x = RNG.normal(size=(9, 4))
    gradient = xp.value_and_grad(lambda p: xp.sum(refflow.bind(f, p).forward(x)[1]))(refflow.parameters(f))[1]
    by_bias = gradient["conditioner"]["layers"][0]["bias"][10:16]
    assert len(np.unique(np.round(by_bias, 12))) == 6


def test_structure_is_checked():
    net = refflow.MLP.init(2, 10, rng=RNG, hidden=())
    with pytest.raises(refflow.RefflowError, match=r"2 kept coordinates to 22 parameters \(11 for each"):
        refflow.LogisticMixtureCoupling(refflow.half_mask(4), net, 3)
    with pytest.raises(refflow.RefflowError, match="at least one component"):
        refflow.LogisticMixtureCoupling(refflow.half_mask(4), net, 0)
