"""Genuine CuPy arrays on a machine without a GPU: everything that happens before a kernel is launched.

CuPy installs and imports anywhere. `on_device` wraps an address that nobody owns in a real `cupy.ndarray`: its type,
its operators, its views and its refusals are CuPy's own. No test here may read or write the memory, so they run in CI
and do no harm beside a GPU. What kernels compute is asked by the tests marked `gpu`.
"""

import inspect
import operator
from contextlib import contextmanager

import numpy as np
import pytest
from autograd.core import VJPNode
from autograd.extend import VSpace, vspace
from autograd.tracer import isbox, new_box, trace_stack
from matrix import drawn
from registry import REGISTRY
from test_arrays import CASES, INDICES, gradient

import refflow
from refflow import arrays as xp
from refflow.arrays import namespaces
from refflow.arrays.tracing import ArrayBox, ArraySpace
from refflow.errors import DTypeError
from refflow.modules import first_array, map_arrays, named_arrays
from refflow.scoring import host_dtype
from refflow.training.optimizers import Flat
from refflow.verification import turned

cp = pytest.importorskip("cupy")
compat = pytest.importorskip("array_api_compat.cupy")

ADDRESS = 4096
"""Any address but 0, which is CuPy's word for no memory."""


def on_device(shape, dtype="float32", device=0):
    """A `cupy.ndarray` on the device, over memory that is not there."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = cp.cuda.UnownedMemory(ADDRESS, max(size, 1), None, device_id=device)
    return cp.ndarray(shape, dtype, memptr=cp.cuda.MemoryPointer(memory, 0))


@contextmanager
def traced(x):
    """The array on a tape of its own."""
    xp.register(type(x))
    with trace_stack.new_trace() as trace:
        yield ArrayBox(x, trace, VJPNode.new_root())


X = on_device((3, 4))
FLOW = refflow.realnvp(2, layers=2, hidden=(3,), actnorm=True, context_dim=1, seed=0, dtype="float32")
THERE = map_arrays(lambda a: on_device(a.shape, a.dtype), FLOW)
ROWS, CONTEXT = np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32)


# What it is.


def test_a_cupy_array_is_recognised():
    assert xp.is_array(X)
    assert xp.library(X) == "cupy"
    assert xp.namespace(X) is xp.namespace(2.0, None, X) is compat
    assert xp.device(X) == cp.cuda.Device(0)
    assert xp.device(on_device((2,), device=1)) == cp.cuda.Device(1)
    assert xp.shape(X) == (3, 4)


def test_a_traced_cupy_array_describes_itself():
    with traced(X) as box:
        assert (box.shape, box.ndim, box.size, box.dtype, len(box)) == ((3, 4), 2, 12, np.float32, 3)
        assert (xp.library(box), xp.device(box), xp.is_array(box)) == ("cupy", xp.device(X), True)


def test_autograd_knows_the_exact_type_once_it_is_registered(monkeypatch):
    monkeypatch.delitem(VSpace.mappings, cp.ndarray, raising=False)
    assert not any(issubclass(cp.ndarray, known) for known in VSpace.mappings)  # so nothing but its own type finds it
    xp.register(cp.ndarray)
    xp.register(cp.ndarray)
    assert VSpace.mappings[type(X)] is ArraySpace
    space = vspace(X)
    assert (space.shape, space.size, space.dtype, space.device) == ((3, 4), 12, np.float32, xp.device(X))
    assert space == vspace(on_device((3, 4)))
    with traced(X) as box:
        assert type(new_box(X, box._trace, box._node)) is ArrayBox
        assert vspace(box) == space


# Who computes.

REFLECTED = {
    operator.add: "__radd__", operator.sub: "__rsub__", operator.mul: "__rmul__", operator.truediv: "__rtruediv__",
    operator.matmul: "__rmatmul__", operator.lt: "__gt__", operator.le: "__ge__", operator.gt: "__lt__",
    operator.ge: "__le__", operator.eq: "__eq__", operator.ne: "__ne__",
}  # fmt: skip
OF_THE_BOX = ("add", "sub", "mul", "truediv", "matmul", "pow", "lt", "le", "gt", "ge", "eq", "ne")


@pytest.mark.parametrize(("operate", "name"), REFLECTED.items(), ids=[f.__name__ for f in REFLECTED])
def test_a_cupy_array_on_the_left_leaves_the_operator_to_the_box(monkeypatch, operate, name):
    monkeypatch.setattr(ArrayBox, name, lambda box, other: ("the box's", other))
    with traced(X) as box:
        assert getattr(X, f"__{operate.__name__}__")(box) is NotImplemented
        word, other = operate(X, box)
    assert word == "the box's"
    assert other is X


@pytest.mark.parametrize("name", OF_THE_BOX)
def test_a_box_on_the_left_computes_itself(monkeypatch, name):
    monkeypatch.setattr(ArrayBox, f"__{name}__", lambda box, other: ("the box's", other))
    with traced(X) as box:
        word, other = getattr(operator, name)(box, X)
    assert word == "the box's"
    assert other is X


def test_every_operator_of_the_box_is_an_operation_of_ours():
    names = {f"__{name}__" for name in OF_THE_BOX} | set(REFLECTED.values())
    assert {getattr(ArrayBox, name).__module__.partition(".")[0] for name in names} == {"refflow"}


# What stays a view: no kernel, the same bytes.


def strided(shape):
    """A NumPy array and a CuPy array of one layout. Each of NumPy's elements is its own offset in bytes."""
    return 4.0 * np.arange(np.prod(shape), dtype=np.float32).reshape(shape), on_device(shape)


