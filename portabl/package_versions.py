"""All versions in a package: each version is a file of its own, and on the way into it an object of its own.

Version 3 of ``a/b.txt`` is the file ``a/b.txt!v3``; a deletion is the empty file ``a/b.txt!v4-deleted``. No key has
such a name (see `package_names`), so a payload tells its histories by itself. While a package is made a version goes by
a key that says all this, in the order of key and ordinal; so copying, sharing, encrypting and streaming know nothing of
versions. Manifests know nothing of such keys: `folded` and `flat` go between the two.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from portabl.errors import Refused, UsageError
from portabl.listing import Filter, Listing, VersionListing
from portabl.manifest import Manifest, retold
from portabl.model import Content, Entry, ObjectInfo, Record
from portabl.package_names import Names, canonical
from portabl.payload import Payload
from portabl.plan import Line
from portabl.records import encode
from portabl.storage import Capabilities, Storage
from portabl.wrappers import Around

NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()
"""Of the file of a deletion."""

_SUFFIX = re.compile(rb"!v([1-9][0-9]{0,8})(-deleted)?")
_FLAT = re.compile(rb"(?s).*\x00\x01.{4}[vx]").fullmatch
_END, _NUL = b"\0\1", b"\0\xff"  # a key ends before it goes on, whatever bytes are in it
_CHANGED = "the history of this key changed while it was read: run the export again into another place"


class Version(NamedTuple):
    """What a version goes by: its key, its ordinal among the versions of the key (from 1), whether it is a deletion."""

    key: bytes
    ordinal: int
    gone: bool


def flat_key(key: bytes, ordinal: int, *, gone: bool) -> bytes:
    """One key for a version; such keys sort as (key, ordinal) do."""
    return key.replace(b"\0", _NUL) + _END + ordinal.to_bytes(4, "big") + (b"x" if gone else b"v")


def version_of(flat: bytes) -> Version:
    """The inverse of `flat_key`."""
    key = flat[: -5 - len(_END)].replace(_NUL, b"\0")
    return Version(key, int.from_bytes(flat[-5:-1], "big"), flat[-1:] == b"x")


def real_key(key: bytes) -> bytes:
    """The key of an object: what `version_of` tells of a flat one, any other as it is."""
    return version_of(key).key if _FLAT(key) else key


def names_of(versions: str) -> Names:
    """Names for a package of these versions, "current" or "all"."""
    return VersionNames() if versions == "all" else Names()


class VersionNames(Names):
    """Names of versions."""

    def see(self, key: bytes) -> None:
        """See `Names`."""
        super().see(version_of(key).key)

    def learn(self, path: bytes) -> bytes:
        """See `Names`."""
        plain, suffix = _apart(path)
        if suffix is None:
            raise ValueError("not a name of a version")
        return flat_key(super().learn(plain), int(suffix[1]), gone=suffix[2] is not None)

    def of(self, key: bytes) -> bytes:
        """See `Names`."""
        version = version_of(key)
        return super().of(version.key) + b"!v%d" % version.ordinal + (b"-deleted" if version.gone else b"")

    def canonical(self, path: bytes) -> bool:
        """See `Names`."""
        plain, suffix = _apart(path)
        return suffix is not None and canonical(plain)


def _apart(path: bytes) -> tuple[bytes, re.Match[bytes] | None]:
    plain, mark, rest = path.rpartition(b"!v")
    return plain, _SUFFIX.fullmatch(mark + rest)


# --- records ----------------------------------------------------------------------------------------------------------


def folded(record: Record) -> Record:
    """The record of a version as a manifest has it."""
    version = version_of(record.key)
    found = replace(record, key=version.key, ordinal=version.ordinal)
    return replace(found, size=0, sha256=None, delete_marker=True) if version.gone else found


def flat(record: Record) -> Record:
    """The inverse of `folded`; the file of a deletion is empty."""
    key = flat_key(record.key, record.ordinal, gone=record.delete_marker)
    found = replace(record, key=key, ordinal=0)
    return replace(found, sha256=NOTHING_SHA256, delete_marker=False) if record.delete_marker else found


def as_carried(loaded: Manifest) -> Manifest:
    """A manifest whose records go by the keys of its payload, which are flat where it is of all versions."""
    return retold(loaded, _as_carried) if loaded.document.get("versions") == "all" else loaded


def _as_carried(_: bytes, record: Record) -> Line:
    told = flat(record)
    return encode(told), told


# --- places -----------------------------------------------------------------------------------------------------------


class Flattened(Around):
    """A source of all versions as one of objects. ``keep``: which keys are in scope. Raises UsageError."""

    capabilities: Capabilities = Capabilities()

    def __init__(self, inner: Storage, keep: Filter) -> None:
        super().__init__(inner)
        if not inner.capabilities.versions:
            hint = "leave `--versions all` out for such a source"
            raise UsageError(f"{inner.name} keeps one version of each object", hint=hint)
        self._scratch = tempfile.TemporaryDirectory(prefix="portabl-")
        self._listing = VersionListing(inner, keep, self._scratch.name)
        self.capabilities = replace(inner.capabilities, ordered=True, after=False)  # sorted here in any case

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Every version in scope."""
        for entry in self._listing:
            key = flat_key(entry.key, entry.ordinal, gone=entry.delete_marker)
            if after is None or key > after:
                yield replace(entry, key=key, ordinal=0, delete_marker=False)

    @staticmethod
    def _real(entry: Entry) -> Entry:
        version = version_of(entry.key)
        return replace(entry, key=version.key, ordinal=version.ordinal)

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes of a version; of a deletion, none."""
        if version_of(entry.key).gone:
            return Content(ObjectInfo(0, entry.etag, entry.version, entry.modified), b"")
        return self.inner.read(self._real(entry), start, length)

    def look(self, entry: Entry) -> ObjectInfo:
        """What the store says of a version. Raises Refused when it is another one by now: what follows has moved up."""
        if version_of(entry.key).gone:
            return ObjectInfo(0, entry.etag, entry.version, entry.modified)
        real = self._real(entry)
        info = self.inner.look(real)
        if (info.size, info.etag) != (entry.size, entry.etag or info.etag):
            raise Refused(_CHANGED, key=real.key, storage=self.name)
        return info

    def stat(self, key: bytes) -> ObjectInfo:
        """Only a listing tells which version an ordinal means. Raises Refused."""
        raise Refused(_CHANGED, key=version_of(key).key, storage=self.name)

    def listed(self, key: bytes) -> Entry | None:
        """See `Storage`."""
        version = version_of(key)
        there = (entry for entry in self.inner.history(version.key) if entry.ordinal == version.ordinal)
        found = next(there, None)
        return replace(found, key=key, ordinal=0, delete_marker=False) if found else None

    def close(self) -> None:
        """Close the inner storage and remove the scratch directory."""
        self._scratch.cleanup()
        self.inner.close()


class Folded(Around):
    """The payload of a package of all versions as a place that has versions. It keeps none that are written."""

    capabilities: Capabilities = Capabilities()

    def __init__(self, inner: Payload) -> None:
        super().__init__(inner)
        self._payload = inner
        self._scratch = tempfile.TemporaryDirectory(prefix="portabl-")
        self.capabilities = replace(inner.capabilities, ordered=True, after=False, versions=True)

    def keeps_versions(self) -> bool:
        """Nothing is written to it."""
        return False

    def versions(self) -> Iterator[Entry]:
        """Every file as a version. One ordinal twice, as a version and as a deletion, makes the second a stranger."""
        last = None
        for entry in Listing(self.inner, Filter(), self._scratch.name):
            version = version_of(entry.key)
            if version[:2] == last:
                self._payload.stranger(self._payload.names.of(entry.key))
                continue
            last = version[:2]
            yield self._as_version(entry, version)

    @staticmethod
    def _as_version(entry: Entry, version: Version) -> Entry:
        told = f"{version.ordinal}:{entry.version}"  # so that those of a key differ
        return replace(entry, key=version.key, ordinal=version.ordinal, delete_marker=version.gone, version=told)

    @staticmethod
    def _as_file(entry: Entry) -> Entry:
        key = flat_key(entry.key, entry.ordinal, gone=entry.delete_marker)
        version = entry.version.partition(":")[2]
        return replace(entry, key=key, ordinal=0, delete_marker=False, version=version)

    def history(self, key: bytes) -> Sequence[Entry]:
        """Up to the first ordinal that is not there."""
        found: list[Entry] = []
        while entry := self._listed(key, len(found) + 1):
            found.append(entry)
        return found

    def _listed(self, key: bytes, ordinal: int) -> Entry | None:
        for gone in (False, True):
            found = self.inner.listed(flat_key(key, ordinal, gone=gone))
            if found:
                return self._as_version(found, Version(key, ordinal, gone))
        return None

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """The newest version of each key that was not deleted."""
        newest: Entry | None = None
        for entry in self.versions():
            if newest is not None and newest.key != entry.key:
                yield from self._current(newest, after)
            newest = entry
        if newest is not None:
            yield from self._current(newest, after)

    @staticmethod
    def _current(newest: Entry, after: bytes | None) -> Iterator[Entry]:
        if not newest.delete_marker and (after is None or newest.key > after):
            yield replace(newest, ordinal=0, version=f"{newest.ordinal}:{newest.version.partition(':')[2]}")

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes of a version."""
        return self.inner.read(self._as_file(self._with_ordinal(entry)), start, length)

    def look(self, entry: Entry) -> ObjectInfo:
        """What the place says of a version."""
        asked = self._with_ordinal(entry)
        info = self.inner.look(self._as_file(asked))
        return replace(info, version=f"{asked.ordinal}:{info.version}")

    @staticmethod
    def _with_ordinal(entry: Entry) -> Entry:
        """Of an entry of `entries` the version tells the ordinal."""
        return entry if entry.ordinal else replace(entry, ordinal=int(entry.version.partition(":")[0]))

    def stat(self, key: bytes) -> ObjectInfo:
        """Of the newest version."""
        there = self.history(key)
        if not there:
            raise Refused("not there", key=key, storage=self.name)
        return self.look(there[-1])

    def close(self) -> None:
        """Close the inner storage and remove the scratch directory."""
        self._scratch.cleanup()
        self.inner.close()
