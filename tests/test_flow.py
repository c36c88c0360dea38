"""Flows and their parts: conditioners, bases, modules, preprocessing, scores; against closed forms."""

import numpy as np
import pytest
import scipy.stats

import refflow
from refflow import arrays as xp
from refflow.conditioners import ACTIVATIONS, with_dropout
from refflow.modules import arrays, bind_arrays, map_modules, named_arrays, tree_equal

RNG = np.random.default_rng(5)
X = RNG.normal(size=(11, 3))


# Change of variables in closed form.


def test_gaussians_through_an_affine_map_are_gaussians():
    """z = exp(a) x + b with z ~ N(0, I): x_i ~ N(-b_i e^-a_i, e^-2a_i)."""
    a, b = RNG.normal(size=3), RNG.normal(size=3)
    flow = refflow.Flow(refflow.StandardNormal((3,)), refflow.ElementwiseAffine(a, b))
    exact = scipy.stats.norm(-b * np.exp(-a), np.exp(-a)).logpdf(X).sum(axis=1)
    assert np.allclose(flow.log_prob(X), exact, rtol=1e-13)


def test_log_normal_by_a_coupling_free_chain():
    """sigma(z) with z ~ N(m, s^2) is logit-normal: its density in closed form, through Inverse(Sigmoid)."""
    flow = refflow.Flow(refflow.DiagonalNormal(np.array([0.3]), np.log([0.7])), refflow.Inverse(refflow.Sigmoid()))
    p = RNG.uniform(0.01, 0.99, (20, 1))
    exact = scipy.stats.norm(0.3, 0.7).logpdf(np.log(p / (1 - p))) - np.log(p * (1 - p))
    assert np.allclose(flow.log_prob(p), exact[:, 0], rtol=1e-12)


def test_a_linear_additive_coupling_is_a_correlated_gaussian():
    """z2 = x2 + w x1: x ~ N(0, L L^T) with L = [[1, 0], [-w, 1]]."""
    w = 0.75
    net = refflow.MLP((refflow.Linear(np.array([[w]]), np.zeros(1)),))
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.AdditiveCoupling(refflow.half_mask(2), net))
    lower = np.array([[1.0, 0.0], [-w, 1.0]])
    exact = scipy.stats.multivariate_normal(np.zeros(2), lower @ lower.T).logpdf(X[:, :2])
    assert np.allclose(flow.log_prob(X[:, :2]), exact, rtol=1e-12)


def test_bases_are_scipys_normals():
    assert np.allclose(refflow.StandardNormal((3,)).log_prob(X), scipy.stats.norm.logpdf(X).sum(axis=1), rtol=1e-14)
    mean, log_std = RNG.normal(size=3), RNG.normal(size=3)
    exact = scipy.stats.norm(mean, np.exp(log_std)).logpdf(X).sum(axis=1)
    assert np.allclose(refflow.DiagonalNormal(mean, log_std).log_prob(X), exact, rtol=1e-13)
    images = RNG.normal(size=(5, 2, 3, 1))
    exact = scipy.stats.norm.logpdf(images).sum(axis=(1, 2, 3))
    assert np.allclose(refflow.StandardNormal((2, 3, 1)).log_prob(images), exact, rtol=1e-14)


# Samples.


def test_samples_have_the_moments_of_their_base():
    base = refflow.DiagonalNormal(np.array([1.0, -2.0]), np.log([0.5, 3.0]))
    flow = refflow.Flow(base, refflow.Permutation((1, 0)))
    x = flow.sample(40_000, seed=0)
    # six standard errors: of a mean, sd / sqrt(n); of a standard deviation, sd / sqrt(2 n)
    sd = np.array([3.0, 0.5])
    assert np.all(np.abs(x.mean(axis=0) - [-2.0, 1.0]) < 6 * sd / 200)
    assert np.all(np.abs(x.std(axis=0) - sd) < 6 * sd / 200 / 2**0.5)


def test_samples_of_a_seed_are_the_same_numbers_in_every_dtype_and_library():
    flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
    single = refflow.map_arrays(lambda a: a.astype(np.float32), flow)
    a, b = flow.sample(6, seed=3), single.sample(6, seed=3)
    assert b.dtype == np.float32
    assert np.allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.array_equal(flow.sample(6, seed=np.random.default_rng(3)), a)


