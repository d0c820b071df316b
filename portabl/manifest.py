"""Manifests: segments of sorted records under one manifest.json, written last (format: docs/manifest.md)."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portabl import __version__, keys, segments
from portabl.errors import ManifestError, NotFound, UsageError
from portabl.files import Files
from portabl.merkle import Tree
from portabl.model import Record
from portabl.records import (
    INT_MAX,
    at_target,
    canonical,
    decode,
    decode_own,
    key_of,
    leaf_of_line,
    sort_key,
    target_leaf,
)
from portabl.segments import Segment, SegmentWriter, lines, segment_name

NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.sig"
VERSION = 1
FORMAT = f"portabl manifest {VERSION}"
TOOL = f"portabl {__version__}"
"""What the field ``tool`` says of manifests that this release wrote."""
DOCUMENT_BYTES_MAX = 256 * 2**20
"""Longest manifest.json that is read: more than a hundred thousand segments."""

LOSS_KINDS_MAX = 1000
"""Fields that losses are counted by; the losses of any further ones are counted as "other"."""

OWN = ("counts", "document_sha256", "format", "root", "segments", "target_root")
"""Fields of manifest.json that the writer computes; every other field is the caller's."""

_COUNTS = ("at_target", "bytes", "delete_markers", "failed", "losses", "objects", "unread")
_HEX = re.compile(r"[0-9a-f]{64}").fullmatch
_BIG = re.compile(r"[1-9][0-9]{15,30}").fullmatch
_SEGMENT_NAME = re.compile(r"segments/([0-9]{6,})\.jsonl\.gz").fullmatch
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose manifest.json is proven against itself; its records are proven by reading them.

    ``document``: everything in manifest.json.
    """

    files: Files
    document: Mapping[str, Any]
    segments: tuple[Segment, ...]

    @property
    def root(self) -> str:
        """Merkle root of what the source held, lower-case hex."""
        return str(self.document["root"])

    @property
    def target_root(self) -> str:
        """Merkle root of what the target holds; equal to `root` when everything arrived as it was."""
        return str(self.document["target_root"])

    @property
    def counts(self) -> Mapping[str, Any]:
        """Totals over all records (docs/manifest.md, counts)."""
        counts: Mapping[str, Any] = self.document["counts"]
        return {**counts, "bytes": int(counts["bytes"])}

    @property
    def own(self) -> bool:
        """Whether this release says that it wrote it."""
        return self.document.get("tool") == TOOL

    def check_segments(self) -> None:
        """Hold every segment against its hash. Raises ManifestError. For who cannot wait for the end of `records`."""
        for segment in self.segments:
            segments.check(self.files, segment)

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """Every line and its record, in order, while the segments stream by.

        A record may be yielded before its segment's hash has been seen whole. Any difference (hash, size, order,
        counts, roots) raises ManifestError before the iterator ends: only an iterator that ended has proven
        anything. Memory is bounded by one line and one chunk.
        """
        totals = _Totals()
        for segment in self.segments:
            records = 0
            for line in lines(self.files, segment):
                record = decode(line)
                totals.add(line, record)
                if (records == 0 and record.key != segment.first) or records == segment.records:
                    raise ManifestError(f"{segment.name}: other records than {NAME} says", key=record.key)
                records += 1
                yield line, record
            if records != segment.records or totals.last_key != segment.last:
                raise ManifestError(f"{segment.name}: other records than {NAME} says")
        for name, value in totals.document().items():
            if self.document[name] != value:
                raise ManifestError(f"{name} of {NAME} is {self.document[name]}, the records have {value}")

    def own_records(self) -> Iterator[tuple[bytes, Record]]:
        """The same of a manifest that this release wrote in a place of its own. Its segments are held against their
        hashes before the first record is yielded, so these are the bytes that were written, and nothing else is proven
        of them once more; that costs half. Any difference raises ManifestError.
        """
        self.check_segments()
        for segment in self.segments:
            records = 0
            for records, line in enumerate(lines(self.files, segment), 1):  # noqa: B007 - the number is wanted
                yield line, decode_own(line)
            if records != segment.records:
                raise ManifestError(f"{segment.name}: other records than {NAME} says")


class _Totals:
    """What writer and reader compute alike over all records: order, counts, both trees."""

    def __init__(self) -> None:
        self._last: tuple[bytes, int] = (b"", -1)
        self._numbers = dict.fromkeys((name for name in _COUNTS if name != "losses"), 0)
        self._losses: Counter[str] = Counter()
        self._source = Tree()
        self._other: Tree | None = None  # of the target, from the first record on of which it holds something else

    @property
    def last_key(self) -> bytes:
        return self._last[0]

    def add(self, line: bytes, record: Record) -> None:
        here = sort_key(record)
        if here <= self._last:
            what = "twice" if here == self._last else f"after {keys.show(self._last[0])}"
            raise ManifestError(f"records out of order: this one comes {what}", key=record.key)
        hashed = leaf_of_line(line, record)
        arrived = (target_leaf(record) if record.losses else hashed) if at_target(record) else None
        if self._other is None and arrived != hashed:
            self._other = self._source.copy()
        self._source.add(hashed)
        if arrived is not None:
            self._numbers["at_target"] += 1
            if self._other is not None:
                self._other.add(arrived)
        self._count(record)
        self._last = here

    def _count(self, record: Record) -> None:
        numbers = self._numbers
        numbers["delete_markers" if record.delete_marker else "objects"] += 1
        numbers["bytes"] += record.size
        numbers["unread"] += record.sha256 is None and not record.delete_marker
        if record.losses:
            fields = [_field(loss.field) for loss in record.losses]
            numbers["failed"] += "object" in fields
            for name in fields:
                known = name in self._losses or len(self._losses) < LOSS_KINDS_MAX
                self._losses[name if known else "other"] += 1

    def document(self) -> dict[str, Any]:
        total = self._numbers["bytes"]
        return {
            # More bytes than a JSON number can say exactly (9 PB) are written as text.
            "counts": {**self._numbers, "bytes": total if total <= INT_MAX else str(total), "losses": {**self._losses}},
            "root": self._source.root().hex(),
            "target_root": (self._other or self._source).root().hex(),
        }


def _field(name: str) -> str:
    """Losses are counted by field; names users chose are counted together, so that counts stay small."""
    if name.startswith(("user.", "tag.")):
        return name[: name.index(".")] + ".*"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "other"
    return name


@dataclass(frozen=True, slots=True)
class Retold(Manifest):
    """A manifest whose records are ``tell(line, record)`` of those in ``of``, which proves them as it is read."""

    of: Manifest
    tell: Callable[[bytes, Record], tuple[bytes, Record]]

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """As `Manifest.records`."""
        for line, record in self.of.records():
            yield self.tell(line, record)

    def own_records(self) -> Iterator[tuple[bytes, Record]]:
        """As `records`: it is not this manifest's segments that say them."""
        return self.records()


