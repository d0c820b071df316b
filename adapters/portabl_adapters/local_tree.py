"""A directory tree reached only through open directories: no symbolic link is followed, no path is too long.

Every step is an `openat` from a directory that is already open, so a key of any depth works although the kernel limits
one path to 4,096 bytes, and a link planted in the tree leads nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator

from portabl.errors import AccessDenied, Changed, NotFound, PlaceFull, Refused, StorageError
from portabl.keys import show
from portabl_adapters.local_names import Names, alternative, natural, not_itself, spellings

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_KEPT_OPEN = 64
_REFUSED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR,
            errno.ENXIO, errno.EXDEV, errno.EEXIST, errno.ENOTEMPTY}  # fmt: skip


def translated(error: OSError, key: bytes | None, storage: str) -> StorageError:
    """The one border between the operating system's errors and portabl's."""
    number = error.errno or 0
    reason = error.strerror or "input/output error"
    if number == errno.ENOENT:
        return NotFound("no such object", key=key, storage=storage)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessDenied(f"no permission: {reason}", key=key, storage=storage)
    if number in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, then run the same command again"
        return PlaceFull(f"no space left at the target: {reason}", key=key, storage=storage, hint=hint)
    if number in _REFUSED and key is not None:
        return Refused(f"the filesystem cannot hold this: {reason}", key=key, storage=storage)
    if number == errno.ESTALE:
        return Changed(f"the file was replaced: {reason}", key=key, storage=storage)
    return StorageError(f"the filesystem failed: {reason}", key=key, storage=storage)


@contextlib.contextmanager
def border(key: bytes | None, storage: str) -> Iterator[None]:
    """Lets no OSError pass."""
    try:
        yield
    except StorageError as error:  # NotFound is an OSError too
        error.key = key if error.key is None else error.key
        raise
    except OSError as error:
        raise translated(error, key, storage) from error


class Directory:
    """An open directory; closed when the last user lets go, so a cache may drop it while a thread works in it."""

    __slots__ = ("_condition", "_done", "_failure", "_running", "_started", "fd", "identities")

    def __init__(self, fd: int, identities: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.fd = fd
        self.identities = identities
        self._condition = threading.Condition()
        self._started = self._done = 0
        self._running = False
        self._failure: OSError | None = None

    def __del__(self) -> None:
        os.close(self.fd)

    def again(self) -> int:
        """A new descriptor of this directory, for reading its names; the caller closes it.

        `os.scandir` and `os.listdir` read through a duplicate, which shares its position with the original: two threads
        reading one directory through ``fd`` would each miss names.
        """
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)

    def names(self) -> list[bytes]:
        """Every name in here, in no order."""
        fd = self.again()
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Make every name in here durable. Threads share: one `fsync` serves all who asked before it began."""
        with self._condition:
            mine = self._started + 1  # the one running now, if any, may have begun before our rename
            while self._done < mine:
                if self._failure:  # the kernel reports a lost write once; nobody after that may call it safe
                    raise self._failure
                if self._running:
                    self._condition.wait()
                    continue
                self._running = True
                self._started += 1
                self._lead(self._started)

    def _lead(self, number: int) -> None:
        self._condition.release()
        try:
            os.fsync(self.fd)
        except OSError as error:
            self._failure = error
        finally:
            self._condition.acquire()
            self._running = False
            if self._failure is None:
                self._done = number
            self._condition.notify_all()

    def kind(self, name: bytes) -> int | None:
        """The file type bits of what has this name (a link's own), None when nothing has."""
        try:
            return stat.S_IFMT(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return None

    def below(self, name: bytes) -> Directory:
        """Open a directory in here; links are refused (NotADirectoryError)."""
        return Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=self.fd))

    def made(self, name: bytes) -> Directory:
        """Open a directory in here, making it (durably) when nothing has this name."""
        try:
            return self.below(name)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.fd)
            child = self.below(name)
            self.sync()
            return child