def test_a_context_gives_samples_for_each_of_its_rows():
    flow = refflow.map_arrays(
        lambda a: RNG.normal(size=a.shape), refflow.realnvp(2, layers=2, hidden=(4,), context_dim=1, seed=0)
    )
    c = RNG.normal(size=(4, 5, 1))
    x, log_p = flow.sample_and_log_prob(3, c, seed=0)
    assert x.shape == (3, 4, 5, 2)
    assert log_p.shape == (3, 4, 5)
    assert np.allclose(flow.log_prob(x, c), log_p, rtol=1e-9, atol=1e-9)
    one = flow.log_prob(x[0, 1, 2], c[1, 2])  # no batch axes at all
    assert one.shape == ()
    assert np.allclose(one, log_p[0, 1, 2], rtol=1e-9)


def test_one_context_row_serves_all_points():
    flow = refflow.map_arrays(
        lambda a: RNG.normal(size=a.shape), refflow.realnvp(3, layers=2, hidden=(4,), context_dim=2, seed=0)
    )
    c = RNG.normal(size=2)
    assert np.allclose(flow.log_prob(X, c), flow.log_prob(X, np.tile(c, (11, 1))), rtol=1e-12)


# Conditioners.


def gelu(x):
    """In long double: 1 + tanh cancels on the left."""
    x = x.astype(np.longdouble)
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


DEFINITIONS = {
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "gelu": gelu,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name):
    x = np.linspace(-6.0, 6.0, 97)
    assert np.allclose(ACTIVATIONS[name](x), DEFINITIONS[name](x), rtol=1e-14, atol=1e-16)


