"""Figures of a benchmark as JSON, a chart, and the tables of docs/performance.md, none of which is written by hand."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import aims, chart
from benchmarks.data import MIB
from benchmarks.figures import Document, by_tool, median, merged, ratios
from benchmarks.legs import LEGS
from benchmarks.tools import TOOLS, version_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: written by tests/benchmarks/run.py --publish -->"
END = "<!-- end of figures -->"
MEASURES = ("wall", "cpu", "memory")
CURVE = "performance-memory.json"
"""Written by memory.py, beside the page."""
ORDER = [(leg.name, work) for leg in LEGS.values() for work in leg.works]


def now() -> str:
    """The name of a run: when it began, UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")


def machine() -> dict[str, object]:
    """Cores, processor, memory, kernel and how busy the machine was."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model[1] if model else platform.processor(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """What the programs say of themselves."""
    import pycurl

    found = {name.removesuffix("-tuned"): version_of(tool.version) for name, tool in TOOLS.items()}
    libraries = [part for part in pycurl.version.split() if part.startswith(("PycURL", "libcurl"))]
    return {**found, "SeaweedFS": version_of(("weed", "version")), "Python": platform.python_version()} | {
        "libcurl": " ".join(libraries)
    }


def tables(doc: Document, page: Path) -> str:
    """The Markdown between the markers of ``page``."""
    lines = ["### Against the aims", "", *aims.table(doc, page.with_name(CURVE))]
    if (curve := page.with_name(CURVE).with_suffix(".svg")).exists():
        lines += ["", f"![Peak memory by number of objects]({curve.name})"]
    lines += ["", f"![Wall and CPU time beside portabl]({page.with_suffix('.svg').name})", ""]
    lines += [f"`portabl --help`: {doc['help_seconds'] * 1000:.0f} ms (median of 10).", ""]
    lines += [line for name, run in sorted(doc["runs"].items()) for line in _run(name, run)]
    for part in doc["parts"]:
        lines += ["", f"### {part['title']}", "", f"Run of {part['run']}.", "", *_table(part)]
    return "\n".join(lines) + "\n"


def _run(name: str, run: Mapping[str, Any]) -> list[str]:
    where = run["machine"]
    computer = f"{where['cores']} cores ({where['cpu']}), {where['memory_gib']} GiB, {where['system']}"
    names = "; ".join(f"{name}: {version}" for name, version in run["versions"].items())
    return [
        f"* Run of {name} UTC, {run['rounds']} rounds: {computer}; load before it {where['load_at_start']}. {names}."
    ]


def _table(part: Mapping[str, Any]) -> list[str]:
    small = part["bytes"] / part["objects"] < MIB
    unit = "CPU, µs an object" if small else "CPU, s a GiB"
    scale = 1e6 / part["objects"] if small else 2**30 / part["bytes"]
    beside = " | ".join(f"portabl/it: {measure}" for measure in MEASURES)
    heads = f"| tool | wall, s | {unit} | peak memory, MiB | requests an object | {beside} | result |"
    lines = [heads, "|---" * 9 + "|"]
    tools = by_tool(part)
    for tool in (name for name in TOOLS if name in tools):
        runs = tools[tool].values()
        wall, cpu, memory = (median(runs, measure) for measure in MEASURES)
        others = " | ".join("" if tool == "portabl" else _ratio(part, tool, measure) for measure in MEASURES)
        wrong = [run["wrong"] for run in runs if run["wrong"]]
        result = f"**wrong** in {len(wrong)}: {wrong[0]}" if wrong else "right"
        figures = f"{wall:.2f} | {cpu * scale:.{0 if small else 2}f} | {memory / MIB:.0f}"
        lines.append(f"| {TOOLS[tool].shown} | {figures} | {_requests(part, tool)} | {others} | {result} |")
    return lines


def _requests(part: Mapping[str, Any], tool: str) -> str:
    """How many for an object, and of what kinds most of them are."""
    counted = part["requests"]
    if not counted or tool not in counted["kinds"]:
        return ""
    kinds, objects = Counter(counted["kinds"][tool]), counted["objects"]
    said = ", ".join(f"{kind} {_short(number / objects)}" for kind, number in kinds.most_common(4))
    return f"{_short(kinds.total() / objects)} ({said})"


def _short(number: float) -> str:
    return f"{number:.2f}" if number >= 0.1 else f"{number:.4f}"


def _ratio(part: Mapping[str, Any], peer: str, measure: str) -> str:
    """Median, least and most."""
    found = ratios(part, peer, measure)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})" if found else ""


def publish(doc: Document, page: Path) -> None:
    """Put the figures, with those of other parts that are there already, beside ``page``, and the tables into it."""
    path = page.with_suffix(".json")
    whole = merged(json.loads(path.read_text()) if path.exists() else {}, doc, ORDER)
    write_json(whole, path)
    render(page)


def render(page: Path) -> None:
    """Make the tables and the pictures of ``page`` anew from the figures beside it."""
    doc = json.loads(page.with_suffix(".json").read_text())
    if (curve := page.with_name(CURVE)).exists():
        curve.with_suffix(".svg").write_text(chart.memory(json.loads(curve.read_text())), encoding="utf-8")
    page.with_suffix(".svg").write_text(chart.bars(doc), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the markers for the figures")
    page.write_text(f"{before}{BEGIN}\n{tables(doc, page)}{END}{after}", encoding="utf-8")


def write_json(doc: Document, path: Path) -> None:
    """The figures as a file."""
    path.write_text(json.dumps(doc, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
