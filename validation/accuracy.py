"""How exact every map of the registry is, how far out it may be used, and what it costs.

    python validation/accuracy.py            measures (some minutes), writes results/accuracy.json and accuracy.md
    python validation/accuracy.py NAME       measures the entries whose names hold NAME, and prints them
    python validation/accuracy.py --tables   writes the page from the recorded run

Every line of `tests/registry.py` is one of the table, by itself. Errors are given as the excess rho = error / (u kappa)
of `refflow.verification.conditioning`, so that 1 is about what rounding the input loses, and 16 the line that the
laws draw.
"""

import json
import sys
import time

import numpy as np
from autograd.core import VJPNode
from autograd.tracer import trace_stack
from recording import HERE, RESULTS, machine, save
from scipy.linalg import lu

sys.path.insert(0, str(HERE.parent / "tests"))
from registry import REGISTRY, Entry

from refflow import arrays as xp
from refflow.arrays.tracing import ArrayBox
from refflow.modules import arrays, bind_arrays, map_arrays, named_arrays
from refflow.strategies import POSITIVE, SCALES
from refflow.verification import turned
from refflow.verification.calls import cast, forward, layers
from refflow.verification.conditioning import conditions, derivatives, unit
from refflow.verification.verdicts import EXCESS

DRAWS, ROWS = 8, 50
"""Parameter draws a cell, and rows a draw: 400 rows."""

DTYPES = ("float64", "float32")
POWERS = range(7)
"""Inputs of size 10^k are tried."""

TIMED = 4096
"""Rows that are timed together."""

REASONS: dict[str, str] = {}
"""Why a map is over 16 units at its 99th percentile, by the beginning of its name. Without one the page says so."""


def drawn(entry: Entry, scale: float, seed: int, dtype: str, rows: int = ROWS):
    """The map with parameters on the grid k / 64 times the scale, |k| <= 128, points of its domain and of its range."""
    rng = np.random.default_rng([seed, int(scale), *(ord(c) for c in entry.name)])
    found = {n: scale * rng.integers(-128, 129, a.shape) / 64.0 for n, a in named_arrays(entry.map).items()}
    found = {n: np.exp(a / 4.0) if n.endswith(POSITIVE) else a for n, a in found.items()}
    f = bind_arrays(entry.map, xp.rebuild(arrays(entry.map), iter(found.values()))) if found else entry.map
    shapes = ((rows, *entry.event_shape), (rows, *entry.output_shape))
    x, y = (
        2.0 * rng.standard_normal(shape) if box is None else rng.uniform(*box, shape)
        for shape, box in zip(shapes, (entry.domain, entry.range), strict=True)
    )
    context = rng.standard_normal((rows, entry.context_dim)).astype(dtype) if entry.context_dim else None
    return map_arrays(lambda a: a.astype(dtype), f), x.astype(dtype), y.astype(dtype), context


def round_trip(f, x, context):
    """The excess of |f^-1(f(x)) - x|, (N, D), and which rows first-order theory covers, without those that overflow."""
    y, _ = forward(f, x, context)
    back, _ = forward(turned(f), y, context)
    scales = conditions(f, x, context)
    error = np.abs(back.astype(float) - x.astype(float)).reshape(len(x), -1)
    fits = np.isfinite(y).reshape(len(y), -1).all(axis=1)
    return excess(error, scales.round_trip, x.dtype), scales.conclusive(x.dtype) & fits


def log_det(f, x, context):
    """|log_det - log|det J||, J by the complex step of the same map in float64, its excess, and which rows count.

    Layer by layer, as the chain rule has it: the determinant of a whole flow's J, of condition 1e9, would be the worse
    of the two numbers compared. The scale is that of the law `log_det_complex_step`: what conditioning explains, and
    what the determinants may lose.
    """
    wide, points = cast(f, np.float64), x.astype(float)
    c = None if context is None else context.astype(float)
    scales = conditions(wide, points, c)
    exact, lost, usable = 0.0, 0.0, scales.conclusive(x.dtype)
    for layer in layers(wide):
        terms = determinant(layer, points, c)
        exact, lost, usable = exact + terms[0], lost + terms[1], usable & terms[2]
        points = forward(layer, points, c)[0]
    error = np.abs(forward(f, x, context)[1].astype(float) - exact)
    kappa = scales.log_det + lost * unit(np.float64) / unit(x.dtype)
    usable &= unit(x.dtype) * kappa <= 1e-3
    return error, excess(error, kappa, x.dtype), usable


