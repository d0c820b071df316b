"""Pictures as plain SVG text: they need no library, and a change of a figure is a small change of the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.figures import KINDS, MEMORY_MB, Document, by_tool, median
from benchmarks.tools import TOOLS

COLOURS = dict(zip(TOOLS, ("#1b6ac9", "#d1495b", "#edae49", "#66a182", "#8d6a9f"), strict=True))
WIDTH = 860
LEFT, RIGHT = 330, 60
BAR, GAP = 11, 14
TEXT = 'font-family="sans-serif" font-size="11"'
MEASURES = (("wall", "wall time"), ("cpu", "CPU time"))


def _svg(height: float, lines: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join((head, *lines, "</svg>")) + "\n"


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place} {TEXT}>{escape(text)}</text>"


def bars(doc: Document) -> str:
    """Median wall and CPU time of every tool on every part, as multiples of portabl's."""
    lines = list(_legend())
    y = 50.0
    for part in doc["parts"]:
        tools = by_tool(part)
        if len(tools) < 2 or "portabl" not in tools:
            continue
        lines.append(_text(10, y + 9, part["title"]))
        y += GAP
        for measure, name in MEASURES:
            lines.append(_text(LEFT - 8, y + 9, name, "end"))
            ours = median(tools["portabl"].values(), measure)
            for tool in (name for name in TOOLS if name in tools):
                lines.append(_bar(y, tool, median(tools[tool].values(), measure) / ours))
                y += BAR
            y += 3
        y += GAP
    return _svg(y, lines)


def _legend() -> Iterator[str]:
    yield _text(10, 16, "Times as multiples of portabl's (medians; shorter is better)")
    for number, tool in enumerate(TOOLS):
        x = 10 + number * 120
        yield f'<rect x="{x}" y="24" width="10" height="10" fill="{COLOURS[tool]}"/>'
        yield _text(x + 14, 33, tool)


def _bar(y: float, tool: str, multiple: float) -> str:
    """On a scale that ends at 4; what is longer is cut and says so."""
    most = 4.0
    length = min(multiple, most) / most * (WIDTH - LEFT - RIGHT)
    said = f"{multiple:.2f}" + (" (cut)" if multiple > most else "")
    shape = f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[tool]}"/>'
    return shape + _text(LEFT + length + 4, y + 8, said)


def memory(doc: Document) -> str:
    """Peak memory by number of objects, a line for each kind of run, with the aim."""
    points = doc["points"]
    series = {
        name: [(point["objects"], point["memory"] / 1e6) for point in points if point["kind"] == kind]
        for kind, name in KINDS.items()
    }
    newest = max(point["date"] for point in points)[:10]
    title = f"Peak resident memory of portabl, MB, by number of objects ({newest})"
    return curve(title, {name: line for name, line in series.items() if line}, MEMORY_MB, "MB")


def curve(title: str, series: dict[str, Sequence[tuple[int, float]]], top: float, unit: str) -> str:
    """Lines over a logarithmic number of objects. ``top``: end of the scale, in ``unit``, marked as the aim."""
    height, bottom, left = 360.0, 310.0, 70.0
    counts = sorted({x for points in series.values() for x, _ in points})
    first, last = math.log10(counts[0]), math.log10(max(counts[-1], counts[0] + 1))

    def across(count: float) -> float:
        return left + (math.log10(count) - first) / (last - first) * (WIDTH - left - 200)

    def up(value: float) -> float:
        return bottom - value / (top * 1.1) * (bottom - 40)

    lines = [_text(10, 18, title), f'<path d="M{left} 40V{bottom}H{WIDTH - 190}" fill="none" stroke="#222"/>']
    lines += [_text(across(count), bottom + 18, f"{count:,}", "middle") for count in counts]
    lines.append(_text((left + WIDTH - 200) / 2, bottom + 38, "objects", "middle"))
    for value in (0, top / 3, top * 2 / 3, top):
        lines.append(_text(left - 6, up(value) + 4, f"{value:.0f} {unit}", "end"))
    lines.append(f'<path d="M{left} {up(top):.1f}H{WIDTH - 190}" stroke="#d1495b" stroke-dasharray="4 3"/>')
    for (name, points), colour, below in zip(series.items(), COLOURS.values(), (15, -7, -19, -31), strict=False):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            lines.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>')
            lines.append(_text(across(x), up(y) + below, f"{y:.0f}", "middle", colour))
        lines.append(_text(WIDTH - 180, bottom - 30 + below, name, colour=colour))
    return _svg(height, lines)
