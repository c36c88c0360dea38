"""LP NM SA SN ME GR of `verify`: seeded faults in a foreign flow are caught, and their clean twins are silent."""

from dataclasses import replace

import numpy as np
import pytest

import refflow
from refflow.verification import kit, normalisation, runs, samples_follow_base, stein
from refflow.verification.bounds import Statistic, decide
from refflow.verification.gradients import along, gradients
from refflow.verification.sampling import sampling
from refflow.verification.targets import Target
from refflow.verification.verdicts import LawViolation

ASKED = "LP NM SA SN ME GR".split()


@pytest.fixture(autouse=True)
def time_enough(monkeypatch, time_for_all_checks):
    """Verdicts, not the machine's load: no check runs out of time here."""
    patient = {name: replace(level, budget=600.0, total=6000.0) for name, level in runs.LEVELS.items()}
    monkeypatch.setattr(kit, "LEVELS", patient)


class Foreign:
    """x -> z: a coupling of two coordinates between two affine maps, in plain NumPy; z normal. D = 2."""

    def __init__(self, scale=1.0, dtype="float64"):
        rng = np.random.default_rng(3)
        self.p = {
            name: (size * rng.standard_normal(2)).astype(dtype)
            for name, size in {"a": 0.3 * min(scale, 3.0), "b": scale, "w": 0.5 * min(scale, 3.0)}.items()
        }
        self.dtype = dtype

    def parts(self, x):
        a, b, w = (self.p[name].astype(x.dtype) for name in "abw")
        u = x * np.exp(a) + b
        s = np.tanh(w[0] * u[:, :1] + w[1])
        return a, u, s

    def forward(self, x):
        a, u, s = self.parts(x)
        z = np.concatenate([u[:, :1], u[:, 1:] * np.exp(s) + np.sin(u[:, :1])], axis=1)
        return z, (a.sum() + s[:, 0]).astype(x.dtype)

    def inverse(self, z):
        a, b, w = (self.p[name].astype(z.dtype) for name in "abw")
        s = np.tanh(w[0] * z[:, :1] + w[1])
        u = np.concatenate([z[:, :1], (z[:, 1:] - np.sin(z[:, :1])) * np.exp(-s)], axis=1)
        return (u - b) * np.exp(-a), (-a.sum() - s[:, 0]).astype(z.dtype)

    def base(self, z):
        return -0.5 * np.sum(z**2, axis=1) - np.log(2.0 * np.pi).astype(z.dtype)

    def log_prob(self, x):
        z, log_det = self.forward(x)
        return self.base(z) + log_det

    def noise(self, n, seed):
        return np.random.default_rng(seed).standard_normal((n, 2)).astype(self.dtype)

    def sample(self, n, seed):
        return self.inverse(self.noise(n, seed))[0]

    def sample_and_log_prob(self, n, seed):
        z = self.noise(n, seed)
        x, log_det = self.inverse(z)
        return x, self.base(z) - log_det

    def gradient(self, x):
        """By the complex step."""
        steps = [x + 1e-30j * e for e in np.eye(2)]
        return np.stack([np.imag(self.log_prob(point)) / 1e-30 for point in steps], axis=1)

    def parameters(self):
        return {name: np.array(p) for name, p in self.p.items()}

    def set_parameters(self, p):
        self.p = {name: np.array(value) for name, value in p.items()}

    def parameter_gradient(self, x):
        def slope(name, e):
            moved = object.__new__(type(self))
            moved.__dict__.update(self.__dict__)
            moved.p = self.p | {name: self.p[name] + 1e-30j * e}
            return float(np.imag(Foreign.log_prob(moved, x.astype(complex)).sum()) / 1e-30)

        return {name: np.array([slope(name, e) for e in np.eye(2)]) for name in self.p}


def ask(make, level="standard", base=True, **more):
    flow = make()
    functions = {name: getattr(flow, name) for name in (
        "forward", "inverse", "log_prob", "sample", "sample_and_log_prob", "parameters", "set_parameters",
    )}  # fmt: skip
    if flow.dtype == "float64":
        functions |= {"gradient": flow.gradient, "parameter_gradient": flow.parameter_gradient}
    if base:
        functions |= {"base_log_prob": flow.base, "to_base": "forward"}
    return refflow.verify(
        **functions | more, event_shape=(2,), level=level, only=ASKED, dtype=flow.dtype, name=type(flow).__name__
    )


