"""The checks AL CA ST CX MO ED ON NF: seeded faults that they catch, and sound twins about which they are silent."""

import numpy as np
import pytest
from registry import REGISTRY

import refflow
from refflow.modules import arrays, bind_arrays, named_arrays
from refflow.selftest import FAULTS, clean
from refflow.strategies import POSITIVE, SCALES
from refflow.verification.adapters import recognise
from refflow.verification.checks import CHECKS
from refflow.verification.memory import arrays_kept

OURS = ("AL", "CA", "ST", "CX", "MO", "ED", "ON", "NF")
GATES = {gate for check in CHECKS if check.id in OURS for gate in check.after}


def failed(only=None, dtype=None, **subject):
    report = refflow.verify(level="quick", dtype=dtype, only=only, **subject)
    assert not report.error
    return {outcome.id for outcome in report.of("fail")}


def elementwise(curve, log_slope, back=None, dim=2, **more):
    """A map of each coordinate by itself, and its inverse where it is given, as arguments of `verify`."""
    found = {"forward": lambda x: (curve(x), np.sum(log_slope(x), axis=-1)), "event_shape": (dim,)}
    if back is not None:
        found["inverse"] = lambda y: (back(y), -np.sum(log_slope(back(y)), axis=-1))
    return found | more


def constant(value):
    return lambda x: np.full_like(x, value)


def identity(x):
    return x, np.zeros(len(x), dtype=x.dtype)


def leaky(x):
    return np.where(x < 0.0, x * x.dtype.type(0.01), x)


