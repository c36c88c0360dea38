"""What a hostile review showed of the kit: correct code that it accused, and faults that it passed."""

import numpy as np
import pytest

import refflow
from refflow.verification.bounds import Statistic, decide

LOG = np.log(0.5)


def failed(**given):
    report = refflow.verify(**given)
    assert not report.error
    return {check.id for check in report.of("fail")}


def scaled(x):
    """y = 2 x."""
    return 2.0 * x, np.full(len(x), x[0].size * np.log(2.0), dtype=x.dtype)


def unscaled(y):
    return 0.5 * y, np.full(len(y), -y[0].size * np.log(2.0), dtype=y.dtype)


SCALED = {"forward": scaled, "inverse": unscaled}


def test_a_box_that_is_all_of_space_is_none():
    everything = (-np.inf, np.inf)
    assert not failed(**SCALED, event_shape=(2,), domain=everything, codomain=everything)


@pytest.mark.parametrize("low", [1e4, 2100.0, 1e6])
def test_a_box_of_few_numbers(low):
    def forward(x):
        return x - x.dtype.type(low), np.zeros(len(x), dtype=x.dtype)

    def inverse(y):
        return y + y.dtype.type(low), np.zeros(len(y), dtype=y.dtype)

    boxes = {"domain": (low, low + 1.0), "codomain": (0.0, 1.0)}
    report = refflow.verify(forward=forward, inverse=inverse, event_shape=(2,), **boxes)
    assert not [check for check in report.checks if "IndexError" in check.explanation]


def leaky(x):
    """Slopes 1 and 1/e: log_det is minus the number of coordinates below 0, exact in float32."""
    return np.where(x < 0.0, x * np.exp(x.dtype.type(-1)), x), -(x < 0.0).sum(axis=1).astype(x.dtype)


def unleaky(y):
    return np.where(y < 0.0, y * np.exp(y.dtype.type(1)), y), (y < 0.0).sum(axis=1).astype(y.dtype)


def test_log_dets_that_are_exact_in_float32():
    assert "PR" not in failed(forward=leaky, inverse=unleaky, event_shape=(50,))


def test_a_table_that_was_saved_in_float32():
    table = np.random.default_rng(0).normal(size=10).astype(np.float32)
    classes = np.eye(10)

    def chosen(c, x):
        return (c @ table.astype(np.float64)).astype(x.dtype)[:, None]

    def forward(x, c):
        return x * np.exp(chosen(c, x)), chosen(c, x)[:, 0]

    def inverse(y, c):
        return y * np.exp(-chosen(c, y)), -chosen(c, y)[:, 0]

    assert not failed(forward=forward, inverse=inverse, event_shape=(1,), context=classes)


def test_contexts_that_are_indices():
    scales = np.array([0.5, 1.0, 3.0])

    def of(c, x):
        return scales[c[:, 0].astype(int)].astype(x.dtype)

    def forward(x, c):
        return x * of(c, x)[:, None], 2.0 * np.log(of(c, x))

    def inverse(y, c):
        return y / of(c, y)[:, None], -2.0 * np.log(of(c, y))

    assert not failed(forward=forward, inverse=inverse, event_shape=(2,), context=np.array([[0.0], [1.0], [2.0]]))


def test_an_offset_that_leaves_nothing_of_float32_is_a_loss_of_digits():
    def forward(x):
        return (x + x.dtype.type(1e12)) - x.dtype.type(1e12), np.zeros(len(x), dtype=x.dtype)

    assert not {"RT1", "RT2"} & failed(forward=forward, inverse=forward, event_shape=(2,), dtype="float64")


def normal_log_prob(x):
    return -0.5 * np.sum(x * x, axis=1) - 0.5 * x.shape[1] * np.log(2.0 * np.pi)


def normal_sample(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 2))


NORMAL = {"log_prob": normal_log_prob, "sample": normal_sample, "event_shape": (2,)}


def test_a_density_alone_passes():
    assert not failed(**NORMAL)


def writes(x):
    found = normal_log_prob(x)
    x *= 2.0
    return found


def leaks(x):
    return normal_log_prob(x) + 0.05 * np.tanh(x[0].sum())


