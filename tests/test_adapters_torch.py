"""Flows of torch packages are recognised; sound ones pass faults are found, objects stay as they were."""

import copy
import threading
import warnings

import numpy as np
import pytest

import refflow
from refflow.errors import StructureError
from refflow.verification.adapters import recognise

torch = pytest.importorskip("torch")

CONTEXT = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32).astype(float)
VALUES = ("SH", "DT", "DE", "RT1", "RT2", "LD1", "LD2", "LD3", "CH", "BI", "PR")


def moved(module, scale=0.2):
    """The module with every parameter moved off its initial value, for zeros hide faults."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def sound(obj, **options):
    report = refflow.verify(obj, level="quick", only=VALUES, timeout=60.0, **options)
    assert report.ok, [(c.name, c.explanation) for c in report.of("fail")] + [report.error]
    variants = {c.variant for c in report.of("pass")}
    assert {"float64", "float32"} <= variants
    decided = {c.id for c in report.of("pass", "warn")}
    return report, decided


def failing(obj, **options):
    report = refflow.verify(obj, level="quick", timeout=60.0, **options)
    return {c.name for c in report.of("fail")}


def package(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


class Coupling(torch.nn.Module):
    """An affine coupling as anyone writes it; `sign` -1 is the fault."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.net, self.sign = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)), sign

    def forward(self, x):
        a, b = x.chunk(2, -1)
        s, t = self.net(a).chunk(2, -1)
        return torch.cat([a, b * s.exp() + t], -1), s.sum(-1)

    def inverse(self, y):
        a, b = y.chunk(2, -1)
        s, t = self.net(a).chunk(2, -1)
        return torch.cat([a, (b - t) * (-s).exp()], -1), -self.sign * s.sum(-1)


def test_a_module_of_ones_own_and_its_broken_twin():
    torch.manual_seed(0)
    _, decided = sound(moved(Coupling()), event_shape=4)
    assert {"RT1", "RT2", "LD1", "LD2", "LD3"} <= decided
    assert {"LD2[float64]", "LD3[float64]", "LD3[float32]"} <= failing(
        moved(Coupling(-1.0)), event_shape=4, only=VALUES
    )
    with pytest.raises(StructureError, match="event_shape"):
        refflow.verify(Coupling())


def nflows_items():
    T = package("nflows.transforms")
    from nflows.nn.nets import ResidualNet

    def net(i, o):
        return ResidualNet(i, o, hidden_features=8, num_blocks=1)

    mask = torch.tensor([1, 0, 1, 0])
    return {
        "affine coupling": (T.AffineCouplingTransform(mask, net), 4),
        "autoregressive": (T.MaskedAffineAutoregressiveTransform(4, 8, num_blocks=1), 4),
        "spline": (T.PiecewiseRationalQuadraticCouplingTransform(mask, net, tails="linear", num_bins=5), 4),
        "lu": (T.LULinear(4), 4), "actnorm": (T.ActNorm(4), 4), "squeeze": (T.SqueezeTransform(), (1, 2, 2)),
        "images": (T.CompositeTransform([T.OneByOneConvolution(2), T.ActNorm(2)]), (2, 2, 2)),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["affine coupling", "autoregressive", "spline", "lu", "actnorm", "squeeze", "images"])
def test_nflows_transforms(name):
    torch.manual_seed(0)
    obj, shape = nflows_items()[name]
    sound(moved(obj), event_shape=shape)


def nflows_flow(context=None):
    T, flows, bases = package("nflows.transforms"), package("nflows.flows"), package("nflows.distributions")
    layers = [T.MaskedAffineAutoregressiveTransform(3, 8, context_features=context, num_blocks=1), T.LULinear(3)]
    return moved(flows.Flow(T.CompositeTransform(layers), bases.StandardNormal([3])))


def test_nflows_flows_and_their_contexts():
    report, decided = sound(nflows_flow())
    assert "CH" in decided
    assert report.target == "Flow"
    sound(nflows_flow(2), context=CONTEXT)
    with pytest.raises(StructureError, match=r"context=.*\[2\]"):
        refflow.verify(nflows_flow(2))


