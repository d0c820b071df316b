"""Listing a bucket page by page, believing nothing: a listing that contradicts itself is broken, never empty."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, quote_from_bytes

from portabl.errors import ListingBroken, ListingDisordered, NotFound
from portabl.model import Entry
from portabl_adapters.s3 import replies
from portabl_adapters.s3.calls import Calls

PAGE_KEYS = 1000


def entries(calls: Calls, prefix: bytes, after: bytes | None, version: int) -> Iterator[Entry]:
    """Every object below ``prefix`` with relative key > ``after``, in byte order. ``version`` of the API: 1 or 2.

    The next page is asked for by the last key (start-after), not by the continuation token: Ceph and SeaweedFS put the
    raw last key into the token, where XML damages control characters, and the next page would begin elsewhere.
    Raises ListingBroken, ListingDisordered, and what any request raises.
    """
    floor = None if after is None else prefix + after
    last = None if floor is None else _sayable(floor)
    cut = len(prefix)
    token = ""
    while True:
        page = fetch(calls, prefix, last, token, version)
        for entry in page.entries:
            key = entry.key
            if not key.startswith(prefix):
                raise ListingBroken("a listed key lies outside the prefix", key=key, storage=calls.name)
            if last is not None and key <= last:
                raise ListingDisordered("keys are not in byte order", key=key, storage=calls.name)
            last = key
            if floor is None or key > floor:
                yield _relative(entry, cut) if cut else entry
        if not page.truncated:
            return
        token = _next_token(calls, page, token, version)


def _sayable(key: bytes) -> bytes:
    """The key, cut where it stops being UTF-8: servers answer 500 to a start-after that is no text."""
    try:
        key.decode("utf-8")
    except UnicodeDecodeError as error:
        return key[: error.start]
    return key


def _relative(entry: Entry, cut: int) -> Entry:
    return Entry(entry.key[cut:], entry.size, entry.etag, entry.modified, "", entry.storage_class)


def _next_token(calls: Calls, page: replies.Page, token: str, version: int) -> str:
    if version == 2 and not page.token:
        raise ListingBroken("the listing is cut off without a continuation token", storage=calls.name)
    if page.entries:
        return ""
    if version == 1 or page.token == token:
        raise ListingBroken("the listing does not get on", storage=calls.name)
    return page.token


def fetch(
    calls: Calls,
    prefix: bytes,
    last: bytes | None,
    token: str,
    version: int,
    *,
    keys: int = PAGE_KEYS,
    attempts: int = 8,
) -> replies.Page:
    """One page: behind ``token`` if there is one, else behind the key ``last``."""
    query = f"?list-type=2&encoding-type=url&max-keys={keys}" if version == 2 else f"?encoding-type=url&max-keys={keys}"
    if prefix:
        query += f"&prefix={quote_from_bytes(prefix, safe='')}"
    if token:
        query += f"&continuation-token={quote(token, safe='')}"
    elif last is not None:
        query += f"&{'start-after' if version == 2 else 'marker'}={quote_from_bytes(last, safe='')}"
    answer = calls.bucket(query, attempts)
    if answer.status != 200:
        error = calls.error(answer)
        raise ListingBroken(error.message, storage=calls.name) if isinstance(error, NotFound) else error
    try:
        return replies.listing(answer.body, version)
    except replies.Unreadable as problem:
        raise ListingBroken(f"the listing cannot be read: {problem}", storage=calls.name) from None
