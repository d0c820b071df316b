"""Large objects: parts read and sent side by side, hashed in order, continued part by part after a crash.

Memory is bounded by the shared budget: a part is reserved before it is read and given back when it is sent. Nobody
waits for the budget while holding parts that only it could send on, and a copy with nothing under way may pass the
limit by one part, so the copies cannot block each other. Parts that
would not fit the budget (objects beyond 640 GiB) wait on disk, not in memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from portabl import checksum
from portabl.budget import BYTES_IN_FLIGHT
from portabl.errors import Changed, Interrupted, Refused, StorageError
from portabl.executors import LatePool
from portabl.journal import OpenUpload
from portabl.model import Body, Entry, Metadata, ObjectInfo, Written
from portabl.plan import Step
from portabl.shapes import beyond, without
from portabl.storage import Capabilities, Storage, Upload
from portabl.tasks import finish
from portabl.transfer import Mover, Outcome, check_restore, with_losses_of

if TYPE_CHECKING:
    from concurrent.futures import Future

PART_SIZE = 8 * 2**20
PARTS_IN_FLIGHT = 8
"""Parts of all objects together that are read or sent at once."""


def part_size(size: int, capabilities: Capabilities) -> int:
    """Bytes a part for an object of ``size`` bytes: `PART_SIZE`, or as much more as the part limit demands.

    Raises Refused when no part size fits the target's limits.
    """
    least = -(-size // capabilities.parts_max)
    chosen = max(PART_SIZE, capabilities.part_size_min, -(-least // 2**20) * 2**20)
    if chosen > capabilities.part_size_max or size > (capabilities.object_size_max or size):
        raise Refused(f"{size} bytes are more than the target holds in one object")
    return chosen


class Uploads(Protocol):
    """Notes on uploads under way, as `portabl.journal.Journal` takes them."""

    def intend_upload(self, key: bytes, source: str, part_size: int, foreign: Sequence[str]) -> None:
        """An upload for ``key`` is about to be created."""

    def name_upload(self, key: bytes, token: str) -> None:
        """The store's name for it."""

    def add_part(self, key: bytes, number: int, sha256: str, tag: str) -> None:
        """The store holds this part."""

    def end_upload(self, key: bytes) -> None:
        """It is finished or aborted."""

    def open_upload(self, key: bytes) -> OpenUpload | None:
        """What is known of an unfinished one."""

    def open_keys(self) -> list[bytes]:
        """Keys with an unfinished one."""

    def rivals(self, key: bytes) -> frozenset[str] | None:
        """Tokens of uploads that others have open for the same key; None when one is about to be and has none yet."""

    def close(self) -> None:
        """Nothing more is noted."""


class LargeMover:
    """Copies objects too big for one piece; owns the threads that read and send parts.

    ``progress`` is told the bytes of every part that was hashed. ``scratch``: directory for oversized parts.
    """

    def __init__(self, journal: Uploads, scratch: str, progress: Callable[[int], None]) -> None:
        self.journal = journal
        self.progress = progress
        self.scratch = scratch
        self.pool = LatePool(PARTS_IN_FLIGHT, "portabl-part")

    def close(self) -> None:
        """Stop the part threads; what they do is finished first."""
        self.pool.close()

    def __call__(self, mover: Mover, step: Step, entry: Entry) -> Outcome:
        """Copy one large object; raises Interrupted between two parts when the run is to stop."""
        try:
            size = part_size(entry.size, mover.target.capabilities)
        except Refused as refused:
            raise Refused(refused.message, key=entry.key, storage=mover.target.name) from None
        copy = _Copy(self, mover, step, entry, size)
        written = mover.guard.write(entry.key, listed=step.target is not None, write=copy.run)
        info = with_losses_of(step.restore, copy.info)
        return finish(mover.finishing(entry, copy.sha256, info, copy.metadata, written, copy.known, copy.way))

    def discard(self, target: Storage, key: bytes) -> None:
        """Abort whatever upload of ours is still open for ``key``."""
        row = self.journal.open_upload(key)
        if row is None:
            return
        present = set(target.abandoned(key))
        ours = {row.token} if row.token else present - row.foreign
        self.abort(target, key, ours & present)
        self.journal.end_upload(key)

    @staticmethod
    def abort(target: Storage, key: bytes, tokens: Iterable[str]) -> None:
        """Abort these uploads, such as one that was created although its answer was lost and it was asked for again."""
        for token in tokens:
            target.upload(key, 0, Metadata(), PART_SIZE, token).abort()


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    offset: int
    length: int
    body: Future[Body]


