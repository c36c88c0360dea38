"""Verify an implementation of your own: bring its forward and inverse, and ask the laws.

The coupling here is written in plain NumPy, as a port would be; its second version forgets a minus sign, and the law
that notices says where.
"""

import numpy as np

from refflow.verification import Functions, LawViolation, check_laws

W, B = np.array([[0.5, -1.25], [0.75, 0.5]]), np.array([0.25, -0.5])


def forward(x):
    """(y, log|det dy/dx|): the first two coordinates are kept, the last two moved."""
    s, t = np.tanh(x[..., :2] @ W), x[..., :2] @ W + B
    return np.concatenate([x[..., :2], np.exp(s) * x[..., 2:] + t], axis=-1), s.sum(axis=-1)


def inverse(y):
    s, t = np.tanh(y[..., :2] @ W), y[..., :2] @ W + B
    return np.concatenate([y[..., :2], (y[..., 2:] - t) * np.exp(-s)], axis=-1), -s.sum(axis=-1)


def faulty(y):
    x, log_det = inverse(y)
    return x, -log_det


x = np.random.default_rng(0).normal(size=(20, 4))
findings = check_laws(Functions(forward, inverse), x)
for finding in findings[: len(findings) // 2]:
    print(f"{finding.law:24s} {finding.status:12s} {finding.statistic:.2g} of {finding.tolerance:.2g}")

try:
    check_laws(Functions(forward, faulty), x)
except LawViolation as violation:
    print(f"the faulty one: {violation}")
else:
    raise SystemExit("the fault was not found")
