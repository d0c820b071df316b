"""What portabl knows of an fsspec filesystem: its kind, its paths, and which keys it can name exactly."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from portabl.errors import ConfigError, ContainerMissing, ListingBroken, Refused
from portabl_adapters.fsspec_errors import translated

OBJECT_STORES = frozenset({"s3", "s3a", "gcs", "gs", "abfs", "abfss", "az", "adl", "oss", "obs", "oci", "tos"})
"""Kinds that carry headers, metadata and tags, which fsspec has no way to show."""

READ_ONLY = frozenset({"http", "https", "zip", "tar", "libarchive", "data", "github", "git", "reference", "sqlar"})
SEQUENTIAL = frozenset({"http", "https", "zip", "tar", "libarchive", "ftp"})
"""Kinds where a range may cost as much as everything before it."""

_HAZARDS = (
    (re.compile("[\udc80-\udcff]"), "not UTF-8"),
    (re.compile("[\x00-\x1f\x7f]"), "a control character"),
    (re.compile(r"\\"), "a backslash"),
    (re.compile("::|://"), "fsspec gives `::` and `://` a meaning"),
    (re.compile(r"(?:^|/)\s|\s(?:/|$)"), "white space at an end"),
)
_ONE_AT_A_TIME = frozenset({"tar", "libarchive"})  # their members share one file position
_IDENTITY = ("ETag", "etag", "e_tag", "checksum", "md5", "md5Hash", "content_md5", "content_settings_md5", "generation")
_IDENTITY_PARTS = (
    "CRC",
    "ino",
    "mtime",
    "modified",
    "last_modified",
    "LastModified",
    "updated",
    "created",
    "date_time",
)


class Place:
    """A directory (or bucket, or archive) of one fsspec filesystem, opened when first needed."""

    def __init__(self, url: str, options: Mapping[str, Any], prefix: bytes, name: str) -> None:
        self.name = name
        self.kind = url.partition("::")[0].partition("://")[0].lower()
        self.serial = threading.RLock() if self.kind in _ONE_AT_A_TIME else None
        self._url = url
        self._options = options
        self._prefix = prefix
        self._lock = threading.Lock()
        self._opened: tuple[Any, str] | None = None

    def __repr__(self) -> str:
        return f"Place({self.name!r})"

    @property
    def identity(self) -> tuple[str, bytes]:
        """For `Storage.place`. Endpoint options count, credentials do not; nothing of the URL's own text is shown."""
        if self.kind in ("file", "local"):
            path = os.path.realpath(os.fsencode(self._url.partition("://")[2])).rstrip(b"/")
            return "file", path + b"/" + self._prefix
        kwargs = self._options.get("client_kwargs")
        endpoint = kwargs.get("endpoint_url") if isinstance(kwargs, Mapping) else None
        parts = (self._options.get(name) for name in ("endpoint_url", "host", "port", "account_name"))
        where = "|".join(str(part) for part in (endpoint, *parts) if part)
        chained = "::" in self._url
        seen = f"{where}|{self._url}" if chained else where
        path = b"" if chained else self._url.partition("://")[2].rstrip("/").encode("utf-8", "surrogateescape") + b"/"
        return f"{self.kind}:{hashlib.sha256(seen.encode()).hexdigest()[:16]}", path + self._prefix

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem. Raises ConfigError, ContainerMissing, AccessDenied, Unreachable."""
        return self._open()[0]

    @property
    def root(self) -> str:
        """Its path there, without a slash at the end."""
        return self._open()[1]

    def _open(self) -> tuple[Any, str]:
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    def _connect(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            # an instance of our own: fsspec's cache would keep credentials, and other users' listings
            filesystem, path = url_to_fs(self._url, **self._options, skip_instance_cache=True)
        except FileNotFoundError:
            raise ContainerMissing("no such archive or directory", storage=self.name) from None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"fsspec refuses the options ({type(error).__name__})", storage=self.name) from None
        except Exception as error:
            raise translated(error, None, self.name) from None
        cache = getattr(filesystem, "dircache", None)
        if cache is not None and hasattr(cache, "use_listings_cache"):
            cache.use_listings_cache = False  # a listing must be fresh
        prefix = self._prefix.decode("utf-8", "surrogateescape").rstrip("/")
        return filesystem, "/".join(part for part in (path.rstrip("/"), prefix) if part)

    @property
    def objects(self) -> bool:
        """Whether this is an object store: no directories, writes appear when they are complete."""
        return self.kind in OBJECT_STORES

    @property
    def web(self) -> bool:
        """Whether paths are percent-encoded URLs."""
        return self.kind in ("http", "https")

    def path(self, key: bytes) -> str:
        """The path of a key. Raises Refused for a key this filesystem could not name exactly."""
        reason = self._hazard(key)
        if reason:
            raise Refused(
                f"a {self.kind} filesystem cannot hold this key exactly: {reason}", key=key, storage=self.name
            )
        text = quote(key, safe="/") if self.web else key.decode("utf-8")
        path = f"{self.root}/{text}" if self.root else text
        if not self.exact(path):
            reason = "it would be stored under another name"
            raise Refused(
                f"a {self.kind} filesystem cannot hold this key exactly: {reason}", key=key, storage=self.name
            )
        return path

    def exact(self, path: str) -> bool:
        """Whether the filesystem itself leaves this path as it is."""
        if self.kind in ("s3", "s3a") and "?versionId=" in path:
            return False  # s3fs takes the rest for a version
        return bool(self.filesystem._strip_protocol(path) == path)

    def _hazard(self, key: bytes) -> str:
        segments = key.split(b"/")
        if b"" in segments:
            return "an empty segment"
        if b"." in segments or b".." in segments:
            return "a dot segment"
        if self.web:
            return ""
        text = key.decode("utf-8", "surrogateescape")
        found = [reason for pattern, reason in _HAZARDS if pattern.search(text)]
        return found[0] if found else ""

    def key(self, path: str) -> bytes:
        """The key of a listed path. Raises ListingBroken for a path outside the root."""
        head = f"{self.root}/" if self.root else ""
        if not path.startswith(head):
            raise ListingBroken("the listing shows something outside the directory", storage=self.name)
        rest = path[len(head) :]
        return unquote_to_bytes(rest) if self.web else rest.encode("utf-8", "surrogateescape")

    def listing(self) -> Iterator[dict[str, Any]]:
        """Every file, and every empty directory, as fsspec describes it. Raises what the backend raises."""
        filesystem = self.filesystem
        filesystem.invalidate_cache()
        if self.objects:
            found = filesystem.find(self.root, withdirs=False, detail=True)
            if not found:
                filesystem.ls(self.root.partition("/")[0])  # no objects, or no bucket?
            yield from found.values()
            return
        yield from self._walk()

    def _walk(self) -> Iterator[dict[str, Any]]:
        """Directory by directory: `find` would take a directory that cannot be read for an empty one."""
        waiting, seen = [self.root], {self.root}
        while waiting:
            directory = waiting.pop()
            try:
                children = self._children(directory)
            except FileNotFoundError:
                if directory == self.root:
                    raise
                raise ListingBroken("a directory vanished while it was listed; run again", storage=self.name) from None
            empty = not children
            for info in children:
                path = info["name"].rstrip("/")
                if info.get("type") != "directory":
                    yield info
                elif path not in seen:
                    seen.add(path)
                    waiting.append(path)
            if empty and directory != self.root:
                yield {"name": directory + "/", "size": 0, "type": "directory"}

    def _children(self, directory: str) -> list[dict[str, Any]]:
        found = []
        asked = directory + "/" if self.web else directory
        for info in self.filesystem.ls(asked, detail=True):
            name = info["name"]
            if self.web:
                page, _, query = name.partition("?")
                if query and page.rstrip("/") == directory:
                    continue  # a link that sorts this very page
                if not name.startswith(directory + "/") or name.rstrip("/") == directory:
                    continue  # a link to somewhere else is no file of this directory
            elif name.rstrip("/") == directory.rstrip("/") and info.get("type") == "directory":
                continue
            found.append(info)
        return found


def etag_of(info: Mapping[str, Any]) -> str:
    """Identity of an object's content, "" when the backend shows none: a digest or generation, else times and inode."""
    for name in _IDENTITY:
        if info.get(name):
            return str(info[name]).strip('"')
    return "-".join(_text(info[name]) for name in _IDENTITY_PARTS if info.get(name) not in (None, ""))


def _text(value: object) -> str:
    """One text for one value: some backends show a time as a number in a listing and as a datetime elsewhere."""
    return str(value.timestamp()) if isinstance(value, datetime) else str(value)


def modified_of(info: Mapping[str, Any]) -> str:
    """The time of the last change, as text."""
    for name in ("LastModified", "last_modified", "mtime", "modified", "updated", "created"):
        if info.get(name):
            return _text(info[name])
    return ""
