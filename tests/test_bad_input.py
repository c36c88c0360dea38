"""Bad input to the Python interface: one clear error that names what was expected, what came and what to do."""

import re

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import strategies
from refflow.errors import DataError, DTypeError, FileError, RefflowError, ShapeError, StructureError

FLOW = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
CONDITIONAL = refflow.realnvp(2, layers=2, hidden=(4,), context_dim=3, seed=0)
SINGLE = refflow.realnvp(2, layers=2, hidden=(4,), seed=0, dtype="float32")
COUNTS = refflow.realnvp(2, layers=2, hidden=(4,), dequantization=refflow.Dequantization(), seed=0)
X = np.random.default_rng(0).normal(size=(40, 2))
NET = refflow.MLP.init(1, 2, rng=np.random.default_rng(0), hidden=(3,))


def with_bad(value):
    x = X.copy()
    x[7, 1] = value
    return x


CASES = {
    # density and sampling
    "log_prob of a list": (lambda: FLOW.log_prob([[0.0, 1.0]]), DTypeError, "array of shape (..., 2), got a list"),
    "log_prob of other width": (lambda: FLOW.log_prob(np.zeros((3, 5))), ShapeError, "(..., 2), got (3, 5)"),
    "log_prob of a scalar array": (lambda: FLOW.log_prob(np.zeros(())), ShapeError, "(..., 2), got ()"),
    "log_prob of integers": (lambda: FLOW.log_prob(np.zeros((3, 2), dtype=int)), DTypeError, "Dequantise"),
    "log_prob of booleans": (lambda: FLOW.log_prob(np.zeros((3, 2), dtype=bool)), DTypeError, "floating dtype"),
    "log_prob of strings": (lambda: FLOW.log_prob(np.array([["a", "b"]])), DTypeError, "floating dtype"),
    "log_prob of objects": (lambda: FLOW.log_prob(np.array([[None, 1]])), DTypeError, "floating dtype"),
    "encode without context": (lambda: CONDITIONAL.encode(X), ShapeError, "context of shape (..., 3), got none"),
    "context of other width": (lambda: CONDITIONAL.log_prob(X, X), ShapeError, "(..., 3), got (40, 2)"),
    "context that is a list": (lambda: CONDITIONAL.log_prob(X, [1.0, 2.0, 3.0]), ShapeError, "got list"),
    "context of integers": (lambda: CONDITIONAL.log_prob(X, np.zeros((40, 3), dtype=int)), DTypeError, "context"),
    "context unasked for": (lambda: FLOW.log_prob(X, X), ShapeError, "unconditional"),
    "context rows that do not fit": (
        lambda: CONDITIONAL.log_prob(X, np.zeros((7, 3))), ShapeError, "(40,)"
    ),
    "another library": (lambda: FLOW.log_prob(strict_zeros()), DTypeError, "convert one of them first"),
    "a negative number of samples": (lambda: FLOW.sample(-1, seed=0), ShapeError, "n >= 0"),
    "half a sample": (lambda: FLOW.sample(2.5, seed=0), ShapeError, "n >= 0"),
    # training
    "fit on other width": (lambda: refflow.fit(FLOW, np.zeros((9, 3))), ShapeError, "(n, 2)"),
    "fit on one row without rows": (lambda: refflow.fit(FLOW, np.zeros(2)), ShapeError, "one row for each"),
    "fit on nothing": (lambda: refflow.fit(FLOW, np.zeros((0, 2))), DataError, "at least one row"),
    "fit on NaN": (lambda: refflow.fit(FLOW, with_bad(np.nan)), DataError, "nan at row 7, column 1"),
    "fit on inf": (lambda: refflow.fit(FLOW, with_bad(-np.inf)), DataError, "-inf at row 7, column 1"),
    "fit on integers": (lambda: refflow.fit(FLOW, np.arange(20).reshape(10, 2)), DataError, "Dequantization"),
    "fit on strings": (lambda: refflow.fit(FLOW, np.array([["a", "b"]] * 9)), DataError, "real numbers"),
    "fit on complex": (lambda: refflow.fit(FLOW, X + 1j), DataError, "real numbers"),
    "fit on a constant column": (lambda: refflow.fit(FLOW, X * [1.0, 0.0]), DataError, "constant columns [1]"),
    "fit with short weights": (lambda: refflow.fit(FLOW, X, weights=np.ones(3)), ShapeError, "one weight for each"),
    "fit with negative weights": (lambda: refflow.fit(FLOW, X, weights=-np.ones(40)), DataError, "non-negative"),
    "fit with NaN weights": (lambda: refflow.fit(FLOW, X, weights=np.full(40, np.nan)), DataError, "finite"),
    "fit without its context": (lambda: refflow.fit(CONDITIONAL, X), ShapeError, "context of shape (40, 3)"),
    "fit with NaN in the context": (
        lambda: refflow.fit(CONDITIONAL, X, context=np.full((40, 3), np.nan)), DataError, "context"
    ),
    "fit with no optimiser of that name": (lambda: refflow.fit(FLOW, X, optimizer="sgd"), StructureError, "adam"),
    "fit with no schedule of that name": (lambda: refflow.fit(FLOW, X, schedule="warm"), StructureError, "cosine"),
    "fit with a negative step": (lambda: refflow.fit(FLOW, X, learning_rate=-1.0), StructureError, "learning_rate"),
    "fit with all rows held out": (lambda: refflow.fit(FLOW, X, validation=1.0), RefflowError, "validation"),
    "score of integers": (lambda: refflow.score(FLOW, np.zeros((4, 2), dtype=int)), DataError, "Dequantization"),
    "score with no draws": (lambda: refflow.score(COUNTS, np.zeros((4, 2), int), draws=0), StructureError, "draw"),
    # putting models together
    "no dimensions": (lambda: refflow.realnvp(0, seed=0), StructureError, "dim >= 1, got 0"),
    "half a dimension": (lambda: refflow.nice(1.5, seed=0), StructureError, "dim >= 1, got 1.5"),
    "no layers": (lambda: refflow.realnvp(2, layers=0, seed=0), StructureError, "at least one layer"),
    "no mask of that name": (lambda: refflow.realnvp(2, mask="third", seed=0), StructureError, "half, alternating"),
    "no scale map of that name": (lambda: refflow.realnvp(2, scale="cube", seed=0), StructureError, "tanh"),
    "no activation of that name": (lambda: refflow.realnvp(2, activation="step", seed=0), StructureError, "relu"),
    "a bound that is no bound": (lambda: refflow.realnvp(2, bound=0.0, seed=0), StructureError, "positive"),
    "dropout of everything": (lambda: refflow.realnvp(2, dropout=1.0, seed=0), StructureError, "[0, 1)"),
    "a network that does not fit": (
        lambda: refflow.AffineCoupling(refflow.half_mask(4), NET), StructureError, "from 2 kept coordinates to 4"
    ),
    "a base that does not fit": (
        lambda: refflow.Flow(refflow.StandardNormal((3,)), FLOW.bijection), StructureError, "got a base"
    ),
    "an empty chain": (lambda: refflow.Chain(()), StructureError, "at least one bijection"),
    "a chain that disagrees": (
        lambda: refflow.Chain((FLOW.bijection, refflow.ElementwiseAffine.init((3,)))), StructureError, "event_shape"
    ),
    "an order with a gap": (lambda: refflow.Permutation((0, 2)), StructureError, "each of 0 .. 1 once"),
    "a mask that moves nothing": (lambda: refflow.Mask((3,), ()), StructureError, "at least one"),
    "a mask out of range": (lambda: refflow.Mask((3,), (3,)), StructureError, "[0, 3)"),
    "alpha of a half": (lambda: refflow.Logit(0.5), StructureError, "[0, 1/2)"),
    "bounds upside down": (lambda: refflow.Logit(0.0, 1.0, 0.0), StructureError, "low < high"),
    "no steps": (lambda: refflow.Dequantization(()), StructureError, "steps"),
    "standardise a constant": (lambda: refflow.standardize(np.ones((5, 2))), DataError, "constant"),
    "ActNorm from a constant": (
        lambda: refflow.ActNorm.init(2).initialized(np.ones((5, 2))), DataError, "channels [0, 1]"
    ),
    "bind of another structure": (lambda: refflow.bind(FLOW, {"bijection": ()}), StructureError, "parameters()"),
    "bind of other shapes": (
        lambda: refflow.bind(refflow.ElementwiseAffine.init((2,)), {"log_scale": np.zeros(3), "shift": np.zeros(2)}),
        StructureError, "expected shape (2,)",
    ),
    "bind of a list": (
        lambda: refflow.bind(refflow.ElementwiseAffine.init((2,)), {"log_scale": [0, 0], "shift": np.zeros(2)}),
        DTypeError, "expected an array",
    ),
    # the array layer
    "no array among operands": (lambda: xp.matmul("a", "b"), RefflowError, "array"),
    "split into other sizes": (lambda: xp.split(np.zeros(4), (1, 2)), ShapeError, "add up to 4"),
    "gradient of no scalar": (lambda: xp.value_and_grad(lambda v: v)(np.zeros(2)), ShapeError, "scalar"),
    # files
    "load nothing": (lambda: refflow.load("/nowhere/model"), FileError, "No such file"),
    "save nowhere": (lambda: FLOW.save("/nowhere/model"), FileError, "cannot write"),
    # the laws
    "laws at a list": (lambda: check([[0.0, 1.0]]), ShapeError, "NumPy array (n, *event)"),
    "laws at no rows": (lambda: check(np.zeros((0, 2))), ShapeError, "shape (0, 2)"),
    "laws at integers": (lambda: check(np.zeros((2, 2), dtype=int)), ShapeError, "of floats"),
    # numbers where a sequence is meant
    "an order that is a number": (lambda: refflow.LU.init(3), StructureError, "(3,) for order, got 3"),
    "an event shape that is a number": (lambda: refflow.StandardNormal(3), StructureError, "such as (2,), got 3"),
    "an image that is a number": (lambda: refflow.glow(8, seed=0), StructureError, "image shape (H, W, C), got 8"),
    "hidden as a number": (lambda: refflow.maf(2, hidden=32, seed=0), StructureError, "for hidden, got 32"),
    "hidden channels as a number": (
        lambda: refflow.glow((4, 4, 1), hidden=32, seed=0), StructureError, "for hidden, got 32",
    ),
    "residual channels as a number": (
        lambda: refflow.realnvp_image((4, 4, 1), hidden=32, blocks=1, seed=0), StructureError, "for hidden, got 32",
    ),
    "points of a number": (lambda: strategies.points(3), StructureError, "for event_shape, got 3"),
    "an array as preprocessing": (
        lambda: refflow.maf(2, preprocessing=X, seed=0), StructureError, "bijection or a list of them",
    ),
    "an array in preprocessing": (
        lambda: refflow.maf(2, preprocessing=[X], seed=0), StructureError, "bijection or a list of them",
    ),
}  # fmt: skip


