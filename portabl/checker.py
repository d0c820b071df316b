"""Stage 6: hold records against a place, one by one: by its listing, or by reading."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from portabl.budget import Budget
from portabl.errors import Interrupted, NotFound, StorageError
from portabl.executors import in_order
from portabl.model import Entry, Loss, Proof, Record
from portabl.plan import Line
from portabl.readback import Read, Reader
from portabl.records import at_target, leaf, sizes_at_target, target_metadata
from portabl.shapes import ended, read_back
from portabl.storage import Storage

PATIENCE_SECONDS = 3.0
"""How long a listing that lacks an object is asked again, over a whole run (some stores list with a delay)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One record held against a place. ``kind`` is "" when all is as it should be, else a kind of `verification.Issue`.

    ``losses`` says what differs, in the words of a record; ``leaf`` is the Merkle leaf of what was found, None when
    nothing was found or nothing was read. ``modified``: the time the listing showed.
    """

    line: bytes
    record: Record
    kind: str = ""
    losses: tuple[Loss, ...] = ()
    leaf: bytes | None = None
    modified: str = ""


def pairs(
    lines: Iterable[Line], listing: Iterable[Entry], extra: Callable[[Entry], None]
) -> Iterator[tuple[Line, Entry | None]]:
    """Merge records and a sorted listing by key and ordinal; entries without a record go to ``extra``."""
    entries = iter(listing)
    head = next(entries, None)
    for line in lines:
        key, ordinal = line[1].key, line[1].ordinal
        while head is not None and (head.key < key or (head.key == key and head.ordinal < ordinal)):
            extra(head)
            head = next(entries, None)
        if head is not None and head.key == key and head.ordinal == ordinal:
            yield line, head
            head = next(entries, None)
        else:
            yield line, None
    while head is not None:
        extra(head)
        head = next(entries, None)


def history_pairs(
    lines: Iterable[Line], listing: Iterable[Entry], extra: Callable[[Entry], None]
) -> Iterator[tuple[Line, Entry | None, int]]:
    """The same for all versions; with the last record of a key, how many newer versions the listing has."""
    held: tuple[Line, Entry | None] | None = None
    newer = 0

    def more(entry: Entry) -> None:
        nonlocal newer
        newer += held is not None and held[0][1].key == entry.key
        extra(entry)

    for pair in pairs(lines, listing, more):
        if held is not None:
            yield (*held, newer)
        held, newer = pair, 0
    if held is not None:
        yield (*held, newer)


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of all keys, chosen by hash: ``share`` of them (0 to 1), beginning at ``offset`` (0 to 1) of the ring.

    Samples whose offsets are a share apart have no key in common, and together they have all.
    """

    share: float
    offset: float = 0.0

    def takes(self, key: bytes) -> bool:
        """Whether a key is in the sample."""
        place = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
        return (place - self.offset) % 1.0 < self.share


