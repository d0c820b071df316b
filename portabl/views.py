"""Other tools' lists made from a manifest: SHA256SUMS, BagIt, S3 Batch Operations.

Each takes records in manifest order and a binary file. They list the current version of each object (the highest
ordinal of its key, unless that is a delete marker). What a format cannot say is left out, counted and returned:
a caller must not call a list complete whose `View.left_out` is not empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from portabl.model import Record

EXAMPLES_MAX = 20


@dataclass(frozen=True, slots=True)
class View:
    """What became of the records. ``left_out``: objects by reason; ``examples``: the first keys of them."""

    written: int
    left_out: Mapping[str, int]
    examples: tuple[bytes, ...] = ()


def sha256sums(records: Iterable[Record], out: BinaryIO) -> View:
    """GNU coreutils text: ``HASH  NAME``; names with backslash, LF or CR are escaped and their line begins with ``\\``.

    Left out are keys that are no relative path of their own (``/a``, ``a//b``, ``a/../b``, ``a/``, with NUL), because a
    tool that reads the list would check another file, and objects whose bytes could not be read.
    """
    return _write(records, out, _sum_line)


def bagit_manifest(records: Iterable[Record], out: BinaryIO) -> View:
    """``manifest-sha256.txt`` of a bag (RFC 8493, 2.1.3), payload below ``data/``; the tag file encoding is UTF-8.

    Left out beyond what `sha256sums` leaves out: keys that are no UTF-8.
    """
    return _write(records, out, _bag_line)


def s3_batch_csv(
    records: Iterable[Record],
    out: BinaryIO,
    bucket: str,
    prefix: bytes = b"",
    version: Callable[[Record], str] | None = None,
) -> View:
    """Manifest for S3 Batch Operations: ``bucket,key`` and, if ``version`` is given, the version id it answers.

    Keys are URL-encoded, as S3 wants them; ``prefix`` is put before each. The CSV is RFC 4180 (lines end in CRLF).
    An empty key (the prefix itself without one) is left out.
    """

    def line(record: Record) -> bytes | str:
        key = prefix + record.key
        if not key:
            return "empty key"
        row = [bucket, quote(key, safe="/")]
        if version is not None:
            row.append(version(record))
        text = io.StringIO(newline="")
        csv.writer(text).writerow(row)
        return text.getvalue().encode("utf-8")

    return _write(records, out, line)


def _write(records: Iterable[Record], out: BinaryIO, line: Callable[[Record], bytes | str]) -> View:
    """``line`` answers the line's bytes, or as text the reason why there is none."""
    written = 0
    left_out: Counter[str] = Counter()
    examples: list[bytes] = []
    for record in _current(records):
        made = line(record)
        if isinstance(made, bytes):
            out.write(made)
            written += 1
            continue
        left_out[made] += 1
        if len(examples) < EXAMPLES_MAX:
            examples.append(record.key)
    return View(written, dict(left_out), tuple(examples))


def _current(records: Iterable[Record]) -> Iterator[Record]:
    last: Record | None = None
    for record in records:
        if last is not None and last.key != record.key and not last.delete_marker:
            yield last
        last = record
    if last is not None and not last.delete_marker:
        yield last


_NO_PATH = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)|\0")
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


def _unfit(record: Record) -> str:
    if record.sha256 is None:
        return "not read"
    return "no relative path" if _NO_PATH.search(record.key) else ""


def _sum_line(record: Record) -> bytes | str:
    unfit = _unfit(record)
    if unfit or record.sha256 is None:
        return unfit
    name = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], record.key)
    escaped = b"\\" if name != record.key else b""
    return b"%s%s  %s\n" % (escaped, record.sha256.encode("ascii"), name)


def _bag_line(record: Record) -> bytes | str:
    unfit = _unfit(record)
    if unfit or record.sha256 is None:
        return unfit
    try:
        record.key.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    name = re.sub(rb"[%\n\r]", lambda found: b"%%%02X" % found[0][0], record.key)
    return b"%s  data/%s\n" % (record.sha256.encode("ascii"), name)
