"""S3Storage: the storage contract over S3. What each verb promises is in `portabl.storage`; limits are in `calls`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from portabl.errors import (
    Changed,
    ConfigError,
    Corrupt,
    ListingBroken,
    ListingDisordered,
    NotFound,
    Refused,
    StorageError,
)
from portabl.model import NOTHING, Body, Content, Entry, Loss, Metadata, ObjectInfo, Setting, Written
from portabl.storage import Capabilities, Opening, Probing, Storage, Upload
from portabl.tasks import Carrier, Task, aside, finish
from portabl_adapters.s3 import appending, copying, engine, fields, listing, locks, replies, upload, versions
from portabl_adapters.s3.address import parse_address
from portabl_adapters.s3.bodies import Sink
from portabl_adapters.s3.bodyproof import BodyProof
from portabl_adapters.s3.bucket_config import BucketConfig
from portabl_adapters.s3.calls import ATTEMPTS, Calls, Request
from portabl_adapters.s3.control import Credentials
from portabl_adapters.s3.customer_keys import CustomerKeys
from portabl_adapters.s3.engine import CurlEngine
from portabl_adapters.s3.fidelity import Fidelity
from portabl_adapters.s3.fitting import Fitting
from portabl_adapters.s3.tags import Tags
from portabl_adapters.s3.wire import SMALL, STALL_SECONDS, Answer, Header

CHECK_ATTEMPTS = 3
_CHECKSUMS = "x-amz-checksum-mode: ENABLED"
_TAKES_SLASHES_FOR_THE_BUCKET = ("SeaweedFS", "rclone")


class S3Storage(Storage):
    """One bucket (or a prefix of it) of an S3-compatible store."""

    paces_itself = True

    def __init__(self, opening: Opening) -> None:
        settings = opening.settings
        self.name = opening.name
        self.prefix = opening.prefix
        self._address = parse_address(settings, opening.container)
        self.list_version = _number(settings, "list_objects_version", 2)
        self._versions_asked = False
        self._versioned: bool | None = None
        self.keep_versions = opening.options.get("versions") == "all"
        self.etag_is_md5 = settings.get("etag_is_md5") is not False
        credentials = Credentials(opening.secret, str(settings.get("profile") or ""), opening.name)
        stall_seconds = _number(settings, "stall_seconds", STALL_SECONDS)
        attempts = int(opening.options.get("attempts", ATTEMPTS))
        self.calls = Calls(
            opening.name, self._address, credentials, opening.threads, stall_seconds, opening.pacer, attempts
        )
        self._bucket_config = BucketConfig(opening.name, self._address, credentials)
        announces = settings.get("announces_tags")
        self.tags = Tags(self.calls, announces if isinstance(announces, bool) else None)
        self.fidelity = Fidelity(self.calls, opening.options)
        self.fitting = Fitting(self.fidelity.header_lines)
        self._customer_keys = CustomerKeys(opening.secret("sse_c_keys"))
        self.body_proof = BodyProof(self.calls)
        limits = {name: int(opening.options[name]) for name in _LIMITS if name in opening.options}
        self.capabilities = _capabilities({**settings, **limits})

    @property
    def place(self) -> tuple[str, bytes]:
        """Endpoint and bucket, normalised; the prefix."""
        return self._address.place, self.prefix

    @property
    def service(self) -> str:
        """The endpoint, normalised."""
        return self._address.place.rpartition(" ")[0]

    def probing(self) -> Probing:
        """Requests that tell what this server does (see `examine`)."""
        from portabl_adapters.s3.examine import Examination

        return Examination(self)

    def check(self, *, write: bool) -> None:  # noqa: ARG002 - nothing is written
        """Reachability, credentials, bucket and the permission to list, by one page of one key."""
        listing.fetch(self.calls, self.prefix, None, "", self.list_version, keys=1, attempts=CHECK_ATTEMPTS)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Listing in strict byte order. Raises ListingBroken or ListingDisordered rather than end early.

        After ListingDisordered the storage no longer promises an order, and lists in the server's.
        """
        if not self.capabilities.ordered:
            return listing.unordered(self.calls, self.prefix, after, self.list_version)
        return self._in_order(after)

    def _in_order(self, after: bytes | None) -> Iterator[Entry]:
        try:
            yield from listing.entries(self.calls, self.prefix, after, self.list_version)
        except ListingDisordered:
            self.capabilities = replace(self.capabilities, ordered=False, after=False)
            raise

    def listed(self, key: bytes) -> Entry | None:
        """One request for ordinary keys, whatever the bucket holds; for one that is no UTF-8, the whole listing."""
        if listing.sayable(key) != key:
            return super().listed(key)
        return listing.one(self.calls, self.prefix, key, self.list_version)

    def stat(self, key: bytes) -> ObjectInfo:
        """HEAD, and the tags."""
        return finish(self.stating(key))

    def look(self, entry: Entry) -> ObjectInfo:
        """The same for one version."""
        return finish(self._looking(entry.key, entry.version))

    def stating(self, key: bytes) -> Task[ObjectInfo]:
        """The same as a task."""
        return self._looking(key, "")

    def _looking(self, key: bytes, version: str) -> Task[ObjectInfo]:
        full = self.prefix + key
        query = versions.query(version)
        answer: Answer = yield from self._customer_keys.sending(
            lambda keys: self.calls.request("HEAD", full, query, [_CHECKSUMS, *keys])
        )
        if answer.status != 200:
            raise self.calls.error(answer, key)
        if self.fidelity.by_heads:
            self.fidelity.count(answer)
        length = answer.headers.get(b"content-length", b"")
        if not length.isdigit():
            raise Corrupt("the store does not say the object's size", key=key, storage=self.name)
        counts = self.fidelity.by_heads
        return (yield from self._info(answer, full, int(length), version, with_tags=True, counts=counts))

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """One GET, pinned to the entry's ETag and version."""
        return finish(self._reading(entry, start, length))

    def reading(self, entry: Entry) -> Task[Content]:
        """The whole object as a task."""
        return self._reading(entry, 0, None)

    def _reading(self, entry: Entry, start: int, length: int | None) -> Task[Content]:
        want = max(0, entry.size - start) if length is None else min(length, max(0, entry.size - start))
        whole = start == 0 and want == entry.size
        if want == 0 and not whole:
            return Content((yield from self._looking(entry.key, entry.version)), b"")
        full = self.prefix + entry.key
        query = versions.query(entry.version)
        headers = self._read_headers(entry, start, want, whole)
        for last_try in (False, True):
            sink = None if whole and want <= SMALL else Sink(want, start, self.calls.rooms.take(want))
            answer: Answer = yield from self._getting(full, query, headers, sink, want)
            if answer.status not in (200, 206):
                raise self._unreadable(answer, entry, full)
            if self._is_right(answer, entry, start, want, sink, last_try=last_try):
                break
        counts = start == 0 and (whole or want > 1) and not self.fidelity.by_heads  # one byte is a look, no more
        if counts:
            self.fidelity.count(answer)
        info = yield from self._info(answer, full, entry.size, entry.version, with_tags=start == 0, counts=counts)
        return Content(info, answer.body)

    def _getting(
        self, full: bytes, query: str, headers: Sequence[Header], sink: Sink | None, want: int
    ) -> Task[Answer]:
        return self._customer_keys.sending(
            lambda keys: self.calls.request("GET", full, query, [*headers, *keys], sink=sink, expect=want)
        )

    def _unreadable(self, answer: Answer, entry: Entry, full: bytes) -> StorageError:
        if replies.error_code(answer.body) == "InvalidObjectState":
            return self.fidelity.archived(entry, full)
        return self.calls.error(answer, entry.key)

    def _read_headers(self, entry: Entry, start: int, want: int, whole: bool) -> list[Header]:
        if whole:
            return [_CHECKSUMS]
        headers: list[Header] = [f"Range: bytes={start}-{start + want - 1}"]
        if entry.etag:
            headers.append(f'If-Match: "{entry.etag}"')
        return headers

    def _is_right(
        self, answer: Answer, entry: Entry, start: int, want: int, sink: Sink | None, *, last_try: bool
    ) -> bool:
        found = answer.headers
        etag = fields.etag_of(found)
        if entry.etag and etag and etag != entry.etag:
            raise Changed(f"ETag was {entry.etag}, now {etag}", key=entry.key, storage=self.name)
        got = len(answer.body)
        where = found.get(b"content-range", b"") if answer.status == 206 else b""
        if answer.status == 206 and not where.startswith(b"bytes %d-" % start):  # RFC 9110, 15.3.7.1: it must be there
            raise Corrupt(f"asked for bytes from {start} on, got {where!r}", key=entry.key, storage=self.name)
        ranged = where.rpartition(b"/")[2]
        said = ranged or (found.get(b"content-length", b"") if sink is None or answer.status == 200 else b"")
        if said.isdigit() and int(said) != entry.size:
            raise Changed(
                f"{entry.size} bytes were listed, the object has {int(said)}", key=entry.key, storage=self.name
            )
        if sink is not None and sink.over and answer.status == 200 and start + want == entry.size:
            raise Changed(f"more than the {entry.size} bytes that were listed", key=entry.key, storage=self.name)
        if got == want:
            return True
        if last_try:
            raise Corrupt(f"{got} bytes arrived instead of {want}", key=entry.key, storage=self.name)
        return False

    def _info(
        self, answer: Answer, full: bytes, size: int, version: str, *, with_tags: bool, counts: bool = False
    ) -> Task[ObjectInfo]:
        tags: Mapping[str, str] = NOTHING
        losses: tuple[Loss, ...] = ()
        if with_tags and not self.tags.none_by(answer, full):
            tags, losses = yield from self.tags.finding(full, answer, version)
        keep_class = self.fidelity.keeps_class
        info = fields.info_of(answer, size, tags, losses, etag_is_md5=self.etag_is_md5, keep_class=keep_class)
        drawn = with_tags and counts and self.fidelity.drawn()
        if not with_tags or (not drawn and self.fidelity.adds_nothing(answer)):
            return info
        return (yield from self.fidelity.completing(full, answer, version, info, drawn=drawn))

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """One PUT, under the body's SHA-256; the answered ETag must be its MD5 where it is one."""
        return finish(self.writing(key, body, metadata))

    def writing(self, key: bytes, body: Body, metadata: Metadata) -> Task[Written]:
        """The same as a task."""
        full = self.prefix + key
        if not full.strip(b"/"):
            yield aside
            self.refuse_slashes(full)
        for _ in range(2):
            answer, losses = yield from self.fitting.sending(
                metadata, lambda headers: self._put(full, headers, body, metadata)
            )
            damaged = fields.says_damaged(answer)
            if answer.status >= 300 and not damaged:
                raise self.calls.error(answer, key)
            etag, version = answer.identity
            if not damaged and self.agrees(answer, etag, body):
                return Written(etag, version, tuple(losses))
        said = self.calls.said(answer) if damaged else f"MD5 {etag}"
        raise Corrupt(f"the bytes arrive damaged: the store says {said}, sent {body.md5}", key=key, storage=self.name)

    def _put(self, full: bytes, headers: Sequence[Header], body: Body, metadata: Metadata) -> Request:
        if body.md5:  # SeaweedFS signs x-amz-content-sha256 but never compares it with the body; this it does compare
            headers = [*headers, fields.content_md5(body.md5)]
        return self.calls.request(
            "PUT", full, "", headers, body.data, body.sha256, recover=lambda: self._arrived(full, body, metadata)
        )

    def _arrived(self, full: bytes, body: Body, metadata: Metadata) -> Answer | None:
        """The object's HEAD when it is, beyond doubt, what the lost PUT was to write: an older object of the same bytes
        may be there instead, if the PUT never arrived.
        """
        if not self.etag_is_md5:
            return None
        answer = self.calls.object("HEAD", full)
        if answer.status != 200 or answer.headers.get(b"content-length") != b"%d" % len(body.data):
            return None
        md5 = body.md5 or hashlib.md5(body.data).hexdigest()
        return answer if answer.identity[0] == md5 and self.carries(full, answer, metadata) else None

    def carries(self, full: bytes, answer: Answer, metadata: Metadata, *, with_tags: bool = True) -> bool:
        """Whether the object whose HEAD answered carries exactly this. (The default storage class may go unsaid.)"""
        there = finish(self._info(answer, full, 0, "", with_tags=with_tags))
        if there.losses or metadata.storage_class not in ("", "STANDARD", there.metadata.storage_class):
            return False
        tags = metadata.tags if with_tags else NOTHING
        return replace(there.metadata, storage_class="") == replace(metadata, storage_class="", tags=tags)

    def agrees(self, answer: Answer, etag: str, body: Body) -> bool:
        """Whether the ETag of a stored body, where it is an MD5, is that of ``body``."""
        if not body.md5 or not self.etag_is_md5 or not fields.is_md5(etag) or etag == body.md5:
            return True
        return fields.encrypted(answer.headers)

    def refuse_slashes(self, full: bytes) -> None:
        """Some servers take a key of nothing but slashes for the bucket, where PUT and DELETE mean something else."""
        if not full:
            raise Refused("an object without a name cannot exist in S3", key=full, storage=self.name)
        server = self.calls.bucket("?list-type=2&encoding-type=url&max-keys=1").text(b"server")
        if server.startswith(_TAKES_SLASHES_FOR_THE_BUCKET):
            raise Refused("this server takes a key of slashes for the bucket itself", key=full, storage=self.name)

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        """CreateMultipartUpload, or the parts already there of the upload ``token`` names."""
        full = self.prefix + key
        if not full.strip(b"/"):
            self.refuse_slashes(full)
        if token and (continued := upload.resume(self, full, size, metadata, part_size, token)):
            return continued
        self.body_proof.learn(full)
        return upload.begin(self, full, size, metadata)

    def delete(self, key: bytes) -> None:
        """DELETE; what is not there is no error."""
        self._delete(key, "")

    def take_back(self, key: bytes, version: str) -> None:
        """DELETE of that version alone; in a bucket without versions, of the object."""
        self._delete(key, version)

    def _delete(self, key: bytes, version: str) -> None:
        full = self.prefix + key
        if not full.strip(b"/"):
            self.refuse_slashes(full)
        answer = self.calls.object("DELETE", full, versions.query(version))
        if answer.status >= 300:
            error = self.calls.error(answer, key)
            if not isinstance(error, NotFound):
                raise error

    def copies(self, source: Storage) -> bool:
        """Whether both are one service under the same credentials."""
        return isinstance(source, S3Storage) and copying.same_store(source, self)

    def copy(self, source: Storage, entry: Entry, key: bytes, info: ObjectInfo) -> Written | None:
        """CopyObject from the same store under the same credentials, proven equal afterwards; None otherwise.

        Not where versions are kept: a copy that turns out not to be equal would stay in the object's history.
        """
        if not isinstance(source, S3Storage) or self.keep_versions:
            return None
        return copying.copy(source, self, entry, self.prefix + key, info)

    def keeps_versions(self) -> bool:
        """Whether the bucket's versioning is enabled: suspended, it keeps no more than one ``null`` version."""
        return versions.status(self.calls) == "Enabled"

    def has_versions(self) -> bool | None:
        """Whether versioning is enabled, or was: suspended, it leaves the older versions where they are. Asked once."""
        if not self._versions_asked:
            try:
                self._versioned = bool(versions.status(self.calls))
            except StorageError as error:
                if not error.passable:
                    raise
            self._versions_asked = True
        return self._versioned

    def locks_objects(self) -> bool | None:
        """Whether the bucket was made with object lock."""
        return locks.enabled(self.calls)

    def versions(self) -> Iterator[Entry]:
        """ListObjectVersions, as far as it proves itself complete. Objects without any version are no empty history."""
        found = False
        for entry in versions.entries(self.calls, self.prefix):
            found = True
            yield entry
        if not found and listing.fetch(self.calls, self.prefix, None, "", self.list_version, keys=1).entries:
            raise ListingBroken("objects are listed, but no version of any", storage=self.name)

    def history(self, key: bytes) -> Sequence[Entry]:
        """The same for one key."""
        return versions.of_key(self.calls, self.prefix, key)

    def append(self, key: bytes, body: Body | None, metadata: Metadata, previous: str) -> Written:
        """PUT or DELETE, sent again only when a look at the key's versions shows that it did not arrive."""
        return appending.append(self, key, body, metadata, previous)

    def share(self, earlier: Storage, entry: Entry, key: bytes) -> Written | None:
        """A body copied by the server, proven by its ETag; None where the two are not one store."""
        if not isinstance(earlier, S3Storage):
            return None
        return copying.share(earlier, self, entry, self.prefix + key)

    def unfinished(self) -> int:
        """Counted by ListMultipartUploads."""
        return upload.count(self)

    def notes(self) -> Sequence[str]:
        """Encryption at rest, ACLs and locks that are not carried."""
        return self.fidelity.notes()

    def abandoned(self, key: bytes) -> Sequence[str]:
        """Ids of the unfinished uploads of exactly this key."""
        return upload.abandoned(self, self.prefix + key)

    def engine(self) -> Carrier | None:
        """libcurl's multi interface, where the system has what it is driven by."""
        return CurlEngine() if engine.AVAILABLE else None

    def settings(self) -> Sequence[Setting]:
        """Through boto3, one request each."""
        return self._bucket_config.read()

    def configure(self, name: str, document: Any) -> None:
        """Through boto3."""
        self._bucket_config.write(name, document)

    def close(self) -> None:
        """Close every connection."""
        self._bucket_config.close()
        self.calls.close()


_LIMITS = ("parts_max", "part_size_min")


def _number(settings: Mapping[str, object], name: str, default: int) -> int:
    value = settings.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number above 0")
    return value


def _capabilities(settings: Mapping[str, object]) -> Capabilities:
    return Capabilities(
        ordered=True,
        after=True,
        parallel_parts=True,
        engine=engine.AVAILABLE,
        resumable=True,
        versions=True,
        acls=True,
        locks=True,
        part_size_min=_number(settings, "part_size_min", 5 * 2**20),
        parts_max=_number(settings, "parts_max", 10_000),
    )
