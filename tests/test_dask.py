"""Flows of Dask arrays: nothing is computed until it is asked for, block by block, with NumPy's numbers."""

import numpy as np
import pytest
from matrix import LIBRARIES

import refflow
from refflow import arrays as xp
from refflow.errors import DTypeError, ShapeError
from refflow.modules import map_arrays

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

FLOW = refflow.realnvp(3, layers=2, hidden=(4,), seed=0)
GIVEN = refflow.realnvp(3, layers=2, hidden=(4,), context_dim=2, seed=0)
X, CONTEXT = np.random.default_rng(0).normal(size=(7, 3)), np.random.default_rng(1).normal(size=(7, 2))


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def unasked(monkeypatch):
    """Make any computation of Dask's an error until it is allowed."""

    def refuse(*args, **kwargs):
        raise AssertionError("computed before it was asked for")

    with monkeypatch.context() as patch:
        patch.setattr("dask.base.get_scheduler", refuse)
        yield patch.undo


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_values_blocks_and_dtype(unasked, rows, columns):
    x = da.from_array(X, chunks=(rows, columns))
    found = {"log_prob": FLOW.log_prob(x), "encode": FLOW.encode(x), "decode": FLOW.decode(x)}
    for name, got in found.items():
        want = getattr(FLOW, name)(X)
        assert isinstance(got, da.Array)
        assert (got.shape, got.dtype, got.chunks[0]) == (want.shape, want.dtype, x.chunks[0])
    unasked()
    for name, got in found.items():
        blocks = [getattr(FLOW, name)(X[i : i + rows]) for i in range(0, len(X), rows)]
        np.testing.assert_array_equal(got.compute(), np.concatenate(blocks))


def test_contexts_have_the_blocks_of_the_rows():
    x, want = da.from_array(X, chunks=(3, 2)), GIVEN.log_prob(X, CONTEXT)
    for context in (da.from_array(CONTEXT, chunks=(3, 1)), da.from_array(CONTEXT, chunks=(2, 2)), CONTEXT):
        np.testing.assert_allclose(GIVEN.log_prob(x, context).compute(), want, rtol=1e-14)
    one = GIVEN.log_prob(x, CONTEXT[0])
    np.testing.assert_allclose(one.compute(), GIVEN.log_prob(X, CONTEXT[0]), rtol=1e-14)


def test_batches_of_any_rank():
    x = np.random.default_rng(2).normal(size=(4, 5, 3))
    got = FLOW.log_prob(da.from_array(x, chunks=(2, 3, 1)))
    assert got.chunks == ((2, 2), (3, 2))
    np.testing.assert_allclose(got.compute(), FLOW.log_prob(x), rtol=1e-14)
    assert FLOW.log_prob(da.from_array(x[0, 0], chunks=1)).shape == ()


def test_float32_stays_float32():
    flow = map_arrays(lambda a: a.astype("float32"), FLOW)
    got = flow.log_prob(da.from_array(X.astype("float32"), chunks=2))
    assert got.dtype == got.compute().dtype == np.float32
    assert flow.sample(4, seed=0, chunks=2).dtype == flow.sample(4, seed=0, chunks=2).compute().dtype == np.float32


def test_samples_are_drawn_in_blocks(unasked):
    x, log_p = FLOW.sample_and_log_prob(7, seed=5, chunks=3)
    assert (x.shape, x.chunks[0], log_p.shape, log_p.chunks) == ((7, 3), (3, 3, 1), (7,), ((3, 3, 1),))
    unasked()
    values, again = x.compute(), FLOW.sample(7, seed=5, chunks=3).compute()
    np.testing.assert_array_equal(values, again)
    np.testing.assert_allclose(log_p.compute(), FLOW.log_prob(values), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(values[3:6], FLOW.sample(3, seed=np.random.default_rng((5, 1))))
    assert len(np.unique(values)) == values.size
    assert not np.array_equal(values, FLOW.sample(7, seed=6, chunks=3).compute())


def test_samples_for_each_context():
    x, log_p = GIVEN.sample_and_log_prob(2, da.from_array(CONTEXT, chunks=(3, 2)), seed=0)
    assert (x.shape, x.chunks[1], log_p.shape) == ((2, 7, 3), (3, 3, 1), (2, 7))
    np.testing.assert_allclose(log_p.compute(), GIVEN.log_prob(x.compute(), CONTEXT[None]), rtol=1e-12, atol=1e-12)
    assert GIVEN.sample(2, CONTEXT, seed=0, chunks=4).chunks[1] == (4, 3)


def test_what_does_not_fit_is_refused_before_the_graph():
    with pytest.raises(ShapeError, match=r"expected a Dask array of shape \(..., 3\), got \(7, 2\)"):
        FLOW.log_prob(da.from_array(CONTEXT, chunks=2))
    with pytest.raises(DTypeError, match="expected x of a floating dtype"):
        FLOW.log_prob(da.zeros((4, 3), dtype=int))
    with pytest.raises(ShapeError, match=r"expected a context of shape \(7, 2\)"):
        GIVEN.log_prob(da.from_array(X, chunks=2), CONTEXT[:3])
    with pytest.raises(ShapeError, match="expected a number n >= 0"):
        FLOW.sample(-1, seed=0, chunks=2)
    with pytest.raises(ShapeError, match=r"expected a context of shape \(n, 2\)"):
        GIVEN.sample(1, da.from_array(X, chunks=2), seed=0)


def test_blocks_of_another_library_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(
        DTypeError, match="expected blocks of torch arrays like the flow's parameters, got blocks of num"
    ):
        FLOW.to("torch").log_prob(da.from_array(X, chunks=2))
    assert torch.is_tensor(xp.leaves(refflow.parameters(FLOW.to("torch")))[0])


@pytest.mark.gpu
@pytest.mark.skipif(bool(LIBRARIES["cupy"].missing), reason=LIBRARIES["cupy"].missing or "cupy is here")
def test_blocks_on_a_gpu():
    import cupy

    flow = FLOW.to("cupy")
    x = da.from_array(cupy.asarray(X), chunks=(3, 3), asarray=False)
    got = flow.log_prob(x)
    assert isinstance(got._meta, cupy.ndarray)
    np.testing.assert_allclose(got.compute().get(), FLOW.log_prob(X), rtol=1e-12)
    assert isinstance(flow.sample(4, seed=0, chunks=2).compute(), cupy.ndarray)
