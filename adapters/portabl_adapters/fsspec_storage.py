"""Any fsspec filesystem as a source or target, within what fsspec can promise.

fsspec's interface has bodies, sizes and times, but no headers, metadata or tags, and many backends tidy up paths. So:
keys that could change are refused before anything is written (`Place.path`); a store that carries metadata reports, for
each object read, that it could not be seen; a listing that fails raises, although fsspec's own `find` swallows errors.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from portabl.errors import (
    Changed,
    ConfigError,
    ContainerMissing,
    Corrupt,
    ListingBroken,
    NotFound,
    PortablError,
    UsageError,
)
from portabl.model import Body, Content, Entry, Loss, Metadata, ObjectInfo, Written
from portabl.storage import Capabilities, Opening, Storage, Upload
from portabl_adapters.fsspec_errors import translated
from portabl_adapters.fsspec_place import READ_ONLY, SEQUENTIAL, Place, etag_of, modified_of
from portabl_adapters.fsspec_write import FsspecUpload, Writer, losses

T = TypeVar("T")

_ATTEMPTS = 4
_READINGS = 3  # an object replaced, then put back while it is read has its old identity, but came with another length
_FIRST_PAUSE_SECONDS = 0.2
_UNSEEN = Loss(
    "metadata", "a generic fsspec filesystem does not show headers, metadata and tags; name a provider of this type"
)


def open_storage(opening: Opening) -> Storage:
    """Open a URL of fsspec. ``settings``: ``url`` and ``options`` (arguments of the filesystem)."""
    url, options = opening.settings.get("url"), opening.settings.get("options") or {}
    if not isinstance(url, str) or not url:
        raise ConfigError("an fsspec place needs a url", storage=opening.name)
    if not isinstance(options, Mapping):
        raise ConfigError("the options of an fsspec place are a table", storage=opening.name)
    return FsspecStorage(Place(url, options, opening.prefix, opening.name))


class _Handle(NamedTuple):
    """A file being read from front to back."""

    key: bytes
    etag: str
    position: int
    file: Any


class FsspecStorage(Storage):
    """One place on an fsspec filesystem. Unordered: a listing is whatever order the backend has."""

    def __init__(self, place: Place) -> None:
        self.name = place.name
        self._place = place
        self._writer = Writer(place)
        self._handles: dict[int, _Handle] = {}
        self.capabilities = Capabilities(
            ranges=place.kind not in SEQUENTIAL,
            parallel_parts=True,
            writable=place.kind not in READ_ONLY,
            part_size_min=1,
            part_size_max=2**62,
            parts_max=10**9,
            headers=frozenset(),
            user_metadata=False,
            tags=False,
            metadata_in_manifest=not place.objects,
        )

    @property
    def place(self) -> tuple[str, bytes]:
        """Kind and endpoint, and the path there."""
        return self._place.identity

    def check(self, *, write: bool) -> None:
        """Connect; make a missing target directory where there are directories."""
        if write and not self.capabilities.writable:
            raise UsageError(f"a {self._place.kind} filesystem cannot be written to", storage=self.name)
        filesystem, root = self._place.filesystem, self._place.root
        if self._place.objects:
            self._call(None, lambda: filesystem.ls(root.partition("/")[0]))
            return
        if write:
            self._call(None, lambda: filesystem.makedirs(root, exist_ok=True))
        if self._place.web:
            if not self._call(None, lambda: filesystem.ls(root + "/")):
                hint = "name the page that lists the files; a single file is no place to migrate from"
                raise ContainerMissing("this page lists no files", storage=self.name, hint=hint)
            return
        if root and self._call(None, lambda: filesystem.isfile(root)):
            raise UsageError("this is one file, not a directory", storage=self.name, hint="name its directory")
        self._call(None, lambda: filesystem.ls(root))

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Every file, in no order. An empty directory is the key of its name with a slash.

        Memory: for object stores the whole listing (fsspec gathers it), for others the names of all directories.
        """
        seen: set[bytes] = set()
        listing = self._call(None, self._place.listing)
        while True:
            info = self._call(None, lambda: next(listing, None), attempts=1)
            if info is None:
                return
            if info["name"] in self._writer.unfinished:
                continue
            entry = self._entry(info)
            if entry.key in seen:
                raise ListingBroken("the listing shows a key twice", key=entry.key, storage=self.name)
            seen.add(entry.key)
            if after is None or entry.key > after:
                yield entry

    def _entry(self, info: dict[str, Any]) -> Entry:
        key = self._place.key(info["name"])
        if info.get("size") is None and info.get("type") != "directory":
            info = {**info, **self._call(key, lambda: self._place.filesystem.info(info["name"]))}
        size = info.get("size")
        problem = ""
        if size is None:
            problem = "the filesystem does not tell its size"
        elif not self._place.exact(info["name"]) and info.get("type") != "directory":
            problem = "fsspec cannot name this object exactly"
        elif info.get("type") not in ("file", "directory"):
            problem = f"not an ordinary file: {info.get('type')}"
        elif info.get("islink"):
            problem = "symbolic link"
        return Entry(key, size or 0, etag_of(info), modified_of(info), problem=problem)

    def listed(self, key: bytes) -> Entry | None:
        """What the filesystem says of one key."""
        try:
            path = self._place.path(key)
            info = self._call(key, lambda: self._place.filesystem.info(path))
        except NotFound:
            return None
        except PortablError:
            return super().listed(key)
        return self._entry({**info, "name": path}) if info.get("type") == "file" else super().listed(key)

    def stat(self, key: bytes) -> ObjectInfo:
        """Size and identity; of an object store also the loss of everything fsspec does not show."""
        info = self._info(key)
        seen = (_UNSEEN,) if self._place.objects else ()
        return ObjectInfo(int(info["size"]), etag_of(info), modified=modified_of(info), losses=seen)

    def _path(self, key: bytes) -> str:
        """The path of a key that was listed: whatever the listing could show can be read."""
        root = self._place.root
        if self._place.web:
            return self._place.path(key)
        text = key.decode("utf-8", "surrogateescape")
        return f"{root}/{text}" if root else text

    def _info(self, key: bytes) -> dict[str, Any]:
        path = self._path(key)
        if not self._place.exact(path) and not key.endswith(b"/"):
            raise NotFound("no such object: fsspec cannot name it exactly", key=key, storage=self.name)
        info: dict[str, Any] = self._call(key, lambda: self._place.filesystem.info(path))
        if info.get("type") == "directory":
            if not key.endswith(b"/") or self._call(key, lambda: self._place.filesystem.ls(path, detail=False)):
                raise NotFound("no such object", key=key, storage=self.name)
            return {"size": 0, "type": "directory"}
        if key.endswith(b"/") and not self._place.objects:
            raise NotFound("no such object", key=key, storage=self.name)
        if info.get("size") is None:
            raise Corrupt("the filesystem does not tell its size", key=key, storage=self.name)
        return info

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes of one object. Asked again before, and for a whole object also after, whether it is still the same."""
        info = self.stat(entry.key)
        self._same(entry, info)
        stop = info.size if length is None else min(info.size, start + length)
        wanted = max(stop - start, 0)
        if not wanted:
            return Content(info, b"")
        data = b""
        for _ in range(_READINGS):
            data = self._call(entry.key, lambda: self._bytes(entry, info, start, stop))
            if len(data) != wanted or wanted == info.size:
                self._same(entry, self.stat(entry.key))
            if len(data) == wanted:
                return Content(info, data)
        raise Corrupt(f"{wanted} bytes promised, {len(data)} arrived", key=entry.key, storage=self.name)

    def _same(self, entry: Entry, info: ObjectInfo) -> None:
        if entry.etag and info.etag != entry.etag:
            problem = f"changed since it was listed: {entry.etag}, now {info.etag}"
            raise Changed(problem, key=entry.key, storage=self.name)

    def _bytes(self, entry: Entry, info: ObjectInfo, start: int, stop: int) -> bytes:
        path = self._path(entry.key)
        if start == 0 and stop == info.size:
            return bytes(self._place.filesystem.cat_file(path))
        if self.capabilities.ranges:
            return bytes(self._place.filesystem.cat_file(path, start=start, end=stop))
        return self._forward(entry, path, start, stop)

    def _forward(self, entry: Entry, path: str, start: int, stop: int) -> bytes:
        """A range by reading on from where this thread's last range of the object ended, else from the front."""
        handle = self._handles.pop(threading.get_ident(), None)
        if handle is None or handle[:3] != (entry.key, entry.etag, start):
            if handle is not None:
                handle.file.close()
            file = self._place.filesystem.open(path, "rb")
            position = 0
            while position < start:
                skipped = file.read(min(start - position, 2**20))
                if not skipped:
                    break
                position += len(skipped)
        else:
            file, position = handle.file, handle.position
        chunks: list[bytes] = []
        while position < stop and (data := file.read(stop - position)):
            chunks.append(data)
            position += len(data)
        self._handles[threading.get_ident()] = _Handle(entry.key, entry.etag, position, file)
        return b"".join(chunks)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """Write a whole object and ask for its size; metadata an object store could hold is named as lost."""
        written = self._call(key, lambda: self._writer.whole(key, bytes(body.data)))
        return Written(written.etag, losses=losses(self._place, metadata))

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:  # noqa: ARG002
        """Write in parts; they wait in the local temporary directory, which needs room for the object."""
        self._place.path(key)

        def send(key: bytes, size: int, local: str) -> Written:
            written = self._call(key, lambda: self._writer.file(key, size, local))
            return Written(written.etag, losses=losses(self._place, metadata))

        return FsspecUpload(key, size, send)

    def delete(self, key: bytes) -> None:
        """Remove a file and the directories this leaves empty."""
        self._call(key, lambda: self._writer.delete(key))

    def close(self) -> None:
        """Close files that are still being read."""
        while self._handles:
            self._handles.popitem()[1].file.close()

    def _call(self, key: bytes | None, call: Callable[[], T], attempts: int = _ATTEMPTS) -> T:
        """Every use of the filesystem: errors translated, transient ones tried again (4 times, 1.4 s in all).

        The object stores' own clients try again by themselves; ours on top would multiply the waits.
        """
        attempts = 1 if self._place.objects else attempts
        lock = self._place.serial or contextlib.nullcontext()
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(1, attempts + 1):
            try:
                with lock:
                    return call()
            except Exception as error:
                found = translated(error, key, self.name)
                if key is None and isinstance(found, NotFound):
                    found = ContainerMissing("no such bucket or directory", storage=self.name)
                if not found.transient or attempt == attempts:
                    raise found from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")
