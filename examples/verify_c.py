"""Verify a flow written in C: `c_flow/flow.c` answers requests, refflow runs it and asks the laws.

The right version passes; each version with a planted fault is found out. For other languages do the same: the module
`refflow.verification.programs.exchange` states what a program reads and writes.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import refflow
from refflow.verification.programs.exchange import program

SOURCE = Path(__file__).resolve().parent / "c_flow" / "flow.c"
FAULTS = {
    0: "none",
    1: "the sign of the inverse's log-determinant",
    2: "a float inside",
    3: "a layer is missing in the log-determinant",
    4: "the permutation once more for its inverse",
    5: "a buffer that is not cleared between rows",
    6: "the last row of a batch is left out",
    7: "a row with a NaN becomes one of zeros",
    8: "pi is missing in the normal density",
}


def verified(compiler, fault, folder):
    binary = Path(folder) / f"flow{fault}"
    subprocess.run([compiler, "-std=c99", "-O2", f"-DFAULT={fault}", str(SOURCE), "-o", str(binary), "-lm"], check=True)
    flow = program(
        [str(binary), "{request}", "{response}"],
        event_shape=(4,),
        functions=("forward", "inverse", "log_prob"),
        dtypes=("float64", "float32"),
        to_base="forward",
        base="normal",
    )
    return refflow.verify(flow)


def main():
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        print("skipped: no C compiler")
        return
    with tempfile.TemporaryDirectory() as folder:
        for fault, name in FAULTS.items():
            report = verified(compiler, fault, folder)
            found = ", ".join(check.name for check in report.of("fail")) or "all laws hold"
            print(f"{name:45s} {found} ({report.remarks[0]}, {report.seconds:.1f} s)")
            if report.ok != (fault == 0):
                raise SystemExit(str(report))


if __name__ == "__main__":
    main()
