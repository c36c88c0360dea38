"""The pictures of a report: each an SVG with one line on what right looks like and one on what this picture shows."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refflow.verification.reports.svg import (
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    legend,
    mark,
    number,
    padded,
    svg,
    text,
)  # fmt: skip
from refflow.verification.verdicts import EXCESS

SHAPES = {"RT1": "circle", "RT2": "triangle", "LD1": "circle", "LD2": "triangle", "LD3": "square"}

LEAST = 1e-9
"""Entries of a Jacobian smaller than this share of the largest are shown as zero: differences give no exact zeros."""


@dataclass(frozen=True)
class Figure:
    """One picture of the page."""

    title: str
    svg: str
    right: str
    """What right looks like."""
    here: str
    """What this one shows."""
    alarming: bool = False


def figures(found: dict[str, Any]) -> list[Figure]:
    """All pictures that a report has numbers for."""
    drawn = []
    for prefix, title in (("LD", "Log-determinant"), ("RT", "Round trip")):
        series = [s for s in found.get("scatter", []) if s["check"].startswith(prefix)]
        if series:
            drawn.append(scatter(f"{title}: error against conditioning", series))
    makers: dict[str, Callable[[Any], Figure]] = {"log_det": log_det, "jacobian": jacobian, "pit": pit, "knot": knot}
    for name, make in makers.items():
        if name in found:
            data = found[name]
            drawn.append(make({**data, "variant": found.get("variant", "float64")}))
    return drawn


def scatter(title: str, series: Sequence[dict[str, Any]]) -> Figure:
    """error / u against kappa for every row: what rounding explains lies under the line rho = 16."""
    points = [(s, kappa, error / s["unit"], judged) for s in series for error, kappa, judged in s["rows"]]
    kappas = [k for _, k, *_ in points if 0 < k < math.inf] or [1.0]
    errors = [e for _, _, e, _ in points if 0 < e < math.inf] or [1.0]
    x = _decades([*kappas, 10 * min(kappas)])
    y = _decades([*errors, 0.1 * min(kappas), 100 * max(kappas)])
    named, top = legend([(SHAPES.get(s["check"], "diamond"), _precision(s), _named(s)) for s in series])
    axes = Axes(x, y, log=True, top=top)
    body = named + axes.area([(x[0], EXCESS * x[0]), (x[1], EXCESS * x[1]), (x[1], y[1]), (x[0], y[1])], "beyond")
    body += axes.frame("condition scale \u03ba", "error / u")
    body += axes.line([(x[0], x[0]), (x[1], x[1])], "rule dashed") + axes.line([(k, EXCESS * k) for k in x], "rule")
    excess = []
    for s, kappa, error, judged in points:
        rho = 0.0 if error == 0.0 else error / kappa if kappa else math.inf
        rho = rho if rho == rho else math.inf  # noqa: PLR0124  (an error that is not a number)
        excess += [rho] if judged else []
        kind = f"{_precision(s)}{'' if judged else ' hollow'}"
        height = y[0] if error == 0.0 else error if error < math.inf else y[1]
        body += axes.mark(kappa, height, SHAPES.get(s["check"], "diamond"), kind, f"{_named(s)}: \u03c1 = {rho:.3g}")
    body += _on_line(axes, x, 1.0, "\u03c1 = 1", 15.0) + _on_line(axes, x, EXCESS, "\u03c1 = 16", -6.0)
    worst, beyond = max(excess, default=0.0), sum(rho > EXCESS for rho in excess)
    here = f"{beyond} of {len(excess)} points lie above; the largest \u03c1 is {worst:.3g}."
    return Figure(
        title, svg(body, title), "every point under the line \u03c1 = 16: rounding explains the error. Points at the "
        "bottom are exact, hollow ones too ill-conditioned to judge.", here, beyond > 0.01 * len(excess),
    )  # fmt: skip


def _on_line(axes: Axes, x: tuple[float, float], factor: float, words: str, down: float) -> str:
    """Words at the right end of a line rho = factor: above it, or far enough below that it clears their start."""
    (left, low), (right, high) = (axes.at(k, factor * k) for k in x)
    rise = 40.0 * (low - high) / (right - left) if down > 0 else 0.0
    return text((right - 4, max(high + down + rise, axes.top + 12)), words, "note", "end")


def _decades(values: Sequence[float]) -> tuple[float, float]:
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)) + 0.01)


def _precision(series: dict[str, Any]) -> str:
    return "single" if series["unit"] > 1e-10 else "double"


def _named(series: dict[str, Any]) -> str:
    return f"{series['check']} {series['variant']}".strip()


DIRECTIONS = {"forward": ("circle", "double"), "inverse": ("triangle", "single")}


def log_det(found: dict[str, Any]) -> Figure:
    """Claimed against measured log-determinants, with the lines of a right and of a flipped sign."""
    near = 1e-5 if found["variant"] == "float64" else 1e-2
    sides = {name: found[name] for name in DIRECTIONS if name in found}
    pairs = {name: list(zip(s["measured"], s["claimed"], strict=True)) for name, s in sides.items()}
    x = padded([m for side in pairs.values() for m, _ in side])
    y = padded([c for side in pairs.values() for _, c in side] + list(x), 0.0)
    named, top = legend([(*DIRECTIONS[name], name) for name in pairs])
    axes = Axes(x, y, top=top)
    ends = [(x[0], x[0]), (x[1], x[1])]
    body = named + axes.frame("log|det J|, differentiated", "log_det, as claimed")
    body += axes.line([(v, -v) for v in _within(x, y)], "rule dashed") + axes.line(ends, "rule")
    for name, side in pairs.items():
        shape, kind = DIRECTIONS[name]
        body += "".join(
            axes.mark(m, c, shape, kind, f"{name}: {c:.6g}, {m:.6g}") for m, c in side if math.isfinite(m - c)
        )
    told = [f"{name} {relation(side, near)}" for name, side in pairs.items()]
    singular = {name: sum(m == -math.inf and c > m for m, c in side) for name, side in pairs.items()}
    told += [f"{name} has a singular Jacobian at {n} of {len(pairs[name])} rows" for name, n in singular.items() if n]
    wrong = any(singular.values()) or any(relation(side, near) != EQUAL for side in pairs.values())
    return Figure(
        "Log-determinant: claimed against true", svg(body, "claimed and true log-determinants"),
        "every point on the solid diagonal. A flipped sign puts them on the dashed one, a factor tilts them, "
        "a constant shifts them.", "; ".join(told) + ".", wrong,
    )  # fmt: skip


EQUAL = "agrees"


def relation(pairs: Sequence[tuple[float, float]], near: float) -> str:
    """What the claims are to what was measured, in words."""
    finite = [(m, c) for m, c in pairs if math.isfinite(m) and math.isfinite(c)]
    if not finite:
        return "has no finite pair"
    gaps = [c - m for m, c in finite]
    size = max(1.0, *(abs(m) for m, _ in finite))
    if max(map(abs, gaps)) <= near * size:
        return EQUAL
    ratios = [c / m for m, c in finite if abs(m) > 0.05 * size]
    if len(ratios) > 1 and max(ratios) - min(ratios) <= 1e-3 * abs(statistics.median(ratios)):
        return f"claims {number(round(statistics.median(ratios), 4))} times the true value"
    if len(gaps) > 1 and max(gaps) - min(gaps) <= 1e-3 * max(map(abs, gaps)):
        return f"claims {abs(gaps[0]):.6g} too {'much' if gaps[0] > 0 else 'little'} everywhere"
    wrong = sum(abs(gap) > near * size for gap in gaps)
    return f"is off at {wrong} of {len(gaps)} rows, by up to {max(map(abs, gaps)):.3g}"


def _within(x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
    """The part of x where -x lies in y."""
    return max(x[0], -y[1]), max(x[0], -y[1], min(x[1], -y[0]))


def jacobian(found: dict[str, Any]) -> Figure:
    """|dy_i/dx_j| at one row: the structure of the map at a glance."""
    values, declared = found["values"], found.get("declared")
    height, width = len(values), len(values[0])
    cell = min((WIDTH - LEFT - RIGHT) / width, (HEIGHT - 60.0) / height)
    largest = max((v for row in values for v in row if math.isfinite(v)), default=0.0) or 1.0
    left, body, zeros, outside = LEFT + 8, "", 0, 0
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            shade = _shade(value / largest)
            zeros += shade == 0.0
            place = f'x="{left + j * cell:.2f}" y="{TOP + i * cell:.2f}" width="{cell:.2f}" height="{cell:.2f}"'
            forbidden = declared is not None and not declared[i][j] and shade > 0.0
            outside += forbidden
            fine = " fine" if cell < 12 else ""
            kind = "cell wrong" if forbidden else "cell" if math.isfinite(value) else "cell broken"
            body += f'<rect class="{kind}{fine}" {place} style="--shade:{100 * shade:.0f}%"/>'
            if cell >= 40 and shade > 0.0:
                at = left + (j + 0.5) * cell, TOP + (i + 0.5) * cell + 4
                body += text(at, f"{value:.3g}", "inside" if shade > 0.55 else "value", "middle")
    bottom = TOP + height * cell
    body += text((left + width * cell / 2, bottom + 18), "x\u2c7c", "axis", "middle")
    body += text((left - 12, TOP + height * cell / 2), "y\u1d62", "axis", "end")
    here = f"{zeros} of {height * width} entries are zero; the largest is {largest:.3g}."
    if declared is not None:
        here += f" {outside} lie outside the declared structure."
    fixed = [i for i, row in enumerate(values) if not any(_shade(value / largest) for value in row)]
    if fixed:
        here += f" Empty rows, whose y does not move with x: {', '.join(map(str, fixed[:8]))}."
    if found["block"] > 1:
        here += f" Each cell is the largest of {found['block']} \u00d7 {found['block']}."
    return Figure(
        f"Jacobian |\u2202y/\u2202x| at {found.get('row', 'one row')}", svg(body, "Jacobian", bottom + 30),
        "the pattern that you meant: a block of zeros for a coupling, a triangle for an autoregressive map. "
        "Empty is zero, darker is larger (logarithmic).", here, outside > 0 or bool(fixed),
    )  # fmt: skip


def _shade(share: float) -> float:
    """0 for what counts as zero, then from 0.12 to 1 by decades."""
    if not share > LEAST:
        return 0.0
    return 0.12 + 0.88 * max(0.0, 1.0 + math.log10(min(share, 1.0)) / 6.0)


def pit(found: dict[str, Any]) -> Figure:
    """The distribution of encoded samples against the base's, as a difference of distribution functions."""
    grid, excess, band = found["grid"], found["excess"], found["band"]
    reach = 1.15 * max(band, *map(abs, excess))
    axes = Axes((0.0, 1.0), (-reach, reach))
    body = axes.area([(0.0, -band), (1.0, -band), (1.0, band), (0.0, band)], "band")
    body += axes.frame("\u03a6(z), z = encoded samples", "share below \u2212 \u03a6(z)")
    body += axes.line([(0.0, 0.0), (1.0, 0.0)], "rule") + axes.line(zip(grid, excess, strict=True), "curve")
    largest = max(map(abs, excess))
    verdict = "stays within" if largest <= band else "leaves"
    return Figure(
        "Samples, encoded: do they follow the base?", svg(body, "distribution of encoded samples"),
        "the curve inside the band, which holds correct samples in 999 of 1,000 runs. An arch is a shift, an S a wrong "
        "spread.",
        f"{found['numbers']:,} numbers; the curve {verdict} the band (\u00b1{band:.3g}), at most {largest:.3g}.",
        largest > band,
    )  # fmt: skip


