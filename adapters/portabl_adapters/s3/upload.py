"""Multipart uploads: begun, continued, finished once. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

from portabl import checksum
from portabl.errors import Changed, Corrupt, ListingBroken, Refused, Unreachable
from portabl.model import Body, Loss, Metadata, Written
from portabl.storage import Upload
from portabl.tasks import finish
from portabl_adapters.s3 import fields, locks, replies
from portabl_adapters.s3.bodyproof import UNSIGNED, Checked, checksum_header, crc64_header
from portabl_adapters.s3.wire import Answer

if TYPE_CHECKING:
    from portabl_adapters.s3.storage import S3Storage

_FINISH_ATTEMPTS = 5
_PASSING = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"})
_TYPE = "Content-Type: application/octet-stream"


class S3Upload(Upload):
    """One multipart upload. Sending a part twice is harmless: the same number with the same bytes."""

    def __init__(
        self,
        storage: S3Storage,
        key: bytes,
        size: int,
        metadata: Metadata,
        token: str,
        done: Mapping[int, str],
        losses: Sequence[Loss],
    ) -> None:
        self.token = token
        self._checked = storage.body_proof.known
        self.wants_md5 = self._checked is Checked.MD5
        self.wants_crc64 = self._checked is Checked.CRC64
        self.done = done
        self._storage = storage
        self._key = key
        self._size = size
        self._metadata = metadata
        self._losses = tuple(losses)

    def part(self, number: int, body: Body, offset: int) -> str:  # noqa: ARG002 - S3 orders parts by number
        """Store a part and check the ETag the store answers against the part's MD5."""
        query = f"?partNumber={number}&uploadId={quote(self.token, safe='')}"
        for _ in range(2):
            headers = [_TYPE, *self._digests(body)]
            signed = UNSIGNED if self.wants_crc64 else body.sha256
            answer = self._storage.calls.object("PUT", self._key, query, headers, body.data, signed)
            damaged = fields.says_damaged(answer)
            if answer.status >= 300 and not damaged:
                raise self._error(answer)
            etag, _ = answer.identity
            if not damaged and self._storage.agrees(answer, etag, body):
                return etag
        said = self._storage.calls.said(answer) if damaged else f"MD5 {etag}"
        message = f"part {number} arrives damaged: the store says {said}, sent {body.md5 or body.sha256 or body.crc64}"
        raise Corrupt(message, key=self._key, storage=self._storage.name)

    def _digests(self, body: Body) -> list[str]:
        if self.wants_crc64:
            return [crc64_header(body.crc64 or checksum.crc64nvme(body.data))]
        if self._checked is Checked.CHECKSUM:
            return [checksum_header(body.sha256)]
        return [fields.content_md5(body.md5)] if body.md5 else []

    def finish(self, tags: Sequence[str], sha256: str) -> Written:  # noqa: ARG002 - each part went under its own hash
        """Complete the upload; after a lost or doubtful answer, look before asking again."""
        body = replies.complete_xml(list(tags))
        query = f"?uploadId={quote(self.token, safe='')}"
        digest = hashlib.sha256(body).hexdigest()
        said = ""
        for attempt in range(1, _FINISH_ATTEMPTS + 1):
            answer = self._storage.calls.object(
                "POST",
                self._key,
                query,
                ["Content-Type: application/xml"],
                body,
                digest,
                recover=lambda: self._completed(tags),
            )
            written = self._outcome(answer, tags)
            if written is not None:
                return self._with_tags(written)
            said = self._storage.calls.said(answer)
            time.sleep(0.2 * 2**attempt)
        raise Unreachable(f"the upload could not be completed: {said}", key=self._key, storage=self._storage.name)

    def _outcome(self, answer: Answer, tags: Sequence[str]) -> Written | None:
        code = replies.error_code(answer.body)
        if answer.status == 200 and not code:
            return self._written(answer, tags)
        if code in _PASSING:
            return None
        if code == "NoSuchUpload" and (found := self._ours(tags)) is not None:
            return self._written(found, tags)
        raise Refused(f"refused: {code}", key=self._key) if answer.status == 200 else self._error(answer)

    def _written(self, answer: Answer, tags: Sequence[str]) -> Written:
        etag = self._etag(answer) or self._looked_up(tags)
        expected = etag_of_parts(tags)
        if (
            self._storage.etag_is_md5
            and expected
            and "-" in etag
            and etag != expected
            and not fields.encrypted(answer.headers)
        ):
            message = f"the store says ETag {etag}, the parts make {expected}"
            raise Corrupt(message, key=self._key, storage=self._storage.name)
        return Written(etag, answer.text(b"x-amz-version-id"))

    def _etag(self, answer: Answer) -> str:
        if not answer.body:
            return answer.identity[0]
        try:
            return replies.result_etag(answer.body, "CompleteMultipartUploadResult")
        except replies.Unreadable as error:
            raise Unreachable(f"unclear answer: {error}", key=self._key, storage=self._storage.name) from None

    def _looked_up(self, tags: Sequence[str]) -> str:
        """Ceph 16 leaves the ETag in its answer empty."""
        found = self._arrived(tags)
        if found is None:
            message = "the upload was completed, but the object is not what its parts make"
            raise Corrupt(message, key=self._key, storage=self._storage.name)
        return found.identity[0]

    def _ours(self, tags: Sequence[str]) -> Answer | None:
        """The same for an upload that is gone, be it finished or aborted: what is there must carry what we gave it."""
        found = self._arrived(tags)
        if found is None:
            return None
        wanted = self._metadata  # tags that are wanted are set and looked at in any case
        return found if self._storage.carries(self._key, found, wanted, with_tags=not wanted.tags) else None

    def _completed(self, tags: Sequence[str]) -> Answer | None:
        """The same after the answer was lost. An older object of the same parts, perhaps with other headers, may be
        there instead if the request never arrived: then the upload is there still.
        """
        found = self._arrived(tags)
        if found is None:
            return None
        left = self._storage.calls.object("GET", self._key, f"?max-parts=1&uploadId={quote(self.token, safe='')}")
        return found if left.status == 404 else None

    def _arrived(self, tags: Sequence[str]) -> Answer | None:
        """The HEAD of the finished object when it is ours: size, number of parts and their digests."""
        answer = self._storage.calls.object("HEAD", self._key)
        etag, expected = answer.identity[0], etag_of_parts(tags)
        same = etag == expected if expected and self._storage.etag_is_md5 else etag.endswith(f"-{len(tags)}")
        if answer.status == 200 and same and answer.headers.get(b"content-length") == b"%d" % self._size:
            return answer
        return None

    def _with_tags(self, written: Written) -> Written:
        losses = self._losses
        if self._metadata.tags and not any(loss.field.startswith("tag.") for loss in losses):
            losses = (*losses, *self._storage.tags.ensure(self._key, self._metadata.tags))
        if self._metadata.lock and not any(loss.field.startswith("lock.") for loss in losses):
            losses = (*losses, *locks.ensure(self._storage.calls, self._key, written.version, self._metadata.lock))
        return Written(written.etag, written.version, losses)

    def _error(self, answer: Answer) -> Exception:
        if replies.error_code(answer.body) == "NoSuchUpload":
            return Changed("the unfinished upload is gone at the target", key=self._key, storage=self._storage.name)
        return self._storage.calls.error(answer, self._key)

    def abort(self) -> None:
        """Give up; an upload that is gone already is no error."""
        answer = self._storage.calls.object("DELETE", self._key, f"?uploadId={quote(self.token, safe='')}")
        if answer.status >= 300 and answer.status != 404:
            raise self._error(answer)