class Tree:
    """Finds the directory of a key. ``links``: follow symbolic links that stay inside the tree. ``plain``: write every
    segment under its own name, and refuse it where that is taken.
    """

    def __init__(self, root: bytes, storage: str, *, links: bool = False, plain: bool = False) -> None:
        self.root_path = root
        self.storage = storage
        self.links = links
        self.plain = plain
        self.fold = False
        self._cache: OrderedDict[bytes, Directory] = OrderedDict()
        self._lock = threading.Lock()

    def root(self) -> Directory:
        """The open root directory. Raises OSError."""
        kept = self._recall(b"")
        if kept is None:
            fd = os.open(self.root_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            kept = self._keep(b"", Directory(fd, frozenset({_identity(fd)})))
        return kept

    def directory(self, prefix: bytes, *, create: bool = False) -> Directory:
        """The directory for keys that begin with ``prefix`` ("" or ending in "/"). Raises OSError."""
        kept = self._recall(prefix)
        if kept is not None:
            return kept
        known, current, rest = self._nearest(prefix)
        for segment in rest:
            known += segment + b"/"
            current = self._keep(known, self._enter(current, segment, create))
        return current

    def _nearest(self, prefix: bytes) -> tuple[bytes, Directory, list[bytes]]:
        """The deepest directory above ``prefix`` that is open already, and the segments from there on."""
        segments: list[bytes] = []
        while prefix:
            segment = prefix[:-1].rpartition(b"/")[2]
            prefix = prefix[: len(prefix) - 1 - len(segment)]
            segments.append(segment)
            kept = self._recall(prefix)
            if kept is not None:
                return prefix, kept, segments[::-1]
        return b"", self.root(), segments[::-1]

    def _enter(self, parent: Directory, segment: bytes, create: bool) -> Directory:
        for names in spellings(segment, self.fold):
            if not self._exact(parent, names) or (names == (segment,) and not_itself(segment)):
                continue
            try:
                return self._chain(parent, names)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno != errno.ELOOP or not create:
                    raise
        if not create:
            raise FileNotFoundError(errno.ENOENT, "no such directory")
        return self._make(parent, segment)

    def _make(self, parent: Directory, segment: bytes) -> Directory:
        for names in self._choices(parent, segment):
            current = parent
            try:
                for name in names:
                    current = current.made(name)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                if current.kind(name) == stat.S_IFREG and name == names[-1]:
                    continue
                raise Refused(
                    f"something that is no directory is in the way: {show(name)}", storage=self.storage
                ) from None
            return current
        raise Refused(f"every name for this directory is taken: {show(segment)}", storage=self.storage)

    def _chain(self, parent: Directory, names: Names) -> Directory:
        for name in names:
            parent = self._step(parent, name)
        return parent

    def _step(self, parent: Directory, name: bytes) -> Directory:
        if not self.links:
            return parent.below(name)
        if parent.kind(name) == stat.S_IFLNK:
            fd = os.open(self.inside(parent, name), _OPEN_DIRECTORY)
        else:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent.fd)
        identity = _identity(fd)
        child = Directory(fd, parent.identities | {identity})
        if identity in parent.identities:
            raise OSError(errno.ELOOP, "a symbolic link leads back to a directory above it")
        return child

    def inside(self, parent: Directory, name: bytes) -> bytes:
        """Where a followed link ends. Raises OSError (ELOOP) when that is outside the tree or the link is broken."""
        here = os.readlink(b"/proc/self/fd/%d" % parent.fd)
        try:
            real = os.path.realpath(os.path.join(here, name), strict=True)
        except FileNotFoundError:
            raise OSError(errno.ELOOP, "the symbolic link is broken") from None
        if not (real + b"/").startswith(self.root_path.rstrip(b"/") + b"/"):
            raise OSError(errno.ELOOP, "the symbolic link leads out of the tree")
        return real

    def _exact(self, parent: Directory, names: Names) -> bool:
        """On a filesystem that ignores case, opening a name proves nothing: look for its exact spelling."""
        if not self.fold or len(names) > 1 or (names[0] == names[0].lower() and names[0].isascii()):
            return True
        return names[0] in parent.names()

    def file(self, parent: Directory, segment: bytes) -> tuple[Directory, bytes]:
        """The directory and name of an existing file (or anything else that is no directory). Raises OSError."""
        for names in spellings(segment, self.fold):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                home = self._chain(parent, names[:-1])
                kind = home.kind(names[-1])
                if kind is not None and kind != stat.S_IFDIR and self._exact(home, names[-1:]):
                    return home, names[-1]
        raise FileNotFoundError(errno.ENOENT, "no such file")

    def room(self, parent: Directory, segment: bytes) -> tuple[Directory, bytes]:
        """Where to write a file: its present place, else a free name. Raises OSError or Refused."""
        choices = self._choices(parent, segment)
        kinds = [self._kind(parent, names) for names in choices]
        for wanted in (stat.S_IFREG, None):
            for names, kind in zip(choices, kinds, strict=True):
                if kind == wanted:
                    home = parent
                    for name in names[:-1]:
                        home = home.made(name)
                    return home, names[-1]
                if kind not in (None, stat.S_IFREG, stat.S_IFDIR):
                    raise Refused(f"no ordinary file is in the way: {show(names[-1])}", storage=self.storage)
        raise Refused("every name for this file is taken by a directory", storage=self.storage)

    def _choices(self, parent: Directory, segment: bytes) -> tuple[Names, ...]:
        """The names a segment may be written under, best first. Raises Refused."""
        if not self.plain:
            return natural(segment, self.fold), alternative(segment, self.fold)
        there = self.fold and parent.kind(segment) is not None and segment not in parent.names()
        if there or natural(segment) != (segment,):
            raise Refused(f"no file can have this name here: {show(segment)}", storage=self.storage)
        return ((segment,),)

    def _kind(self, parent: Directory, names: Names) -> int | None:
        try:
            return self._chain(parent, names[:-1]).kind(names[-1])
        except FileNotFoundError:
            return None

    def unlink(self, parent: Directory, segment: bytes) -> None:
        """Remove a file, durably, and the directories its name alone needed. Raises FileNotFoundError."""
        home, name = self.file(parent, segment)
        os.unlink(name, dir_fd=home.fd)
        home.sync()
        for names in spellings(segment, self.fold):
            if names[-1] == name and len(names) > 1:
                self._unmake(parent, names[:-1])

    def _unmake(self, parent: Directory, names: Names) -> bool:
        """Remove a chain of directories as far as it is empty; whether the first is gone too. Raises OSError."""
        chain = [parent]
        for name in names[:-1]:
            chain.append(chain[-1].below(name))
        for home, name in zip(reversed(chain), reversed(names), strict=True):
            try:
                os.rmdir(name, dir_fd=home.fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
        return True

    def prune(self, prefix: bytes) -> None:
        """Remove the directory of ``prefix`` and those above it as far as they are empty; never the root."""
        while prefix:
            segment = prefix[:-1].rpartition(b"/")[2]
            above = prefix[: len(prefix) - 1 - len(segment)]
            parent = self.directory(above)
            empty = self.directory(prefix)
            self.forget(prefix)  # also when only a part of it goes: the alternative name may share the first pieces
            if not self._removed(parent, segment, empty):
                return
            parent.sync()
            prefix = above

    def _removed(self, parent: Directory, segment: bytes, empty: Directory) -> bool:
        for names in spellings(segment, self.fold):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = self._chain(parent, names)
                if _identity(found.fd) == _identity(empty.fd):
                    return self._unmake(parent, names)
        return False

    def forget(self, prefix: bytes) -> None:
        """Drop open directories at and below a prefix, because one was removed or replaced."""
        with self._lock:
            for known in [k for k in self._cache if k.startswith(prefix)]:
                del self._cache[known]

    def close(self) -> None:
        """Let go of every open directory."""
        with self._lock:
            self._cache.clear()

    def _recall(self, prefix: bytes) -> Directory | None:
        with self._lock:
            kept = self._cache.get(prefix)
            if kept is not None:
                self._cache.move_to_end(prefix)
            return kept

    def _keep(self, prefix: bytes, directory: Directory) -> Directory:
        with self._lock:
            kept = self._cache.setdefault(prefix, directory)
            self._cache.move_to_end(prefix)
            while len(self._cache) > _KEPT_OPEN:
                self._cache.popitem(last=False)
            return kept


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
