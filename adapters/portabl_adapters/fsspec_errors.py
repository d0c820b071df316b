"""The one border between what fsspec backends raise and `portabl.errors`.

Backends raise what their vendor's library raises. It is told apart by shape (an HTTP status, an error code), not by
import, and its text is never passed on: it may hold a signed URL or a password.
"""

from __future__ import annotations

import errno
import os

from portabl.errors import (
    AccessDenied,
    ConfigError,
    Corrupt,
    CredentialsRefused,
    NotFound,
    PlaceFull,
    PortablError,
    Refused,
    StorageError,
    Throttled,
    Unreachable,
)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
_NETWORK = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EPIPE)
_DAMAGED = ("BadZipFile", "ReadError", "BadGzipFile", "LZMAError", "error")


def translated(error: Exception, key: bytes | None, storage: str) -> PortablError:
    """What an exception of a backend means. Keeps an error of ours, filling in which object and place it concerns."""
    if isinstance(error, PortablError):
        error.key = key if error.key is None else error.key
        error.storage = error.storage or storage
        return error
    kind, reason = _kind(error)
    hint = "install what is missing (with pip, beside portabl)" if isinstance(error, ImportError) else ""
    return kind(reason, key=key, storage=storage, hint=hint)


def _kind(error: Exception) -> tuple[type[PortablError], str]:  # noqa: PLR0911 - one line a kind
    status = _status(error)
    if status:
        return _by_status(status, error)
    name = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
    if isinstance(error, FileNotFoundError):
        return NotFound, "no such object"
    if isinstance(error, PermissionError):
        return AccessDenied, "credentials refused, or no permission"
    if isinstance(error, ImportError):
        return ConfigError, f"a package for this kind of URL is missing: {_missing(error)}"
    if isinstance(error, NotImplementedError):
        return Refused, "this filesystem cannot do that"
    if isinstance(error, TimeoutError | ConnectionError):
        return Unreachable, f"no answer ({name})"
    if isinstance(error, OSError) and error.errno is not None:
        return _by_number(error.errno)
    if isinstance(error, EOFError) or type(error).__name__ in _DAMAGED:
        return Corrupt, f"damaged data ({name})"
    if "Credential" in name or "Auth" in name:
        return CredentialsRefused, f"no usable credentials ({name})"
    if name.startswith(("aiohttp.", "botocore.", "paramiko.", "httpx.", "requests.", "urllib3.", "asyncssh.")):
        return Unreachable, f"no usable answer ({name})"
    return StorageError, f"the filesystem failed ({name})"


def _missing(error: ImportError) -> str:
    """Which package: as fsspec's own table words it, which holds nothing of the user's; else the module's name."""
    from fsspec.registry import known_implementations

    if str(error) in {known.get("err") for known in known_implementations.values()}:
        return str(error)
    return error.name or getattr(error.__cause__, "name", "") or type(error).__name__


def _by_number(number: int) -> tuple[type[PortablError], str]:
    reason = os.strerror(number)  # the exception's own text may hold an address
    if number in _NETWORK:
        return Unreachable, f"no answer: {reason}"
    if number in _FULL:
        return PlaceFull, f"no space left at the target: {reason}"
    if number in _REFUSED:
        return Refused, f"the filesystem cannot hold this: {reason}"
    return StorageError, f"the filesystem failed: {reason}"


def _by_status(status: int, error: Exception) -> tuple[type[PortablError], str]:
    code = _code(error)
    said = f"HTTP {status}{' ' + code if code else ''}"
    if status in (404, 410):
        return NotFound, "no such object"
    if status in (401, 403, 407):
        return AccessDenied, f"credentials refused, or no permission ({said})"
    if status in (429, 503):
        return Throttled, f"asked to slow down ({said})"
    if status == 507:
        return PlaceFull, "no space left at the target"
    if status >= 500 or status == 408:
        return Unreachable, f"the server failed ({said})"
    return Refused, f"the server refused this ({said})"


def _status(error: Exception) -> int:
    """The HTTP status, wherever aiohttp, botocore, azure, gcsfs or webdav put it; 0 when there is none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else 0
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    cause = error.__cause__
    return _status(cause) if isinstance(cause, Exception) and not isinstance(error, FileNotFoundError) else 0


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return code if isinstance(code, str) and code.isalnum() else ""
