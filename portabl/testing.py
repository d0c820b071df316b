"""The contract suite: an adapter, ours or a stranger's, keeps the promises of `portabl.storage` when this passes.

Derive a test class and give it a fixture (pytest does the rest, and is imported nowhere in here)::

    from portabl.testing import MissingContainerContract, StorageContract

    class TestMyStore(StorageContract, MissingContainerContract):
        @pytest.fixture
        def storage(self):      # open, writable, empty, and new for every test
            ...
        @pytest.fixture
        def missing(self):      # opened on a container that does not exist
            ...

What a *server* is known to get wrong although the adapter is right is declared on the class: `changed_keys`,
`merged_keys`, `changed_metadata`. The suite asserts these sets exactly, so they cannot rot: a server that improves, or
gets worse, fails the test. An adapter whose `Capabilities.key_rules` is "exact" may not declare any key.

``pytest.register_assert_rewrite("portabl.testing")`` in conftest.py makes failures easier to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from portabl.errors import Changed, NotFound, Refused, StorageError
from portabl.model import Body, Entry, Metadata, Written
from portabl.storage import Storage
from portabl.testing_data import KEYS, METADATA, ORDER, TWINS

NO_METADATA = Metadata()


def body(data: bytes) -> Body:
    """Bytes with their digests."""
    return Body(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest())


def noise(size: int, seed: int = 0) -> bytes:
    """Reproducible bytes that do not compress."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data


def names(storage: Storage) -> list[bytes]:
    """The keys of a listing, as they come."""
    return [entry.key for entry in storage.entries()]


def put(storage: Storage, key: bytes, data: bytes, metadata: Metadata = NO_METADATA) -> Written:
    """Write an object."""
    return storage.write(key, body(data), metadata)


def get(storage: Storage, key: bytes) -> bytes:
    """Read an object as the listing shows it; a KeyError when it is not listed."""
    entry = storage.listed(key)
    if entry is None:
        raise KeyError(key)
    return bytes(storage.read(entry).data)


@contextlib.contextmanager
def raises(kind: type[StorageError], key: bytes | None = None) -> Iterator[None]:
    """The block must raise ``kind``, about ``key`` when given."""
    try:
        yield
    except kind as error:
        assert key is None or error.key == key, f"the error speaks of {error.key!r}, not of {key!r}"
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


