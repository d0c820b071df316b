"""Storages around storages: what is the same for every adapter and none of their business."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from portabl.model import Body, Content, Entry, Metadata, ObjectInfo, Written
from portabl.storage import Capabilities, Storage, Upload
from portabl.throttle import Pacer, wait


class Around(Storage):
    """Passes every call on to ``inner``; a wrapper overrides what it is about.

    Methods that the contract has and this class does not name are passed on too (see `passes_on`).
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.name = inner.name

    @property
    def capabilities(self) -> Capabilities:
        """Of the inner storage, where they may change."""
        return self.inner.capabilities

    @capabilities.setter
    def capabilities(self, value: Capabilities) -> None:
        self.inner.capabilities = value

    @property
    def place(self) -> tuple[str, bytes]:
        """Of the inner storage."""
        return self.inner.place

    def check(self, *, write: bool) -> None:
        """Passed on, as are all that follow."""
        self.inner.check(write=write)

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        """Passed on."""
        return self.inner.entries(after)

    def stat(self, key: bytes) -> ObjectInfo:
        """Passed on."""
        return self.inner.stat(key)

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """Passed on."""
        return self.inner.read(entry, start, length)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """Passed on."""
        return self.inner.write(key, body, metadata)

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        """Passed on."""
        return self.inner.upload(key, size, metadata, part_size, token)

    def delete(self, key: bytes) -> None:
        """Passed on."""
        self.inner.delete(key)

    # whatever a wrapper does about the verbs holds for their tasks, too
    reading = Storage.reading
    writing = Storage.writing
    stating = Storage.stating

    def copies(self, source: Storage) -> bool:
        """Passed on, for the innermost source."""
        while isinstance(source, Around):
            source = source.inner
        return self.inner.copies(source)

    def copy(self, source: Storage, entry: Entry, key: bytes, info: ObjectInfo) -> Written | None:
        """Passed on, from the innermost source."""
        while isinstance(source, Around):
            source = source.inner
        return self.inner.copy(source, entry, key, info) if type(source) is type(self.inner) else None


def passes_on(cls: type[Around]) -> None:
    """Give ``cls`` every public method of the contract that it lacks: a default there must not hide the inner's own."""

    def passed(name: str) -> Callable[..., Any]:
        @functools.wraps(getattr(Storage, name), updated=())  # not its mark as abstract
        def call(self: Around, *args: Any, **kwargs: Any) -> Any:
            return getattr(self.inner, name)(*args, **kwargs)

        return call

    for name, member in vars(Storage).items():
        if callable(member) and not name.startswith("_") and name not in vars(cls):
            setattr(cls, name, passed(name))
    abc.update_abstractmethods(cls)


passes_on(Around)


class Throttled(Around):
    """Waits before every read and write until `throttle` lets it through.

    For adapters that know nothing of a throttle (see `Storage.paces_itself`). ``requests``: what a call counts as.
    """

    def __init__(self, inner: Storage, pacer: Pacer, requests: int = 1) -> None:
        super().__init__(inner)
        self._pacer = pacer
        self._requests = requests

    def stat(self, key: bytes) -> ObjectInfo:
        """One request."""
        wait(self._pacer, self._requests)
        return self.inner.stat(key)

    def read(self, entry: Entry, start: int = 0, length: int | None = None) -> Content:
        """One request that receives the range."""
        there = max(0, entry.size - start)
        wait(self._pacer, self._requests, received=there if length is None else min(length, there))
        return self.inner.read(entry, start, length)

    def write(self, key: bytes, body: Body, metadata: Metadata) -> Written:
        """One request that sends the body."""
        wait(self._pacer, self._requests, sent=len(body.data))
        return self.inner.write(key, body, metadata)

    def upload(self, key: bytes, size: int, metadata: Metadata, part_size: int, token: str = "") -> Upload:
        """One request, and one a part."""
        wait(self._pacer, self._requests)
        return _ThrottledUpload(self.inner.upload(key, size, metadata, part_size, token), self._pacer, self._requests)

    def delete(self, key: bytes) -> None:
        """One request."""
        wait(self._pacer, self._requests)
        self.inner.delete(key)


class _ThrottledUpload(Upload):
    def __init__(self, inner: Upload, pacer: Pacer, requests: int) -> None:
        self.token = inner.token
        self.wants_md5, self.wants_crc64 = inner.wants_md5, inner.wants_crc64
        self.done = inner.done
        self._inner = inner
        self._pacer = pacer
        self._requests = requests

    def part(self, number: int, body: Body, offset: int) -> str:
        wait(self._pacer, self._requests, sent=len(body.data))
        return self._inner.part(number, body, offset)

    def finish(self, tags: Sequence[str], sha256: str) -> Written:
        return self._inner.finish(tags, sha256)

    def abort(self) -> None:
        self._inner.abort()
