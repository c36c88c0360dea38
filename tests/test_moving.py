"""Moving flows between libraries, and the rim: what is refused, in one clear error."""

import json
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
from matrix import LIBRARIES
from strict import DEVICE, to_strict

import refflow
from refflow import arrays as xp
from refflow.backends import BACKENDS, report
from refflow.errors import DeviceError, DTypeError, StructureError
from refflow.modules import arrays, map_arrays, tree_equal

FLOW = refflow.realnvp(2, layers=2, hidden=(3,), actnorm=True, context_dim=1, seed=0)
X, CONTEXT = np.zeros((3, 2)), np.zeros((3, 1))
FRAMEWORKS = ("torch", "jax")


def here(name):
    """The library's name, or a skip where it is not installed, or has no device."""
    marks = [pytest.mark.skip(reason=LIBRARIES[name].missing)] if LIBRARIES[name].missing else []
    return pytest.param(name, marks=[*marks, pytest.mark.gpu] if name == "cupy" else marks)


def moved(library):
    return map_arrays(LIBRARIES[library].put, FLOW)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", [*map(here, FRAMEWORKS), here("cupy")])
def test_there_and_back_in_the_same_bits(library, dtype):
    if library == "jax":
        LIBRARIES["jax"].put(X)  # turns 64 bits on
    flow = map_arrays(lambda a: a.astype(dtype), FLOW)
    there = flow.to(library)
    assert {xp.library(a) for a in xp.leaves(arrays(there))} == {library}
    back = there.to("numpy")
    assert {type(a) for a in xp.leaves(arrays(back))} == {np.ndarray}
    assert tree_equal(arrays(back), arrays(flow))
    assert not np.shares_memory(xp.leaves(arrays(FLOW.to("numpy")))[0], xp.leaves(arrays(FLOW))[0])


@pytest.mark.parametrize("library", [*map(here, FRAMEWORKS), here("cupy"), "strict"])
def test_saved_there_loaded_in_numpy(library, tmp_path):
    again = refflow.load(moved(library).save(tmp_path / "flow.safetensors"))
    assert tree_equal(arrays(again), arrays(FLOW))


@pytest.mark.parametrize("library", [*map(here, FRAMEWORKS), here("cupy"), "strict", here("balls")])
def test_libraries_do_not_mix(library):
    for flow, x, context in (
        (moved(library), X, CONTEXT),
        (FLOW, LIBRARIES[library].put(X), LIBRARIES[library].put(CONTEXT)),
        (FLOW, X, LIBRARIES[library].put(CONTEXT)),
    ):
        for ask in (flow.log_prob, flow.encode, flow.decode):
            with pytest.raises(
                DTypeError, match=r"expected (x|z|context) to be a \w+ array .*got a \w+ array; convert"
            ):
                ask(x, context)


def test_devices_do_not_mix():
    first = array_api_strict.asarray(X), array_api_strict.asarray(CONTEXT)
    with pytest.raises(DTypeError, match=r"expected x on device .*device1.* got"):
        moved("strict").log_prob(*first)
    with pytest.raises(DTypeError, match=r"expected context on device .*device1.* got"):
        moved("strict").log_prob(to_strict(X), first[1])
    with pytest.raises(DTypeError, match="expected context on device"):
        moved("strict").sample(2, first[1], seed=0)
    assert moved("strict").log_prob(to_strict(X), to_strict(CONTEXT)).device == DEVICE


HALF = {
    "numpy": lambda: np.zeros((3, 2), dtype="float16"),
    "torch": lambda: __import__("torch").zeros((3, 2), dtype=__import__("torch").bfloat16),
    "jax": lambda: __import__("jax").numpy.zeros((3, 2), dtype="bfloat16"),
}


@pytest.mark.parametrize("library", [*map(here, HALF)])
def test_half_precision_is_refused(library):
    x = HALF[library]()
    with pytest.raises(DTypeError, match=r"expected x of float32 or wider, got b?float16.*Convert it to float32"):
        moved(library).log_prob(x, x[:, :1])


def test_wider_arithmetic_keeps_its_type():
    for dtype in (np.longdouble, np.complex128):
        assert FLOW.log_prob(X.astype(dtype), CONTEXT).dtype == dtype
        assert FLOW.decode(X.astype(dtype), CONTEXT).dtype == dtype
    flow = map_arrays(lambda a: a.astype(np.longdouble), FLOW)
    z = flow.encode(X.astype(np.longdouble) + np.longdouble(1) / 3, CONTEXT)
    again = flow.decode(z, CONTEXT)
    if np.finfo(np.longdouble).eps < np.finfo(float).eps:
        assert np.max(np.abs(again - np.longdouble(1) / 3)) < 100 * np.finfo(np.longdouble).eps


def test_unknown_library_and_device():
    with pytest.raises(StructureError, match=r"expected a library among numpy, cupy, .*, got 'tf'"):
        FLOW.to("tf")
    with pytest.raises(DeviceError, match="expected no device or cpu for numpy, got 'cuda'"):
        FLOW.to("numpy", "cuda")


