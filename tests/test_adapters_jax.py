"""Adapters of JAX packages and scikit-learn's densities: sound transforms pass, faults are caught, objects are kept."""

import time

import numpy as np
import pytest

import refflow
from refflow.verification.adapters import recognise
from refflow.verification.guard import Guard, OutOfBudget, preparing

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _as_jax_starts():
    """Objects are built in float32, JAX's default, whatever tests before have set for the process."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


def passes(obj, **given):
    """The report of a sound transform at level quick: in both precisions, nothing fails."""
    report = refflow.verify(obj, level="quick", **given)
    assert report.ok, str(report)
    assert {check.variant for check in report.of("pass")} == {"float32", "float64"}, str(report)
    return report


def weights(*shape, seed=0, scale=0.5):
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def random_numbers(obj, scale, seed=0):
    """The pytree with other numbers: nothing is left at its initial 0."""
    rng = np.random.default_rng(seed)
    return jax.tree_util.tree_map(
        lambda v: v + jnp.asarray(scale * rng.standard_normal(v.shape), v.dtype)
        if isinstance(v, jax.Array) and v.dtype.kind == "f" else v, obj)  # fmt: skip


# --- flowjax


def flowjax_bijections():
    import flowjax.bijections as fb

    key = jax.random.key(0)
    net = {"nn_width": 8, "nn_depth": 1}
    return {
        "scalar": lambda: fb.Affine(1.5, 2.0),
        "image": lambda: fb.Affine(weights(2, 3, 3), jnp.full((2, 3, 3), 1.7)),
        "linear": lambda: random_numbers(fb.TriangularAffine(jnp.ones(3), jnp.eye(3) + 0.3), 0.3),
        "orthogonal": lambda: fb.Householder(jnp.arange(1.0, 4.0)),
        "planar": lambda: random_numbers(fb.Planar(key, dim=3, negative_slope=0.1), 1.0),
        "spline": lambda: fb.Vmap(random_numbers(fb.RationalQuadraticSpline(knots=4, interval=3), 1.0), axis_size=2),
        "coupling": lambda: fb.Coupling(key, transformer=fb.Affine(), untransformed_dim=2, dim=3, **net),
        "autoregressive": lambda: random_numbers(
            fb.MaskedAutoregressive(key, transformer=fb.Affine(), dim=3, cond_dim=2, **net), 0.3
        ),
        "half line": lambda: fb.Exp((2,)),
        "from the interval": lambda: fb.Invert(fb.Sigmoid((2,))),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["scalar", "image", "linear", "orthogonal", "planar", "spline", "coupling",
                                  "autoregressive", "half line", "from the interval"])  # fmt: skip
def test_sound_bijections_of_flowjax_pass(name):
    pytest.importorskip("flowjax")
    passes(flowjax_bijections()[name]())


def flowjax_flow(cond_dim=None):
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow

    return coupling_flow(
        jax.random.key(0), base_dist=StandardNormal((3,)), cond_dim=cond_dim, flow_layers=3, nn_width=8
    )


def test_a_conditional_flow_of_flowjax_passes_and_is_not_touched():
    pytest.importorskip("flowjax")
    flow = flowjax_flow(cond_dim=2)
    before = [np.array(v) for v in jax.tree_util.tree_leaves(flow) if isinstance(v, jax.Array)]
    on = jax.config.jax_enable_x64
    report = passes(flow)
    assert jax.config.jax_enable_x64 == on
    after = [v for v in jax.tree_util.tree_leaves(flow) if isinstance(v, jax.Array)]
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))
    assert {c.id for c in report.of("pass")} >= {"RT1", "RT2", "LD1", "LD2", "LD3", "CH", "BI", "PR"}


def test_layers_of_flowjax_are_the_flow_in_the_precision_of_the_target():
    pytest.importorskip("flowjax")
    target = recognise(flowjax_flow()).cast("float64")
    x = np.random.default_rng(0).standard_normal((5, 3))
    y, total = x, 0.0
    for layer in target.layers:
        y, term = layer.forward(y)
        total = total + term
    assert len(target.layers) == 6
    whole, log_det = target.forward(x)
    assert whole.dtype == y.dtype == np.float64
    np.testing.assert_allclose(y, whole, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(total, log_det, rtol=1e-13, atol=1e-13)


def test_densities_of_flowjax_are_sampled_and_differentiated():
    pytest.importorskip("flowjax")
    target = recognise(flowjax_flow(cond_dim=2), context=np.ones((4, 2))).cast("float64")
    c = np.random.default_rng(0).standard_normal((7, 2))
    x, log_p = target.sample_and_log_prob(7, 3, c)
    assert x.shape == (7, 3)
    assert log_p.shape == (7,)
    assert target.to_base == "inverse"
    np.testing.assert_array_equal(target.sample(7, 3, c), x)
    assert not np.array_equal(target.sample(7, 4, c), x)
    np.testing.assert_allclose(target.log_prob(x, c), log_p, rtol=1e-12)
    z, log_det = target.inverse(x, c)
    np.testing.assert_allclose(target.base_log_prob(z, c) + log_det, log_p, rtol=1e-12)
    step = 1e-5 * np.eye(3)
    slopes = [(target.log_prob(x + e, c) - target.log_prob(x - e, c)) / 2e-5 for e in step]
    np.testing.assert_allclose(target.gradient(x, c), np.stack(slopes, axis=1), rtol=1e-6, atol=1e-6)
    by_parameter = target.parameter_gradient(x, c)
    assert by_parameter
    assert all(np.isfinite(v).all() for v in by_parameter.values())
    assert any(np.abs(v).max() > 0.0 for v in by_parameter.values())


def test_a_wrong_sign_in_a_bijection_of_flowjax_is_caught():
    pytest.importorskip("flowjax")
    from flowjax.bijections import Affine

    class Wrong(Affine):
        def inverse_and_log_det(self, y, condition=None):
            x, log_det = super().inverse_and_log_det(y, condition)
            return x, -log_det

    report = refflow.verify(Wrong(jnp.ones(3), jnp.arange(2.0, 5.0)), level="quick")
    assert {(c.id, c.variant) for c in report.of("fail")} == {
        ("LD3", "float32"),
        ("LD3", "float64"),
        ("LD2", "float64"),
    }


# --- distrax


def distrax_coupling(d=3, dtype=jnp.float32):
    import distrax

    w1, w2 = weights(d, 8).astype(dtype), weights(8, 2 * d, seed=1).astype(dtype)

    def affine(p):
        shift, log_scale = jnp.split(p, 2, axis=-1)
        return distrax.ScalarAffine(shift=shift, log_scale=jnp.tanh(log_scale))

    return distrax.MaskedCoupling(jnp.arange(d) % 2 == 0, lambda x: jnp.tanh(x @ w1) @ w2, affine)


def distrax_bijectors():
    import distrax

    matrix = weights(3, 3) + jnp.eye(3)
    return {
        "coupling": distrax_coupling,
        "spline": lambda: distrax.RationalQuadraticSpline(weights(3, 16), -3.0, 3.0),
        "triangular": lambda: distrax.TriangularLinear(matrix),
        "linear": lambda: distrax.UnconstrainedAffine(matrix, weights(3)),
        "lu": lambda: distrax.LowerUpperTriangularAffine(matrix, weights(3)),
        "diagonal": lambda: distrax.DiagLinear(jnp.arange(1.0, 4.0)),
        "low rank": lambda: distrax.DiagPlusLowRankLinear(jnp.arange(1.0, 4.0), weights(3, 1), weights(3, 1)),
        "scalar": lambda: distrax.ScalarAffine(0.3, scale=1.7),
        "log scale": lambda: distrax.ScalarAffine(weights(3), log_scale=weights(3, seed=2)),
        "squash": lambda: distrax.Inverse(distrax.Tanh()),
        "chain": lambda: distrax.Chain([distrax_coupling(), distrax.TriangularLinear(matrix)]),
        "flow": lambda: distrax.Transformed(
            distrax.MultivariateNormalDiag(jnp.zeros(3), jnp.ones(3)), distrax_coupling()
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["coupling", "spline", "triangular", "linear", "lu", "diagonal", "low rank", "scalar",
                                  "log scale", "squash", "chain", "flow"])  # fmt: skip
def test_sound_bijectors_of_distrax_pass(name):
    pytest.importorskip("distrax")
    passes(distrax_bijectors()[name](), event_shape=(3,))


def test_numbers_that_distrax_computed_are_computed_anew():
    distrax = pytest.importorskip("distrax")
    from refflow.verification.adapters.distrax_flows import recast

    wide = recast(distrax.ScalarAffine(0.0, scale=jnp.float32(3.0)), "float64")
    assert float(wide._inv_scale) == 1.0 / 3.0
    held = recast(distrax.DiagLinear(jnp.full(2, 3.0)), "float64").forward.__self__._bijector
    assert held._inv_scale.dtype == np.float64


def test_an_object_that_cannot_be_made_anew_is_asked_in_its_own_precision():
    distrax = pytest.importorskip("distrax")

    class Doubled(distrax.Bijector):
        def __init__(self, size):
            super().__init__(event_ndims_in=0)
            self._log = jnp.log(jnp.float32(size))
            self._size_twice = jnp.float32(2 * size)

        def forward_and_log_det(self, x):
            return x * self._size_twice / 2, jnp.broadcast_to(self._log, x.shape)

        def inverse_and_log_det(self, y):
            return y * 2 / self._size_twice, jnp.broadcast_to(-self._log, y.shape)

    report = refflow.verify(Doubled(3.0), event_shape=(2,), level="quick")
    assert report.ok, str(report)
    assert any("float32 only" in remark for remark in report.remarks)


def test_a_leak_between_rows_is_not_hidden():
    distrax = pytest.importorskip("distrax")

    class Leaky(distrax.Bijector):
        def forward_and_log_det(self, x):
            return x + x.mean(axis=0), jnp.zeros(x.shape)

        def inverse_and_log_det(self, y):
            return y - y.mean(axis=0) / 2, jnp.zeros(y.shape)

    report = refflow.verify(Leaky(event_ndims_in=0), event_shape=(2,), only="BI")
    assert {c.name for c in report.of("fail")} == {"BI[float32]", "BI[float64]"}


def test_samples_of_distrax_agree_with_its_density():
    pytest.importorskip("distrax")
    target = recognise(distrax_bijectors()["flow"]())
    x, log_p = target.sample_and_log_prob(6, 0)
    assert x.shape == (6, 3)
    assert log_p.shape == (6,)
    np.testing.assert_allclose(target.log_prob(x), log_p, rtol=1e-5)
    assert target.to_base == "inverse"
    assert target.gradient(x).shape == (6, 3)


# --- TensorFlow Probability


def tfp_bijectors(tfp, array, xp):
    tfb = tfp.bijectors
    w1, w2 = array(weights(2, 8)), array(weights(8, 4, seed=1))
    lower = array(np.tril(np.asarray(weights(4, 4)) + 2.0 * np.eye(4)))
    masked = array(np.tril(np.asarray(weights(4, 4)), -1))

    def net(x, n, **_):
        p = xp.tanh(x @ w1) @ w2
        return p[..., :2], xp.tanh(p[..., 2:])

    def made(x):
        h = x @ masked.T
        return xp.stack([h, xp.tanh(h)], axis=-1)

    return {
        "coupling": lambda: tfb.RealNVP(2, shift_and_log_scale_fn=net),
        "autoregressive": lambda: tfb.MaskedAutoregressiveFlow(made),
        "linear": lambda: tfb.ScaleMatvecTriL(lower),
        "scale of Python": lambda: tfb.Scale(2.5),
        "half line": lambda: tfb.Exp(),
        "interval": lambda: tfb.Invert(tfb.NormalCDF()),
        "tails": lambda: tfb.SinhArcsinh(skewness=0.3, tailweight=1.5),
        "chain": lambda: tfb.Chain([tfb.RealNVP(2, shift_and_log_scale_fn=net), tfb.ScaleMatvecTriL(lower)]),
        "flow": lambda: tfp.distributions.TransformedDistribution(
            tfp.distributions.Sample(tfp.distributions.Normal(array(0.0), array(1.0)), 4), tfb.ScaleMatvecTriL(lower)
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["coupling", "autoregressive", "linear", "scale of Python", "half line", "interval",
                                  "tails", "chain", "flow"])  # fmt: skip
def test_sound_bijectors_of_tfp_on_jax_pass(name):
    tfp = pytest.importorskip("tensorflow_probability.substrates.jax")
    passes(tfp_bijectors(tfp, lambda v: jnp.asarray(v, jnp.float32), jnp)[name](), event_shape=(4,))


@pytest.mark.parametrize("name", ["coupling", "scale of Python", "half line"])
def test_sound_bijectors_of_tfp_on_numpy_pass(name):
    tfp = pytest.importorskip("tensorflow_probability.substrates.numpy")
    passes(tfp_bijectors(tfp, lambda v: np.asarray(v, np.float32), np)[name](), event_shape=(4,))


def test_a_tfp_spline_that_does_not_compile_is_run_all_the_same():
    tfp = pytest.importorskip("tensorflow_probability.substrates.jax")
    spline = tfp.bijectors.RationalQuadraticSpline(
        bin_widths=jnp.full((2, 4), 1.5), bin_heights=jnp.asarray([[1.0, 2.0, 2.0, 1.0]] * 2),
        knot_slopes=jnp.full((2, 3), 0.7), range_min=-3.0,
    )  # fmt: skip
    report = refflow.verify(spline, event_shape=(2,), level="quick", only=["SH", "DT", "DE"])
    assert report.ok, str(report)
    assert len(report.of("pass")) == 6
    assert sum("does not compile" in remark for remark in report.remarks) == 2


# --- functions and equinox modules


def sinh_pair(sign=1.0):
    return (
        lambda x: (jnp.sinh(x), jnp.log(jnp.cosh(x)).sum(-1)),
        lambda y: (jnp.arcsinh(y), -sign * 0.5 * jnp.log1p(y * y).sum(-1)),
    )


def test_functions_of_jax_are_asked_in_both_precisions():
    forward, inverse = sinh_pair()
    passes((forward, inverse), event_shape=(2,))
    passes(None, forward=jax.jit(forward), inverse=inverse, event_shape=(2,))


def test_a_wrong_function_of_jax_is_caught():
    report = refflow.verify(sinh_pair(-1.0), event_shape=(2,), level="quick")
    assert {c.id for c in report.of("fail")} == {"LD2", "LD3"}


def test_an_equinox_module_of_one_point_is_mapped():
    eqx = pytest.importorskip("equinox")

    class Shear(eqx.Module):
        a: jax.Array

        def forward(self, x):
            return x.at[1].add(jnp.tanh(self.a * x[0])), jnp.zeros(())

        def inverse(self, y):
            return y.at[1].add(-jnp.tanh(self.a * y[0])), jnp.zeros(())

    report = passes(Shear(jnp.float32(1.3)), event_shape=(2,))
    assert any("one point at a time" in remark for remark in report.remarks)


# --- scikit-learn


@pytest.mark.parametrize("name", ["GaussianMixture", "BayesianGaussianMixture", "KernelDensity"])
def test_densities_of_scikit_learn_are_copied_and_seeded(name):
    pytest.importorskip("sklearn")
    from sklearn import mixture, neighbors

    x = np.random.default_rng(0).standard_normal((60, 2))
    density = (
        neighbors.KernelDensity() if name == "KernelDensity" else getattr(mixture, name)(n_components=2, random_state=1)
    )
    density.fit(x)
    target = recognise(density)
    first = target.sample(9, 5)
    assert first.shape == (9, 2)
    assert target.log_prob(x).shape == (60,)
    assert target.event_shape == (2,)
    np.testing.assert_array_equal(target.sample(9, 5), first)
    assert not np.array_equal(target.sample(9, 6), first)
    assert getattr(density, "random_state", 1) == 1
    np.testing.assert_array_equal(target.log_prob(x), density.score_samples(x))


# --- what they share


def test_padded_programs_give_each_row_what_it_gets_alone():
    pytest.importorskip("flowjax")
    forward = recognise(flowjax_flow()).cast("float64").forward
    x = np.random.default_rng(0).standard_normal((130, 3))
    whole, log_det = forward(x)
    assert whole.shape == (130, 3)
    assert log_det.shape == (130,)
    assert forward(x[:0])[0].shape == (0, 3)
    for i in (0, 127, 128, 129):
        np.testing.assert_array_equal(forward(x[i : i + 1])[0][0], whole[i])
    changed = np.full_like(x, np.nan)
    changed[5] = x[5]
    np.testing.assert_array_equal(forward(changed)[0][5], whole[5])


def test_float64_is_float64_and_float32_float32_whatever_the_user_has_set():
    seen = []

    def forward(x):
        seen.append(x.dtype.name)
        return jnp.exp(x), x.sum(-1)

    target = recognise(None, forward=forward, event_shape=(2,))
    for name in ("float32", "float64"):
        seen.clear()
        y, log_det = target.cast(name).forward(np.ones((3, 2), dtype=name))
        assert y.dtype == log_det.dtype == name
        assert set(seen) <= {name}
    with pytest.raises(TypeError, match="complex"):
        target.forward(np.ones((1, 2), dtype=complex))


def test_one_precision_alone_is_the_one_asked_for():
    report = refflow.verify(sinh_pair(), event_shape=(2,), level="quick", dtype="float64", only="DT")
    assert report.ok, str(report)


def test_preparations_are_not_charged_to_a_budget():
    guard = Guard(10.0)

    def slow():
        with preparing():
            time.sleep(0.3)
        return 1

    try:
        with guard.budget(0.2):
            assert guard("slow", slow) == guard("slow", slow) == 1
            guard("idle", time.sleep, 0.25)
            with pytest.raises(OutOfBudget):
                guard("idle", time.sleep, 0.0)
    finally:
        guard.close()


def test_floats_that_belong_together_keep_their_digits():
    flowjax = pytest.importorskip("flowjax.bijections")
    report = refflow.verify(flowjax.LeakyTanh(3.0, (2,)), level="standard", only=["ED", "PR"])
    assert {check.status for check in report.checks} <= {"pass", "skipped"}
