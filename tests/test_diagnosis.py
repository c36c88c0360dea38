"""The diagnosis: the cause that is named is the fault that was seeded, and nothing is named where nothing fits."""

import numpy as np
import pytest

import refflow
from refflow.selftest import FAULTS
from refflow.verification.diagnosis import name_round_trip
from refflow.verification.readings import name_log_det

EVENT = (2, 3)


class Map:
    """y_i = sinh(w_i x_i + b_i) on events of two axes, with x_0 added to the last coordinate."""

    w = np.linspace(0.5, 1.25, 6).reshape(EVENT)
    b = np.linspace(-0.25, 0.75, 6).reshape(EVENT)

    def terms(self, x):
        return np.log(np.cosh(self.w * x + self.b)) + np.log(self.w)

    def forward(self, x):
        y = np.sinh(self.w * x + self.b)
        y[:, -1, -1] += x[:, 0, 0]
        return y, self.terms(x).sum(axis=(1, 2))

    def inverse(self, y):
        x = (np.arcsinh(y) - self.b) / self.w
        x[:, -1, -1] = (np.arcsinh(y[:, -1, -1] - x[:, 0, 0]) - self.b[-1, -1]) / self.w[-1, -1]
        return x, -self.terms(x).sum(axis=(1, 2))


X = np.random.default_rng(0).standard_normal((12, *EVENT))


def claimed(change):
    """The map with something else for its log-determinant."""
    f = Map()
    value = f.forward
    f.forward = lambda x: (value(x)[0], change(value(x)[1], f.terms(x)))
    return f


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, terms: -t, "wrong sign"),
        (lambda t, terms: 2.0 * t, "twice"),
        (lambda t, terms: 0.5 * t, "half"),
        (lambda t, terms: t / 6.0, "mean over the 6 coordinates"),
        (lambda t, terms: 6.0 * t, "6 times"),
        (lambda t, terms: t / 3.0, "lacks the factor 3 of axes [1]"),
        (lambda t, terms: 3.0 * t, "has the factor 3 of axes [1]"),
        (lambda t, terms: t / np.log(2.0), "base 2"),
        (lambda t, terms: t / np.log(10.0), "base 10"),
        (lambda t, terms: np.exp(t), "without the logarithm"),
        (lambda t, terms: 0.0 * t, "is 0"),
        (lambda t, terms: np.full_like(t, t.sum()), "sum over the batch"),
        (lambda t, terms: np.full_like(t, t[0]), "row 0"),
        (lambda t, terms: t - terms[:, 0, 2], "lacks the term of coordinate 2"),
        (lambda t, terms: t - 6.0 * np.log(2.0), "lacks the constant 4.15888, log 2 a coordinate"),
        (lambda t, terms: t + 0.123, "too much the constant 0.123"),
        (lambda t, terms: t.real.astype(np.float32).astype(np.float64), "float32"),
    ],
)
def test_log_determinants_are_named(change, said):
    assert said in name_log_det(claimed(change), X)


def test_right_log_determinants_are_not_named_and_unknown_faults_are_not_guessed():
    assert name_log_det(Map(), X) == ""
    assert name_log_det(claimed(lambda t, terms: t + np.sin(terms[:, 0, 0])), X) == ""


def test_the_point_of_the_log_determinant_is_named():
    f = Map()
    value = f.forward
    f.forward = lambda x: (value(x)[0], f.terms(value(x)[0]).sum(axis=(1, 2)))
    assert "at f(x)" in name_log_det(f, 0.25 * X)


def turned_back(change):
    """The map whose inverse gives something else for x."""
    f = Map()
    value = f.inverse
    f.inverse = lambda y: (change(value(y)[0], y), value(y)[1])
    return f


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: Map().forward(y)[0], "the same function"),
        (lambda x, y: y, "returns its input"),
        (lambda x, y: x[:, ::-1], "permuted: x[[3, 4, 5, 0, 1, 2]]"),
        (lambda x, y: x + 0.25, "a constant is added on the way and not taken off: 0.25"),
        (lambda x, y: 2.0 * x, "a factor is applied on the way and not taken back: 2"),
        (lambda x, y: np.abs(x), "signs are lost"),
        (lambda x, y: np.clip(x, -1.0, 1.0), "right only for |x_i| < 1, and clamped there"),
        (lambda x, y: x.astype(np.float32).astype(np.float64), "float32"),
        (lambda x, y: x[::-1], "in reverse"),
        (lambda x, y: np.concatenate([x[:, :, :2], x[:, :, 2:] ** 3], axis=2), "only coordinates [2, 5] of 6"),
    ],
)
def test_round_trips_are_named(change, said):
    assert said in name_round_trip(turned_back(change), X)


def test_right_round_trips_are_not_named():
    assert name_round_trip(Map(), X) == ""


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda t, terms: t[:, None], "one number a row, with an axis too much"),
        (lambda t, terms: terms, "its sum over all axes but the first"),
        (lambda t, terms: -terms, "sum over all axes but the first, negated"),
        (lambda t, terms: terms.mean(axis=2) * 3.0, "its sum over all axes but the first"),
        (lambda t, terms: np.sin(terms), "no reading of it"),
    ],
)
def test_conventions_are_read_and_not_guessed(read, said):
    f = claimed(read)
    report = refflow.verify(forward=f.forward, inverse=Map().inverse, event_shape=EVENT, level="quick", dtype="float64")
    (shape,) = [outcome for outcome in report.of("fail") if outcome.id == "SH"]
    assert said in shape.hint


def test_exchanged_directions_are_named():
    f, g = claimed(lambda t, terms: -t), Map()
    back = lambda y: (g.inverse(y)[0], -g.inverse(y)[1])  # noqa: E731
    report = refflow.verify(forward=f.forward, inverse=back, event_shape=EVENT, level="quick", dtype="float64")
    hints = {outcome.id: outcome.hint for outcome in report.of("fail")}
    assert all("the two are exchanged" in hints[id] for id in ("LD1", "LD2"))


@pytest.mark.parametrize(
    ("fault", "id", "said"),
    [
        ("affine chain: log-det doubled", "LD1", "layers 0 and 4: log_det is twice"),
        ("affine chain: a layer missing from the log-det", "LD1", "lacks layer 2"),
        ("affine chain: log-det overwritten, not added up", "LD1", "is that of layer 4 alone"),
        ("affine chain: log-det with forward's sign in the inverse", "LD3", "the inverse's layers 0 and 4"),
        ("affine chain: layers in forward order in the inverse", "RT1", "takes the layers in forward's order"),
        ("affine chain: a layer missing from the inverse", "RT1", "leaves out layer 0"),
        ("affine chain: context ignored in the inverse", "RT1", "another context"),
        ("sigmoid onto a box: log-det without the box's width", "LD1", "log 4 a coordinate"),
    ],
)
def test_hints_of_a_report_name_the_seeded_fault(fault, id, said):
    subject = next(found for found in FAULTS if found.name == fault)
    report = refflow.verify(**subject.build(), level="quick", dtype="float64")
    assert said in next(outcome.hint for outcome in report.of("fail") if outcome.id == id)
