"""A key space cut into ranges that meet exactly, so that a listing of a billion keys is not one chain of pages.

Cuts follow the data: below a common beginning, the store is asked for the first key behind each character that
occurs, and what is too big for one page is looked into further. A range holds the keys ``after < key <= until``: what
one leaves out the next one begins with, the first and the last are open, so nothing can lie between two of them.

That is true of the ranges; whether it is true of the store is tried: some stores, asked for what comes after a key,
leave out more than they should. So every range is read a little beyond its end, and the next must begin with that.
"""

from __future__ import annotations

import itertools
import pickle
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import IO

from portabl.errors import ListingBroken, ListingDisordered
from portabl.keys import show
from portabl.model import Entry
from portabl.storage import Storage

PAGE = 1000
"""Keys one request shows; what ends within a page is not cut any further."""
CHUNK = 500
"""Entries that go to and from the disk at once."""
SEAM = 100
"""Entries beyond its end that the listing of a range shows, and the next range has to begin with."""


@dataclass(frozen=True, slots=True)
class Range:
    """Keys greater than ``after`` (None: from the first on) up to and with ``until`` (None: to the last)."""

    after: bytes | None = None
    until: bytes | None = None

    def entries(self, storage: Storage) -> Iterator[Entry]:
        """The part of the listing in this range. ``storage`` must list in byte order. Raises what a listing raises."""
        return itertools.takewhile(self.holds, self.onward(storage))

    def onward(self, storage: Storage) -> Iterator[Entry]:
        """The listing from this range's beginning to the end of everything."""
        for entry in storage.entries(self.after):
            if self.after is not None and entry.key <= self.after:
                raise ListingBroken(f"asked for keys after {show(self.after)}", key=entry.key, storage=storage.name)
            yield entry

    def holds(self, entry: Entry) -> bool:
        """Whether an entry behind ``after`` is in this range."""
        return self.until is None or entry.key <= self.until


def meeting(cuts: Sequence[bytes]) -> list[Range]:
    """Ranges that end at these keys, and one for the rest; the cuts need not be keys that exist."""
    ordered = sorted(set(cuts))
    return [Range(after, until) for after, until in zip([None, *ordered], [*ordered, None], strict=True)]


def cut(storage: Storage, pieces: int) -> list[Range]:
    """About ``pieces`` ranges that together are the whole key space; fewer where the keys do not part so finely.

    Costs about one list request a range. Raises what a listing raises.
    """
    cuts: list[bytes] = []
    waiting = deque([""])
    while waiting and len(cuts) + 1 < pieces:
        children = list(islice(_children(storage, waiting.popleft()), 4 * pieces))
        cuts += [child.encode() for child, _ in children[1:]]
        waiting += [child for child, big in children if big]
    return meeting(_thinned(sorted(cuts), pieces - 1))


def _thinned(cuts: list[bytes], most: int) -> list[bytes]:
    if len(cuts) <= most:
        return cuts
    return [cuts[(n + 1) * len(cuts) // (most + 1)] for n in range(most)]


def _children(storage: Storage, start: str) -> Iterator[tuple[str, bool]]:
    """(``start`` and one character more, whether more than a page begins so), for the characters that occur.

    Keys that are no UTF-8 end the search: they stay in the range of what comes before them.
    """
    after: bytes | None = start.encode() or None
    while True:
        page = list(islice(storage.entries(after), PAGE))
        found = _text(page[0].key) if page else None
        if found is None or not found.startswith(start) or len(found) <= len(start):
            return
        child = found[: len(start) + 1]
        yield child, len(page) == PAGE and page[-1].key.startswith(child.encode())
        following = _next_character(child[-1])
        if following is None:
            return
        after = (start + following).encode()  # a key that is just this is passed over, which only costs a cut


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _next_character(character: str) -> str | None:
    code = ord(character) + 1
    if 0xD800 <= code < 0xE000:
        code = 0xE000
    return chr(code) if code <= 0x10FFFF else None


def spread(storage: Storage, listers: int, scratch: str) -> Iterator[Entry]:
    """The whole listing, in order, listed as ``listers`` ranges side by side.

    Ranges that are ahead of the reader wait in unnamed files below ``scratch`` (about 100 bytes an entry), not in
    memory. An error of a range is raised where it broke off: a range is whole, or the listing fails. Raises
    ListingDisordered where two ranges do not meet, and what a listing raises.
    """
    ranges = cut(storage, listers)
    over = threading.Event()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(ranges), thread_name_prefix="portabl-range"))
        stack.callback(over.set)
        runs = []
        for part in ranges:
            spool = stack.enter_context(closing(_Spool(scratch)))
            runs.append((spool, pool.submit(_fill, part, storage, spool, over)))
        seam: list[Entry] = []
        for part, (spool, filling) in zip(ranges, runs, strict=True):
            yield from _drained(spool, filling, [entry for entry in seam if part.holds(entry)], storage.name)
            seam = filling.result()[1] if part.until is not None else []


def _fill(part: Range, storage: Storage, spool: _Spool, over: threading.Event) -> tuple[int, list[Entry]]:
    """Put a range into its file; how many entries it has, and what the store lists next."""
    total = 0
    try:
        stream = part.onward(storage)
        while not over.is_set() and (chunk := list(islice(stream, CHUNK))):
            inside = list(itertools.takewhile(part.holds, chunk))
            spool.put(inside)
            total += len(inside)
            if len(inside) < len(chunk):
                return total, [*chunk[len(inside) :], *islice(stream, SEAM)][:SEAM]
        return total, []
    finally:
        spool.end()


def _drained(spool: _Spool, filling: Future[tuple[int, list[Entry]]], seam: list[Entry], name: str) -> Iterator[Entry]:
    given = 0
    for chunk in spool:
        expected = seam[given : given + len(chunk)]
        if chunk[: len(expected)] != expected:
            raise ListingDisordered("listed from a key on, some of what comes next is not shown", storage=name)
        yield from chunk
        given += len(chunk)
    listed, _ = filling.result()  # the error of a range that broke off
    if listed != given:
        raise AssertionError(f"a range listed {listed} entries, and {given} came out of its file")
    if given < len(seam):
        raise ListingDisordered("listed from a key on, some of what comes next is not shown", storage=name)


class _Spool:
    """Chunks from one thread to another through a file."""

    def __init__(self, scratch: str) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by spread()
        self._places: deque[tuple[int, int]] = deque()
        self._changed = threading.Condition()
        self._at = 0
        self._ended = False

    def put(self, chunk: list[Entry]) -> None:
        data = pickle.dumps(chunk, protocol=5)
        with self._changed:
            self._file.seek(self._at)
            self._file.write(data)
            self._places.append((self._at, len(data)))
            self._at += len(data)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def __iter__(self) -> Iterator[list[Entry]]:
        while (data := self._next()) is not None:
            yield pickle.loads(data)  # noqa: S301 - our own unnamed file, never a stranger's

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._places and not self._ended:
                self._changed.wait()
            if not self._places:
                return None
            offset, length = self._places.popleft()
            self._file.seek(offset)
            return self._file.read(length)

    def close(self) -> None:
        self._file.close()