class StorageContract:
    """One test for each promise; see the module's text for how to use it."""

    changed_keys: Collection[bytes] = ()
    """Keys of `KEYS` that this server stores under another name, damages or loses."""

    merged_keys: Collection[tuple[bytes, ...]] = ()
    """Groups of `TWINS` in which this server lets one object destroy another."""

    changed_metadata: Collection[str] = ()
    """Names in `METADATA` that this server changes or drops without a word."""

    many = 1005
    """How many objects the listing test makes: more than one page."""

    def everything(self, storage: Storage) -> Collection[bytes] | None:  # noqa: ARG002 - for subclasses
        """All that the place holds, found without the adapter (temporary files, open uploads); None: cannot tell."""
        return None

    # Listing

    def test_an_empty_place_lists_nothing(self, storage: Storage) -> None:
        """An empty listing is an answer; checking a target writes nothing."""
        storage.check(write=True)
        assert names(storage) == []
        assert not self.everything(storage)

    def test_the_listing_is_complete_and_in_byte_order(self, storage: Storage) -> None:
        """Order is that of raw bytes; every object is there once, with its size."""
        for key in ORDER:
            put(storage, key, key)
        listed = list(storage.entries())
        assert sorted(entry.key for entry in listed) == list(ORDER)
        if storage.capabilities.ordered:
            assert [entry.key for entry in listed] == list(ORDER)
        assert [entry.size for entry in listed] == [len(entry.key) for entry in listed]
        assert not any(entry.problem for entry in listed)

    def test_a_listing_may_start_behind_any_key(self, storage: Storage) -> None:
        """``after`` is exclusive, and need not be the name of an object."""
        for key in ORDER:
            put(storage, key, b"v")
        for after in (*ORDER, b"\x00", b"a!", b"aa/", b"a\xff", b"\xf4\x8f\xbf\xbf"):
            found = [entry.key for entry in storage.entries(after)]
            assert sorted(found) == [key for key in ORDER if key > after], f"after {after!r}"

    def test_long_listings_are_complete(self, storage: Storage) -> None:
        """Paging neither loses nor repeats an object, from the start or from the middle."""
        keys = sorted(b"%s/%05d" % (b"xyz"[n % 3 : n % 3 + 1], n) for n in range(self.many))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: put(storage, key, b"v"), keys))
        assert sorted(names(storage)) == keys
        middle = keys[len(keys) // 2]
        assert sorted(entry.key for entry in storage.entries(middle)) == keys[len(keys) // 2 + 1 :]

    def test_one_listed_object_is_exactly_the_one_asked_for(self, storage: Storage) -> None:
        """`Storage.listed` answers for the key alone, not for keys that begin like it."""
        written = put(storage, b"a/b", b"value")
        found = storage.listed(b"a/b")
        assert isinstance(found, Entry)
        assert (found.key, found.size) == (b"a/b", 5)
        assert found.etag == written.etag
        assert [storage.listed(key) for key in (b"a", b"a/", b"a/b/", b"a/bc", b"A/b")] == [None] * 5

    # Keys

    def test_a_key_comes_back_exactly_or_is_refused(self, storage: Storage) -> None:
        """Never another name: neither in the listing, nor for reading, nor for deleting."""
        assert storage.capabilities.key_rules in ("exact", "store")
        wrong = {key: why for key in KEYS if (why := self._trouble_with(storage, key))}
        assert set(wrong) == set(self.changed_keys), wrong
        assert storage.capabilities.key_rules == "store" or not wrong

    def _trouble_with(self, storage: Storage, key: bytes) -> str:
        before, data = set(names(storage)), noise(33, len(key))
        try:
            put(storage, key, data)
        except Refused as error:
            assert error.key == key
            return "refused, yet something was stored" if set(names(storage)) != before else ""
        except StorageError as error:
            return f"neither stored nor refused: {error}"
        new = set(names(storage)) - before
        try:
            return self._trouble_with_stored(storage, key, data, before, new)
        finally:
            for name in new - {key}:
                with contextlib.suppress(StorageError):  # what a server renamed cannot always be removed again
                    storage.delete(name)

    def _trouble_with_stored(
        self, storage: Storage, key: bytes, data: bytes, before: set[bytes], new: set[bytes]
    ) -> str:
        if new != {key}:
            return f"listed as {sorted(new)}"
        try:
            if get(storage, key) != data or storage.stat(key).size != len(data):
                return "reads as something else"
            storage.delete(key)
        except (StorageError, KeyError) as error:
            return f"listed but not readable: {error}"
        return "" if set(names(storage)) == before else "not deleted"

    def test_no_object_destroys_another(self, storage: Storage) -> None:
        """Names that look alike stay apart, or the later one is refused."""
        wrong = {twins: why for twins in TWINS if (why := self._merging(storage, twins))}
        assert set(wrong) == set(self.merged_keys), wrong
        assert storage.capabilities.key_rules == "store" or not wrong

    def _merging(self, storage: Storage, twins: Sequence[bytes]) -> str:
        for order in (list(twins), list(reversed(twins))):
            held: dict[bytes, bytes] = {}
            for key in order:
                with contextlib.suppress(Refused):
                    try:
                        put(storage, key, b"content of " + key)
                    except Refused:
                        raise
                    except StorageError as error:
                        return f"{key!r} neither stored nor refused: {error}"
                    held[key] = b"content of " + key
            found = self._contents(storage)
            for key in {*found, *held}:
                with contextlib.suppress(StorageError):
                    storage.delete(key)
            if found != held:
                return f"in the order {order}: {found}"
        return ""

    def _contents(self, storage: Storage) -> dict[bytes, bytes]:
        found = {}
        for entry in list(storage.entries()):
            try:
                found[entry.key] = bytes(storage.read(entry).data)
            except StorageError as error:
                found[entry.key] = f"unreadable: {type(error).__name__}".encode()
        return found

    # Reading

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

    # Writing

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
        sizes, done = (300_000, 900_000), threading.Event()
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

    def _rewrite(self, storage: Storage, sizes: Sequence[int], done: threading.Event) -> None:
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

    def _in_threads[T](self, call: Callable[[T], bool], arguments: Sequence[T]) -> list[bool]:
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(call, arguments))
        assert all(results)
        return results
