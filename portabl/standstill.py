"""A pass in which nothing moves: source and target still show what the last manifest of the job says.

Both listings are merged with its records. What stays as it is is judged as in `plan`, and each record is held against
the target's listing as after a copy. Nothing is written meanwhile, so the listing that was compared is the final one.
The first difference ends the look, and the pass takes the usual way from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from portabl.checker import Finding, pairs
from portabl.manifest import Manifest
from portabl.model import Entry
from portabl.plan import Line, unchanged
from portabl.tally import Losses

TOLD_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Standstill:
    """What was found: every object of the source is as ``last`` says and nothing else is there, and the target holds
    what it says, and ``extra`` objects more. ``losses``: those that ``last`` names.
    """

    last: Manifest
    objects: int
    extra: int
    losses: Losses


def look(
    last: Manifest,
    source: Iterable[Entry],
    target: Iterable[Entry],
    judged: Callable[[Line, Entry], Finding],
    extra: Callable[[Entry], None],
    told: Callable[[int, int], None],
) -> Standstill | None:
    """Hold both sorted listings against the records of ``last``, which this release wrote; None where they differ.

    ``judged``: see `Checker.by_listing`. ``extra`` hears of what only the target has, ``told`` of objects and bytes.
    Raises ManifestError, and what listing raises.
    """
    losses = Losses()
    objects = size = extras = 0

    def counted(entry: Entry) -> None:
        nonlocal extras
        extras += 1
        extra(entry)

    merged = pairs(last.own_records(), target, counted)
    for entry in source:
        line, there = next(merged, (None, None))
        if line is None or there is None or not _stays(entry, there, line) or _needs_more(judged(line, there)):
            return None
        losses.add(line[1])
        objects += 1
        size += entry.size
        if objects % TOLD_TOGETHER == 0:
            told(TOLD_TOGETHER, size)
            size = 0
    if next(merged, None) is not None:
        return None
    told(objects % TOLD_TOGETHER, size)
    return Standstill(last, objects, extras, losses)


def _stays(entry: Entry, there: Entry, line: Line) -> bool:
    record = line[1]
    same = entry.key == record.key == there.key
    return same and not entry.problem and unchanged(entry, there, record)


def _needs_more(finding: Finding) -> bool:
    """Whether the record would not be the same line again: the target is not as it says, or shows a time it lacks."""
    target = finding.record.target
    return bool(finding.kind or finding.losses or (finding.modified and target is not None and not target.modified))