def test_a_subclass_of_a_transform_by_someone_else():
    T = package("nflows.transforms")

    class Doubled(T.Transform):
        def forward(self, inputs, context=None):
            return 2.0 * inputs, inputs.new_full((len(inputs),), float(np.log(2.0)))  # of one coordinate, not of three

        def inverse(self, inputs, context=None):
            return 0.5 * inputs, inputs.new_full((len(inputs),), -float(np.log(2.0)))

    assert failing(Doubled(), event_shape=3, only=VALUES) == {"LD1[float64]", "LD2[float64]"}


def test_a_stale_cache_of_nflows_is_found():
    T = package("nflows.transforms")
    assert "ME[float64]" in failing(moved(T.LULinear(3, using_cache=True)), event_shape=3, only="ME")


def test_normflows():
    nf = package("normflows")
    torch.manual_seed(0)
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])
    for layer, shape in (
        (nf.flows.MaskedAffineFlow(mask, nf.nets.MLP([4, 8, 4]), nf.nets.MLP([4, 8, 4])), 4),
        (nf.flows.CoupledRationalQuadraticSpline(4, 1, 8), 4), (nf.flows.LULinearPermute(4), 4),
        (nf.flows.MaskedAffineAutoregressive(4, 8, num_blocks=1), 4), (nf.flows.Invertible1x1Conv(2), (2, 2, 2)),
    ):  # fmt: skip
        sound(moved(layer), event_shape=shape)
    report, _ = sound(nf.flows.ActNorm((4,)), event_shape=4)
    assert any("initialises itself" in remark for remark in report.remarks)


def test_normflows_models_sum_their_log_det_in_float32():
    nf = package("normflows")
    model = moved(nf.NormalizingFlow(nf.distributions.DiagGaussian(4), [nf.flows.LULinearPermute(4)] * 2))
    assert failing(model, only=VALUES) == {"DT[float64]", "CH[float64]"}  # both say that the sum is one of float32
    assert refflow.verify(model, only=VALUES, level="quick", dtype="float32").ok
    conditional = nf.ConditionalNormalizingFlow(model.q0, list(model.flows))
    with pytest.raises(StructureError, match="context"):
        refflow.verify(conditional)
    assert recognise(conditional, context=CONTEXT).sample(6, 0, CONTEXT.astype("f4")).shape == (6, 4)


@pytest.mark.parametrize("name", ["NICE", "MAF", "NSF"])
@pytest.mark.parametrize("context", [0, 2])
def test_zuko_flows(name, context):
    zuko = package("zuko")
    flow = moved(getattr(zuko.flows, name)(3, context, transforms=2, hidden_features=(8,)))
    _, decided = sound(flow, context=CONTEXT if context else None)
    assert {"RT1", "RT2", "CH"} <= decided
    if context:
        with pytest.raises(StructureError, match="context"):
            refflow.verify(flow)


def test_zuko_transforms_and_built_flows():
    zuko = package("zuko")
    sound(zuko.transforms.MonotonicRQSTransform(torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 4)), event_shape=3)
    sound(zuko.transforms.LULinearTransform(torch.randn(3, 3)), event_shape=3)
    sound(moved(zuko.flows.MAF(3, hidden_features=(8,)))())


def test_torch_distributions():
    T, D = torch.distributions.transforms, torch.distributions
    affine = T.AffineTransform(torch.randn(3), 2.0)
    chains = [T.ComposeTransform([affine, T.TanhTransform()]), T.ComposeTransform([affine, T.ExpTransform()], 1)]
    for transform in (affine, T.ExpTransform(), T.SigmoidTransform().inv, *chains):
        report, _ = sound(transform, event_shape=3)
        assert any("by construction" in remark for remark in report.remarks)
    logistic = D.TransformedDistribution(D.Uniform(torch.zeros(3), torch.ones(3)), [T.SigmoidTransform().inv, affine])
    sound(logistic)
    assert recognise(logistic).domain == (0.0, 1.0)
    assert recognise(T.ComposeTransform([T.TanhTransform(), T.AffineTransform(0.0, 2.0)]), event_shape=3).codomain == (
        -2.0, 2.0
    )  # fmt: skip
    for refused, why in ((T.StickBreakingTransform(), "fewer dimensions"), (T.SoftmaxTransform(), "bijective")):
        with pytest.raises(StructureError, match=why):
            refflow.verify(refused, event_shape=3)


