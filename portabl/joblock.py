"""The lock that lets one run of a job go on at a time: on a file, and gone with the process however that ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

_HELD = (errno.EACCES, errno.EAGAIN)


def lock(path: Path) -> Callable[[], None] | None:
    """Lock a file, which is made if need be. What releases it again; None when somebody else holds it.

    Raises OSError. Where the kernel has no such locks (Windows, some file systems) the package filelock finds a way;
    to load it takes longer than to copy a small object.
    """
    try:
        import fcntl
    except ImportError:
        return _by_package(path)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in _HELD:
                return None
            if error.errno == errno.ENOSYS:
                return _by_package(path)
            raise
        if os.fstat(file).st_nlink:
            return partial(os.close, file)
        os.close(file)  # whoever held it has removed it meanwhile: a lock on it would keep nobody out


def _by_package(path: Path) -> Callable[[], None] | None:
    from filelock import FileLock, Timeout

    held = FileLock(
        f"{path}.soft", timeout=0
    )  # a file of its own, because where this matters, to be there is to be held
    try:
        held.acquire()
    except Timeout:
        return None
    return held.release
