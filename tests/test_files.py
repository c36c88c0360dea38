"""Model files: what is saved is what is loaded, in the same bits; anything else is one clear error."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import array_api_strict
import numpy as np
import pytest
import safetensors.numpy

import refflow
from refflow import arrays as xp
from refflow import files, storage
from refflow.conditioners import MLP, ResidualNet
from refflow.errors import FileError, StructureError
from refflow.modules import Module, arrays, field_names, named_arrays, tree_equal


def noisy(flow, seed=0):
    """The flow away from its identity initialisation."""
    rng = np.random.default_rng(seed)
    return refflow.map_arrays(lambda a: a + 0.1 * rng.standard_normal(a.shape).astype(a.dtype), flow)


def small(seed=0):
    return noisy(refflow.realnvp(2, layers=2, hidden=(3,), seed=seed))


def normal(*maps, shape=(4,)):
    return refflow.Flow(refflow.StandardNormal(shape), maps[0] if len(maps) == 1 else refflow.Chain(maps))


def affine(n=4, dtype="float64"):
    return refflow.ElementwiseAffine(np.linspace(-1, 1, n).astype(dtype), np.linspace(0, 2, n).astype(dtype))


def image_flow():
    rng, maps = np.random.default_rng(0), [refflow.Logit(0.05, 0.0, 17.0, rank=3), refflow.ActNorm.init(2, rank=3)]
    for mask in (refflow.checkerboard_mask(2, 2, 2), refflow.channel_mask(2, 2, 2)):
        net = MLP.init(len(mask.kept), len(mask.moved), rng=rng, hidden=(5,), activation="silu")
        maps.append(refflow.AdditiveCoupling(mask, net))
    maps += [refflow.Reverse(rank=3), refflow.Permutation((1, 0), rank=3)]
    dequantization = refflow.Dequantization((1.0,))
    return refflow.Flow(refflow.StandardNormal((2, 2, 2)), refflow.Chain(tuple(maps)), dequantization)


def mixture():
    mask = refflow.half_mask(4)
    return refflow.LogisticMixtureCoupling(mask, MLP.init(2, 16, rng=np.random.default_rng(0), hidden=(3,)), 2)


def residual_flow():
    mask = refflow.half_mask(4)
    net = ResidualNet.init(2, 4, rng=np.random.default_rng(0), width=6, blocks=1, context_dim=3, dropout=0.25)
    return normal(refflow.AffineCoupling(mask, net, "soft", 3))


FLOWS = {
    "nice": lambda: noisy(refflow.nice(3, layers=2, hidden=(4,), seed=0)),
    "realnvp": lambda: noisy(refflow.realnvp(5, layers=3, hidden=(4,), seed=0, actnorm=True, linear="lu")),
    "realnvp float32": lambda: noisy(refflow.realnvp(3, layers=2, hidden=(4,), seed=0, dtype="float32")),
    "context": lambda: noisy(refflow.realnvp(3, layers=2, hidden=(4,), context_dim=2, seed=0)),
    "context float32": lambda: noisy(refflow.nice(2, layers=2, hidden=(4,), context_dim=1, seed=0, dtype="float32")),
    "one dimension": lambda: refflow.realnvp(1, layers=1, hidden=(3,), seed=0),
    "dropout": lambda: noisy(refflow.realnvp(2, layers=1, hidden=(3,), dropout=0.1, seed=0)),
    "images": lambda: noisy(image_flow()),
    "residual": lambda: noisy(residual_flow()),
    "multi-scale": lambda: noisy(refflow.glow((4, 4, 1), steps=1, hidden=(3,), context_dim=1, seed=0)),
    "convolutions float32": lambda: noisy(
        refflow.realnvp_image((4, 4, 1), couplings=1, hidden=(3,), dropout=0.1, seed=0, dtype="float32")
    ),
    "residual convolutions": lambda: noisy(
        refflow.realnvp_image((2, 2, 1), couplings=1, hidden=(3,), blocks=1, seed=0)
    ),
    "shapes": lambda: normal(
        refflow.Concatenate((refflow.Reshape((2, 2), (2, 2)), refflow.PermuteAxes((2, 2), (1, 0))), (2, 2)),
        refflow.Reshape((2, 4), (8,)),
        shape=(8,),
    ),
    "no arrays": lambda: normal(refflow.Reverse()),
    "affine": lambda: normal(affine()),
    "affine float32": lambda: normal(affine(dtype="float32")),
    "mixed dtypes": lambda: normal(affine(dtype="float32"), affine()),
    "standardize": lambda: normal(refflow.standardize(np.random.default_rng(0).normal(3, 2, (9, 4)))),
    "frozen": lambda: normal(refflow.Frozen(affine())),
    "inverse": lambda: normal(refflow.Inverse(affine())),
    "nested": lambda: normal(refflow.Chain((affine(), refflow.Inverse(refflow.Chain((affine(),)))))),
    "logit": lambda: normal(refflow.Logit(0.01, -1.0, 2.5)),
    "sigmoid": lambda: normal(refflow.Inverse(refflow.Sigmoid())),
    "permutation": lambda: normal(refflow.Permutation((2, 0, 3, 1))),
    "actnorm": lambda: normal(noisy(refflow.ActNorm.init(4))),
    "batch norm": lambda: normal(refflow.BatchNorm.init(4)),
    "triangular": lambda: normal(noisy(refflow.Triangular.init(4, lower=False))),
    "orthogonal": lambda: normal(refflow.Orthogonal.init(4, 0, reflections=2)),
    "maf": lambda: noisy(refflow.maf(3, layers=2, hidden=(4,), seed=0, context_dim=1, linear="rotation")),
    "iaf": lambda: noisy(refflow.iaf(2, layers=1, hidden=(4,), seed=0)),
    "nsf": lambda: noisy(refflow.nsf(3, layers=1, hidden=(4,), bins=2, seed=0)),
    "circular": lambda: noisy(refflow.nsf_circular(2, layers=1, hidden=(4,), bins=2, seed=0)),
    "spline": lambda: normal(noisy(refflow.RationalQuadraticElementwise.init((4,), bins=2))),
    "nsf_ar": lambda: noisy(refflow.nsf_ar(2, layers=1, hidden=(4,), bins=2, seed=0)),
    "standardize raw": lambda: normal(refflow.Standardize(np.zeros(4), np.full(4, 1 / 3))),
    "logistic mixture": lambda: noisy(normal(mixture())),
    "bends": lambda: noisy(
        normal(*(m.init(4, rng=np.random.default_rng(0)) for m in (refflow.Planar, refflow.Radial))),
    ),
    "sylvester": lambda: noisy(normal(refflow.Sylvester.init(4, 2, rng=np.random.default_rng(0)))),
    "residual block": lambda: noisy(normal(refflow.ResidualBlock.init(4, rng=np.random.default_rng(0), hidden=(3,)))),
    "diagonal": lambda: refflow.Flow(refflow.DiagonalNormal(np.ones(4), np.full(4, 0.1)), affine()),
    "curves": lambda: normal(
        refflow.SinhArcsinh.init((4,)),
        refflow.LeakyReLU(0.3),
        refflow.Exp(),
        refflow.Inverse(refflow.Softplus()),
        refflow.Tanh(),
    ),
    "full normal": lambda: refflow.Flow(refflow.FullNormal(np.ones(4), np.full(4, 0.1), np.arange(6.0)), affine()),
    "uniform": lambda: refflow.Flow(refflow.Uniform((0.0,) * 4, (0.1, 1.0, 1 / 3, 2.0)), refflow.Inverse(affine())),
    "student": lambda: refflow.Flow(refflow.StudentT(1 / 3, np.ones(4), np.full(4, 0.1)), affine()),
    "mixture": lambda: refflow.Flow(
        refflow.MixtureOfNormals(np.zeros(2), np.eye(2, 4), np.zeros((2, 4)), np.full((2, 6), 0.1)), affine()
    ),
    "mixture, diagonal": lambda: refflow.Flow(
        refflow.MixtureOfNormals(np.zeros(2), np.eye(2, 4), np.zeros((2, 4))), affine()
    ),
    "dequantization": lambda: refflow.Flow(
        refflow.StandardNormal((2,)), affine(2), refflow.Dequantization((0.1, 1 / 3))
    ),
    "context preprocessing": lambda: refflow.maf(
        4,
        layers=2,
        hidden=(3,),
        context_dim=2,
        context_preprocessing=refflow.standardize(np.eye(3, 2) * 30.0 + 50.0),
        seed=0,
    ),
}


@pytest.fixture
def model(tmp_path):
    """The path of a good, small file."""
    return small().save(tmp_path / "model.safetensors")


def refused(path, data=None, match="expected"):
    """The message of the FileError, and no other, that loading raises; it names the file."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FileError, match=match) as caught:
        refflow.load(path)
    assert type(caught.value) is FileError
    assert str(path) in str(caught.value)
    return str(caught.value)