def test_pyro():
    T, dist = package("pyro.distributions.transforms"), package("pyro.distributions")
    torch.manual_seed(0)
    for t in (T.affine_coupling(4, [8]), T.spline_coupling(4, hidden_dims=[8]), T.affine_autoregressive(4, [8]),
              T.householder(4, 2)):  # fmt: skip
        sound(moved(t), event_shape=4)
    sound(moved(T.conditional_affine_coupling(4, 2, [8])), event_shape=4, context=CONTEXT)
    base = dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1)
    sound(dist.TransformedDistribution(base, [moved(T.affine_coupling(4, [8])), T.permute(4)]))
    with pytest.raises(StructureError, match="context"):
        refflow.verify(T.conditional_affine_coupling(4, 2, [8]), event_shape=4)
    report = refflow.verify(T.planar(3), event_shape=3, level="quick", only=VALUES)
    assert report.ok
    assert any("no inverse" in remark for remark in report.remarks)


def test_freia():
    modules, framework = package("FrEIA.modules"), package("FrEIA.framework")

    def net(i, o):
        return torch.nn.Sequential(torch.nn.Linear(i, 8), torch.nn.Tanh(), torch.nn.Linear(8, o))

    torch.manual_seed(0)
    inn = framework.SequenceINN(4)
    inn.append(modules.GLOWCouplingBlock, subnet_constructor=net)
    inn.append(modules.PermuteRandom, seed=1)
    _, decided = sound(moved(inn))
    assert "CH" in decided
    conditional = framework.SequenceINN(4)
    conditional.append(modules.RNVPCouplingBlock, cond=0, cond_shape=(2,), subnet_constructor=net)
    sound(moved(conditional), context=CONTEXT)
    with pytest.raises(StructureError, match=r"\(M, 2\)"):
        refflow.verify(conditional)
    nodes = [framework.InputNode(4)]
    nodes.append(framework.Node(nodes[-1], modules.NICECouplingBlock, {"subnet_constructor": net}))
    sound(moved(framework.GraphINN([*nodes, framework.OutputNode(nodes[-1])])))
    images = framework.SequenceINN(1, 4, 4)
    images.append(modules.HaarDownsampling)
    sound(images)
    assert failing(moved(modules.LearnedElementwiseScaling([(3,)])), only=VALUES) >= {"LD2[float64]", "LD3[float64]"}


def test_the_callers_object_stays_as_it_was():
    flow = nflows_flow()
    flow.train()
    flow.log_prob(torch.zeros(1, 3)).sum().backward()
    before, grads = copy.deepcopy(flow.state_dict()), [p.grad.clone() for p in flow.parameters() if p.grad is not None]
    modes = [m.training for m in flow.modules()]
    outer, outer_numpy, kind = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype()  # noqa: NPY002
    refflow.verify(flow, level="quick")
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())
    after = [p.grad for p in flow.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(grads, after, strict=True))
    assert [m.training for m in flow.modules()] == modes
    assert torch.equal(torch.get_rng_state(), outer)
    assert np.array_equal(np.random.get_state()[1], outer_numpy)  # noqa: NPY002
    assert torch.get_default_dtype() == kind


def test_dropout_and_batch_statistics_are_a_mode_of_their_own():
    class Dropping(Coupling):
        def __init__(self):
            super().__init__()
            self.net.append(torch.nn.Dropout(0.5))

    report = refflow.verify(moved(Dropping()), event_shape=4, level="quick", only=VALUES)
    assert report.ok
    assert "DE[train]" in {c.name for c in report.of("warn")}


def test_a_map_that_writes_to_its_input_is_seen_to():
    class Writing(torch.nn.Module):
        def forward(self, x):
            return x.mul_(2.0), x.new_full((len(x),), float(3 * np.log(2.0)))

        def inverse(self, y):
            return 0.5 * y, y.new_full((len(y),), -float(3 * np.log(2.0)))

    x = np.ones((2, 3))
    recognise(Writing(), event_shape=3).forward(x)
    assert (x == 2.0).all()


def test_parameters_change_in_place_and_casts_follow():
    target = recognise(moved(Coupling()), event_shape=4)
    x = np.ones((2, 4), dtype=np.float32)
    before = target.forward(x)[1]
    target.set_parameters({k: v + 0.5 for k, v in target.parameters().items()})
    assert not np.array_equal(target.forward(x)[1], before)
    np.testing.assert_allclose(target.cast("float64").forward(x.astype(float))[1], target.forward(x)[1], rtol=1e-5)
    np.testing.assert_array_equal(target.fresh().forward(x)[1], before)


