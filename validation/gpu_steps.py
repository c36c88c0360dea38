"""Speed and memory for `gpu.py`: one training step, and log p of all rows, in each library on one device.

The mathematics (`workloads.py`), the parameters, the rows and the optimiser (Adam, all defaults but the rate) are the
same for all; rows and parameters are on the device before the clock starts. A contender is a call that waits for its
own result and returns the mean of what it computed, the loss or log p. Float32 products are float32's everywhere: TF32,
which JAX would use, is off.
"""

import tracemalloc
from collections.abc import Callable

import numpy as np
from recording import interleaved, ratio
from workloads import Workload, jax_log_prob, torch_log_prob, weights

import refflow
from refflow import arrays as xp
from refflow.training.optimizers import Adam, Flat

RATE = 1e-6
"""Of Adam: so small that a thousand steps on the same rows leave the work as it is."""

Call = Callable[[], float]


def refflow_call(work: Workload, task: str, library: str) -> Call:
    """refflow as `fit` computes: the gradient of mean log p by the tape, Adam on one flat vector."""
    flow = work.flow().to(library)
    x = xp.asarray(work.data(), like=xp.leaves(refflow.parameters(flow))[0])
    if task == "log_prob":
        return lambda: float(xp.mean(flow.log_prob(x)))  # float waits
    tree, adam = refflow.parameters(flow), Adam()
    layout = Flat.of(tree)
    loss = xp.value_and_grad(lambda tree: -xp.mean(refflow.bind(flow, tree).log_prob(x)))
    state = [layout.vector(tree), adam.start(layout.vector(tree))]

    def step() -> float:
        value, gradient = loss(layout.unflatten(state[0]))
        state[:] = adam.step(state[0], layout.vector(gradient), state[1], RATE)
        synchronise(library)
        return float(value)

    return step


def synchronise(library: str) -> None:
    """Wait for everything that was asked of the device."""
    if library == "cupy":
        import cupy

        cupy.cuda.get_current_stream().synchronize()


def torch_call(work: Workload, task: str, device: str, compiled: dict | None = None) -> Call:
    """The model by hand in PyTorch, eager or compiled with these options, and torch's fused Adam on a GPU."""
    import torch

    torch.set_float32_matmul_precision("highest")
    model = _torch_model(work.flow()).to(device)
    x = torch.asarray(work.data(), device=device)
    ask = model if compiled is None else torch.compile(model, **compiled)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=device == "cuda")

    def log_prob() -> float:
        with torch.no_grad():
            return float(ask(x))

    def step() -> float:
        adam.zero_grad()
        value = -ask(x)
        value.backward()
        adam.step()
        wait()
        return float(value.detach())

    return log_prob if task == "log_prob" else step


