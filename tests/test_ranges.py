"""Ranges that meet exactly: whatever the keys and the cuts, every key comes once and in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portabl import ranges
from portabl.errors import ListingBroken, ListingDisordered, Unreachable
from portabl.model import Entry
from portabl.ranges import Range, cut, meeting, spread


class Shelf:
    """A listing and nothing else; counts how often it is asked."""

    name = "shelf"

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(set(keys))
        self.asked = 0

    def entries(self, after: bytes | None = None) -> Iterator[Entry]:
        self.asked += 1
        return (Entry(key, 1) for key in self.keys if after is None or key > after)


KEYS = st.lists(st.one_of(st.binary(max_size=6), st.text("ab/é\U0010ffff", max_size=8).map(str.encode)), max_size=60)


@given(KEYS, st.lists(st.binary(max_size=4), max_size=8))
def test_any_cuts_leave_every_key_in_exactly_one_range(keys: list[bytes], cuts: list[bytes]) -> None:
    shelf = Shelf(keys)
    found = [entry.key for part in meeting(cuts) for entry in part.entries(shelf)]  # type: ignore[arg-type]
    assert found == shelf.keys


@given(KEYS, st.integers(1, 9))
def test_cutting_finds_ranges_that_are_the_whole(keys: list[bytes], pieces: int) -> None:
    shelf = Shelf(keys)
    parts = cut(shelf, pieces)  # type: ignore[arg-type]
    assert 1 <= len(parts) <= pieces
    assert parts[0].after is None
    assert parts[-1].until is None
    assert all(left.until == right.after for left, right in itertools.pairwise(parts))
    assert [e.key for part in parts for e in part.entries(shelf)] == shelf.keys  # type: ignore[arg-type]


def test_cuts_follow_the_data_below_a_long_common_beginning() -> None:
    shelf = Shelf([f"backup/2026/{month:02d}/{n:05d}".encode() for month in range(1, 13) for n in range(2000)])
    parts = cut(shelf, 8)  # type: ignore[arg-type]
    sizes = [sum(1 for _ in part.entries(shelf)) for part in parts]  # type: ignore[arg-type]
    assert len(parts) == 8
    assert max(sizes) <= sum(sizes) / 3, "one range must not be nearly everything"


@pytest.mark.parametrize("listers", [1, 2, 7])
def test_spread_listing_is_the_listing(listers: int, tmp_path: Path) -> None:
    shelf = Shelf([f"{a}{b}/{n}".encode() for a in "abc" for b in "xy" for n in range(1500)])
    listed = list(spread(shelf, listers, str(tmp_path)))  # type: ignore[arg-type]
    assert [entry.key for entry in listed] == shelf.keys
    assert not list(tmp_path.iterdir())


def test_a_range_that_breaks_off_breaks_the_listing(tmp_path: Path) -> None:
    class Breaking(Shelf):
        def entries(self, after: bytes | None = None) -> Iterator[Entry]:
            for entry in super().entries(after):
                if entry.key.startswith(b"b") and entry.key > b"b1234":
                    raise Unreachable("gone", storage=self.name)
                yield entry

    shelf = Breaking([f"{a}{n:04d}".encode() for a in "abc" for n in range(3000)])
    listing = spread(shelf, 3, str(tmp_path))  # type: ignore[arg-type]
    assert [entry.key for entry in itertools.islice(listing, 3000)] == shelf.keys[:3000]
    with pytest.raises(Unreachable):
        list(listing)


@pytest.mark.parametrize("hidden", [1, 5, 2999])
def test_ranges_that_do_not_meet_are_no_listing(hidden: int, tmp_path: Path) -> None:
    """SeaweedFS leaves out what lies below ``b/`` when it is asked for what comes after ``b``."""

    class Skipping(Shelf):
        def entries(self, after: bytes | None = None) -> Iterator[Entry]:
            return itertools.islice(super().entries(after), hidden if after == b"b" else 0, None)

    shelf = Skipping([f"{a}/{n:04d}".encode() for a in "abc" for n in range(3000)])
    with pytest.raises(ListingDisordered):
        list(spread(shelf, 3, str(tmp_path)))  # type: ignore[arg-type]


def test_a_store_that_lists_what_was_not_asked_for_is_not_believed() -> None:
    class Deaf(Shelf):
        def entries(self, after: bytes | None = None) -> Iterator[Entry]:
            return super().entries(None)

    with pytest.raises(ListingBroken, match="asked for keys after"):
        list(Range(b"b").entries(Deaf([b"a", b"b", b"c"])))  # type: ignore[arg-type]


def test_a_spread_listing_costs_few_requests_more(tmp_path: Path) -> None:
    shelf = Shelf([f"{a}/{n}".encode() for a in "abcdefgh" for n in range(100)])
    assert len(list(spread(shelf, 8, str(tmp_path)))) == 800  # type: ignore[arg-type]
    assert shelf.asked <= 3 * 8 + 2
    assert ranges.PAGE == 1000