def determinant(layer, x, context):
    """log|det J| of one layer, what it may be wrong by in units of u, and where there is one."""
    jacobian, _ = derivatives(layer, x, context)
    usable = np.isfinite(jacobian).all(axis=(1, 2))
    usable[usable] = np.linalg.slogdet(jacobian[usable])[0] != 0.0
    jacobian = np.where(usable[:, None, None], jacobian, np.eye(jacobian.shape[-1]))
    p, lower, upper = lu(jacobian)
    entries = conditions(layer, x, context).jacobian + jacobian.shape[-1] * (p @ (np.abs(lower) @ np.abs(upper)))
    lost = np.sum(np.abs(np.linalg.inv(jacobian)) * np.swapaxes(entries, 1, 2), axis=(1, 2))
    return np.linalg.slogdet(jacobian)[1], lost, usable


def excess(error, kappa, dtype):
    """rho, infinite where an error is not a number."""
    with np.errstate(all="ignore"):
        rho = error / (unit(dtype) * kappa)
    return np.where(error == 0.0, 0.0, np.where(np.isnan(rho), np.inf, rho))


def summary(values, rows) -> dict | None:
    """The 99th percentile and the worst over the rows that count; nothing if none does."""
    chosen = np.concatenate([v[r].ravel() for v, r in zip(values, rows, strict=True)])
    if not chosen.size:
        return None
    return {"p99": number(np.quantile(chosen, 0.99, method="higher")), "worst": number(chosen.max())}


def number(v: float) -> float | None:
    """Three digits, as JSON knows them; None for infinity."""
    return float(f"{v:.3g}") if np.isfinite(v) else None


def cell(entry: Entry, scale: float, dtype: str) -> dict:
    """The errors of one map at one parameter scale in one dtype, in both directions."""
    found: dict[str, list] = {k: [] for k in ("there", "back", "ok there", "ok back", "error", "rho", "ok")}
    for seed in range(DRAWS):
        f, x, y, context = drawn(entry, scale, seed, dtype)
        for name, g, points in (("there", f, x), ("back", turned(f), y)):
            rho, ok = round_trip(g, points, context)
            found[name].append(rho)
            found[f"ok {name}"].append(ok)
        for g, points in ((f, x), (turned(f), y)):
            for name, value in zip(("error", "rho", "ok"), log_det(g, points, context), strict=True):
                found[name].append(value)
    judged = np.concatenate([*found["ok there"], *found["ok back"], *found["ok"]])
    return {
        "round trip": summary(found["there"], found["ok there"]),
        "round trip of the inverse": summary(found["back"], found["ok back"]),
        "log_det": summary(found["rho"], found["ok"]),
        "log_det, absolute": summary(found["error"], found["ok"]),
        "inconclusive": number(1.0 - judged.mean()),
    }


def reach(entry: Entry, dtype: str) -> int | None:
    """The largest k <= 6 for which points of size up to 10^j, for every j <= k, go round within 16 units at the 99th
    percentile, all finite; -1 if not even 1 does, None for maps of an interval."""
    if entry.domain is not None:
        return None
    largest = -1
    for power in POWERS:
        rhos, rows = [], []
        for seed in range(2):
            f, x, _, context = drawn(entry, 1.0, seed, dtype)
            size = np.abs(x).reshape(len(x), -1).max(axis=1).reshape(-1, *(1,) * (x.ndim - 1))
            x = (x / size * 10.0**power).astype(dtype)
            rho, _ = round_trip(f, x, context)
            there = forward(f, x, context)
            finite = all(np.isfinite(a).all() for a in (*there, *forward(turned(f), there[0], context)))
            rhos.append(rho if finite else np.full_like(rho, np.inf))
            rows.append(np.ones(len(x), dtype=bool))
        found = summary(rhos, rows)
        if found is None or found["p99"] is None or found["p99"] > EXCESS:
            break
        largest = power
    return largest


