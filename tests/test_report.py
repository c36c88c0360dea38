"""The faces of a report: JSON to the last bit, JUnit that CI systems read, a page that stands alone, and its replay."""

import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

import refflow
from refflow.errors import RefflowError, ShapeError
from refflow.verification.replaying import replay, reproduction
from refflow.verification.reports.figures import figures, relation
from refflow.verification.reports.report import STATUSES, Outcome, Report, read_report

SCHEMA = json.loads(files("refflow.verification.reports").joinpath("report.schema.json").read_text())


def shift(x):
    return np.tanh(x[:, :1]) * np.array([0.5], x.dtype), np.tanh(x[:, :1] * 2)


def forward(x):
    s, t = shift(x)
    return np.concatenate([x[:, :1], np.exp(s) * x[:, 1:] + t], axis=-1), s[:, 0]


def inverse(y):
    s, t = shift(y)
    return np.concatenate([y[:, :1], (y[:, 1:] - t) * np.exp(-s)], axis=-1), -s[:, 0]


def wrong_sign(y):
    x, log_det = inverse(y)
    return x, -log_det


def verify(inverse=inverse, **more):
    return refflow.verify(forward=forward, inverse=inverse, event_shape=(2,), level="quick", **more)


@pytest.fixture(scope="module")
def good():
    return verify()


@pytest.fixture(scope="module")
def bad():
    return verify(wrong_sign)


NASTY = Report(
    "<flow> & \x00\x1b[31m\"'\ud800", "quick", 0,
    tuple(
        Outcome("RT1", f"v{i}", "a < b & c", status, float("inf"), float("nan"), 0.5,
                {"x": [0.1, -0.0, 5e-324, float("-inf"), float("nan")], "context": [1 / 3], "side": "y"},
                "at \x00 <x>\u2028", "look & see", 0.25)
        for i, status in enumerate(STATUSES)
    ),
    ("printed \x07",), "", 1.5, {"numpy": "2"},
)  # fmt: skip
"""A report whose every text and number is awkward."""


def test_json_obeys_its_schema(good, bad):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    crashed = refflow.verify(forward=lambda x: 1 / 0, event_shape=2, level="quick")
    for report in (good, bad, crashed, NASTY, replace(NASTY, error="it hangs")):
        jsonschema.validate(json.loads(report.to_json()), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [{"schema": "refflow-report-2"}, {"seed": "0"}, {"new": 1}, {"level": "slow"}, {"exit_code": 2}],
    ids=lambda c: next(iter(c)),
)
def test_the_schema_refuses(good, change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(good.to_json()) | change, SCHEMA)


def bits(value):
    return [struct.pack("<d", float(v)) for v in np.ravel(value)]


def test_json_keeps_every_bit(bad):
    for report in (bad, NASTY):
        again = read_report(report.to_json())
        assert again.to_json() == report.to_json()
        for a, b in zip(report.checks, again.checks, strict=True):
            if a.worst_input:
                assert bits(a.worst_input["x"]) == bits(b.worst_input["x"])
            assert a.statistic is None or bits(a.statistic) == bits(b.statistic)
    assert str(read_report(bad.to_json())) == str(bad)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "refflow-report-1"}', '{"schema": "refflow-report-0"}'])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(RefflowError, match="expected"):
        read_report(text)


def test_junit_counts_what_it_holds(good, bad):
    for report in (good, bad, NASTY, replace(NASTY, error="it hangs")):
        root = ElementTree.fromstring(report.to_junit().encode("utf-8", "strict"))
        suite = root.find("testsuite")
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name)) == len(list(suite.iter(tag))), name
        assert int(suite.get("failures")) == len(report.of("fail", "xpass"))
        assert all(case.get("classname") and case.get("name") and case.get("time") for case in suite.iter("testcase"))


def test_junit_escapes_what_xml_cannot_hold():
    text = NASTY.to_junit()
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", text)
    assert "\\x1b[31m" in text
    assert "\\x07" in text