@pytest.mark.skipif(bool(LIBRARIES["dask"].missing), reason=LIBRARIES["dask"].missing)
def test_parameters_do_not_live_in_dask():
    with pytest.raises(StructureError, match="log_prob takes Dask arrays"):
        FLOW.to("dask")


@pytest.mark.skipif(bool(LIBRARIES["torch"].missing), reason=LIBRARIES["torch"].missing)
def test_no_such_torch_device():
    if __import__("torch").cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(DeviceError, match="cannot move arrays to torch on cuda:0"):
        FLOW.to("torch", "cuda:0")


@pytest.mark.skipif(bool(LIBRARIES["jax"].missing), reason=LIBRARIES["jax"].missing)
def test_no_such_jax_device():
    for device in ("gpu:99", "abacus"):
        with pytest.raises(DeviceError, match="expected a device that JAX knows"):
            FLOW.to("jax", device)


@pytest.mark.gpu
@pytest.mark.skipif(bool(LIBRARIES["cupy"].missing), reason=LIBRARIES["cupy"].missing or "cupy is here")
def test_a_loaded_flow_moves_to_the_gpu_and_gives_the_same_values(tmp_path):
    flow = refflow.load(FLOW.to("cupy", "cuda:0").save(tmp_path / "flow.safetensors")).to("cupy")
    x, context = (LIBRARIES["cupy"].put(a) for a in (X + 0.5, CONTEXT))
    got = flow.log_prob(x, context)
    assert xp.library(got) == "cupy"
    np.testing.assert_allclose(xp.to_numpy(got), FLOW.log_prob(X + 0.5, CONTEXT), rtol=1e-12)
    assert xp.library(flow.sample(2, context, seed=0)) == "cupy"
    with pytest.raises(DeviceError, match=r"expected a CUDA device in 0 \.\. "):
        FLOW.to("cupy", "cuda:99")


def test_no_gpu_is_said():
    if pytest.importorskip("cupy").cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(DeviceError, match="expected a CUDA device for cupy, found none"):
        FLOW.to("cupy")


def python(code):
    """What a new interpreter prints; the modules that stand for missing ones fail to import."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


MISSING = "import sys, importlib; [sys.modules.__setitem__(n, None) for n in ({names})]; import refflow\n"


@pytest.mark.parametrize(
    ("module", "call", "hint"),
    [
        ("cupy", "flow.to('cupy')", "refflow[cuda13]"),
        ("torch", "flow.to('torch')", "pip install torch"),
        ("jax", "flow.to('jax')", "pip install jax"),
        ("flint", "flow.to('balls')", "refflow[certified]"),
        ("dask", "flow.sample(4, seed=0, chunks=2)", "refflow[dask]"),
    ],
)
def test_what_is_not_installed_is_named(module, call, hint):
    code = MISSING.format(names=repr(module) + ",") + (
        "flow = refflow.nice(2, layers=1, hidden=(2,), seed=0)\n"
        f"try: {call}\nexcept refflow.errors.MissingExtraError as error: print(error)"
    )
    assert hint in python(code)


@pytest.mark.skipif(bool(LIBRARIES["jax"].missing), reason=LIBRARIES["jax"].missing)
def test_jax_without_64_bits_is_not_silent():
    code = (
        "import refflow\nflow = refflow.nice(2, layers=1, hidden=(2,), seed=0)\n"
        "try: flow.to('jax')\nexcept refflow.errors.DTypeError as error: print(error)\n"
        "print(refflow.nice(2, layers=1, hidden=(2,), seed=0, dtype='float32').to('jax'))"
    )
    first, *rest = python(code).splitlines()
    assert "expected JAX to keep float64, it makes float32 of it" in first
    assert "jax_enable_x64" in first
    assert "float32[" in "".join(rest)


def test_nothing_of_ours_imports_a_framework():
    code = (
        "import sys, numpy as np, refflow\n"
        "flow = refflow.realnvp(2, layers=2, hidden=(3,), seed=0)\n"
        "flow, _ = refflow.fit(flow, np.random.default_rng(0).normal(size=(40, 2)), epochs=1, seed=0)\n"
        "flow.log_prob(flow.sample(3, seed=0)); flow.to('numpy')\n"
        "print([n for n in ('torch', 'jax', 'cupy', 'dask', 'flint') if n in sys.modules])"
    )
    assert python(code) == "[]"


def test_info_lists_every_library():
    rows = {row["library"]: row for row in report()}
    assert list(rows) == list(BACKENDS)
    assert rows["numpy"]["works"]
    assert rows["numpy"]["version"] == np.__version__
    for row in rows.values():
        assert row["works"] or row["note"]
        assert row["version"] is not None or not row["works"]
    command = [sys.executable, "-m", "refflow", "info", "--backends", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == list(rows.values())
