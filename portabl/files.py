"""Whole files at one place, a local directory or any fsspec filesystem: where manifests and state are kept.

A file is there completely or not at all, and once a writer has been left without an exception it is there durably:
locally a temporary file is synchronised, renamed, and its directory synchronised; object stores show an object when
its upload ends; elsewhere a temporary name is uploaded, measured and moved. Local directories never import fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, BinaryIO, Protocol, cast

from portabl.errors import AccessDenied, NotFound, PortablError, StateFull, StorageError, UsageError

SPOOL_BYTES_MAX = 32 * 2**20
"""Bytes of a file on its way to a remote filesystem that are held in memory; larger ones go through a local file."""

STREAM_BLOCK_BYTES = 64 * 2**20
"""Bytes of a stream that are sent at once: with the 10,000 parts of S3, up to 640 GB."""

_TEMPORARY = re.compile(r"(?:^|/)\.[^/]+\.[0-9a-f]{16}\.tmp$").search
_LOCAL = re.compile(r"(?:file|local)://").match
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "cos", "swift"})  # on close
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class _Place(Protocol):
    url: str

    def open(self, name: str) -> BinaryIO: ...
    def writer(self, name: str) -> AbstractContextManager[BinaryIO]: ...
    def stream(self, name: str) -> AbstractContextManager[BinaryIO]: ...
    def names(self, prefix: str) -> list[str]: ...
    def folders(self) -> list[str]: ...
    def exists(self, name: str) -> bool: ...
    def delete(self, name: str) -> None: ...
    def create(self, name: str, data: bytes) -> bool: ...
    def sweep(self, folder: str) -> None: ...
    def errors(self, name: str) -> AbstractContextManager[None]: ...


class Files:
    """Files below one directory, named by relative paths with ``/``.

    Methods raise NotFound, AccessDenied, StateFull (no room left), or StorageError for other trouble.
    """

    def __init__(self, fs: Any, path: str) -> None:
        protocols = _protocols(fs)
        self._place: _Place = _Local(path) if "file" in protocols else _Remote(fs, path, protocols)

    @classmethod
    def at(cls, url_or_path: str, options: Mapping[str, object] | None = None) -> Files:
        """The directory at a local path or fsspec URL; ``options`` go to the filesystem. Raises UsageError."""
        local = _LOCAL(url_or_path)
        if local or not re.search("://|::", url_or_path):
            files = cls.__new__(cls)
            files._place = _Local(url_or_path[local.end() :] if local else url_or_path)
            return files
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(url_or_path, **(options or {}))
        except (ImportError, ValueError, TypeError) as error:
            why = f"{type(error).__name__}: {_printable(str(error), options)}"
            raise UsageError(f"cannot open {_printable(url_or_path, options)}: {why}") from None
        return cls(fs, path)

    @property
    def url(self) -> str:
        """The place for people, without secrets."""
        return self._place.url

    @property
    def local(self) -> bool:
        """Whether these are files of this machine."""
        return isinstance(self._place, _Local)

    def __repr__(self) -> str:
        return f"Files({self.url!r})"

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return b"".join(self.chunks(name))

    def open(self, name: str) -> BinaryIO:
        """A file opened for reading. What reading it raises is the filesystem's own; `chunks` translates that too."""
        return self._place.open(_checked(name))

    def chunks(self, name: str, size: int = 256 * 1024) -> Iterator[bytes]:
        """A file in pieces of at most ``size`` bytes, none empty."""
        with self.open(name) as file:
            while True:
                with self._place.errors(name):
                    chunk = file.read(size)
                if not chunk:
                    return
                yield chunk

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file, atomically and durably."""
        with self.writer(name) as file:
            file.write(data)

    def create(self, name: str, data: bytes) -> bool:
        """Make a file if there is none; whether it was made. Where the store cannot say that, one may be replaced."""
        return self._place.create(_checked(name), data)

    def sweep(self, folder: str = "") -> None:
        """Remove what killed writers left directly in a folder, for who is known to be alone here."""
        self._place.sweep(_checked(folder) if folder else "")

    def writer(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The same for a stream: visible when the block ends, never when it raises."""
        return self._place.writer(_checked(name))

    def stream(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The same for what is too large to be held anywhere on its way: it goes where it belongs as it is written.

        A filesystem that cannot give an upload up may show a part of it under a temporary name after a crash.
        """
        return self._place.stream(_checked(name))

    def names(self, prefix: str = "") -> list[str]:
        """Names of all files that begin with ``prefix``, sorted. A directory that does not exist holds none."""
        return sorted(name for name in self._place.names(prefix) if name.startswith(prefix) and not _TEMPORARY(name))

    def folders(self) -> list[str]:
        """Names of the directories directly below, sorted. A directory that does not exist has none."""
        return sorted(self._place.folders())

    def exists(self, name: str) -> bool:
        """Is there a file of this name?"""
        return self._place.exists(_checked(name))

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._place.delete(_checked(name))


def is_temporary(name: str) -> bool:
    """Whether a file is one that a killed writer left, or a living one has not finished."""
    return bool(_TEMPORARY(name))


def _checked(name: str) -> str:
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"not the name of a file below a directory: {name!r}")
    return name


def _temporary(name: str) -> str:
    directory, base = os.path.split(name)
    return os.path.join(directory, f".{base}.{secrets.token_hex(8)}.tmp")


class _Local:
    """A directory of this machine, made when the first file is written."""

    def __init__(self, path: str) -> None:
        self.url = self._root = os.path.abspath(path)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def open(self, name: str) -> BinaryIO:
        with _translated(self.url, name):
            return open(self._path(name), "rb")

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        path = self._path(name)
        temporary = _temporary(path)
        with _translated(self.url, name):
            _make_directory(os.path.dirname(path))
            try:
                with open(temporary, "xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    os.unlink(temporary)
                raise
            _sync_directory(os.path.dirname(path))

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """Locked as long as it is written, so that what a killed run left is known and removed."""
        with _translated(self.url, name):
            _clear_stale(self._path(name))
        with self.writer(name) as file:
            with contextlib.suppress(OSError):  # a filesystem without locks
                _lock(file.fileno())
            yield file

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        temporary = _temporary(path)
        with _translated(self.url, name):
            _make_directory(os.path.dirname(path))
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                made = _named(temporary, path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            _sync_directory(os.path.dirname(path))
        return made

    def sweep(self, folder: str) -> None:
        with _translated(self.url, folder), contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._path(folder)):
                if _TEMPORARY(name):
                    os.unlink(os.path.join(self._path(folder), name))

    def names(self, prefix: str) -> list[str]:
        found: list[str] = []
        start = os.path.join(self._root, os.path.dirname(prefix))
        with _translated(self.url, prefix):
            try:
                os.stat(start)  # unlike os.path.exists this tells a refusal from absence
            except FileNotFoundError:
                return []
            for directory, _, bases in os.walk(start, onerror=_raise):
                found.extend(os.path.relpath(os.path.join(directory, base), self._root) for base in bases)
        return found

    def folders(self) -> list[str]:
        with _translated(self.url, ""):
            try:
                with os.scandir(self._root) as found:
                    return [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
            except FileNotFoundError:
                return []

    def exists(self, name: str) -> bool:
        with _translated(self.url, name):
            try:
                os.stat(self._path(name))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def delete(self, name: str) -> None:
        with _translated(self.url, name):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                return
            _sync_directory(os.path.dirname(self._path(name)))

    def errors(self, name: str) -> AbstractContextManager[None]:
        return _translated(self.url, name)


def _raise(error: OSError) -> None:
    raise error


def _named(temporary: str, path: str) -> bool:
    """Give a finished file a name that no other has; whether it was given."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a filesystem without hard links: nearly the same
        if os.path.lexists(path):
            return False
        os.replace(temporary, path)
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
        if name.startswith(f".{base}.") and _TEMPORARY(name):
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


class _Remote:
    """A directory of an fsspec filesystem. Its caches are dropped before each question: others write there too."""

    def __init__(self, fs: Any, path: str, protocols: tuple[str, ...]) -> None:
        self._fs = fs
        self._root = path.rstrip("/")
        self._atomic = not _ATOMIC.isdisjoint(protocols)
        self._options: Mapping[str, object] = getattr(fs, "storage_options", {})
        self.url = _printable(str(fs.unstrip_protocol(self._root)), self._options)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def open(self, name: str) -> BinaryIO:
        with self.errors(name):
            return cast(BinaryIO, self._fs.open(self._path(name), "rb"))

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        # Spooled first, so that an exception in the block finds nothing begun.
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES_MAX) as spool:
            with _translated(f"temporary directory {tempfile.gettempdir()}", name):
                yield cast(BinaryIO, spool)
                size = spool.seek(0, os.SEEK_END)
                spool.seek(0)
            with self.errors(name):
                self._send(name, spool, size)

    def create(self, name: str, data: bytes) -> bool:
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
        for name in [] if self._atomic else self.names(f"{folder}/" if folder else ""):
            if _TEMPORARY(name):
                self.delete(name)

    def _send(self, name: str, spool: IO[bytes], size: int) -> None:
        path = self._path(name)
        place = path if self._atomic else _temporary(path)
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
        path = self._path(name)
        place = path if self._atomic else _temporary(path)
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
            shutil.copyfileobj(spool, file, 2**20)
        except BaseException:
            with contextlib.suppress(Exception):  # gives the upload up; closing would make half a file visible
                file.discard()
            file.closed = True
            raise
        file.close()

    def names(self, prefix: str) -> list[str]:
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
        with self.errors(name):
            self._fs.invalidate_cache()
            try:
                self._fs.info(self._path(name))  # unlike fs.exists this tells a refusal from absence
            except FileNotFoundError:
                return False
            return True

    def delete(self, name: str) -> None:
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
            with _translated(self.url, name, self._options):
                yield
        except PortablError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {_printable(str(error), self._options)}"
            raise StorageError(f"{name}: {why}", storage=self.url) from None