def cost(entry: Entry) -> dict:
    """Microseconds a row of 4096, the best of five, and array operations, in float64 on NumPy."""
    f, x, y, context = drawn(entry, 1.0, 0, "float64", TIMED)
    found: dict[str, float] = {}
    for name, g, points in (("forward", f, x), ("inverse", turned(f), y)):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            forward(g, points, context)
            times.append(time.perf_counter() - began)
        found[name] = number(1e6 * min(times) / TIMED)
        found[f"{name}, operations"] = operations(g, points[:2], None if context is None else context[:2])
    return found


def operations(f, x, context) -> int:
    """How many operations of `refflow.arrays` depend on x or a parameter on the way to the value or log_det."""
    tree = {"x": x, "parameters": arrays(f)}
    with trace_stack.new_trace() as trace, np.errstate(all="ignore"):
        boxes = (ArrayBox(a, trace, VJPNode.new_root()) for a in xp.leaves(tree))
        boxed = xp.rebuild(tree, boxes)
        moved = bind_arrays(f, boxed["parameters"]) if boxed["parameters"] else f
        outputs = moved.forward(boxed["x"], *(() if context is None else (context,)))
    seen, open_nodes = set(), [y._node for y in outputs if isinstance(y, ArrayBox)]
    while open_nodes:
        node = open_nodes.pop()
        if id(node) not in seen and node.parents:
            seen.add(id(node))
            open_nodes.extend(node.parents)
    return len(seen)


@np.errstate(all="ignore")
def measure(entry: Entry) -> dict:
    began = time.perf_counter()
    cells = {dtype: {f"{scale:g}": cell(entry, scale, dtype) for scale in SCALES} for dtype in DTYPES}
    return {
        "map": entry.name,
        "cells": cells,
        "reach": {dtype: reach(entry, dtype) for dtype in DTYPES},
        "cost": cost(entry),
        "seconds": round(time.perf_counter() - began, 2),
    }


def record() -> None:
    found = {"machine": machine("scipy"), "rows": DRAWS * ROWS, "maps": []}
    began = time.perf_counter()
    for entry in REGISTRY:
        found["maps"].append(measure(entry))
        print(json.dumps(found["maps"][-1]), flush=True)
    found["seconds"] = round(time.perf_counter() - began)
    save("accuracy.json", found, rows="maps")


def text(v: float | None) -> str:
    return "inf" if v is None else f"{v:.2g}"


def pair(found: dict | None) -> str:
    return "—" if found is None else f"{text(found['p99'])} / {text(found['worst'])}"


def over(item: dict) -> list[str]:
    """In which cells the 99th percentile of a map is over the line."""
    return [
        f"{dtype}, scale {scale}, {name}: {text(found[name]['p99'])}"
        for dtype, scales in item["cells"].items()
        for scale, found in scales.items()
        for name in ("round trip", "round trip of the inverse", "log_det")
        if found[name] and (found[name]["p99"] is None or found[name]["p99"] > EXCESS)
    ]


def reason(name: str) -> str:
    return next((why for start, why in REASONS.items() if name.startswith(start)), "**no reason is known**")


def table(found: dict, dtype: str, scale: str) -> list[str]:
    lines = [
        f"## {dtype}, parameters of scale {scale}",
        "",
        "| map | round trip | of the inverse | log-det | log-det, absolute | not judged |",
        "| --- " * 6 + "|",
    ]
    for item in found["maps"]:
        c = item["cells"][dtype][scale]
        mark = " (!)" if any(line.startswith(f"{dtype}, scale {scale},") for line in over(item)) else ""
        columns = [pair(c[k]) for k in ("round trip", "round trip of the inverse", "log_det", "log_det, absolute")]
        lines.append(f"| {item['map']}{mark} | {' | '.join(columns)} | {100 * c['inconclusive']:.0f} % |")
    return [*lines, ""]


def overall(item: dict, dtype: str, names: tuple[str, ...]) -> str:
    """The largest `p99 / worst` of a map over the parameter scales and the columns named."""
    found = [c[n] for c in item["cells"][dtype].values() for n in names if c[n]]
    if not found:
        return "—"
    worst = {k: None if any(f[k] is None for f in found) else max(f[k] for f in found) for k in ("p99", "worst")}
    return pair(worst)


