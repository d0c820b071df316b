"""Counting a pass while it runs: what happened to objects, and losses by field and reason."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from portabl.model import Record
from portabl.report import EXAMPLES_MAX, LossGroup

GROUPS_MAX = 200
"""Distinct (field, reason) pairs kept apart; the manifest names every loss in any case."""


@dataclass
class Tally:
    """Counts of one pass; `add` may be called from many threads."""

    copied: int = 0
    bytes_copied: int = 0
    adopted: int = 0
    unchanged: int = 0
    shared: int = 0
    changed: int = 0
    extra: int = 0
    deleted: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, count: int = 1) -> None:
        """Add to one of the counts, by its name."""
        with self._guard:
            setattr(self, name, getattr(self, name) + count)

    def wrote(self, size: int, *, replaced: bool) -> None:
        """One object of ``size`` bytes was written, over an older one when ``replaced``."""
        with self._guard:
            self.copied += 1
            self.bytes_copied += size
            self.changed += replaced


class Losses:
    """Losses of the records of a manifest, grouped, with a few examples each."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[int, list[bytes]]] = {}
        self.failed = 0

    def add(self, record: Record) -> None:
        """Take in the losses of one record."""
        for loss in record.losses:
            self.failed += loss.field == "object"
            pair = (loss.field, loss.reason)
            if pair not in self._groups and len(self._groups) >= GROUPS_MAX:
                pair = (loss.field if loss.field == "object" else "metadata", "further reasons, see the manifest")
            count, examples = self._groups.get(pair, (0, []))
            if len(examples) < EXAMPLES_MAX:
                examples.append(record.key)
            self._groups[pair] = (count + 1, examples)

    def groups(self) -> tuple[LossGroup, ...]:
        """Lost objects first, then by field; most frequent first."""
        found = [LossGroup(f, r, count, tuple(examples)) for (f, r), (count, examples) in self._groups.items()]
        return tuple(sorted(found, key=lambda g: (g.field != "object", g.field, -g.count)))