@contextlib.contextmanager
def _translated(url: str, name: str, options: Mapping[str, object] | None = None) -> Iterator[None]:
    try:
        yield
    except PortablError:
        raise
    except FileNotFoundError:
        raise NotFound(f"no file {name}", storage=url) from None
    except OSError as error:
        if error.errno in _FULL:
            hint = "free space (or raise the quota) and run the same command again"
            raise StateFull(f"no room left to write {name}", storage=url, hint=hint) from None
        if isinstance(error, PermissionError) or error.errno in _DENIED:
            hint = "check the owner and permissions of this place, or choose another"
            raise AccessDenied(f"no permission for {name}", storage=url, hint=hint) from None
        why = error.strerror or _printable(str(error), options)
        raise StorageError(f"{name}: {why}", storage=url) from None


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _printable(text: str, options: Mapping[str, object] | None) -> str:
    """Text without passwords: user information and queries of URLs, and every value that was given as an option."""
    text = re.sub(r"//[^/@:\s]*:(?!:)[^@\s]*@|//[^/@\s]*@", "//", text)
    text = re.sub(r"\?[^\s#]*", "?...", text)
    for value in _leaves(options or {}):
        text = text.replace(value, "***")
    return text


def _leaves(options: object) -> Iterator[str]:
    if isinstance(options, Mapping):
        for value in options.values():
            yield from _leaves(value)
    elif isinstance(options, str) and len(options) >= 6 and "://" not in options:
        yield options
