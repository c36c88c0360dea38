"""RF of `verify`: a port agrees with its reference within the rounding of both, and says where it does not."""

import numpy as np
import pytest

import refflow
from refflow import arrays as xp
from refflow.modules import arrays, bind_arrays, named_arrays

D = 3


def flow():
    """With weights moved away from their start, which is the identity."""
    built = refflow.realnvp(D, layers=4, hidden=(8,), seed=1)
    rng = np.random.default_rng(2)
    moved = (a + 0.3 * rng.standard_normal(a.shape) for a in named_arrays(built).values())
    return bind_arrays(built, xp.rebuild(arrays(built), moved))


class Port:
    """The same numbers through other functions."""

    def __init__(self, reference):
        self.flow, self.f = reference, reference.bijection

    def forward(self, x):
        return self.f.forward(x)

    def inverse(self, y):
        return self.f.inverse(y)

    def log_prob(self, x):
        return self.flow.log_prob(x)

    def given(self):
        return {"forward": self.forward, "inverse": self.inverse, "log_prob": self.log_prob, "event_shape": D}


def asked(port, **more):
    report = refflow.verify(**port.given(), reference=flow(), only=["RF"], **more)
    return {check.name: check for check in report.checks}


@pytest.mark.parametrize("level", ["quick", "standard"])
def test_a_port_with_the_same_weights_passes(level):
    assert [check.status for check in asked(Port(flow()), level=level).values()] == ["pass"]


def test_an_order_of_operations_is_no_difference():
    class Reordered(Port):
        def forward(self, x):
            y, log_det = super().forward(x)
            return (y * 3.0) / 3.0, log_det

    assert [check.status for check in asked(Reordered(flow())).values()] == ["pass"]


class OtherValue(Port):
    def forward(self, x):
        y, log_det = super().forward(x)
        return y * (1.0 + 1e-6), log_det


class OtherInverse(Port):
    def inverse(self, y):
        x, log_det = super().inverse(y)
        return x, log_det + 1e-5


class OtherDensity(Port):
    def log_prob(self, x):
        return super().log_prob(x) + 1e-4


@pytest.mark.parametrize("port", [OtherValue, OtherInverse, OtherDensity])
def test_other_numbers_are_told(port):
    found = asked(port(flow()), dtype="float64")
    assert {check.status for check in found.values()} == {"fail"}


def test_what_differs_is_named():
    assert "log_dets by up to 1e-05" in asked(OtherInverse(flow()), dtype="float64")["RF"].explanation
    assert "at the inverse" in asked(OtherInverse(flow()), dtype="float64")["RF"].explanation


def test_the_other_direction_is_named():
    f = flow().bijection
    report = refflow.verify(forward=f.inverse, inverse=f.forward, event_shape=D, reference=f, only=["RF"])
    assert ["the two call other directions forward" in check.explanation for check in report.checks] == [True]


def test_directions_are_aligned_where_both_tell_them():
    turned = refflow.verification.targets.Target(
        "generative", (D,), forward=flow().bijection.inverse, inverse=flow().bijection.forward,
        log_prob=lambda x: flow().log_prob(x), to_base="inverse",
    )  # fmt: skip
    report = refflow.verify(turned, reference=flow(), only=["RF"])
    assert {check.status for check in report.checks} == {"pass"}


def test_a_reference_of_another_shape_is_refused():
    with pytest.raises(refflow.errors.StructureError, match=r"rows of shape \(3,\), got one for \(4,\)"):
        refflow.verify(flow(), reference=refflow.realnvp(4, seed=0))


def test_without_a_reference_it_is_skipped():
    report = refflow.verify(flow(), only=["RF"], level="quick")
    assert {check.status for check in report.checks} == {"skipped"}
    assert all("reference" in check.explanation for check in report.checks)


def test_a_torch_port_in_both_precisions():
    torch = pytest.importorskip("torch")

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = torch.nn.Parameter(torch.tensor([0.5, -0.25, 1.0]))

        def forward(self, x):
            return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

        def inverse(self, y):
            return y * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(y))

    same = np.array([0.5, -0.25, 1.0])
    told = {
        "forward": lambda x: (x * np.exp(same.astype(x.dtype)), np.full(len(x), same.sum(), dtype=x.dtype)),
        "inverse": lambda y: (y * np.exp(-same.astype(y.dtype)), np.full(len(y), -same.sum(), dtype=y.dtype)),
    }
    reference = refflow.verification.targets.Target("scaled", (D,), **told)
    report = refflow.verify(Scaled(), event_shape=(D,), reference=reference, only=["RF"])
    assert [check.status for check in report.checks] == ["pass", "pass"]
