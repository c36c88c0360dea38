"""The registry on every library: where its maps run, what they give there, and how far that is from NumPy.

`tests/test_backends.py` asserts it; `validation/backends.py` records it.
"""

import importlib.util
from dataclasses import dataclass

import array_api_strict
import numpy as np
from strict import DEVICE, boxes_on_the_right, to_strict

import refflow
from refflow import arrays as xp
from refflow import verification as laws
from refflow.modules import arrays, bind_arrays, field_names, map_arrays, map_modules, module, named_arrays
from refflow.strategies import POSITIVE
from refflow.verification import conditions, turned

U = np.finfo(np.float64).eps / 2

UNITS = 16.0
"""Condition units that count as rounding, as for every law."""

GRADIENT = 1e-12
"""Relative difference of gradients between libraries."""

LAWS = (
    laws.shapes, laws.dtypes, laws.no_mutation, laws.repeatable, laws.nan_stays, laws.batching, laws.round_trip,
    laws.antisymmetry, laws.log_det_complex_step, laws.precision,
)  # fmt: skip
"""Those that a library may break. Rows keep their bits (`row_independence`) in NumPy and strict only: the vector code
of torch and XLA computes a row in other instructions when it stands elsewhere."""


def read_only(a):
    a = np.array(a)
    a.setflags(write=False)
    return a


def torch_tensor(a):
    import torch

    return torch.asarray(a, copy=True)


def jax_array(a):
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(a)