def strict_zeros():
    import array_api_strict

    return array_api_strict.zeros((3, 2), dtype=array_api_strict.float64)


def check(x):
    from refflow.verification import check_laws

    return check_laws(FLOW, x)


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name):
    call, kind, text = CASES[name]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400


def test_float64_data_in_a_float32_flow_are_not_lost():
    """NumPy promotes, so the answer is float64 arithmetic on float32 parameters: no digit of the data is dropped."""
    assert SINGLE.log_prob(X).dtype == np.float64
    assert SINGLE.log_prob(X.astype(np.float32)).dtype == np.float32


def test_what_lies_outside_has_density_zero_and_nan_stays_nan():
    logit = refflow.Flow(refflow.StandardNormal((2,)), refflow.Logit())
    log_p = logit.log_prob(np.array([[0.5, 0.5], [1.5, 0.5], [np.nan, 0.5], [np.inf, 0.5]]))
    assert np.isfinite(log_p[0])
    assert log_p[1] == -np.inf
    assert np.isnan(log_p[2])
    assert log_p[3] == -np.inf
    assert np.isnan(logit.encode(np.array([[1.5, 0.5]]))).all()


def test_errors_are_of_one_family_and_of_the_builtin_kind():
    for kind, builtin in ((ShapeError, ValueError), (DTypeError, TypeError), (DataError, ValueError)):
        assert issubclass(kind, RefflowError)
        assert issubclass(kind, builtin)


def test_lists_of_maps_and_arrays_of_bounds_are_taken():
    chain = refflow.Chain([refflow.Reverse(), refflow.ElementwiseAffine.init((2,))])
    flow = refflow.Flow(refflow.Uniform(np.full(2, -1.0), np.full(2, 1.0)), chain)
    assert isinstance(chain.bijections, tuple)
    assert flow.base.low == (-1.0, -1.0)
    assert len(xp.leaves(refflow.parameters(flow))) == 2


def test_a_list_of_layers_elsewhere_is_named_not_lost():
    net = refflow.MLP.init(1, 2, rng=np.random.default_rng(0), hidden=(3,))
    coupling = refflow.AffineCoupling(refflow.half_mask(2), refflow.MLP(list(net.layers)))
    with pytest.raises(StructureError, match=r"expected a tuple of modules or arrays .* got a list"):
        refflow.parameters(coupling)
