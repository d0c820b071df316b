"""All versions of a bucket, believed only as far as the listing proves that none is missing.

Servers get this listing wrong in ways of their own (measured). SeaweedFS leaves versions out of a listing that is cut
off, Swift out of every page but the first, moto puts delete markers behind all versions, so that their place among
them is lost, and Ceph goes on with the next key behind a ``null`` delete marker. So a page that is cut off must name
its own last entry as the place to go on, but that entry must come again as the first of the next page; and where the
order of a key's versions is not certain, they are asked for one by one.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from urllib.parse import quote, quote_from_bytes

from portabl.errors import ListingBroken, Unreachable
from portabl.model import Entry
from portabl_adapters.s3 import replies
from portabl_adapters.s3.calls import Calls
from portabl_adapters.s3.listing import sayable

PAGE_VERSIONS = 1000
VERSIONS_MAX = 100_000
"""Versions of one key that are held in memory at once."""
_LOSES_VERSIONS = b"SeaweedFS"
_HINT = "its versions cannot be proven complete; migrate with `--versions current`"


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry as a page shows it. ``sure``: its place among the versions of its key is certain."""

    entry: Entry
    latest: bool
    sure: bool


def query(version: str) -> str:
    """Query that names one version; none for ""."""
    return f"?versionId={quote(version, safe='')}" if version else ""


def status(calls: Calls) -> str:
    """The bucket's versioning: Enabled, Suspended, or "" where it never was. Raises StorageError."""
    answer = calls.bucket("?versioning")
    if answer.status in (404, 405, 501) and replies.error_code(answer.body) != "NoSuchBucket":
        return ""
    if answer.status != 200:
        raise calls.error(answer)
    try:
        return replies.versioning(answer.body)
    except replies.Unreadable as problem:
        raise Unreachable(f"its versioning cannot be read: {problem}", storage=calls.name) from None


def entries(calls: Calls, prefix: bytes) -> Iterator[Entry]:
    """Every version below ``prefix``, keys relative to it, those of a key oldest first and numbered from 1.

    Raises ListingBroken, and what any request raises.
    """
    for _, group in groupby(_listed(calls, prefix), lambda one: one.entry.key):
        yield from _numbered(calls, list(group), len(prefix))


def of_key(calls: Calls, prefix: bytes, key: bytes) -> Sequence[Entry]:
    """All versions of exactly ``key`` (relative to ``prefix``), oldest first."""
    full = prefix + key
    for found, group in groupby(_listed(calls, sayable(full)), lambda one: one.entry.key):
        if found == full:
            return _numbered(calls, list(group), len(prefix))
        if found > full:
            break
    return ()


def _numbered(calls: Calls, group: list[_Listed], cut: int) -> list[Entry]:
    """One key's versions in their order. Raises ListingBroken when that is not what the server says."""
    key = group[0].entry.key
    if not all(one.sure for one in group) and len({one.entry.delete_marker for one in group}) == 2:
        group = _one_by_one(calls, key, group)
    if not group[0].latest:  # it is somewhere below, or the listing lacks it
        raise ListingBroken("the versions of a key are not listed from the latest on", key=key, storage=calls.name)
    if len({one.entry.version for one in group}) < len(group):
        raise ListingBroken("one version was listed twice", key=key, storage=calls.name)
    oldest_first = reversed(group)
    return [replace(one.entry, key=key[cut:], ordinal=number) for number, one in enumerate(oldest_first, 1)]


def _listed(calls: Calls, prefix: bytes) -> Iterator[_Listed]:
    """Everything below ``prefix``, keys together, newest first in each key as far as that is certain."""
    held = 0
    last = b""
    for page in _pages(calls, prefix):
        sure = not _apart(page)
        ordered = sorted(zip(page.entries, page.latest, strict=True), key=lambda pair: pair[0].key)  # stable
        for entry, latest in ordered if not sure else zip(page.entries, page.latest, strict=True):
            held = held + 1 if entry.key == last else 1
            last = entry.key
            if held > VERSIONS_MAX:
                raise ListingBroken(f"more than {VERSIONS_MAX:,} versions of one key", key=last, storage=calls.name)
            yield _Listed(entry, latest, sure)


def _apart(page: replies.VersionPage) -> bool:
    """Whether the page may have its delete markers behind all versions, whatever their place among these."""
    kinds = [entry.delete_marker for entry in page.entries]
    if True not in kinds or False not in kinds:
        return False
    return False not in kinds[kinds.index(True) :]


def _pages(calls: Calls, prefix: bytes) -> Iterator[replies.VersionPage]:
    after: Entry | None = None
    first: Entry | None = None
    while True:
        page = _fetch(calls, prefix, after)
        if first is not None:
            _begins_with(calls, page, first)
        for entry in page.entries:
            if not entry.key.startswith(prefix):
                raise ListingBroken("a listed key lies outside the prefix", key=entry.key, storage=calls.name)
        if not page.truncated:
            yield page
            return
        count = _proven(calls, page)
        yield replace(page, entries=page.entries[:count], latest=page.latest[:count])
        after, first = page.entries[count - 1], page.entries[count] if count < len(page.entries) else None
        if first is None and _apart(page):
            after = _named(page)
        elif first is not None and _skips(after):
            after = replace(after, key=_between(after.key, first.key), version="")  # the key is at its end