def one_row_a_map(found: dict) -> list[str]:
    lines = [
        "| map | round trip, 64 | 32 | log-det, 64 | 32 | not judged | reach | µs / row | operations |",
        "| --- " * 9 + "|",
    ]
    for item in found["maps"]:
        trips = [overall(item, d, ("round trip", "round trip of the inverse")) for d in DTYPES]
        log_dets = [overall(item, d, ("log_det",)) for d in DTYPES]
        shares = [np.mean([c["inconclusive"] for c in item["cells"][d].values()]) for d in DTYPES]
        far = ["—" if k is None else "none" if k < 0 else f"1e{k}" for k in item["reach"].values()]
        c = item["cost"]
        lines.append(
            f"| {item['map']}{' (!)' if over(item) else ''} | {' | '.join((*trips, *log_dets))} | "
            f"{' / '.join(f'{100 * s:.0f} %' for s in shares)} | {' / '.join(far)} | "
            f"{c['forward']:.2g} / {c['inverse']:.2g} | {c['forward, operations']} / {c['inverse, operations']} |"
        )
    return [*lines, ""]


def page() -> str:
    found = json.loads((RESULTS / "accuracy.json").read_text())
    where = found["machine"]
    lost = [(item["map"], over(item)) for item in found["maps"] if over(item)]
    lines = [
        "# How exact every map is",
        "",
        "Generated by `python validation/accuracy.py --tables` from `results/accuracy.json`, one row for every line of",
        "`tests/registry.py`. A cell holds the 99th percentile and the worst, `p99 / worst`, of the excess",
        "rho = error / (u kappa) of `refflow/verification/conditioning.py`: 1 is about what rounding the input already",
        f"loses, and {EXCESS:g} at the 99th percentile is the line that the laws draw. Marked (!) are maps over it.",
        "",
        "* Round trip, in float64 and float32: |f^-1(f(x)) - x| and |f(f^-1(y)) - y|. Log-det: against log|det J|,",
        "  J by the complex step in float64, layer by layer, in both directions.",
        f"* {found['rows']} rows a cell over {DRAWS} draws of the parameters, on a grid in [-2 s, 2 s] at the scales",
        "  s = 1, 3, 10. The first table has the largest of the three.",
        "* Not judged, float64 / float32: the share of rows that first-order theory does not cover, because u kappa",
        "  exceeds 1e-3 of the value, or whose image overflows the dtype.",
        "* Reach, float64 / float32: the largest 10^k, up to 1e6, such that inputs of that size, and of all smaller",
        f"  powers, go round within {EXCESS:g} units at the 99th percentile, everything finite, at s = 1; — for maps",
        "  of an interval. Beyond, e^x overflows or a value meets the end of its range in that dtype.",
        f"* Cost, forward / inverse: NumPy, float64, {TIMED} rows at once; operations of `refflow.arrays` that depend",
        "  on x or a parameter.",
        "",
        f"{len(found['maps'])} maps, {len(lost)} of them over the line somewhere.",
        "",
    ]
    lines += [f"* {name}: {'; '.join(cells)}. {reason(name)}" for name, cells in lost] + ([""] if lost else [])
    lines += one_row_a_map(found)
    for dtype in DTYPES:
        for scale in SCALES:
            lines += table(found, dtype, f"{scale:g}")
    lines += [
        f"{found['seconds']} s on {where['cores']} cores, NumPy {where['numpy']}, SciPy {where['scipy']}, Python "
        f"{where['python']}, commit {where['commit'][:10]}, {where['date']}.",
    ]
    return "\n".join(lines) + "\n"


def tables() -> None:
    (HERE / "accuracy.md").write_text(page())


if __name__ == "__main__":
    asked = [a for a in sys.argv[1:] if not a.startswith("--")]
    if asked:
        for entry in REGISTRY:
            if asked[0] in entry.name:
                print(json.dumps(measure(entry)), flush=True)
    else:
        if "--tables" not in sys.argv:
            record()
        tables()
