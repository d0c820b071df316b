"""The payload of an encrypted package: every body an age file; what is stored is told in the records.

A record's ``target.version`` is ``sealed:SHA256:SIZE`` of the file as stored. So a package can be listed and checked
for completeness and damage without the secret key, and read with it.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO

from portabl import checksum
from portabl.checker import pairs
from portabl.encryption import HEADER_MAX, Key, Lock, Reading, Sealing, plain_size, sealed_size
from portabl.errors import Corrupt, Refused
from portabl.listing import Filter, Listing
from portabl.manifest import Manifest, retold
from portabl.model import Body, Content, Entry, Metadata, ObjectInfo, Record, Written
from portabl.package_names import Names
from portabl.payload import Payload
from portabl.plan import Line
from portabl.records import sealed_as
from portabl.storage import Storage, Upload
from portabl.tasks import Task

PIECE = 8 * 2**20
ROOM = 2**20
"""What a part may grow by when it is encrypted, and more."""
OPEN_MAX = 8
"""Large objects that are decrypted to a temporary file at once."""


class Sealed(Payload):
    """A payload that is written encrypted."""

    def __init__(self, inner: Storage, names: Names, lock: Lock) -> None:
        super().__init__(inner, names)
        self._lock = lock
        self.capabilities = replace(self.capabilities, parallel_parts=False, resumable=False)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """Encrypt and store a body."""
        sealed = checksum.body(self._lock.encrypt(body.data), md5=True)
        written = super().write(key, sealed, metadata)
        return replace(written, version=_version(sealed.sha256, len(sealed.data)))

    def writing(self, key: bytes, body: Body, metadata: Metadata) -> Task[Written]:
        """The same as a task."""
        sealed = checksum.body(self._lock.encrypt(body.data), md5=True)
        written = yield from super().writing(key, sealed, metadata)
        return replace(written, version=_version(sealed.sha256, len(sealed.data)))

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        """Encrypt and store a body in parts; ``token`` only to give up what another run began."""
        if token:
            return super().upload(key, size, metadata, part_size, token)

        def begin(sealed: int) -> Upload:
            return super(Sealed, self).upload(key, sealed, metadata, part_size + ROOM)

        return _SealedUpload(Sealing(self._lock), size, part_size + ROOM, begin)

    def share(self, earlier: Storage, entry: Entry, key: bytes) -> Written | None:
        """Take a file as it is stored from another package that is encrypted to the same recipients."""
        stored = sealed_as(entry.version)
        if stored is None:
            return None
        written = super().share(earlier, replace(entry, size=stored[1], version=""), key)
        return replace(written, version=entry.version) if written else None


def _version(sha256: str, size: int) -> str:
    return f"sealed:{sha256}:{size}"


class _SealedUpload(Upload):
    """Parts come in order; what they become is sent in parts of another size, once the length of the whole is known."""

    def __init__(self, sealing: Sealing, size: int, part_size: int, begin: Callable[[int], Upload]) -> None:
        self.done: Mapping[int, str] = {}
        self._sealing = sealing
        self._size = size
        self._part_size = part_size
        self._begin = begin
        self._upload: Upload | None = None
        self._waiting = bytearray()
        self._whole = checksum.Whole("sha256")
        self._sent = 0
        self._tags: list[str] = []

    def part(self, number: int, body: Body, offset: int) -> str:  # noqa: ARG002 - in order
        """Encrypt the next part, and send what is complete."""
        self._waiting += self._sealing.feed(body.data)
        self._send(self._part_size)
        return str(number)

    def _send(self, least: int) -> None:
        while len(self._waiting) >= max(least, 1):
            data = bytes(self._waiting[: self._part_size])
            del self._waiting[: self._part_size]
            if self._upload is None:
                self._upload = self._begin(sealed_size(self._sealing.header, self._size))
            self._whole.update(data)
            body = checksum.body(data, md5=self._upload.wants_md5)
            self._tags.append(self._upload.part(len(self._tags) + 1, body, self._sent))
            self._sent += len(data)

    def finish(self, tags: Sequence[str], sha256: str) -> Written:  # noqa: ARG002 - of what is not encrypted
        """Encrypt the end, send it, and make the file visible."""
        self._waiting += self._sealing.close()
        self._send(1)
        if self._upload is None or self._sent != sealed_size(self._sealing.header, self._size):
            raise Refused(f"encrypted it has {self._sent} bytes, which is not what was foreseen")
        stored = self._whole.hexdigests()["sha256"]
        return replace(self._upload.finish(self._tags, stored), version=_version(stored, self._sent))

    def abort(self) -> None:
        """Give it up."""
        if self._upload is not None:
            self._upload.abort()


class Opened(Payload):
    """A payload that is read decrypted; its listing is held against the manifest, which knows the real sizes.

    The version of an entry begins with the size of the file as it is stored.
    """

    def __init__(self, inner: Storage, key: Key, names: Names, loaded: Manifest) -> None:
        super().__init__(inner, names, learn=True)
        self._key = key
        self._loaded = loaded
        self._scratch = tempfile.TemporaryDirectory(prefix="portabl-")
        self._open: OrderedDict[bytes, IO[bytes]] = OrderedDict()
        self._guard = threading.Lock()
        self.capabilities = replace(self.capabilities, ordered=True)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Every body of the manifest that is there with the size it must have as stored, and every file more."""
        more: list[Entry] = []
        raw = Listing(_Raw(self), Filter(), self._scratch.name)
        for (_, record), entry in pairs(self._loaded.records(), raw, more.append):
            yield from more
            more.clear()
            if entry is not None and (after is None or entry.key > after):
                yield self._with_real_size(record, entry)
        yield from more

    @staticmethod
    def _with_real_size(record: Record, entry: Entry) -> Entry:
        stored = sealed_as(record.target.version) if record.target else None
        if stored is None or stored[1] != entry.size:
            return replace(entry, problem=f"stored with {entry.size} bytes, the manifest says {stored and stored[1]}")
        return replace(entry, size=record.size, version=f"{entry.size}:{entry.version}")

    @staticmethod
    def _as_stored(entry: Entry) -> Entry:
        """The file behind an entry of ours: stores hold its size against what they have."""
        size, _, version = entry.version.partition(":")
        return replace(entry, size=int(size), version=version)

    def stat(self, key: bytes) -> ObjectInfo:
        """Identity of the file, and the size of what is in it. Raises Corrupt for what is no age file."""
        info = super().stat(key)
        start = super().read(Entry(key, info.size, info.etag), 0, min(HEADER_MAX, info.size)).data
        try:
            size = plain_size(bytes(start), info.size)
        except ValueError:
            raise Corrupt("not a file in the age format", key=key, storage=self.name) from None
        return replace(info, size=size, version=f"{info.size}:{info.version}", digests={})

    def listed(self, key: bytes) -> Entry | None:
        """What a fresh listing shows, with the size of what is in it."""
        found = super().listed(key)
        if found is None:
            return None
        return replace(found, size=self.stat(key).size, version=f"{found.size}:{found.version}")

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Decrypted bytes. A large object is decrypted to a temporary file when its first range is read."""
        if start == 0 and (length is None or length >= entry.size):
            stored = super().read(self._as_stored(entry), 0, None)
            data = self._key.decrypt(stored.data, entry.key, self.name)
            return Content(replace(stored.info, size=len(data), digests={}), data)
        info = replace(super().stat(entry.key), size=entry.size, digests={})
        stop = entry.size if length is None else min(entry.size, start + length)
        with self._guard:
            file = self._open.pop(entry.key, None) or self._decrypted(entry)
            file.seek(start)
            data = file.read(max(stop - start, 0))
            self._keep(entry.key, file)
        return Content(info, data)

    def _keep(self, key: bytes, file: IO[bytes]) -> None:
        self._open[key] = file
        while len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)[1].close()

    def _decrypted(self, entry: Entry) -> IO[bytes]:
        stored, position = self._as_stored(entry), 0

        def piece() -> bytes | memoryview:
            nonlocal position
            length = min(PIECE, stored.size - position)
            data = super(Opened, self).read(stored, position, length).data if length else b""
            position += len(data)
            return data

        plain = tempfile.TemporaryFile(dir=self._scratch.name)  # noqa: SIM115 - closed after its last range
        try:
            self._key.out_of(Reading(piece), plain, entry.key, self.name)
        except BaseException:
            plain.close()
            raise
        return plain

    def close(self) -> None:
        """Forget what was decrypted, and close the inner storage."""
        for file in self._open.values():
            file.close()
        self._scratch.cleanup()
        super().close()


class _Raw(Payload):
    """The listing of a payload as it is stored."""

    def __init__(self, of: Payload) -> None:
        super().__init__(of.inner, of.names, learn=True)
        self._of = of

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Strangers are counted where they are asked for."""
        yield from super().entries(after)
        self._of.foreign, self._of.foreign_total = self.foreign, self.foreign_total


def as_stored(loaded: Manifest) -> Manifest:
    """A manifest that speaks of the files as they are stored, to be held against a payload without the secret key. Its
    roots are still of what is in the files, which nobody can compute without that key.
    """
    return retold(loaded, _as_stored)


def _as_stored(line: bytes, record: Record) -> Line:
    stored = sealed_as(record.target.version) if record.target else None
    if stored is None or record.delete_marker:  # a deletion has no bytes in any manifest
        return line, record
    return line, replace(record, sha256=stored[0], size=stored[1])
