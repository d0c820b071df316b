"""Before anything is copied: what there is, and what of it the target would not hold. Reads only.

One pass over the source's listing (or a manifest), each object held against the target's capabilities and its card
(`portabl.judge`). Metadata is in no listing: it is asked for of a bounded number of objects drawn evenly, or of all of
them, and the result says of how many. A sample is never called complete.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from portabl.errors import Interrupted, NotFound, StorageError
from portabl.executors import in_order
from portabl.judge import UNREADABLE, Foreseen, Judge, Portability, accept_name, unreadable, waiting
from portabl.model import Entry, ObjectInfo, Record
from portabl.report import EXAMPLES_MAX
from portabl.storage import Storage
from portabl.transfer import with_losses_of

HEADS = 1_000
"""Objects whose metadata is looked at unless all are asked for."""
GROUPS_MAX = 200
"""Distinct losses kept apart; further ones are counted together."""
SAMPLES = 8
SIZES = (0, 2**10, 2**20, 16 * 2**20, 2**30, 5 * 2**30, 100 * 2**30, 5 * 2**40)
"""Upper bounds (bytes, inclusive) of the bins of the histogram; one more bin for what is larger."""
Item = tuple[Entry, ObjectInfo | None]
"""An object as listed, and what it carries where that is known without asking."""
Hear = Callable[[bytes, Foreseen], None]


@dataclass(frozen=True, slots=True)
class Ahead:
    """One line of the loss list. ``accept``: its name for ``--accept``; ``count`` objects, ``examples``: some keys."""

    portability: Portability
    accept: str
    field: str
    reason: str
    count: int
    examples: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SizeBin:
    """Objects of up to ``upper`` bytes (None: all larger ones) that fit no smaller bin."""

    upper: int | None
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass found. Sizes in bytes; counts are objects (versions, where all of them are looked at).

    ``classes``: (objects, bytes) by storage class, "" where the listing shows none. ``carried``: what arrives as it is,
    by kind. ``ahead``: what does not. ``unknown``: features some objects have that were never measured at this target,
    with counts. ``looked_at``: objects whose metadata was seen, of the ``wanted`` ones that arrive and could lose some.
    ``parts``: pieces of the ``in_parts`` objects that do not go in one, each way. ``byte_days``: by storage class,
    what is left of minimum storage times. ``undated``: objects whose age could not be told. ``largest``: a few
    of those that arrive.
    """

    objects: int = 0
    bytes: int = 0
    sizes: tuple[SizeBin, ...] = ()
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    carried: Mapping[str, int] = field(default_factory=dict)
    ahead: tuple[Ahead, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    wanted: int = 0
    looked_at: int = 0
    parts: int = 0
    in_parts: int = 0
    byte_days: Mapping[str, float] = field(default_factory=dict)
    undated: int = 0
    largest: tuple[Entry, ...] = ()
    delete_markers: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was looked at that could be lost."""
        return self.looked_at == self.wanted

    def unaccepted(self, accepted: Iterable[str]) -> tuple[Ahead, ...]:
        """What stands in the way of a migration: losses ahead that nobody accepted by name.

        What the source itself cannot give (sockets, unreadable directories) is no reason to stop: no other target would
        be given it either. It is named by the run.
        """
        names = {*accepted, UNREADABLE}
        return tuple(one for one in self.ahead if one.accept not in names)


class Surveyor:
    """Takes in objects one by one. ``minimum_days``: by storage class, for the cost of deleting at the source.

    ``asks``: objects are looked at even where the target keeps everything, because the source's answers name losses.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        heads: int | None = HEADS,
        asks: bool = False,
        minimum_days: Mapping[str, int] | None = None,
        hear: Hear = lambda _key, _foreseen: None,
    ) -> None:
        self._judge = judge
        self._heads = heads
        self._asks = asks or judge.wants_fields
        self._minimum_days = minimum_days or {}
        self._hear = hear
        self._now = datetime.now(UTC)
        self._bins: Counter[int] = Counter()
        self._bin_bytes: Counter[int] = Counter()
        self._classes: dict[str, list[int]] = {}
        self._groups: dict[tuple[Portability, str, str, str], tuple[int, list[bytes]]] = {}
        self._carried: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._byte_days: dict[str, float] = {}
        self._undated = self._parts = self._in_parts = self._looked_at = self._wanted = self._markers = 0
        self._held = (b"", "")
        self._largest: list[tuple[int, bytes, int, Entry]] = []
        self._random = random.Random(0)  # noqa: S311 - an even sample that is the same each time, no secret

    def run(self, items: Iterable[Item], source: Storage, threads: int, stop: threading.Event) -> Survey:
        """Go through everything. Raises Interrupted when asked to stop, and what listing or looking raises."""

        def look(item: Item) -> ObjectInfo | Foreseen | None:
            return _looked(source, item[0]) if item[1] is None else item[1]

        arriving = self._arriving(items, stop)
        if not self._asks:
            for _ in arriving:
                pass
        else:
            chosen = arriving if self._heads is None else self._drawn(arriving, self._heads)
            for (entry, _), seen in in_order(chosen, look, threads):
                if seen is None:
                    self._wanted -= 1  # gone since it was listed
                else:
                    self._judge_fields(entry, seen)
        return self._survey()

    def _arriving(self, items: Iterable[Item], stop: threading.Event) -> Iterator[Item]:
        """Counts and judges everything; yields the objects that arrive, so that their fields matter."""
        for entry, info in items:
            if stop.is_set():
                raise Interrupted("stopped on request; nothing was written")
            self._count(entry)
            if not self._judge_entry(entry) and not entry.delete_marker:
                self._wanted += 1
                self._keep_large(entry)
                yield entry, info

    def _drawn(self, items: Iterable[Item], heads: int) -> list[Item]:
        """Reservoir sampling: each object is drawn with the same chance, whatever their number. In listing order.

        Where nothing has to be asked for (a manifest) all are judged at once.
        """
        drawn: list[tuple[int, Item]] = []
        for number, (entry, info) in enumerate(items):
            if info is not None:
                self._judge_fields(entry, info)
            elif len(drawn) < heads:
                drawn.append((number, (entry, None)))
            elif (place := self._random.randrange(number + 1)) < heads:
                drawn[place] = (number, (entry, None))
        return [item for _, item in sorted(drawn, key=lambda pair: pair[0])]

    def _keep_large(self, entry: Entry) -> None:
        """A few of the largest objects, for whoever wants to measure how fast the source reads."""
        heapq.heappush(self._largest, (entry.size, entry.key, entry.ordinal, entry))
        if len(self._largest) > SAMPLES:
            heapq.heappop(self._largest)

    def _count(self, entry: Entry) -> None:
        if entry.delete_marker:
            self._markers += 1
            return
        place = next((n for n, upper in enumerate(SIZES) if entry.size <= upper), len(SIZES))
        self._bins[place] += 1
        self._bin_bytes[place] += entry.size
        tally = self._classes.setdefault(entry.storage_class, [0, 0])
        tally[0] += 1
        tally[1] += entry.size
        if parts := self._judge.parts(entry.size):
            self._parts += parts
            self._in_parts += 1
        if days := self._minimum_days.get(entry.storage_class):
            self._count_days(entry, days)

    def _count_days(self, entry: Entry, days: int) -> None:
        try:
            age = self._now - datetime.fromisoformat(entry.modified)
        except (ValueError, TypeError):
            self._undated += 1
        else:
            left = entry.size * max(0.0, days - age.total_seconds() / 86_400)
            self._byte_days[entry.storage_class] = self._byte_days.get(entry.storage_class, 0.0) + left

    def _judge_entry(self, entry: Entry) -> bool:
        found, unknown = self._judge.entry(entry)
        if entry.ordinal > 1 and self._held[0] == entry.key:  # a history has no holes
            found, unknown = [waiting(self._held[1])], []
        self._unknown.update(unknown)
        for foreseen in found:
            self._add(entry.key, foreseen)
            self._held = (entry.key, foreseen.accept)
        self._carried["delete markers" if entry.delete_marker else "objects"] += not found
        return bool(found)

    def _judge_fields(self, entry: Entry, seen: ObjectInfo | Foreseen) -> None:
        self._looked_at += 1
        if isinstance(seen, Foreseen):
            self._add(entry.key, seen)
            self._carried["objects"] -= 1
            return
        metadata = seen.metadata
        found, unknown = self._judge.fields(entry, metadata)
        found += [self._judge.of_source(loss) for loss in seen.losses]
        self._unknown.update(unknown)
        for foreseen in found:
            self._add(entry.key, foreseen)
        gone = {accept_name(foreseen.field) for foreseen in found}
        if any(foreseen.field == "object" for foreseen in found):
            self._carried["objects"] -= 1
        else:
            self._carried.update({accept_name(name) for name in metadata.fields()} - gone)

    def _add(self, key: bytes, foreseen: Foreseen) -> None:
        self._hear(key, foreseen)
        group = (foreseen.portability, foreseen.accept, foreseen.field, foreseen.reason)
        if group not in self._groups and len(self._groups) >= GROUPS_MAX:
            group = (foreseen.portability, foreseen.accept, "metadata", "further fields and reasons")
        count, examples = self._groups.get(group, (0, []))
        if len(examples) < EXAMPLES_MAX:
            examples.append(key)
        self._groups[group] = (count + 1, examples)

    def _survey(self) -> Survey:
        objects = sum(self._bins.values())
        bins = [SizeBin((*SIZES, None)[n], self._bins[n], self._bin_bytes[n]) for n in sorted(self._bins)]
        ahead = [Ahead(*group, count, tuple(examples)) for group, (count, examples) in self._groups.items()]
        return Survey(
            objects=objects,
            bytes=sum(self._bin_bytes.values()),
            sizes=tuple(bins),
            classes={name: (count, size) for name, (count, size) in sorted(self._classes.items())},
            carried=dict(sorted(self._carried.items())),
            ahead=tuple(sorted(ahead, key=lambda one: (one.portability, one.field != "object", one.field, -one.count))),
            unknown=dict(self._unknown.most_common()),
            looked_at=self._looked_at,
            wanted=self._wanted if self._asks else 0,
            parts=self._parts,
            in_parts=self._in_parts,
            byte_days=dict(self._byte_days),
            undated=self._undated,
            largest=tuple(entry for *_, entry in sorted(self._largest, reverse=True)),
            delete_markers=self._markers,
        )


def record_items(records: Iterable[Record]) -> Iterator[Item]:
    """Objects as a manifest has them, metadata included."""
    for record in records:
        if not record.delete_marker:
            problem = "" if record.sha256 else "could not be read when the manifest was made"
            info = with_losses_of(record, ObjectInfo(record.size, metadata=record.metadata))
            yield Entry(record.key, record.size, problem=problem), info


def _looked(source: Storage, entry: Entry) -> ObjectInfo | Foreseen | None:
    """What an object carries, or why we are not told; None when it has gone since it was listed."""
    try:
        return source.look(entry) if entry.ordinal else source.stat(entry.key)
    except NotFound:
        return None
    except StorageError as error:
        if error.transient or not error.passable:
            raise
        return unreadable(error.message)
