"""One try: write an object, look at what became of it, say it in a word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from portabl.errors import StorageError
from portabl.model import NOTHING, Body, Entry, Fact, Metadata, ObjectInfo, Written
from portabl.storage import Storage

ORDER = ("kept", "changed", "dropped", "refused", "merged")
"""From good to bad: of several tries of one feature the worst counts."""


def body(data: bytes) -> Body:
    """Bytes with their digests."""
    return Body(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())


def put(storage: Storage, key: bytes, data: bytes, metadata: Metadata | None = None) -> Written:
    """Write one object."""
    return storage.write(key, body(data), metadata or Metadata(NOTHING, NOTHING, NOTHING))


def get(storage: Storage, key: bytes, size: int) -> tuple[bytes, ObjectInfo]:
    """Read one object, whatever it is now."""
    content = storage.read(Entry(key, size))
    return bytes(content.data), content.info


def refusal(error: StorageError) -> str:
    """A place's refusal in words. (A wrong signature too: some servers sign odd keys otherwise than they are sent; that
    the credentials themselves are good is shown by `objects.control`, before and after.)
    """
    return error.message or type(error).__name__


def accepts(write: Callable[[], object]) -> bool:
    """Whether a write goes through."""
    try:
        write()
    except StorageError:
        return False
    return True


def worst(name: str, tries: Sequence[tuple[str, str]]) -> Fact:
    """The fact that several tries (outcome, detail) of one feature make."""
    outcome, detail = max(tries, key=lambda one: ORDER.index(one[0]))
    return Fact(name, outcome, detail)


def most(works: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number of ``low`` to ``high`` that works; None when ``high`` does, 0 when not even ``low`` does."""
    if works(high):
        return None
    if not works(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


def largest(works: Callable[[int], bool], candidates: Sequence[int]) -> int:
    """The last of the ascending ``candidates`` before the first that does not work, 0 when there is none."""
    found = 0
    for candidate in candidates:
        if not works(candidate):
            break
        found = candidate
    return found
