"""Writing through fsspec, as atomically as the backend allows.

==================  ========================================================================================
object stores       one `pipe_file`, or a file object whose parts become visible when it is closed
renaming backends   a file of another name in the same directory, then its native `mv`
others              one `pipe_file`; a large object waits in a local temporary file and goes out with `put_file`
==================  ========================================================================================

A backend whose `mv` refuses to replace a file is given a free name first; for that instant the object is missing.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

from portabl.errors import Corrupt, PlaceFull, Refused
from portabl.model import Body, Loss, Metadata, Written
from portabl.storage import Upload
from portabl_adapters.fsspec_place import Place, etag_of

_REASON = 'a generic fsspec filesystem has no way to set it; use a provider with `type = "s3"` or the like'


def losses(place: Place, metadata: Metadata) -> tuple[Loss, ...]:
    """What an object store could hold but fsspec cannot hand over; a place for bodies only loses nothing."""
    if not place.objects:
        return ()
    return tuple(Loss(field, _REASON, value) for field, value in sorted(metadata.fields().items()))


class Writer:
    """Writes and removes whole files of one place. Raises what the backend raises."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.unfinished: set[str] = set()
        """Paths of files not yet renamed: ours, so no part of a listing."""
        self._directories: set[str] = set()
        self._lock = threading.Lock()

    def whole(self, key: bytes, data: bytes) -> Written:
        """Write one object and check its size."""
        path = self.place.path(key)
        filesystem = self.place.filesystem
        self._make_room(key, path)
        if self._renames():
            self._renamed(path, lambda temporary: filesystem.pipe_file(temporary, data))
        else:
            filesystem.pipe_file(path, data)
        return self.confirmed(key, path, len(data))

    def file(self, key: bytes, size: int, local: str) -> Written:
        """Write one object from a local file and check its size."""
        path = self.place.path(key)
        filesystem = self.place.filesystem
        self._make_room(key, path)
        if self._renames():
            self._renamed(path, lambda temporary: filesystem.put_file(local, temporary))
        else:
            self._sent(local, path)
        return self.confirmed(key, path, size)

    def _sent(self, local: str, path: str) -> None:
        if self.place.kind == "memory":  # its `put_file` shows the file while it grows
            with open(local, "rb") as file:
                self.place.filesystem.pipe_file(path, file.read())
        else:
            self.place.filesystem.put_file(local, path)

    def confirmed(self, key: bytes, path: str, size: int) -> Written:
        """Ask for what is there now. Raises Corrupt when the size is not the one sent."""
        self.place.filesystem.invalidate_cache()
        info = self.place.filesystem.info(path)
        if info.get("size") != size:
            raise Corrupt(f"sizes differ: sent {size} bytes, stored {info.get('size')}", key=key)
        return Written(etag_of(info))

    def delete(self, key: bytes) -> None:
        """Remove a file and the directories this leaves empty."""
        filesystem, path = self.place.filesystem, self.place.path(key)
        try:
            if filesystem.info(path).get("type") == "directory":
                return
            filesystem.rm_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if self.place.objects:
            return
        parent = path.rpartition("/")[0]
        while len(parent) > len(self.place.root) and not filesystem.ls(parent, detail=False):
            with self._lock:
                self._directories.discard(parent)
            filesystem.rmdir(parent)
            parent = parent.rpartition("/")[0]

    def _make_room(self, key: bytes, path: str) -> None:
        if self.place.objects:
            return
        if self._kind(path) == "directory":
            raise Refused("a directory of this name is in the way", key=key)
        parent = path.rpartition("/")[0]
        if not parent or parent in self._directories:
            return
        above = parent
        while len(above) > len(self.place.root):
            if self._kind(above) not in ("", "directory"):
                raise Refused("a file has the name of a directory above this key", key=key)
            above = above.rpartition("/")[0]
        self.place.filesystem.makedirs(parent, exist_ok=True)
        with self._lock:
            self._directories.add(parent)

    def _kind(self, path: str) -> str:
        try:
            return str(self.place.filesystem.info(path).get("type"))
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def _renames(self) -> bool:
        """Whether `mv` is the backend's own; fsspec's default copies and deletes."""
        from fsspec.spec import AbstractFileSystem

        kind = type(self.place.filesystem)
        return not self.place.objects and kind.mv is not AbstractFileSystem.mv

    def _renamed(self, path: str, write: Callable[[str], Any]) -> None:
        filesystem = self.place.filesystem
        temporary = f"{path.rpartition('/')[0]}/.portabl-{secrets.token_hex(8)}.part"
        self.unfinished.add(temporary)
        try:
            write(temporary)
            try:
                filesystem.mv(temporary, path)
            except (OSError, ValueError):
                if not filesystem.exists(path):
                    raise
                filesystem.rm_file(path)
                filesystem.mv(temporary, path)
        except BaseException:
            if filesystem.exists(temporary):
                filesystem.rm_file(temporary)
            raise
        finally:
            self.unfinished.discard(temporary)


class FsspecUpload(Upload):
    """Parts of one object, gathered in a local temporary file (any order, any thread), sent by `finish`."""

    def __init__(self, key: bytes, size: int, send: Callable[[bytes, int, str], Written]) -> None:
        self.done = {}
        self._key, self._size, self._send = key, size, send
        self._file = tempfile.NamedTemporaryFile(prefix="portabl-")  # noqa: SIM115 - closed by finish or abort
        self._parts: dict[int, tuple[int, int]] = {}

    def part(self, number: int, body: Body, offset: int) -> str:
        """Keep one part. Raises PlaceFull when the temporary directory is full."""
        view, at = memoryview(body.data), offset
        while view:
            try:
                count = os.pwrite(self._file.fileno(), view, at)
            except OSError as error:
                hint = "set TMPDIR to a directory with room for the largest object"
                raise PlaceFull(
                    f"the temporary directory failed: {error.strerror}", key=self._key, hint=hint
                ) from error
            view, at = view[count:], at + count
        self._parts[number] = (offset, len(body.data))
        return body.sha256

    def finish(self, tags: Sequence[str], sha256: str) -> Written:  # noqa: ARG002 - no backend checks it
        """Check that nothing is missing, then send the file."""
        end = 0
        for number in range(1, len(tags) + 1):
            offset, length = self._parts.get(number, (-1, 0))
            if offset != end:
                raise Corrupt(f"part {number} is missing or not at byte {end}", key=self._key)
            end += length
        if end != self._size:
            raise Corrupt(f"sizes differ: {self._size} bytes promised, parts hold {end}", key=self._key)
        written = self._send(self._key, self._size, self._file.name)
        self._file.close()
        return written

    def abort(self) -> None:
        """Forget the parts."""
        self._file.close()