SOUND = {
    "identity": {"forward": identity, "inverse": identity, "event_shape": (3,)},
    "a kink at 0": elementwise(leaky, lambda x: np.where(x < 0.0, np.log(x.dtype.type(0.01)), x.dtype.type(0.0)),
                               lambda y: np.where(y < 0.0, y / y.dtype.type(0.01), y)),
    "stiff": elementwise(lambda x: (3.3 * x + 1e4) * 0.7 - 7e3, constant(np.log(3.3 * 0.7)),
                         lambda y: ((y + 7e3) / 0.7 - 1e4) / 3.3),
    "steep": elementwise(lambda x: 256.0 * x, constant(np.log(256.0)), lambda y: y / 256.0),
    "flat": elementwise(lambda x: x / 4096.0, constant(-np.log(4096.0)), lambda y: 4096.0 * y),
    "falling": elementwise(lambda x: -2.0 * x, constant(np.log(2.0)), lambda y: -0.5 * y),
    "growth out of range": elementwise(np.sinh, lambda x: np.log(np.cosh(x)), np.arcsinh),
    "logarithmic": elementwise(np.arcsinh, lambda x: -0.5 * np.log1p(x * x), np.sinh),
    "onto a half line": elementwise(np.exp, lambda x: x, np.log, codomain=(0.0, np.inf)),
    "onto a box": elementwise(np.tanh, lambda x: -2.0 * (np.logaddexp(x, -x) - np.log(x.dtype.type(2.0))), np.arctanh,
                              codomain=(-1.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SOUND)
def test_plain_maps_are_not_accused(name, dtype):
    assert not failed(dtype=dtype, **SOUND[name])


def step(x):
    return x + np.where(x > 5.0, x.dtype.type(1e-2), x.dtype.type(0.0))


def fold(x):
    return x - 2.0 * np.sin(x)


def missing_at_zero(x):
    return np.where(x == 0.0, x.dtype.type(0.0), np.log(x.dtype.type(3.0)))


def in_the_tail(x):
    return np.where(np.abs(x) > 40.0, np.log(x.dtype.type(2.0)), x.dtype.type(0.0))


ALONE = {
    "MO": {
        "a fold, one coordinate": elementwise(fold, lambda x: np.log(np.abs(1.0 - 2.0 * np.cos(x))), dim=1),
    },
    "ED": {
        "a step at 5": elementwise(step, constant(0.0), dim=1),
        "log-slope left out at 0": elementwise(lambda x: 3.0 * x, missing_at_zero, lambda y: y / 3.0),
        "no number at 2": elementwise(lambda x: np.where(x == 2.0, np.nan, x), constant(0.0), lambda y: y),
        "log-slope in the tail": elementwise(lambda x: x, in_the_tail, lambda y: y),
        "naive sigmoid": elementwise(lambda x: np.exp(x) / (1.0 + np.exp(x)),
                                     lambda x: x - 2.0 * np.logaddexp(0.0 * x, x), codomain=(0.0, 1.0)),
        "beyond its box": elementwise(lambda x: 1.01 * np.tanh(x),
                                      lambda x: float(np.log(1.01)) + np.log1p(-np.tanh(x) ** 2), codomain=(-1.0, 1.0)),
    },
    "ON": {
        "clamped at 700": elementwise(lambda x: np.clip(x, -700.0, 700.0), constant(0.0)),
        "clamped at 5000, and so the inverse": elementwise(
            lambda x: np.clip(x, -5e3, 5e3), constant(0.0), lambda y: np.clip(y, -5e3, 5e3)),
    },
    "NF": {
        "NaN made 0": elementwise(lambda x: np.where(np.isnan(x), x.dtype.type(0.0), x), constant(0.0), lambda y: y),
        "infinity made a number": elementwise(
            lambda x: np.clip(x, -np.finfo(x.dtype).max, np.finfo(x.dtype).max), constant(0.0), lambda y: y),
    },
}  # fmt: skip


BESIDES = {"MO": {"ED"}, "ON": {"NF"}, "ED": {"ON", "NF"}}
"""A fold has a point where log|det J| is -inf, and a clamp makes infinity a number."""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("id", "name"), [(id, name) for id, faults in ALONE.items() for name in faults])
def test_faults_that_one_check_catches(id, name, dtype):
    if name in ("log-slope in the tail",) and dtype == "float32":
        pytest.skip("differences say nothing in float32")
    found = failed(dtype=dtype, **ALONE[id][name])
    assert id in found, found
    assert found <= {id} | BESIDES.get(id, set())


@pytest.mark.parametrize(("dtype", "status"), [("float64", "fail"), ("float32", "warn")])
def test_a_fold_of_many_coordinates_shows_in_the_sign_of_its_determinant(dtype, status):
    """Which float32 cannot tell, and that each coordinate depends on one alone is what samples say."""
    folded = elementwise(fold, lambda x: np.log(np.abs(1.0 - 2.0 * np.cos(x))))
    report = refflow.verify(**folded, only=["MO"], dtype=dtype)
    assert [check.status for check in report.checks] == [status]


class RowCache:
    """The inverse remembers every row by its bytes; what it computes itself has the wrong sign."""

    def __init__(self):
        self.seen = {}

    def forward(self, x):
        y, log_det = 2.0 * x, np.full(len(x), x.shape[1] * np.log(2.0), dtype=x.dtype)
        self.seen |= {row.tobytes(): point for row, point in zip(y, x, strict=True)}
        return y, log_det

    def inverse(self, y):
        x = np.stack([self.seen.get(row.tobytes(), -0.5 * row) for row in y])
        return x, np.full(len(y), -y.shape[1] * np.log(2.0), dtype=y.dtype)


def test_a_cache_of_rows_is_seen_beside_them():
    f = RowCache()
    found = failed(["CA", "RT1", "LD3"], forward=f.forward, inverse=f.inverse, event_shape=(2,))
    assert found == {"CA"}


def test_strides_and_orders_are_seen():
    def strides(x):
        return x.ravel(order="K").reshape(x.shape), np.zeros(len(x), dtype=x.dtype)

    assert failed(["CA"], forward=strides, inverse=identity, event_shape=(2,)) == {"CA"}


def test_returning_the_input_or_refusing_read_only_arrays_is_no_fault():
    x = np.ones((3, 2))
    assert arrays_kept(identity, x).status == "pass"

    def refuses(x):
        if not x.flags.writeable:
            raise ValueError("read-only")
        return identity(x)

    assert "refused" in arrays_kept(refuses, x).remark
    buffer = np.zeros(())

    def shared(x):
        buffer[...] = x[0, 0]
        return x, np.broadcast_to(buffer, (len(x),))

    with pytest.raises(AssertionError, match="overwrote"):
        arrays_kept(shared, np.arange(6.0).reshape(3, 2))


def triangular(x):
    return np.stack([x[:, 0], x[:, 1] + np.sin(x[:, 0])], axis=1), np.zeros(len(x), dtype=x.dtype)


@pytest.mark.parametrize(
    ("mask", "right"), [([[1, 0], [1, 1]], True), ([[1, 1], [0, 1]], False), ([[1, 0], [0, 1]], False)]
)
def test_structure_is_what_is_declared(mask, right):
    mask = np.array(mask, dtype=bool)
    found = failed(["ST"], forward=triangular, event_shape=(2,), structure=mask)
    assert found == (set() if right else {"ST"})
    layers = [{"forward": identity, "inverse": identity}, {"forward": triangular, "structure": mask}]
    found = failed(["ST"], forward=triangular, event_shape=(2,), layers=layers)
    assert found == (set() if right else {"ST"})


def test_what_passes_through_is_exact():
    def rounded(x):
        y, log_det = triangular(x)
        y[:, 0] = y[:, 0].astype(np.float32)
        return y, log_det

    assert failed(["ST"], forward=triangular, event_shape=(2,)) == set()
    assert failed(["ST"], forward=rounded, event_shape=(2,), dtype="float64") == {"ST"}


CONTEXT = np.random.default_rng(1).standard_normal((8, 2)).astype(np.float32)


def conditional(use=lambda c: c, use_back=None):
    """y = x e^tanh(c_0) + c_1, with contexts that each direction makes something of."""
    use_back = use if use_back is None else use_back

    def ahead(x, c):
        s, t = np.tanh(use(c)[:, :1]), use(c)[:, 1:]
        return x * np.exp(s) + t, 2.0 * s[:, 0]

    def back(y, c):
        s, t = np.tanh(use_back(c)[:, :1]), use_back(c)[:, 1:]
        return (y - t) * np.exp(-s), -2.0 * s[:, 0]

    return {"forward": ahead, "inverse": back, "event_shape": (2,), "context": CONTEXT}


@pytest.mark.parametrize(
    ("what", "subject", "right"),
    [
        ("as it should", conditional(), True),
        ("row 0 for all", conditional(lambda c: np.broadcast_to(c[:1], c.shape)), False),
        ("the next row's", conditional(lambda c: np.roll(c, 1, axis=0)), False),
        ("centred by the batch", conditional(lambda c: c - c.mean(axis=0)), False),
        ("ignored by the inverse", conditional(use_back=lambda c: 0.0 * c), False),
        ("one coordinate ignored", conditional(lambda c: c * np.array([1.0, 0.0], dtype=c.dtype)), True),
        ("saturated at all known contexts", conditional(lambda c: (np.abs(c) > 1e-6).astype(c.dtype)), True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_contexts_reach_their_rows(what, subject, right, dtype):
    assert failed(["CX"], dtype, **subject) == (set() if right else {"CX"})


def test_a_context_that_changes_nothing_is_a_fault_unless_no_network_speaks():
    curved = elementwise(np.sinh, lambda x: np.log(np.cosh(x)), np.arcsinh)
    ignoring = {name: (lambda x, c, f=curved[name]: f(x)) for name in ("forward", "inverse")}
    assert failed(["CX"], **ignoring, event_shape=(2,), context=CONTEXT) == {"CX"}
    zero = refflow.realnvp(2, layers=2, hidden=(3,), context_dim=2, seed=0)
    untrained = refflow.map_arrays(lambda a: 0.0 * a, zero.bijection)
    assert failed(["CX"], target=untrained) == set()


def test_samples_and_densities_read_their_contexts():
    subject = next(fault for fault in FAULTS if fault.name.endswith("context ignored by sample"))
    assert failed(["CX"], **subject.build()) == {"CX"}
    subject = next(fault for fault in FAULTS if fault.name.endswith("context ignored in log_prob"))
    assert failed(["CX"], **subject.build()) == {"CX"}


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.expected & set(OURS) and not fault.expected & {"RT1", "LD1", "LD2"}],
    ids=lambda fault: fault.name,
)  # fmt: skip
def test_seeded_faults_that_are_ours_are_killed(fault):
    asked = sorted((fault.expected & set(OURS)) | GATES)
    report = refflow.verify(**fault.build(), fresh=fault.build, level="quick", only=asked)
    assert {outcome.id for outcome in report.of("fail")} & fault.expected


@pytest.mark.parametrize("subject", clean(5), ids=lambda subject: subject.name)
def test_sound_subjects_are_not_accused(subject):
    assert not failed(OURS, **subject.build(), fresh=subject.build)


def drawn(f, scale, seed):
    """A map with its parameters on the dyadic grid, k / 8 times the scale."""
    rng = np.random.default_rng([seed, int(scale)])
    values = [rng.integers(1 if name.endswith(POSITIVE) else -8, 9, a.shape) / 8.0 * scale
              for name, a in named_arrays(f).items()]  # fmt: skip
    return bind_arrays(f, refflow.arrays.rebuild(arrays(f), iter(values))) if values else f


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
@pytest.mark.parametrize("scale", SCALES)
def test_maps_of_the_registry_are_not_accused(entry, scale):
    """As modules and as black boxes, in the precisions that they compute in."""
    f = drawn(entry.map, scale, 1)
    codomain = (0.0, np.inf) if entry.range == (0.0, 8.0) else entry.range
    boxes = {"domain": entry.domain, "codomain": codomain, "event_shape": entry.event_shape}
    assert not failed(OURS, target=f, **boxes)
    known = recognise(f, event_shape=entry.event_shape)
    boxes |= {"context": known.context, "output_shape": f.output_shape}
    assert not failed(OURS, forward=f.forward, inverse=f.inverse, **boxes)


def slow_outside(x):
    """Slope 1 in [-1, 1] and 0.995 beyond, in every coordinate."""
    return np.where(np.abs(x) <= 1.0, x, np.sign(x) + 0.995 * (x - np.sign(x)))


def test_a_kink_of_another_coordinate_is_not_taken_for_a_wrong_log_det():
    def forward(x):
        return slow_outside(x), np.where(np.abs(x) <= 1.0, 0.0, np.log(0.995)).sum(axis=1)

    x = np.random.default_rng(0).normal(size=(12, 3))
    x[:, 2] = 1.0
    report = refflow.verify(forward=forward, event_shape=(3,), points=x, only=["ED"], dtype="float64")
    assert report.checks[0].status == "pass"


def box(x):
    """x + x (1 - x) / 2, from [0, 1] onto itself; aloud outside it."""
    if not np.all((x >= 0.0) & (x <= 1.0)):
        raise ValueError("outside the box")
    return 0.5 * (3.0 * x - x * x), np.log(1.5 - x).sum(axis=-1)


def unbox(y):
    if not np.all((y >= 0.0) & (y <= 1.0)):
        raise ValueError("outside the box")
    x = 2.0 * y / (1.5 + np.sqrt(2.25 - 2.0 * y))
    return x, -np.log(1.5 - x).sum(axis=-1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_maps_of_a_box_are_not_asked_outside_it(dtype):
    x = np.array([[0.0, 1.0], [1.0, 0.5], [0.25, 0.75], [0.999999, 1e-9]])
    given = {"event_shape": (2,), "domain": (0.0, 1.0), "codomain": (0.0, 1.0), "dtype": dtype}
    report = refflow.verify(forward=box, inverse=unbox, only=["CA"], points={"x": x, "y": x}, **given)
    assert report.checks[0].status == "pass"