# What is saved is what is loaded.


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_comes_back_in_the_same_bits(name, tmp_path):
    flow = FLOWS[name]()
    path = flow.save(tmp_path / "flow")
    again = refflow.load(path)
    assert repr(again) == repr(flow)
    assert tree_equal(arrays(again), arrays(flow))
    assert tree_equal(refflow.parameters(again), refflow.parameters(flow))
    context = None
    if flow.context_dim:
        context = np.random.default_rng(1).normal(size=(6, flow.context_dim))
        context = context.astype(next(iter(named_arrays(flow).values())).dtype)
    x = flow.sample(6, seed=3) if context is None else flow.sample(1, context, seed=3)[0]
    np.testing.assert_array_equal(again.log_prob(x, context), flow.log_prob(x, context))
    np.testing.assert_array_equal(again.encode(x, context), flow.encode(x, context))
    assert again.save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_every_module_of_refflow_is_registered_and_in_the_flows_above():
    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    concrete = {
        cls for cls in below(Module) if "__dataclass_fields__" in vars(cls) and cls.__module__.startswith("refflow.")
    }
    assert concrete <= set(files._TYPES.values())
    text = "".join(json.dumps(files.encode(make())) for make in FLOWS.values())
    assert {cls.__name__ for cls in concrete} == set(re.findall(r'"type": "(\w+)"', text))


