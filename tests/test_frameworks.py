"""Flows in torch and JAX: their autodiff, vmap and compilation see plain calls, and training is theirs."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = jax.numpy
jax.config.update("jax_enable_x64", True)

FLOW = refflow.realnvp(3, layers=2, hidden=(4,), activation="tanh", context_dim=2, seed=0)
X, CONTEXT = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(5, 2))


def close(a, b):
    """Equal up to 1e-12 of the largest entry: what libraries whose elementary functions differ agree to."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, np.abs(b).max()))


@pytest.fixture(scope="module")
def flow():
    rng = np.random.default_rng(2)
    return refflow.bind(FLOW, xp.tree_map(lambda a: 0.5 * rng.standard_normal(a.shape), refflow.parameters(FLOW)))


@pytest.fixture(scope="module")
def wanted(flow):
    """The mean log-density's gradient in the parameters, by NumPy and autograd."""
    mean = lambda tree: xp.mean(refflow.bind(flow, tree).log_prob(X, CONTEXT))  # noqa: E731
    return xp.value_and_grad(mean)(refflow.parameters(flow))[1]


@pytest.fixture(scope="module")
def jacobian(flow):
    """dz/dx of the first row by the complex step, which is exact to rounding."""
    step, columns = 1e-30, []
    for i in range(3):
        x = X[:1].astype(complex)
        x[0, i] += 1j * step
        columns.append(flow.encode(x, CONTEXT[:1])[0].imag / step)
    return np.stack(columns, axis=-1)


def test_torch_differentiates_parameters(flow, wanted):
    there = flow.to("torch")
    leaves = [a.requires_grad_() for a in xp.leaves(refflow.parameters(there))]
    there.log_prob(torch.asarray(X), torch.asarray(CONTEXT)).mean().backward()
    for got, want in zip(leaves, xp.leaves(wanted), strict=True):
        close(got.grad, want)


def test_torch_func_takes_the_tree(flow, wanted):
    there = flow.to("torch")
    mean = lambda tree: refflow.bind(there, tree).log_prob(torch.asarray(X), torch.asarray(CONTEXT)).mean()  # noqa: E731
    xp.tree_map(close, torch.func.grad(mean)(refflow.parameters(there)), wanted)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own call
def test_torch_vmap_and_jacobians_take_single_events(flow, jacobian):
    there = flow.to("torch")
    x, context = torch.asarray(X), torch.asarray(CONTEXT)
    close(torch.func.vmap(there.log_prob)(x, context), flow.log_prob(X, CONTEXT))
    for jac in (torch.func.jacrev, torch.func.jacfwd):
        close(jac(there.encode)(x[0], context[0]), jacobian)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_torch_compiles(flow):
    there = flow.to("torch")
    traced = torch.compile(there.log_prob, backend="eager", fullgraph=False)
    close(traced(torch.asarray(X), torch.asarray(CONTEXT)), flow.log_prob(X, CONTEXT))


def test_jax_differentiates_the_tree_compiled_or_not(flow, wanted):
    there = flow.to("jax")
    mean = lambda tree: refflow.bind(there, tree).log_prob(jnp.asarray(X), jnp.asarray(CONTEXT)).mean()  # noqa: E731
    for grad in (jax.grad(mean), jax.jit(jax.grad(mean))):
        xp.tree_map(close, wanted, grad(refflow.parameters(there)))


def test_jax_vmap_and_jacobians_take_single_events(flow, jacobian):
    there = flow.to("jax")
    x, context = jnp.asarray(X), jnp.asarray(CONTEXT)
    close(jax.jit(jax.vmap(there.log_prob))(x, context), flow.log_prob(X, CONTEXT))
    for jac in (jax.jacrev, jax.jacfwd):
        close(jax.jit(jac(there.encode))(x[0], context[0]), jacobian)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_samples_and_inverses_are_numpys(flow, library):
    there = flow.to(library)
    x, log_p = there.sample_and_log_prob(4, xp.asarray(CONTEXT, like=xp.leaves(refflow.parameters(there))[0]), seed=3)
    want, log_want = flow.sample_and_log_prob(4, CONTEXT, seed=3)
    assert xp.library(x) == xp.library(log_p) == library
    close(xp.to_numpy(x), want)
    close(xp.to_numpy(log_p), log_want)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_training_here_says_where_to_train(flow, library):
    with pytest.raises(refflow.errors.DTypeError, match=r"expected NumPy or CuPy arrays, got .*: differentiate with"):
        refflow.fit(flow.to(library), X, context=CONTEXT, epochs=1, seed=0)


