"""Masked networks and autoregressive maps: who reads whom, passes counted, values by hand, normal densities."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import refflow
from refflow import arrays as xp
from refflow.conditioners import with_dropout
from refflow.errors import StructureError
from refflow.jobs import RECIPES
from refflow.training.likelihood import has_dropout

RNG = np.random.default_rng(12)
ORDERS = ((1,), (1, 2), (2, 1), (1, 2, 3, 4), (3, 1, 4, 2), (5, 4, 3, 2, 1))


def network(degrees, per_coordinate=2, *, hidden=(9, 8), scale=0.5, **options):
    """A masked network of normal weights, none of them 0."""
    net = refflow.MaskedMLP.init(
        len(degrees), per_coordinate, rng=RNG, degrees=degrees, hidden=hidden, activation="tanh", **options
    )
    return refflow.map_arrays(lambda a: scale * RNG.normal(size=a.shape), net)


# Who reads whom.


@pytest.mark.parametrize("degrees", ORDERS)
@pytest.mark.parametrize("hidden", [(), (9,), (9, 8)])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_outputs_read_exactly_the_coordinates_before_theirs(degrees, hidden, context_dim):
    """Moving coordinate j moves, bit for bit, the parameters of those coordinates, and only those, that come later."""
    dim = len(degrees)
    net = network(degrees, 3, hidden=hidden, context_dim=context_dim)
    x = RNG.normal(size=(1, dim))
    context = RNG.normal(size=(1, context_dim)) if context_dim else None
    before = net(x, context).reshape(3, dim)
    for j in range(dim):
        moved = np.array(x)
        moved[0, j] += 1.0
        changed = net(moved, context).reshape(3, dim) != before
        assert np.array_equal(changed, np.tile(np.array(degrees) > degrees[j], (3, 1)))
    for j in range(context_dim):
        moved = np.array(context)
        moved[0, j] += 1.0
        assert np.all(net(x, moved).reshape(3, dim) != before)


@pytest.mark.parametrize("layer", ["affine", "spline"])
@pytest.mark.parametrize("degrees", ORDERS)
@pytest.mark.parametrize("turned", [False, True])
def test_jacobians_are_triangular_bit_for_bit(degrees, turned, layer):
    f = LAYERS[layer](degrees)
    f = refflow.Inverse(f) if turned else f
    x = RNG.uniform(-1.0, 1.0, size=(1, len(degrees)))
    before = f.forward(x)[0]
    for j in range(len(degrees)):
        moved = np.array(x)
        moved[0, j] += 1.0
        changed = (f.forward(moved)[0] != before)[0]
        assert np.array_equal(changed, np.array(degrees) >= degrees[j])


def test_the_first_coordinate_reads_the_context():
    """MADE's units of degree 0, which most implementations leave out."""
    f = refflow.AffineAutoregressive(network((1,), context_dim=1))
    x, c = np.ones((2, 1)), np.array([[0.0], [1.0]])
    assert np.ptp(f.forward(x, c)[0]) > 0.0


# Values.