def test_failures_are_replayed_at_their_worst_input(bad):
    report = read_report(bad.to_json())
    asked = []

    def spy(y):
        asked.append(len(y))
        return wrong_sign(y)

    again = replay(report, forward=forward, inverse=spy, event_shape=2)
    assert [a.before.name for a in again] == [o.name for o in bad.of("fail")]
    assert all(a.failed and a.where == "at the worst input alone" for a in again)
    for a in again:
        assert a.after.worst_input["x"] == a.before.worst_input["x"]
    assert 1 in asked
    mended = replay(report, forward=forward, inverse=inverse, event_shape=2)
    assert not any(a.failed for a in mended)
    assert "no longer fails" in str(mended[0])


def test_a_leak_between_rows_is_replayed_with_the_rows_beside_it():
    def leaky(x):
        return x - x.mean(axis=0), np.zeros(len(x), x.dtype)

    report = refflow.verify(forward=leaky, event_shape=2, level="quick", only=["BI"])
    assert report.of("fail")
    again = replay(report, forward=leaky, event_shape=2)
    assert all(a.failed for a in again)
    assert {a.where for a in again} == {"at all rows"}


def test_replay_says_what_it_cannot_ask(bad):
    again = replay(bad, forward=forward, event_shape=2)
    assert not any(a.failed for a in again)


def test_reproductions_run_and_fail(bad):
    for outcome in bad.of("fail"):
        code = reproduction(outcome, bad)
        assert 3 <= len(code.splitlines()) <= 6
        flow = refflow.verification.targets.Target("flow", (2,), forward, wrong_sign)
        printed = []
        exec(code, {"flow": flow, "print": printed.append})
        again = next(o for o in printed[0].checks if o.variant == outcome.variant)
        assert again.status == "fail"
        assert again.worst_input["x"] == outcome.worst_input["x"]
        assert again.worst_input["side"] == outcome.worst_input["side"]


def test_points_must_fit():
    for points in (np.zeros(2), np.zeros((3, 3)), {"x": np.zeros((2, 2)), "y": np.zeros((3, 2))}, {}, {"z": [[0, 0]]}):
        with pytest.raises(ShapeError, match="points"):
            verify(points=points)
    seen = []

    def spy(x):
        seen.append(x)
        return forward(x)

    refflow.verify(forward=spy, event_shape=2, level="quick", only=["DT"], points=[[0.5, 0.25]], dtype="float64")
    assert any(np.array_equal(x, [[0.5, 0.25]]) for x in seen)


def test_progress_is_told_in_order():
    told = []
    report = verify(progress=told.append)
    assert tuple(told) == report.checks


class Page(HTMLParser):
    """What a page loads and holds."""

    def __init__(self, text):
        super().__init__()
        self.outside, self.tags, self.text = [], [], ""
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "br", "hr", "link", "img", "input"):
            self.open.append(tag)
        self.outside += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action") and v[:1] != "#"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone(good, bad):
    crashed = refflow.verify(forward=lambda x: 1 / 0, event_shape=2, level="quick")
    for report in (good, bad, crashed, NASTY, replace(NASTY, error="it hangs")):
        text = report.to_html()
        page = Page(text)
        assert page.open == []
        assert page.outside == []
        assert "script" not in page.tags
        assert "url(" not in text
        assert "@import" not in text
        text.encode("utf-8")


def test_the_page_names_every_failure(bad):
    page = Page(bad.to_html())
    for outcome in bad.of("fail"):
        assert outcome.name in page.text
        assert repr(outcome.worst_input["x"][0]) in page.text
    assert "<flow> &" in Page(NASTY.to_html()).text


