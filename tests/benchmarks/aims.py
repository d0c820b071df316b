"""What portabl is meant to reach, and whether the figures say that it does."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import KINDS, MEMORY_MB, Document, by_tool, median, ratios

RCLONE = ("rclone-tuned",)
JUICEFS = ("juicefs",)
BEST = ("rclone-tuned", "juicefs")
LOCAL = ("rclone-tuned", "s5cmd")
THREADS = 64
REQUESTS_EACH = 2
"""A small object is read once and written once; each of the two waits for an answer."""
MEMORY_SPREAD = 1.2

Part = dict[str, Any]


@dataclass(frozen=True)
class Aim:
    """``measured`` gives None for what was not measured; ``limit`` is the most, or with ``at_least`` the least."""

    work: str
    what: str
    limit: float
    measured: Callable[[Document], float | None]
    at_least: bool = False

    def row(self, doc: Document) -> str:
        """A line of the table."""
        value = self.measured(doc)
        said = "not measured" if value is None else f"{value:.2f}"
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        return f"| {self.work} | {self.what} | {bound} | {said} | {self.outcome(value)} |"

    def outcome(self, value: float | None) -> str:
        """In a word."""
        if value is None:
            return ""
        return "met" if (value >= self.limit if self.at_least else value <= self.limit) else "**missed**"


def _part(doc: Document, leg: str, work: str) -> Part | None:
    return next((part for part in doc["parts"] if (part["leg"], part["work"]) == (leg, work)), None)


def _beside(leg: str, work: str, measure: str, peers: Sequence[str]) -> Callable[[Document], float | None]:
    """The median of the ratios to the peer that is hardest to beat."""

    def measured(doc: Document) -> float | None:
        part = _part(doc, leg, work)
        found = [ratios(part, peer, measure) for peer in peers] if part else []
        return max((statistics.median(one) for one in found if one), default=None)

    return measured


def _cpu_each(leg: str, work: str) -> Callable[[Document], float | None]:
    """The median of portabl's CPU time an object, in microseconds."""

    def measured(doc: Document) -> float | None:
        part = _part(doc, leg, work)
        runs = by_tool(part).get("portabl") if part else None
        return median(runs.values(), "cpu") / part["objects"] * 1e6 if part and runs else None

    return measured


def _huge(doc: Document) -> float | None:
    """Seconds a byte of one huge object, to those of several large ones."""
    paces = []
    for work in ("huge", "large"):
        part = _part(doc, "s3-s3", work)
        if part is None or "portabl" not in by_tool(part):
            return None
        paces.append(median(by_tool(part)["portabl"].values(), "wall") / part["bytes"])
    return paces[0] / paces[1]


def _lists(doc: Document) -> float | None:
    counted = _counted(doc)
    return counted and counted[0].get("list", 0) * 1000 / counted[1]


def _others(doc: Document) -> float | None:
    counted = _counted(doc)
    return counted and float(sum(number for kind, number in counted[0].items() if kind != "list"))


def _counted(doc: Document) -> tuple[dict[str, int], int] | None:
    part = _part(doc, "unchanged", "many")
    kinds = part and part["requests"]["kinds"].get("portabl")
    return (kinds, part["requests"]["objects"]) if part and kinds is not None else None


def _hidden(doc: Document) -> float | None:
    """Objects a second, to what so many threads could do if nothing but the latency took time."""
    part = _part(doc, "far-80", "small")
    if part is None or "portabl" not in by_tool(part):
        return None
    pace: float = part["objects"] / median(by_tool(part)["portabl"].values(), "wall")
    return pace / (THREADS / (REQUESTS_EACH * part["latency"]))


def _memory(curve: Path) -> Iterator[Aim]:
    """Two for each kind of run: as much as was measured of it."""
    points = json.loads(curve.read_text())["points"] if curve.exists() else []
    for kind, name in KINDS.items():
        found = {point["objects"]: point["memory"] / 1e6 for point in points if point["kind"] == kind}
        most = max(found.values(), default=None)
        spread = most / min(found.values()) if most and len(found) > 1 else None
        work = (
            f"{name}, {' to '.join(f'{one:,}' for one in sorted({min(found), max(found)}))} objects" if found else name
        )
        yield Aim(work, "peak memory, MB", MEMORY_MB, lambda _, most=most: most)
        yield Aim(work, "peak memory, most to least", MEMORY_SPREAD, lambda _, spread=spread: spread)


def aims(curve: Path) -> Iterable[Aim]:
    """All of them. ``curve``: the file with the figures of memory by number of objects."""
    yield Aim("small, S3 to S3", "wall, to tuned rclone", 0.7, _beside("s3-s3", "small", "wall", RCLONE))
    yield Aim("small, S3 to S3", "wall, to juicefs", 0.9, _beside("s3-s3", "small", "wall", JUICEFS))
    yield Aim("small, S3 to S3", "CPU, to tuned rclone", 0.45, _beside("s3-s3", "small", "cpu", RCLONE))
    yield Aim("small, S3 to S3", "CPU, µs an object", 400, _cpu_each("s3-s3", "small"))
    for work in ("mixed", "medium"):
        yield Aim(f"{work}, S3 to S3", "wall, to the best", 0.9, _beside("s3-s3", work, "wall", BEST))
    yield Aim("large, S3 to S3", "wall, to the best", 1.0, _beside("s3-s3", "large", "wall", BEST))
    yield Aim("large, S3 to S3", "CPU, to tuned rclone", 0.7, _beside("s3-s3", "large", "cpu", RCLONE))
    yield Aim("one of 2 GiB", "its seconds a GiB, to those of several of 256 MiB", 1.0, _huge)
    for leg, way in (("local-s3", "local to S3"), ("s3-local", "S3 to local")):
        yield Aim(f"small, {way}", "wall, to the best of rclone and s5cmd", 1.0, _beside(leg, "small", "wall", LOCAL))
    nothing = "nothing changed, 100,000"
    yield Aim(nothing, "wall, to `rclone sync --checksum`", 0.8, _beside("unchanged", "many", "wall", RCLONE))
    yield Aim(nothing, "list requests per 1,000 objects", 2, _lists)
    yield Aim(nothing, "other requests in the whole run", 0, _others)
    for work in ("small", "large"):
        against = _beside("readback", work, "wall", RCLONE)
        yield Aim(f"{work}, verify by read-back", "wall, to `rclone check --download`", 0.6, against)
    yield Aim(
        "small, 80 ms later", "objects a second, to threads / latency of an object's 2 requests", 0.9, _hidden, True
    )
    yield from _memory(curve)


def table(doc: Document, curve: Path) -> list[str]:
    """The table "Against the aims"."""
    return ["| work | what | aim | measured | |", "|---" * 5 + "|", *(aim.row(doc) for aim in aims(curve))]