def test_loaded_arrays_are_owned_and_writable(model):
    for array in named_arrays(refflow.load(model)).values():
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.dtype.isnative


def test_bytes_are_the_same_in_other_processes(tmp_path):
    code = (
        "import sys, refflow; flow = refflow.realnvp(3, layers=2, hidden=(4,), context_dim=1, seed=0); "
        "refflow.files.save(flow, sys.argv[1], {'b': {'d': 1, 'c': [0.1]}, 'a': 'x'})"
    )
    found = []
    for seed in ("0", "1", "77"):
        path = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], check=True, env=environment)
        found.append(path.read_bytes())
    here = files.save(
        refflow.realnvp(3, layers=2, hidden=(4,), context_dim=1, seed=0),
        tmp_path / "here", {"a": "x", "b": {"c": [0.1], "d": 1}},
    )  # fmt: skip
    assert {*found, here.read_bytes()} == {found[0]}


def test_array_orders_and_byte_orders_do_not_matter(tmp_path):
    flow = small()
    path = flow.save(tmp_path / "c")
    for name, change in {
        "fortran": np.asfortranarray,
        "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
        "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
        "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    }.items():
        other = refflow.map_arrays(change, flow).save(tmp_path / name)
        assert other.read_bytes() == path.read_bytes(), name


def test_other_libraries_save_the_same_file(tmp_path):
    flow = refflow.realnvp(3, layers=2, hidden=(4,), context_dim=2, seed=0, dtype="float32")
    device = array_api_strict.Device("device1")
    other = refflow.map_arrays(lambda a: array_api_strict.asarray(a, device=device), flow)
    assert other.save(tmp_path / "strict").read_bytes() == flow.save(tmp_path / "numpy").read_bytes()


def test_zero_dimensional_arrays_keep_their_shape(tmp_path):
    data = storage.pack({"a": np.array(2.5), "b": np.zeros((0, 3), dtype="float32")}, {}, kind="checkpoint")
    tensors, _ = storage.unpack(data, kind="checkpoint", name="x")
    assert {n: (a.shape, str(a.dtype)) for n, a in tensors.items()} == {"a": ((), "float64"), "b": ((0, 3), "float32")}
    assert tensors["a"] == 2.5


def test_floats_of_the_structure_are_exact(tmp_path):
    for value in (0.1, 1 / 3, 5e-324, 0.5 - 2**-53, np.float64(0.1)):
        flow = normal(refflow.Logit(alpha=value, high=1e300 if value == 5e-324 else 1.0))
        again = refflow.load(flow.save(tmp_path / "flow"))
        assert again.bijection.alpha.hex() == float(value).hex()


def test_numpy_integers_in_the_structure_become_integers(tmp_path):
    flow = normal(refflow.Permutation(tuple(np.array([1, 0, 3, 2])), rank=np.int64(1)))
    assert refflow.load(flow.save(tmp_path / "flow")).bijection.order == (1, 0, 3, 2)


def test_metadata_come_back(tmp_path):
    metadata = {"epochs": 3, "best": -1.25, "digest": "0" * 64, "data": ["digits", None], "name": 'q"\\ é\ud800'}
    path = files.save(small(), tmp_path / "flow", metadata)
    assert files.read_metadata(path) == metadata
    assert files.read_metadata(small().save(path)) == {}


# Anyone can read it.


def test_plain_safetensors_reads_the_arrays(tmp_path):
    for make in FLOWS.values():
        flow = make()
        path = flow.save(tmp_path / "flow")
        found, want = safetensors.numpy.load_file(path), named_arrays(flow)
        assert found.keys() - want.keys() == {"check.x", "check.log_prob"} | (
            {"check.context"} if flow.context_dim else set()
        )
        assert all(tree_equal(found[name], array) for name, array in want.items())


def independent_reader(data):
    """Arrays and description by the words of the docstrings alone."""
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n].decode("ascii"))
    assert n % 8 == 0
    assert next(iter(header)) == "__metadata__"
    text = header.pop("__metadata__")["refflow"]
    described = json.loads(text)
    assert text == json.dumps(described, sort_keys=True, separators=(",", ":"))
    zeroed = data[:50] + b"0" * 64 + data[114:]
    assert described["digest"] == data[50:114].decode() == hashlib.sha256(zeroed).hexdigest()
    found, end = {}, 0
    for name, entry in header.items():
        begin, (start, end) = end, entry["data_offsets"]
        assert start == begin
        dtype = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[entry["dtype"]]
        assert (8 + n + start) % np.dtype(dtype).itemsize == 0
        found[name] = np.frombuffer(data[8 + n + start : 8 + n + end], dtype).reshape(entry["shape"])
    assert 8 + n + end == len(data)
    return found, described


