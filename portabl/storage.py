"""The contract every adapter keeps, and nothing more.

Six verbs: list (`Storage.entries`), `Storage.read`, `Storage.write`, `Storage.upload` for objects larger than
one write, `Storage.stat`, `Storage.delete`. Promises that hold for all of them:

* Keys are exact bytes, relative to the location's prefix. An adapter that cannot keep a key exactly refuses it
  (`Refused`); it never stores it under another name.
* A method answers or raises an error of `portabl.errors`; vendor exceptions do not pass. A failed listing
  raises: it never ends early as if it were complete.
* `write` and `Upload.finish` are atomic: before they return nothing is visible, afterwards everything is, durably.
* Transient trouble (lost connections, 5xx, throttling) is retried inside the adapter, within written limits.
* All methods may be called from many threads at once. Memory in a call is bounded by the bytes asked for.
* Nothing is written that the caller did not ask for.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portabl import tasks
from portabl.errors import Refused, UsageError
from portabl.model import HEADERS, NOTHING, Body, Content, Entry, Fact, Metadata, ObjectInfo, Setting, Written
from portabl.throttle import Pacer


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage can do, as data. Sizes in bytes; None means no known limit.

    ``ordered``: `entries` promises raw byte order (it raises ListingDisordered when the server breaks it).
    ``after``: `entries` can start behind a given key cheaply.
    ``ranges``: reading a range costs about its length. ``parallel_parts``: parts of one upload may be sent in any
    order and at once. ``resumable``: an upload's token is good after a crash.
    ``metadata_in_manifest``: the place holds bodies only, by nature; headers, metadata and tags stay in the
    manifest and that is no loss. Otherwise ``headers``, ``user_metadata`` and ``tags`` say what can be kept at all.
    ``acls`` and ``locks``: access control lists and object locks can be given with a write.
    ``versions``: older versions of a key can be listed, read and appended; whether the place keeps them now, it is
    asked with `Storage.keeps_versions`.
    ``engine``: `Storage.engine` makes something that carries many calls in one thread.
    ``key_rules``: "exact" when the adapter itself guarantees exact keys (encoding what the place cannot say),
    "store" when that depends on the server and must be watched.
    """

    ordered: bool = False
    after: bool = False
    ranges: bool = True
    parallel_parts: bool = False
    resumable: bool = False
    writable: bool = True
    part_size_min: int = 5 * 2**20
    part_size_max: int = 5 * 2**30
    parts_max: int = 10_000
    object_size_max: int | None = None
    headers: frozenset[str] = frozenset(HEADERS)
    user_metadata: bool = True
    tags: bool = True
    metadata_in_manifest: bool = False
    engine: bool = False
    acls: bool = False
    locks: bool = False
    key_rules: str = "store"
    versions: bool = False


class Upload(abc.ABC):
    """An object being written in parts, invisible until `finish`.

    ``token`` names the upload for `Storage.upload` after a crash ("" when it cannot be continued).
    ``done`` maps part numbers (from 1) the store already holds to their tags.
    ``wants_md5``: bodies of parts come with their MD5, as the SHA-256 alone is not checked by every server behind this.
    ``wants_crc64``: they come with their CRC-64/NVME instead of a SHA-256, as the server was shown to check that.
    """

    token: str = ""
    wants_md5: bool = False
    wants_crc64: bool = False
    done: Mapping[int, str]

    @abc.abstractmethod
    def part(self, number: int, body: Body, offset: int) -> str:
        """Store part ``number`` (from 1) whose first byte is ``offset``; returns its tag for `finish`."""

    @abc.abstractmethod
    def finish(self, tags: Sequence[str], sha256: str) -> Written:
        """Make the object visible from all its parts, in order. ``sha256``: lower-case hex of the whole object."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Give the upload up and leave nothing behind."""


