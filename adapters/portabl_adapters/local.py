"""Files in a local directory (or a mounted share) as a source or target.

Keys become file names by `local_names`, so a directory holds any key exactly. A filesystem has no place for headers,
metadata and tags: they stay in the manifest (`Capabilities.metadata_in_manifest`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from portabl.errors import (
    AccessDenied,
    Changed,
    ConfigError,
    ContainerMissing,
    NotFound,
    Refused,
    StorageError,
    UsageError,
)
from portabl.model import Body, Content, Entry, Metadata, ObjectInfo, Written
from portabl.storage import Capabilities, Opening, Storage, Upload
from portabl_adapters.local_names import encode
from portabl_adapters.local_tree import Directory, Tree, border
from portabl_adapters.local_walk import Walk, etag_of, modified_of
from portabl_adapters.local_write import UNLINKABLE, FileUpload, Linked, Unfinished, Workshop, clear_litter

TICK_SECONDS = 0.02
"""Longer than the clock tick that times of files are counted in (Linux: 1 to 10 ms)."""
_SYMLINKS = ("report", "follow", "keep")
_LINK: Mapping[str, str] = MappingProxyType({"symlink": "true"})
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe must not make us wait


def open_storage(opening: Opening) -> Storage:
    """Open a directory. Option ``names = "plain"``: write every segment under its own name or not at all.

    Raises ConfigError without a path, UsageError for an unknown way to treat symbolic links.
    """
    path = opening.container or opening.settings.get("path")
    if not isinstance(path, str | bytes) or not path:
        raise ConfigError("a directory needs a path", storage=opening.name)
    symlinks = opening.options.get("symlinks", "report")
    if symlinks not in _SYMLINKS:
        raise UsageError(f"unknown way to treat symbolic links: {symlinks}; known: {', '.join(_SYMLINKS)}")
    root = os.path.realpath(os.fsencode(path))
    if opening.prefix:
        root = os.path.join(root, *encode(opening.prefix.removesuffix(b"/")))
    return LocalStorage(root, opening.name, symlinks, plain=opening.options.get("names") == "plain")


class LocalStorage(Storage):
    """One directory tree. See the contract in `portabl.storage`; what is special about files is said per method."""

    capabilities = Capabilities(
        ordered=True,
        after=True,
        parallel_parts=True,
        part_size_min=1,
        part_size_max=2**62,
        parts_max=10**9,
        metadata_in_manifest=True,
        key_rules="exact",
    )

    def __init__(self, root: bytes, name: str, symlinks: str = "report", *, plain: bool = False) -> None:
        self.name = name
        self._symlinks = symlinks
        self._tree = Tree(root, name, links=symlinks == "follow", plain=plain)
        self._workshop = Workshop(self._tree)

    @property
    def place(self) -> tuple[str, bytes]:
        """The real path, so that two spellings of one directory are known to overlap."""
        return "file", self._tree.root_path.rstrip(b"/") + b"/"

    def check(self, *, write: bool) -> None:
        """Make a missing target directory; clear what killed runs left in it."""
        root = self._tree.root_path
        with border(None, self.name):
            if write:
                self._prepare(root)
            try:
                found = os.stat(root)
            except FileNotFoundError:
                raise ContainerMissing(f"no such directory: {os.fsdecode(root)!r}", storage=self.name) from None
            except NotADirectoryError:
                raise self._no_directory(root) from None
            if not stat.S_ISDIR(found.st_mode):
                raise self._no_directory(root)
            needed = os.R_OK | os.X_OK | (os.W_OK if write else 0)
            if not os.access(root, needed, effective_ids=os.access in os.supports_effective_ids):
                raise AccessDenied("no permission to use this directory", storage=self.name)
            if write:
                clear_litter(self._tree.root())
                self._workshop.directory()

    def _prepare(self, root: bytes) -> None:
        missing = []
        path = root
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            except NotADirectoryError:
                raise self._no_directory(os.path.dirname(path)) from None
            Directory(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)).sync()

    def _no_directory(self, path: bytes) -> UsageError:
        return UsageError(f"not a directory: {os.fsdecode(path)!r}", storage=self.name)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Files by key; an empty directory is the key of its name with a slash. Links, sockets, devices, pipes and
        unreadable directories come with a ``problem``. Memory: the names of the directories on the way down.
        """
        return Walk(self._tree, self._symlinks).entries(after)

    def listed(self, key: bytes) -> Entry | None:
        """As `entries` shows it, found directly."""
        try:
            with border(key, self.name), self._opened(key) as opened:
                info = opened.info()
                return Entry(key, info.size, info.etag, info.modified)
        except NotFound:
            return None
        except StorageError:
            return super().listed(key)

    def stat(self, key: bytes) -> ObjectInfo:
        """Size, times and identity. Raises NotFound, Refused for what is no ordinary file."""
        with border(key, self.name), self._opened(key) as opened:
            return opened.info()

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes of a file that did not change since it was listed, nor while it was read."""
        key = entry.key
        with border(key, self.name), self._opened(key) as opened:
            info = opened.info()
            if entry.etag and info.etag != entry.etag:
                raise Changed(f"changed since it was listed: {entry.etag}, now {info.etag}", key=key, storage=self.name)
            opened.settle()
            stop = info.size if length is None else min(info.size, start + length)
            data = opened.bytes(start, max(stop - start, 0))
            if len(data) != max(stop - start, 0) or opened.changed():
                raise Changed("changed while it was read", key=key, storage=self.name)
            return Content(info, data)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:  # noqa: ARG002 - kept in the manifest
        """Write, make durable, rename. Raises PlaceFull, AccessDenied, Refused (something strange is in the way)."""
        with border(key, self.name), Unfinished(self._tree, self._workshop, key) as unfinished:
            unfinished.put(body.data, 0)
            return unfinished.publish(len(body.data))

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:  # noqa: ARG002
        """Write in parts, at once and in any order; not continued after a crash."""
        with border(key, self.name):
            return FileUpload(Unfinished(self._tree, self._workshop, key), size)

    def share(self, earlier: Storage, entry: Entry, key: bytes) -> Written | None:
        """A hard link to a file of another directory; None where the filesystem makes none, or the file has changed."""
        if not isinstance(earlier, LocalStorage):
            return None
        prefix, slash, segment = entry.key.rpartition(b"/")
        with border(key, self.name):
            try:
                there = earlier._tree.file(earlier._tree.directory(prefix + slash), segment)
                linked = Linked(self._tree, self._workshop, key, *there)
            except OSError as error:
                if error.errno in UNLINKABLE:
                    return None
                raise
            with linked:
                return linked.publish(entry.size) if linked.is_still(entry) else None

    def delete(self, key: bytes) -> None:
        """Remove a file and the directories that this leaves empty (an empty directory would be a key of its own)."""
        prefix, slash, segment = key.rpartition(b"/")
        prefix += slash
        with border(key, self.name), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            directory = self._tree.directory(prefix)
            with contextlib.suppress(FileNotFoundError):
                self._tree.unlink(directory, segment)
            self._tree.prune(prefix)

    def close(self) -> None:
        """Remove this run's directory for unfinished files and close every directory."""
        with border(None, self.name):
            self._workshop.close()
        self._tree.close()

    @contextlib.contextmanager
    def _opened(self, key: bytes) -> Iterator[_Opened]:
        opened = self._open(key)
        try:
            yield opened
        finally:
            if opened.fd >= 0:
                os.close(opened.fd)

    def _open(self, key: bytes) -> _Opened:
        prefix, slash, segment = key.rpartition(b"/")
        prefix += slash
        try:
            return self._open_file(self._tree.directory(prefix), segment)
        except FileNotFoundError:
            self._tree.forget(b"")  # a directory kept open may have been replaced
        try:
            return self._open_file(self._tree.directory(prefix), segment)
        except FileNotFoundError:
            if not prefix or segment:
                raise
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._tree.directory(prefix).fd)
        opened = _Opened(fd, os.fstat(fd))
        if os.listdir(fd):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "no such file, and the directory is not empty")
        return opened

    def _open_file(self, directory: Directory, segment: bytes) -> _Opened:
        home, name = self._tree.file(directory, segment)
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=home.fd)
        except OSError as error:
            if error.errno != errno.ELOOP or self._symlinks == "report":
                raise
            if self._symlinks == "keep":
                return _Opened(
                    -1, os.stat(name, dir_fd=home.fd, follow_symlinks=False), os.readlink(name, dir_fd=home.fd)
                )
            fd = os.open(self._tree.inside(home, name), _OPEN_FILE)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Refused("not an ordinary file", storage=self.name)
        return _Opened(fd, found)