def test_an_independent_reader_needs_the_docstrings_only(tmp_path):
    for make in FLOWS.values():
        path = make().save(tmp_path / "flow")
        found, described = independent_reader(path.read_bytes())
        assert (described["format"], described["kind"]) == (1, "model")
        payload = described["payload"]
        assert payload["direction"] == "forward maps data to latent"
        assert payload["units"] == "nats"
        assert found["check.x"].shape[0] == found["check.log_prob"].shape[0] == 8
        names = re.findall(r'{"tensor": "([^"]+)"}', json.dumps(payload["structure"]))
        assert set(names) == {name for name in found if not name.startswith("check.")}


def test_wider_arrays_lie_first_so_that_all_are_aligned():
    tensors = {"a": np.ones(3, "float16"), "b": np.ones(3, "float32"), "c": np.ones(3), "d": np.ones(1, "float32")}
    found, _ = independent_reader(storage.pack(tensors, {}, kind="checkpoint"))
    assert list(found) == ["c", "b", "d", "a"]
    assert tree_equal({n: found[n] for n in tensors}, tensors)


def test_a_flow_in_half_precision_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"expected x of float32 or wider, got float16.*nothing was written"):
        normal(affine(dtype="float16")).save(tmp_path / "flow")
    assert not list(tmp_path.iterdir())


def test_no_field_is_written_that_is_transient(model):
    assert "rng" not in field_names(MLP)
    assert b"rng" not in model.read_bytes()
    assert b"gather" not in model.read_bytes()


# Accidents: one clear error, never a wrong model.


def test_cut_at_every_byte(model):
    data = model.read_bytes()
    seen = {re.sub(r"after \d+ bytes", "early", refused(model, data[:length])) for length in range(len(data))}
    assert len(seen) == 3  # empty, cut before the digest ends, cut later


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_bits_flipped(model, every):
    """One bit of every byte; every bit when deep."""
    data, rng = bytearray(model.read_bytes()), np.random.default_rng(0)
    for byte in range(len(data)):
        for bit in range(8) if every else rng.integers(0, 8, 1):
            data[byte] ^= 1 << int(bit)
            refused(model, bytes(data))
            data[byte] ^= 1 << int(bit)
    model.write_bytes(data)
    refflow.load(model)


def corrupted(data, rng):
    """One of: bytes overwritten, put in, taken out, two blocks swapped, a block zeroed, the file doubled or padded."""
    a, b = sorted(int(i) for i in rng.integers(0, len(data), 2))
    noise = rng.bytes(int(rng.integers(1, 20)))
    n = min(b - a, len(data) - b)
    return [
        data[:a] + noise + data[a + len(noise) :],
        data[:a] + noise + data[a:],
        data[:a] + data[b + 1 :],
        data[:a] + data[b : b + n] + data[a + n : b] + data[a : a + n] + data[b + n :],
        data[:a] + bytes(b - a) + data[b:],
        data + data[a:],
        data + b"\0" * (a + 1),
        data[::-1],
    ][int(rng.integers(0, 8))]


def test_corrupted_files_give_clear_errors(tmp_path):
    """At least 200, of flows large and small, and all refused."""
    rng, count = np.random.default_rng(5), 0
    originals = [make().save(tmp_path / "flow").read_bytes() for make in FLOWS.values()]
    while count < 1000:
        data = originals[count % len(originals)]
        bad = corrupted(data, rng)
        if bad != data:
            message = refused(tmp_path / "flow", bad)
            assert "expected" in message
            assert "got" in message
            count += 1


def test_foreign_files(tmp_path, model):
    path = tmp_path / "foreign"
    other = safetensors.numpy.save({"weight": np.zeros(3)}, metadata={"format": "pt"})
    refused(path, other, "another kind")
    refused(path, b"", "an empty file")
    refused(path, b"hello", "another kind|cut")
    refused(path, b"x,y\n" + b"1.5,2.5\n" * 100, "another kind")
    refused(path, b"\x80\x04\x95" + bytes(500), "another kind")  # a pickle
    refused(path, (2**60).to_bytes(8, "little") + b"{" * 200, "another kind")
    refused(path, (2**60).to_bytes(8, "little") + model.read_bytes()[8:], "digest")
    refused(tmp_path, match="directory")
    refused(tmp_path / "missing", match="No such file")
    refused(model / "below", match="Not a directory")
    checkpoint = storage.pack({"m": np.zeros(2)}, {"epoch": 1}, kind="checkpoint")
    refused(path, checkpoint, "expected .* to be a refflow model file, got a refflow 'checkpoint' file")
    with pytest.raises(FileError, match="checkpoint file, got a refflow 'model' file"):
        storage.unpack(model.read_bytes(), kind="checkpoint", name="x")
    with pytest.raises(FileError, match="null"):
        refflow.load("a\0b")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a file without end")
def test_a_file_without_end_is_refused_after_its_first_bytes():
    with pytest.raises(FileError, match="another kind"):
        refflow.load("/dev/zero")


def test_metadata_of_a_damaged_file_are_not_shown(model):
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(FileError, match="digest"):
        files.read_metadata(model)


# Malice: files whose digest fits.