def in_float32(x):
    return normal_log_prob(x).astype(np.float32).astype(x.dtype)


@pytest.mark.parametrize(("log_prob", "id"), [(writes, "AL"), (leaks, "LP"), (in_float32, "PR")])
def test_faults_of_a_density_alone(log_prob, id):
    assert id in failed(**NORMAL | {"log_prob": log_prob}, dtype="float64")


@pytest.mark.parametrize("dim", [10, 50])
def test_the_last_coordinate_is_looked_at(dim):
    """A tail of slope 3 beyond 7 whose log_det is 0."""

    def forward(x):
        y = x.copy()
        out = np.abs(x[:, -1]) > 7.0
        y[out, -1] = np.sign(x[out, -1]) * (7.0 + 3.0 * (np.abs(x[out, -1]) - 7.0))
        return y, np.zeros(len(x))

    assert "ED" in failed(forward=forward, event_shape=(dim,), dtype="float64")


def test_a_wrong_log_det_in_one_bin_is_found():
    def forward(x):
        return x, 0.5 * ((x > 0.30) & (x < 0.35)).sum(axis=1).astype(x.dtype)

    def inverse(y):
        return y, -forward(y)[1]

    assert {"ED"} & failed(forward=forward, inverse=inverse, event_shape=(1,), dtype="float64")


def test_a_statistic_that_cannot_be_taken_again_decides_nothing():
    def once(n, seed):
        return [Statistic("it", 2.0, 1.0)] if seed == 0 else None

    assert decide("law", once, 100, 0).status == "inconclusive"


def test_a_rare_narrow_mode_is_no_fault_of_its_samples():
    """(1 - w) N(0, 1) + w N(300, 1e-4): what quadrature cannot see of it is granted."""
    w, width = 6e-4, 1e-4

    def log_prob(x):
        a = np.log1p(-w) - 0.5 * x[:, 0] ** 2
        b = np.log(w / width) - 0.5 * ((x[:, 0] - 300.0) / width) ** 2
        return np.logaddexp(a, b) - 0.5 * np.log(2.0 * np.pi)

    for m in (117, 139, 182):

        def sample(n, seed, m=m):
            rng = np.random.default_rng([m, seed])
            far = rng.uniform(size=n) < w
            return np.where(far, 300.0 + width * rng.normal(size=n), rng.normal(size=n))[:, None]

        given = {"log_prob": log_prob, "sample": sample, "event_shape": (1,), "dtype": "float64"}
        assert not failed(**given, level="deep", only=["SA", "NM"])


def test_an_epsilon_in_a_torch_module_is_a_fault():
    torch = pytest.importorskip("torch")

    class Coupling(torch.nn.Module):
        """y = (softplus(u) + eps) x, with the epsilon forward only."""

        def __init__(self, eps):
            super().__init__()
            self.net, self.eps = torch.nn.Linear(1, 2), eps

        def parts(self, x):
            u, t = self.net(x[:, :1]).split(1, dim=1)
            return torch.nn.functional.softplus(u), t

        def forward(self, x):
            s, t = self.parts(x)
            s = s + self.eps
            return torch.cat([x[:, :1], x[:, 1:] * s + t], 1), s.log().sum(1)

        def inverse(self, y):
            s, t = self.parts(y)
            return torch.cat([y[:, :1], (y[:, 1:] - t) / s], 1), -s.log().sum(1)

    torch.manual_seed(0)
    assert not failed(target=Coupling(0.0), event_shape=(2,))
    assert {"RT1", "LD3"} & failed(target=Coupling(1e-6), event_shape=(2,))


def test_bounded_bases_of_torch():
    torch = pytest.importorskip("torch")
    D = torch.distributions
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    logistic = D.TransformedDistribution(D.Uniform(0.0 * one, one), [D.SigmoidTransform().inv])
    for density in (logistic, D.Gumbel(one, two), D.Weibull(one, two), D.Kumaraswamy(one, two), D.HalfNormal(two)):
        assert not failed(target=density)
    with pytest.raises(refflow.errors.StructureError, match="no one box"):
        refflow.verify(D.Uniform(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 9.0])))


def broken(*arguments):
    raise ValueError("max() arg is an empty sequence")