def test_pictures_are_drawn_from_the_run(bad):
    for id in ("RT1", "LD3"):
        (series,) = (s for s in bad.figures["scatter"] if (s["check"], s["variant"]) == (id, "float64"))
        assert len(series["rows"]) == refflow.verification.runs.LEVELS["quick"].rows
    (outcome,) = (o for o in bad.of("fail") if o.name == "LD3[float64]")
    error, kappa, _ = max(series["rows"], key=lambda row: row[0] / row[1])
    assert error / (series["unit"] * kappa) == pytest.approx(outcome.statistic, rel=1e-6)
    claims = bad.figures["log_det"]
    assert np.allclose(claims["forward"]["claimed"], claims["forward"]["measured"], atol=1e-6)
    assert np.allclose(claims["inverse"]["claimed"], -np.array(claims["inverse"]["measured"]), atol=1e-6)
    assert bad.figures["jacobian"]["values"][0][1] == 0.0


def test_a_kink_is_found_where_there_is_one():
    def leaky(slope, at):
        def forward(x):
            return np.where(x > at, x - at, slope * (x - at)), np.where(x > at, 0, np.log(slope)).sum(-1).astype(
                x.dtype
            )

        return refflow.verify(forward=forward, event_shape=2, level="quick").figures

    knot = leaky(0.25, 1.375)["knot"]
    assert knot["at"] == pytest.approx(1.375, abs=1e-4)
    assert (knot["before"], knot["after"]) == (pytest.approx(0.25), pytest.approx(1.0))
    assert "kink" in leaky(0.999, 1.375)["missing"]["knot"]


def test_smooth_maps_have_no_kink():
    for curve, slope in ((np.sinh, np.cosh), (lambda x: x + np.sin(3 * x) / 4, lambda x: 1 + 0.75 * np.cos(3 * x))):
        figures = refflow.verify(
            forward=lambda x, c=curve, s=slope: (c(x), np.log(s(x)).sum(-1)), event_shape=1, level="quick"
        ).figures
        assert "knot" not in figures


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (lambda m: m, "agrees"), (lambda m: -m, "claims \u22121 times"), (lambda m: 2 * m, "claims 2 times"),
        (lambda m: m / 16, "claims 0.0625 times"), (lambda m: m + 0.5, "claims 0.5 too much"),
        (lambda m: m - 0.5, "claims 0.5 too little"), (lambda m: np.where(m > 1, m + 3, m), "is off at 4 of 12 rows"),
        (lambda m: m * np.nan, "has no finite pair"),
    ],
)  # fmt: skip
def test_the_caption_names_what_the_claims_are(claims, words):
    m = np.linspace(-2.5, 3.0, 12)
    assert words in relation(list(zip(m, claims(m), strict=True)), 1e-5)


def test_samples_that_do_not_follow_the_base_leave_the_band():
    def alarming(scale):
        flow = refflow.Flow(refflow.StandardNormal((2,)), refflow.ElementwiseAffine.init((2,)))
        draw = flow.sample
        report = refflow.verify(
            forward=lambda x: (x, np.zeros(len(x), x.dtype)), inverse=lambda z: (z, np.zeros(len(z), z.dtype)),
            log_prob=flow.log_prob, sample=lambda n, seed: scale * draw(n, seed=seed), event_shape=2, level="quick",
            to_base="forward",
        )  # fmt: skip
        (figure,) = (f for f in figures(report.figures) if f.title.startswith("Samples"))
        return figure.alarming

    assert not alarming(1.0)
    assert alarming(1.5)


def test_what_leaves_the_declared_structure_is_marked():
    flow = refflow.verification.targets.Target("f", (2,), forward, inverse, structure=np.array([[1, 0], [0, 1]], bool))
    (figure,) = (f for f in figures(refflow.verify(flow, level="quick").figures) if "Jacobian" in f.title)
    assert figure.alarming
    assert "1 lie outside the declared structure" in figure.here
    assert figure.svg.count("cell wrong") == 1


def test_figures_never_fail_a_run():
    def only_rows(x):
        if len(x) > 40:
            raise MemoryError("too many rows")
        return forward(x)

    report = refflow.verify(forward=only_rows, event_shape=2, level="quick", only=["DT"])
    assert not report.error
    assert "too many rows" in report.figures["missing"]["knot"]
