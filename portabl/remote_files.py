"""Whole files in an fsspec filesystem: an object, or a temporary name uploaded, measured and moved."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, BinaryIO, cast

from portabl.errors import PortablError, StorageError
from portabl.file_errors import is_temporary, printable, temporary, translated

SPOOL_BYTES_MAX = 32 * 2**20
"""Bytes of a file on its way to a remote filesystem that are held in memory; larger ones go through a local file."""

STREAM_BLOCK_BYTES = 64 * 2**20
"""Bytes of a stream that are sent at once: with the 10,000 parts of S3, up to 640 GB."""

_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "cos", "swift"})  # on close


class _Guarded:
    """A file being written whose errors are translated."""

    def __init__(self, file: Any, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self._errors = errors

    def write(self, data: bytes) -> int:
        with self._errors():
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do before the end."""


class RemotePlace:
    """A directory of an fsspec filesystem. Its caches are dropped before each question: others write there too."""

    def __init__(self, fs: Any, path: str, protocols: tuple[str, ...]) -> None:
        self._fs = fs
        self._root = path.rstrip("/")
        self._atomic = not _ATOMIC.isdisjoint(protocols)
        self._options: Mapping[str, object] = getattr(fs, "storage_options", {})
        self.url = printable(str(fs.unstrip_protocol(self._root)), self._options)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        with self.errors(name):
            return cast(BinaryIO, self._fs.open(self._path(name), "rb"))

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """See `Files.writer`."""
        import tempfile

        # Spooled first, so that an exception in the block finds nothing begun.
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES_MAX) as spool:
            with translated(f"temporary directory {tempfile.gettempdir()}", name):
                yield cast(BinaryIO, spool)
                size = spool.seek(0, os.SEEK_END)
                spool.seek(0)
            with self.errors(name):
                self._send(name, spool, size)

    def create(self, name: str, data: bytes) -> bool:
        """See `Files.create`."""
        if self._atomic:
            with contextlib.suppress(Exception):  # a store that cannot: what comes below tells what is wrong with it
                try:
                    self._fs.pipe_file(self._path(name), data, mode="create")
                except FileExistsError:
                    return False
                return True
        with self.writer(name) as file:
            file.write(data)
        return True

    def sweep(self, folder: str) -> None:
        """See `Files.sweep`."""
        for name in [] if self._atomic else self.names(f"{folder}/" if folder else ""):
            if is_temporary(name):
                self.delete(name)

    def _send(self, name: str, spool: IO[bytes], size: int) -> None:
        path = self._path(name)
        place = path if self._atomic else temporary(path)
        if not self._atomic:
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self._upload(place, spool, size)
            self._fs.invalidate_cache()
            arrived = self._fs.info(place)["size"]
            if arrived != size:
                raise StorageError(f"{name}: {arrived} bytes arrived of {size}", storage=self.url)
            if place != path:
                self._fs.mv(place, path)
        except BaseException:
            if place != path:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self._fs.rm_file(place)
            raise

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """See `Files.stream`."""
        path = self._path(name)
        place = path if self._atomic else temporary(path)
        with self.errors(name):
            if not self._atomic:
                self._fs.makedirs(os.path.dirname(path), exist_ok=True)
            file = self._fs.open(place, "wb", block_size=STREAM_BLOCK_BYTES)
        try:
            yield cast(BinaryIO, _Guarded(file, lambda: self.errors(name)))
            with self.errors(name):
                file.close()
                if place != path:
                    self._fs.mv(place, path)
                self._fs.invalidate_cache()
        except BaseException:
            with contextlib.suppress(Exception):  # gives the upload up; closing would make half a file visible
                file.discard()
            file.closed = True
            if place != path:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(place)
            raise

    def _upload(self, place: str, spool: IO[bytes], size: int) -> None:
        if size <= SPOOL_BYTES_MAX:
            self._fs.pipe_file(place, spool.read())
            return
        file = self._fs.open(place, "wb")
        try:
            import shutil

            shutil.copyfileobj(spool, file, 2**20)
        except BaseException:
            with contextlib.suppress(Exception):  # gives the upload up; closing would make half a file visible
                file.discard()
            file.closed = True
            raise
        file.close()

    def names(self, prefix: str) -> list[str]:
        """See `Files.names`."""
        # Not fs.find: it takes an error in a directory for an empty one.
        found: list[str] = []
        waiting = [self._path(os.path.dirname(prefix)).rstrip("/")]
        first = waiting[0]
        with self.errors(prefix):
            self._fs.invalidate_cache()
            while waiting:
                directory = waiting.pop()
                try:
                    entries = self._fs.ls(directory, detail=True)
                except FileNotFoundError:
                    if directory != first:
                        raise
                    return []
                for entry in entries:
                    path = entry["name"].rstrip("/")
                    if entry["type"] == "directory" and path != directory:
                        waiting.append(path)
                    elif entry["type"] != "directory" and not entry["name"].endswith("/"):
                        found.append(self._relative(path))
        return found

    def folders(self) -> list[str]:
        """See `Files.folders`."""
        with self.errors(""):
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
            found = [entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory"]
        return [self._relative(path) for path in found if path.strip("/") != self._root.strip("/")]

    def _relative(self, path: str) -> str:
        root = self._root.lstrip("/")
        relative = path.lstrip("/").removeprefix(root)
        return relative.lstrip("/")

    def exists(self, name: str) -> bool:
        """See `Files.exists`."""
        with self.errors(name):
            self._fs.invalidate_cache()
            try:
                self._fs.info(self._path(name))  # unlike fs.exists this tells a refusal from absence
            except FileNotFoundError:
                return False
            return True

    def delete(self, name: str) -> None:
        """See `Files.delete`."""
        with self.errors(name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return
            finally:
                self._fs.invalidate_cache()

    @contextlib.contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """Any exception of a filesystem's own library becomes a StorageError, without its secrets."""
        try:
            with translated(self.url, name, self._options):
                yield
        except PortablError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {printable(str(error), self._options)}"
            raise StorageError(f"{name}: {why}", storage=self.url) from None