def dask_array(a):
    import dask.array

    return dask.array.from_array(a, chunks=((a.shape[0] + 1) // 2, *a.shape[1:]) if a.ndim and len(a) else a.shape)


def cupy_array(a):
    import cupy

    return cupy.asarray(a)


def balls(a):
    from refflow.certified import balls as exact

    return exact(a)


def wide(mid, rad):
    """Balls of given midpoints and radii."""
    import flint

    from refflow.certified.arrays import BallArray, objects

    mid, rad = np.broadcast_arrays(mid, rad)
    pairs = zip(mid.flat, rad.flat, strict=True)
    return BallArray(objects(mid.shape, (flint.arb(float(m), float(r)) for m, r in pairs)))


def with_bits(call, bits=128):
    """A call whose balls are computed with that many bits."""
    from refflow.certified import precision

    with precision(bits):
        return call()


@dataclass(frozen=True)
class Library:
    """Where a map is evaluated: how arrays get there and back, and whether the call is compiled."""

    name: str
    put: object
    needs: str = "numpy"
    keeps_parameters: bool = False
    """Whether parameters stay in NumPy: only the rows are the library's."""
    compiled: bool = False
    gradients: bool = True

    @property
    def missing(self):
        """Why it cannot run here, or ''."""
        if importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        if self.needs == "cupy" and not __import__("cupy").cuda.is_available():
            return "no CUDA device"
        return ""

    def place(self, f):
        return f if self.keeps_parameters else map_arrays(self.put, f)

    def call(self, f, x, context=None):
        """f.forward at NumPy rows, evaluated there; the library's own arrays."""
        rows = [self.put(a) for a in (x, context) if a is not None]
        if self.name == "balls":
            return with_bits(lambda: self.place(f).forward(*rows))
        if self.compiled:
            import jax

            return jax.jit(lambda tree, *rows: bind_arrays(f, tree).forward(*rows))(arrays(self.place(f)), *rows)
        if self.name == "strict":
            with boxes_on_the_right():
                return self.place(f).forward(*rows)
        return self.place(f).forward(*rows)


LIBRARIES = {
    library.name: library
    for library in (
        Library("numpy", np.array),
        Library("read-only numpy", read_only),
        Library("strict", to_strict, "array_api_strict"),
        Library("torch", torch_tensor, "torch"),
        Library("jax", jax_array, "jax"),
        Library("jax.jit", jax_array, "jax", compiled=True),
        Library("dask", dask_array, "dask", keeps_parameters=True, gradients=False),
        Library("cupy", cupy_array, "cupy"),
        Library("balls", balls, "flint", gradients=False),
    )
}
"""Strict is array-api-strict on its second device: a GPU's manners. Balls are not compared but must enclose."""


def home(a):
    """The library's array as NumPy's."""
    if xp.is_array(a) and xp.library(a) == "dask":
        a = a.compute()
    return np.asarray(xp.to_numpy(a))


def is_at_home(a, library, dtype=np.float64):
    """Whether the array belongs to the library, on its device, with the dtype: nothing went through the host."""
    if library == "strict":
        return isinstance(a, type(array_api_strict.asarray(0.0))) and a.device == DEVICE
    names = {"read-only numpy": "numpy", "jax.jit": "jax"}
    right = xp.library(a) == names.get(library, library)
    return right and (library == "balls" or str(a.dtype).rpartition(".")[2] == np.dtype(dtype).name)


def seeded(entry):
    """A generator of the entry's own: the same numbers in every process."""
    return np.random.default_rng([ord(c) for c in entry.name])


def drawn(entry, scale=1.0, dtype=np.float64, rows=4):
    """The entry's map with normal parameters, points of its domain, points of its range, and a context."""
    rng = seeded(entry)
    found = {n: scale * rng.standard_normal(a.shape) for n, a in named_arrays(entry.map).items()}
    found = {n: np.exp(a) if n.endswith(POSITIVE) else a for n, a in found.items()}
    f = bind_arrays(entry.map, xp.rebuild(arrays(entry.map), iter(found.values()))) if found else entry.map
    x, y = (
        rng.standard_normal((rows, *shape)) if box is None else rng.uniform(*box, (rows, *shape))
        for shape, box in ((entry.event_shape, entry.domain), (entry.output_shape, entry.range))
    )
    context = rng.standard_normal((rows, entry.context_dim)) if entry.context_dim else None
    f = map_arrays(lambda a: a.astype(dtype), f)
    return f, x.astype(dtype), y.astype(dtype), None if context is None else context.astype(dtype)


def in_dtype(dtype, f, x, context=None):
    """A map, its points and a context in the dtype."""
    return (
        map_arrays(lambda a: a.astype(dtype), f), x.astype(dtype), None if context is None else context.astype(dtype)
    )  # fmt: skip


def differences(library, f, x, context=None, dtype=np.float64):
    """The largest |there - NumPy| of values and of log-determinants, in units of u kappa (`conditions`): there in the
    dtype, whose u counts, in NumPy in float64."""
    want = f.forward(x, context)
    got = library.call(*in_dtype(dtype, f, x, context))
    assert all(is_at_home(a, library.name, dtype) for a in got), [type(a) for a in got]
    u = np.finfo(dtype).eps / 2
    scales = conditions(f, x, context)
    kappa = scales.value.reshape(want[0].shape), scales.log_det
    if library.name == "balls":
        errors = [ball.distance(value) for ball, value in zip(got, want, strict=True)]
        assert all(np.all(ball.radius() <= U * k) for ball, k in zip(got, kappa, strict=True))
    else:
        errors = [np.abs(home(a) - b) for a, b in zip(got, want, strict=True)]
    return tuple(float(np.max(e / (u * k))) for e, k in zip(errors, kappa, strict=True))


def cotangents(f, x):
    """Fixed weights of values and log-determinants that make a scalar of a map."""
    rng = np.random.default_rng(7)
    event = x.shape[1:] if f.output_shape is None else f.output_shape
    return rng.standard_normal((len(x), *event)), rng.standard_normal(len(x))


def gradient(library, f, x, context=None):
    """The gradient of sum(a y) + sum(b log_det) in parameters and x, by the library's own autodiff, as NumPy leaves."""
    a, b = (library.put(v.astype(x.dtype)) for v in cotangents(f, x))
    tree = {"parameters": arrays(library.place(f)), "x": library.put(x)}
    rows = () if context is None else (library.put(context),)

    def scalar(tree):
        moved = bind_arrays(f, tree["parameters"]) if tree["parameters"] else f
        y, log_det = moved.forward(tree["x"], *rows)
        return xp.sum(a * y) + xp.sum(b * log_det)

    if library.name.startswith("jax"):
        import jax

        found = (jax.jit(jax.grad(scalar)) if library.compiled else jax.grad(scalar))(tree)
    elif library.name == "torch":
        import torch

        leaves = xp.tree_map(lambda v: v.requires_grad_(), tree)
        flat = torch.autograd.grad(scalar(leaves), xp.leaves(leaves), allow_unused=True)
        zeros = [torch.zeros_like(v) if g is None else g for v, g in zip(xp.leaves(leaves), flat, strict=True)]
        found = xp.rebuild(tree, iter(zeros))
    else:
        with boxes_on_the_right():
            found = xp.value_and_grad(scalar)(tree)[1]
    found = xp.tree_map(lambda like, g: g, tree, found)  # JAX sorts keys
    assert all(is_at_home(g, library.name, x.dtype) for g in xp.leaves(found)), [type(g) for g in xp.leaves(found)]
    return [home(g) for g in xp.leaves(found)]


def gradient_difference(library, f, x, context=None, dtype=np.float64):
    """max |there - NumPy| / max |NumPy| over the leaves, which are compared each with its own size: there in the dtype,
    in NumPy in float64."""
    there = gradient(library, *in_dtype(dtype, f, x, context))
    pairs = zip(there, gradient(LIBRARIES["numpy"], f, x, context), strict=True)
    off = [np.max(np.abs(a - b), initial=0.0) / max(np.max(np.abs(b), initial=0.0), 1.0) for a, b in pairs]
    return float(np.max(off))  # NaN if one is, which Python's max may pass over


def numbers(f):
    """The arrays and the float constants of a map and its parts."""
    found = []

    def note(m):
        found.extend(v for k in field_names(type(m)) if isinstance(v := getattr(m, k), np.ndarray | float | complex))
        return m

    map_modules(note, f)
    return found


@module
class Elsewhere(refflow.Bijection):
    """A map evaluated in another library though its arrays, and what goes in and comes out, are NumPy's.

    Complex and extended numbers stay in NumPy: they are how laws differentiate and compare.
    """

    bijection: refflow.Bijection
    library: str

    event_rank = property(lambda self: self.bijection.event_rank)
    event_shape = property(lambda self: self.bijection.event_shape)
    output_shape = property(lambda self: self.bijection.output_shape)
    context_dim = property(lambda self: self.bijection.context_dim)

    def forward(self, x, context=None):
        return self._ask(self.bijection, x, context)

    def inverse(self, y, context=None):
        return self._ask(turned(self.bijection), y, context)

    def _ask(self, f, x, context):
        if any(np.asarray(a).dtype not in (np.float32, np.float64) for a in (x, *numbers(f))):
            return f.forward(x, context)
        return tuple(map(home, LIBRARIES[self.library].call(f, x, context)))
