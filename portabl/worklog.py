"""Working records: what a pass has found out so far, a line an object, each line with a check of its own.

A line is a record as a manifest holds it, a tab, the CRC-32 of the record (RFC 1952, eight hex digits) and a line feed.
Canonical JSON has no raw tab, so the two cannot be mistaken. The check is against torn and damaged lines: what a later
pass takes for known is never proven again, so a record that is not exactly the one that was written counts as none.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from portabl import records
from portabl.errors import ManifestError
from portabl.model import Record
from portabl.plan import Line

LATE = "late"
"""Name of the shard for keys that are written after all others; it overlaps the ranges of the rest."""

BEGUN = "begun"
"""Folder for the files of shards that workers have begun; a pass that has all its segments does not need them."""

TICKET = "ticket"
"""File in that folder, as long as the run goes on."""

_Decode = Callable[[bytes], Record]


def sealed(line: bytes) -> bytes:
    """A record's line as it is written, with its check and the line feed."""
    return b"%b\t%08x\n" % (line, zlib.crc32(line))


def unsealed(raw: bytes) -> bytes | None:
    """The record's line; None when it is not exactly what `sealed` made."""
    line, tab, check = raw.rpartition(b"\t")
    return line if tab and check == b"%08x\n" % zlib.crc32(line) else None


def lines(path: Path) -> Iterator[Line]:
    """Every whole record in a pass's directory, sorted by key; a damaged one is as if it had never been written."""
    return _merged(path, records.decode, strict=False)


def of_file(path: Path) -> Iterator[Line]:
    """Every whole record of one file, in the order they were written."""
    with path.open("rb") as file:
        yield from whole(file)


def whole(raws: Iterable[bytes]) -> Iterator[Line]:
    """The records of those lines that are whole, in their order."""
    return (line for raw in raws if (line := _decoded(raw, records.decode)) is not None)


def complete_lines(path: Path, expected: int, *, own: bool = False) -> Iterator[Line]:
    """The same for a pass that has all its records. Raises ManifestError when one of the ``expected`` is not there, or
    any line is not as it was written. ``own``: this very process has written them, just now; from anywhere else, such
    as a worker of another release, a line may be whole and in another form, and each is compared with the form.
    """
    decode = records.decode_own if own else records.decode
    found = 0
    last: tuple[bytes, int] | None = None
    for line in _merged(path, decode, strict=True):
        here = records.sort_key(line[1])
        if last is not None and here <= last:
            raise _damaged(f"records in {path} are out of order")
        last = here
        found += 1
        yield line
    if found != expected:
        raise _damaged(f"{path} holds {found} records instead of {expected}")


def _merged(path: Path, decode: _Decode, *, strict: bool) -> Iterator[Line]:
    names = sorted(p for p in path.iterdir() if p.suffix in (".log", ".seg"))
    begun = [] if strict else [line for p in sorted((path / BEGUN).glob("*.???")) for line in of_file(p)]
    main = (line for p in names if p.stem != LATE for line in _sorted(p, decode, strict=strict))
    late = [line for p in names if p.stem == LATE for line in _sorted(p, decode, strict=strict)]
    if not late and not begun:
        return main
    return heapq.merge(main, late, sorted(begun, key=_order), key=_order)


def _order(line: Line) -> tuple[bytes, int]:
    return records.sort_key(line[1])


def _sorted(path: Path, decode: _Decode, *, strict: bool) -> list[Line]:
    """Records of one shard (a few thousand), sorted; the last of a key and ordinal counts."""
    found: dict[tuple[bytes, int], Line] = {}
    with path.open("rb") as file:
        for raw in file:
            line = _decoded(raw, decode)
            if line is not None:
                found[_order(line)] = line
            elif strict:
                raise _damaged(f"{path} is damaged")
    return [found[key] for key in sorted(found)]


def _decoded(raw: bytes, decode: _Decode) -> Line | None:
    line = unsealed(raw)
    if line is None:
        return None
    try:
        return line, decode(line)
    except ManifestError:
        return None


def _damaged(message: str) -> ManifestError:
    return ManifestError(message, hint="check the disk, then run the same command again: what is lost is proven anew")
