"""Stage 2: hold source, last record and target against each other; pure, constant memory.

An object is left alone only when the source still shows what the last record saw and the target still shows what
that record wrote. Everything else is copied; without a record, equal size and equal full-object digest make it a
candidate for adoption, which the transfer proves by reading.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from portabl.checksum import MD5_ETAG
from portabl.errors import Refused
from portabl.model import Entry, Record
from portabl.records import sizes_at_target
from portabl.slots import filled_directly

T = TypeVar("T")
Line = tuple[bytes, Record]
"""A manifest line and what it says."""


_LOOK_AGAIN = ("object", "tags")
"""Losses that may be gone the next time: an object that did not arrive, tags that nobody was allowed to read."""


class Action(enum.Enum):
    """What a pass does about one key."""

    COPY = "copy"
    ADOPT = "adopt"  # the target may hold it already: read, compare, write only if it differs
    KEEP = "keep"
    SHARE = "share"  # as an earlier snapshot holds it: taken from there
    REPORT = "report"  # listed, but nothing that can be carried
    EXTRA = "extra"  # at the target, not in the source


AN_OLDER_ONE = "not written, because an older version of this key did not arrive"
"""Why a version that could be carried is not."""


@filled_directly
@dataclass(frozen=True, slots=True)
class Step:
    """One decision. ``entry`` is the source's listing (the target's for EXTRA); ``known`` the last record's line (the
    earlier snapshot's for SHARE); ``restore`` what a manifest says of a body that lies in a plain directory.
    """

    action: Action
    entry: Entry
    target: Entry | None = None
    known: Line | None = None
    restore: Record | None = None


class _Cursor(Generic[T]):
    """A sorted stream that can be asked for a key; what it passes over goes to ``passed``."""

    def __init__(self, items: Iterable[T], key: Callable[[T], bytes]) -> None:
        self._items = iter(items)
        self._key = key
        self._head: T | None = next(self._items, None)

    def passed(self, key: bytes | None) -> Iterator[T]:
        """Items before ``key`` (all that are left when None)."""
        while (head := self._head) is not None and (key is None or self._key(head) < key):
            self._head = next(self._items, None)
            yield head

    def take(self, key: bytes) -> T | None:
        """The item with exactly this key, after `passed`."""
        head = self._head
        if head is None or self._key(head) != key:
            return None
        self._head = next(self._items, None)
        return head


def _entry_key(entry: Entry) -> bytes:
    return entry.key


def _line_key(line: Line) -> bytes:
    return line[1].key


def _record_key(record: Record) -> bytes:
    return record.key


def steps(
    source: Iterable[Entry],
    target: Iterable[Entry],
    known: Iterable[Line],
    restore: Iterable[Record] | None = None,
    earlier: Iterable[Line] = (),
    *,
    only_named: bool = False,
) -> Iterator[Step]:
    """Merge sorted streams into steps in key order. ``restore``: records whose bodies ``source`` holds. ``earlier``:
    records of an earlier snapshot, which lies elsewhere and whose bodies may be shared. ``only_named``: nothing is
    carried that ``restore`` does not name.
    """
    targets = _Cursor(target, _entry_key)
    lines = _Cursor(known, _line_key)
    shared = _Cursor(earlier, _line_key)
    bodies = _Cursor(restore, _record_key) if restore is not None else None
    for entry in source:
        key = entry.key
        for extra in targets.passed(key):
            yield Step(Action.EXTRA, extra)
        for _ in itertools.chain(lines.passed(key), shared.passed(key)):
            pass
        if bodies is not None:
            yield from (_missing(record) for record in bodies.passed(key))
        body = bodies.take(key) if bodies is not None else None
        found = _unnamed([entry])[0] if only_named and body is None else entry
        step = _decide(found, targets.take(key), lines.take(key), body)
        yield _shared(step, shared.take(key))
    yield from (Step(Action.EXTRA, extra) for extra in targets.passed(None))
    if bodies is not None:
        yield from (_missing(record) for record in bodies.passed(None))


def _missing(record: Record) -> Step:
    """The manifest names an object whose body is not there: an entry that cannot be carried."""
    problem = "" if record.delete_marker else "named by the manifest, but not in the source"
    return Step(Action.REPORT, Entry(record.key, record.size, problem=problem), restore=record)


def _decide(entry: Entry, target: Entry | None, known: Line | None, restore: Record | None) -> Step:
    if entry.problem:
        return Step(Action.REPORT, entry, target)
    if known is not None and target is not None and unchanged(entry, target, known[1], restore):
        return Step(Action.KEEP, entry, target, known)
    if target is not None and target.size == entry.size and _same_digest(entry.etag, target.etag):
        return Step(Action.ADOPT, entry, target, restore=restore)
    return Step(Action.COPY, entry, target, restore=restore)


def _shared(step: Step, earlier: Line | None) -> Step:
    """What would be copied is shared instead when the source still shows what the earlier snapshot saw."""
    copied = step.action in (Action.COPY, Action.ADOPT) and step.restore is None
    if not copied or earlier is None or not _source_unchanged(step.entry, earlier[1]):
        return step
    return replace(step, action=Action.SHARE, known=earlier)


def unchanged(entry: Entry, target: Entry, record: Record, restore: Record | None = None) -> bool:
    """Whether source and target still show what the record says of them, and it is as ``restore`` describes it."""
    target_seen = record.target
    if target_seen is None or not target_seen.etag:
        return False
    if restore is not None and (restore.metadata, restore.sha256) != (record.metadata, record.sha256):
        return False
    return (
        _source_unchanged(entry, record)
        and target.size in sizes_at_target(record)
        and target.etag == target_seen.etag
        and target_seen.modified in ("", target.modified)
    )


def _source_unchanged(entry: Entry, record: Record) -> bool:
    """Whether the source still shows what the record saw, and the record holds all of it."""
    source_seen = record.source
    if record.target is None or record.sha256 is None:
        return False
    return (
        entry.size == record.size
        and entry.etag == source_seen.etag
        and entry.modified == source_seen.modified
        and entry.version == source_seen.version
        and bool(entry.etag or entry.modified or entry.version)
        and not any(loss.field in _LOOK_AGAIN for loss in record.losses)
    )


def _same_digest(source_etag: str, target_etag: str) -> bool:
    return source_etag == target_etag and MD5_ETAG.fullmatch(source_etag) is not None


HISTORY_MAX = 100_000
"""Versions of one key that are held in memory at once (about 40 MB); a key with more is refused."""


@dataclass(frozen=True, slots=True)
class History:
    """All versions of one key, oldest first: as the source lists them, as the target does, and what records say of
    them by the source's version id. ``restore``: what a manifest says of them, by ordinal, where they are put back
    under one.
    """

    key: bytes
    source: tuple[Entry, ...] = ()
    target: tuple[Entry, ...] = ()
    known: Mapping[str, Line] = field(default_factory=dict)
    restore: Mapping[int, Record] = field(default_factory=dict)

    def settled(self) -> list[Line]:
        """Lines of the leading versions that source and target still show as their records say."""
        lines: list[Line] = []
        for entry, there in zip(self.source, self.target, strict=False):
            line = self.known.get(entry.version)
            if line is None or not _same_version(entry, there, line[1]):
                break
            if self.restore and not _as_restored(line[1], self.restore.get(entry.ordinal)):
                break
            lines.append(line)
        return lines


def _same_version(entry: Entry, there: Entry, record: Record) -> bool:
    source_seen, target_seen = record.source, record.target
    if target_seen is None or not target_seen.version or entry.problem:
        return False
    if record.sha256 is None and not record.delete_marker:
        return False
    if any(loss.field == "object" for loss in record.losses):
        return False
    flags = (entry.delete_marker, there.delete_marker, entry.ordinal)
    return (
        flags == (record.delete_marker, record.delete_marker, record.ordinal)
        and entry.size == record.size == there.size
        and (entry.etag, entry.modified) == (source_seen.etag, source_seen.modified)
        and (there.etag, there.version) == (target_seen.etag, target_seen.version)
        and target_seen.modified in ("", there.modified)
    )


def _as_restored(record: Record, restore: Record | None) -> bool:
    return restore is not None and (restore.metadata, restore.sha256) == (record.metadata, record.sha256)


def newest(restore: Iterable[Record]) -> Iterator[Record]:
    """Of each key the newest record, as one of what is current; a key whose newest is a deletion is not."""
    for _, group in itertools.groupby(restore, _record_key):
        *_, last = group
        if not last.delete_marker:
            yield replace(last, ordinal=0)


def histories(
    source: Iterable[Entry],
    target: Iterable[Entry],
    known: Iterable[Line],
    restore: Iterable[Record] | None = None,
) -> Iterator[History]:
    """Merge sorted listings of all versions, and records, key by key; keys that only the target has come too.
    ``restore``: records of all versions whose bodies ``source`` holds; it is they that say what there is.

    Raises Refused for a key with more than `HISTORY_MAX` versions.
    """
    targets = _Cursor(_by_key(target, _entry_key), lambda group: group[0].key)
    lines = _Cursor(_by_key(known, _line_key), lambda group: _line_key(group[0]))
    for group, described in _described(_by_key(source, _entry_key), restore):
        key = group[0].key
        for extra in targets.passed(key):
            yield History(extra[0].key, target=extra)
        for _ in lines.passed(key):
            pass
        records = {line[1].source.version: line for line in lines.take(key) or ()}
        yield History(key, group, targets.take(key) or (), records, described)
    for extra in targets.passed(None):
        yield History(extra[0].key, target=extra)


_Described = tuple[tuple[Entry, ...], Mapping[int, Record]]


def _described(groups: Iterable[tuple[Entry, ...]], restore: Iterable[Record] | None) -> Iterator[_Described]:
    """Each key's versions with what the records say of them; one without the other is a problem, never left out."""
    if restore is None:
        yield from ((group, {}) for group in groups)
        return
    bodies = _Cursor(groups, lambda group: group[0].key)
    for records in _by_key(restore, _record_key):
        yield from ((_unnamed(group), {}) for group in bodies.passed(records[0].key))
        found = {entry.ordinal: entry for entry in bodies.take(records[0].key) or ()}
        said = {record.ordinal: record for record in records}
        unnamed = _unnamed([entry for ordinal, entry in found.items() if ordinal not in said])
        here = [_with_body(record, found.get(ordinal)) for ordinal, record in said.items()]
        yield tuple(sorted((*here, *unnamed), key=lambda entry: entry.ordinal)), said
    yield from ((_unnamed(group), {}) for group in bodies.passed(None))


def _unnamed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(replace(entry, problem="in the source, but not named by the manifest") for entry in entries)


def _with_body(record: Record, entry: Entry | None) -> Entry:
    if entry is not None and entry.delete_marker == record.delete_marker:
        return entry
    problem = "named by the manifest, but not in the source"
    return Entry(record.key, record.size, problem=problem, ordinal=record.ordinal, delete_marker=record.delete_marker)


def _by_key(items: Iterable[T], key: Callable[[T], bytes]) -> Iterator[tuple[T, ...]]:
    for _, group in itertools.groupby(items, key):
        held = tuple(itertools.islice(group, HISTORY_MAX + 1))
        if len(held) > HISTORY_MAX:
            raise Refused(f"more than {HISTORY_MAX:,} versions of one key", key=key(held[0]))
        yield held
