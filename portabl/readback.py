"""Reading an object whole, whatever its size, in bounded memory: what it is, by its own bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portabl import checksum
from portabl.budget import Budget
from portabl.errors import Changed, Corrupt
from portabl.executors import LatePool
from portabl.model import Content, Entry, ObjectInfo
from portabl.storage import Storage

if TYPE_CHECKING:
    from concurrent.futures import Future

PIECE = 8 * 2**20
AHEAD = 4
"""Pieces of one object that are read ahead of the hash."""


@dataclass(frozen=True, slots=True)
class Read:
    """An object as its bytes show it: SHA-256 (lower-case hex), size in bytes, and what the store says of it."""

    sha256: str
    size: int
    info: ObjectInfo


class Reader:
    """Reads objects of one storage from many threads. Context manager."""

    def __init__(self, storage: Storage, budget: Budget) -> None:
        self._storage = storage
        self._budget = budget
        self._pool = LatePool(8, "portabl-piece")

    def read(self, entry: Entry) -> Read:
        """Read all of the object that ``entry`` names; raises as `Storage.read`, and Corrupt where the store's own
        digest contradicts the bytes.
        """
        if entry.size > 2 * PIECE:
            return self._large(entry)
        self._budget.take(entry.size)
        try:
            content = self._storage.read(entry)
            whole = self._hash(content.info)
            whole.update(content.data)
            return self._result(entry, content.info, whole, len(content.data))
        finally:
            self._budget.give(entry.size)

    def _large(self, entry: Entry) -> Read:
        info = self._storage.look(entry)
        whole = self._hash(info)
        size = 0
        for content in self._pieces(entry):
            whole.update(content.data)
            size += len(content.data)
        return self._result(entry, info, whole, size)

    def _hash(self, info: ObjectInfo) -> checksum.Whole:
        return checksum.Whole("sha256", *(name for name in info.digests if name in checksum.COMPARABLE))

    def _result(self, entry: Entry, info: ObjectInfo, whole: checksum.Whole, size: int) -> Read:
        if size != entry.size:
            raise Changed(f"listed with {entry.size} bytes, read {size}", key=entry.key, storage=self._storage.name)
        digests = whole.hexdigests()
        checksum.confirm(info.digests, digests, entry.key, self._storage.name)
        return Read(digests["sha256"], size, info)

    def _pieces(self, entry: Entry) -> Iterator[Content]:
        """Pieces in order, a few of them read ahead while the budget lasts."""
        ahead: deque[tuple[int, Future[Content]]] = deque()
        try:
            for start in range(0, entry.size, PIECE):
                length = min(PIECE, entry.size - start)
                while len(ahead) >= AHEAD or not self._budget.take(length, wait=not ahead):
                    yield from self._oldest(ahead)
                ahead.append((length, self._pool.submit(self._storage.read, entry, start, length)))
            while ahead:
                yield from self._oldest(ahead)
        finally:
            for length, future in ahead:
                if not future.cancel():
                    future.exception()
                self._budget.give(length)

    def _oldest(self, ahead: deque[tuple[int, Future[Content]]]) -> Iterator[Content]:
        length, future = ahead[0]
        content = future.result()
        ahead.popleft()
        try:
            if len(content.data) != length:
                raise Corrupt(f"asked for {length} bytes, got {len(content.data)}", storage=self._storage.name)
            yield content
        finally:
            self._budget.give(length)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
