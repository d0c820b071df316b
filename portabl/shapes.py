"""Metadata proven by shape: what a target drops or changes, it drops or changes for every object of that kind.

A shape is which fields an object has, what kinds of characters their values hold, and whether it went in parts. The
first object of every shape is read back from the target; if anything differs, every further object of that shape is
read back as well and its losses are named one by one. Shapes that come back whole cost no further request.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from portabl.keys import classes
from portabl.model import NOTHING, Loss, Metadata, ObjectInfo
from portabl.storage import Capabilities
from portabl.tasks import Task

SHAPES_MAX = 20_000
"""Shapes remembered; more variety than that only costs more read-backs."""

_EXACT = ("content-type", "content-encoding", "content-language", "storage-class")
_FOLD = {**{ord(c): "a" for c in "abcdefghijklmnopqrstuvwxyz"}, **{ord(c): "A" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}}
_FOLD |= {ord(c): "0" for c in "123456789"}


_ESCAPED = re.compile(r"=\?[^?]*\?[bqBQ]\?[^?]*\?=|%[0-9A-Fa-f]{2}|&#?\w+;|\\.")
"""What a careless store decodes: RFC 2047 words, percent escapes, XML entities, backslashes."""
_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
"""A date as RFC 9110 wants it; of any other, no second one is like the first."""
_LENGTHS_EXACT = 200
"""From this length on a limit may lie between any two lengths."""


@lru_cache(maxsize=50_000)
def _kind(field: str, value: str) -> str:
    """What about a value may matter to a store: its characters by kind, its length by magnitude, its edges."""
    if len(value) <= 100 and (field in _EXACT or (field == "expires" and not _DATE.fullmatch(value))):
        return value
    length = len(value) if len(value) >= _LENGTHS_EXACT else len(value).bit_length()
    edges = f"{_edge(value[:1])}|{_edge(value[-1:])}|{'  ' in value}{_ESCAPED.search(value) is not None}"
    form = "" if value.isascii() or unicodedata.is_normalized("NFC", value) else "not NFC"
    return f"{length}{edges}{form}{''.join(sorted({_fold(c) for c in value.translate(_FOLD)}))}"


def _edge(character: str) -> str:
    """What may be trimmed."""
    return character if character.isspace() or character in ('"', "'") else ""


def _fold(character: str) -> str:
    """ASCII is itself; beyond, the Unicode category and how wide encodings make it. Cs: a byte that is no UTF-8."""
    code = ord(character)
    if code < 0x80:
        return character
    width = 1 if code < 0x100 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
    return f"{unicodedata.category(character)}{width}"


def shape(key: bytes, size: int, metadata: Metadata, way: str = "") -> tuple[object, ...]:
    """The shape of an object, hashable. ``way``: how it was written; stores have a code path of their own for each."""
    fields = metadata.fields()
    kinds = tuple(sorted([(name, _kind(name, value)) for name, value in fields.items()]))
    return (way, size == 0, classes(key), kinds)


def compare(expected: Metadata, found: Metadata) -> tuple[Loss, ...]:
    """Every field in which the target differs from what was sent."""
    ours, theirs = expected.fields(), found.fields()
    losses = [
        Loss(name, "dropped by the target" if name not in theirs else "changed by the target", value, theirs.get(name))
        for name, value in ours.items()
        if theirs.get(name) != value and name != "storage-class"
    ]
    losses += [
        Loss(name, "added by the target", None, value)
        for name, value in theirs.items()
        if name not in ours and name != "storage-class"
    ]
    if expected.storage_class and expected.storage_class != found.storage_class:
        losses.append(Loss("storage-class", "changed by the target", expected.storage_class, found.storage_class))
    return tuple(losses)


def read_back(expected: Metadata, info: ObjectInfo) -> tuple[Loss, ...]:
    """The same for an object as the target shows it; tags that it will not show are not called dropped."""
    found = compare(expected, info.metadata)
    hidden = [loss.reason for loss in info.losses if loss.field == "tags"]
    if not hidden or not expected.tags:
        return found
    kept = tuple(loss for loss in found if not loss.field.startswith("tag."))
    return (*kept, Loss("tags", f"cannot be read back from the target: {hidden[0]}"))


def ended(lock: Mapping[str, str]) -> Mapping[str, str]:
    """The retention in a lock when its end has come since: it protects nothing, and no place shows it any more."""
    if "until" not in lock:
        return NOTHING
    try:
        over = datetime.fromisoformat(lock["until"]) <= datetime.now(UTC)
    except (ValueError, TypeError):
        return NOTHING
    return {name: lock[name] for name in ("mode", "until") if name in lock} if over else NOTHING


def beyond(capabilities: Capabilities, metadata: Metadata) -> tuple[Loss, ...]:
    """Fields the target cannot hold at all, known before anything is sent."""
    if capabilities.metadata_in_manifest:
        return ()
    reason = "the target has no place for it"
    losses = [Loss(n, reason, v) for n, v in metadata.headers.items() if n not in capabilities.headers]
    if not capabilities.user_metadata:
        losses += [Loss(f"user.{n}", reason, v) for n, v in metadata.user.items()]
    if not capabilities.tags:
        losses += [Loss(f"tag.{n}", reason, v) for n, v in metadata.tags.items()]
    if metadata.acl and not capabilities.acls:
        losses.append(Loss("acl", reason, metadata.acl))
    if not capabilities.locks:
        losses += [Loss(f"lock.{n}", reason, v) for n, v in metadata.lock.items()]
    return tuple(losses)


def without(metadata: Metadata, losses: tuple[Loss, ...]) -> Metadata:
    """What is left to be found at the target once these losses are accepted."""
    if not losses:
        return metadata
    gone = {loss.field for loss in losses}
    return Metadata.from_fields({n: v for n, v in metadata.fields().items() if n not in gone})


class Shapes:
    """Remembers which shapes a target keeps. ``stating`` reads one object back from the target."""

    def __init__(self, stating: Callable[[bytes], Task[ObjectInfo]]) -> None:
        self._stating = stating
        self._whole: set[tuple[object, ...]] = set()
        self._guard = threading.Lock()

    def losses(self, key: bytes, size: int, metadata: Metadata, way: str = "") -> Task[tuple[Loss, ...]]:
        """What the target lost of this object's metadata; errors of the read-back pass through."""
        kind = shape(key, size, metadata, way)
        if kind in self._whole:
            return ()
        found = read_back(metadata, (yield from self._stating(key)))
        if not found:
            with self._guard:
                if len(self._whole) >= SHAPES_MAX:
                    self._whole.clear()
                self._whole.add(kind)
        return found
