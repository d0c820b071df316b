"""Writing files so that they are there completely and durably, or not at all.

A file is written under a directory of its own run, `%~tmp-<16 hex>` at the root of the target, made durable, renamed to
its place, and the directory of that place made durable too. The run holds a lock (flock) on its directory as long as it
lives, so a listing tells unfinished work from litter, and the next run removes litter without guessing. A run removes
its directory at the end: nothing of portabl's own stays at the target.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import secrets
import stat
import threading
from collections.abc import Sequence

from portabl.errors import Corrupt, Refused, StorageError
from portabl.model import Body, Entry, Written
from portabl.storage import Upload
from portabl_adapters.local_names import temporary
from portabl_adapters.local_tree import Directory, Tree, border
from portabl_adapters.local_walk import etag_of, modified_of

_ATTEMPTS = 16
"""How often a place may be taken away (a directory removed, a name occupied) between looking and renaming."""

_OPEN_LINKED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
UNLINKABLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ELOOP}
)
"""What a filesystem says that makes no hard link of a file: gone, elsewhere, too many, or not allowed."""

_UNFINISHED = re.compile(rb"[0-9a-f]{1,16}")


class Workshop:
    """The directory for this run's unfinished files. Made at the first write, removed by `close`."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._directory: Directory | None = None
        self._name = b""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def directory(self) -> Directory:
        """The open, locked directory. Raises OSError."""
        with self._lock:
            while self._directory is None:
                self._directory = self._made(self.tree.root())
            return self._directory

    def _made(self, root: Directory) -> Directory | None:
        self._name = b"%~tmp-" + secrets.token_hex(8).encode()
        os.mkdir(self._name, 0o700, dir_fd=root.fd)
        try:
            made = root.below(self._name)
            fcntl.flock(made.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            return None  # another run was clearing litter just now; take another name
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._name, dir_fd=root.fd).st_ino == os.fstat(made.fd).st_ino:
                self.tree.fold = root.kind(self._name.upper()) is not None
                return made
        return None

    def name(self) -> tuple[Directory, str]:
        """A free name and its directory. Raises OSError."""
        return self.directory(), f"{next(self._numbers):x}"

    def file(self) -> tuple[Directory, str, int]:
        """A new empty file: its directory, name and descriptor. Raises OSError."""
        home, name = self.name()
        return home, name, os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=home.fd)

    def close(self) -> None:
        """Remove the directory and what a failed write may have left in it."""
        with self._lock:
            if self._directory is None:
                return
            root = self.tree.root()
            _clear(root, self._name, self._directory)
            self._directory = None


def clear_litter(root: Directory) -> None:
    """Remove what killed runs left: directories of that pattern, held by no living run, nothing strange in them."""
    for name in root.names():
        if not temporary(name):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, BlockingIOError):
            directory = root.below(name)
            fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if all(_UNFINISHED.fullmatch(inner) for inner in directory.names()):
                _clear(root, name, directory)


def _clear(root: Directory, name: bytes, directory: Directory) -> None:
    for inner in directory.names():
        if _UNFINISHED.fullmatch(inner):
            os.unlink(inner, dir_fd=directory.fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=root.fd)


class Unfinished:
    """One file being written. Leaving the context without `publish` removes it."""

    def __init__(self, tree: Tree, workshop: Workshop, key: bytes) -> None:
        self.tree = tree
        self.key = key
        self._home, self._name, self.fd = workshop.file()
        self._there = True

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; what was not published is gone."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._there:
            os.unlink(self._name, dir_fd=self._home.fd)

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of ``data`` at ``offset``. Raises OSError."""
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while view:
            count = os.pwrite(self.fd, view, offset)
            view, offset = view[count:], offset + count

    def publish(self, size: int) -> Written:
        """Make the file visible under its key, whole and durable. Raises Corrupt, Refused, OSError."""
        found = os.fstat(self.fd).st_size
        if found != size:
            raise Corrupt(
                f"sizes differ: sent {size} bytes, the file has {found}", key=self.key, storage=self.tree.storage
            )
        os.fsync(self.fd)
        place = self._moved()
        written = Written(etag_of(os.fstat(self.fd)))  # only now: a rename changes ctime
        place.sync()
        return written

    def _moved(self) -> Directory:
        prefix, slash, segment = self.key.rpartition(b"/")
        prefix += slash
        for _ in range(_ATTEMPTS):
            try:
                place, name = self.tree.room(self.tree.directory(prefix, create=True), segment)
                os.rename(self._name, name, src_dir_fd=self._home.fd, dst_dir_fd=place.fd)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError):
                self.tree.forget(b"")  # another thread or program removed the directory or took the name; look again
                continue
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise Refused("another filesystem is mounted below the target", key=self.key) from error
                raise
            self._there = False
            return place
        raise StorageError("its place keeps changing under us", key=self.key, storage=self.tree.storage)


class Linked(Unfinished):
    """A second name for a file that lies elsewhere on the filesystem, on its way to its place."""

    def __init__(self, tree: Tree, workshop: Workshop, key: bytes, there: Directory, name: bytes) -> None:
        self.tree = tree
        self.key = key
        self._home, self._name = workshop.name()
        os.link(name, self._name, src_dir_fd=there.fd, dst_dir_fd=self._home.fd, follow_symlinks=False)
        self._there = True
        try:
            self.fd = os.open(self._name, _OPEN_LINKED, dir_fd=self._home.fd)
        except OSError:
            os.unlink(self._name, dir_fd=self._home.fd)
            raise

    def is_still(self, entry: Entry) -> bool:
        """Whether this is an ordinary file of the size and modification time that are known of it."""
        found = os.fstat(self.fd)
        good = stat.S_ISREG(found.st_mode) and found.st_size == entry.size
        return good and entry.modified in ("", modified_of(found))

    def _moved(self) -> Directory:
        place = super()._moved()
        with contextlib.suppress(FileNotFoundError):  # rename does nothing where both names are one file already
            os.unlink(self._name, dir_fd=self._home.fd)
        return place


class FileUpload(Upload):
    """A file written in parts, at any offset and from any thread. A killed upload begins again: ``token`` is empty."""

    def __init__(self, unfinished: Unfinished, size: int) -> None:
        self.done = {}
        self._file = unfinished
        self._size = size
        self._parts: dict[int, tuple[int, int]] = {}

    def part(self, number: int, body: Body, offset: int) -> str:
        """Write one part. Raises PlaceFull, StorageError."""
        with border(self._file.key, self._file.tree.storage):
            self._file.put(body.data, offset)
        self._parts[number] = (offset, len(body.data))
        return body.sha256

    def finish(self, tags: Sequence[str], sha256: str) -> Written:  # noqa: ARG002 - a filesystem has no digest to check
        """Check that the parts cover the file without a gap, then make it visible."""
        end = 0
        for number in range(1, len(tags) + 1):
            offset, length = self._parts.get(number, (-1, 0))
            if offset != end:
                problem = f"part {number} is missing or not at byte {end}"
                raise Corrupt(problem, key=self._file.key, storage=self._file.tree.storage)
            end += length
        with border(self._file.key, self._file.tree.storage):
            written = self._file.publish(self._size)
            self._file.close()
        return written

    def abort(self) -> None:
        """Remove the unfinished file."""
        with border(self._file.key, self._file.tree.storage):
            self._file.close()