def knot(found: dict[str, Any]) -> Figure:
    """y and its slope around the sharpest kink, one above the other."""
    t, y, slope, at = found["t"], found["y"], found["slope"], found["at"]
    x, middle = (t[0], t[-1]), [(a + b) / 2 for a, b in zip(t[:-1], t[1:], strict=True)]
    above = Axes(x, padded(y), top=TOP, bottom=136.0)
    below = Axes(x, padded([*slope, 0.0]), top=152.0)
    name = f"x{number(found['coordinate'])}"
    body = above.frame("", "y", 3) + below.frame(name, "slope", 3)
    for axes, curve in ((above, zip(t, y, strict=True)), (below, zip(middle, slope, strict=True))):
        body += axes.line([(at, axes.y[0]), (at, axes.y[1])], "rule dashed") + axes.line(curve, "curve")
    jumps = abs(found["jump"]) > 1e-3 * (abs(y[-1] - y[0]) or 1.0)
    here = f"at {name} = {at:.5g} the slope goes from {found['before']:.4g} to {found['after']:.4g}"
    here += f" and y jumps by {found['jump']:.3g}." if jumps else "; y is continuous."
    return Figure(
        "The sharpest kink", svg(body, "y and slope around a kink"),
        "a smooth flow has none. A kink is legal (leaky ReLU); a slope of 0 or a jump in y is not invertible.", here,
        jumps or min(found["before"], found["after"]) == 0.0,
    )  # fmt: skip


__all__ = ["Figure", "figures", "mark", "relation"]