def failed(report):
    return {check.id for check in report.of("fail")}


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_clean_flow_is_silent(scale, dtype):
    report = ask(lambda: Foreign(scale, dtype))
    assert report.ok, report
    assert {check.id for check in report.of("pass")} >= {"LP", "SA", "SN", "ME"}


def test_neither_base_nor_direction_need_be_told():
    report = ask(Foreign, base=False)
    assert not report.of("fail", "warn", "inconclusive"), report


class Named:
    """Faults, with the checks that catch them and what is said of the cause."""

    faults: dict = {}  # noqa: RUF012

    @classmethod
    def fault(cls, name, caught, cause="", level="standard"):
        def add(flow):
            cls.faults[name] = flow, set(caught.split()), cause, level
            return flow

        return add


fault = Named.fault


@fault("base's constant missing", "LP NM", "log 2 pi is missing")
class _(Foreign):
    def base(self, z):
        return -0.5 * np.sum(z**2, axis=1)


@fault("constant missing in log_prob", "LP NM", "log 2 pi is missing")
class _(Foreign):
    def log_prob(self, x):
        return super().log_prob(x) + np.log(2.0 * np.pi)


@fault("log_det subtracted", "LP SN", "log_det is subtracted")
class _(Foreign):
    def log_prob(self, x):
        z, log_det = self.forward(x)
        return self.base(z) - log_det


@fault("log_det doubled", "LP", "log_det is counted twice")
class _(Foreign):
    def log_prob(self, x):
        z, log_det = self.forward(x)
        return self.base(z) + 2.0 * log_det


@fault("a temperature in log_prob", "LP SN", "temperature of 0.9")
class _(Foreign):
    def log_prob(self, x):
        z, log_det = self.forward(x)
        return self.base(z / 0.9) - 2.0 * np.log(0.9) + log_det


@fault("log_prob of the batch's mean", "LP")
class _(Foreign):
    def log_prob(self, x):
        return super().log_prob(x) - super().log_prob(x).mean()


@fault("NaN scored", "LP")
class _(Foreign):
    def log_prob(self, x):
        return np.nan_to_num(super().log_prob(x), nan=-1e3)


@fault("a sample's density without its log_det", "LP", level="quick")
class _(Foreign):
    def sample_and_log_prob(self, n, seed):
        z = self.noise(n, seed)
        return self.inverse(z)[0], self.base(z)


@fault("samples at temperature 0.9", "SA")
class _(Foreign):
    def noise(self, n, seed):
        return 0.9 * super().noise(n, seed)

    def sample_and_log_prob(self, n, seed):
        x = self.sample(n, seed)
        return x, self.log_prob(x)


@fault("samples at temperature 0.97", "SA", level="deep")
class _(Foreign):
    def noise(self, n, seed):
        return 0.97 * super().noise(n, seed)

    def sample_and_log_prob(self, n, seed):
        x = self.sample(n, seed)
        return x, self.log_prob(x)


