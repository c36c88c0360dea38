"""Balls enclose: every operation, every number of its operands; and what would make an enclosure a lie is refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrix import wide

import refflow
from refflow import arrays as xp
from refflow.errors import DTypeError, UndecidedError

flint = pytest.importorskip("flint")
from refflow import certified  # noqa: E402
from refflow.certified.arrays import BallArray, objects  # noqa: E402

X = np.array([0.1, -0.25, 3.0, 1e-30])


SMOOTH = {
    "exp": xp.exp, "expm1": xp.expm1, "tanh": xp.tanh, "sigmoid": xp.sigmoid, "softplus": xp.softplus, "silu": xp.silu,
    "sin": xp.sin, "cos": xp.cos, "atan": xp.atan, "asinh": xp.asinh,
    "square": xp.square, "log_sigmoid": xp.log_sigmoid, "abs": xp.abs,
    "negative": xp.negative, "clip": lambda x: xp.clip(x, -1.0, 0.5), "max": lambda x: xp.max(x, axis=-1),
    "min": lambda x: xp.min(x, axis=-1), "logsumexp": lambda x: xp.logsumexp(x, axis=-1),
    "softmax": lambda x: xp.softmax(x, axis=-1), "sum": lambda x: xp.sum(x, axis=-1),
    "mean": lambda x: xp.mean(x, axis=-1), "cumulative_sum": lambda x: xp.cumulative_sum(x, axis=-1),
    "product": lambda x: x * x, "matmul": lambda x: xp.matmul(x, xp.matrix_transpose(x)),
    "where": lambda x: xp.where(x > 0.5, x * 2.0, -x), "maximum": lambda x: xp.maximum(x, 0.25 * x),
    "minimum": lambda x: xp.minimum(x, xp.square(x)), "logaddexp": lambda x: xp.logaddexp(x, -x),
    "power": lambda x: x**3, "difference": lambda x: x - 0.5 * x, "quotient": lambda x: x / (xp.square(x) + 1.0),
    "log": lambda x: xp.log(xp.square(x) + 0.5), "sqrt": lambda x: xp.sqrt(xp.square(x) + 0.5),
    "log1p": lambda x: xp.log1p(xp.square(x)), "reshape": lambda x: xp.reshape(x, (4, 1)), "flip": xp.flip,
    "concat": lambda x: xp.concat([x, x], axis=-1), "take": lambda x: xp.take(x, np.array([2, 0]), axis=-1),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
@given(
    mid=st.lists(st.floats(-30, 30), min_size=4, max_size=4),
    rad=st.sampled_from([0.0, 2.0**-60, 2.0**-20, 0.5, 4.0]),
    where=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
)
def test_inclusion(name, mid, rad, where):
    """f of an exact point of the operand's balls overlaps f of the balls: the exact value lies in both."""
    function, m = SMOOTH[name], np.array([mid])
    with certified.precision(64):
        whole = function(wide(m, rad))
    with certified.precision(400):
        point = function(certified.balls(m) + certified.balls(np.array([where])) * wide(rad, 0.0))
        assert np.all(whole.contains(point)), (whole, point)


def test_a_float_is_taken_as_the_number_it_is():
    for v in (0.1, 1e300, 5e-324, -0.0, 2.0**53 + 2):
        ball = certified.balls(np.array(v)).elements[()]
        mantissa, exponent = ball.mid().man_exp()
        assert Fraction(int(mantissa)) * Fraction(2) ** int(exponent) == Fraction(v)
        assert ball.rad() == 0
    assert certified.balls(np.array([2**62 + 1])).elements[0] == flint.arb(2**62 + 1)
    assert certified.balls(np.float32([0.1])).contains(np.float32([0.1]).astype(float)).all()


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1j], [True], ["a"], np.ones(1, dtype=np.longdouble)])
def test_what_is_no_exact_real_number_is_refused(values):
    with pytest.raises(DTypeError, match="expected"):
        certified.balls(np.asarray(values))


