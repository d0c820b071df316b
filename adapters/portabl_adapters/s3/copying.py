"""Server-side copies: only where the outcome can be proven equal, field by field and byte by byte.

CopyObject leaves website redirects behind, Ceph loses tags and ignores x-amz-copy-source-if-match: the whole metadata
is sent again (REPLACE), the result's MD5 must be the source's, and the new object is looked at afterwards.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

from portabl.errors import NotFound, StorageError
from portabl.model import NOTHING, Entry, Metadata, ObjectInfo, Written
from portabl_adapters.s3 import fields, replies, upload
from portabl_adapters.s3.wire import Answer, Header

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

COPY_BYTES_MAX = 5 * 2**30
"""CopyObject's own limit."""

PART_BYTES_USUAL = 8 * 2**20
"""Bytes a part of a large object has, unless the object has more parts than the store allows."""


def copy(source: S3Storage, target: S3Storage, entry: Entry, key: bytes, info: ObjectInfo) -> Written | None:
    """Copy inside the store; None when that is impossible or its outcome is not exactly the source. Full target key."""
    md5 = info.digests.get("md5", "")
    from_key = source.prefix + entry.key
    if not same_store(source, target) or (source.place[0], from_key) == (target.place[0], key):
        return None
    if entry.size > COPY_BYTES_MAX or not md5 or md5 != entry.etag or not key.strip(b"/") or info.losses:
        return None
    headers, losses = fields.request_headers(
        replace(info.metadata, tags=NOTHING), frozenset(), target.fidelity.header_lines
    )
    if losses:
        return None
    answer = target.calls.object("PUT", key, "", [*headers, *_copy_headers(source, entry, from_key)])
    if answer.status == 404 and replies.error_code(answer.body) == "NoSuchKey":
        raise NotFound("no such object", key=entry.key, storage=source.name)
    return _proven(target, key, entry, info, answer)


def share(source: S3Storage, target: S3Storage, entry: Entry, key: bytes) -> Written | None:
    """Copy a body inside the store, whole or in the parts it was written in; None unless its ETag proves it equal."""
    if fields.is_md5(entry.etag) and entry.size <= COPY_BYTES_MAX:
        return copy(source, target, entry, key, ObjectInfo(entry.size, entry.etag, digests={"md5": entry.etag}))
    md5, dash, parts = entry.etag.rpartition("-")
    if not dash or not fields.is_md5(md5) or not parts.isdigit() or not same_store(source, target):
        return None
    size = _part_size(entry.size, int(parts))
    return _in_parts(source, target, entry, key, size) if size else None


def _part_size(size: int, parts: int) -> int:
    """Bytes a part had, when whole MiB say so; 0 when none fits."""
    for chosen in (PART_BYTES_USUAL, (size // max(parts, 1) // 2**20 + 1) * 2**20):
        if -(-size // chosen) == parts:
            return chosen
    return 0


def _in_parts(source: S3Storage, target: S3Storage, entry: Entry, key: bytes, size: int) -> Written | None:
    for token in upload.abandoned(target, key):  # left by a killed run: nobody else writes below a package
        upload.S3Upload(target, key, entry.size, Metadata(), token, {}, ()).abort()
    made = upload.begin(target, key, entry.size, Metadata())
    try:
        tags = [
            _copied_part(source, target, made.token, entry, key, n, size) for n in range(1, -(-entry.size // size) + 1)
        ]
        if upload.etag_of_parts(tags) != entry.etag:
            made.abort()
            return None
        return made.finish(tags, "")
    except StorageError:
        with contextlib.suppress(StorageError):  # the first error is the one to tell
            made.abort()
        raise


def _copied_part(
    source: S3Storage, target: S3Storage, token: str, entry: Entry, key: bytes, number: int, size: int
) -> str:
    """UploadPartCopy; the ETag of the part, "" when the store does not say one. Raises StorageError."""
    first = (number - 1) * size
    last = min(first + size, entry.size) - 1
    headers = _copy_source(source, entry, source.prefix + entry.key)
    query = f"?partNumber={number}&uploadId={quote(token, safe='')}"
    answer = target.calls.object("PUT", key, query, [*headers, f"x-amz-copy-source-range: bytes={first}-{last}"])
    if answer.status >= 300:
        raise target.calls.error(answer, key)
    try:
        return replies.result_etag(answer.body, "CopyPartResult")
    except replies.Unreadable:
        return ""


def same_store(source: S3Storage, target: S3Storage) -> bool:
    """Whether both are one service under the same credentials."""
    if source.calls.address.endpoint != target.calls.address.endpoint:
        return False
    return source.calls.credentials.current().same(target.calls.credentials.current())


def _copy_headers(source: S3Storage, entry: Entry, from_key: bytes) -> list[Header]:
    return [*_copy_source(source, entry, from_key), "x-amz-metadata-directive: REPLACE"]


def _copy_source(source: S3Storage, entry: Entry, from_key: bytes) -> list[Header]:
    name = f"/{source.calls.address.bucket}/{quote_from_bytes(from_key)}"
    if entry.version:
        name += f"?versionId={quote(entry.version, safe='')}"
    return [
        f"x-amz-copy-source: {name}",
        f'x-amz-copy-source-if-match: "{entry.etag}"',
    ]


def _proven(target: S3Storage, key: bytes, entry: Entry, info: ObjectInfo, answer: Answer) -> Written | None:
    """What was written, when the object now at ``key`` has the source's MD5, size, headers, user metadata and tags."""
    if answer.status != 200 or not _says(answer, entry.etag):
        return None
    if info.metadata.tags and target.tags.ensure(key, info.metadata.tags):
        return None
    there = target.stat(key[len(target.prefix) :])
    ours, theirs = info.metadata, there.metadata
    if (there.etag, there.size, theirs.headers, theirs.user) != (entry.etag, entry.size, ours.headers, ours.user):
        return None
    if (theirs.acl, theirs.lock) != (ours.acl, ours.lock):
        return None
    return Written(there.etag, there.version) if theirs.tags == ours.tags and not there.losses else None


def _says(answer: Answer, etag: str) -> bool:
    try:
        return replies.result_etag(answer.body, "CopyObjectResult") == etag
    except replies.Unreadable:  # an error under status 200
        return False
