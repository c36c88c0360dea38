"""How exact the digits' flow is in float64, on all 360 test rows: what the main job promises.

    python validation/digits_exact.py [MODEL]   measures; where no model is given, `refflow train digits` makes one

Round trip and log-determinant in condition units (`refflow.verification`; 16 pass) and in absolute terms, and the
gradient of the mean log-likelihood in the parameters against differences along random directions. The rows are
only points here; the training run takes its look at the test scores, and it is logged.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import refflow
from refflow import arrays as xp
from refflow import verification
from refflow.tasks import digits_task, real_values

RESULTS = Path(__file__).parent / "results"
CHUNK = 20
DIRECTIONS = 20


def points() -> np.ndarray:
    """The test digits, dequantised once."""
    task = digits_task()
    return real_values(task, task.test, np.random.default_rng(11), np.dtype(np.float64))


def excesses(flow: refflow.Flow, x: np.ndarray) -> dict:
    """The laws' statistics over all rows: for a chunk the 99th percentile of its rows, here the largest of these."""
    found = {}
    for law in (verification.round_trip, verification.antisymmetry, verification.log_det_complex_step):
        findings = [law(flow.bijection, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)]
        found[law.__name__] = {
            "condition_units": max(f.statistic for f in findings),
            "status": sorted({f.status for f in findings}),
            "judged": float(np.mean([f.judged for f in findings])),
        }
    back = flow.decode(flow.encode(x))
    found["round_trip"]["absolute"] = float(np.max(np.abs(back - x)))
    return found


def gradient_errors(flow: refflow.Flow, x: np.ndarray) -> list[float]:
    """|difference - gradient . v| / |gradient . v| along random v: central differences, extrapolated once."""
    tree = refflow.parameters(flow)

    def likelihood(tree):
        return xp.mean(refflow.bind(flow, tree).log_prob(x))

    gradient = xp.value_and_grad(likelihood)(tree)[1]
    rng, found = np.random.default_rng(12), []
    for _ in range(DIRECTIONS):
        v = xp.tree_map(lambda a: rng.standard_normal(a.shape), tree)
        exact = sum(float(np.sum(a * b)) for a, b in zip(xp.leaves(gradient), xp.leaves(v), strict=True))

        fine, coarse = (_slope(likelihood, tree, v, h) for h in (2.0**-19, 2.0**-18))
        found.append(abs((4.0 * fine - coarse) / 3.0 - exact) / abs(exact))
    return found


def _slope(function, tree, v, h: float) -> float:
    up, down = (function(xp.tree_map(lambda a, d, s=s: a + s * d, tree, v)) for s in (h, -h))
    return float(up - down) / (2.0 * h)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = sys.argv[1] if len(sys.argv) > 1 else f"{folder}/model.safetensors"
        if len(sys.argv) == 1:
            command = [sys.executable, "-m", "refflow", "train", "digits", "--out", folder, "-q"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with (RESULTS / "digits_test_looks.jsonl").open("a") as stream:
                stream.write((Path(folder) / "test-looks.jsonl").read_text())
        flow = refflow.map_arrays(lambda a: a.astype(np.float64), refflow.load(model))
        began, x = time.perf_counter(), points()
        errors = gradient_errors(flow, x)
        found = {
            "rows": len(x), **excesses(flow, x),
            "gradient": {"directions": DIRECTIONS, "worst": max(errors), "median": float(np.median(errors))},
            "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        (RESULTS / "digits_exact.json").write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
