"""Stage 1: what is there, in raw byte order of keys, whatever order the store speaks in."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import operator
import os
import pickle
import queue
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import IO, TypeVar

from portabl.errors import Interrupted, ListingBroken, ListingDisordered, UsageError
from portabl.keys import show
from portabl.model import Entry
from portabl.storage import Storage

T = TypeVar("T")

RUN_ENTRIES = 50_000
"""Entries sorted in memory at once (about 20 MB); longer listings are merged from sorted runs on disk."""
RUNS_OPEN = 64
SPOOLED_TOGETHER = 200
_FIELDS_OF = operator.attrgetter(*(field.name for field in fields(Entry)))


def _by_key(entry: Entry) -> bytes:
    return entry.key


class Listing:
    """The sorted listing of one storage.

    A store that promises order is streamed. If it breaks the promise, the stream raises ListingDisordered and
    from then on this listing is sorted on disk instead, with memory bounded by `RUN_ENTRIES`. ``listers``: how many
    ranges of an ordered store are listed side by side.
    """

    def __init__(self, storage: Storage, keep: Filter, scratch: str, listers: int = 1) -> None:
        self.storage = storage
        self._keep = keep
        self._scratch = scratch
        self._listers = listers
        self._sort = not storage.capabilities.ordered

    def __iter__(self) -> Iterator[Entry]:
        side_by_side = self._listers > 1 and not self._sort
        entries: Iterable[Entry] = self._spread() if side_by_side else self.storage.entries()
        if self._keep.active:
            entries = (e for e in entries if self._keep.admits(e.key))
        if self._sort:
            return distinct(sort(entries, self._scratch), self.storage.name)
        return self._watched(entries)

    def _spread(self) -> Iterator[Entry]:
        try:
            from portabl import ranges

            yield from ranges.spread(self.storage, self._listers, self._scratch)
        except ListingDisordered:
            self._sort = True
            raise

    def _watched(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        last: bytes | None = None
        try:
            for entry in entries:
                if last is not None and entry.key <= last:
                    raise ListingDisordered(
                        f"listed {show(entry.key)} after {show(last)}", key=entry.key, storage=self.storage.name
                    )
                last = entry.key
                yield entry
        except ListingDisordered:
            self._sort = True
            raise


class VersionListing(Listing):
    """The same for all versions of every key: ordered by key, then from the oldest on."""

    def __iter__(self) -> Iterator[Entry]:
        entries = (entry for entry in self.storage.versions() if self._keep.admits(entry.key))
        if self._sort:  # stable: the versions of a key stay in their order
            return self._in_order(sort(entries, self._scratch), ListingBroken)
        return self._in_order(entries, ListingDisordered)

    def _in_order(self, entries: Iterable[Entry], wrong: type[ListingBroken]) -> Iterator[Entry]:
        last = (b"", 0)
        for entry in entries:
            here = (entry.key, entry.ordinal)
            if here <= last:
                self._sort = True
                message = (
                    f"listed version {entry.ordinal} of {show(entry.key)} after version {last[1]} of {show(last[0])}"
                )
                raise wrong(message, key=entry.key, storage=self.storage.name)
            last = here
            yield entry


class Spooled:
    """A listing that is asked for once: what it yields is written down in ``scratch`` and can be read again."""

    def __init__(self, entries: Iterable[Entry], scratch: str) -> None:
        self._entries = entries
        self._path = f"{scratch}/listing.pickle"
        self._filled = False

    def fill(self, stop: threading.Event, seen: Callable[[Entry], None] = lambda _: None) -> None:
        """List to the end, unless that was done; ``seen`` hears of every entry, some perhaps twice.

        Raises Interrupted when asked to stop, and what listing raises.
        """
        if not self._filled:
            until_ordered(lambda: collections.deque(self.passing(stop, seen), maxlen=0))

    def passing(self, stop: threading.Event, seen: Callable[[Entry], None]) -> Generator[Entry]:
        """List once: the entries, each of which is written down before it is yielded; else as `fill`. Only when this
        has come to its end is the listing there to be read again.
        """
        self._filled = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # one that was given up half way may still write its last lines: not into this one
        with open(self._path, "xb") as file:
            yield from _dumped(_until(stop, self._entries, seen), file)
        self._filled = True

    def __iter__(self) -> Iterator[Entry]:
        return self._kept() if self._filled else iter(self._entries)

    def _kept(self) -> Iterator[Entry]:
        with open(self._path, "rb") as file:
            yield from _unspill(file)


def _until(stop: threading.Event, entries: Iterable[Entry], seen: Callable[[Entry], None]) -> Iterator[Entry]:
    for entry in entries:
        if stop.is_set():
            raise Interrupted("stopped on request")
        seen(entry)
        yield entry


def until_ordered(attempt: Callable[[], T]) -> T:
    """Run ``attempt`` again when a listing in it turned out to be disordered; that listing is sorted the next time.

    Disorder shows within the first pages of such a store, so little is repeated. Two listings can be disordered.
    """
    for _ in range(2):
        try:
            return attempt()
        except ListingDisordered:
            continue
    return attempt()


def any_order(storage: Storage) -> Iterator[Entry]:
    """Every entry once, streamed: in byte order, or in the store's own where it turns out to have another."""
    given = 0
    try:
        for entry in storage.entries():
            yield entry
            given += 1
    except ListingDisordered:
        if storage.capabilities.ordered:
            raise
        yield from itertools.islice(storage.entries(), given, None)


