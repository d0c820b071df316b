"""A store in memory that keeps the whole contract, and a wrapper that breaks one call of it."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from portabl.errors import (
    AccessDenied,
    Changed,
    Corrupt,
    ListingBroken,
    NotFound,
    PlaceFull,
    Refused,
    Throttled,
    Unreachable,
)
from portabl.model import Body, Content, Entry, Metadata, ObjectInfo, Written
from portabl.storage import Capabilities, Storage, Upload
from portabl.wrappers import Around


@dataclass(frozen=True)
class Stored:
    """An object."""

    data: bytes
    metadata: Metadata
    etag: str
    modified: str

    def info(self) -> ObjectInfo:
        digests = {"md5": self.etag} if "-" not in self.etag else {}
        return ObjectInfo(len(self.data), self.etag, modified=self.modified, metadata=self.metadata, digests=digests)


@dataclass
class Store:
    """What is there: objects and unfinished uploads. Every write makes a new time."""

    name: str
    objects: dict[bytes, Stored] = field(default_factory=dict)
    uploads: dict[str, tuple[bytes, Metadata, dict[int, bytes]]] = field(default_factory=dict)
    guard: threading.RLock = field(default_factory=threading.RLock)
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def put(self, key: bytes, data: bytes, metadata: Metadata, parts: int = 0) -> Stored:
        etag = hashlib.md5(data).hexdigest() + (f"-{parts}" if parts else "")
        with self.guard:
            self.objects[key] = Stored(data, metadata, etag, f"{next(self.clock):08d}")
            return self.objects[key]


class MemoryStorage(Storage):
    """The contract over a `Store`; nothing is written that is not whole."""

    capabilities = Capabilities(ordered=True, after=True, parallel_parts=True, resumable=True, part_size_min=1)

    def __init__(self, store: Store) -> None:
        self.store = store
        self.name = store.name

    @property
    def place(self) -> tuple[str, bytes]:
        return f"memory {self.store.name}", b""

    def check(self, *, write: bool) -> None:
        """It is always there."""

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        with self.store.guard:
            found = sorted(self.store.objects.items())
        for key, one in found:
            if after is None or key > after:
                yield Entry(key, len(one.data), one.etag, one.modified)

    def _get(self, key: bytes) -> Stored:
        with self.store.guard:
            if key not in self.store.objects:
                raise NotFound("no such object", key=key, storage=self.name)
            return self.store.objects[key]

    def stat(self, key: bytes) -> ObjectInfo:
        return self._get(key).info()

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        one = self._get(entry.key)
        if entry.etag and one.etag != entry.etag:
            raise Changed("another object is there now", key=entry.key, storage=self.name)
        return Content(one.info(), one.data[start : None if length is None else start + length])

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        if hashlib.sha256(body.data).hexdigest() != body.sha256:
            raise Corrupt("the body is not what its digest says", key=key, storage=self.name)
        return Written(self.store.put(key, bytes(body.data), metadata).etag)

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        with self.store.guard:
            if token not in self.store.uploads:
                token = f"upload-{next(self.store.clock)}"
                self.store.uploads[token] = (key, metadata, {})
        return MemoryUpload(self, token)

    def abandoned(self, key: bytes) -> Sequence[str]:
        with self.store.guard:
            return [token for token, (name, _, _) in self.store.uploads.items() if name == key]

    def delete(self, key: bytes) -> None:
        with self.store.guard:
            self.store.objects.pop(key, None)


class MemoryUpload(Upload):
    """Parts wait in the store."""

    def __init__(self, storage: MemoryStorage, token: str) -> None:
        self.token = token
        self._storage = storage
        self._key, self._metadata, self._parts = storage.store.uploads[token]
        self.done = {number: hashlib.md5(data).hexdigest() for number, data in self._parts.items()}

    def part(self, number: int, body: Body, offset: int) -> str:
        self._parts[number] = bytes(body.data)
        return hashlib.md5(body.data).hexdigest()

    def finish(self, tags: Sequence[str], sha256: str) -> Written:
        with self._storage.store.guard:
            if self.token not in self._storage.store.uploads:
                raise Changed("the upload is gone", key=self._key, storage=self._storage.name)
            data = b"".join(self._parts[number] for number in range(1, len(tags) + 1))
            if [hashlib.md5(self._parts[n]).hexdigest() for n in range(1, len(tags) + 1)] != list(tags):
                raise Refused("these are not the parts", key=self._key, storage=self._storage.name)
            del self._storage.store.uploads[self.token]
            return Written(self._storage.store.put(self._key, data, self._metadata, len(tags)).etag)

    def abort(self) -> None:
        with self._storage.store.guard:
            self._storage.store.uploads.pop(self.token, None)


class Killed(BaseException):
    """Stands for kill -9: nothing handles it."""


ERRORS = {
    "unreachable": Unreachable,
    "throttled": Throttled,
    "refused credentials": AccessDenied,
    "full": PlaceFull,
    "damaged": Corrupt,
    "changed": Changed,
    "gone": NotFound,
    "unlike": Refused,
    "broken listing": ListingBroken,
}
WAYS = (*ERRORS, "lost answer", "flipped", "short", "kill")
VERBS = ("entries", "listed", "stat", "read", "write", "upload", "part", "finish", "abandoned", "delete")


@dataclass
class Fault:
    """What goes wrong: the ``skip``-th and following ``times`` calls of ``verb`` on one side, in one of `WAYS`."""

    side: str
    verb: str
    way: str
    skip: int = 0
    times: int = 1
    kill: Callable[[], None] = lambda: None
    fired: int = 0

    def strikes(self, side: str, verb: str) -> bool:
        if (side, verb) != (self.side, self.verb):
            return False
        self.skip -= 1
        if self.skip >= 0 or self.fired >= self.times:
            return False
        self.fired += 1
        return True


class FaultyStorage(Around):
    """Another storage whose calls fail as a `Fault` says. ``lost answer``: carried out, and then no word of it."""

    def __init__(self, inner: Storage, side: str, fault: Fault | None) -> None:
        super().__init__(inner)
        self._side = side
        self._fault = fault
        self._guard = threading.Lock()

    def _strikes(self, verb: str, key: bytes | None) -> str:
        """The way of the fault, when this call has to go on in it; raises what it is to raise."""
        with self._guard:
            if self._fault is None or not self._fault.strikes(self._side, verb):
                return ""
            way = self._fault.way
            if way == "kill":
                self._fault.kill()
                raise Killed
        if way in ERRORS:
            raise ERRORS[way](f"injected: {way}", key=key, storage=self.name)
        return way

    def _lost(self, way: str, key: bytes | None) -> None:
        if way == "lost answer":
            raise Unreachable("injected: the answer was lost", key=key, storage=self.name)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        for entry in self.inner.entries(after):
            self._lost(self._strikes("entries", None), None)
            yield entry

    def listed(self, key: bytes) -> Entry | None:
        self._lost(self._strikes("listed", key), key)
        return self.inner.listed(key)

    def stat(self, key: bytes) -> ObjectInfo:
        self._lost(self._strikes("stat", key), key)
        return self.inner.stat(key)

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        way = self._strikes("read", entry.key)
        content = self.inner.read(entry, start, length)
        self._lost(way, entry.key)
        data = bytes(content.data)
        if way == "flipped" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        return Content(content.info, data[:-1] if way == "short" else data)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        way = self._strikes("write", key)
        written = self.inner.write(key, body, metadata)
        self._lost(way, key)
        return written

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        way = self._strikes("upload", key)
        upload = self.inner.upload(key, size, metadata, part_size, token)
        self._lost(way, key)
        return _FaultyUpload(upload, self, key)

    def abandoned(self, key: bytes) -> Sequence[str]:
        self._lost(self._strikes("abandoned", key), key)
        return self.inner.abandoned(key)

    def delete(self, key: bytes) -> None:
        way = self._strikes("delete", key)
        self.inner.delete(key)
        self._lost(way, key)


class _FaultyUpload(Upload):
    def __init__(self, inner: Upload, storage: FaultyStorage, key: bytes) -> None:
        self.token, self.wants_md5, self.done = inner.token, inner.wants_md5, inner.done
        self._inner, self._storage, self._key = inner, storage, key

    def part(self, number: int, body: Body, offset: int) -> str:
        way = self._storage._strikes("part", self._key)
        tag = self._inner.part(number, body, offset)
        self._storage._lost(way, self._key)
        return tag

    def finish(self, tags: Sequence[str], sha256: str) -> Written:
        way = self._storage._strikes("finish", self._key)
        written = self._inner.finish(tags, sha256)
        self._storage._lost(way, self._key)
        return written

    def abort(self) -> None:
        self._inner.abort()