def sealed(header, described, block):
    """A file of the header, the description (JSON, or text as it is) and the data, with a digest that fits."""
    text = described if isinstance(described, str) else json.dumps(described, sort_keys=True, separators=(",", ":"))
    quoted = json.dumps(text)
    rest = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))[1:-1]
    head = ('{"__metadata__":{"refflow":' + quoted + "}" + ("," + rest if rest else "") + "}").encode("utf-8")
    return seal(len(head).to_bytes(8, "little") + head + block)


def seal(data):
    zeroed = data[:50] + b"0" * 64 + data[114:]
    return data[:50] + hashlib.sha256(zeroed).hexdigest().encode() + data[114:]


def parts(path):
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    described = json.loads(header.pop("__metadata__")["refflow"])
    return header, {**described, "digest": "0" * 64}, data[8 + n :]


def test_the_forger_of_these_tests_can_forge(model):
    model.write_bytes(sealed(*parts(model)))
    assert repr(refflow.load(model)) == repr(small())


COUPLING = ("bijection", "bijections", 0)

DESCRIPTIONS = {
    "newer format": (["format"], 2, r"newer refflow \(format 2\): upgrade"),
    "much newer format": (["format"], 10**30, "newer refflow"),
    "older format": (["format"], 0, "unknown"),
    "format true": (["format"], True, "unknown"),
    "format text": (["format"], "1", "unknown"),
    "unknown kind": (["kind"], "thing", "got a refflow 'thing' file"),
    "kind list": (["kind"], [], "got a refflow"),
    "payload list": (["payload"], [], "model file"),
    "payload empty": (["payload"], {}, "entries"),
    "structure null": (["payload", "structure"], None, "expected a Flow"),
    "structure number": (["payload", "structure"], 3, "expected a Flow"),
    "structure list": (["payload", "structure"], [], "expected a Flow"),
    "structure empty": (["payload", "structure"], {}, "type and its fields"),
    "direction": (["payload", "direction"], "forward maps latent to data", "forward maps data to latent"),
    "units": (["payload", "units"], "bits", "nats"),
    "surplus entry": (["payload", "surplus"], 1, "entries"),
    "no flow": (["payload", "structure"], {"type": "Reverse", "fields": {"rank": 1}}, "expected a Flow"),
    "unknown type": (["type"], "MyLayer", "register before load"),
    "dotted type": (["type"], "os.system", "register before load"),
    "type list": (["type"], ["Flow"], "not valid"),
    "type null": (["type"], None, "unknown type"),
    "surplus key": (["surplus"], None, "type and its fields"),
    "fields list": (["fields"], [], "type and its fields"),
    "field missing": (["base", "fields"], {}, "expected the fields"),
    "field surplus": (["base", "fields", "x"], 1, "expected the fields"),
    "transient field": ([*COUPLING, "mask", "fields", "kept"], [0], "expected the fields"),
    "private field": ([*COUPLING, "mask", "fields", "__class__"], 1, "expected the fields"),
    "base of another shape": (["base", "event_shape"], [3], "coordinates|fit"),
    "base of a float shape": (["base", "event_shape"], [2.0], "of type"),
    "base of a bool shape": (["base", "event_shape"], [True, 2], "of type"),
    "base of text": (["base", "event_shape"], "22", "of type"),
    "enormous base": (["base", "event_shape"], [10**12], "coordinates"),
    "base beyond 64 bits": (["base", "event_shape"], [2**64], "64 bits"),
    "negative base": (["base", "event_shape"], [-1, -2], "rank"),
    "enormous mask": ([*COUPLING, "mask", "event_shape"], [10**6, 10**6], "coordinates"),
    "mask out of range": ([*COUPLING, "mask", "moved"], [5], "moved"),
    "mask of text": ([*COUPLING, "mask", "moved"], ["0"], "of type"),
    "mask of null": ([*COUPLING, "mask", "moved"], None, "of type"),
    "mask of a mask": ([*COUPLING, "mask"], 4, "of type"),
    "activation": ([*COUPLING, "conditioner", "activation"], "exec", "activation"),
    "activation list": ([*COUPLING, "conditioner", "activation"], [], "of type"),
    "another activation": ([*COUPLING, "conditioner", "activation"], "tanh", "check points"),
    "scale map": ([*COUPLING, "scale"], "quadratic", "scale map"),
    "another scale map": ([*COUPLING, "scale"], "soft", "check points"),
    "enormous bound": ([*COUPLING, "bound"], 10**400, "64 bits"),
    "null bound": ([*COUPLING, "bound"], None, "of type"),
    "negative bound": ([*COUPLING, "bound"], -1.0, "bound"),
    "context from nowhere": ([*COUPLING, "conditioner", "context_dim"], 1, "expected a conditioner"),
    "context out of range": ([*COUPLING, "conditioner", "context_dim"], -(2**62), "expected a conditioner"),
    "dropout": ([*COUPLING, "conditioner", "dropout"], 7, "dropout"),
    "no bijections": (["bijection", "bijections"], [], "at least one"),
    "a base among the maps": (["bijection", "bijections"], [{"type": "Mask", "fields": {}}], "expected the fields"),
    "tensor missing": ([*COUPLING, "conditioner", "layers"], [{"tensor": "nowhere"}], "name of an array"),
    "tensor list": ([*COUPLING, "conditioner", "layers"], [{"tensor": []}], "not valid"),
    "tensor for a number": ([*COUPLING, "bound"], {"tensor": "check.x"}, "name of an array"),
    "number for a tensor": ([*COUPLING, "conditioner", "layers", 0, "bias"], 0.0, "weight"),
    "text for a tensor": ([*COUPLING, "conditioner", "layers", 0, "weight"], "weight", "."),
    "a check array as a parameter": (
        [*COUPLING, "conditioner", "layers", 0, "weight"], {"tensor": "check.x"}, "name of an array",
    ),
    "two arrays swapped": (
        ["bijection", "bijections", 1, "conditioner", "layers", 0, "bias"],
        {"tensor": "bijection.bijections.0.conditioner.layers.0.bias"}, "check points",
    ),
    "array used twice": (["dequantization"], {"tensor": "bijection.bijections.0.conditioner.layers.0.bias"}, "of type"),
}  # fmt: skip