AHEAD_CHUNK = 500
AHEAD_CHUNKS = 40
"""Listings run at most `AHEAD_CHUNK` x `AHEAD_CHUNKS` entries (about 10 MB) ahead of whoever reads them."""


def ahead(entries: Iterable[Entry], counted: Callable[[int], None]) -> Generator[Entry]:
    """The same entries, listed by a thread of their own; ``counted`` hears their number when the listing has ended.

    An exception of the listing is raised where its entry would have come.
    """
    chunks: queue.Queue[list[Entry] | BaseException | None] = queue.Queue(AHEAD_CHUNKS)
    over = threading.Event()
    thread = threading.Thread(target=_fill, args=(entries, chunks, over, counted), name="portabl-list", daemon=True)
    thread.start()
    try:
        while (chunk := chunks.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield from chunk
    finally:
        over.set()
        while thread.is_alive():  # it may be waiting for room
            with contextlib.suppress(queue.Empty):
                chunks.get_nowait()
            thread.join(0.01)


def _fill(
    entries: Iterable[Entry],
    chunks: queue.Queue[list[Entry] | BaseException | None],
    over: threading.Event,
    counted: Callable[[int], None],
) -> None:
    total = 0
    try:
        stream = iter(entries)
        while chunk := list(itertools.islice(stream, AHEAD_CHUNK)):
            total += len(chunk)
            chunks.put(chunk)
            if over.is_set():
                return
        counted(total)
        chunks.put(None)
    except BaseException as error:
        chunks.put(error)


def distinct(entries: Iterable[Entry], name: str) -> Iterator[Entry]:
    """Drop exact repetitions in a sorted stream; the same key with two faces raises ListingBroken."""
    last: Entry | None = None
    for entry in entries:
        if last is not None and entry.key == last.key:
            if entry != last:
                raise ListingBroken("one key was listed twice with different contents", key=entry.key, storage=name)
            continue
        last = entry
        yield entry


def sort(entries: Iterable[Entry], scratch: str) -> Iterator[Entry]:
    """Sort by key with bounded memory: runs on disk (unnamed temporary files in ``scratch``), merged."""
    runs: list[IO[bytes]] = []
    try:
        buffer: list[Entry] = []
        for entry in entries:
            buffer.append(entry)
            if len(buffer) >= RUN_ENTRIES:
                runs.append(_spill(sorted(buffer, key=_by_key), scratch))
                buffer.clear()
                if len(runs) >= RUNS_OPEN:
                    runs = [_spill(_merged(runs), scratch)]
        buffer.sort(key=_by_key)
        yield from heapq.merge(*(_unspill(run) for run in runs), buffer, key=_by_key)
    finally:
        for run in runs:
            run.close()


def _merged(runs: Sequence[IO[bytes]]) -> Iterator[Entry]:
    yield from heapq.merge(*(_unspill(run) for run in runs), key=_by_key)
    for run in runs:
        run.close()


def _spill(entries: Iterable[Entry], scratch: str) -> IO[bytes]:
    import tempfile

    run = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by sort()
    collections.deque(_dumped(entries, run), maxlen=0)
    run.seek(0)
    return run


def _dumped(entries: Iterable[Entry], file: IO[bytes]) -> Iterator[Entry]:
    """The entries, written down before they are yielded: lists of them as tuples (entries themselves take three times
    as long), each a pickle by itself (what one says of texts that come twice must not be looked up in another), and at
    the end their number: a file that was cut off is no shorter listing.
    """
    total = 0
    stream = iter(entries)
    while chunk := list(itertools.islice(stream, SPOOLED_TOGETHER)):
        pickle.dump(list(map(_FIELDS_OF, chunk)), file, protocol=5)
        total += len(chunk)
        yield from chunk
    pickle.dump(total, file, protocol=5)


def _unspill(run: IO[bytes]) -> Iterator[Entry]:
    given = 0
    while isinstance(chunk := _loaded(run), list):
        yield from itertools.starmap(Entry, chunk)
        given += len(chunk)
    if chunk != given:
        raise ListingBroken(f"of a listing kept on disk {given} entries came back instead of {chunk}")


def _loaded(run: IO[bytes]) -> object:
    try:
        loaded: object = pickle.load(run)  # noqa: S301 - our own file, never a stranger's
    except (EOFError, pickle.UnpicklingError):
        return "all"
    return loaded


@dataclass(frozen=True, slots=True)
class Filter:
    """Which keys are in scope: those that match an include (or there are none) and no exclude.

    ``*`` and ``?`` stop at ``/``, ``**`` does not, ``[...]`` is a set. A pattern without ``/`` is held against the
    last segment at any depth, one with ``/`` against the whole key; a final ``/`` means everything below.
    """

    include: tuple[re.Pattern[bytes], ...] = ()
    exclude: tuple[re.Pattern[bytes], ...] = ()

    @classmethod
    def of(cls, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Filter:
        """Compile glob patterns. Raises UsageError for an unfinished ``[``."""
        return cls(tuple(map(_compile, include)), tuple(map(_compile, exclude)))

    @property
    def active(self) -> bool:
        """False when every key is in scope."""
        return bool(self.include or self.exclude)

    def admits(self, key: bytes) -> bool:
        """Whether ``key`` is in scope."""
        if self.include and not any(p.fullmatch(key) for p in self.include):
            return False
        return not any(p.fullmatch(key) for p in self.exclude)


_TOKEN = re.compile(rb"\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_GLOB = {b"**": b".*", b"*": b"[^/]*", b"?": b"[^/]"}


def _compile(glob: str) -> re.Pattern[bytes]:
    raw = glob.encode("utf-8", "surrogateescape")
    if not raw:
        raise UsageError("an empty pattern matches nothing", hint="leave the option out to take everything")
    out = b"" if b"/" in raw.rstrip(b"/") else b"(?:.*/)?"
    for token in _TOKEN.findall(raw.removeprefix(b"/") + (b"**" if raw.endswith(b"/") else b"")):
        out += _GLOB.get(token) or _set_or_literal(token, glob)
    return re.compile(out, re.DOTALL)


def _set_or_literal(token: bytes, glob: str) -> bytes:
    if token == b"[":
        raise UsageError(f"`[` without `]` in the pattern {glob!r}", hint="write `[[]` for a literal bracket")
    if len(token) == 1:
        return re.escape(token)
    inner = token[1:-1].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
    return b"[^" + inner[1:] + b"]" if inner.startswith(b"!") else b"[" + inner.replace(b"^", b"\\^") + b"]"
