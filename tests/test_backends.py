"""Every map of the registry on every library: values, gradients, laws, and the rim where libraries meet."""

import numpy as np
import pytest
from matrix import (
    GRADIENT,
    LAWS,
    LIBRARIES,
    UNITS,
    Elsewhere,
    Library,
    differences,
    drawn,
    gradient,
    gradient_difference,
    is_at_home,
)
from registry import REGISTRY

from refflow.verification import row_independence, turned


def libraries(*names, gradients=False, deep=()):
    """The libraries as parameters; those that are not here are skipped with the reason, the slow ones are deep."""
    found = []
    for library in LIBRARIES.values():
        if (names and library.name not in names) or (gradients and not library.gradients):
            continue
        marks = [pytest.mark.gpu] if library.needs == "cupy" else []
        if library.name in deep:
            marks.append(pytest.mark.deep)
        if library.missing:
            marks.append(pytest.mark.skip(reason=library.missing))
        found.append(pytest.param(library, id=library.name, marks=marks))
    return found


def by_name(items):
    return [pytest.param(item, id=item.name) for item in items]


@pytest.mark.parametrize("library", libraries())
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_values_are_numpys(entry, library):
    f, x, y, context = drawn(entry)
    for g, points in ((f, x), (turned(f), y)):
        assert np.max(differences(library, g, points, context)) <= UNITS  # NaN is not


@pytest.mark.parametrize("library", libraries(gradients=True))
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_gradients_are_numpys(entry, library):
    f, x, y, context = drawn(entry)
    for g, points in ((f, x), (turned(f), y)):
        assert gradient_difference(library, g, points, context) <= GRADIENT


def special(entry):
    """The entry's map as it is untrained, and with normal parameters; at 0 and at 30 to either side, or at the middle
    of its domain and near its ends."""
    f, x, y, context = drawn(entry)
    for g, points, box in ((f, x, entry.domain), (turned(f), y, entry.range)):
        low, high = (-30.0, 30.0) if box is None else (0.999 * a + 0.001 * b for a, b in (box, box[::-1]))
        rows = np.array([0.5 * (low + high), low, high, 0.5 * (low + high)])
        fixed = np.broadcast_to(rows.reshape(-1, *(1 for _ in points.shape[1:])), points.shape).copy()
        yield g, fixed, context
        yield entry.map if g is f else turned(entry.map), fixed, context


@pytest.mark.parametrize("library", libraries("torch", "jax.jit", deep=("jax.jit",)))
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_gradients_are_numpys_at_zero_and_far_out(entry, library):
    """Zeros under zero biases put every unit on its kink and every exponent at its tie; far out they overflow.

    A weight's gradient is a sum over rows of x times what reaches its unit, and may cancel: that is the scale.
    """
    for f, x, context in special(entry):
        want = gradient(LIBRARIES["numpy"], f, x, context)
        size = max(1.0, *(np.max(np.abs(a), initial=0.0) for a in want)) * max(1.0, np.max(np.abs(x)))
        for a, b in zip(gradient(library, f, x, context), want, strict=True):
            assert np.all(np.isfinite(b))
            assert np.all(np.abs(a - b) <= GRADIENT * size)


def test_a_library_that_answers_nan_is_not_numpy():
    """In one place only: a comparison that passes over NaN would take the others' word."""
    f, x, _, context = drawn(next(entry for entry in REGISTRY if entry.name == "elementwise affine"))
    for shape in ((3,), (4, 3)):
        spoilt = Library("numpy", lambda a, s=shape: np.where(a == a.flat[-1], np.nan, a) if a.shape == s else a)
        assert not np.max(differences(spoilt, f, x, context)) <= UNITS
        assert not gradient_difference(spoilt, f, x, context) <= GRADIENT


@pytest.mark.parametrize("library", libraries("strict", "torch", "jax.jit", "cupy"))
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_float32_stays_float32(entry, library):
    f, x, y, context = drawn(entry, dtype=np.float32)
    for g, points in ((f, x), (turned(f), y)):
        assert all(is_at_home(a, library.name, np.float32) for a in library.call(g, points, context))


BITWISE = {"strict": (row_independence,), "cupy": ()}


@pytest.mark.parametrize("library", libraries("strict", "torch", "jax", "cupy", deep=("jax",)))
@pytest.mark.parametrize("entry", by_name(REGISTRY))
def test_laws_hold_there(entry, library):
    f, x, y, context = drawn(entry)
    there = Elsewhere(f, library.name)
    for law in (*LAWS, *BITWISE.get(library.name, ())):
        law(there, x, context)
        law(turned(there), y, context)
