"""A flow's `context_preprocessing`: every door leads through it once, and it is data, not parameters."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow import certified
from refflow.errors import DataError, StructureError
from refflow.jobs import build
from refflow.modules import arrays, named_arrays, tree_equal
from refflow.tables import Table
from refflow.tasks import table_task

RNG = np.random.default_rng(3)
AGES = np.column_stack([RNG.uniform(20.0, 80.0, 40), RNG.normal(-3.0, 0.01, 40)])
STANDARD = refflow.standardize(AGES)


def flows(recipe=refflow.realnvp, **options):
    """A flow with random parameters, without and with the preprocessing of its context."""
    plain = recipe(3, layers=2, hidden=(4,), activation="tanh", context_dim=2, seed=0, **options)
    plain = refflow.bind(plain, xp.tree_map(lambda a: RNG.normal(size=a.shape), refflow.parameters(plain)))
    return plain, refflow.modules.replace(plain, context_preprocessing=STANDARD)


PLAIN, FLOW = flows()
X = RNG.normal(size=(40, 3))
HAND = (AGES - AGES.mean(axis=0)) / AGES.std(axis=0)


def close(a, b):
    assert np.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_every_door_leads_through_it_once():
    """What the flow makes of raw contexts is what its map makes of contexts standardised by hand."""
    close(FLOW.log_prob(X, AGES), PLAIN.log_prob(X, HAND))
    close(FLOW.encode(X, AGES), PLAIN.encode(X, HAND))
    close(FLOW.decode(X, AGES), PLAIN.decode(X, HAND))
    for a, b in zip(FLOW.sample_and_log_prob(2, AGES, seed=1), PLAIN.sample_and_log_prob(2, HAND, seed=1), strict=True):
        close(a, b)
    close(FLOW.log_prob(X, AGES[0]), PLAIN.log_prob(X, HAND[0]))
    close(refflow.score(FLOW, X, AGES).log_prob, PLAIN.log_prob(X, HAND))


def test_dask_blocks_and_balls_too():
    da = pytest.importorskip("dask.array")
    x, context = da.from_array(X, chunks=(7, 3)), da.from_array(AGES, chunks=(7, 2))
    close(FLOW.log_prob(x, context).compute(), PLAIN.log_prob(X, HAND))
    close(FLOW.encode(x, AGES[0]).compute(), PLAIN.encode(X, HAND[0]))
    assert FLOW.sample(2, context, seed=0).compute().shape == (2, 40, 3)
    with certified.precision(80):
        balls = FLOW.to("balls").log_prob(certified.balls(X[:2]), certified.balls(AGES[:2]))
    close(balls.midpoint(), PLAIN.log_prob(X[:2], HAND[:2]))


def test_torch_and_jax_move_it_along_and_gradients_pass_it_by():
    torch = pytest.importorskip("torch")
    there = FLOW.to("torch")
    close(there.log_prob(torch.asarray(X), torch.asarray(AGES)).detach().numpy(), PLAIN.log_prob(X, HAND))
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        there = FLOW.to("jax")
        log_prob = jax.jit(lambda flow, x, context: flow.log_prob(x, context))
        close(log_prob(there, X, AGES), PLAIN.log_prob(X, HAND))
        gradient = jax.grad(lambda flow: flow.log_prob(jax.numpy.asarray(X), jax.numpy.asarray(AGES)).sum())(there)
    assert gradient.context_preprocessing is there.context_preprocessing


def test_it_does_not_train_and_is_in_the_file(tmp_path):
    assert refflow.modules.parameters(FLOW).keys() == refflow.modules.parameters(PLAIN).keys()
    assert [n for n in named_arrays(FLOW) if n.startswith("context_preprocessing.")]
    loaded = refflow.load(FLOW.save(tmp_path / "flow.safetensors"))
    assert tree_equal(arrays(loaded), arrays(FLOW))
    assert np.array_equal(loaded.log_prob(X, AGES), FLOW.log_prob(X, AGES))
    assert "context_preprocessing=Frozen" in repr(loaded)
    assert "context_preprocessing=None" in repr(PLAIN)


def test_what_does_not_fit_is_refused():
    with pytest.raises(StructureError, match="of 2 context columns"):
        refflow.realnvp(3, context_dim=2, context_preprocessing=refflow.standardize(X), seed=0)
    with pytest.raises(StructureError, match="unconditional"):
        refflow.realnvp(3, context_preprocessing=refflow.Reverse(), seed=0)
    with pytest.raises(StructureError, match="a bijection or a list"):
        refflow.realnvp(3, preprocessing=[X], seed=0)


@pytest.mark.parametrize("name", ["nice", "realnvp", "nsf", "maf", "iaf", "nsf_ar"])
def test_every_recipe_of_vectors_takes_it_and_a_single_map_and_a_base(name):
    base = refflow.StudentT(5.0, np.zeros(3), np.zeros(3))
    flow = getattr(refflow, name)(
        3, layers=1, hidden=(4,), context_dim=2, preprocessing=refflow.standardize(X), context_preprocessing=STANDARD,
        base=base, seed=0,
    )  # fmt: skip
    assert flow.context_preprocessing is STANDARD
    assert isinstance(flow.bijection.bijections[0], refflow.Frozen)
    assert flow.base is base
    assert np.isfinite(flow.log_prob(X, AGES)).all()


@pytest.mark.parametrize("name", ["glow", "realnvp_image"])
def test_recipes_of_images_take_it_too_and_initialize_keeps_it(name):
    flow = getattr(refflow, name)((2, 2, 1), hidden=(4,), context_dim=2, context_preprocessing=STANDARD, seed=0)
    images = RNG.normal(size=(40, 2, 2, 1))
    assert refflow.initialize(flow, images, AGES).context_preprocessing is STANDARD


def test_a_table_of_ages_trains_a_model_whose_context_is_of_unit_scale():
    """y = age / 10 + noise: with the raw context the network saturates; the job standardises by the training rows."""
    age = RNG.uniform(20.0, 80.0, 400)
    y = age / 10.0 + 0.1 * RNG.normal(size=400)
    task = table_task(Table(np.column_stack([y, age]), ("y", "age")), "t", seed=0, context=["age"])
    flow = build(task, "maf", 0, "float32", layers=2, hidden=(8,))
    prepared = flow.prepare_context(task.train.context)
    assert np.allclose([prepared.mean(), prepared.std()], [0.0, 1.0], atol=1e-5)
    assert flow.context_preprocessing.bijection.mean.dtype == np.float32


def test_a_constant_context_column_is_named():
    table = Table(np.column_stack([X, np.ones(40)]), ("a", "b", "c", "dose"))
    with pytest.raises(DataError, match=r"constant columns \['dose'\]"):
        table_task(table, "t", seed=0, context=["dose"])