@pytest.mark.parametrize("other", [np.ones(4), np.float64(2.0), 0.1, 1 / 3, True, 1j, "1", None])
@pytest.mark.parametrize("operate", ["__add__", "__rsub__", "__mul__", "__truediv__", "__lt__", "__rmul__"])
def test_operands_that_may_be_rounded_are_refused(operate, other):
    with pytest.raises(DTypeError, match="expected"):
        getattr(certified.balls(X), operate)(other)


def test_numpy_on_the_left_is_refused_too():
    with pytest.raises((DTypeError, TypeError)):
        np.ones(4) * certified.balls(X)
    with pytest.raises(TypeError, match="balls do not turn into floats by themselves"):
        np.asarray(certified.balls(X))


def test_constants_are_exactly_those_doubles():
    b = certified.balls(np.array([1.0]))
    assert (b * xp.constant(0.1, b)).contains(np.array([0.1])).all()
    assert not (b * xp.constant(0.1, b)).contains(BallArray(objects((1,), [flint.arb(1) / 10]))).any()
    with certified.precision(200):
        assert xp.pi(b).contains(BallArray(objects((), [flint.arb.pi()]))).all()
        assert not xp.pi(b).contains(np.array(np.pi)).any()


def test_open_questions_are_not_answered():
    b = wide([0.0], 1.0)
    with pytest.raises(UndecidedError, match="the balls overlap"):
        bool((b > 0.5)[0])
    assert bool((b > -2.0)[0])
    assert not bool((b > 2.0)[0])
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(b[0])
    assert xp.where(b > 0.5, b + 4.0, b).contains(np.array([5.0])).all()
    assert xp.where(b > 0.5, b + 4.0, b).contains(np.array([-1.0])).all()


def test_the_square_of_an_interval_is_not_negative():
    b = wide([0.0], 1.0)
    assert not (b * b).contains(np.array([-0.5])).any()
    assert not xp.square(b).contains(np.array([-0.5])).any()
    assert (b * wide([0.0], 1.0)).contains(np.array([-0.5])).all(), "two balls may hold two numbers"


def test_a_flow_against_exact_arithmetic():
    """NICE with linear networks is a polynomial map: rational arithmetic gives its latent exactly."""
    flow = _additive()
    x = np.array([[0.3, -1.7]])
    layer = flow.bijection.bijections[0]
    w, b = layer.conditioner.layers[0].weight, layer.conditioner.layers[0].bias
    a, c = (Fraction(float(v)) for v in x[0])
    want = c + a * Fraction(float(np.ravel(w)[0])) + Fraction(float(b[0]))
    with certified.precision(300):
        z = flow.to("balls").encode(certified.balls(x))
    exact = flint.arb(flint.fmpq(want.numerator, want.denominator))
    assert z.elements[0, 0].contains(flint.arb(x[0, 0]))
    assert z.elements[0, 1].overlaps(exact)
    assert z.radius().max() < 1e-80


def _additive():
    rng = np.random.default_rng(0)
    net = refflow.MLP.init(1, 1, rng=rng, hidden=())
    coupling = refflow.AdditiveCoupling(refflow.half_mask(2), net)
    flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.Chain((coupling,)))
    return refflow.bind(flow, xp.tree_map(lambda a: rng.standard_normal(a.shape), refflow.parameters(flow)))


def test_more_bits_tighter_and_nested():
    rng = np.random.default_rng(3)
    flow = refflow.realnvp(3, layers=4, hidden=(4,), seed=0)
    flow = refflow.bind(flow, xp.tree_map(lambda a: rng.standard_normal(a.shape), refflow.parameters(flow)))
    x, found = rng.standard_normal((3, 3)), {}
    for bits in (64, 128, 256):
        with certified.precision(bits):
            found[bits] = flow.to("balls").log_prob(certified.balls(x))
    for few, many in ((64, 128), (128, 256)):
        assert np.all(found[few].contains(found[many]))
        assert np.all(found[many].radius() < found[few].radius() * 2.0 ** (0.9 * (few - many)))
    np.testing.assert_allclose(found[256].midpoint(), flow.log_prob(x), rtol=1e-12)


def test_precision_is_given_back():
    before = flint.ctx.prec
    with pytest.raises(KeyError), certified.precision(300):
        raise KeyError
    assert flint.ctx.prec == before