class Probing(abc.ABC):
    """How to find out what the server behind a storage really does; the storage is opened at a scratch prefix."""

    @abc.abstractmethod
    def obstacle(self) -> str:
        """Why nothing may be tried here (objects that could not be deleted again); "" when there is no reason."""

    @abc.abstractmethod
    def server(self) -> str:
        """What the server calls itself, "" when it does not say."""

    @abc.abstractmethod
    def facts(self) -> Iterator[Fact]:
        """What can be tried only in this store's own language. Writes below the scratch prefix only."""

    @abc.abstractmethod
    def sweep(self) -> Sequence[bytes]:
        """Remove every object, version, delete marker and unfinished upload below the scratch prefix; what is left."""


class Storage(abc.ABC):
    """A location opened for reading or writing. Context manager: leaving it closes every connection."""

    name: str
    """Printable location, without secrets, as the user would type it."""

    capabilities: Capabilities

    paces_itself: bool = False
    """Whether the adapter asks `Opening.pacer` before each of its requests; otherwise it is throttled from outside."""

    @property
    @abc.abstractmethod
    def place(self) -> tuple[str, bytes]:
        """(identity of store and container, prefix): equal identity and nested prefixes mean overlapping places."""

    @property
    def service(self) -> str:
        """Identity of the store without the container: what a capability card is about."""
        return self.place[0]

    @abc.abstractmethod
    def check(self, *, write: bool) -> None:
        """Fail now, with a clear error, rather than later.

        Raises Unreachable, AccessDenied, ContainerMissing or ConfigError. ``write``: the place is a target. Writes
        nothing to an object store; a local target directory may be created.
        """

    @abc.abstractmethod
    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Every object below the prefix, with key > ``after``, in raw byte order of keys if `Capabilities.ordered`."""

    def listed(self, key: bytes) -> Entry | None:
        """What a fresh listing shows under exactly this key, None when it shows nothing. Stores with prefix
        listings answer with one request.
        """
        for entry in self.entries():
            if entry.key == key:
                return entry
            if self.capabilities.ordered and entry.key > key:
                break
        return None

    @abc.abstractmethod
    def stat(self, key: bytes) -> ObjectInfo:
        """Everything the store says of one object, metadata and tags included. Raises NotFound."""

    @abc.abstractmethod
    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Bytes ``start`` to ``start + length`` (to the end if None) of the object that ``entry`` names.

        The object is pinned: if it is no longer the one listed (ETag, version), raises Changed. An entry whose etag
        is empty is not pinned. Raises NotFound when it is gone, Corrupt when fewer or other bytes arrive than promised.
        ``info.metadata`` is complete, tags included, when ``start`` is 0; for other ranges it may be empty.
        """

    @abc.abstractmethod
    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """Store a whole object; the store must have accepted the bytes under ``body``'s digest where it can check one.

        What the store is known not to hold (tags on a store without tags) is left out and named in `Written.losses`;
        raises Refused when the object cannot be held at all, Corrupt when the store's digest contradicts ours.
        """

    @abc.abstractmethod
    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        """Begin an object of ``size`` bytes written in parts, or continue what ``token`` names if it still exists."""

    @abc.abstractmethod
    def delete(self, key: bytes) -> None:
        """Remove one object; removing what is not there is no error."""

    def abandoned(self, key: bytes) -> Sequence[str]:  # noqa: ARG002 - only stores with server-side uploads have any
        """Tokens of unfinished uploads for exactly this key, ours or a stranger's."""
        return ()

    def copy(self, source: Storage, entry: Entry, key: bytes, info: ObjectInfo) -> Written | None:  # noqa: ARG002
        """Server-side copy of a whole object from ``source``, or None when that would not preserve everything."""
        return None

    def copies(self, source: Storage) -> bool:  # noqa: ARG002
        """Whether `copy` from ``source`` is worth asking for. Sends nothing."""
        return False

    def reading(self, entry: Entry) -> tasks.Task[Content]:
        """`read` of the whole object, as a task. Adapters with an engine do better, and those that need not wait."""
        yield tasks.briefly
        return self.read(entry)

    def writing(self, key: bytes, body: Body, metadata: Metadata) -> tasks.Task[Written]:
        """`write`, as a task."""
        yield tasks.aside
        return self.write(key, body, metadata)

    def stating(self, key: bytes) -> tasks.Task[ObjectInfo]:
        """`stat`, as a task."""
        yield tasks.aside
        return self.stat(key)

    def engine(self) -> tasks.Carrier | None:
        """A new engine that carries this adapter's calls, many at once in one thread; None when there is none."""
        return None

    def probing(self) -> Probing | None:
        """Ways to try out the server behind a storage opened at a scratch prefix; None where nothing depends on one."""
        return None

    # Versions: for places that keep every version of a key. `read` and `Reader` take the entries of `versions` as well.

    def keeps_versions(self) -> bool:
        """Whether a write keeps what it replaces, asked of the place now. Raises as `check`."""
        return False

    def has_versions(self) -> bool | None:
        """Whether older versions and delete markers may lie here, asked of the place now; None when it does not say."""
        return False

    def locks_objects(self) -> bool | None:
        """Whether objects here can be locked, asked of the place now; None when it does not say."""
        return False

    def versions(self) -> Iterator[Entry]:
        """Every version and delete marker below the prefix, in raw byte order of keys if `Capabilities.ordered`.

        Those of a key come oldest first and are numbered from 1. Raises ListingBroken when the store may have left some
        out, or does not say in which order they came; UsageError when it has no versions.
        """
        raise UsageError(f"{self.name} keeps one version of each object", hint="leave `--versions all` out")

    def history(self, key: bytes) -> Sequence[Entry]:
        """What a fresh listing shows of exactly this key: all versions and delete markers, oldest first."""
        return [entry for entry in self.versions() if entry.key == key]

    def append(self, key: bytes, body: Body | None, metadata: Metadata, previous: str) -> Written:  # noqa: ARG002
        """Store one more version (None: a delete marker) on top of the version ``previous`` ("" for the first): once,
        whatever happens on the way, and never on top of another.

        Raises as `write`, and Changed when ``previous`` is not the newest version when in doubt.
        """
        raise UsageError(f"{self.name} keeps one version of each object", hint="leave `--versions all` out")

    def look(self, entry: Entry) -> ObjectInfo:
        """The same as `stat` for exactly the version that ``entry`` names."""
        return self.stat(entry.key)

    def take_back(self, key: bytes, version: str) -> None:  # noqa: ARG002 - a place without versions has but one
        """Undo a write of ours that made ``version``, and nothing else."""
        self.delete(key)

    def settings(self) -> Sequence[Setting]:
        """The configuration of the bucket as a whole (`portabl.bucket_config.NAMES`); empty where there is none."""
        return ()

    def configure(self, name: str, document: Any) -> None:  # noqa: ARG002
        """Replace one setting. Raises Refused."""
        raise Refused("a place without a configuration", storage=self.name)

    def share(self, earlier: Storage, entry: Entry, key: bytes) -> Written | None:  # noqa: ARG002
        """Give the body that another place of this kind holds as ``entry`` the name ``key`` here, without moving bytes
        through this process: a hard link, or a copy made by the server, without metadata. None when that is impossible
        or the body there is not what ``entry`` says.
        """
        return None

    def unfinished(self) -> int:
        """How many uploads of anybody's are begun and not finished below the prefix. Raises as `entries`."""
        return 0

    def notes(self) -> Sequence[str]:
        """What was seen of the place while it was used, for the report: neither carried nor a loss of one object."""
        return ()

    def close(self) -> None:  # noqa: B027 - having nothing to close is fine
        """Let go of connections; further calls are errors."""

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Opening:
    """What an adapter's ``open_storage`` is given.

    ``name``: the printable location. ``container`` and ``prefix``: where in the store; the prefix is "" or ends with
    "/". ``settings``: the provider's table from portabl.toml, validated, credential references unresolved.
    ``secret(field)``: the present value of a credential field (asked again on refresh), None when it is not set; raises
    ConfigError. ``threads``: how many calls may be under way at once.
    ``pacer``: asked before each request by adapters that pace themselves; None when there is no limit.
    ``options``: what the command asks of this place, such as ``{"storage_class": "keep", "symlinks": "follow"}``.
    """

    name: str
    container: str
    prefix: bytes
    settings: Mapping[str, object]
    secret: Callable[[str], str | None]
    threads: int = 64
    options: Mapping[str, str] = NOTHING
    pacer: Pacer | None = None