def retold(of: Manifest, tell: Callable[[bytes, Record], tuple[bytes, Record]]) -> Manifest:
    """The same manifest with its records told in another way, such as by the files of a package."""
    return Retold(of.files, of.document, of.segments, of, tell)


class ManifestWriter:
    """Takes records in order and writes a manifest; nothing is a manifest before `finish`.

    Segments a crashed run left are overwritten. A finished manifest is not, unless ``replace`` says so; then it
    stops being one at once. Leaving a ``with`` block without `finish` gives up the open segment.
    """

    def __init__(self, files: Files, segment_records: int = 100_000, *, replace: bool = False) -> None:
        if segment_records < 1:
            raise ValueError("a segment has at least one record")
        if files.exists(NAME):
            if not replace:
                hint = "choose an empty place, or remove the manifest there"
                raise UsageError("there is a finished manifest here already", storage=files.url, hint=hint)
            files.delete(NAME)
        self._files = files
        self._segment_records = segment_records
        self._totals = _Totals()
        self._segments: list[Segment] = []
        self._open: SegmentWriter | None = None

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def add(self, line: bytes, record: Record) -> None:
        """Append ``record`` and its `encode`d ``line``. Raises ManifestError unless it comes after the one before."""
        last = self._totals.last_key
        self._totals.add(line, record)
        if self._open is not None and self._open.records >= self._segment_records:
            self._segments.append(self._open.finish(last))
            self._open = None
        if self._open is None:
            name = segment_name(len(self._segments))
            self._open = SegmentWriter(self._files, name, record.key)
        self._open.add(line)

    def finish(self, document: Mapping[str, Any]) -> Manifest:
        """Close the last segment and write manifest.json with the caller's fields. Raises ManifestError."""
        _check_own(document)  # what cannot be written fails before the last segment appears
        if self._open is not None:
            self._segments.append(self._open.finish(self._totals.last_key))
            self._open = None
        return _finished(self._files, document, self._segments, self._totals.document())

    def abort(self) -> None:
        """Give up the open segment, if any."""
        if self._open is not None:
            self._open.abort()
            self._open = None


def _check_own(document: Mapping[str, Any]) -> None:
    """Raises ManifestError for fields that are not the caller's, and for what has no canonical form."""
    reserved = sorted(set(document) & set(OWN))
    if reserved:
        raise ManifestError(f"fields of {NAME} the writer computes itself: {', '.join(reserved)}")
    _text(document)


def _finished(
    files: Files, document: Mapping[str, Any], segments: Sequence[Segment], totals: Mapping[str, Any]
) -> Manifest:
    """With its segments in place, a manifest becomes one."""
    described = [segment.to_json() for segment in segments]
    full = {**document, "format": FORMAT, "segments": described, **totals}
    full["document_sha256"] = _document_sha256(full)
    _remove_leftovers(files, len(segments))
    files.write(NAME, _text(full))
    return _parsed(files, _text(full))


def _remove_leftovers(files: Files, segments: int) -> None:
    """Segments a longer run left behind belong to no manifest."""
    for name in files.names("segments/"):
        match = _SEGMENT_NAME(name)
        if match and int(match[1]) >= segments:
            files.delete(name)


