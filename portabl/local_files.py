"""Whole files below a local directory: a temporary file, synchronised, renamed, its directory synchronised."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from portabl.file_errors import is_temporary, temporary, translated


class LocalPlace:
    """A directory of this machine, made when the first file is written."""

    def __init__(self, path: str) -> None:
        self.url = self._root = os.path.abspath(path)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        with translated(self.url, name):
            return open(self._path(name), "rb")

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """See `Files.writer`."""
        path = self._path(name)
        unfinished = temporary(path)
        with translated(self.url, name):
            _make_directory(os.path.dirname(path))
            try:
                with _synced(unfinished) as file:
                    yield file
                os.replace(unfinished, path)
            except BaseException:
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    os.unlink(unfinished)
                raise
            _sync_directory(os.path.dirname(path))

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """Locked as long as it is written, so that what a killed run left is known and removed."""
        with translated(self.url, name):
            _clear_stale(self._path(name))
        with self.writer(name) as file:
            with contextlib.suppress(OSError):  # a filesystem without locks
                _lock(file.fileno())
            yield file

    def create(self, name: str, data: bytes) -> bool:
        """See `Files.create`."""
        path = self._path(name)
        unfinished = temporary(path)
        with translated(self.url, name):
            _make_directory(os.path.dirname(path))
            try:
                with _synced(unfinished) as file:
                    file.write(data)
                made = _named(unfinished, path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
            _sync_directory(os.path.dirname(path))
        return made

    def sweep(self, folder: str) -> None:
        """See `Files.sweep`."""
        with translated(self.url, folder), contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._path(folder)):
                if is_temporary(name):
                    os.unlink(os.path.join(self._path(folder), name))

    def names(self, prefix: str) -> list[str]:
        """See `Files.names`."""
        found: list[str] = []
        start = os.path.join(self._root, os.path.dirname(prefix))
        with translated(self.url, prefix):
            try:
                os.stat(start)  # unlike os.path.exists this tells a refusal from absence
            except FileNotFoundError:
                return []
            for directory, _, bases in os.walk(start, onerror=_raise):
                found.extend(os.path.relpath(os.path.join(directory, base), self._root) for base in bases)
        return found

    def folders(self) -> list[str]:
        """See `Files.folders`."""
        with translated(self.url, ""):
            try:
                with os.scandir(self._root) as found:
                    return [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
            except FileNotFoundError:
                return []

    def exists(self, name: str) -> bool:
        """See `Files.exists`."""
        with translated(self.url, name):
            try:
                os.stat(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def delete(self, name: str) -> None:
        """See `Files.delete`."""
        with translated(self.url, name):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                return
            _sync_directory(os.path.dirname(self._path(name)))

    def errors(self, name: str) -> AbstractContextManager[None]:
        """Whatever the block raises, in portabl's words."""
        return translated(self.url, name)


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def _synced(path: str) -> Iterator[BinaryIO]:
    """A new file, on the disk when the block ends."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _named(unfinished: str, path: str) -> bool:
    """Give a finished file a name that no other has; whether it was given."""
    try:
        os.link(unfinished, path)
    except FileExistsError:
        return False
    except OSError:  # a filesystem without hard links: nearly the same
        if os.path.lexists(path):
            return False
        os.replace(unfinished, path)
    return True


def _lock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clear_stale(path: str) -> None:
    """Remove temporary files for this very path that no living writer holds."""
    folder, base = os.path.split(path)
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        if name.startswith(f".{base}.") and is_temporary(name):
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                _lock(file.fileno())
                os.unlink(file.name)


def _make_directory(path: str) -> None:
    """Like makedirs, and durable: each new directory's parent is synchronised."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    _sync_directory(parent)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