def _proven(calls: Calls, page: replies.VersionPage) -> int:
    """How many entries of a page that is cut off to take: the next one must come again as the first of the next page.

    Raises ListingBroken when the page does not say that the next one begins behind its end, or when nobody can be
    asked for what follows it.
    """
    end = _named(page)
    apart = _apart(page)
    if end is None or end.key < max(e.key for e in page.entries) or not (apart or end is page.entries[-1]):
        message = "the listing of versions does not say where it goes on"
        raise ListingBroken(message, storage=calls.name, hint=_HINT)
    if apart and not _skips(end):
        return len(page.entries)
    counts = range(len(page.entries) - 1, 0, -1)
    count = next((n for n in counts if not _skips(page.entries[n - 1])), 0) or _keys_end(page)
    if not count and not _skips(end):
        return len(page.entries)
    if not count or end is not page.entries[-1]:
        message = "a page of the listing of versions ends where some servers leave out what follows"
        raise ListingBroken(message, key=end.key, storage=calls.name, hint=_HINT)
    return count


def _keys_end(page: replies.VersionPage) -> int:
    """How many entries of a page of nothing but ``null`` delete markers to take: no key has two of them, so each stands
    for another key, and those before the last key are at their end. 0 when the page has but one.
    """
    some = len(page.entries) - 1
    return some if some and _between(page.entries[-2].key, page.entries[-1].key) else 0


def _between(key: bytes, following: bytes) -> bytes:
    """A name between a key and the next one, which no key has: asked for what follows a key, some servers begin with it
    (Ceph), others behind it. "" when there is none that every server takes.
    """
    return next((name for name in (key + b" ", key + b"\1") if name < following), b"")


def _skips(entry: Entry) -> bool:
    """Asked for what follows a ``null`` delete marker, Ceph leaves out all older versions of its key (16.2)."""
    return entry.delete_marker and entry.version == "null"


def _named(page: replies.VersionPage) -> Entry | None:
    """The entry that the server names as the place to go on behind."""
    keys, version = page.marker
    return next((e for e in reversed(page.entries) if e.version == version and e.key in keys), None)


def _begins_with(calls: Calls, page: replies.VersionPage, expected: Entry) -> None:
    begin = page.entries if _apart(page) else page.entries[:1]  # where the first one is among the others is not known
    if (expected.key, expected.version) not in ((entry.key, entry.version) for entry in begin):
        message = "a page of the listing of versions does not begin where the one before ended"
        raise ListingBroken(message, key=expected.key, storage=calls.name, hint=_HINT)


def _fetch(calls: Calls, prefix: bytes, after: Entry | None, size: int = 0) -> replies.VersionPage:
    query = f"?versions&{calls.address.encoding}max-keys={size or PAGE_VERSIONS}"
    if prefix:
        query += f"&prefix={quote_from_bytes(prefix, safe='')}"
    if after is not None:
        query += f"&key-marker={quote_from_bytes(after.key, safe='')}"
        query += f"&version-id-marker={quote(after.version, safe='')}" if after.version else ""  # else behind the key
    answer = calls.bucket(query)
    if answer.status != 200:
        error = calls.error(answer)
        raise ListingBroken(error.message, storage=calls.name, hint=_HINT) if error.per_object else error
    try:
        page = replies.versions(answer.body)
    except replies.Unreadable as problem:
        raise ListingBroken(f"the versions cannot be read: {problem}", storage=calls.name, hint=_HINT) from None
    if page.truncated and answer.headers.get(b"server", b"").startswith(_LOSES_VERSIONS):
        message = "this server leaves versions out where one page does not hold them all (SeaweedFS)"
        raise ListingBroken(message, storage=calls.name, hint=_HINT)
    return page


def _one_by_one(calls: Calls, key: bytes, listed: list[_Listed]) -> list[_Listed]:
    """The same versions in the order in which the server shows them one at a time, newest first."""
    by_id = {one.entry.version: one for one in listed}
    found: list[_Listed] = []
    after: Entry | None = None
    while len(found) < len(listed):
        page = _fetch(calls, sayable(key), after, size=1)
        if len(page.entries) != 1 or page.entries[0].key != key or page.entries[0].version not in by_id:
            return _by_time(calls, key, listed)
        after = page.entries[0]
        found.append(by_id.pop(after.version))
    return found


def _by_time(calls: Calls, key: bytes, listed: list[_Listed]) -> list[_Listed]:
    """The order in which they are listed, if their times say the same, each its own."""
    times = [one.entry.modified for one in listed]
    if any(older >= newer for newer, older in pairwise(times)):
        message = "the listing does not say in which order the versions of a key came"
        raise ListingBroken(message, key=key, storage=calls.name, hint=_HINT)
    return listed
