"""The nouns: frozen values handed from one stage to the next.

Text that came from a store (metadata names and values, tags) is ``str`` decoded as UTF-8 with
``surrogateescape``, so any byte sequence survives. Keys are ``bytes``: exact, never normalised.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from portabl.slots import filled_directly


class _Nothing(Mapping[str, str]):
    """The empty mapping as a default: hashable, which a dataclass asks of it and mappingproxy is not before 3.12."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


NOTHING: Mapping[str, str] = _Nothing()

HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "website-redirect-location",
)
"""Content headers portabl carries, by their lower-case names."""

NOT_HEADERS = ("storage-class", "acl")
"""Names of `Metadata.fields` that look like a header's and are none."""

ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD_ARCHIVE", "COLDARCHIVE", "DEEP_COLD_ARCHIVE"})
"""Storage classes (in capitals) whose objects mostly have to be restored before they can be read."""

LOCK = ("hold", "mode", "until")
"""What an object lock consists of: legal hold (``ON``), retention mode, and its end (UTC, RFC 3339)."""

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
"""What S3 answers for an object stored without a type; equal to having none, so it is never recorded."""


class Proof(enum.StrEnum):
    """How much a run has to show before it may say that an object arrived (docs/design.md, proof levels)."""

    SIZE = "size"
    INGEST = "ingest"
    READBACK = "readback"


@filled_directly
@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it.

    ``key`` is relative to the location's prefix. ``etag``, ``modified`` and ``version`` are opaque: they are
    compared for equality, never parsed. ``problem`` says why something that is there cannot be carried
    (a socket, an unreadable directory); such an entry is reported, never skipped. In a listing of all versions
    ``ordinal`` numbers those of a key from 1, oldest first, and ``delete_marker`` says that this one is a deletion.
    """

    key: bytes
    size: int
    etag: str = ""
    modified: str = ""
    version: str = ""
    storage_class: str = ""
    problem: str = ""
    ordinal: int = 0
    delete_marker: bool = False


@filled_directly
@dataclass(frozen=True, slots=True)
class Metadata:
    """What an object carries besides its bytes. ``headers`` uses the lower-case names of `HEADERS`.

    ``storage_class``, ``acl`` and ``lock`` are filled in only where they are to be carried. ``lock`` has the names of
    `LOCK`; ``acl`` is a canned name, or grants as text (see docs/fidelity.md).
    """

    headers: Mapping[str, str] = NOTHING
    user: Mapping[str, str] = NOTHING
    tags: Mapping[str, str] = NOTHING
    storage_class: str = ""
    acl: str = ""
    lock: Mapping[str, str] = NOTHING

    def fields(self) -> dict[str, str]:
        """Flat view, ``{"content-type": ..., "user.colour": ..., "tag.team": ..., "lock.mode": ..., "acl": ...}``."""
        flat = dict(self.headers)
        for kind, group in (("user", self.user), ("tag", self.tags), ("lock", self.lock)):
            if group:
                flat.update([(f"{kind}.{name}", value) for name, value in group.items()])
        if self.storage_class:
            flat["storage-class"] = self.storage_class
        if self.acl:
            flat["acl"] = self.acl
        return flat

    @classmethod
    def from_fields(cls, flat: Mapping[str, str]) -> Metadata:
        """Rebuild from the flat view: the inverse of `fields`. A lock without a value is none."""
        headers: dict[str, str] = {}
        user: dict[str, str] = {}
        tags: dict[str, str] = {}
        lock: dict[str, str] = {}
        for name, value in flat.items():
            if name.startswith("user."):
                user[name[5:]] = value
            elif name.startswith("tag."):
                tags[name[4:]] = value
            elif name.startswith("lock."):
                if value:
                    lock[name[5:]] = value
            elif name not in NOT_HEADERS:
                headers[name] = value
        return cls(headers, user, tags, flat.get("storage-class", ""), flat.get("acl", ""), lock)


BARE = Metadata()
"""An object's that carries nothing besides its bytes."""


@filled_directly
@dataclass(frozen=True, slots=True)
class Loss:
    """One field of one object that did not arrive as it was.

    ``field`` is a name of `Metadata.fields`, or ``"object"`` when the object itself is not (provably) at the
    target. ``value`` is what the source held; ``became`` what the target holds instead, None when nothing.
    """

    field: str
    reason: str
    value: str | None = None
    became: str | None = None


@filled_directly
@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object on GET or HEAD.

    ``digests`` holds full-object digests the store claims, as lower-case hex by algorithm ("md5", "sha256", ...).
    ``losses`` names what is there but cannot be read (hidden metadata, tags without permission).
    """

    size: int
    etag: str = ""
    version: str = ""
    modified: str = ""
    metadata: Metadata = BARE
    digests: Mapping[str, str] = NOTHING
    losses: tuple[Loss, ...] = ()


@filled_directly
@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of one object (all, or the range that was asked for) and what the store said of it."""

    info: ObjectInfo
    data: bytes | memoryview


@filled_directly
@dataclass(frozen=True, slots=True)
class Body:
    """Bytes on their way to a target. Digests are lower-case hex over ``data``; one that is empty was not computed.

    Only a part of an upload that asks for ``crc64`` (CRC-64/NVME) may come without ``sha256``.
    """

    data: bytes | memoryview
    sha256: str
    md5: str = ""
    crc64: str = ""


@filled_directly
@dataclass(frozen=True, slots=True)
class Written:
    """A finished write: identity of the new object as its next listing will show it, and what could not be kept."""

    etag: str = ""
    version: str = ""
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a bucket as a whole. ``value``: its document as JSON in S3's terms, None when it is not set.

    ``problem``: why the store does not tell it, such as NotImplemented.
    """

    name: str
    value: Any = None
    problem: str = ""


@filled_directly
@dataclass(frozen=True, slots=True)
class Seen:
    """Identity of an object at one place at one time: hints for the next pass, no part of the root."""

    etag: str = ""
    modified: str = ""
    version: str = ""


UNSEEN = Seen()
"""Nothing known of it."""


@filled_directly
@dataclass(frozen=True, slots=True)
class Record:
    """One line of a manifest: an object of the source, what it is, and what became of it.

    ``sha256`` is None when the body could not be read. ``target`` is None when nothing was written.
    """

    key: bytes
    size: int
    sha256: str | None
    metadata: Metadata = BARE
    ordinal: int = 0
    delete_marker: bool = False
    source: Seen = UNSEEN
    target: Seen | None = None
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was found out about a place by trying it.

    ``name``: "section: what"; ``outcome``: one or two words, or a number; ``detail``: what the server did, for people.
    """

    name: str
    outcome: str
    detail: str = ""
