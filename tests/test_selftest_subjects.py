"""The subjects of the self-test: the sound ones deserve to pass, and no fault is without effect."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
from transcripts import Target, transcript

import refflow.selftest
from refflow.selftest import CHECKS, CLEAN, FAULTS, RECIPES, clean
from refflow.verification.jacobians import complex_step, ladder

MAPS = [s for s in CLEAN if {"forward", "inverse"} <= s.build().keys()]
MORE_MAPS = MAPS + [s for s in clean(seed=1) if {"forward", "inverse"} <= s.build().keys()]
COMPLEX = [s for s in MORE_MAPS if "wave" not in s.name]  # waves are black boxes for real numbers
FLOWS = [s for s in CLEAN if "sample_and_log_prob" in s.build()]


def by_name(subjects):
    return pytest.mark.parametrize("subject", [pytest.param(s, id=s.name) for s in subjects])


def relative(a, b):
    return np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)))


def condition(target, name, x):
    """The largest of |J^-1| |y| + |x| over |x|, at the rows: what one rounding of y may do to the round trip."""
    worst = 1.0
    for i, row in enumerate(x):
        j = jacobian(target, name, x, i)
        y = np.ravel(target(name, row[None], [i])[0])
        kappa = np.abs(np.linalg.inv(j)) @ (np.abs(y) + np.abs(j) @ np.abs(row.ravel())) + np.abs(row.ravel())
        worst = max(worst, float(np.max(kappa / np.maximum(1.0, np.abs(row.ravel())))))
    return worst


def jacobian(target, name, x, i):
    """dy/dx of row i by the complex step, which knows nothing of log_det."""
    row = x[i].ravel()

    def f(points):
        y, _ = target(name, points.reshape(-1, *target.shape), [i] * len(points))
        return y.reshape(len(points), -1)

    return complex_step(f, row).value


def test_there_are_enough_subjects():
    assert len(FAULTS) >= 75
    assert {f.family for f in FAULTS} == {r.family for r in RECIPES}
    names = [s.name for s in FAULTS + CLEAN]
    assert len(set(names)) == len(names)
    assert {f.clean for f in FAULTS} <= {c.name for c in CLEAN}
    assert all(not c.expected and c.clean == c.name for c in CLEAN)


def test_every_fault_says_what_it_imitates():
    assert all(f.why.endswith((".", "?")) and len(f.why) < 140 for f in FAULTS)
    assert all(f.expected and f.expected <= CHECKS for f in FAULTS)


def test_subjects_know_nothing_of_the_maps_of_refflow():
    """They import NumPy and the standard library, and of refflow only each other."""
    for path in Path(refflow.selftest.__file__).parent.glob("*.py"):
        if path.name == "runner.py":  # which asks them
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                first = name.split(".")[0]
                assert first == "numpy" or first in sys.stdlib_module_names or name.startswith("refflow.selftest"), path


def test_a_recipe_refuses_unknown_checks():
    with pytest.raises(ValueError, match="no such checks"):
        RECIPES[0].fault("f", "RT9", part="coupling")(object)


@by_name(COMPLEX)
def test_sound_subjects_invert_to_rounding(subject):
    """Error / (u kappa) of whole maps: a chain of five layers, some of them with stiff middles, stays below 1000."""
    target = Target(subject.build())
    for name, back in (("forward", "inverse"), ("inverse", "forward")):
        x = target.rows(name)[:6]
        error = relative(target(back, target(name, x)[0])[0], x)
        kappa = condition(target, name, x)
        assert error <= 1000.0 * 2.0**-53 * kappa, (name, error / (2.0**-53 * kappa))


@by_name(COMPLEX)
def test_sound_log_dets_are_those_of_the_jacobian(subject):
    target = Target(subject.build())
    for name, back in (("forward", "inverse"), ("inverse", "forward")):
        x = target.rows(name)[:4]
        y, log_det = target(name, x)
        for i in range(len(x)):
            j = jacobian(target, name, x, i)
            tolerance = 2.0**-53 * 64.0 * len(j) * np.linalg.cond(j)
            assert abs(np.linalg.slogdet(j)[1] - log_det[i]) <= tolerance + 1e-13 * (1.0 + abs(log_det[i]))
        assert relative(target(back, y)[1], -log_det) <= 1e-8


@by_name([s for s in MAPS if "scale" not in s.name])
def test_sound_log_dets_are_those_of_differences(subject):
    """SciPy's differences, which take real numbers only."""
    target = Target(subject.build())
    x = target.rows("forward")[:1]
    found = ladder(
        lambda p: target("forward", p.reshape(-1, *target.shape), [0] * len(p))[0].reshape(len(p), -1), x[0].ravel()
    )
    value, error = found.log_abs_det()
    assert abs(value - target("forward", x)[1][0]) <= 30.0 * error + 1e-10


@by_name(MAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_sound_subjects_keep_dtypes_and_shapes(subject, dtype):
    target = Target(subject.build())
    for name in ("forward", "inverse"):
        for n in (0, 1, 5):
            x = target.rows(name, n).astype(dtype)
            x.setflags(write=False)
            y, log_det = target(name, x)
            assert y.dtype == log_det.dtype == dtype
            assert y.shape == x.shape
            assert log_det.shape == (n,)
            assert np.isfinite(y).all()
            assert np.isfinite(log_det).all()


@by_name([s for s in MAPS if s in COMPLEX])
def test_sound_subjects_agree_across_precisions(subject):
    """float64 against long double, at the conditioning of the values; parameters are the same numbers."""
    target = Target(subject.build())
    x = target.rows("forward")[:6]
    wide = target("forward", x.astype(np.longdouble))
    for a, b in zip(target("forward", x), wide, strict=True):
        assert relative(a, b) <= 1e4 * 2.0**-53 * condition(target, "forward", x)


@by_name(FLOWS)
def test_sound_flows_are_consistent(subject):
    keywords = subject.build()
    c = keywords.get("context")
    more = () if c is None else (c[:7],)
    x, log_p = keywords["sample_and_log_prob"](7, 3, *more)
    np.testing.assert_array_equal(x, keywords["sample"](7, 3, *more))
    np.testing.assert_allclose(log_p, keywords["log_prob"](x, *more), rtol=1e-7, atol=1e-7)


@by_name([s for s in CLEAN if s.name.startswith("flow on the line")])
def test_sound_densities_on_the_line_have_mass_one(subject):
    """In z: the integral of p(f(z)) |df/dz| dz by the trapezoidal rule, spectrally accurate for a normal density."""
    keywords = subject.build()
    z = np.linspace(-9.0, 9.0, 4001)[:, None]
    x, log_det = keywords["forward"](z)
    mass = np.sum(np.exp(keywords["log_prob"](x) + log_det)) * (z[1, 0] - z[0, 0])
    assert abs(mass - 1.0) < 1e-9


# Faults.


TRANSCRIPTS = {}


def clean_transcript(name):
    if name not in TRANSCRIPTS:
        TRANSCRIPTS[name] = transcript(next(c for c in CLEAN if c.name == name))
    return TRANSCRIPTS[name]


@by_name([s for s in CLEAN if "scale" not in s.name])
def test_sound_subjects_repeat_themselves(subject):
    assert transcript(subject) == clean_transcript(subject.name)


@by_name(FAULTS)
def test_every_fault_differs_from_its_clean_twin(subject):
    assert transcript(subject) != clean_transcript(subject.clean)