def with_statistics():
    """A flow with weights to train and statistics, of columns with spread, that must not."""
    x = np.random.default_rng(4).normal(2.0, 3.0, size=(64, 3))
    return refflow.realnvp(3, layers=2, hidden=(4,), preprocessing=[refflow.standardize(x)], seed=0), x


def test_leaves_of_a_flow_in_jax_are_its_parameters(flow):
    there = flow.to("jax")
    leaves, structure = jax.tree.flatten(there)
    for got, want in zip(leaves, xp.leaves(refflow.parameters(there)), strict=True):
        assert got is want
    again = jax.tree.unflatten(structure, leaves)
    assert repr(again) == repr(there)
    assert jax.tree.structure(again) == structure
    assert hash(structure) == hash(jax.tree.structure(flow.to("jax")))
    assert jax.tree.structure(flow.to("jax")) == structure, "nothing frozen: structure is compared by value"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(there)[0]]
    assert paths[0] == ".bijection.bijections[0].conditioner.layers[0].weight"


def test_jax_grad_of_a_flow_is_a_flow_of_gradients(flow, wanted):
    there = flow.to("jax")
    mean = lambda flow: flow.log_prob(jnp.asarray(X), jnp.asarray(CONTEXT)).mean()  # noqa: E731
    for grad in (jax.grad(mean), jax.jit(jax.grad(mean))):
        found = grad(there)
        assert isinstance(found, refflow.Flow)
        xp.tree_map(close, wanted, refflow.parameters(found))


def test_jax_vmap_takes_flows_and_ensembles_of_them(flow):
    there, other = flow.to("jax"), jax.tree.map(lambda a: 2.0 * a, flow.to("jax"))
    x, context = jnp.asarray(X), jnp.asarray(CONTEXT)
    call = lambda flow, x, context: flow.log_prob(x, context)  # noqa: E731
    close(jax.vmap(call, in_axes=(None, 0, 0))(there, x, context), flow.log_prob(X, CONTEXT))
    both = jax.tree.map(lambda *a: jnp.stack(a), there, other)
    axes = jax.tree.map(lambda a: 0, both)
    for found in (
        jax.vmap(call, (0, None, None))(both, x, context),
        jax.vmap(call, (axes, None, None))(both, x, context),
    ):
        close(found, np.stack([f.log_prob(x, context) for f in (there, other)]))