def etag_of_parts(tags: Sequence[str]) -> str:
    """The ETag S3 makes of parts: MD5 of their MD5s and their number; "" when the parts' ETags are no MD5s."""
    if not all(fields.is_md5(tag) for tag in tags):
        return ""
    return f"{hashlib.md5(bytes.fromhex(''.join(tags))).hexdigest()}-{len(tags)}"


def begin(storage: S3Storage, key: bytes, size: int, metadata: Metadata) -> S3Upload:
    """CreateMultipartUpload."""
    answer, losses = finish(
        storage.fitting.sending(metadata, lambda headers: storage.calls.request("POST", key, "?uploads", headers))
    )
    if answer.status >= 300:
        raise storage.calls.error(answer, key)
    try:
        token = replies.upload_id(answer.body)
    except replies.Unreadable as error:
        raise Unreachable(f"unclear answer: {error}", key=key, storage=storage.name) from None
    return S3Upload(storage, key, size, metadata, token, {}, losses)


def resume(
    storage: S3Storage, key: bytes, size: int, metadata: Metadata, part_size: int, token: str
) -> S3Upload | None:
    """Continue an upload: the parts that are there with the size they must have. None when it is gone."""
    done: dict[int, str] = {}
    marker = 0
    while True:
        query = f"?max-parts=1000&part-number-marker={marker}&uploadId={quote(token, safe='')}"
        answer = storage.calls.object("GET", key, query)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise storage.calls.error(answer, key)
        try:
            page = replies.parts(answer.body)
        except replies.Unreadable as error:
            raise ListingBroken(str(error), key=key, storage=storage.name) from None
        done |= {n: tag for n, tag in page.tags.items() if page.sizes[n] == min(part_size, size - (n - 1) * part_size)}
        if page.following <= marker:
            break
        marker = page.following
    return S3Upload(storage, key, size, metadata, token, done, ())


UPLOAD_PAGES_MAX = 1000
"""Pages of 1000 uploads that are counted; a bucket with more is said to have as many."""


def count(storage: S3Storage) -> int:
    """How many uploads are unfinished below the prefix."""
    total, markers = 0, ""
    prefix = quote_from_bytes(storage.prefix, safe="")
    for _ in range(UPLOAD_PAGES_MAX):
        answer = storage.calls.bucket(f"?uploads&encoding-type=url&max-uploads=1000&prefix={prefix}{markers}")
        if answer.status != 200:
            raise storage.calls.error(answer)
        try:
            found, key_marker, id_marker = replies.uploads_count(answer.body)
        except replies.Unreadable as error:
            raise ListingBroken(str(error), storage=storage.name) from None
        total += found
        following = f"&key-marker={quote(key_marker, safe='%')}&upload-id-marker={quote(id_marker, safe='')}"
        if not key_marker or not found or following == markers:
            break
        markers = following
    return total


def abandoned(storage: S3Storage, key: bytes) -> list[str]:
    """Ids of the unfinished uploads of exactly this key."""
    found: list[str] = []
    markers = ""
    while True:
        query = f"?uploads&encoding-type=url&max-uploads=1000&prefix={quote_from_bytes(key, safe='')}{markers}"
        answer = storage.calls.bucket(query)
        if answer.status != 200:
            raise storage.calls.error(answer)
        try:
            tokens, key_marker, id_marker = replies.uploads(answer.body, key)
        except replies.Unreadable as error:
            raise ListingBroken(str(error), key=key, storage=storage.name) from None
        found += tokens
        following = f"&key-marker={quote_from_bytes(key_marker, safe='')}&upload-id-marker={quote(id_marker, safe='')}"
        if not key_marker or following == markers:
            return found
        markers = following
