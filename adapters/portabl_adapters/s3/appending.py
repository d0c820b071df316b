"""One more version of a key, exactly once.

A bucket with versions keeps every PUT and every DELETE, so one that is sent twice is there twice. Each is sent once;
after an answer that was lost or says nothing (5xx), the key's versions are looked at before it is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portabl.errors import Changed, Corrupt, Refused, StorageError
from portabl.model import Body, Entry, Loss, Metadata, Written
from portabl.tasks import finish
from portabl_adapters.s3 import fields
from portabl_adapters.s3.calls import Request
from portabl_adapters.s3.wire import Answer, Header

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

ATTEMPTS = 6
"""Times one version is sent; between them 0.2 s, doubling."""


def append(storage: S3Storage, key: bytes, body: Body | None, metadata: Metadata, previous: str) -> Written:
    """See `portabl.storage.Storage.append`."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer, losses = _send(storage, storage.prefix + key, body, metadata)
        except StorageError as trouble:
            if not trouble.transient:
                raise
            found = _arrived(storage, key, body, previous)
            if found is not None:
                return Written(found.etag, found.version)
            if attempt == ATTEMPTS:
                raise
        else:
            if not fields.says_damaged(answer):
                return _accepted(storage, key, body, answer, losses, previous)
        time.sleep(0.1 * 2**attempt)
    raise Corrupt(
        f"the bytes arrive damaged: the store says {storage.calls.said(answer)}", key=key, storage=storage.name
    )


def _send(storage: S3Storage, full: bytes, body: Body | None, metadata: Metadata) -> tuple[Answer, list[Loss]]:
    if not full.strip(b"/"):
        storage.refuse_slashes(full)
    if body is None:
        return storage.calls.request("DELETE", full, attempts=1)(), []
    sent = body

    def put(headers: Sequence[Header]) -> Request:
        lines = [*headers, fields.content_md5(sent.md5)] if sent.md5 else list(headers)
        return storage.calls.request("PUT", full, "", lines, sent.data, sent.sha256, attempts=1)

    return finish(storage.fitting.sending(metadata, put))


def _arrived(storage: S3Storage, key: bytes, body: Body | None, previous: str) -> Entry | None:
    """The newest version, when it is the one that was sent; None when it is still ``previous``. Raises Changed."""
    there = storage.history(key)
    newest = there[-1] if there else None
    if newest is None or newest.version == previous:
        if newest is None and previous:
            raise Changed("its versions are gone at the target", key=key, storage=storage.name)
        return None
    before = there[-2].version if len(there) > 1 else ""
    if before == previous and _is(newest, body, etag_is_md5=storage.etag_is_md5):
        return newest
    raise Changed("something else writes to this key at the target", key=key, storage=storage.name)


def _is(entry: Entry, body: Body | None, *, etag_is_md5: bool) -> bool:
    if body is None or entry.delete_marker:
        return body is None and entry.delete_marker
    same = not etag_is_md5 or not body.md5 or not fields.is_md5(entry.etag) or entry.etag == body.md5
    return entry.size == len(body.data) and same


def _accepted(
    storage: S3Storage, key: bytes, body: Body | None, answer: Answer, losses: Sequence[Loss], previous: str
) -> Written:
    """What a store that answered has stored: one new version, of these bytes. One of other bytes is taken back."""
    if answer.status >= 300:
        raise storage.calls.error(answer, key)
    etag, version = answer.identity
    if not version:  # the store does not say: its listing does
        found = _arrived(storage, key, body, previous)
        etag, version = (found.etag, found.version) if found else (etag, "")
    if version in ("", "null", previous):
        raise Refused("the target made no new version of it", key=key, storage=storage.name)
    if body is not None and not storage.agrees(answer, etag, body):
        storage.take_back(key, version)
        raise Corrupt(f"the store says MD5 {etag}, sent {body.md5}", key=key, storage=storage.name)
    return Written("" if body is None else etag, version, tuple(losses))
