"""The strategies for property tests of one's own: what they draw, and that they find what they are aimed at."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from refflow import strategies as draw
from refflow.errors import StructureError
from refflow.specs import from_spec
from refflow.verification import Finding, round_trip

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
def test_edges_and_their_neighbours_are_drawn(dtype, steps):
    wanted = dtype(0.3)
    for _ in range(abs(steps)):
        wanted = np.nextafter(wanted, dtype(np.sign(steps) * np.inf))
    rows = draw.points((1,), rows=1, edges=(0.3,), dtype=dtype)
    assert find(rows, lambda x: x[0, 0] == wanted)[0, 0].dtype == dtype


def test_edges_stay_within_the_domain():
    with pytest.raises(NoSuchExample):
        find(draw.points((1,), rows=1, domain=(0.0, 1.0), edges=(0.0, 1.0)), lambda x: not 0.0 < x[0, 0] < 1.0)


@given(st.integers(2, 6).flatmap(lambda bins: draw.spline_knots(bins, 3.0)))
def test_knots_increase_between_the_bounds(knots):
    x, y, slopes = knots
    for k in (x, y):
        assert (k[0], k[-1]) == (-3.0, 3.0)
        assert (np.diff(k) > 0).all()
        assert (k * 32 / 3 == np.round(k * 32 / 3)).all()
    assert slopes[0] == slopes[-1] == 1.0
    assert (slopes > 0).all()
    assert len(x) == len(y) == len(slopes)


@given(draw.lu_factors(3, 10.0))
def test_factors_are_triangles_of_an_invertible_matrix(factors):
    lower, upper = factors
    assert np.array_equal(lower, np.tril(lower))
    assert np.array_equal(upper, np.triu(upper))
    assert np.array_equal(np.diag(lower), np.ones(3))
    assert (np.diag(upper) > 0).all()


@given(st.integers(1, 4).flatmap(lambda dim: st.tuples(draw.flow_specs(dim, 1.0), draw.points((dim,)))))
@settings(max_examples=40)
def test_specs_are_json_and_build_invertible_flows(drawn):
    spec, x = drawn
    again = json.loads(json.dumps(spec))
    assert again == spec
    flow = from_spec(again)
    assert flow.event_shape == (x.shape[1],)
    assert len(flow.bijection.bijections) == len(spec["maps"])
    assert round_trip(flow.bijection, x).status in ("pass", "inconclusive")


@pytest.mark.parametrize("kind", ["affine coupling", "elementwise affine", "permutation", "lu", "spline"])
def test_every_map_is_drawn(kind):
    found = find(draw.flow_specs(2), lambda spec: any(part["map"] == kind for part in spec["maps"]))
    assert [part["map"] for part in found["maps"]] == [kind]


def test_a_coupling_computes_what_its_spec_says():
    coupling = {"map": "affine coupling", "moved": [1], "weight": [[0.5, 2.0]], "bias": [0.25, -1.0]}
    spec = {"event_shape": [2], "maps": [{**coupling, "scale": "exp", "bound": 2.0}]}
    y = from_spec(spec).encode(np.array([[1.0, 3.0]]))
    assert np.allclose(y, [[1.0, np.exp(0.75) * 3.0 + 1.0]])


@pytest.mark.parametrize("spec", [{}, {"event_shape": [2], "maps": [{"map": "magic"}]},
                                  {"event_shape": [2], "maps": [{"map": "permutation"}]}])  # fmt: skip
def test_what_is_no_spec_is_refused(spec):
    with pytest.raises(StructureError, match="expected a spec"):
        from_spec(spec)


def test_aim_leads_uphill():
    seen = []

    @settings(max_examples=300, database=None, derandomize=True)
    @given(st.integers(0, 10**6))
    def climb(n):
        seen.append(n)
        draw.aim(Finding("a law", "pass", float(n), 1.0))

    climb()
    assert max(seen) == 10**6
    draw.aim(Finding("a law", "inconclusive"))  # outside a test Hypothesis would refuse a target


def test_a_class_of_ones_own_is_verified():
    found = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "verify_own_class.py"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "the properties hold" in found.stdout
    assert "Hypothesis shrinks the fault to: antisymmetry" in found.stdout