def test_a_leak_between_rows_is_found_where_rounding_is_not():
    class Picking(torch.nn.Module):
        """exp of the rows picked by a mask: they reach vectorised code at other positions as the batch changes."""

        def __init__(self, leak):
            super().__init__()
            self.leak = leak

        def forward(self, x):
            y = x.clone()
            y[x > 0] = torch.expm1(x[x > 0])
            return (y + self.leak * x.mean(0) if self.leak else y), torch.where(x > 0, x, 0.0 * x).sum(-1)

        def inverse(self, y):
            x = y.clone()
            x[y > 0] = torch.log1p(y[y > 0])
            return x, -torch.where(y > 0, x, 0.0 * x).sum(-1)

    assert not failing(Picking(0.0), event_shape=7, only="BI")
    assert "BI[float64]" in failing(Picking(1e-9), event_shape=7, only="BI")


def test_what_hangs_does_not_keep_the_output(capsys):
    class Hanging(Coupling):
        def inverse(self, y):
            import time

            time.sleep(0.6)
            return super().inverse(y)

    report = refflow.verify(Hanging(), event_shape=4, level="quick", only="RT1", timeout=0.2)
    print("still heard")
    assert not report.ok
    assert "still heard" in capsys.readouterr().out
    for thread in threading.enumerate():  # torch aborts a process that ends within a call of a daemon thread
        if thread.name == "refflow.verify target":
            thread.join(10.0)


def test_kinks_within_a_step_of_a_parameter_convict_no_gradient():
    """Residual networks of ReLUs: one table of differences was off by 4e-4 and sure of 1e-5."""
    pytest.importorskip("nflows")
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import AffineCouplingTransform, CompositeTransform, RandomPermutation
    from nflows.utils.torchutils import create_alternating_binary_mask

    torch.manual_seed(0)
    parts = [
        part
        for i in range(8)
        for part in (
            AffineCouplingTransform(
                create_alternating_binary_mask(8, even=i % 2 == 0), lambda a, b: ResidualNet(a, b, hidden_features=64)
            ),
            RandomPermutation(8),
        )
    ]
    flow = Flow(CompositeTransform(parts), StandardNormal([8])).eval()
    assert not failing(flow, only="GR")


def test_distributions_without_a_transform_are_densities():
    D = torch.distributions
    mixture = D.MixtureSameFamily(D.Categorical(torch.ones(2)), D.Normal(torch.tensor([-1.0, 2.0]), torch.ones(2)))
    wide = D.Normal(torch.zeros(3), torch.tensor([1.0, 2.0, 0.5]))
    for density in (mixture, wide, D.Gamma(torch.tensor(2.0), torch.tensor(1.0))):
        report = refflow.verify(density, level="standard")
        assert report.ok
        assert {"LP", "NM", "SA", "SN"} <= {check.id for check in report.of("pass")}
    wide.log_prob = lambda x: D.Normal.log_prob(wide, x) + 0.1
    assert {"NM"} <= {check.id for check in refflow.verify(wide).of("fail")}
    with pytest.raises(StructureError, match="discrete"):
        refflow.verify(D.Poisson(2.0))


def test_a_lazy_mixture_of_zuko():
    zuko = pytest.importorskip("zuko")
    context = np.random.default_rng(0).normal(size=(8, 2))
    assert refflow.verify(zuko.flows.GMM(2, 2, components=3), context=context).ok


class SinglePrecisionOnly(torch.nn.Module):
    """y = 2 x, with a constant that `.double()` does not reach."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 2.0))
        self.kept = [torch.eye(2)]

    def forward(self, x):
        return x @ self.kept[0] * self.weight, torch.full((len(x),), 2.0 * np.log(2.0), dtype=x.dtype)

    def inverse(self, y):
        return y @ self.kept[0] / self.weight, torch.full((len(y),), -2.0 * np.log(2.0), dtype=y.dtype)


def test_what_computes_in_float32_alone_is_not_accused_in_float32():
    report = refflow.verify(SinglePrecisionOnly(), event_shape=(2,), level="quick")
    assert {check.name for check in report.of("fail")} <= {"SH[float64]"}


def test_a_sampler_that_is_not_implemented_is_none():
    distributions = package("nflows.distributions.normal")
    report = refflow.verify(distributions.DiagonalNormal((2,)), event_shape=(2,))
    assert report.ok
    assert any("no sample" in remark for remark in report.remarks)
