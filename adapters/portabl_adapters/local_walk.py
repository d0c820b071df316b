"""Walking a directory tree in raw byte order of the keys.

One directory is read and sorted at a time (memory: about 250 bytes a name of the directories on the way down, never of
the whole tree). A file sorts as its name, a directory as its name with a slash, so `a-b` comes before `a/x`. Pieces of
long names (local_names.py) are put together before sorting.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from portabl.errors import ContainerMissing
from portabl.keys import show
from portabl.model import Entry
from portabl_adapters.local_names import PREFIX, Names, piece, spellings, temporary, understand
from portabl_adapters.local_tree import Directory, Tree, border, translated

_HELD_DEPTH = 32
_KINDS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


_ODD = 9  # rank of what stands for no key


class Item(NamedTuple):
    """One thing in a directory. ``order``: its segment, and a slash when there may be keys below it."""

    order: bytes
    rank: int
    name: bytes
    home: Directory | None
    """Where the name is, when that is not the directory being listed (a piece of a long name)."""
    problem: str = ""


class Frame(NamedTuple):
    """A directory being walked."""

    prefix: bytes
    directory: Directory | None
    items: Iterator[Item]


def etag_of(found: os.stat_result) -> str:
    """Identity of a file's present content: inode, modification and change time (the latter cannot be set back)."""
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


def modified_of(found: os.stat_result) -> str:
    """Modification time, RFC 3339 in UTC with nanoseconds."""
    seconds, rest = divmod(found.st_mtime_ns, 10**9)
    return f"{_second(seconds)}.{rest:09d}Z"


@lru_cache(1024)
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a time no calendar has; it is only ever compared
        return f"@{seconds}"


