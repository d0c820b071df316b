"""Where the bodies of objects go: memory that is used again, and what of an answer belongs into it."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable

ROOM_BYTES = 96 * 2**20
"""Kept for bodies: somewhat more than a run ever has in flight."""
_ALL = 2**62
_TROUBLE_BYTES = 64 * 2**10


class Sink:
    """Receives ``want`` bytes, from ``start`` on if the server ignores the range and sends the whole object.

    libcurl hands over 16 KiB at a time whatever its buffers are, so a piece goes straight into ``room`` by a method
    that is no Python (`quick`). Only where that cannot be bounded, or more arrives than is wanted, does `write` look at
    each: it never holds more than is wanted, and keeps the body of an error apart.
    """

    def __init__(self, want: int, start: int, room: Room) -> None:
        self.want = want
        self.over = False
        self._start = start
        self._memory = room.memory
        self._room = room  # nobody else gets it before this sink is gone
        self._lines: list[bytes] = []
        self._skip = -1
        self._trouble = bytearray()

    def attach(self, lines: list[bytes]) -> None:
        """Begin anew (a retry), with the list the header lines will be in."""
        self._lines, self._skip, self.over = lines, -1, False
        self._memory.seek(0)
        self._trouble.clear()

    @property
    def quick(self) -> Callable[[memoryview], int]:
        """Takes a piece, whatever it belongs to. Who uses it keeps the whole within `want` and calls `sort` then."""
        return self._memory.write

    def sort(self) -> None:
        """What `quick` took is the body of an object, or of an error."""
        self._skip = self._skipped()
        if self._skip == _ALL:
            self._trouble += self._memory.getbuffer()[: min(self._memory.tell(), _TROUBLE_BYTES)]

    def write(self, chunk: bytes | memoryview) -> int | None:
        """Take a piece, which is libcurl's own memory; anything but None tells libcurl to stop."""
        if self._skip < 0:
            self._skip = self._skipped()
        if self._skip == _ALL:
            self._trouble += chunk[: _TROUBLE_BYTES - len(self._trouble)]
            return None
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        return self._keep(chunk)

    def _skipped(self) -> int:
        """By the last status line: interim ones come before it."""
        first = next((line for line in reversed(self._lines) if line.startswith(b"HTTP/")), b"")
        return {b"206": 0, b"200": self._start}.get(first.partition(b" ")[2][:3], _ALL)

    def _keep(self, chunk: bytes | memoryview) -> int | None:
        room = self.want - self._memory.tell()
        self.over = len(chunk) > room
        self._memory.write(chunk[:room] if self.over else chunk)
        return 0 if self.over else None

    @property
    def body(self) -> bytes | memoryview:
        """What arrived. Nothing can be received any more while anybody looks into it."""
        end = self._memory.tell()
        if self._skip == _ALL or not end:  # no look at the memory: what is sent again comes into it
            return bytes(self._trouble)
        return self._memory.getbuffer()[max(0, self._skip) : end]


class Room:
    """Memory for one body, of a sink that holds this."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: io.BytesIO) -> None:
        self.memory = memory


class Rooms:
    """Memory for bodies, used again once no sink has it and nothing looks into it any more.

    Fresh memory costs as much as hashing what comes into it (measured: the system clears it page by page), and pieces
    of many threads leave several times the bytes in flight behind in the allocator. Memory that is looked into cannot
    be written, which is how it is known that nobody does. ``most``: bytes that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._all: list[tuple[int, io.BytesIO, weakref.ref[Room]]] = []

    def take(self, size: int) -> Room:
        """Room for ``size`` bytes: the smallest that is free, unless it is more than twice as large."""
        with self._lock:
            fits = [one for one in self._all if size <= one[0] <= 2 * size]
            for one in sorted(fits, key=_size):
                if _free(one):
                    self._all.remove(one)
                    return self._lend(one[0], one[1])
            capacity = _rounded(size)
            if self.kept + capacity > self._most:
                self._all = [one for one in self._all if not _free(one)]
            return self._lend(capacity, _memory(capacity))

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return sum(map(_size, self._all))

    def _lend(self, capacity: int, memory: io.BytesIO) -> Room:
        room = Room(memory)
        if self.kept + capacity <= self._most:
            self._all.append((capacity, memory, weakref.ref(room)))
        return room


def _size(kept: tuple[int, io.BytesIO, weakref.ref[Room]]) -> int:
    return kept[0]


def _free(kept: tuple[int, io.BytesIO, weakref.ref[Room]]) -> bool:
    _, memory, room = kept
    if room() is not None:
        return False
    try:
        memory.write(b"")
    except BufferError:
        return False
    return True


def _rounded(size: int) -> int:
    """At most a quarter more, so that bodies of like sizes share memory."""
    step = 1 << max(12, size.bit_length() - 3)
    return -(-size // step) * step


def _memory(capacity: int) -> io.BytesIO:
    memory = io.BytesIO()
    memory.seek(capacity - 1)
    memory.write(b"\0")
    return memory