class _Opened(NamedTuple):
    """A file, an empty directory, or (``fd`` -1) a symbolic link that is carried as its own text."""

    fd: int
    found: os.stat_result
    link: bytes = b""

    def info(self) -> ObjectInfo:
        kind = stat.S_IFMT(self.found.st_mode)
        size = len(self.link) if kind == stat.S_IFLNK else 0 if kind == stat.S_IFDIR else self.found.st_size
        metadata = Metadata(user=_LINK) if kind == stat.S_IFLNK else Metadata()
        return ObjectInfo(size, etag_of(self.found), modified=modified_of(self.found), metadata=metadata)

    def bytes(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, fewer only when the file ends before."""
        if self.fd < 0:
            return self.link[start : start + length]
        if not length:
            return b""
        data = os.pread(self.fd, length, start)
        if len(data) == length or not data:
            return data
        chunks = [data]  # the kernel gives at most 2 GiB at once
        got = len(data)
        while got < length and (data := os.pread(self.fd, length - got, start + got)):
            chunks.append(data)
            got += len(data)
        return b"".join(chunks)

    def settle(self) -> None:
        """Let a clock tick pass over a file that changed just now: until then another change may leave the same times,
        and nobody would ever notice it.
        """
        if abs(time.time() - self.found.st_ctime) < TICK_SECONDS:
            time.sleep(TICK_SECONDS)

    def changed(self) -> bool:
        """Whether size, times or content moved since the file was opened."""
        if self.fd < 0:
            return False
        now = os.fstat(self.fd)
        return now.st_size != self.found.st_size or etag_of(now) != etag_of(self.found)
