"""Listing a bucket page by page, believing nothing: a listing that contradicts itself is broken, never empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote, quote_from_bytes

from portabl.errors import ListingBroken, ListingDisordered
from portabl.model import Entry
from portabl_adapters.s3 import replies
from portabl_adapters.s3.calls import Calls

PAGE_KEYS = 1000
ONE_KEYS = 10
EMPTY_PAGES_MAX = 1000
"""Pages without a key that may follow each other (Ceph has some after many deletions)."""
_ODD_SEGMENT = re.compile(rb"^/|//|\\|(?:^|/)\.{1,2}(?:/|$)")
_LAST_CHARACTERS = re.compile(rb"(?:\xf4\x8f\xbf\xbf)+$")
"""Swift answers 503 to a prefix that ends with the last character of Unicode, and then for a while to all else."""
REPLACED = "-"
"""What `replies` puts in place of a token that was no XML."""
_DAMAGED = re.compile("[\x00-\x1f\x7f-\x9f\ufffd-\uffff]")


def entries(calls: Calls, prefix: bytes, after: bytes | None, version: int) -> Iterator[Entry]:
    """Every object below ``prefix`` with relative key > ``after``, in byte order. ``version`` of the API: 1 or 2.

    Raises ListingBroken, ListingDisordered, and what any request raises.
    """
    floor = None if after is None else prefix + after
    last = None if floor is None else sayable(floor)
    cut = len(prefix)
    for page in pages(calls, prefix, last, version):
        for entry in page.entries:
            key = _inside(calls, prefix, entry.key)
            if last is not None and key <= last:
                raise ListingDisordered("keys are not in byte order", key=key, storage=calls.name)
            last = key
            if floor is None or key > floor:
                yield _relative(entry, cut) if cut else entry


def unordered(calls: Calls, prefix: bytes, after: bytes | None, version: int) -> Iterator[Entry]:
    """The same in the server's own order, for servers that do not list in byte order; what it repeats is repeated.

    Without an order to check, a listing that turns in a circle is found by comparing page ends (Brent's algorithm).
    """
    anchor: bytes | None = None
    steps = limit = 1
    for page in pages(calls, prefix, None, version):
        for entry in page.entries:
            key = _inside(calls, prefix, entry.key)[len(prefix) :]
            if after is None or key > after:
                yield _relative(entry, len(prefix))
        end = page.entries[-1].key if page.entries else None
        if end is not None and end == anchor:
            raise ListingBroken("the listing turns in a circle", key=end, storage=calls.name)
        steps -= 1
        if not steps:
            anchor, limit = end, 2 * limit
            steps = limit


def pages(calls: Calls, prefix: bytes, last: bytes | None, version: int) -> Iterator[replies.Page]:
    """All pages, from behind the key ``last`` on.

    The next page is asked for by the token, because start-after makes SeaweedFS leave out all of ``a/...`` when a page
    ends with ``a``. But SeaweedFS and Ceph put the last key into the token, where XML damages some characters and the
    next page would begin elsewhere: a page that ends with such a key is asked for again, shorter. If none of its keys
    will do, start-after is used. Raises ListingBroken for a listing that does not get on.
    """
    token, empty = "", 0
    while True:
        page = fetch(calls, prefix, last, token, version)
        if page.truncated and version == 2 and (keys := _speakable_keys(page)) < len(page.entries):
            page = fetch(calls, prefix, last, token, version, keys=keys) if keys else page
        yield page
        if not page.truncated:
            return
        empty = 0 if page.entries else empty + 1
        if (version == 2 and not page.token) or (empty and (version == 1 or page.token == token)):
            raise ListingBroken("the listing is cut off", storage=calls.name)
        if empty > EMPTY_PAGES_MAX:
            raise ListingBroken("the listing does not get on", storage=calls.name)
        last = page.entries[-1].key if page.entries else last
        usable = version == 2 and page.token != REPLACED and (not page.entries or _speakable(page.entries[-1].key))
        token = page.token if usable else ""


def _speakable_keys(page: replies.Page) -> int:
    """How many keys from the beginning of a page end with one that a token can hold."""
    return next((n for n in range(len(page.entries), 0, -1) if _speakable(page.entries[n - 1].key)), 0)


def _speakable(key: bytes) -> bool:
    """Whether XML holds this key as it is."""
    try:
        return _DAMAGED.search(key.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def _inside(calls: Calls, prefix: bytes, key: bytes) -> bytes:
    if not key.startswith(prefix):
        raise ListingBroken("a listed key lies outside the prefix", key=key, storage=calls.name)
    return key


def sayable(key: bytes) -> bytes:
    """The key, cut where it stops being UTF-8: servers answer 500 to a start-after or prefix that is no text."""
    try:
        key.decode("utf-8")
    except UnicodeDecodeError as error:
        return key[: error.start]
    return key


def _relative(entry: Entry, cut: int) -> Entry:
    return Entry(entry.key[cut:], entry.size, entry.etag, entry.modified, "", entry.storage_class)


def one(calls: Calls, prefix: bytes, key: bytes, version: int) -> Entry | None:
    """What a listing below ``prefix`` shows under exactly ``key``; None when nothing.

    A key comes before all others that begin with it, in every order seen. SeaweedFS, asked for ``a//b``, may show its
    ``a/b`` under that name; so a key with such segments must be shown by a listing that was not told its name, too.
    """
    full = prefix + key
    if last := _LAST_CHARACTERS.search(full):
        found = _search(calls, full[: last.start()], full, version)
    else:
        page = fetch(calls, full, None, "", version, keys=ONE_KEYS)
        found = next((entry for entry in page.entries if entry.key == full), None)
    if found is not None and (odd := _ODD_SEGMENT.search(key)):
        found = _search(calls, prefix + key[: odd.start()], full, version)
    return found and replace(found, key=key)


def _search(calls: Calls, prefix: bytes, full: bytes, version: int) -> Entry | None:
    """The entry of ``full`` in the listing below ``prefix``, read no further than where byte order has it."""
    for page in pages(calls, prefix, None, version):
        for entry in page.entries:
            if entry.key == full:
                return entry
        if page.entries and page.entries[-1].key > full:
            break
    return None


def fetch(
    calls: Calls,
    prefix: bytes,
    last: bytes | None,
    token: str,
    version: int,
    *,
    keys: int = 0,
    attempts: int = 8,
) -> replies.Page:
    """One page: behind ``token`` if there is one, else behind the key ``last``."""
    query = f"?{'list-type=2&' if version == 2 else ''}{calls.address.encoding}max-keys={keys or PAGE_KEYS}"
    if prefix:
        query += f"&prefix={quote_from_bytes(prefix, safe='')}"
    if token:
        query += f"&continuation-token={quote(token, safe='')}"
    elif last is not None:
        query += f"&{'start-after' if version == 2 else 'marker'}={quote_from_bytes(last, safe='')}"
    answer = calls.bucket(query, attempts)
    if answer.status != 200:
        error = calls.error(answer)
        raise ListingBroken(error.message, storage=calls.name) if error.per_object else error
    try:
        return replies.listing(answer.body, version)
    except replies.Unreadable as problem:
        raise ListingBroken(f"the listing cannot be read: {problem}", storage=calls.name) from None