def test_mlp_and_residual_net_are_their_equations():
    net = refflow.MLP.init(3, 2, rng=RNG, hidden=(5, 4), activation="elu")
    net = refflow.map_arrays(lambda a: RNG.normal(size=a.shape), net)
    (w1, b1), (w2, b2), (w3, b3) = ((layer.weight, layer.bias) for layer in net.layers)
    a = DEFINITIONS["elu"]
    assert np.allclose(net(X), a(a(X @ w1 + b1) @ w2 + b2) @ w3 + b3, rtol=1e-13, atol=1e-14)
    net = refflow.ResidualNet.init(3, 2, rng=RNG, width=4, blocks=1, activation="tanh")
    net = refflow.map_arrays(lambda a: RNG.normal(size=a.shape), net)
    h = X @ net.first.weight + net.first.bias
    u, v = net.blocks
    h = h + np.tanh(np.tanh(h) @ u.weight + u.bias) @ v.weight + v.bias
    assert np.allclose(net(X), np.tanh(h) @ net.last.weight + net.last.bias, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("recipe", [refflow.nice, refflow.realnvp])
def test_recipes_start_as_the_identity(recipe):
    flow = recipe(3, layers=4, hidden=(8,), seed=0)
    assert np.array_equal(flow.encode(X), X)
    assert np.allclose(flow.log_prob(X), scipy.stats.norm.logpdf(X).sum(axis=1), rtol=1e-14)


def test_recipes_are_functions_of_their_seed():
    make = [refflow.realnvp(4, layers=4, hidden=(8,), linear="permutation", seed=s) for s in (0, 0, 1)]
    assert tree_equal(arrays(make[0]), arrays(make[1]))
    assert not tree_equal(arrays(make[0]), arrays(make[2]))


def test_dropout_is_off_unless_switched_on_and_keeps_the_mean():
    net = refflow.MLP.init(3, 1, rng=RNG, hidden=(4000,), dropout=0.25)
    net = refflow.map_arrays(lambda a: np.abs(RNG.normal(size=a.shape)), net)
    assert np.array_equal(net(X), net(X))
    noisy = with_dropout(net, np.random.default_rng(0))(X)
    assert not np.array_equal(noisy, net(X))
    assert np.allclose(noisy, net(X), rtol=0.1)  # each unit's share is 1/4000: one part in a hundred, times six
    assert np.array_equal(with_dropout(with_dropout(net, RNG), None)(X), net(X))


# Modules.


def test_parameters_and_bind_are_each_others_inverse():
    flow = refflow.realnvp(3, layers=2, hidden=(4,), preprocessing=[refflow.standardize(X)], seed=0)
    tree = refflow.parameters(flow)
    assert tree_equal(refflow.parameters(refflow.bind(flow, tree)), tree)
    doubled = refflow.bind(flow, xp.tree_map(lambda a: 2.0 * a + 1.0, tree))
    assert tree_equal(refflow.parameters(doubled), xp.tree_map(lambda a: 2.0 * a + 1.0, tree))
    assert tree_equal(refflow.parameters(flow), tree)  # the original has not moved


def test_frozen_arrays_are_not_parameters_but_move_with_the_flow():
    flow = refflow.realnvp(3, layers=2, hidden=(4,), preprocessing=[refflow.standardize(X)], seed=0)
    names = set(named_arrays(flow))
    assert "bijection.bijections.0.bijection.mean" in names
    assert len(xp.leaves(refflow.parameters(flow))) == len(names) - 2
    single = refflow.map_arrays(lambda a: a.astype(np.float32), flow)
    assert {a.dtype for a in xp.leaves(arrays(single))} == {np.dtype(np.float32)}
    assert tree_equal(arrays(bind_arrays(flow, arrays(flow))), arrays(flow))


def test_modules_are_frozen_and_show_their_structure():
    flow = refflow.realnvp(2, layers=1, hidden=(4,), seed=0)
    with pytest.raises(AttributeError):
        flow.base = None
    for word in ("AffineCoupling", "float64[1, 4]", "moved=(1,)", "scale='tanh'"):
        assert word in repr(flow)
    assert map_modules(lambda m: m, flow) is flow


# Preprocessing and scores.


def test_preprocessing_is_part_of_the_density():
    x = RNG.normal(5.0, 3.0, (500, 2))
    flow = refflow.realnvp(2, layers=2, hidden=(4,), preprocessing=[refflow.standardize(x)], seed=0)
    exact = scipy.stats.norm(x.mean(axis=0), x.std(axis=0)).logpdf(x).sum(axis=1)
    assert np.allclose(flow.log_prob(x), exact, rtol=1e-12)


def test_dequantised_values_lie_in_the_cells_of_their_levels():
    noise = refflow.Dequantization((1.0, 0.0, 0.25))
    levels = np.column_stack([RNG.integers(0, 9, 5000), RNG.normal(size=5000), RNG.integers(0, 9, 5000) / 4])
    for dtype in (np.float32, np.float64):
        x = noise.noisy(levels, np.random.default_rng(0), np.dtype(dtype))
        assert x.dtype == dtype
        assert np.array_equal(x[:, 1], levels[:, 1].astype(dtype))
        assert np.array_equal(noise.levels(x)[:, [0, 2]], levels[:, [0, 2]].astype(dtype))
        u = (x - levels)[:, 0]
        assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6
    assert noise.log_cell(3) == np.log(0.25)
    assert noise.quantised(3) == 2


def test_levels_next_to_large_numbers_stay_in_their_cell():
    """2^24 + 1 is no float32: noise that rounds up to the next level is moved back inside."""
    noise = refflow.Dequantization()
    level = np.full((1000, 1), 2**23)
    x = noise.noisy(level, np.random.default_rng(0), np.dtype(np.float32))
    assert np.array_equal(noise.levels(x), level)


def test_bits_per_dim_of_uniform_data_count_levels():
    """A flow whose density is 1/16 on [0, 16)^2 codes 16 levels in 4 bits a coordinate, whatever the draw."""
    score = refflow.Score(np.full(10, -2 * np.log(16.0)), 2, True, 0.0)
    assert score.bits_per_dim == pytest.approx(4.0, rel=1e-14)
    finer = refflow.Score(np.full(10, -2 * np.log(16.0)), 2, True, 2 * np.log(0.5))  # half steps: one bit more
    assert finer.bits_per_dim == pytest.approx(5.0, rel=1e-14)


def test_score_averages_over_draws_and_depends_on_its_seed_alone():
    flow = refflow.realnvp(2, layers=2, hidden=(4,), dequantization=refflow.Dequantization(), seed=0)
    k = RNG.integers(-3, 4, (50, 2))
    one, again, other = (refflow.score(flow, k, seed=s) for s in (0, 0, 1))
    assert np.array_equal(one.log_prob, again.log_prob)
    assert not np.array_equal(one.log_prob, other.log_prob)
    # E log N(k + u) for u uniform: -(k^2 + k + 1/3) / 2 - log(2 pi) / 2, summed over coordinates
    exact = np.sum(-(k**2 + k + 1 / 3) / 2 - np.log(2 * np.pi) / 2, axis=1)
    many = refflow.score(flow, k, draws=400, seed=0).log_prob
    spread = np.sqrt(np.sum((2 * k + 1) ** 2 / 48 + 1 / 720, axis=1) * 1.2 / 400)  # Var of (k + u)^2 / 2 over draws
    assert np.max(np.abs(many - exact) / spread) < 6
    assert refflow.score(flow, k, batch_size=7).log_prob.shape == (50,)
