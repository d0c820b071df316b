"""Promises about bytes: read back as written, pinned, replaced whole, deleted alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from portabl.errors import Changed, NotFound, Refused
from portabl.storage import Storage
from portabl.testing.data import METADATA
from portabl.testing.tools import Declarations, get, names, noise, put, raises

T = TypeVar("T")


class ContentContract(Declarations):
    """Reading, writing and deleting whole objects."""

    def test_bytes_come_back(self, storage: Storage) -> None:
        """Of every size, empty included, and the same by listing, by `stat` and by `read`."""
        for size in (0, 1, 255, 4096, 1_000_003):
            data, key = noise(size, size), b"size-%d" % size
            written = put(storage, key, data)
            entry = storage.listed(key)
            assert entry is not None
            content = storage.read(entry)
            assert bytes(content.data) == data
            assert storage.stat(key).size == content.info.size == entry.size == size
            assert {written.etag, content.info.etag, storage.stat(key).etag} == {entry.etag}

    def test_ranges(self, storage: Storage) -> None:
        """Exactly the bytes asked for."""
        data = noise(100_000)
        put(storage, b"k", data)
        entry = storage.listed(b"k")
        assert entry is not None
        for start, length in ((0, 1), (0, 100_000), (1, None), (99_999, 1), (99_999, None), (50_000, 10_000)):
            expected = data[start:] if length is None else data[start : start + length]
            assert bytes(storage.read(entry, start, length).data) == expected, (start, length)

    def test_a_changed_object_is_never_taken_for_the_listed_one(self, storage: Storage) -> None:
        """Reading is pinned to the version that was listed, also for ranges, also when the size is the same."""
        put(storage, b"k", b"old content")
        entry = storage.listed(b"k")
        assert entry is not None
        put(storage, b"k", b"new content")
        for start in (0, 4):
            if entry.etag:
                with raises(Changed, b"k"):
                    storage.read(entry, start)
            else:
                assert bytes(storage.read(entry, start).data) == b"new content"[start:]

    def test_what_is_not_there_is_not_found(self, storage: Storage) -> None:
        """An error that is also FileNotFoundError and names the key; reading a deleted object is no empty object."""
        put(storage, b"gone", b"v")
        entry = storage.listed(b"gone")
        assert entry is not None
        storage.delete(b"gone")
        with raises(NotFound, b"gone"):
            storage.read(entry)
        for key in (b"gone", b"never", b"never/was", b"go"):
            with raises(NotFound, key):
                storage.stat(key)
        assert issubclass(NotFound, FileNotFoundError)

    def test_a_write_replaces_the_whole_object(self, storage: Storage) -> None:
        """Content, size and metadata of the old one are gone."""
        put(storage, b"k", noise(5000), METADATA["all"])
        put(storage, b"k", b"short")
        assert get(storage, b"k") == b"short"
        assert storage.stat(b"k").metadata.fields() == {}
        assert names(storage) == [b"k"]

    def test_nothing_else_is_added(self, storage: Storage) -> None:
        """No markers for "directories", no temporary files, no notes."""
        keys = [b"deep/er/still/k", b"flat", b"deep/other"]
        for key in keys:
            put(storage, key, b"v")
        storage.delete(keys.pop())
        assert sorted(names(storage)) == sorted(keys)
        held = self.everything(storage)
        assert held is None or sorted(held) == sorted(keys)

    def test_an_object_is_never_seen_half_written(self, storage: Storage) -> None:
        """Readers see the old object or the new one, complete, while writers replace it."""
        sizes, done = [300_000, 900_000], threading.Event()
        put(storage, b"k", noise(sizes[0]))
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(self._rewrite, storage, sizes, done)
            seen = 0
            while not done.is_set() or not seen:
                entry = storage.listed(b"k")
                assert entry is not None, "vanished while it was replaced"
                with contextlib.suppress(Changed):
                    data = bytes(storage.read(entry).data)
                    assert data in [noise(size) for size in sizes], f"{len(data)} bytes, a mixture"
                    seen += 1
            writing.result()

    def _rewrite(self, storage: Storage, sizes: list[int], done: threading.Event) -> None:
        try:
            for size in sizes * 6:
                put(storage, b"k", noise(size))
        finally:
            done.set()

    def test_deleting(self, storage: Storage) -> None:
        """Removes one object and nothing beside or below it; a second time is no error."""
        for key in (b"a-b", b"ab", b"a.", b"b/c/d"):
            with contextlib.suppress(Refused):
                put(storage, key, b"v")
        others = [key for key in names(storage) if key not in (b"ab", b"b/c/d")]
        for key in (b"ab", b"ab", b"b/c/d", b"b/c/d", b"b/c", b"b", b"never"):
            storage.delete(key)
        assert names(storage) == others

    def test_many_threads_at_once(self, storage: Storage) -> None:
        """16 threads write, read and list; every object is the one its writer meant."""
        keys = [b"t/%03d" % n for n in range(96)]

        def there_and_back(key: bytes) -> bool:
            data = key * 100
            put(storage, key, data)
            return get(storage, key) == data and storage.stat(key).size == len(data)

        self._in_threads(there_and_back, keys)
        assert sorted(names(storage)) == keys
        same = self._in_threads(lambda n: bool(put(storage, b"same", b"%05d" % n * 10_000)), range(32))
        assert all(same)
        data = get(storage, b"same")
        assert data == data[:5] * 10_000

    def _in_threads(self, call: Callable[[T], bool], arguments: Iterable[T]) -> list[bool]:
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(call, arguments))
        assert all(results)
        return results