@fault("every sample twice", "SA", level="quick")
class _(Foreign):
    def noise(self, n, seed):
        return np.concatenate([super().noise((n + 1) // 2, seed)] * 2)[:n]


@fault("samples in the wrong direction", "SA SN")
class _(Foreign):
    def sample(self, n, seed):
        return self.forward(self.noise(n, seed))[0]


@fault("seed ignored", "SA", level="quick")
class _(Foreign):
    def noise(self, n, seed):
        return super().noise(n, 0)


@fault("seed not used at all", "SA", level="quick")
class _(Foreign):
    def noise(self, n, seed):
        return np.random.default_rng().standard_normal((n, 2))

    def sample_and_log_prob(self, n, seed):
        x = self.sample(n, seed)
        return x, self.log_prob(x)


@fault("sample() initialises the affine map", "ME", level="quick")
class _(Foreign):
    ready = False

    def sample(self, n, seed):
        if not self.ready:
            self.ready, self.p["b"] = True, self.p["b"] - 0.25
        return super().sample(n, seed)


@fault("the inverse keeps old parameters", "ME", level="quick")
class _(Foreign):
    kept = None

    def inverse(self, z):
        self.kept = self.kept or self.p
        now, self.p = self.p, self.kept
        found = super().inverse(z)
        self.p = now
        return found


@fault("log_prob keeps old parameters", "ME", level="quick")
class _(Foreign):
    kept = None

    def log_prob(self, x):
        self.kept = self.kept or self.p
        now, self.p = self.p, self.kept
        found = super().log_prob(x)
        self.p = now
        return found


@fault("gradient without the log-determinant", "GR", level="quick")
class _(Foreign):
    def gradient(self, x):
        return np.stack([np.imag(self.base(self.forward(x + 1e-30j * e)[0])) / 1e-30 for e in np.eye(2)], axis=1)


@fault("a parameter without its gradient", "GR", level="quick")
class _(Foreign):
    def parameter_gradient(self, x):
        return super().parameter_gradient(x) | {"w": np.zeros(2)}


@fault("NaN gradient at 0", "GR", level="quick")
class _(Foreign):
    def gradient(self, x):
        return np.where(x == 0.0, np.nan, super().gradient(x))


@pytest.mark.parametrize("name", Named.faults)
def test_the_fault_is_caught_and_named(name):
    make, expected, cause, level = Named.faults[name]
    report = ask(make, level)
    assert failed(report) >= expected, report
    assert cause in str(report)


@pytest.mark.parametrize("level", ["quick", "deep"])
def test_the_clean_twin_is_silent_at_every_level(level):
    report = ask(Foreign, level)
    assert report.ok, report
    assert not report.of("warn", "inconclusive"), report


def test_a_fresh_copy_shows_what_the_used_one_keeps():
    class FirstBatch(Foreign):
        ready = False

        def forward(self, x):
            if not self.ready:
                self.ready, self.p["b"] = True, self.p["b"] - x.real.mean(axis=0).astype(self.dtype)
            return super().forward(x)

    def target(make):
        flow = make()
        return Target("t", (2,), forward=flow.forward, inverse=flow.inverse, fresh=lambda: target(make))

    assert refflow.verify(target(Foreign), only=["ME"], level="quick").ok
    assert failed(refflow.verify(target(FirstBatch), only=["ME"], level="quick")) == {"ME"}


# Densities that Stein's identity and importance sampling would fail: with jumps, edges, heavy tails, many coordinates.


def density(log_prob, draw, dim, domain=None):
    return Target("density", (dim,), log_prob=log_prob, sample=draw, domain=domain)


def steps(x):
    """Twice as high on the right as on the left, from -1 to 2."""
    inside = (x[:, 0] > -1.0) & (x[:, 0] < 2.0)
    return np.log(np.where(inside, np.where(x[:, 0] < 0.0, 0.2, 0.4), 0.0))


def draw_steps(n, seed, left=0.2):
    u = np.random.default_rng(seed).random((n, 1))
    return np.where(u < left, u / left - 1.0, 2.0 * (u - left) / (1.0 - left))


def cauchy(x):
    return -np.sum(np.log(np.pi * (1.0 + x**2)), axis=1)


SOUND = {
    "jumps": density(steps, draw_steps, 1),
    "Cauchy, D = 4": density(cauchy, lambda n, s: np.random.default_rng(s).standard_cauchy((n, 4)), 4),
    "normal, D = 20": density(
        lambda x: -0.5 * np.sum(x**2, 1) - 10.0 * np.log(2 * np.pi),
        lambda n, s: np.random.default_rng(s).standard_normal((n, 20)), 20,
    ),
    "box": density(
        lambda x: np.zeros(len(x)) + np.where((x > 0).all(1) & (x < 1).all(1), 0.0, -np.inf),
        lambda n, s: np.random.default_rng(s).random((n, 3)), 3, (0.0, 1.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_densities_of_every_kind_pass_for_many_seeds(name):
    for seed in range(50):
        x = SOUND[name].sample(8, seed + 1000)
        for law in (normalisation, stein):
            assert law(SOUND[name], x, seed=seed).status in ("pass", "inconclusive")
    assert stein(SOUND[name], x).status == "pass"


def test_samples_of_other_weights_are_caught_without_a_map():
    x = draw_steps(8, 0)
    with pytest.raises(LawViolation, match="stein"):
        stein(density(steps, lambda n, s: draw_steps(n, s, 0.35), 1), x)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_mass_is_caught_in_four_dimensions(factor):
    sound = SOUND["Cauchy, D = 4"]
    wrong = density(lambda x: cauchy(x) + np.log(factor), sound.sample, 4)
    assert normalisation(sound, sound.sample(8, 0)).status == "pass"
    with pytest.raises(LawViolation, match="normalisation"):
        normalisation(wrong, sound.sample(8, 0))


def test_a_density_outside_its_domain_is_caught():
    def log_prob(x):
        return np.zeros(len(x))

    report = refflow.verify(log_prob=log_prob, event_shape=(1,), domain=(0.0, 1.0), only=["LP"], level="quick")
    assert failed(report) == {"LP"}


def test_a_cheap_flow_passes_for_200_seeds():
    flow = Foreign()
    target = Target(
        "cheap", (2,), forward=flow.forward, inverse=flow.inverse, log_prob=flow.log_prob, sample=flow.sample,
        base_log_prob=flow.base, to_base="forward",
    )  # fmt: skip
    x = flow.sample(8, 0)
    for seed in range(200):
        assert samples_follow_base(target, x, draws=1000, seed=seed).status == "pass"
        assert stein(target, x, draws=1000, seed=seed).status == "pass"
    assert sampling(target, x).status == "pass"


# How statistics become verdicts, and differences become derivatives.


def test_a_failure_is_confirmed_once_with_fresh_draws():
    def once(n, seed):
        return [Statistic("s", 2.0 if (n, seed) == (100, 7) else 0.5, 1.0)]

    found = decide("law", once, 100, 7)
    assert found.status == "pass"
    assert "beyond it once" in found.remark
    with pytest.raises(LawViolation, match="400 draws"):
        decide("law", lambda n, seed: [Statistic("s", 2.0, 1.0)], 100, 7)


def test_derivatives_are_those_of_closed_form_within_their_error():
    x = np.random.default_rng(0).normal(size=(20, 1))
    for f, slope in ((np.sin, np.cos), (np.exp, np.exp), (lambda t: np.tanh(9 * t), lambda t: 9 / np.cosh(9 * t) ** 2)):
        value, error = along(lambda p, c, f=f: f(p), x, None, np.ones_like(x))
        assert np.all(np.abs(value - slope(x)) <= 30 * error)
        assert np.median(error) < 1e-8


def test_a_kink_is_not_judged():
    value, error = along(lambda p, c: np.abs(p), np.array([[0.0], [1.0]]), None, np.ones((2, 1)))
    assert error[0, 0] == np.inf
    assert abs(value[1, 0] - 1.0) < 1e-10


def test_the_jacobian_is_asked_where_there_is_no_density():
    from refflow.verification.points import points

    def target(jacobian):
        return Target("map", (2,), forward=lambda x: (np.sinh(x), np.log(np.cosh(x)).sum(1)), jacobian=jacobian)

    def sound(x):
        return np.cosh(x)[:, :, None] * np.eye(2)

    at = points(target(sound), 12, 0)
    assert gradients(target(sound), at).status == "pass"
    with pytest.raises(LawViolation, match="Jacobian of forward"):
        gradients(target(lambda x: sound(x) * (1.0 + 1e-6)), at)


@pytest.mark.parametrize(("mass", "status"), [(1.0, "pass"), (0.4, "warn"), (1.5, "warn")])
def test_a_density_without_samples_is_looked_at_where_a_walk_gets(mass, status):
    def log_prob(x):
        return Foreign().log_prob(x) + np.log(mass)

    report = refflow.verify(log_prob=log_prob, event_shape=(2,), dtype="float64", only=["NM", "SN"])
    assert {check.id: check.status for check in report.checks} == {"NM": status, "SN": "skipped"}
