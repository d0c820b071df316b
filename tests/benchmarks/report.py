"""Figures of a benchmark as JSON and as the tables of docs/performance.md, which are written here and never by hand."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import MIB, Work
from benchmarks.tools import TOOLS, version_of

if TYPE_CHECKING:
    from benchmarks.legs import Leg

BEGIN = "<!-- figures: written by tests/benchmarks/run.py --publish -->"
END = "<!-- end of figures -->"
MEASURES = ("wall", "cpu", "memory")


@dataclass(frozen=True)
class Sample:
    """One run: ``wall`` and ``cpu`` in seconds, ``memory`` in bytes; ``wrong`` says what was not as it should be."""

    leg: str
    work: str
    tool: str
    round: int
    wall: float
    cpu: float
    memory: int
    wrong: str = ""


def document(
    samples: Sequence[Sample], pairs: Iterable[tuple[Leg, Work]], options: argparse.Namespace, help_seconds: float
) -> dict[str, Any]:
    """Everything that was measured, and where."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "rounds": options.rounds,
        "latency_seconds": options.latency,
        "slow_down_share": options.slow_down,
        "works": [
            {
                "leg": leg.name,
                "name": w.name,
                "title": f"{w.title}: {leg.title}",
                "objects": len(w.sizes),
                "bytes": w.size,
            }
            for leg, w in pairs
        ],
        "help_seconds": round(help_seconds, 3),
        "samples": [asdict(sample) for sample in samples],
    }


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


def tables(doc: dict[str, Any]) -> str:
    """The Markdown between the markers."""
    where, names = doc["machine"], doc["versions"]
    computer = f"{where['cores']} cores ({where['cpu']}), {where['memory_gib']} GiB, {where['system']}"
    lines = [
        f"Measured {doc['date']} in {doc['rounds']} rounds: {computer}; load before the run {where['load_at_start']}.",
        "",
        "; ".join(f"{name}: {version}" for name, version in names.items()) + ".",
        "",
        f"`portabl --help`: {doc['help_seconds'] * 1000:.0f} ms (median of 10).",
    ]
    for work in doc["works"]:
        lines += ["", f"### {work['title']}", "", *_table(doc, work)]
    return "\n".join(lines) + "\n"


def _table(doc: dict[str, Any], work: dict[str, Any]) -> list[str]:
    gib = work["bytes"] / 2**30
    small = work["bytes"] / work["objects"] < MIB
    unit = "CPU, µs an object" if small else "CPU, s a GiB"
    scale = 1e6 / work["objects"] if small else 1 / gib
    ratios = " | ".join(f"portabl/it: {measure}" for measure in MEASURES)
    lines = [f"| tool | wall, s | {unit} | peak memory, MiB | {ratios} | result |", "|---" * 8 + "|"]
    by_tool = _by_tool(doc["samples"], work)
    for tool, runs in by_tool.items():
        wall, cpu, memory = (statistics.median(run[m] for run in runs.values()) for m in MEASURES)
        ratios = " | ".join(_ratio(by_tool.get("portabl", {}), runs, m) if tool != "portabl" else "" for m in MEASURES)
        wrong = [run["wrong"] for run in runs.values() if run["wrong"]]
        result = f"**wrong** in {len(wrong)}: {wrong[0]}" if wrong else "right"
        figures = f"{wall:.2f} | {cpu * scale:.{0 if small else 2}f} | {memory / MIB:.0f}"
        lines.append(f"| {TOOLS[tool].shown} | {figures} | {ratios} | {result} |")
    return lines


def _by_tool(samples: Iterable[dict[str, Any]], work: dict[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in TOOLS}
    for sample in samples:
        if (sample["leg"], sample["work"]) == (work["leg"], work["name"]):
            found[sample["tool"]][sample["round"]] = sample
    return {name: runs for name, runs in found.items() if runs}


def _ratio(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]], measure: str) -> str:
    """Median, least and most of the ratios within a round: a busy machine slows both."""
    pairs = sorted(ours[n][measure] / theirs[n][measure] for n in ours.keys() & theirs.keys() if theirs[n][measure])
    return f"{statistics.median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})" if pairs else ""


def publish(doc: dict[str, Any], page: Path) -> None:
    """Put the tables between the markers of ``page`` and the figures beside it as JSON."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the markers for the figures")
    page.write_text(f"{before}{BEGIN}\n{tables(doc)}{END}{after}", encoding="utf-8")
    write_json(doc, page.with_suffix(".json"))


def write_json(doc: dict[str, Any], path: Path) -> None:
    """The figures as a file."""
    path.write_text(json.dumps(doc, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
