"""What the contract tests share: bytes with digests, shorthands for the verbs, and the subclass's declarations."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Collection, Iterator

from portabl.errors import StorageError
from portabl.model import Body, Metadata, Written
from portabl.storage import Storage

NO_METADATA = Metadata()


def body(data: bytes) -> Body:
    """Bytes with their digests."""
    return Body(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest())


def noise(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes that do not compress."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data


def names(storage: Storage) -> list[bytes]:
    """The keys of a listing, as they come."""
    return [entry.key for entry in storage.entries()]


def put(storage: Storage, key: bytes, data: bytes, metadata: Metadata = NO_METADATA) -> Written:
    """Write an object."""
    return storage.write(key, body(data), metadata)


def get(storage: Storage, key: bytes) -> bytes:
    """Read an object as the listing shows it; a KeyError when it is not listed."""
    entry = storage.listed(key)
    if entry is None:
        raise KeyError(key)
    return bytes(storage.read(entry).data)


def _what(storage: Storage, key: bytes) -> bytes:
    try:
        return get(storage, key)
    except (StorageError, KeyError) as error:
        return f"unreadable: {type(error).__name__}".encode()


@contextlib.contextmanager
def raises(kind: type[StorageError], key: bytes | None = None) -> Iterator[None]:
    """The block must raise ``kind``, about ``key`` when given."""
    try:
        yield
    except kind as error:
        if key is not None and error.key != key:
            raise AssertionError(f"the error speaks of {error.key!r}, not of {key!r}") from error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


class Declarations:
    """What a subclass of the suite may declare about the server behind its adapter."""

    changed_keys: Collection[bytes] = ()
    """Keys of `KEYS` that this server stores under another name, damages or loses."""

    merged_keys: Collection[tuple[bytes, ...]] = ()
    """Groups of `TWINS` in which this server lets one object destroy another."""

    changed_metadata: Collection[str] = ()
    """Names in `METADATA` that this server changes or drops without a word."""

    disordered = False
    """Whether this server lists keys in another order than that of bytes; then every such listing must raise
    `ListingDisordered`, and `everything` must be able to tell what the place holds.
    """

    many = 1005
    """How many objects the listing test makes: more than one page."""

    def everything(self, storage: Storage) -> Collection[bytes] | None:  # noqa: ARG002 - for subclasses
        """All that the place holds, found without the adapter (temporary files, open uploads); None: cannot tell."""
        return None

    def held(self, storage: Storage) -> set[bytes]:
        """The keys the place holds, by the adapter's listing where the server lets it have one."""
        told = self.everything(storage) if self.disordered else names(storage)
        assert told is not None, "a class that declares `disordered` must implement `everything`"
        return set(told)

    def contents(self, storage: Storage) -> dict[bytes, bytes]:
        """Every key and what reading it gives, errors included."""
        return {key: _what(storage, key) for key in self.held(storage)}