RECIPES = {
    "nice": lambda: refflow.nice(2, layers=2, hidden=(3,), seed=0),
    "realnvp": lambda: refflow.realnvp(2, layers=2, hidden=(3,), actnorm=True, linear="lu", seed=0),
    "nsf": lambda: refflow.nsf(2, layers=1, hidden=(3,), bins=2, seed=0),
    "maf": lambda: refflow.maf(2, layers=1, hidden=(3,), seed=0),
    "iaf": lambda: refflow.iaf(2, layers=1, hidden=(3,), seed=0),
    "nsf_ar": lambda: refflow.nsf_ar(2, layers=1, hidden=(3,), bins=2, seed=0),
    "nsf_circular": lambda: refflow.nsf_circular(2, layers=1, hidden=(3,), bins=2, seed=0),
    "realnvp_image": lambda: refflow.realnvp_image((2, 2, 1), couplings=1, hidden=(3,), seed=0),
    "realnvp_image, residual": lambda: refflow.realnvp_image((2, 2, 1), couplings=1, hidden=(3,), blocks=1, seed=0),
    "glow": lambda: refflow.glow((2, 2, 1), steps=1, hidden=(3,), seed=0),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_in_jax_moves_the_parameters_of_every_recipe_and_nothing_else(recipe, tmp_path):
    """Compiled, with a gradient and a decay of every leaf; then home, into a file and back."""
    flow = RECIPES[recipe]()
    x = np.random.default_rng(6).uniform(-1.0, 1.0, (5, *flow.event_shape))
    there = flow.to("jax")
    leaves, wanted = jax.tree.leaves(there), xp.leaves(refflow.parameters(there))
    assert len(leaves) == len(wanted)
    assert all(a is b for a, b in zip(leaves, wanted, strict=True))

    @jax.jit
    def step(flow):
        gradient = jax.grad(lambda flow: -flow.log_prob(jnp.asarray(x)).mean())(flow)
        return jax.tree.map(lambda a, g: 0.9 * a - 0.01 * g - 0.01, flow, gradient)

    moved = step(step(there))
    assert step._cache_size() == 1
    home = moved.to("numpy")
    home.save(tmp_path / "moved.safetensors")
    want = np.asarray(moved.log_prob(jnp.asarray(x)))
    assert np.all(np.isfinite(want))
    for again in (home, refflow.load(tmp_path / "moved.safetensors")):
        np.testing.assert_allclose(again.log_prob(x), want, rtol=1e-9, atol=1e-9)


def test_flows_moved_thrice_compile_once():
    """Frozen statistics are compared by value, others compile anew; unknown ones, of a flow moved inside, do too."""
    flow, data = with_statistics()
    other = refflow.realnvp(3, layers=2, hidden=(4,), preprocessing=[refflow.standardize(2.0 * data)], seed=0)
    log_prob = jax.jit(lambda flow, x: flow.log_prob(x))
    for _ in range(3):
        close(log_prob(flow.to("jax"), jnp.asarray(data)), flow.log_prob(data))
    assert log_prob._cache_size() == 1
    close(log_prob(other.to("jax"), jnp.asarray(data)), other.log_prob(data))
    assert log_prob._cache_size() == 2
    close(jax.jit(lambda x: log_prob(flow.to("jax"), x))(jnp.asarray(data)), flow.log_prob(data))


def test_optax_trains_a_flow_compiled_once_and_leaves_the_frozen_alone():
    optax = pytest.importorskip("optax")
    flow, data = with_statistics()
    there, x, optimizer = flow.to("jax"), jnp.asarray(data), optax.adamw(1e-2, weight_decay=0.1)
    loss = lambda flow: -flow.log_prob(x).mean()  # noqa: E731

    @jax.jit
    def step(flow, state):
        value, gradient = jax.value_and_grad(loss)(flow)
        updates, state = optimizer.update(gradient, state, flow)
        return optax.apply_updates(flow, updates), state, value

    state, losses = optimizer.init(there), []
    moved = there
    for _ in range(20):
        moved, state, value = step(moved, state)
        losses.append(float(value))
    assert step._cache_size() == 1
    assert losses[-1] < losses[0]
    home = moved.to("numpy")
    for old, new in zip(_frozen(flow), _frozen(home), strict=True):
        np.testing.assert_array_equal(old, new)
    close(home.log_prob(data), moved.log_prob(x))


def _frozen(flow):
    statistics = flow.bijection.bijections[0]
    assert isinstance(statistics, refflow.Frozen)
    return xp.leaves(refflow.modules.arrays(statistics))


def test_classes_of_users_are_pytrees_from_the_next_move_on():
    @refflow.module
    class Scale(refflow.Bijection):
        amount: np.ndarray

        def forward(self, x, context=None):
            return self.amount * x, xp.sum(xp.log(self.amount)) + xp.zeros(x.shape[:-1], like=x)

        def inverse(self, y, context=None):
            return y / self.amount, xp.zeros(y.shape[:-1], like=y) - xp.sum(xp.log(self.amount))

    there = Scale(np.full(2, 2.0)).to("jax")
    gradient = jax.jit(jax.grad(lambda f: f.forward(jnp.ones((1, 2)))[1].sum()))(there)
    close(gradient.amount, np.full(2, 0.5))


def test_torch_optim_trains_what_parameters_gives():
    flow, data = with_statistics()
    there, x = flow.to("torch"), torch.asarray(data)
    optimizer = torch.optim.Adam([a.requires_grad_() for a in xp.leaves(refflow.parameters(there))], lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = -there.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    home = there.to("numpy")
    assert losses[-1] < losses[0]
    for old, new in zip(_frozen(flow), _frozen(home), strict=True):
        np.testing.assert_array_equal(old, new)
    close(home.log_prob(data), there.log_prob(x).detach())
    assert not np.array_equal(home.log_prob(data), flow.log_prob(data)), "the flow that was moved is untouched"