def layout(x):
    """Shape, strides along axes that are longer than one, and the offset: which bytes, in which order."""
    if x.size:
        start = x.data.ptr - ADDRESS if isinstance(x, cp.ndarray) else int(x[(0,) * x.ndim])
    steps = [s for s, n in zip(x.strides, x.shape, strict=True) if n > 1]
    return (tuple(x.shape), *((steps, start) if x.size else ()))


VIEWS = {
    **{f"getitem, {name}": (x.shape, lambda x, i=i: xp.getitem(x, i)) for name, (x, i) in INDICES.items()},
    "reshape": ((3, 4), lambda x: xp.reshape(x, (2, 6))),
    "reshape, -1": ((3, 4), lambda x: xp.reshape(x, (-1, 2))),
    "reshape, 0-d": ((1,), lambda x: xp.reshape(x, ())),
    "broadcast_to": ((3, 1), lambda x: xp.broadcast_to(x, (2, 3, 4))),
    "expand_dims": ((3, 4), lambda x: xp.expand_dims(x, 1)),
    "squeeze": ((3, 1), lambda x: xp.squeeze(x, -1)),
    "matrix_transpose": ((2, 3, 4), xp.matrix_transpose),
    "permute_dims": ((2, 3, 4), lambda x: xp.permute_dims(x, (2, 0, 1))),
    "flip": ((2, 3, 4), lambda x: xp.flip(x, axis=1)),
    "split": ((3, 4), lambda x: xp.split(x, (1, 3))[1]),
    "split, rows": ((3, 4), lambda x: xp.split(x, (2, 1), axis=0)[1]),
}


@pytest.mark.parametrize(("shape", "view"), VIEWS.values(), ids=VIEWS)
def test_views_are_numpys_and_launch_nothing(shape, view):
    plain, there = strided(shape)
    answer, want = view(there), view(plain)
    assert type(answer) is cp.ndarray
    assert answer.dtype == np.float32
    assert layout(answer) == layout(want)


@pytest.mark.parametrize(("shape", "view"), VIEWS.values(), ids=VIEWS)
def test_views_of_boxes_are_boxes_around_the_same_bytes(shape, view):
    plain, there = strided(shape)
    with traced(there) as box:
        answer = view(box)
        assert type(answer) is ArrayBox
        assert tuple(answer._node.parents) == (box._node,)
        assert type(answer._value) is cp.ndarray
        assert layout(answer._value) == layout(view(plain))


def test_boxes_in_boxes_survive():
    with traced(X) as outer, trace_stack.new_trace() as trace:
        inner = ArrayBox(outer, trace, VJPNode.new_root())
        answer = xp.reshape(inner[1:, ...], (8,))
        assert type(answer) is type(answer._value) is ArrayBox
        assert isbox(answer._value)
        assert type(answer._value._value) is cp.ndarray
        assert answer.shape == (8,)


# What is refused.


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("convert", [np.asarray, np.array, np.ascontiguousarray, lambda x: np.zeros(2) + list(x)])
def test_cupy_refuses_to_become_a_numpy_array(convert):
    with pytest.raises(TypeError, match="Implicit conversion"):
        convert(on_device((2, 2)))


@pytest.mark.parametrize("convert", [np.asarray, np.array, float, np.exp, lambda x: np.add(x, 1.0), lambda x: 2.0**x])
def test_a_box_around_a_cupy_array_does_not_leave_the_tape_in_silence(convert):
    with traced(on_device(())) as box, pytest.raises(TypeError):
        convert(box)


def asked(flow, x, context):
    """Everything that a flow computes from rows."""
    yield lambda: flow.log_prob(x, context)
    yield lambda: flow.encode(x, context)
    yield lambda: flow.decode(x, context)
    loss = lambda tree: -xp.mean(refflow.bind(flow, tree).log_prob(x, context))  # noqa: E731
    yield lambda: xp.value_and_grad(loss)(refflow.parameters(flow))


