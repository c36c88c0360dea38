"""Axes for small pictures in SVG: scales, ticks and marks as text. Colours are the page's, as classes.

A picture is 440 wide and scales with the page. `Axes` maps data to it; every method returns elements as text.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 14.0, 48.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """A frame of data coordinates; with `log`, decades along both axes."""

    x: Point
    y: Point
    log: bool = False
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM

    def at(self, x: float, y: float) -> Point:
        """Where a point lies, held at the frame's edges."""
        across = _share(x, self.x, self.log) * (WIDTH - LEFT - RIGHT) + LEFT
        up = self.bottom - _share(y, self.y, self.log) * (self.bottom - self.top)
        return across, up

    def frame(self, x_label: str, y_label: str, ticks: int = 5) -> str:
        """The grid, the numbers and the names of both axes; an empty name leaves its numbers out."""
        parts = []
        for value in self._ticks(self.x, ticks):
            x, _ = self.at(value, self.y[0])
            parts.append(_line((x, self.top), (x, self.bottom), "grid"))
            if x_label:
                parts.append(text((x, self.bottom + 17), number(value, self.log), "tick", "middle"))
        for value in self._ticks(self.y, ticks):
            _, y = self.at(self.x[0], value)
            parts.append(_line((LEFT, y), (WIDTH - RIGHT, y), "grid"))
            parts.append(text((LEFT - 7, y + 4), number(value, self.log), "tick", "end"))
        middle = (self.top + self.bottom) / 2
        parts.append(text(((LEFT + WIDTH - RIGHT) / 2, self.bottom + 38), x_label, "axis", "middle"))
        turned = f' transform="rotate(-90 14 {middle:.1f})"'
        return "".join(parts) + text((14, middle), y_label, "axis", "middle", turned)

    def _ticks(self, ends: Point, n: int) -> list[float]:
        if self.log:
            low, high = math.ceil(math.log10(ends[0]) - 1e-9), math.floor(math.log10(ends[1]) + 1e-9)
            step = max(1, math.ceil((high - low) / n))
            return [10.0**k for k in range(low, high + 1, step)]
        return round_numbers(*ends, n)

    def line(self, points: Iterable[Point], kind: str) -> str:
        """A polyline, cut at the frame, interrupted at numbers that are not finite."""
        runs: list[list[Point]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                runs[-1].append(self.at(x, y))
            else:
                runs.append([])
        return "".join(
            f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>' for run in runs if run
        )

    def area(self, points: Iterable[Point], kind: str) -> str:
        """A filled polygon."""
        corners = " ".join("{:.1f},{:.1f}".format(*self.at(*p)) for p in points)
        return f'<polygon class="{kind}" points="{corners}"/>'

    def label(self, x: float, y: float, words: str, kind: str = "note", anchor: str = "start", up: float = 0.0) -> str:
        """Words beside a point."""
        left, top = self.at(x, y)
        return text((left, top - up), words, kind, anchor)

    def mark(self, x: float, y: float, shape: str, kind: str, title: str = "") -> str:
        """A mark: "circle", "square", "triangle" or "diamond", told apart without colours."""
        return mark(self.at(x, y), shape, kind, title)


def mark(at: Point, shape: str, kind: str, title: str = "") -> str:
    """A mark at a place of the picture."""
    x, y = at
    told = f"<title>{escape(title)}</title>" if title else ""
    if shape == "circle":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">{told}</circle>'
    offsets = {
        "square": ((-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)),
        "triangle": ((0, -4.4), (4.2, 3.2), (-4.2, 3.2)),
        "diamond": ((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0)),
    }[shape]
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in offsets)
    return f'<polygon class="{kind}" points="{corners}">{told}</polygon>'


def legend(entries: Sequence[tuple[str, str, str]]) -> tuple[str, float]:
    """(shape, kind, words) side by side above the frame, three in a line; and where the frame may begin."""
    parts = []
    for i, (shape, kind, words) in enumerate(entries):
        x, y = LEFT + 6 + 122 * (i % 3), TOP + 4 + 18 * (i // 3)
        parts.append(mark((x, y), shape, kind) + text((x + 10, y + 4), words, "tick"))
    return "".join(parts), TOP + 18 * -(-len(entries) // 3) + 2


def svg(body: str, name: str, height: float = HEIGHT) -> str:
    """The picture, with a name for those who listen."""
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(name)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def text(at: Point, words: str, kind: str, anchor: str = "start", more: str = "") -> str:
    """Words at a place of the picture."""
    if not words:
        return ""
    return f'<text class="{kind}" x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _line(a: Point, b: Point, kind: str) -> str:
    return f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'


def _share(value: float, ends: Point, log: bool) -> float:
    low, high = ends
    if log:
        value, low, high = (math.log10(max(v, 1e-300)) for v in (value, low, high))
    return min(1.0, max(0.0, (value - low) / (high - low)))


def round_numbers(low: float, high: float, n: int) -> list[float]:
    """About n multiples of 1, 2 or 5 times a power of ten within."""
    step = 10.0 ** math.floor(math.log10((high - low) / n))
    step = next(step * m for m in (1.0, 2.0, 5.0, 10.0) if (high - low) / (step * m) <= n)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


SUPERSCRIPT = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def number(value: float, power: bool = False) -> str:
    """A number as a tick says it; powers of ten as powers."""
    if power:
        exponent = round(math.log10(value))
        return f"{value:g}" if exponent in (0, 1) else "10" + str(exponent).translate(SUPERSCRIPT)
    return f"{value:.6g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"


def padded(values: Sequence[float], share: float = 0.08) -> Point:
    """The least and the largest finite value, with room around; a single value gets one unit on each side."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    room = share * (high - low) if high - low > 1e-9 * max(1.0, abs(low)) else max(1.0, abs(low))
    return low - room, high + room
