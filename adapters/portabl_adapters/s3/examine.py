"""What only S3's own language can ask: each question is a request or two, and the answer is the server's behaviour.

Nothing is concluded from a version or a name. A digest counts as verified only when a wrong one was refused and the
right one accepted. https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_from_bytes

from portabl.errors import StorageError
from portabl.model import Body, Entry, Fact, Metadata
from portabl.storage import Probing
from portabl_adapters.s3 import listing, replies
from portabl_adapters.s3.examine_bucket import bucket_facts, lock_obstacle
from portabl_adapters.s3.questions import BODY, Questions
from portabl_adapters.s3.sweep import sweep
from portabl_adapters.s3.wire import Answer, Header

_SHA256 = hashlib.sha256(BODY).hexdigest()


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


DIGESTS: tuple[tuple[str, str, str], ...] = (
    ("Content-MD5", _base64(hashlib.md5(BODY).digest()), _base64(bytes(16))),
    ("x-amz-checksum-crc32", _base64(zlib.crc32(BODY).to_bytes(4, "big")), _base64(bytes(4))),
    ("x-amz-checksum-crc32c", "ODa34Q==", _base64(bytes(4))),
    ("x-amz-checksum-crc64nvme", "4g4aQyaVszI=", _base64(bytes(8))),
    ("x-amz-checksum-sha1", _base64(hashlib.sha1(BODY).digest()), _base64(bytes(20))),
    ("x-amz-checksum-sha256", _base64(hashlib.sha256(BODY).digest()), _base64(bytes(32))),
)
"""Header, right value for `BODY`, wrong value."""


class Examination(Questions, Probing):
    """All questions to one server, asked below the storage's prefix."""

    def obstacle(self) -> str:
        """A bucket that locks every new object would keep what is tried there."""
        return lock_obstacle(self.bucket)

    def server(self) -> str:
        """The Server header of a listing, or a header that gives the server away."""
        headers = self.bucket("?list-type=2&max-keys=1").headers
        if b"x-openstack-request-id" in headers:
            return "OpenStack Swift"
        return headers.get(b"server", b"").decode("ascii", "replace")[:100]

    def facts(self) -> Iterator[Fact]:
        """Checksums, conditions, ranges, copies, uploads, pages, then what the bucket is set to."""
        for ask in (self._checksums, self._conditions, self._ranges, self._copies, self._uploads, self._pages):
            yield from ask()
        yield from bucket_facts(self)

    def sweep(self) -> Sequence[bytes]:
        """See `sweep`."""
        return sweep(self.storage)

    # checksums

    def _checksums(self) -> Iterator[Fact]:
        yield self._signed_digest()
        for header, right, wrong in DIGESTS:
            yield self._digest(header, right, wrong)
        yield self._part_digest()

    def _part_digest(self) -> Fact:
        try:
            checked = self.storage.body_proof.learn(self.storage.prefix + b"part")
        except StorageError as error:
            return Fact("checksum: parts of an upload", "refused", error.message)
        return Fact("checksum: parts of an upload", checked.value.partition(":")[0], "what a part is held against")

    def _signed_digest(self) -> Fact:
        wrong = self.ask("PUT", b"sha", "", (), BODY, hashlib.sha256(b"something else").hexdigest())
        right = self.put(b"sha")
        return Fact("checksum: x-amz-content-sha256", _verdict(right, wrong), f"wrong one: {self.said(wrong)}")

    def _digest(self, header: str, right: str, wrong: str) -> Fact:
        name = header.encode()
        refused, accepted = self.put(name, f"{header}: {wrong}"), self.put(name, f"{header}: {right}")
        verdict = _verdict(accepted, refused)
        if verdict == "not verified" and header.startswith("x-amz"):
            shown = self.ask("HEAD", name, "", ["x-amz-checksum-mode: ENABLED"]).headers
            verdict = "stored, not verified" if header.encode() in shown else "ignored"
        return Fact(f"checksum: {header}", verdict, f"wrong one: {self.said(refused)}")

    # conditions, ranges, copies

    def _conditions(self) -> Iterator[Fact]:
        etag = self.put(b"condition").identity[0]
        new, old = self.put(b"new", "If-None-Match: *"), self.put(b"condition", "If-None-Match: *")
        yield Fact("write: If-None-Match", _condition(new, old), f"over an object: {self.said(old)}")
        right, wrong = (
            self.put(b"condition", f'If-Match: "{etag}"'),
            self.put(b"condition", f'If-Match: "{"0" * 32}"'),
        )
        yield Fact("write: If-Match", _condition(right, wrong), f"with another ETag: {self.said(wrong)}")

    def _ranges(self) -> Iterator[Fact]:
        etag = self.put(b"range").identity[0]
        part = self.ask("GET", b"range", "", ["Range: bytes=2-4"])
        yield Fact("read: range", "kept" if bytes(part.body) == BODY[2:5] else "ignored", f"status {part.status}")
        pinned = self.ask("GET", b"range", "", ["Range: bytes=2-4", f'If-Match: "{etag}"'])
        other = self.ask("GET", b"range", "", ["Range: bytes=2-4", f'If-Match: "{"0" * 32}"'])
        yield Fact("read: range with If-Match", _condition(pinned, other), f"with another ETag: {self.said(other)}")

    def _copies(self) -> Iterator[Fact]:
        metadata = Metadata({"content-type": "text/x-copy"}, {"colour": "blue"})
        yield self._copy("copy: headers and metadata", b"copy", metadata)
        yield self._copy("copy: tags", b"copy-tags", Metadata(tags={"team": "blue"}))
        name = quote_from_bytes(b"/%s/%scopy" % (self.calls.address.bucket.encode(), self.storage.prefix))
        wrong = [f"x-amz-copy-source: {name}", f'x-amz-copy-source-if-match: "{"0" * 32}"']
        answer = self.ask("PUT", b"copy-if", "", wrong)
        verdict = "honoured" if answer.status == 412 else "ignored" if answer.status == 200 else "refused"
        yield Fact("copy: If-Match", verdict, f"with another ETag: {self.said(answer)}")

    def _copy(self, fact: str, name: bytes, metadata: Metadata) -> Fact:
        storage = self.storage
        try:
            written = storage.write(name, _body(), metadata)
            info = storage.stat(name)
            if written.losses or info.metadata != metadata:
                return Fact(fact, "nothing to copy", "the server does not keep them in the first place")
            entry = Entry(name, len(BODY), info.etag)
            copied = storage.copy(storage, entry, name + b"-2", info)
        except StorageError as error:
            return Fact(fact, "refused", error.message)
        return Fact(fact, "kept" if copied else "not exact", "")

    # uploads

    def _uploads(self) -> Iterator[Fact]:
        begun = self.ask("POST", b"upload", "?uploads")
        try:
            token = quote(replies.upload_id(begun.body), safe="")
        except replies.Unreadable:
            yield Fact("write: uploads in parts", "refused", self.said(begun))
            return
        try:
            yield from self._part_numbers(token)
        finally:
            self.ask("DELETE", b"upload", f"?uploadId={token}")
        yield self._least_part()
        yield self._upload_condition()

    def _part_numbers(self, token: str) -> Iterator[Fact]:
        numbers = (100, 500, 1000, 1001, 5000, 10_000, 10_001)
        taken = [n for n in numbers if self._part(b"upload", token, n, BODY).status == 200]
        most = max(taken, default=0)
        outcome = "none found" if most > 10_000 else str(most)
        yield Fact("limit: parts", outcome, "largest part number taken of " + ", ".join(map(str, numbers)))

    def _part(self, name: bytes, token: str, number: int, body: bytes) -> Answer:
        return self.ask("PUT", name, f"?partNumber={number}&uploadId={token}", (), body)

    def _least_part(self) -> Fact:
        answer = self._two_parts(b"small-part")
        if answer.status == 200 and not replies.error_code(answer.body):
            return Fact("limit: part size", "none found", "parts of 7 bytes make an object")
        return Fact("limit: part size", str(5 * 2**20), f"parts of 7 bytes: {self.said(answer)}")

    def _upload_condition(self) -> Fact:
        name = "write: If-None-Match on uploads"
        self.put(b"finish")
        answer = self._two_parts(b"finish", "If-None-Match: *", parts=1)
        failed = answer.status != 200 or bool(replies.error_code(answer.body))
        verdict = "honoured" if "PreconditionFailed" in self.said(answer) else "refused" if failed else "ignored"
        return Fact(name, verdict, f"over an object: {self.said(answer)}")

    def _two_parts(self, name: bytes, *headers: Header, parts: int = 2) -> Answer:
        """An upload of tiny parts, completed; aborted when that is refused."""
        try:
            token = quote(replies.upload_id(self.ask("POST", name, "?uploads").body), safe="")
        except replies.Unreadable as error:
            return Answer(0, [], str(error).encode())
        tags = [self._part(name, token, number, BODY).identity[0] for number in range(1, parts + 1)]
        body = replies.complete_xml(tags)
        answer = self.ask("POST", name, f"?uploadId={token}", [*headers], body)
        if answer.status != 200 or replies.error_code(answer.body):
            self.ask("DELETE", name, f"?uploadId={token}")
        return answer

    # listing

    def _pages(self) -> Iterator[Fact]:
        keys = sorted(b"page/" + name for name in (b"B", b"a", b"a-b", b"a/x", b"a0", b"aa", b"z", "é".encode()))
        refused = [key for key in keys if self.put(key).status != 200]
        if refused:
            yield Fact("list: pages by token", "not tried", f"{len(refused)} keys were refused")
            return
        for name, by_token in (("list: pages by token", True), ("list: pages by last key", False)):
            try:
                found = self._paged(by_token=by_token)
            except StorageError as error:
                yield Fact(name, "broken", error.message)
                continue
            detail = f"{len(set(keys) - set(found))} of {len(keys)} keys missing" if set(found) != set(keys) else ""
            yield Fact(name, "broken" if detail or len(found) > len(keys) else "kept", detail)

    def _paged(self, *, by_token: bool) -> list[bytes]:
        """Keys below ``page/``, two a page, at most 20 pages."""
        found: list[bytes] = []
        token, last = "", None
        cut = len(self.storage.prefix)
        for _ in range(20):
            page = listing.fetch(self.calls, self.storage.prefix + b"page/", last, token, 2, keys=2)
            found += [entry.key[cut:] for entry in page.entries]
            if not page.truncated:
                break
            if by_token:
                token = page.token
            elif page.entries:
                last = page.entries[-1].key
        return found


def _verdict(right: Answer, wrong: Answer) -> str:
    if right.status != 200:
        return "refused"
    return "verified" if wrong.status != 200 else "not verified"


def _condition(holds: Answer, fails: Answer) -> str:
    """A condition is honoured when the request passes while it holds, and gets 412 when it does not."""
    if holds.status not in (200, 206):
        return "refused"
    return "honoured" if fails.status == 412 else "ignored" if fails.status in (200, 206) else "refused"


def _body() -> Body:
    return Body(BODY, _SHA256, hashlib.md5(BODY).hexdigest())