class Checker:
    """Checks records against one storage at one proof level. Context manager.
    ``sample``: with `Proof.READBACK`, read only these; all others are held against the listing. ``versions``: the
    records are of all versions, and so is the listing. ``reader``: reads the storage, instead of one in this process.
    """

    def __init__(
        self,
        storage: Storage,
        proof: Proof,
        threads: int,
        stop: threading.Event,
        *,
        versions: bool = False,
        sample: Sample | None = None,
        reader: Reader | None = None,
    ) -> None:
        self._storage = storage
        self._proof = proof
        self._threads = threads
        self._stop = stop
        self._versions = versions
        self._sample = sample
        self._reader = reader or Reader(storage, Budget())
        self._bodies_only = storage.capabilities.metadata_in_manifest
        self._patience = PATIENCE_SECONDS if storage.capabilities.key_rules == "store" else 0.0

    def check(
        self, lines: Iterable[Line], listing: Iterable[Entry], extra: Callable[[Entry], None]
    ) -> Iterator[Finding]:
        """A finding for every record, in order. Raises Interrupted when asked to stop."""
        if self._versions:
            return self._histories(lines, listing, extra)
        merged = pairs(lines, listing, extra)
        if self._proof is not Proof.READBACK:
            return (self.by_listing(line, entry) for line, entry in merged)
        return (finding for _, finding in in_order(merged, self._by_reading, self._threads))

    def _histories(
        self, lines: Iterable[Line], listing: Iterable[Entry], extra: Callable[[Entry], None]
    ) -> Iterator[Finding]:
        def look(item: tuple[Line, Entry | None, int]) -> Finding:
            return self._by_reading(item[:2]) if reads else self.by_listing(*item[:2])

        reads = self._proof is Proof.READBACK
        merged = history_pairs(lines, listing, extra)
        found = in_order(merged, look, self._threads) if reads else ((item, look(item)) for item in merged)
        for (_, _, newer), finding in found:
            if newer and not finding.kind and at_target(finding.record):
                loss = Loss("history", f"followed at the target by {newer:,} versions that the source does not have")
                yield replace(finding, kind="content", losses=(loss,))
            else:
                yield finding

    def by_listing(self, line: Line, entry: Entry | None) -> Finding:
        """One record held against what the listing shows for its key. Raises Interrupted when asked to stop."""
        if self._stop.is_set():
            raise Interrupted("stopped while the target was being checked")
        raw, record = line
        if not at_target(record):
            if record.losses:
                return Finding(raw, record)
            return Finding(raw, record, "missing", (Loss("object", "its record does not say that it arrived"),))
        trouble = self._listed_wrong(record, entry)
        if trouble[0] and self._ask_again(record):
            trouble = ("", "")
        if not trouble[0]:
            return Finding(raw, record, modified=entry.modified if entry else "")
        return Finding(raw, record, trouble[0], (Loss("object", trouble[1]),))

    def _listed_wrong(self, record: Record, entry: Entry | None) -> tuple[str, str]:
        if entry is None:
            return "missing", "not in the listing of the target"
        if entry.problem:
            return "unreadable", entry.problem
        if self._versions and (wrong := self._other_version(record, entry)):
            return "content", wrong
        if entry.size != record.size and entry.size not in sizes_at_target(record):
            return "size", f"sizes differ: recorded {record.size}, found {entry.size}"
        expected = record.target.etag if record.target else ""
        if self._proof is Proof.INGEST and expected and entry.etag and entry.etag != expected:
            return "content", f"ETags differ: written {expected}, found {entry.etag}"
        return "", ""

    def _other_version(self, record: Record, entry: Entry) -> str:
        if entry.delete_marker != record.delete_marker:
            kinds = ("a version", "a delete marker")
            return f"{kinds[entry.delete_marker]} stands where {kinds[record.delete_marker]} should"
        expected = record.target.version if record.target else ""
        if self._proof is Proof.INGEST and expected and entry.version != expected:
            return f"version ids differ: written {expected}, found {entry.version}"
        return ""

    def _listed(self, record: Record) -> Entry | None:
        if not self._versions:
            return self._storage.listed(record.key)
        return next((entry for entry in self._storage.history(record.key) if entry.ordinal == record.ordinal), None)

    def _ask_again(self, record: Record) -> bool:
        """Whether a fresh look, after a while if need be, shows the object as it should be."""
        while self._patience > 0:
            began = time.monotonic()
            if not self._listed_wrong(record, self._listed(record))[0]:
                return True
            self._stop.wait(min(0.5, self._patience))
            self._patience -= time.monotonic() - began
        return False

    def _by_reading(self, pair: tuple[Line, Entry | None]) -> Finding:
        by_listing = self.by_listing(*pair)
        entry, record = pair[1], by_listing.record
        if self._sample is not None and not self._sample.takes(record.key):
            return by_listing
        if by_listing.kind in ("missing", "unreadable") or entry is None or not at_target(record):
            return by_listing
        if record.delete_marker or entry.delete_marker:
            return replace(by_listing, leaf=None if by_listing.kind else leaf(record))
        try:
            read = self._reader.read(entry)
        except StorageError as error:
            if not error.per_object and not error.transient:
                raise
            kind = "missing" if isinstance(error, NotFound) else "unreadable"
            return Finding(by_listing.line, record, kind, (Loss("object", error.message),))
        return self._compared(by_listing, read)

    def _compared(self, finding: Finding, read: Read) -> Finding:
        record = finding.record
        wanted = target_metadata(record)
        found = wanted if self._bodies_only else read.info.metadata
        if not wanted.storage_class:
            found = replace(found, storage_class="")
        found = replace(found, lock={**found.lock, **ended(wanted.lock)})
        actual = leaf(replace(record, sha256=read.sha256, size=read.size, metadata=found, losses=()))
        if read.sha256 != record.sha256:
            detail = f"sha256 differs: recorded {record.sha256}, found {read.sha256}"
            kind = finding.kind or "content"
            return replace(finding, kind=kind, losses=(Loss("object", detail),), leaf=actual)
        losses = read_back(wanted, replace(read.info, metadata=found))
        return replace(finding, kind="metadata" if losses else "", losses=losses, leaf=actual)

    def __enter__(self) -> Checker:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()


def looked_at(acl: str, lock: str, storage_class: str) -> dict[str, str]:
    """Options for a place whose objects were given what a run with these options carries; "" for what it did not."""
    return {
        "acl": acl if acl in ("canned", "full") else "",
        "lock": lock if lock == "keep" else "",
        "storage_class": "keep" if storage_class else "",
    }