@pytest.mark.parametrize(
    ("flow", "x", "context", "message"),
    [
        (THERE, ROWS, CONTEXT, "expected [xz] to be a cupy array .* got a numpy array; convert"),
        (FLOW, on_device((3, 2)), on_device((3, 1)), "expected [xz] to be a numpy array .* got a cupy array; convert"),
        (THERE, on_device((3, 2)), CONTEXT, "expected context to be a cupy array .* got a numpy array; convert"),
        (THERE, on_device((3, 2), device=1), on_device((3, 1)), "expected [xz] on device .*0> .* got .*1>"),
        (THERE, on_device((3, 2)), on_device((3, 1), device=1), "expected context on device .*0> .* got .*1>"),
        (THERE, on_device((3, 2), "float16"), on_device((3, 1)), "expected [xz] of float32 or wider, got float16"),
        (THERE, on_device((3, 2), "int64"), on_device((3, 1)), "expected [xz] of a floating dtype, got int64"),
    ],
    ids=["numpy rows", "numpy flow", "numpy context", "device of x", "device of context", "half", "integers"],
)
def test_what_does_not_belong_to_the_parameters_is_refused(flow, x, context, message):
    for ask in asked(flow, x, context):
        with pytest.raises(DTypeError, match=message):
            ask()


@pytest.mark.skipif(cp.cuda.is_available(), reason="a CUDA device would read memory that nobody owns")
def test_no_path_falls_back_to_numpy():
    """Where there is no device, the first kernel fails as CUDA's; a conversion on the way would be a TypeError."""
    for ask in asked(THERE, on_device((3, 2)), on_device((3, 1))):
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
            ask()


def test_structure_needs_no_device():
    assert "float32[3]" in repr(THERE)
    assert host_dtype(THERE) == np.float32
    assert type(first_array(THERE)) is cp.ndarray
    again = refflow.bind(THERE, refflow.parameters(THERE))
    assert all(a is b for a, b in zip(named_arrays(again).values(), named_arrays(THERE).values(), strict=True))
    tree = refflow.parameters(THERE)
    size = sum(a.size for a in xp.leaves(tree))
    views = Flat.of(tree).unflatten(on_device((size,)))
    assert [a.shape for a in xp.leaves(views)] == [a.shape for a in xp.leaves(tree)]
    starts = np.cumsum([0, *(4 * a.size for a in xp.leaves(tree))])[:-1]
    assert [a.data.ptr - ADDRESS for a in xp.leaves(views)] == list(starts)


# What is asked of the namespace.


class Overheard:
    """NumPy, and what was asked of it: names, and for each the forms of its calls."""

    __name__ = "numpy"

    def __init__(self):
        self.calls = {}

    def __getattr__(self, name):
        answer = getattr(np, name)  # what NumPy lacks may be asked for, never needed
        forms = self.calls.setdefault(name, set())
        if not callable(answer) or isinstance(answer, type):
            return answer

        def call(*args, **keywords):
            forms.add((len(args), tuple(sorted(keywords))))
            return answer(*args, **keywords)

        return call


@pytest.fixture(scope="module")
def overheard():
    """What every operation of the table, every derivative, every map of the registry and a training run ask."""
    numpy = Overheard()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (np.ndarray, np.float64, np.float32, np.bool):
            patch.setitem(namespaces._NAMESPACES, kind, numpy)
        for case in CASES:
            gradient(case, case.inputs)
        for entry in REGISTRY:
            f, x, y, context = drawn(entry)
            f.forward(x, context), turned(f).forward(y, context)
        flow = refflow.realnvp(2, layers=2, hidden=(3,), dropout=0.1, actnorm=True, seed=0)
        rows = np.random.default_rng(0).normal(size=(20, 2))
        flow, _ = refflow.fit(refflow.initialize(flow, rows), rows, epochs=1, ema=0.9, seed=0)
        flow.encode(flow.sample(3, seed=0)), xp.any(xp.isnan(rows)), xp.all(xp.isfinite(rows))
        xp.ones_like(rows), xp.full((2,), 1.0, rows), xp.arange(2, rows)
    return numpy.calls


def test_every_name_that_is_asked_for_is_cupys_too(overheard):
    assert len(overheard) > 40
    assert [name for name in overheard if not hasattr(compat, name)] == []


def test_every_form_of_call_fits_cupys_signature(overheard):
    """Functions of Python and of Cython say what they take; a ufunc says how many."""
    seen = 0
    for name, forms in overheard.items():
        function = getattr(compat, name)
        for count, keywords in forms:
            seen += 1
            if isinstance(function, cp.ufunc):
                assert (count, keywords) == (function.nin, ()), name
            elif not isinstance(function, type):
                inspect.signature(function).bind(*range(count), **dict.fromkeys(keywords))
    assert seen > 40
