"""Holds one object against what a target can keep: its capabilities, and its card if there is one.

What the card says is lost is lost; what it does not say is unknown, and no loss.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from portabl.capability import LOST, UNKNOWN, Card
from portabl.errors import Refused, StorageError
from portabl.features import ABOVE, BESIDE, FOLDER, field_features, key_features
from portabl.large import part_size
from portabl.model import ARCHIVES, Entry, Loss, Metadata
from portabl.plan import AN_OLDER_ONE
from portabl.shapes import beyond
from portabl.storage import Storage
from portabl.transfer import SINGLE_MAX

ARCHIVED, KEYS, SIZE, UNREADABLE, USER, TAGS = "archived", "keys", "size", "unreadable", "user", "tags"
READS_OF_ARCHIVED = 100
"""Objects of an archive class that are asked for one byte; some stores only carry the name and read them at once."""


class Portability(enum.StrEnum):
    """The three classes of a loss list, from good to bad."""

    CORE = "core"
    ADAPTATION = "needs adaptation"
    NONE = "not portable"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One field of one object that will not arrive as it is ("object": the object itself).

    ``accept``: the name of its kind, for ``--accept``.
    """

    portability: Portability
    accept: str
    field: str
    reason: str


class Judge:
    """Judges objects in key order. ``readable`` tells whether an object of an archive class can be read now."""

    def __init__(self, target: Storage, card: Card | None, readable: Callable[[Entry], bool] = lambda _: False) -> None:
        self._capabilities = card.fit(target.capabilities) if card else target.capabilities
        self._watched = self._capabilities.key_rules == "store"
        self._bodies_only = self._capabilities.metadata_in_manifest
        self._prefix = target.place[1] if self._watched else b""
        self._card = card
        self._readable = readable
        self._reads = 0
        self._above: list[bytes] = []

    @property
    def wants_fields(self) -> bool:
        """Whether anything an object carries besides its bytes could be lost, as far as is known."""
        if self._bodies_only:
            return False
        limits = self._capabilities
        return self._card is not None or not (limits.user_metadata and limits.tags and limits.headers)

    def parts(self, size: int) -> int:
        """Parts an object goes in, 0 when it goes in one piece."""
        if size <= SINGLE_MAX:
            return 0
        try:
            return -(-size // part_size(size, self._capabilities))
        except Refused:
            return 0

    def entry(self, entry: Entry) -> tuple[list[Foreseen], list[str]]:
        """What a listing alone says of an object; and features that were never measured."""
        if entry.delete_marker:
            return [], []
        if entry.problem:
            return [unreadable(entry.problem)], []
        found = [*self._archived(entry), *self._size(entry)]
        if not self._watched or self._card is None:
            return found, []
        unknown = []
        for feature in self._features(self._prefix + entry.key, entry.size):
            outcome = self._card.outcome(feature)
            if outcome in LOST:
                found.append(_object(KEYS, _said(feature, outcome)))
            elif outcome == UNKNOWN:
                unknown.append(feature)
        found += self._lengths(self._prefix + entry.key)
        return found[:1], unknown

    def _features(self, key: bytes, size: int) -> list[str]:
        """Features of the key, and of its place among the keys before it: those it begins with are kept in a stack."""
        while self._above and not key.startswith(self._above[-1]):
            self._above.pop()
        found = key_features(key, size)
        if key.endswith(b"/") and key[:-1] in self._above:
            found.append(BESIDE)
        if any(key.startswith(above + b"/") and key != above + b"/" for above in self._above):
            found.append(ABOVE)
        if not self._above or self._above[-1] != key:
            self._above.append(key)
        return found

    def _lengths(self, key: bytes) -> list[Foreseen]:
        assert self._card is not None
        most, segment = self._card.limit("key bytes"), self._card.limit("segment bytes")
        found = []
        if most is not None and len(key) > most:
            found.append(_object(KEYS, f"key: longer than the {most:,} bytes the target takes"))
        if segment is not None and max(map(len, key.split(b"/"))) > segment:
            found.append(_object(KEYS, f"key: a segment longer than the {segment:,} bytes the target takes"))
        return found

    def _archived(self, entry: Entry) -> list[Foreseen]:
        if entry.storage_class.upper() not in ARCHIVES:
            return []
        if self._reads < READS_OF_ARCHIVED:
            self._reads += 1
            if self._readable(entry):
                return []
        return [_object(ARCHIVED, f"archived ({entry.storage_class}): must be restored before it can be read")]

    def _size(self, entry: Entry) -> list[Foreseen]:
        limit = self._capabilities.object_size_max
        try:
            if entry.size > SINGLE_MAX:
                part_size(entry.size, self._capabilities)
            elif limit is not None and entry.size > limit:
                raise Refused(f"larger than the {limit:,} bytes the target holds in one object")
        except Refused:
            reason = "larger than the target holds in one object (size, or number and size of parts)"
            return [Foreseen(Portability.NONE, SIZE, "object", reason)]
        return []

    def fields(self, entry: Entry, metadata: Metadata) -> tuple[list[Foreseen], list[str]]:
        """What becomes of the fields of an object that arrives; and features that were never measured."""
        if self._bodies_only:
            return [], []
        found = {loss.field: _field(loss.field, loss.reason) for loss in beyond(self._capabilities, metadata)}
        if self._card is None:
            return list(found.values()), []
        if too_much := self._sizes(metadata):
            return [too_much], []
        unknown = []
        for name, feature in (*field_features(metadata), *self._by_the_way(entry, metadata)):
            outcome = self._card.outcome(feature)
            if outcome in LOST:
                found.setdefault(name, _field(name, _said(feature, outcome)))
            elif outcome == UNKNOWN:
                unknown.append(feature)
        return list(found.values()), unknown

    def _by_the_way(self, entry: Entry, metadata: Metadata) -> list[tuple[str, str]]:
        """Features fields have because of where they are: on a folder, or on an object that goes in parts."""
        folder = not entry.size and FOLDER in key_features(entry.key, 0)
        if not folder and entry.size <= SINGLE_MAX:
            return []
        names = ("header: on a folder", "user: on a folder", "tags: on a folder")
        header, user, tag = names if folder else ("upload: headers", "upload: user metadata", "upload: tags")
        found = [(name, header) for name in metadata.headers]
        found += [(f"user.{name}", user) for name in metadata.user]
        return found + [(f"tag.{name}", tag) for name in metadata.tags]

    def _sizes(self, metadata: Metadata) -> Foreseen | None:
        """Stores refuse an object whose user metadata is too large, all of it."""
        assert self._card is not None
        sizes = {name: len(value.encode("utf-8", "surrogateescape")) for name, value in metadata.user.items()}
        value, total = self._card.limit("user value bytes"), self._card.limit("user metadata bytes")
        if value is not None and max(sizes.values(), default=0) > value:
            return _object(USER, f"user: a value longer than the {value:,} bytes that were seen to work")
        all_of_it = sum(sizes.values()) + sum(len(name.encode("utf-8", "surrogateescape")) for name in sizes)
        if total is not None and all_of_it > total:
            return _object(USER, f"user: more metadata than the {total:,} bytes that were seen to work")
        return None

    def of_source(self, loss: Loss) -> Foreseen:
        """A loss that the source's own answer names: what it hides, or what the run's options leave behind."""
        accept = accept_name(loss.field)
        if accept not in ("lock", "acl"):
            return Foreseen(Portability.NONE, UNREADABLE, loss.field, loss.reason)
        fits = self._capabilities.locks if accept == "lock" else self._capabilities.acls
        return Foreseen(Portability.ADAPTATION if fits else Portability.NONE, accept, loss.field, loss.reason)


def waiting(accept: str) -> Foreseen:
    """A version behind one of its key that does not arrive; ``accept`` as for that one."""
    return _object(accept, AN_OLDER_ONE)


def unreadable(reason: str) -> Foreseen:
    """An object that the source does not give."""
    return _object(UNREADABLE, reason)


def readable(source: Storage) -> Callable[[Entry], bool]:
    """Whether the first byte of an object can be read now. Raises what concerns the whole place."""

    def ask(entry: Entry) -> bool:
        if not entry.size:
            return True
        try:
            source.read(entry, 0, 1)
        except StorageError as error:
            if error.transient:
                raise
            return False
        return True

    return ask


def accept_name(field: str) -> str:
    """What a lost field is called for ``--accept``: user metadata and tags each as one, a header by its name."""
    group = {"user": USER, "tag": TAGS, "lock": "lock"}
    return group.get(field.partition(".")[0], field)


def _object(accept: str, reason: str) -> Foreseen:
    return Foreseen(Portability.ADAPTATION, accept, "object", reason)


def _field(name: str, reason: str) -> Foreseen:
    return Foreseen(Portability.NONE, accept_name(name), name, reason)


def _said(feature: str, outcome: str) -> str:
    return f"{feature}: {outcome} by the target, as its card says"