def again(last: Manifest, files: Files, document: Mapping[str, Any]) -> Manifest:
    """A new manifest of the same records: their segments are copied, each held against its hash on the way, and
    ``document`` has the new caller's fields. A finished manifest in ``files`` stops being one at once.
    """
    _check_own(document)
    files.delete(NAME)
    for segment in last.segments:
        segments.copy(last.files, files, segment)
    totals = {name: last.document[name] for name in ("counts", "root", "target_root")}
    return _finished(files, document, last.segments, totals)


def load(files: Files) -> Manifest:
    """The manifest at a place. Raises ManifestError when there is none, or it is damaged, edited or of a newer format.

    Only manifest.json is read: `Manifest.records` proves the rest.
    """
    try:
        data = _bounded(files.chunks(NAME, _CHUNK))
    except NotFound:
        raise ManifestError(f"no manifest here: there is no {NAME}", storage=files.url) from None
    try:
        return _parsed(files, data)
    except ManifestError as error:
        raise ManifestError(error.message, key=error.key, storage=files.url, hint=error.hint) from error


def _bounded(chunks: Iterator[bytes]) -> bytes:
    """All of a file, or little more than is allowed."""
    found: list[bytes] = []
    size = 0
    for chunk in chunks:
        found.append(chunk)
        size += len(chunk)
        if size > DOCUMENT_BYTES_MAX:
            break
    return b"".join(found)


def _parsed(files: Files, data: bytes) -> Manifest:
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ManifestError(f"{NAME} is longer than {DOCUMENT_BYTES_MAX} bytes")
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{NAME} is not JSON, or cut short: {type(error).__name__}") from error
    _check_format(document)
    try:
        if _text(document) != data:
            raise ManifestError(f"{NAME} was edited: it is not in canonical form")
        if document.pop("document_sha256", None) != _document_sha256(document):
            raise ManifestError(f"{NAME} was edited: document_sha256 does not match")
        document["document_sha256"] = _document_sha256(document)
        segments = tuple(_segment(number, value) for number, value in enumerate(document["segments"]))
        _check_totals(document, segments)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ManifestError(f"{NAME} has missing or misshapen fields: {type(error).__name__}") from error
    return Manifest(files, document, segments)


def _check_format(document: Any) -> None:
    form = document.get("format") if isinstance(document, dict) else None
    match = re.fullmatch(r"portabl manifest ([1-9][0-9]{0,8})", form) if isinstance(form, str) else None
    if not match:
        raise ManifestError(f"{NAME} is no manifest of portabl: it does not name its format")
    if int(match[1]) > VERSION:
        hint = "upgrade portabl, then run the same command again"
        raise ManifestError(f"format {match[1]} is newer than {VERSION}, the newest known here: upgrade", hint=hint)


def _segment(number: int, value: dict[str, Any]) -> Segment:
    first, last = key_of(value["first"]), key_of(value["last"])
    segment = Segment(
        value["name"], value["sha256"], value["records"], value["bytes"], value["text_bytes"], first, last
    )
    sizes = (segment.records, segment.size, segment.text_size)
    good = (
        segment.to_json() == value
        and segment.name == segment_name(number)  # so it cannot point elsewhere
        and _HEX(segment.sha256)
        and all(type(size) is int and 0 < size <= INT_MAX for size in sizes)
        and first <= last
    )
    if not good:
        raise ManifestError(f"segment {number} is described wrongly in {NAME}")
    return segment


def _check_totals(document: dict[str, Any], segments: tuple[Segment, ...]) -> None:
    counts = document["counts"]
    losses = counts["losses"]
    numbers = [counts[name] for name in _COUNTS if name not in ("bytes", "losses")]
    good = (
        tuple(sorted(counts)) == _COUNTS
        and _good_total(counts["bytes"])
        and all(type(number) is int and 0 <= number <= INT_MAX for number in [*numbers, *losses.values()])
        and sum(segment.records for segment in segments) == counts["objects"] + counts["delete_markers"]
        and all(one.last <= other.first for one, other in itertools.pairwise(segments))
        and _HEX(document["root"])
        and _HEX(document["target_root"])
    )
    if not good:
        raise ManifestError(f"the totals of {NAME} contradict each other")


def _good_total(value: object) -> bool:
    if type(value) is int:
        return 0 <= value <= INT_MAX
    return isinstance(value, str) and _BIG(value) is not None and int(value) > INT_MAX


def _text(document: Mapping[str, Any]) -> bytes:
    try:
        return canonical(document).encode("utf-8") + b"\n"
    except UnicodeEncodeError as error:
        raise ManifestError("text in the document is no valid Unicode") from error


def _document_sha256(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(document)[:-1]).hexdigest()


def copy(manifest: Manifest, elsewhere: Files) -> None:
    """Segments first, manifest.json last: until then the new place holds no manifest, not even an older one."""
    if elsewhere.url == manifest.files.url:
        return
    elsewhere.delete(NAME)
    for name in (*(segment.name for segment in manifest.segments), NAME):
        with manifest.files.open(name) as old, elsewhere.writer(name) as new:
            while chunk := old.read(1 << 20):
                new.write(chunk)
