"""Trouble with files in portabl's words and without secrets; names of files that are being written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator, Mapping

from portabl.errors import AccessDenied, NotFound, PortablError, StateFull, StorageError

_TEMPORARY = re.compile(r"(?:^|/)\.[^/]+\.[0-9a-f]{16}\.tmp$").search
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def is_temporary(name: str) -> bool:
    """Whether a file is one that a killed writer left, or a living one has not finished."""
    return bool(_TEMPORARY(name))


def temporary(name: str) -> str:
    """A name beside this one, for what is not whole yet; `is_temporary` knows it."""
    directory, base = os.path.split(name)
    return os.path.join(directory, f".{base}.{secrets.token_hex(8)}.tmp")


@contextlib.contextmanager
def translated(url: str, name: str, options: Mapping[str, object] | None = None) -> Iterator[None]:
    """What the block raises becomes NotFound, StateFull, AccessDenied or StorageError. ``options`` are never shown."""
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
        why = error.strerror or printable(str(error), options)
        raise StorageError(f"{name}: {why}", storage=url) from None


def printable(text: str, options: Mapping[str, object] | None) -> str:
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
