"""What becomes of headers, user metadata, tags and storage classes: written, read back, compared field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from portabl.errors import Corrupt, StorageError
from portabl.executors import in_order
from portabl.features import FIELDS, STORAGE_CLASSES
from portabl.model import Fact, Metadata, Written
from portabl.probe.trying import accepts, body, get, largest, put, refusal
from portabl.shapes import read_back
from portabl.storage import Storage

THREADS = 8
_DATA = b"portabl"
VALUE_BYTES = (128, 255, 256, 512, 1024, 2040)
TOTAL_BYTES = (512, 1024, 2048)
"""Tried from the smallest on, no further than the first that fails, and never beyond the 2,048 bytes S3 allows in all:
a Swift whose disks cannot hold as much as its configuration allows shuts out its own disk for a minute (measured).
"""


def control(storage: Storage) -> None:
    """An ordinary object can be written, read and deleted. Raises StorageError: without that no try means anything."""
    put(storage, b"control", _DATA)
    data, _ = get(storage, b"control", len(_DATA))
    if data != _DATA:
        raise Corrupt("an ordinary object comes back changed", key=b"control", storage=storage.name)
    storage.delete(b"control")


def field_facts(storage: Storage) -> Iterator[Fact]:
    """A fact for every feature of fields, and what becomes of fields on an empty object that ends in a slash."""
    samples = dict(FIELDS)
    control_of_tags = samples.pop("tags: plain")
    yield _fact(storage, "tags: plain", b"f/tags", control_of_tags)
    tries = in_order(samples.items(), lambda one: _fact(storage, one[0], b"f/" + one[0].encode(), one[1]), THREADS)
    yield from (fact for _, fact in tries)
    yield _fact(storage, "header: on a folder", b"f/h/", Metadata({"content-type": "text/x-folder"}), b"")
    yield _fact(storage, "user: on a folder", b"f/u/", Metadata(user={"colour": "blue"}), b"")
    yield _fact(storage, "tags: on a folder", b"f/t/", Metadata(tags={"team": "blue"}), b"")


def _fact(storage: Storage, name: str, key: bytes, metadata: Metadata, data: bytes = _DATA) -> Fact:
    try:
        written = put(storage, key, data, metadata)
        return _compared(storage, name, key, metadata, written)
    except StorageError as error:
        return Fact(name, "refused", refusal(error))


def _compared(storage: Storage, name: str, key: bytes, metadata: Metadata, written: Written) -> Fact:
    """The worst that happened to any field, those the adapter knew to leave out included."""
    if written.losses:
        return Fact(name, "refused", written.losses[0].reason)
    losses = read_back(metadata, storage.stat(key))
    if not losses:
        return Fact(name, "kept")
    loss = losses[0]
    became = f"{loss.field} {loss.value!r}: {'' if loss.became is None else repr(loss.became)}".rstrip(": ")
    return Fact(name, "dropped" if loss.became is None else "changed", f"{became} ({loss.reason})")


def class_facts(storage: Storage) -> Iterator[Fact]:
    """Which storage classes can be asked for by name."""
    for name in STORAGE_CLASSES:
        yield _fact(storage, f"storage class: {name}", b"c/" + name.encode(), Metadata(storage_class=name))


def upload_facts(storage: Storage) -> Iterator[Fact]:
    """What becomes of fields that come with an upload in parts."""
    fields: Mapping[str, Metadata] = {
        "headers": Metadata({"content-type": "text/x-parts", "cache-control": "no-store"}),
        "user metadata": Metadata(user={"colour": "blue"}),
        "tags": Metadata(tags={"team": "blue"}),
    }
    for name, metadata in fields.items():
        key = b"u/" + name.encode()
        try:
            upload = storage.upload(key, len(_DATA), metadata, len(_DATA))
            piece = body(_DATA)
            written = upload.finish([upload.part(1, piece, 0)], piece.sha256)
            yield _compared(storage, f"upload: {name}", key, metadata, written)
        except StorageError as error:
            yield Fact(f"upload: {name}", "refused", refusal(error))


def size_facts(storage: Storage) -> Iterator[Fact]:
    """The longest value, and how much user metadata one object may have in all (names and values, bytes)."""

    def keeps(user: Mapping[str, str]) -> bool:
        metadata = Metadata(user=user)
        return (
            accepts(lambda: put(storage, b"z/size", _DATA, metadata))
            and storage.stat(b"z/size").metadata.user == metadata.user
        )

    value = largest(lambda length: keeps({"v": "v" * length}), VALUE_BYTES)
    yield _limit("limit: user value bytes", value, VALUE_BYTES)
    piece = min(value, 200)

    def total(size: int) -> bool:
        count, rest = divmod(size, piece)
        named = {f"n{n:03d}": "v" * (piece - 4) for n in range(count)}
        return keeps(named | ({"r": "v" * (rest - 1)} if rest > 1 else {}))

    sizes = TOTAL_BYTES if piece > 4 else ()
    yield _limit("limit: user metadata bytes", largest(total, sizes), sizes)


def _limit(name: str, found: int, tried: Sequence[int]) -> Fact:
    unlimited = bool(tried) and found == tried[-1]
    return Fact(name, "none found" if unlimited else str(found), f"largest that works of {', '.join(map(str, tried))}")
