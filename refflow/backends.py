"""The libraries a flow can live in: moving it from one to another, and what is installed here.

A flow computes where its arrays are. `move(flow, "cupy")` returns the same flow with its arrays on the GPU, moved once;
everything it is then asked runs there. A framework is imported here because it was asked for by name, nowhere else.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from refflow import arrays as xp
from refflow import pytrees
from refflow.errors import DeviceError, DTypeError, MissingExtraError, StructureError
from refflow.modules import map_arrays

M = TypeVar("M")


@dataclass(frozen=True)
class Backend:
    """One library: what to import, how to get it, and how a NumPy array becomes one of its arrays on a device."""

    name: str
    package: str
    """The name of the distribution, or of those that may provide it."""
    module: str
    install: str
    gives: str
    """What a flow can do there."""
    place: Callable[[Any, Any], Callable[[np.ndarray], Any]]
    """From the imported module and the device asked for to the function that moves one array."""
    devices: Callable[[Any], list[str]] = lambda module: ["cpu"]

    def load(self) -> Any:
        """The module, imported."""
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise MissingExtraError(f"expected {self.name} to be installed: {self.install}") from error

    @property
    def version(self) -> str | None:
        """The installed version, without importing it; None if it is not installed."""
        for package in self.package.split():
            try:
                return importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return None


def _numpy(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    _only_cpu("numpy", device)
    return np.array


def _cupy(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    number = _cupy_number(module, device)

    def place(a: np.ndarray) -> Any:
        with module.cuda.Device(number):
            return module.asarray(a)

    return place


def _cupy_number(module: Any, device: Any) -> int:
    """The number of a CUDA device that is there; if None, of the current one."""
    count = len(_cupy_devices(module))
    if not count:
        raise DeviceError(
            "expected a CUDA device for cupy, found none: check the driver with nvidia-smi, or stay on numpy"
        )
    number = int(module.cuda.runtime.getDevice()) if device is None else _number(device)
    if not 0 <= number < count:
        raise DeviceError(f"expected a CUDA device in 0 .. {count - 1}, got {device}")
    return number


def _cupy_devices(module: Any) -> list[str]:
    if not module.cuda.is_available():
        return []
    return [f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount())]


def _torch(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    return lambda a: module.asarray(a, device=device, copy=True)


def _torch_devices(module: Any) -> list[str]:
    return ["cpu", *(f"cuda:{i}" for i in range(module.cuda.device_count()))]


def _jax(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    pytrees.register(module)
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        try:
            device = module.devices(kind)[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise DeviceError(f"expected a device that JAX knows, such as cpu or gpu:0, got {device!r}") from error

    def place(a: np.ndarray) -> Any:
        found = module.numpy.asarray(a, device=device)
        if found.dtype != a.dtype:
            raise DTypeError(
                f"expected JAX to keep {a.dtype}, it makes {found.dtype} of it: call "
                f"jax.config.update('jax_enable_x64', True) first, or make the flow with dtype='float32'"
            )
        return found

    return place


def _balls(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    _only_cpu("balls", device)
    return module.balls  # type: ignore[no-any-return]


def _dask(module: Any, device: Any) -> Callable[[np.ndarray], Any]:
    raise StructureError(
        "expected a library that parameters can live in: they stay in numpy or cupy, and log_prob takes Dask arrays"
    )


def _only_cpu(name: str, device: Any) -> None:
    if device not in (None, "cpu"):
        raise DeviceError(f"expected no device or cpu for {name}, got {device!r}")


def _number(device: Any) -> int:
    text = str(device).removeprefix("cuda").removeprefix(":") or "0"
    if not text.isdigit():
        raise DeviceError(f"expected a CUDA device such as cuda:0 or 0, got {device!r}")
    return int(text)


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("numpy", "numpy", "numpy", "pip install numpy", "everything", _numpy),
        Backend(
            "cupy", "cupy-cuda13x cupy-cuda12x cupy", "cupy",
            "pip install 'refflow[cuda13]' or 'refflow[cuda12]', by the driver", "everything, on the GPU", _cupy,
            _cupy_devices,
        ),
        Backend(
            "torch", "torch", "torch", "pip install torch", "values, torch.autograd, torch.func", _torch, _torch_devices
        ),
        Backend("jax", "jax", "jax", "pip install jax", "values, grad, jit, vmap", _jax),
        Backend(
            "dask", "dask", "dask.array", "pip install 'refflow[dask]'", "values and samples, block by block", _dask
        ),
        Backend("balls", "python-flint", "refflow.certified", "pip install 'refflow[certified]'",
                "proven enclosures of values", _balls),
    )
}  # fmt: skip
"""The libraries that arrays of a flow can belong to, by name."""


def move(m: M, library: str, device: Any = None) -> M:
    """Return the module with all its arrays in the library, on the device.

    `library` is numpy, cupy, torch, jax or balls (to Dask arrays, flows go as they are). Torch's arrays are leaves that
    `torch.optim` takes after `requires_grad_()`; for JAX, modules become pytrees (`refflow.pytrees`). `device` is
    what that library calls one: `cuda:1` or 1 for CuPy, `cuda:0` for torch, `gpu:0` or a `jax.Device` for JAX; if None,
    the library's current one. Dtypes are kept. CuPy computes on its current device: to ask a flow on another one, do so
    inside `with cupy.cuda.Device(1):`.

    Raises `MissingExtraError` where the library is not installed, `DeviceError` where the device is not there.
    """
    if library not in BACKENDS:
        raise StructureError(f"expected a library among {', '.join(BACKENDS)}, got {library!r}")
    backend = BACKENDS[library]
    place = backend.place(backend.load(), device)
    try:
        return map_arrays(lambda a: place(xp.to_numpy(a)), m)
    except RuntimeError as error:
        raise DeviceError(f"cannot move arrays to {library} on {device or 'its device'}: {error}") from error


def compute_on(device: Any) -> None:
    """Make a CUDA device CuPy's current one, for this process. CuPy launches kernels, and puts what they return, on the
    current device, wherever their arrays are; on a machine with several GPUs a flow must be asked on its own."""
    module = BACKENDS["cupy"].load()
    module.cuda.Device(_cupy_number(module, device)).use()


def report() -> list[dict[str, Any]]:
    """For every library: version or None, devices, and what a flow can do there or what is amiss. Imports those that
    are installed."""
    return [_described(backend) for backend in BACKENDS.values()]


def _described(backend: Backend) -> dict[str, Any]:
    found: dict[str, Any] = {"library": backend.name, "version": backend.version, "devices": [], "works": False}
    try:
        module = backend.load()
        found["devices"] = backend.devices(module)
        _trial(backend, module)
    except Exception as error:  # whatever a broken installation raises
        return {**found, "note": str(error) or type(error).__name__}
    return {**found, "works": True, "note": backend.gives}


def _trial(backend: Backend, module: Any) -> None:
    """One log-density where it would be computed: an installation that imports may still not compute."""
    from refflow.recipes import realnvp

    flow = realnvp(2, layers=2, hidden=(2,), seed=0, dtype="float32")
    if backend.name == "dask":
        flow.log_prob(module.zeros((1, 2), dtype="float32")).compute()
        return
    x = backend.place(module, None)(np.zeros((1, 2), dtype=np.float32))
    value = move(flow, backend.name).log_prob(x)
    if backend.name != "balls" and not abs(float(value[0]) + 1.8378770) < 1e-5:
        raise DeviceError(f"expected log p = -1.8378770 of a test flow, got {float(value[0])}")
