"""Segments: gzip files of sorted records, the bulk of a manifest (format: docs/manifest.md)."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from portabl import keys
from portabl.errors import ManifestError, NotFound
from portabl.files import Files
from portabl.records import LINE_BYTES_MAX

_FIELDS = ("bytes", "first", "last", "name", "records", "sha256", "text_bytes")
_CHUNK = 256 * 1024


def segment_name(number: int) -> str:
    """Name of the segment at this position, from 0: no other is ever read."""
    return f"segments/{number:06d}.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Segment:
    """A gzip file of sorted records. ``size``: its bytes; ``text_size``: bytes unpacked; ``first``, ``last``: keys."""

    name: str
    sha256: str
    records: int
    size: int
    text_size: int
    first: bytes
    last: bytes

    def to_json(self) -> dict[str, Any]:
        """As it stands in manifest.json."""
        first, last = keys.to_json(self.first), keys.to_json(self.last)
        values = (self.size, first, last, self.name, self.records, self.sha256, self.text_size)
        return dict(zip(_FIELDS, values, strict=True))


class SegmentWriter:
    """One segment being written; invisible until `finish`."""

    def __init__(self, files: Files, name: str, first: bytes) -> None:
        self.name = name
        self.first = first
        self.records = 0
        self._size = 0
        self._text_size = 0
        self._digest = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, 31)  # as zlib writes it the header has no time and no name
        self._stack = contextlib.ExitStack()
        self._file: BinaryIO = self._stack.enter_context(files.writer(name))

    def add(self, line: bytes) -> None:
        """Append a line, given without its line feed."""
        self.records += 1
        self._buffer.append(line)
        self._buffered += len(line) + 1
        if self._buffered >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        text = b"\n".join([*self._buffer, b""])
        self._text_size += len(text)
        self._put(self._gzip.compress(text))
        self._buffer.clear()
        self._buffered = 0

    def _put(self, packed: bytes) -> None:
        self._digest.update(packed)
        self._size += len(packed)
        try:
            self._file.write(packed)
        except OSError:  # told to the writer of the file, which clears up and knows what it means (no room left)
            self._stack.__exit__(*sys.exc_info())
            raise

    def finish(self, last: bytes) -> Segment:
        """Make the segment visible; ``last`` is the key of its last record."""
        with self._stack:
            if self._buffer:
                self._flush()
            self._put(self._gzip.flush())
        digest = self._digest.hexdigest()
        return Segment(self.name, digest, self.records, self._size, self._text_size, self.first, last)

    def abort(self) -> None:
        """Leave nothing behind."""
        gone = ManifestError(f"{self.name} was given up")
        with contextlib.suppress(ManifestError):
            self._stack.__exit__(ManifestError, gone, None)


def lines(files: Files, segment: Segment) -> Iterator[bytes]:
    """Lines of a segment, unpacked within its recorded sizes; every check is done when the iterator ends."""
    rest = b""
    text_size = 0
    for text in _unpacked(files, segment):
        text_size += len(text)
        *whole, rest = (rest + text).split(b"\n")
        if text_size > segment.text_size or len(rest) > LINE_BYTES_MAX:
            raise ManifestError(f"{segment.name} unpacks to more than the manifest says")
        yield from whole
    if rest or text_size != segment.text_size:
        raise ManifestError(f"{segment.name} is cut short or was changed")


def check(files: Files, segment: Segment) -> None:
    """Hold a segment's file against its hash. Raises ManifestError."""
    for _ in _checked(files, segment):
        pass


def copy(files: Files, elsewhere: Files, segment: Segment) -> None:
    """Put the same segment elsewhere, whole or not at all. Raises ManifestError when the file is not what it was."""
    with elsewhere.writer(segment.name) as new:
        for packed in _checked(files, segment):
            new.write(packed)


def _checked(files: Files, segment: Segment) -> Iterator[bytes]:
    """A segment's file as it is stored. Raises ManifestError at its end when it does not have its hash."""
    digest = hashlib.sha256()
    for packed in _stored(files, segment):
        digest.update(packed)
        yield packed
    if digest.hexdigest() != segment.sha256:
        raise ManifestError(f"{segment.name} is cut short or was changed: its SHA-256 is {digest.hexdigest()}")


def _unpacked(files: Files, segment: Segment) -> Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    unpack = zlib.decompressobj(31)
    for packed in _stored(files, segment):
        size += len(packed)
        digest.update(packed)
        if size > segment.size or unpack.eof:
            raise ManifestError(f"{segment.name} is longer than the manifest says")
        rest = packed
        while rest:
            try:
                text = unpack.decompress(rest, 4 * _CHUNK)
            except zlib.error as error:
                raise ManifestError(f"{segment.name} is damaged: {error}") from error
            yield text
            rest = unpack.unconsumed_tail
    yield unpack.flush()
    if not unpack.eof or unpack.unused_data or size != segment.size or digest.hexdigest() != segment.sha256:
        raise ManifestError(f"{segment.name} is cut short or was changed: its SHA-256 is {digest.hexdigest()}")


def _stored(files: Files, segment: Segment) -> Iterator[bytes]:
    try:
        yield from files.chunks(segment.name, _CHUNK)
    except NotFound:
        raise ManifestError(f"{segment.name} is missing", storage=files.url) from None