def _torch_model(flow: refflow.Flow):
    """A module whose parameters are the flow's and whose value is mean log p."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            couplings = weights(flow)
            self.shapes = [len(layers) for layers in couplings]
            flat = [torch.asarray(a, copy=True) for layers in couplings for pair in layers for a in pair]
            self.leaves = torch.nn.ParameterList(flat)

        def forward(self, x):
            leaves = iter(self.leaves)
            couplings = [[(next(leaves), next(leaves)) for _ in range(n)] for n in self.shapes]
            return torch_log_prob(couplings, x).mean()

    return Model()


def jax_call(work: Workload, task: str) -> Call:
    """The model by hand in JAX, all of a step in one jitted function that may overwrite its state."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")
    theta, x = [jax.tree.map(jnp.asarray, weights(work.flow())), jnp.asarray(work.data())]
    if task == "log_prob":
        ask = jax.jit(lambda theta, x: jax_log_prob(theta, x).mean())
        return lambda: float(ask(theta, x))
    loss, adam = jax.value_and_grad(lambda theta, x: -jax_log_prob(theta, x).mean()), Adam()

    def update(theta, m, v, t, x):
        value, g = loss(theta, x)
        m = jax.tree.map(lambda m, g: adam.beta1 * m + (1.0 - adam.beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: adam.beta2 * v + (1.0 - adam.beta2) * g * g, v, g)
        c, d = 1.0 - adam.beta1**t, 1.0 - adam.beta2**t
        theta = jax.tree.map(lambda p, m, v: p - RATE * (m / c) / (jnp.sqrt(v / d) + adam.epsilon), theta, m, v)
        return value, theta, m, v, t + 1.0

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    state = [theta, jax.tree.map(jnp.zeros_like, theta), jax.tree.map(jnp.zeros_like, theta), jnp.float32(1.0)]

    def step() -> float:
        value, *state[:] = jitted(*state, x)
        jax.block_until_ready(state)
        return float(value)

    return step


def absent(library: str, device: str) -> str:
    """Why a framework cannot compete on the device, or ''."""
    try:
        if library == "torch":
            import torch

            return "" if device == "cpu" or torch.cuda.is_available() else "torch sees no GPU"
        import jax

        backend = jax.default_backend()
        return "" if backend == ("cpu" if device == "cpu" else "gpu") else f"JAX computes on {backend}"
    except Exception as error:  # whatever a broken installation raises
        return f"{type(error).__name__}: {error}"


def timings(found: dict, sizes) -> None:
    """Seconds a call, in turns; those that are not here are named with the reason."""
    for name, task, work in sizes.timed:
        found[name] = {"milliseconds": {}, "refflow over": {}, "absent": {}}
        calls = contenders(work, task, sizes, found[name]["absent"])
        if "refflow" not in calls:
            continue
        times = interleaved(calls, sizes.seconds)
        ours = times["refflow"]
        found[name]["rounds"] = len(ours)
        found[name]["milliseconds"] = {other: round(1e3 * float(np.median(t)), 4) for other, t in times.items()}
        found[name]["refflow over"] = {other: ratio(ours, t) for other, t in times.items() if other != "refflow"}


def contenders(work: Workload, task: str, sizes, missing: dict) -> dict:
    """Calls that agree in what they compute the first time; why others are not among them goes into `missing`."""
    makers = {
        "refflow": lambda: refflow_call(work, task, sizes.library),
        "refflow, NumPy on the CPU": lambda: refflow_call(work, task, "numpy"),
        "torch, eager": lambda: torch_call(work, task, sizes.device),
        f"torch.compile, {' '.join(sizes.compiled.values())}": lambda: torch_call(
            work, task, sizes.device, sizes.compiled
        ),
        "jax.jit": lambda: jax_call(work, task),
    }
    if work.rows > 200_000:
        missing["refflow, NumPy on the CPU"] = makers.pop("refflow, NumPy on the CPU") and "not asked: too slow"
    found, want = {}, None
    for name, make in makers.items():
        library = name.partition(".")[0].partition(",")[0]
        reason = "" if library == "refflow" else absent(library, sizes.device)
        try:
            call = None if reason else make()
            value = call() if call else None
        except Exception as error:  # a contender that fails is absent, with its error
            call, value, reason = None, None, f"{type(error).__name__}: {error}"[:500]
        want = value if want is None else want
        if call is not None and not abs(value - want) <= 1e-4 * abs(want):
            call, reason = None, f"computes {value} where refflow computes {want}"
        if call is None:
            missing[name] = reason
        else:
            found[name] = call
    return found


def memory(found: dict, sizes) -> None:
    """What one call takes beyond what lies on the device: CuPy's pool from the device, torch's peak of what is in use,
    NumPy's peak by tracemalloc."""
    for name, task, work in sizes.timed:
        found[name] = {"megabytes of x": work.rows * work.dim * 4 / 1e6}
        found[name]["refflow"] = peak_megabytes(refflow_call(work, task, sizes.library), sizes.library)
        if not absent("torch", sizes.device) and sizes.device == "cuda":
            found[name]["torch, eager"] = peak_megabytes(torch_call(work, task, "cuda"), "torch")


def peak_megabytes(call, library: str) -> float:
    call()
    if library == "cupy":
        import cupy

        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        call()
        return (pool.total_bytes() - before) / 1e6
    if library == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