def test_masked_weights_by_hand():
    """Three coordinates in the order 2, 3, 1 and two hidden units, of degrees 1 and 2."""
    w1, b1, w2, b2 = (RNG.normal(size=s) for s in ((3, 2), 2, (2, 6), 6))
    net = refflow.MaskedMLP(refflow.MLP((refflow.Linear(w1, b1), refflow.Linear(w2, b2)), activation="tanh"), (2, 3, 1))
    x = RNG.normal(size=(5, 3))
    first = np.tanh(x[:, 2] * w1[2, 0] + b1[0])
    second = np.tanh(x[:, 2] * w1[2, 1] + x[:, 0] * w1[0, 1] + b1[1])
    theta = np.stack(
        [w2[0, k] * first * (d > 1) + w2[1, k] * second * (d > 2) + b2[k] for k, d in enumerate((2, 3, 1, 2, 3, 1))], 1
    )
    assert np.allclose(net(x), theta, rtol=1e-14, atol=1e-14)
    y, log_det = refflow.AffineAutoregressive(net, "exp").forward(x)
    assert np.allclose(y, np.exp(theta[:, :3]) * x + theta[:, 3:], rtol=1e-14, atol=1e-14)
    assert np.allclose(log_det, theta[:, :3].sum(axis=1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("degrees", ORDERS)
def test_normal_densities_in_closed_form(degrees):
    """With a linear network whose scales are constant, y = W x + b with a triangular W."""
    dim = len(degrees)
    net = network(degrees, hidden=(), scale=0.3)
    layer = net.network.layers[0]
    weight = np.array(layer.weight)
    weight[:, :dim] = 0.0
    net = refflow.modules.replace(net, network=refflow.MLP((refflow.Linear(weight, layer.bias),)))
    f = refflow.AffineAutoregressive(net, "exp")
    kept = np.array(degrees)[:, None] < np.array(degrees)
    w, b = np.diag(np.exp(layer.bias[:dim])) + (weight[:, dim:] * kept).T, layer.bias[dim:]
    inverse = np.linalg.inv(w)
    x = RNG.normal(size=(20, dim))
    expected = multivariate_normal(-inverse @ b, inverse @ inverse.T).logpdf(x)
    flow = refflow.Flow(refflow.StandardNormal((dim,)), f)
    assert np.allclose(flow.log_prob(x), expected, rtol=1e-12, atol=1e-12)
    assert np.allclose(flow.decode(x), np.linalg.solve(w, (x - b).T).T, rtol=1e-12, atol=1e-12)


LAYERS = {
    "affine": lambda degrees, **options: refflow.AffineAutoregressive(network(degrees, **options)),
    "spline": lambda degrees, **options: refflow.RationalQuadraticAutoregressive(
        network(degrees, 8, **options), 3, 4.0
    ),
}
EACH_LAYER = pytest.mark.parametrize("layer", LAYERS)


def test_a_spline_layer_whose_network_is_constant_is_the_elementwise_spline():
    """So the blocks are read as they are written: output p D + i is number p of coordinate i."""
    net = network((2, 1, 3), 8, hidden=())
    bias = net.network.layers[0].bias
    net = refflow.map_arrays(lambda a: a if a.ndim == 1 else 0.0 * a, net)
    f = refflow.RationalQuadraticAutoregressive(net, 3, 4.0)
    g = refflow.RationalQuadraticElementwise(np.stack([[bias[3 * p + i] for p in range(8)] for i in range(3)]), 4.0)
    x = RNG.uniform(-5.0, 5.0, (9, 3))
    for a, b in zip((*f.forward(x), *f.inverse(x)), (*g.forward(x), *g.inverse(x)), strict=True):
        assert np.allclose(a, b, rtol=1e-14, atol=1e-14)


@EACH_LAYER
@pytest.mark.parametrize("degrees", ORDERS)
def test_passes_are_counted(degrees, layer, monkeypatch):
    """One forward, exactly D back; and the D passes give every coordinate."""
    f = LAYERS[layer](degrees)
    calls, plain = [], refflow.MLP.__call__
    monkeypatch.setattr(refflow.MLP, "__call__", lambda self, *args: calls.append(1) or plain(self, *args))
    x = RNG.normal(size=(3, len(degrees)))
    y, _ = f.forward(x)
    assert len(calls) == 1
    back, _ = f.inverse(y)
    assert len(calls) == 1 + len(degrees)
    assert np.allclose(back, x, rtol=1e-12, atol=1e-12)


def test_coordinates_to_come_do_not_overflow_into_those_before():
    """At x_1 = 5 the second scale is exp(0), but where x_1 is not known yet it would be exp(5000)."""
    weight, bias = np.zeros((2, 4)), np.zeros(4)
    weight[0, 1], bias[1] = 1000.0, -5000.0
    net = refflow.MaskedMLP(refflow.MLP((refflow.Linear(weight, bias),)), (1, 2))
    f = refflow.AffineAutoregressive(net, "exp")
    y = np.array([[5.0, 3.0]])
    x, log_det = f.inverse(y)
    assert np.array_equal(x, y)
    assert np.array_equal(log_det, [0.0])

    def loss(tree):
        x, log_det = refflow.bind(f, tree[0]).inverse(tree[1])
        return xp.sum(x) + xp.sum(log_det)

    gradient = xp.value_and_grad(loss)((refflow.parameters(f), y))[1]
    assert all(np.all(np.isfinite(g)) for g in xp.leaves(gradient))


def test_iaf_is_maf_turned_round():
    options = {"layers": 3, "hidden": (6,), "activation": "tanh", "context_dim": 1, "seed": 0}
    maf, iaf = refflow.maf(3, **options), refflow.iaf(3, **options)
    tree = xp.tree_map(lambda a: 0.5 * RNG.normal(size=a.shape), refflow.parameters(maf))
    layers = [f["conditioner"] for f in tree["bijection"]["bijections"]]
    maf = refflow.bind(maf, tree)
    iaf = refflow.bind(iaf, {"bijection": {"bijections": tuple({"bijection": {"conditioner": c}} for c in layers)}})
    x, c = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 1))
    for f, g in zip(maf.bijection.bijections, iaf.bijection.bijections, strict=True):
        for a, b in zip((*f.forward(x, c), *f.inverse(x, c)), (*g.inverse(x, c), *g.forward(x, c)), strict=True):
            assert np.array_equal(a, b)


