"""Promises about listings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from portabl.errors import ListingDisordered
from portabl.model import Entry
from portabl.storage import Storage
from portabl.testing.data import ORDER
from portabl.testing.tools import Declarations, names, put, raises


class ListingContract(Declarations):
    """Complete, in byte order, from any key on."""

    def test_an_empty_place_lists_nothing(self, storage: Storage) -> None:
        """An empty listing is an answer; checking a target writes nothing."""
        storage.check(write=True)
        assert names(storage) == []
        assert not self.everything(storage)

    def test_the_listing_is_complete_and_in_byte_order(self, storage: Storage) -> None:
        """Order is that of raw bytes; every object is there once, with its size."""
        for key in ORDER:
            put(storage, key, key)
        if self.disordered:
            with raises(ListingDisordered):
                names(storage)
            return
        listed = list(storage.entries())
        assert sorted(entry.key for entry in listed) == list(ORDER)
        if storage.capabilities.ordered:
            assert [entry.key for entry in listed] == list(ORDER)
        assert [entry.size for entry in listed] == [len(entry.key) for entry in listed]
        assert not any(entry.problem for entry in listed)

    def test_a_listing_may_start_behind_any_key(self, storage: Storage) -> None:
        """``after`` is exclusive, and need not be the name of an object."""
        keys = [key for key in ORDER if not self.disordered or b"/" not in key]
        for key in keys:
            put(storage, key, b"v")
        behind = (*ORDER, b"\x00", b"a!", b"aa/", b"a\xff", b"\xf4\x8f\xbf\xbf")
        for after in (key for key in behind if not self.disordered or b"/" not in key):
            found = [entry.key for entry in storage.entries(after)]
            assert sorted(found) == [key for key in keys if key > after], f"after {after!r}"

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
