"""Is a flow right? `verify` asks anyone's flow every check and reports; `check_laws` asks the laws in a property test.

The laws, each a function `(f, x, context) -> Finding` that raises `LawViolation`, an AssertionError that says which
law, by how much, and where:

    laws            of values: round trip, antisymmetry, chain, precision, continuity, onto
    determinants    of log-determinants: against the complex step, the target's own and SciPy's differences
    structure       of rows: shapes, dtypes, repeatability, independence
    memory, masks, context, nonfinite    of inputs and results; of what may depend on what; of NaN and infinity
    edges, slopes, monotone, reach, lines    of kinks, knots, tails and ranges, along coordinate lines
    density_laws, densities    of log-densities;  masses, bridging, walks: of their integral
    sampling, steins, samples    of samples
    history, gradients    of what was asked before; of a target's own differentiation

How they judge:

    calls           how a map is called, turned, taken apart, cast
    conditioning    how much rounding may move a result;  derivatives: what that is made of
    jacobians       derivatives that know nothing of the map's own log-determinant
    verdicts        when an error is a fault;  bounds: when a statistic is one;  comparison: when two answers differ

The kit:

    kit, outcomes    `verify`, and what an answer means;  checks: the table;  runs, asking: its words;  points: where
    targets         what a check may ask of a flow;  adapters/: of anyone's;  programs/: of programs in other languages
    guard, answers, limits    calls of foreign code, what they return, how much they may take
    diagnosis, readings, conventions, shrink    the likeliest cause, and the shortest input
    reports/        text, JSON, JUnit, a page with pictures;  replaying: a failure again;  cases: for pytest

f is a refflow map, a `Target`, or any object whose `forward` and `inverse` take NumPy arrays of rows and return
`(value, log_det)`; `Functions` makes one of two functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refflow.errors import ShapeError
from refflow.flow import Flow
from refflow.verification.calls import forward, turned
from refflow.verification.cases import parametrize_with_checks
from refflow.verification.conditioning import Conditions, conditions
from refflow.verification.density_laws import change_of_variables, coding, density_rows
from refflow.verification.determinants import log_det_autodiff, log_det_central, log_det_complex_step, log_det_ladder
from refflow.verification.jacobians import Jacobian, central, complex_step, ladder
from refflow.verification.laws import (
    antisymmetry,
    chain_additivity,
    continuity,
    double_inverse,
    onto,
    precision,
    round_trip,
)
from refflow.verification.masses import normalisation
from refflow.verification.replaying import Replayed, replay
from refflow.verification.reports.report import Outcome, Report, read_report
from refflow.verification.sampling import (
    sampled_density,
    samples_follow_base,
    samples_follow_density,
    sampling,
)
from refflow.verification.steins import stein
from refflow.verification.structure import (
    batching,
    dtypes,
    nan_stays,
    no_mutation,
    parameters_round_trip,
    repeatable,
    row_independence,
    shapes,
)
from refflow.verification.verdicts import Finding, LawViolation, LossyWarning

Law = Callable[[Any, np.ndarray, np.ndarray | None], Finding]

BIJECTION_LAWS: tuple[Law, ...] = (
    shapes, dtypes, no_mutation, repeatable, parameters_round_trip, double_inverse, row_independence, nan_stays,
    batching, round_trip, antisymmetry, chain_additivity, log_det_complex_step, log_det_ladder, log_det_central,
    precision, continuity,
)  # fmt: skip
"""What every map obeys at points of its domain, in the order asked: the plainest fault is named first."""

FLOW_LAWS: tuple[Law, ...] = (
    density_rows, change_of_variables, coding, sampling, sampled_density, normalisation, samples_follow_base,
    samples_follow_density, stein,
)  # fmt: skip
"""What every flow obeys besides."""

SLOW_ROWS = 2
"""How many rows finite differences are taken at: they cost a thousand calls a row."""

_SLOW = {log_det_ladder, log_det_central}


@dataclass(frozen=True)
class Functions:
    """Two functions `(rows) -> (value, log_det)`, or `(rows, context) -> ...`, as one map.

    Rows are NumPy arrays of the dtype that the laws are asked in. Some laws also try complex and long double numbers:
    functions that do not take them may raise whatever they like, and are judged by differences instead.
    """

    forward: Callable[..., Any]
    inverse: Callable[..., Any]


def check_laws(
    f: Any,
    x: np.ndarray,
    context: np.ndarray | None = None,
    *,
    y: np.ndarray | None = None,
    laws: Sequence[Law] | None = None,
) -> list[Finding]:
    r"""Ask f all laws at the rows x `(N, *event)`: forward at x, and the inverse as a map of its own at y.

    y are points of the range; if not given, those that x goes to, in another order. A `Flow` is asked for the laws of
    its bijection and for those of its density. `laws` asks only some, forward at x.

    Returns a `Finding` for each law and direction. Raises `LawViolation` at the first law that does not hold, warns
    (`LossyWarning`) of a map that loses more digits than its conditioning explains.

    >>> import numpy as np, refflow
    >>> flow = refflow.realnvp(2, layers=2, hidden=(4,), seed=0)
    >>> findings = check_laws(flow, np.array([[0.5, -1.0], [2.0, 0.25]]))
    >>> [finding.status for finding in findings if finding.law == "round_trip"]  # forward, and the inverse's
    ['pass', 'pass']
    """
    if not isinstance(x, np.ndarray) or x.ndim < 2 or not len(x) or x.dtype.kind != "f":
        raise ShapeError(f"expected rows x as a NumPy array (n, *event) of floats, got {_what(x)}")
    if laws is not None:
        return [_ask(law, f, x, context) for law in laws]
    if isinstance(f, Flow):
        found = check_laws(f.bijection, x, f.prepare_context(context), y=y)
        return found + [_ask(law, f, x, context) for law in FLOW_LAWS]
    if y is None:
        y, back = np.array(forward(f, x, context)[0]), context
        inside = np.isfinite(y).reshape(len(y), -1).all(axis=1)
        y, back = y[inside], None if context is None else context[inside]
    else:
        back = context
    found = [_ask(law, f, x, context) for law in BIJECTION_LAWS]
    return found + ([_ask(law, turned(f), y, back) for law in BIJECTION_LAWS] if len(y) else [])


def _ask(law: Law, f: Any, x: np.ndarray, context: np.ndarray | None) -> Finding:
    if law in _SLOW:
        x, context = x[:SLOW_ROWS], None if context is None else context[:SLOW_ROWS]
    return law(f, x, context)


def _what(x: Any) -> str:
    return f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"


__all__ = [
    "BIJECTION_LAWS",
    "FLOW_LAWS",
    "Conditions",
    "Finding",
    "Functions",
    "Jacobian",
    "Law",
    "LawViolation",
    "LossyWarning",
    "Outcome",
    "Replayed",
    "Report",
    "antisymmetry",
    "batching",
    "central",
    "chain_additivity",
    "change_of_variables",
    "check_laws",
    "coding",
    "complex_step",
    "conditions",
    "continuity",
    "double_inverse",
    "density_rows",
    "dtypes",
    "ladder",
    "log_det_autodiff",
    "log_det_central",
    "log_det_complex_step",
    "log_det_ladder",
    "nan_stays",
    "no_mutation",
    "normalisation",
    "onto",
    "parameters_round_trip",
    "parametrize_with_checks",
    "precision",
    "read_report",
    "repeatable",
    "replay",
    "round_trip",
    "row_independence",
    "sampled_density",
    "samples_follow_base",
    "samples_follow_density",
    "sampling",
    "shapes",
    "stein",
]