def test_what_the_kit_itself_raises_is_not_the_targets(monkeypatch):
    from refflow.verification import edges, outcomes

    monkeypatch.setattr(outcomes, "OWN", (*outcomes.OWN, __file__))
    monkeypatch.setattr(edges, "places", broken)
    report = refflow.verify(**SCALED, event_shape=(2,), only=["ED"])
    assert {check.status for check in report.checks} == {"inconclusive"}
    assert all("the kit itself failed" in check.explanation for check in report.checks)


def test_a_flow_trained_in_float32_passes_in_float64():
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    flow = refflow.nsf(3, seed=0, dtype="float32", linear=None, preprocessing=[refflow.standardize(x)])
    report = refflow.verify(flow, level="quick")
    assert report.ok
    assert {check.variant for check in report.checks} == {"float32", "float64"}


def module(**methods):
    torch = pytest.importorskip("torch")

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = torch.nn.Linear(2, 4)

        def parts(self, x):
            s, t = self.net(x[:, :2]).chunk(2, 1)
            return torch.tanh(s), t

        def forward(self, x):
            s, t = self.parts(x)
            return torch.cat([x[:, :2], x[:, 2:] * s.exp() + t], 1), s.sum(1)

        def inverse(self, y):
            s, t = self.parts(y)
            return torch.cat([y[:, :2], (y[:, 2:] - t) * (-s).exp()], 1), -s.sum(1)

    return type("Made", (Own,), methods)()


def normal(z):
    return -0.5 * (z * z).sum(1) - 2.0 * np.log(2.0 * np.pi)


def test_a_module_that_casts_its_input_is_judged_in_float32():
    def forward(self, x):
        return type(self).__mro__[1].forward(self, x.float())

    def wrong(self, y):
        x, log_det = type(self).__mro__[1].inverse(self, y.float())
        return x, -log_det

    right = refflow.verify(module(forward=forward), event_shape=(4,))
    assert not right.of("fail")
    assert any("float32 only" in remark for remark in right.remarks)
    assert "LD3" in failed(target=module(forward=forward, inverse=wrong), event_shape=(4,))


def test_an_inverse_without_a_graph_is_no_fault():
    torch = pytest.importorskip("torch")

    def hidden(self, y):
        with torch.no_grad():
            return type(self).__mro__[1].inverse(self, y)

    report = refflow.verify(module(inverse=hidden), event_shape=(4,))
    assert report.ok
    assert any("without a graph" in remark for remark in report.remarks)


def test_a_log_prob_with_an_unknown_base_is_not_passed():
    def tilted(self, x):
        z, log_det = self.forward(x)
        return normal(z) + log_det + 0.1 * x[:, 0]

    def right(self, x):
        z, log_det = self.forward(x)
        return normal(z) + log_det

    def statuses(**given):
        report = refflow.verify(event_shape=(4,), only=["LP"], **given)
        return [check.status for check in report.checks]

    assert statuses(target=module(log_prob=right)) == ["pass", "pass"]
    assert statuses(target=module(log_prob=tilted)) == ["inconclusive", "inconclusive"]
    assert statuses(target=module(log_prob=tilted), base_log_prob=normal) == ["fail", "fail"]


def test_one_number_for_all_rows_is_told_by_its_shape():
    found = refflow.verify(**NORMAL | {"log_prob": lambda x: normal_log_prob(x).mean()})
    assert {check.id for check in found.of("fail")} == {"SH"}
    assert not [check for check in found.checks if "kit itself" in check.explanation]


def test_what_is_no_flow_is_named():
    with pytest.raises(refflow.errors.StructureError, match="instance"):
        refflow.verify(dict, event_shape=(2,))
    with pytest.raises(refflow.errors.StructureError, match="an object or functions"):
        refflow.verify(refflow.realnvp(2, seed=0), forward=scaled)


def test_a_lone_number_of_float64_does_not_make_a_module_one():
    torch = pytest.importorskip("torch")
    own = module()
    own.rate = torch.nn.Parameter(torch.tensor(np.log(0.5)))  # float64, as NumPy's numbers are
    report = refflow.verify(own, event_shape=(4,), level="quick")
    assert report.ok
    assert report.checks[0].variant == "float32"
