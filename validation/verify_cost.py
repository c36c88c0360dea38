"""What a verification costs: seconds and memory for flows of 8 layers in 8 dimensions, of five libraries.

    python validation/verify_cost.py            measures (five minutes), writes results/verify_cost.json and the table
    python validation/verify_cost.py --tables   writes the table from the recorded run

Every verification runs in a process of its own, three times; the clock starts after the flow is made.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

from recording import HERE, RESULTS, machine, save

from refflow.verification.guard import Guard

D, LAYERS, HIDDEN = 8, 8, 64
LEVELS = {"quick": 3.0, "standard": 20.0}
"""Seconds that a verification may take."""

MEGABYTES = 1024
REPEATS = 3


def of_refflow() -> dict:
    """A RealNVP of refflow, whose layers and numbers the laws read."""
    import refflow

    return {"target": refflow.realnvp(D, layers=LAYERS, hidden=(HIDDEN,), seed=0)}


def black_box() -> dict:
    """The same one as four functions of arrays."""
    flow = of_refflow()["target"]
    f = flow.bijection
    return {
        "forward": lambda x: f.forward(x),
        "inverse": lambda y: f.inverse(y),
        "log_prob": lambda x: flow.log_prob(x),
        "sample": lambda n, seed: flow.sample(n, seed=seed),
        "event_shape": D,
    }


def of_nflows() -> dict:
    """Affine couplings with residual networks, and permutations."""
    import torch
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import AffineCouplingTransform, CompositeTransform, RandomPermutation
    from nflows.utils.torchutils import create_alternating_binary_mask

    torch.manual_seed(0)

    def net(width: int, out: int) -> torch.nn.Module:
        return ResidualNet(width, out, hidden_features=HIDDEN)

    parts = [
        part
        for i in range(LAYERS)
        for part in (
            AffineCouplingTransform(create_alternating_binary_mask(D, even=i % 2 == 0), net),
            RandomPermutation(D),
        )
    ]
    return {"target": Flow(CompositeTransform(parts), StandardNormal([D])).eval()}


def of_zuko() -> dict:
    """A neural spline flow, autoregressive: a pass of each inverse is D calls of a network."""
    import torch
    import zuko

    torch.manual_seed(0)
    return {"target": zuko.flows.NSF(D, transforms=LAYERS, hidden_features=(HIDDEN, HIDDEN))}


def of_flowjax() -> dict:
    """Affine couplings; its layers are scanned, and compiled once for every shape."""
    import jax
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    key = jax.random.key(0)
    base = Normal(jax.numpy.zeros(D))
    return {"target": coupling_flow(key, base_dist=base, flow_layers=LAYERS, nn_width=HIDDEN, invert=False)}


FLOWS = {
    "refflow.realnvp, as an object": of_refflow,
    "refflow.realnvp, as functions": black_box,
    "nflows, affine couplings": of_nflows,
    "zuko, NSF": of_zuko,
    "flowjax, coupling_flow": of_flowjax,
}


def once(name: str, level: str) -> dict:
    """One verification in this process."""
    import refflow
    from refflow.verification import kit

    guards = []

    def kept(*arguments: object, **more: object) -> Guard:
        guards.append(Guard(*arguments, **more))
        return guards[-1]

    kit.Guard = kept
    flow = FLOWS[name]()
    before, started = _megabytes(), time.perf_counter()
    report = refflow.verify(**flow, level=level)
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "compiling": round(sum(guard.granted for guard in guards), 3),
        "calls": sum(guard.calls for guard in guards),
        "megabytes": round(_megabytes()),
        "megabytes before": round(before),
        "statuses": report.counts,
        "remarks": list(report.remarks),
        "slowest": [[c.name, round(c.seconds, 2)] for c in sorted(report.checks, key=lambda c: -c.seconds)[:3]],
    }


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def measure(name: str, level: str) -> dict:
    command = [sys.executable, __file__, "--once", name, level]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads that wait for cores spin
    runs = []
    for _ in range(REPEATS):
        load = os.getloadavg()[0]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
        runs.append({**json.loads(done.stdout.splitlines()[-1]), "load before": round(load, 1)})
    runs.sort(key=lambda run: run["seconds"])
    return {"flow": name, "level": level, "all seconds": [run["seconds"] for run in runs], **runs[len(runs) // 2]}


def record() -> None:
    packages = ("torch", "jax", "nflows", "zuko", "flowjax")
    found: dict = {"machine": machine(*packages), "cases": []}
    for name in FLOWS:
        for level in LEVELS:
            found["cases"].append(measure(name, level))
            print(json.dumps(found["cases"][-1]), flush=True)
    save("verify_cost.json", found, rows="cases")


def page() -> str:
    found = json.loads((RESULTS / "verify_cost.json").read_text())
    where, loads = found["machine"], [case["load before"] for case in found["cases"]]
    lines = [
        "# What a verification costs",
        "",
        "Generated by `python validation/verify_cost.py --tables` from `results/verify_cost.json`. Flows of 8 layers",
        "in 8 dimensions, every verification in a process of its own: the median of three, and all of them; the clock",
        "starts when the flow is made, and so leaves the import of its library out, but not its compilations,",
        "which are the seconds in the next column (JAX's; counted where the adapter tells of them).",
        "Memory is the process's peak, its library included; `before` is its peak before the verification.",
        "",
        "| flow | level | seconds | fastest to slowest | compiling | may take | calls | peak, MB | before, MB "
        "| verdicts "
        "| slowest checks |",
        "| --- " * 11 + "|",
    ]
    for case in found["cases"]:
        verdicts = ", ".join(f"{n} {status}" for status, n in case["statuses"].items())
        checks = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in case["slowest"])
        lines.append(
            f"| {case['flow']} | {case['level']} | {statistics.median(case['all seconds']):.1f} | "
            f"{min(case['all seconds']):.1f} to {max(case['all seconds']):.1f} | "
            f"{case['compiling']:.1f} | {LEVELS[case['level']]:g} | {case['calls']} | {case['megabytes']:.0f} | "
            f"{case['megabytes before']:.0f} | {verdicts} | {checks} |"
        )
    lines += [
        "",
        f"{where['cores']} cores, Python {where['python']}, NumPy {where['numpy']}, torch {where['torch']}, JAX "
        f"{where['jax']}, nflows {where['nflows']}, zuko {where['zuko']}, flowjax {where['flowjax']}, {where['date']}. "
        f"A verification may take {MEGABYTES} MB. One thread for linear algebra; the load of the machine before the",
        f"runs shown was {min(loads):g} to {max(loads):g}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--once" in sys.argv:
        print(json.dumps(once(*sys.argv[2:4])))
    else:
        if "--tables" not in sys.argv:
            record()
        (HERE / "verify_cost.md").write_text(page())
