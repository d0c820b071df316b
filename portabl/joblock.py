"""The lock that lets one run of a job go on at a time: on a file, and gone with the process however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

_HELD = (errno.EACCES, errno.EAGAIN)
_NONE_HERE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
TRIES = 10


def lock(path: Path) -> Callable[[], None] | None:
    """Lock a file, which is made if need be. What releases it again; None when somebody else holds it.

    Raises OSError. Where the kernel has no such locks (Windows, some file systems) the package filelock finds a way;
    to load it takes longer than to copy a small object.
    """
    try:
        import fcntl
    except ImportError:
        return _by_package(path, soft=False)
    for _ in range(TRIES):
        with contextlib.ExitStack() as held:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            held.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    return None
                if error.errno in _NONE_HERE:
                    return _by_package(path, soft=True)
                raise
            if _is_at(file, path):
                return held.pop_all().close
    return None  # others take it and remove it all the time


def _is_at(file: int, path: Path) -> bool:
    """Whoever held the file may have removed it meanwhile: a lock on it would keep nobody out."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(path))
    return False


def _by_package(path: Path, *, soft: bool) -> Callable[[], None] | None:
    """``soft``: to be there is to be held, which needs nothing of the kernel."""
    from filelock import FileLock, SoftFileLock, Timeout

    kind = SoftFileLock if soft else FileLock
    held = kind(f"{path}.soft", timeout=0)  # a file of its own, which is gone when nobody holds it
    try:
        held.acquire()
    except Timeout:
        return None
    return held.release