def put(described, path, value):
    """Set the place in the description; fields need no "fields", and short paths begin at the structure."""
    place = described
    if path[0] not in ("format", "kind", "payload"):
        place = described["payload"]["structure"]
    for key in path[:-1]:
        if isinstance(place, dict) and "fields" in place and key in place["fields"]:
            place = place["fields"]
        place = place[key]
    if isinstance(place, dict) and "fields" in place and path[-1] in place["fields"]:
        place = place["fields"]
    place[path[-1]] = value


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_hostile_descriptions(name, model):
    path, value, match = DESCRIPTIONS[name]
    header, described, block = parts(model)
    put(described, path, value)
    refused(model, sealed(header, described, block), match)


def test_hostile_text(model):
    header, described, block = parts(model)
    text = json.dumps(described, sort_keys=True, separators=(",", ":"))

    def again(old, new, match):
        assert old in text
        refused(model, sealed(header, text.replace(old, new, 1), block), match)

    again('"bound":2.0', '"bound":NaN', "the number NaN")
    again('"bound":2.0', '"bound":Infinity', "the number Infinity")
    again('"bound":2.0', '"bound":1e999', "the number 1e999")
    again('"bound":2.0', '"bound":' + "9" * 5000, "digits")
    again('"bound":2.0', '"bound":2.0,"bound":1.0', "twice")
    again('"format":1', '"format":1,"format":2', "twice")
    again('"metadata":{}', '"metadata":' + "[" * 200_000 + "]" * 200_000, "refflow header")
    again('"metadata":{}', '"metadata":', "refflow header")
    again('"structure":{', '"structure":{"fields":{"bijection":' * 3000 + "{", "refflow header")
    again('"digest":"' + "0" * 64 + '"', '"digest":"' + "0" * 64 + '","digest":""', "twice")
    deep = '{"fields":{"bijection":' * 400 + "0" + '},"type":"Frozen"}' * 400
    structure = json.dumps(described["payload"]["structure"], sort_keys=True, separators=(",", ":"))
    again(structure, deep, ".")


def test_hostile_headers(model):
    header, described, block = parts(model)
    first, *_, last = header

    def again(name, entry, match):
        refused(model, sealed({**header, name: entry}, described, block), match)

    good = header[last]
    for wrong in (
        {**good, "dtype": "I64"}, {**good, "dtype": "BF16"}, {**good, "dtype": []}, {**good, "dtype": None},
        {**good, "shape": [-8]}, {**good, "shape": [True] * 3}, {**good, "shape": [8.0]}, {**good, "shape": "8"},
        {**good, "shape": None}, {**good, "shape": [2**62, 2**62]}, {**good, "shape": [0, 2**70]},
        {**good, "shape": [9]}, {**good, "data_offsets": [0, 8]}, {**good, "data_offsets": [0]},
        {**good, "data_offsets": [0.5, "x"]}, {**good, "data_offsets": None},
        {"dtype": "F64"}, {}, [], None, 7, "x",
    ):  # fmt: skip
        again(last, wrong, "lies")
    again("surplus", {**good, "data_offsets": [len(block), len(block) + 64]}, "lies")
    again("surplus", {"dtype": "F64", "shape": [0], "data_offsets": [len(block)] * 2}, "all arrays")
    again("check.surplus", {"dtype": "F64", "shape": [0], "data_offsets": [len(block)] * 2}, "check vectors")
    again(first, {**header[first], "shape": list(reversed(header[first]["shape"]))}, ".")
    refused(model, sealed({n: e for n, e in header.items() if n != last}, described, block), "lies")
    refused(model, sealed(header, described, block + b"\0"), "lies")
    refused(model, sealed(header, described, block[:-1]), "lies")
    twice = json.dumps(header)[1:-1] + f', "{last}": {json.dumps(good)}'
    refused(model, sealed(twice, described, block), "twice")
    refused(model, sealed('"é":1', described, block), "ascii")
    refused(model, sealed('"\\u00e9":1', described, block), "lies")
    refused(model, sealed("]", described, block), "refflow header")
    refused(model, sealed(header, described, block)[:114] + b"\xff", "digest")
    whole = model_bytes = sealed(header, described, block)
    refused(model, seal((2**60).to_bytes(8, "little") + whole[8:]), "a header of")
    refused(model, seal((20).to_bytes(8, "little") + model_bytes[8:]), "refflow header")
    refused(model, seal(bytes(8) + model_bytes[8:]), "refflow header")