class Walk:
    """`Storage.entries` for a tree. ``symlinks``: "report", "follow" or "keep"."""

    def __init__(self, tree: Tree, symlinks: str) -> None:
        self.tree = tree
        self.symlinks = symlinks

    def entries(self, after: bytes | None) -> Iterator[Entry]:
        """Every file with key > ``after``, in order. Raises AccessDenied, ContainerMissing, StorageError."""
        with border(None, self.tree.storage):
            try:
                root = self.tree.root()
            except FileNotFoundError:
                raise ContainerMissing("no such directory", storage=self.tree.storage) from None
            stack = [Frame(b"", root, _sorted(list(self._listed(root)), b"", after))]
        while stack:
            prefix, held, items = stack[-1]
            item = next(items, None)
            if item is None:
                stack.pop()
                continue
            try:
                if item.order[-1:] == b"/":
                    entry = self._descend(stack, prefix + item.order, after)
                else:
                    entry = self._entry(prefix, item, held)
            except OSError as error:
                raise translated(error, prefix + item.order, self.tree.storage) from error
            if entry is not None:
                yield entry

    def _descend(self, stack: list[Frame], prefix: bytes, after: bytes | None) -> Entry | None:
        """Put a directory on the stack, or return the one entry that stands for it (empty, unreadable)."""
        try:
            directory = self.tree.directory(prefix)
            found = list(self._listed(directory))
        except (FileNotFoundError, NotADirectoryError):
            return None  # removed since its parent was read: gone, like a file that was deleted
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP):
                raise
            return _unless_passed(Entry(prefix, 0, problem=f"directory cannot be read: {error.strerror}"), after)
        if not found:
            seen = os.fstat(directory.fd)
            return _unless_passed(Entry(prefix, 0, etag_of(seen), modified_of(seen)), after)
        held = directory if len(stack) < _HELD_DEPTH else None  # deep trees must not use up the open files
        stack.append(Frame(prefix, held, _sorted(found, prefix, after)))
        return None

    def _listed(self, directory: Directory, pieces: Names = ()) -> Iterator[Item]:
        home = directory if pieces else None
        with contextlib.ExitStack() as stack:
            fd = directory.again()
            stack.callback(os.close, fd)
            for found in stack.enter_context(os.scandir(fd)):
                name = os.fsencode(found.name)
                is_directory = self._is_directory(found, directory, name)
                if name[:2] == PREFIX or pieces:
                    yield from self._spelled(directory, (*pieces, name), is_directory, home)
                else:
                    yield Item(name + b"/" if is_directory else name, 0, name, None)

    def _is_directory(self, found: os.DirEntry[str], directory: Directory, name: bytes) -> bool:
        if found.is_dir(follow_symlinks=False):
            return True
        if self.symlinks != "follow" or not found.is_symlink():
            return False
        try:
            return os.path.isdir(self.tree.inside(directory, name))
        except OSError:
            return False  # a link that cannot be followed is one entry, with its problem

    def _spelled(self, at: Directory, names: Names, is_directory: bool, home: Directory | None) -> Iterator[Item]:
        name, slash = names[-1], b"/" if is_directory else b""
        if is_directory and temporary(name):
            if not in_use(at, name):
                problem = "left behind by a run that was killed; the next run into this directory clears it"
                yield Item(name, _ODD, name, home, problem)
            return
        if is_directory and piece(name):
            inner = list(self._listed(at.below(name), names))
            yield from inner
            if not inner:
                problem = "looks like part of a long name, but is empty"
                yield Item(b"\0".join(names), _ODD, name, home, problem)
            return
        segment = understand(names)
        if segment is None:
            problem = "looks like part of a long name, but is none that portabl writes"
            yield Item(b"\0".join(names), _ODD, name, home, problem)
            return
        yield Item(segment + slash, _rank(segment, names, self.tree.fold), name, home)

    def _entry(self, prefix: bytes, item: Item, held: Directory | None) -> Entry | None:
        key = prefix + item.order
        if item.problem:
            return Entry(key, 0, problem=item.problem)
        try:
            home = item.home or held or self.tree.directory(prefix)
            found = os.stat(item.name, dir_fd=home.fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                return self._link(key, home, item.name, found)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            return Entry(key, 0, problem=f"cannot be looked at: {error.strerror}")
        if not stat.S_ISREG(found.st_mode):
            return Entry(key, 0, problem=_KINDS.get(stat.S_IFMT(found.st_mode), "not an ordinary file"))
        return Entry(key, found.st_size, etag_of(found), modified_of(found))

    def _link(self, key: bytes, home: Directory, name: bytes, found: os.stat_result) -> Entry:
        target = os.readlink(name, dir_fd=home.fd)
        if self.symlinks == "keep":
            return Entry(key, len(target), etag_of(found), modified_of(found))
        if self.symlinks == "report":
            return Entry(key, 0, problem=f"symbolic link to {show(target)}")
        try:
            real = os.stat(self.tree.inside(home, name), follow_symlinks=False)
        except OSError as error:
            return Entry(key, 0, problem=f"symbolic link to {show(target)}: {error.strerror}")
        if not stat.S_ISREG(real.st_mode):
            return Entry(key, 0, problem=f"symbolic link to {show(target)}: not an ordinary file")
        return Entry(key, real.st_size, etag_of(real), modified_of(real))


def _unless_passed(entry: Entry, after: bytes | None) -> Entry | None:
    return entry if after is None or entry.key > after else None


def _rank(segment: bytes, names: Names, fold: bool) -> int:
    known = list(spellings(segment, fold))
    return known.index(names) if names in known else len(known)


def _sorted(items: list[Item], prefix: bytes, after: bytes | None) -> Iterator[Item]:
    items.sort(key=lambda item: (item.order, item.rank, item.name))
    if any(item.rank for item in items):
        items = _distinct(items)
    if after is None:
        return iter(items)
    return (item for item in items if _wanted(prefix, item.order, after))


def _wanted(prefix: bytes, order: bytes, after: bytes) -> bool:
    """False for a file up to ``after``, and for a directory of which every key is."""
    key = prefix + order
    return key > after or (order[-1:] == b"/" and after.startswith(key))


def _distinct(items: list[Item]) -> list[Item]:
    """Where two names stand for one key, the first counts; the others become problems under keys of their own."""
    taken: set[bytes] = set()
    kept: list[Item] = []
    for item in items:
        found = item
        if item.order in taken and not item.problem:
            problem = f"a second name for one key: {show(item.name)}; rename or remove one of them"
            found = Item(item.name, _ODD, item.name, item.home, problem)
        order = found.order
        while order in taken or (found.problem and order + b"/" in taken):
            order += b"\0"
        taken.add(order)
        kept.append(found._replace(order=order))
    return sorted(kept)


def in_use(parent: Directory, name: bytes) -> bool:
    """Whether a living run holds the lock of this directory for unfinished files."""
    try:
        directory = parent.below(name)
    except FileNotFoundError:
        return True  # its run just finished
    try:
        fcntl.flock(directory.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
