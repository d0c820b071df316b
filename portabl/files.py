"""Whole files at one place, a local directory or any fsspec filesystem: where manifests and state are kept.

A file is there completely or not at all, and once a writer has been left without an exception it is there durably:
locally a temporary file is synchronised, renamed, and its directory synchronised; object stores show an object when
its upload ends; elsewhere a temporary name is uploaded, measured and moved. Local directories never import fsspec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol

from portabl.errors import UsageError
from portabl.file_errors import is_temporary, printable
from portabl.local_files import LocalPlace
from portabl.remote_files import RemotePlace

_LOCAL = re.compile(r"(?:file|local)://").match


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
        self._place: _Place = LocalPlace(path) if "file" in protocols else RemotePlace(fs, path, protocols)

    @classmethod
    def at(cls, url_or_path: str, options: Mapping[str, object] | None = None) -> Files:
        """The directory at a local path or fsspec URL; ``options`` go to the filesystem. Raises UsageError."""
        local = _LOCAL(url_or_path)
        if local or not re.search("://|::", url_or_path):
            files = cls.__new__(cls)
            files._place = LocalPlace(url_or_path[local.end() :] if local else url_or_path)
            return files
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(url_or_path, **(options or {}))
        except (ImportError, ValueError, TypeError) as error:
            why = f"{type(error).__name__}: {printable(str(error), options)}"
            raise UsageError(f"cannot open {printable(url_or_path, options)}: {why}") from None
        return cls(fs, path)

    @property
    def url(self) -> str:
        """The place for people, without secrets."""
        return self._place.url

    @property
    def local(self) -> bool:
        """Whether these are files of this machine."""
        return isinstance(self._place, LocalPlace)

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
        return sorted(name for name in self._place.names(prefix) if name.startswith(prefix) and not is_temporary(name))

    def folders(self) -> list[str]:
        """Names of the directories directly below, sorted. A directory that does not exist has none."""
        return sorted(self._place.folders())

    def exists(self, name: str) -> bool:
        """Is there a file of this name?"""
        return self._place.exists(_checked(name))

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._place.delete(_checked(name))


def _checked(name: str) -> str:
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"not the name of a file below a directory: {name!r}")
    return name


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