def test_hostile_arrays(model):
    tensors, payload = storage.unpack(model.read_bytes(), kind="model", name="x")
    weight = "bijection.bijections.0.conditioner.layers.0.weight"

    def again(match, **changes):
        changes = {name.replace("__", "."): array for name, array in changes.items()}
        changed = {name: array for name, array in {**tensors, **changes}.items() if array is not None}
        refused(model, storage.pack(changed, payload, kind="model"), match)

    again("NaN or infinity", **{weight: np.full((1, 3), np.nan)})
    again("NaN or infinity", **{weight: np.array([[0, np.inf, 0]])})
    again("expected", **{weight: np.zeros((3, 1))})
    again("expected", **{weight: np.zeros((1, 4))})
    again("check points", **{weight: tensors[weight] + 0.01})
    again("check points", **{weight: np.full((1, 3), 1e308)})
    again("0 coordinates of check.x", check__x=None)
    again("check vectors", check__log_prob=None)
    again("check vectors", check__context=np.zeros((8, 1)))
    again("check vectors|coordinates", check__x=np.zeros((0, 2)), check__log_prob=np.zeros(0))
    again("check vectors", check__x=np.zeros((8, 3)))
    again("check points", check__log_prob=np.full(8, np.nan))
    again("check points", check__log_prob=tensors["check.log_prob"].astype("float16"))
    again("check points", check__log_prob=tensors["check.log_prob"] + 1e-6)
    again("name of an array", **{weight: None})
    again("all arrays", more=np.zeros(2))


def test_check_vectors_forgive_rounding_and_points_without_density(model):
    tensors, payload = storage.unpack(model.read_bytes(), kind="model", name="x")
    log_p = tensors["check.log_prob"] * (1 + 1e-10)
    log_p[2] = -np.inf
    model.write_bytes(storage.pack({**tensors, "check.log_prob": log_p}, payload, kind="model"))
    assert repr(refflow.load(model)) == repr(small())


# Saving: nothing lost, nothing half-written.


def only(folder):
    return [p.name for p in folder.iterdir()]


def unsaved(flow, path, match, metadata=None):
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(FileError, match=match) as caught:
        files.save(flow, path, metadata)
    assert type(caught.value) is FileError
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.exists() else None) == before


def test_what_cannot_be_loaded_is_not_saved(model):
    unsaved(
        normal(refflow.ElementwiseAffine(np.array([np.nan] * 4), np.zeros(4))), model, "infinity in bijection.log_s"
    )
    unsaved(
        normal(refflow.ElementwiseAffine(np.zeros(4), np.array([np.inf] * 4))), model, "infinity in bijection.shift"
    )
    unsaved(normal(refflow.ElementwiseAffine(np.zeros(4, int), np.zeros(4, int))), model, "dtype float64, float32")
    unsaved(normal(refflow.ElementwiseAffine(np.full(4, -800.0), np.zeros(4))), model, "check points")
    unsaved(normal(refflow.Logit(np.float32(0.1))), model, r"Python number.* in bijection.alpha, got np.float32\(0.1\)")
    unsaved(affine(), model, "expected a Flow")
    for metadata in ({"x": float("nan")}, {"x": np.float32(1)}, {"x": b"x"}, {1: 2, "1": 3}):
        unsaved(small(), model, "JSON", metadata)
    unsaved(small(), model, "dict", [1])
    refflow.load(model)
    assert only(model.parent) == [model.name]


