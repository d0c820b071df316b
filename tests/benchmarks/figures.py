"""What was measured, as one document: runs, and parts (one work on one leg) that name the run they come from.

A part is measured as a whole, all tools in turn, and replaced as a whole; parts of other runs stay as they are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
"""``runs`` by name (date, machine, versions, rounds), ``parts`` and ``help_seconds``; plain JSON."""

KINDS = {"dry": "listing and planning", "copy": "copying", "again": "again, nothing changed"}
"""What memory is measured for."""
MEMORY_MB = 150
"""The aim."""


@dataclass(frozen=True)
class Sample:
    """One run: ``wall`` and ``cpu`` in seconds, ``memory`` in bytes; ``wrong`` says what was not as it should be."""

    tool: str
    round: int
    wall: float
    cpu: float
    memory: int
    wrong: str = ""


def merged(old: Document, new: Document, order: Sequence[tuple[str, str]]) -> Document:
    """``old`` with the parts of ``new`` instead of its own, in the given order; runs no part names are left out."""
    parts = {(part["leg"], part["work"]): part for part in [*old.get("parts", ()), *new["parts"]]}
    kept = [parts[name] for name in order if name in parts]
    named = {part["run"] for part in kept}
    runs = {name: run for name, run in {**old.get("runs", {}), **new["runs"]}.items() if name in named}
    return {"runs": runs, "help_seconds": new["help_seconds"], "parts": kept}


def by_tool(part: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Samples of a part by tool and round."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for sample in part["samples"]:
        found.setdefault(sample["tool"], {})[sample["round"]] = sample
    return found


def ratios(part: Mapping[str, Any], peer: str, measure: str) -> list[float]:
    """Of portabl to a peer within each round, sorted: a busy machine slows both."""
    tools = by_tool(part)
    ours, theirs = tools.get("portabl", {}), tools.get(peer, {})
    return sorted(ours[n][measure] / theirs[n][measure] for n in ours.keys() & theirs.keys() if theirs[n][measure])


def median(samples: Iterable[Mapping[str, Any]], measure: str) -> float:
    """The median of a measure."""
    return statistics.median(sample[measure] for sample in samples)