# Recipes.


@pytest.mark.parametrize("recipe", [refflow.maf, refflow.iaf, refflow.nsf_ar])
def test_recipes_start_as_the_identity_and_alternate_their_order(recipe):
    flow = recipe(4, layers=3, hidden=(8,), seed=0, **({"linear": None} if recipe is refflow.nsf_ar else {}))
    x = RNG.normal(size=(5, 4))
    assert np.allclose(flow.encode(x), x, rtol=1e-14, atol=1e-15)
    layers = [getattr(f, "bijection", f) for f in flow.bijection.bijections]
    assert [f.conditioner.degrees for f in layers] == [(1, 2, 3, 4), (4, 3, 2, 1), (1, 2, 3, 4)]
    assert RECIPES[recipe.__name__] is recipe
    for wrong in ({"dim": 0}, {"dim": 2, "layers": 0}):
        with pytest.raises(StructureError, match="expected"):
            recipe(wrong.pop("dim"), **wrong, seed=0)


def test_maf_is_initialised_through_lu_and_actnorm():
    flow = refflow.maf(3, layers=2, hidden=(8,), actnorm=True, linear="lu", seed=0)
    kinds = [refflow.ActNorm, refflow.AffineAutoregressive, refflow.LU, refflow.ActNorm, refflow.AffineAutoregressive]
    assert [type(f) for f in flow.bijection.bijections] == kinds
    x = RNG.normal(5.0, [1.0, 2.0, 3.0], size=(100, 3))
    z = refflow.initialize(flow, x).encode(x)
    assert np.allclose(z.mean(axis=0), 0.0, atol=1e-12)
    assert np.allclose(z.std(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("recipe", [refflow.maf, refflow.iaf])
def test_training_recovers_most_of_a_banana(recipe):
    """x_2 given x_1 is normal with mean x_1^2 / 2 and deviation 0.3: of the 1 nat between start and truth, 2/3."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 2))
    x[:, 1] = 0.5 * x[:, 0] ** 2 + 0.3 * x[:, 1]
    truth = multivariate_normal(np.zeros(2), np.diag([1.0, 0.09])).logpdf(x - [0.0, 0.5] * x[:, :1] ** 2).mean()
    flow = recipe(2, layers=2, hidden=(16,), seed=0)
    fitted, _ = refflow.fit(flow, x, validation=(x,), seed=0, epochs=60, learning_rate=1e-2)
    start, end = (f.log_prob(x).mean() for f in (flow, fitted))
    assert start + 2.0 / 3.0 * (truth - start) < end < truth + 0.1


def test_dropout_reaches_masked_networks():
    net = network((1, 2, 3), hidden=(64,), dropout=0.5)
    flow = refflow.Flow(refflow.StandardNormal((3,)), refflow.AffineAutoregressive(net))
    x = RNG.normal(size=(4, 3))
    assert has_dropout(flow)
    assert not np.array_equal(with_dropout(flow, np.random.default_rng(0)).encode(x), flow.encode(x))


# Refusals.


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: refflow.MaskedMLP.init(3, 2, rng=RNG, degrees=(1, 2, 2)), "degree"),
        (lambda: refflow.MaskedMLP.init(3, 2, rng=RNG, degrees=(0, 1, 2)), "degree"),
        (lambda: refflow.MaskedMLP(refflow.MLP.init(3, 5, rng=RNG), (1, 2, 3)), "blocks of 3"),
        (lambda: refflow.AffineAutoregressive(network((1, 2), 3)), "2 parameters for each of 2"),
        (lambda: refflow.RationalQuadraticAutoregressive(network((1, 2), 8), 4), "11 parameters for each of 2"),
        (lambda: refflow.RationalQuadraticAutoregressive(network((1, 2), 8), 3, -1.0), "bound"),
        (lambda: refflow.AffineAutoregressive(network((1, 2)), "cubic"), "scale map"),
        (lambda: refflow.AffineAutoregressive(network((1, 2)), bound=0.0), "bound"),
    ],
)
def test_refusals_say_what_was_expected(make, match):
    with pytest.raises(StructureError, match=match):
        make()