FAILURES = {
    "no space": ("fsync", OSError(28, "No space left on device"), FileError),
    "no rename": ("replace", PermissionError(13, "Permission denied"), FileError),
    "Ctrl-C while flushing": ("fsync", KeyboardInterrupt(), KeyboardInterrupt),
    "Ctrl-C before renaming": ("replace", KeyboardInterrupt(), KeyboardInterrupt),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_write_leaves_the_old_file(name, model, monkeypatch):
    function, failure, expected = FAILURES[name]
    before = model.read_bytes()

    def fail(*args, **kwargs):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(expected) as caught:
            small(seed=1).save(model)
        with pytest.raises(expected):
            small(seed=1).save(model.parent / "new")
    if expected is FileError:
        assert str(model) in str(caught.value)
        assert failure.strerror in str(caught.value)
        assert "nothing was changed" in str(caught.value)
    assert model.read_bytes() == before
    assert only(model.parent) == [model.name]


def test_a_real_write_that_fails_half_way(model):
    """The system refuses bytes beyond a limit, as a full disk does."""
    pytest.importorskip("resource")
    before = model.read_bytes()
    code = (
        "import resource, sys, refflow\n"
        "flow = refflow.realnvp(8, seed=0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: flow.save(sys.argv[1])\n"
        "except refflow.errors.FileError as error: print(error)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(model)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"cannot write {model}: File too large; nothing was changed" in said
    assert model.read_bytes() == before
    assert only(model.parent) == [model.name]


LOOP = """
import sys, refflow
flows = [refflow.realnvp(4, layers=2, hidden=(64,), seed=s) for s in (0, 1)]
print("ready", flush=True)
for i in range(10**9): flows[i % 2].save(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_writer_leaves_a_whole_file(number, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for wait in np.linspace(0.005, 0.05, 4):
        command = [sys.executable, "-c", LOOP, str(folder / "model")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            process.stdout.readline()
            while not (folder / "model").exists():
                time.sleep(0.001)
            time.sleep(wait)
            process.send_signal(number)
            process.wait()
        refflow.load(folder / "model")
        if number == signal.SIGINT:
            assert only(folder) == ["model"]


def test_bad_places_are_named(tmp_path, model):
    unsaved(small(), tmp_path / "missing" / "model", "No such file or directory; nothing was changed")
    unsaved(small(), model / "below", "Not a directory")
    with pytest.raises(FileError, match="too long"):
        small().save(tmp_path / ("x" * 300))
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="a folder or a device"):
        small().save(tmp_path / "folder")
    with pytest.raises(FileError, match="null"):
        small().save("a\0b")
    assert sorted(only(tmp_path)) == ["folder", model.name]
    assert only(tmp_path / "folder") == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_no_file_is_not_replaced(tmp_path):
    """A pipe, and not /dev/null: without its guard, this test run by root would replace that by a file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="a folder or a device"):
        small().save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_permissions_and_links_are_kept(tmp_path, model, monkeypatch):
    fresh = small().save(tmp_path / "fresh")
    (tmp_path / "plain").write_bytes(b"")
    assert fresh.stat().st_mode == (tmp_path / "plain").stat().st_mode
    model.chmod(0o600)
    (tmp_path / "link").symlink_to(model)
    assert small(seed=1).save(tmp_path / "link") == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert model.stat().st_mode & 0o777 == 0o600
    assert repr(refflow.load(model)) == repr(small(seed=1))
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write everywhere
    unsaved(small(), model, "write-protected")


def test_paths_may_be_text(tmp_path):
    path = small().save(str(tmp_path / "model"))
    assert path == tmp_path / "model"
    refflow.load(str(path))


# Layers of users.


@refflow.register
@refflow.module
class Shift(refflow.Bijection):
    """y = x + shift."""

    shift: np.ndarray
    note: str = "mine"
    extent: int | None = None

    def forward(self, x, context=None):
        return x + self.shift, xp.zeros(x.shape[:-1], like=x)

    def inverse(self, y, context=None):
        return y - self.shift, xp.zeros(y.shape[:-1], like=y)


def test_a_layer_of_a_user(tmp_path):
    flow = normal(Shift(np.arange(4.0)), refflow.Reverse())
    again = refflow.load(flow.save(tmp_path / "flow"))
    assert repr(again) == repr(flow)
    assert type(again.bijection.bijections[0]) is Shift
    code = "import sys, refflow; refflow.load(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "flow")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "unknown type 'Shift'; if it is yours, call refflow.register before load" in said


def test_an_unregistered_layer_is_refused_when_saved(tmp_path):
    @refflow.module
    class Mine(refflow.Bijection):
        bound: float = float("inf")

        def forward(self, x, context=None):
            return x, xp.zeros(x.shape[:-1], like=x)

        inverse = forward

    unsaved(normal(Mine()), tmp_path / "flow", "got Mine: call refflow.register")
    refflow.register(Mine)
    try:
        unsaved(normal(Mine()), tmp_path / "flow", "finite Python number.* in bijection.bound, got inf")
        unsaved(normal(Mine([1.0])), tmp_path / "flow", r"in bijection.bound, got \[1.0\]")
        unsaved(normal(Mine({})), tmp_path / "flow", "in bijection.bound")
        unsaved(normal(Mine("text")), tmp_path / "flow", "of type")
        unsaved(normal(Mine(((np.zeros(2),),))), tmp_path / "flow", "name of an array")
        normal(Mine(2)).save(tmp_path / "flow")
    finally:
        del files._TYPES["Mine"]


def test_names_clash_and_other_things_are_no_layers():
    @refflow.module
    class Reverse(refflow.Bijection):
        pass

    for wrong, match in [
        (Reverse, "got Reverse, which refflow.bijections.permutation has"),
        (Module, "decorated with refflow.module"),
        (refflow.Reverse(), "subclass of Module"),
        (int, "subclass of Module"),
        (type("Bare", (refflow.Reverse,), {}), "decorated with refflow.module"),
    ]:
        with pytest.raises(StructureError, match=match):
            refflow.register(wrong)
    assert refflow.register(Shift) is Shift
    assert refflow.register(refflow.Reverse) is refflow.Reverse
