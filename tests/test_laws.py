"""The laws hold for every map of the registry, at points and parameters that Hypothesis draws on a dyadic grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import FLOWS, REGISTRY

import refflow
from refflow import strategies as draw
from refflow import verification as laws

QUICK = tuple(law for law in laws.BIJECTION_LAWS if law is not laws.log_det_ladder)
"""All but the one that takes a second."""


def sides(data, entry, scale, rows=(1, 4), dtype=np.float64):
    """The entry's map with drawn parameters, points of its domain, points of its range, and a context for each."""
    f = refflow.map_arrays(lambda a: a.astype(dtype), data.draw(draw.parameters(entry.map, scale)))
    x = data.draw(draw.points(entry.event_shape, rows=rows, domain=entry.domain, dtype=dtype))
    y = data.draw(draw.points(entry.output_shape, rows=len(x), domain=entry.range, dtype=dtype))
    return f, x, y, data.draw(draw.contexts(len(x), entry.context_dim, dtype=dtype))


def ask(asked, f, x, y, context):
    found = [law(f, x, context) for law in asked]
    return found + [law(laws.turned(f), y, context) for law in asked]


def by_name(items):
    return [pytest.param(item, id=item.name) for item in items]


@pytest.mark.parametrize("scale", draw.SCALES)
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_every_map_obeys_the_laws(entry, scale):
    @settings(max_examples=5)
    @given(st.data())
    def check(data):
        ask(QUICK, *sides(data, entry, scale))

    check()


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_log_determinants_agree_with_error_bounded_differences(entry):
    @settings(max_examples=2)
    @given(st.data())
    def check(data):
        ask([laws.log_det_ladder], *sides(data, entry, 1.0, rows=1))

    check()


@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_float32_obeys_the_laws(entry):
    @settings(max_examples=5)
    @given(st.data())
    def check(data):
        asked = (laws.round_trip, laws.antisymmetry, laws.precision, laws.batching, laws.row_independence)
        ask(asked, *sides(data, entry, 1.0, dtype=np.float32))

    check()


@pytest.mark.parametrize("entry", by_name([e for e in REGISTRY if e.onto and e.domain is None]))
def test_maps_are_onto(entry):
    @settings(max_examples=5)
    @given(st.data())
    def check(data):
        f, x, y, context = sides(data, entry, 1.0)
        laws.onto(f, y, context)
        laws.onto(laws.turned(f), x, context)

    check()


def test_the_laws_decide_more_often_than_not():
    """Over the registry at scale 3 at least nine in ten rows are judged: an inconclusive law protects nobody."""
    judged = []

    @settings(max_examples=150)
    @given(st.data(), st.sampled_from(REGISTRY))
    def check(data, entry):
        f, x, y, context = sides(data, entry, 3.0)
        judged.extend(finding.judged for finding in ask([laws.round_trip, laws.antisymmetry], f, x, y, context))

    check()
    assert np.mean(judged) > 0.9


@pytest.mark.parametrize(("flow", "domain"), [pytest.param(flow, domain, id=name) for name, flow, domain in FLOWS])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_every_flow_obeys_the_laws_of_densities(flow, domain, scale):
    @settings(max_examples=3)
    @given(st.data())
    def check(data):
        f = data.draw(draw.parameters(flow, scale))
        x = data.draw(draw.points(f.event_shape, rows=3, domain=domain))
        context = data.draw(draw.contexts(3, f.context_dim))
        for law in laws.FLOW_LAWS:
            law(f, x, context)

    check()


def test_the_mass_of_small_flows_is_judged():
    """Normalisation and samples are decided, not shrugged at, for flows in one and two dimensions."""
    rng = np.random.default_rng(0)
    for name, flow, domain in FLOWS:
        if len(flow.event_shape) > 1 or flow.event_shape[0] > 2:
            continue
        flow = refflow.map_arrays(lambda a: rng.integers(-8, 9, a.shape) / 8.0, flow)
        x = np.full((1, *flow.event_shape), 0.5 if domain is None else np.mean(domain))
        context = np.ones((1, flow.context_dim)) if flow.context_dim else None
        for law in (laws.normalisation, laws.samples_follow_density):
            assert law(flow, x, context).status == "pass", (name, law.__name__)


@pytest.mark.deep
@pytest.mark.parametrize("scale", draw.SCALES)
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_every_map_obeys_the_laws_at_length(entry, scale):
    @settings(max_examples=40)
    @given(st.data())
    def check(data):
        ask(QUICK, *sides(data, entry, scale, rows=(1, 8)))

    check()


@settings(max_examples=25)
@given(st.data(), st.integers(1, 4), st.integers(0, 2), st.sampled_from(draw.SCALES))
def test_drawn_flows_obey_the_laws(data, dim, context_dim, scale):
    flow = data.draw(draw.flows((dim,), context_dim, scale))
    x = data.draw(draw.points((dim,)))
    context = data.draw(draw.contexts(len(x), context_dim))
    ask(QUICK, flow.bijection, x, data.draw(draw.points((dim,), rows=len(x))), context)
    laws.change_of_variables(flow, x, context)
    laws.sampling(flow, x, context)


def test_the_registry_has_every_exported_map():
    listed = set()

    def note(part):
        listed.add(type(part))
        return part

    for entry in REGISTRY:
        refflow.modules.map_modules(note, entry.map)
    exported = {v for v in vars(refflow).values() if isinstance(v, type) and issubclass(v, refflow.Bijection)}
    assert exported - listed == {refflow.Bijection}
    assert {refflow.MLP, refflow.ResidualNet, refflow.ConvNet, refflow.ConvResidualNet} <= listed
