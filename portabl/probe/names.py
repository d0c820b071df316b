"""What becomes of keys: each feature's samples are written, listed, read, in prefixes of their own.

Two levels of prefix (``k/0123/s/``) keep a server that resolves ``..`` inside the scratch prefix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from portabl.errors import ListingBroken, NotFound, StorageError
from portabl.executors import in_order
from portabl.features import BESIDE, FOLDER, KEYS, PAIRS
from portabl.keys import show
from portabl.listing import any_order
from portabl.model import Fact, Metadata
from portabl.probe.trying import accepts, get, most, put, refusal, worst
from portabl.storage import Storage

THREADS = 8
KEY_BYTES = 1024
"""The longest key S3 itself allows."""
_METADATA = Metadata(user={"of": "x"})


@dataclass(frozen=True, slots=True)
class _Try:
    """One sample key. ``base``: the prefix it is tried in."""

    feature: str
    base: bytes
    key: bytes

    @property
    def data(self) -> bytes:
        return b"" if self.feature == FOLDER else b"content of " + self.key

    @property
    def full(self) -> bytes:
        return self.base + self.key


def key_facts(storage: Storage) -> Iterator[Fact]:
    """A fact for every feature of keys, and for every pair that some store makes one of."""
    samples = [(feature, key) for feature, keys in KEYS.items() for key in keys]
    tries = [_Try(feature, b"k/%04d/s/" % n, key) for n, (feature, key) in enumerate(samples)]
    refused = dict(in_order(tries, lambda one: _write(storage, one), THREADS))
    listed, trouble = _listed(storage)
    yield Fact("list: odd keys", "broken" if trouble else "kept", trouble)
    found = in_order(tries, lambda one: _became(storage, one, refused[one], listed), THREADS)
    for feature, group in itertools.groupby(found, lambda pair: pair[0].feature):
        yield worst(feature, [outcome for _, outcome in group])
    for number, feature in enumerate(PAIRS):
        yield _pair(storage, feature, b"p/%04d/s/" % number)
    yield _byte_order(storage)


def _write(storage: Storage, one: _Try) -> str:
    try:
        put(storage, one.full, one.data, _METADATA if one.data else None)
    except StorageError as error:
        return refusal(error)
    return ""


def _listed(storage: Storage) -> tuple[frozenset[bytes] | None, str]:
    """Every key of the scratch prefix; None and the reason when some key breaks the listing."""
    try:
        return frozenset(entry.key for entry in any_order(storage)), ""
    except ListingBroken as error:
        return None, error.message


def _became(storage: Storage, one: _Try, refused: str, listed: frozenset[bytes] | None) -> tuple[str, str]:
    sample = show(one.key)
    if refused:
        return "refused", f"{sample}: {refused}"
    if not _shows(storage, one.full, listed):
        others = sorted(key[len(one.base) :] for key in listed or () if key.startswith(one.base))
        return "changed", f"{sample} is listed as {', '.join(map(show, others)) or 'nothing'}"
    try:
        data, info = get(storage, one.full, len(one.data))
    except StorageError as error:
        return "changed", f"{sample} is listed, but reads: {refusal(error)}"
    if data != one.data:
        return "changed", f"{sample} holds {len(data)} of {len(one.data)} bytes"
    if one.data and info.metadata.user != _METADATA.user:
        return "changed", f"{sample} loses its metadata"
    return "kept", ""


def _shows(storage: Storage, key: bytes, listed: frozenset[bytes] | None) -> bool:
    if listed is not None:
        return key in listed
    try:
        return storage.listed(key) is not None
    except StorageError:
        return False


def _pair(storage: Storage, feature: str, base: bytes) -> Fact:
    """Both keys written, in both orders: each must be there with its own content afterwards."""
    first, second = PAIRS[feature]
    for order in ((first, second), (second, first)):
        where = base + (b"1/" if order[0] == first else b"2/")
        data = {key: b"" if feature == BESIDE and key == second else b"content of " + key for key in order}
        for key in order:
            try:
                put(storage, where + key, data[key])
            except StorageError as error:
                return Fact(feature, "refused", f"{show(key)} after {show(order[0])}: {refusal(error)}")
        for key in order:
            if _content(storage, where + key, len(data[key])) != data[key]:
                return Fact(feature, "merged", f"{show(key)} is lost, written {show(order[0])} first")
    return Fact(feature, "kept")


def _content(storage: Storage, key: bytes, size: int) -> bytes | None:
    try:
        data, _ = get(storage, key, size)
        return data if storage.listed(key) is not None else None
    except (NotFound, ListingBroken):
        return None


def _byte_order(storage: Storage) -> Fact:
    """Whether a listing comes in the order of bytes, which is neither that of a directory tree nor that of UTF-16."""
    names = (b"B", b"a", b"a-b", b"a/b", b"a0", b"z", "é".encode(), "\uffee".encode(), "\U00010000".encode())
    kept = [name for name in names if accepts(lambda name=name: put(storage, b"o/" + name, name))]  # type: ignore[misc]
    listed = [entry.key[2:] for entry in any_order(storage) if entry.key.startswith(b"o/")]
    if listed == sorted(kept):
        return Fact("list: byte order", "kept")
    return Fact("list: byte order", "broken", " ".join(map(show, listed)))


def length_facts(storage: Storage) -> Iterator[Fact]:
    """The longest key and the longest segment, in bytes of the whole key; "none found" up to what S3 allows."""
    above = len(storage.place[1])  # the bucket sees the scratch prefix too

    def key(length: int) -> bytes:
        rest = length - above - 2
        return b"l/" + (b"s" * 200 + b"/") * (rest // 201) + b"t" * (rest % 201 or 1)

    def keeps(name: bytes) -> bool:
        return accepts(lambda: put(storage, name, name)) and _content(storage, name, len(name)) == name

    longest = most(lambda length: keeps(key(length)), 256, KEY_BYTES + 1)
    yield Fact("limit: key bytes", "none found" if longest is None else str(longest), "of the whole key")
    room = min(longest or KEY_BYTES, KEY_BYTES) - above - 2
    segment = most(lambda length: keeps(b"m/" + b"n" * length), 100, room)
    yield Fact("limit: segment bytes", "none found" if segment is None else str(segment), f"tried up to {room}")