def _by_crc64(data: bytes | memoryview) -> Body:
    return Body(data, "", crc64=checksum.crc64nvme(data))


def _digest(body: Body) -> str:
    """What the journal remembers a part by."""
    return body.sha256 or f"crc64nvme {body.crc64}"


class _Copy:
    """One large object under way."""

    def __init__(self, owner: LargeMover, mover: Mover, step: Step, entry: Entry, size: int) -> None:
        self._owner = owner
        self._mover = mover
        self._step = step
        self._entry = entry
        self._part_size = size
        self._reading: deque[_Part] = deque()
        self._sending: dict[Future[str], _Part] = {}
        self._tags: dict[int, str] = {}
        self._held: OpenUpload | None = None
        self._body: Callable[[bytes | memoryview], Body] = partial(checksum.body, md5=False)
        self.info: ObjectInfo = mover.source.look(entry)
        if self.info.size != entry.size or (entry.etag and self.info.etag != entry.etag):
            raise Changed("changed after it was listed", key=entry.key, storage=mover.source.name)
        self.metadata = step.restore.metadata if step.restore else self.info.metadata
        self.known = beyond(mover.target.capabilities, self.metadata)
        self.sha256 = ""
        self.way = "parts"
        # headers and tags went to the store when its upload began, so they belong to what is continued
        carried = hashlib.sha256(repr(sorted(self.metadata.fields().items())).encode("utf-8", "replace")).hexdigest()
        self._identity = f"{entry.etag}|{entry.modified}|{entry.version}|{entry.size}|{carried}"

    def run(self) -> Written:
        """Write the object; leaves the upload open for a later run unless the object itself is at fault."""
        copied = self._server_side()
        if copied is not None:
            self.way = "copied"
            return copied
        upload = self._open()
        self._body = _by_crc64 if upload.wants_crc64 else partial(checksum.body, md5=upload.wants_md5)
        try:
            self._stream(upload)
            check_restore(self._step.restore, self._entry, self.sha256)
            written = upload.finish([self._tags[n] for n in sorted(self._tags)], self.sha256)
        except BaseException as error:
            self._settle()
            if not upload.token or (isinstance(error, StorageError) and error.per_object):
                upload.abort()
                self._owner.journal.end_upload(self._entry.key)
            raise
        self._owner.journal.end_upload(self._entry.key)
        return written

    def _server_side(self) -> Written | None:
        """A server-side copy; the source is still read once, for its SHA-256 is what the record says."""
        mover = self._mover
        if not mover.same_store or self.metadata != self.info.metadata:
            return None
        if self._step.restore is not None:  # only bytes that were read can be held against the manifest beforehand
            return None
        copied = mover.target.copy(mover.source, self._entry, self._entry.key, self.info)
        if copied is not None:
            try:
                self._stream(None)
            finally:
                self._settle()
        return copied

    def _open(self) -> Upload:
        """The upload an earlier run left behind, or a new one that the journal knows of before the store does."""
        key, target, journal = self._entry.key, self._mover.target, self._owner.journal
        sent = without(self.metadata, self.known)
        row = journal.open_upload(key)
        if row is not None:
            continued = self._continued(row, sent)
            if continued is not None:
                return continued
            self._owner.discard(target, key)
        foreign = list(target.abandoned(key))
        journal.intend_upload(key, self._identity, self._part_size, foreign)
        upload = target.upload(key, self._entry.size, sent, self._part_size)
        present = set(target.abandoned(key)) if upload.token else set()
        rivals = journal.rivals(key)  # asked for last: who opens an upload says so first
        if rivals is not None:
            self._owner.abort(target, key, present - {upload.token, *foreign, *rivals})
        journal.name_upload(key, upload.token)
        return upload

    def _continued(self, row: OpenUpload, sent: Metadata) -> Upload | None:
        """The upload of an earlier run, when it is for this very object and the store still has it.

        Asked for first, because a store begins a new upload where the named one is gone, and nobody would know of it.
        """
        target, size = self._mover.target, self._part_size
        if not row.token or row.source != self._identity or row.part_size != size:
            return None
        if row.token not in target.abandoned(row.key):
            return None
        upload = target.upload(row.key, self._entry.size, sent, size, row.token)
        if upload.token != row.token:  # gone since then
            upload.abort()
            return None
        self._held = row
        return upload

    def _stream(self, upload: Upload | None) -> None:
        """Read every part, hash in order, send; ``upload`` None only hashes."""
        names = ["sha256", *(name for name in self.info.digests if name in checksum.COMPARABLE)]
        whole = checksum.Whole(*names)
        for number, offset, length in self._cuts():
            while not self._take(length):
                self._advance(whole, upload)
            body = self._owner.pool.submit(self._read, offset, length)
            self._reading.append(_Part(number, offset, length, body))
            if len(self._reading) >= PARTS_IN_FLIGHT // 2:
                self._advance(whole, upload)
        while self._reading or self._sending:
            self._advance(whole, upload)
        digests = whole.hexdigests()
        checksum.confirm(self.info.digests, digests, self._entry.key, self._mover.source.name)
        self.sha256 = digests["sha256"]

    def _take(self, length: int) -> bool:
        """Room for one more part. With none under way it is urgent: this copy may hold the key guard's lock, and those
        who hold the budget may be waiting for that.
        """
        idle = not (self._reading or self._sending)
        return self._mover.budget.take(length, wait=idle, urgent=idle)

    def _cuts(self) -> Iterator[tuple[int, int, int]]:
        size = self._entry.size
        for number, offset in enumerate(range(0, size, self._part_size), 1):
            yield number, offset, min(self._part_size, size - offset)

    def _read(self, offset: int, length: int) -> Body:
        source, entry = self._mover.source, self._entry
        if length <= BYTES_IN_FLIGHT:
            return self._body(source.read(entry, offset, length).data)
        import mmap
        import tempfile

        with tempfile.TemporaryFile(dir=self._owner.scratch) as spool:
            for start in range(offset, offset + length, PART_SIZE):
                spool.write(source.read(entry, start, min(PART_SIZE, offset + length - start)).data)
            spool.flush()
            return self._body(memoryview(mmap.mmap(spool.fileno(), length, access=mmap.ACCESS_READ)))

    def _advance(self, whole: checksum.Whole, upload: Upload | None) -> None:
        """Take the oldest part that was read on to sending; with none, wait for one that is being sent."""
        if self._mover.halt():
            raise Interrupted("stopped between two parts", key=self._entry.key)
        self._reap(block=not self._reading)
        if not self._reading:
            return
        part = self._reading[0]
        body = part.body.result()
        if len(body.data) != part.length:
            raise Changed("a part came with another length", key=self._entry.key, storage=self._mover.source.name)
        whole.update(body.data)
        self._owner.progress(part.length)
        self._reading.popleft()
        if upload is None or self._has(upload, part, body):
            self._mover.budget.give(part.length)
        elif self._mover.target.capabilities.parallel_parts:
            self._sending[self._owner.pool.submit(self._send, upload, part, body)] = part
        else:
            try:
                self._tags[part.number] = self._send(upload, part, body)
            finally:
                self._mover.budget.give(part.length)

    def _has(self, upload: Upload, part: _Part, body: Body) -> bool:
        """Whether an earlier run has sent this very part and the store still holds it."""
        if self._held is None or part.number not in upload.done:
            return False
        tag = upload.done[part.number]
        if self._held.parts.get(part.number) != (_digest(body), tag):
            return False
        self._tags[part.number] = tag
        return True

    def _send(self, upload: Upload, part: _Part, body: Body) -> str:
        tag = upload.part(part.number, body, part.offset)
        if upload.token:
            self._owner.journal.add_part(self._entry.key, part.number, _digest(body), tag)
        return tag

    def _reap(self, *, block: bool) -> None:
        if not self._sending:
            return
        from concurrent.futures import FIRST_COMPLETED, wait

        done, _ = wait(self._sending, timeout=None if block else 0, return_when=FIRST_COMPLETED)
        for future in done:
            part = self._sending.pop(future)
            self._mover.budget.give(part.length)
            self._tags[part.number] = future.result()

    def _settle(self) -> None:
        """Wait for every part under way and give its memory back."""
        from concurrent.futures import wait

        wait([part.body for part in self._reading if not part.body.cancel()])
        wait(list(self._sending))
        for part in (*self._reading, *self._sending.values()):
            self._mover.budget.give(part.length)
        self._reading.clear()
        self._sending.clear()
