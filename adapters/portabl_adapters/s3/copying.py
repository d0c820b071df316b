"""Server-side copies: only where the outcome can be proven equal, field by field and byte by byte.

CopyObject leaves website redirects behind, Ceph loses tags and ignores x-amz-copy-source-if-match: the whole metadata
is sent again (REPLACE), the result's MD5 must be the source's, and the new object is looked at afterwards.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

from portabl.errors import NotFound
from portabl.model import NOTHING, Entry, ObjectInfo, Written
from portabl_adapters.s3 import fields, replies
from portabl_adapters.s3.wire import Answer, Header

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

COPY_BYTES_MAX = 5 * 2**30
"""CopyObject's own limit."""


def copy(source: S3Storage, target: S3Storage, entry: Entry, key: bytes, info: ObjectInfo) -> Written | None:
    """Copy inside the store; None when that is impossible or its outcome is not exactly the source. Full target key."""
    md5 = info.digests.get("md5", "")
    from_key = source.prefix + entry.key
    if not same_store(source, target) or (source.place[0], from_key) == (target.place[0], key):
        return None
    if entry.size > COPY_BYTES_MAX or not md5 or md5 != entry.etag or not key.strip(b"/") or info.losses:
        return None
    headers, losses = fields.request_headers(replace(info.metadata, tags=NOTHING), frozenset())
    if losses:
        return None
    answer = target.calls.object("PUT", key, "", [*headers, *_copy_headers(source, entry, from_key)])
    if answer.status == 404 and replies.error_code(answer.body) == "NoSuchKey":
        raise NotFound("no such object", key=entry.key, storage=source.name)
    return _proven(target, key, entry, info, answer)


def same_store(source: S3Storage, target: S3Storage) -> bool:
    """Whether both are one service under the same credentials."""
    if source.calls.address.endpoint != target.calls.address.endpoint:
        return False
    return source.calls.credentials.current().same(target.calls.credentials.current())


def _copy_headers(source: S3Storage, entry: Entry, from_key: bytes) -> list[Header]:
    name = f"/{source.calls.address.bucket}/{quote_from_bytes(from_key)}"
    if entry.version:
        name += f"?versionId={quote(entry.version, safe='')}"
    return [
        f"x-amz-copy-source: {name}",
        f'x-amz-copy-source-if-match: "{entry.etag}"',
        "x-amz-metadata-directive: REPLACE",
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
    return Written(there.etag, there.version) if theirs.tags == ours.tags and not there.losses else None


def _says(answer: Answer, etag: str) -> bool:
    try:
        return replies.result_etag(answer.body, "CopyObjectResult") == etag
    except replies.Unreadable:  # an error under status 200
        return False
