"""Listings: sorted whatever the store does, in bounded memory; filters against a slow oracle."""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portabl import listing
from portabl.errors import Interrupted, ListingBroken, ListingDisordered, UsageError
from portabl.listing import Filter, Listing, Spooled, ahead, any_order, distinct, sort, until_ordered
from portabl.model import Entry
from portabl.storage import Capabilities

KEYS = st.lists(st.binary(max_size=6), max_size=40)


class Shelf:
    """As much of a storage as a listing asks for: entries in the order given, which it may promise to be sorted."""

    name = "shelf"

    def __init__(self, names: Iterable[bytes], *, ordered: bool, repents: bool = False) -> None:
        self.names = list(names)
        self.capabilities = Capabilities(ordered=ordered)
        self._repents = repents
        self.listings = 0

    def entries(self) -> Iterator[Entry]:
        self.listings += 1
        last: bytes | None = None
        for name in self.names:
            if self._repents and self.capabilities.ordered and last is not None and name < last:
                self.capabilities = Capabilities(ordered=False)
                raise ListingDisordered("not in order")
            last = name
            yield Entry(name, len(name))


def _names(entries: Iterable[Entry]) -> list[bytes]:
    return [entry.key for entry in entries]


@given(keys=KEYS, run=st.integers(1, 5), opened=st.integers(2, 4))
@settings(deadline=None)
def test_sorting_with_any_number_of_runs_on_disk(
    tmp_path_factory: pytest.TempPathFactory, keys: list[bytes], run: int, opened: int
) -> None:
    scratch = str(tmp_path_factory.getbasetemp())
    entries = [Entry(key, n, f"e{n}", "m", "v", "c", "p") for n, key in enumerate(keys)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "RUN_ENTRIES", run)
        patch.setattr(listing, "RUNS_OPEN", opened)
        found = list(sort(iter(entries), scratch))
    assert [e.key for e in found] == sorted(keys)
    assert set(found) == set(entries)


def test_runs_lie_in_the_scratch_directory_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "RUN_ENTRIES", 3)
    keys = [b"%04d" % n for n in random.Random(1).sample(range(1000), 100)]
    stream = sort((Entry(key, 1) for key in keys), str(tmp_path))
    assert next(stream).key == min(keys)
    stream.close()
    assert list(tmp_path.iterdir()) == []


@given(st.sets(st.binary(max_size=5)), st.booleans())
def test_a_listing_is_sorted_in_the_end(tmp_path_factory: pytest.TempPathFactory, keys: set[bytes], told: bool) -> None:
    shelf = Shelf(random.Random(3).sample(sorted(keys), len(keys)), ordered=told, repents=True)
    found = Listing(shelf, Filter(), str(tmp_path_factory.getbasetemp()))  # type: ignore[arg-type]
    assert until_ordered(lambda: _names(found)) == sorted(keys)


def test_a_broken_promise_is_seen_and_the_listing_sorted_from_then_on(tmp_path: Path) -> None:
    shelf = Shelf([b"b", b"a", b"c"], ordered=True)
    found = Listing(shelf, Filter(), str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(ListingDisordered):
        list(found)
    assert _names(found) == _names(found) == [b"a", b"b", b"c"]


def test_two_listings_may_be_disordered_but_not_for_ever() -> None:
    left = [2]

    def attempt() -> str:
        if left[0]:
            left[0] -= 1
            raise ListingDisordered("again")
        return "done"

    assert until_ordered(attempt) == "done"
    left[0] = 3
    with pytest.raises(ListingDisordered):
        until_ordered(attempt)


def test_repetition_is_dropped_and_contradiction_is_not() -> None:
    one, two = Entry(b"a", 1), Entry(b"b", 1)
    assert list(distinct([one, one, two, two], "x")) == [one, two]
    with pytest.raises(ListingBroken, match="twice"):
        list(distinct([one, Entry(b"a", 2)], "x"))


@pytest.mark.parametrize("ordered", [True, False])
def test_any_order_gives_every_entry_once(ordered: bool) -> None:
    shelf = Shelf([b"a", b"c", b"b", b"d"], ordered=ordered, repents=True)
    assert _names(any_order(shelf)) == [b"a", b"c", b"b", b"d"]  # type: ignore[arg-type]
    assert shelf.listings == (2 if ordered else 1)
    with pytest.raises(ListingDisordered):  # who still promises an order cannot be believed
        list(any_order(Liar()))  # type: ignore[arg-type]


class Liar(Shelf):
    def __init__(self) -> None:
        super().__init__([], ordered=True)

    def entries(self) -> Iterator[Entry]:
        yield Entry(b"b", 1)
        raise ListingDisordered("not in order")


@given(st.integers(0, 2000))
@settings(deadline=None, max_examples=20)
def test_listing_ahead_changes_nothing(count: int) -> None:
    counted: list[int] = []
    entries = [Entry(b"%06d" % n, n) for n in range(count)]
    assert list(ahead(iter(entries), counted.append)) == entries
    assert counted == [count]


def test_an_error_of_a_listing_comes_where_its_entry_would_have_come() -> None:
    def broken() -> Iterator[Entry]:
        for n in range(listing.AHEAD_CHUNK):
            yield Entry(b"%06d" % n, n)
        raise ListingBroken("no more")

    stream = ahead(broken(), lambda _: pytest.fail("it did not end"))
    assert len(list(itertools.islice(stream, listing.AHEAD_CHUNK))) == listing.AHEAD_CHUNK
    with pytest.raises(ListingBroken):
        next(stream)


def test_listing_ahead_is_bounded_and_ends_with_its_reader() -> None:
    taken = [0]

    def endless() -> Iterator[Entry]:
        for n in itertools.count():
            taken[0] = n
            yield Entry(b"%09d" % n, n)

    stream = ahead(endless(), lambda _: None)
    next(stream)
    stream.close()
    assert taken[0] <= listing.AHEAD_CHUNK * (listing.AHEAD_CHUNKS + 4)
    assert not [thread for thread in threading.enumerate() if thread.name == "portabl-list"]


@pytest.mark.parametrize(
    ("glob", "inside", "outside"),
    [
        ("*.txt", [b"a.txt", b"d/e/a.txt", b".txt", b"a\n.txt"], [b"a.txt/x", b"a.txtx", b"atxt"]),
        ("d/*", [b"d/a", b"d/"], [b"d", b"d/a/b", b"x/d/a"]),
        ("d/**", [b"d/a", b"d/a/b", b"d/"], [b"d", b"e/d/a"]),
        ("/d/*", [b"d/a"], [b"x/d/a", b"/d/a"]),
        ("d/", [b"d/", b"d/a", b"x/d/a/b"], [b"d", b"xd/a"]),
        ("?", [b"a", b"d/a"], [b"", b"ab"]),
        ("[a-c]x", [b"ax", b"q/cx"], [b"dx", b"x"]),
        ("[!a-c]x", [b"dx"], [b"ax"]),
        ("[]]x", [b"]x"], [b"ax"]),
        ("[[]x", [b"[x"], [b"x"]),
        ("[\\]x", [b"\\x"], [b"x"]),
        ("[^a]", [b"^", b"a"], [b"b"]),
        ("a.b", [b"a.b"], [b"axb"]),
        ("(a|b)+", [b"(a|b)+"], [b"a", b"ab"]),
        ("é", ["é".encode()], [b"e"]),
        ("a**b", [b"ab", b"a/x/b"], [b"a"]),
    ],
)
def test_globs(glob: str, inside: list[bytes], outside: list[bytes]) -> None:
    only, but = Filter.of([glob]), Filter.of([], [glob])
    assert [key for key in (*inside, *outside) if only.admits(key)] == inside
    assert [key for key in (*inside, *outside) if but.admits(key)] == outside


PIECES = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", ".", "+"]), min_size=1, max_size=6).map("".join)


def _matches(glob: str, key: str) -> bool:
    """A glob by hand: one character after the other, every choice tried."""
    if not glob:
        return not key
    if glob.startswith("**"):
        return any(_matches(glob[2:], key[n:]) for n in range(len(key) + 1))
    if glob[0] == "*":
        stop = key.index("/") if "/" in key else len(key)
        return any(_matches(glob[1:], key[n:]) for n in range(stop + 1))
    return bool(key) and (key[0] != "/" if glob[0] == "?" else key[0] == glob[0]) and _matches(glob[1:], key[1:])


@given(PIECES, st.text("ab/.+", max_size=7))
def test_globs_against_an_oracle(glob: str, key: str) -> None:
    pattern = glob.removeprefix("/") + ("**" if glob.endswith("/") else "")
    anywhere = "/" not in glob.rstrip("/")
    starts = [0, *(m.end() for m in re.finditer("/", key))] if anywhere else [0]
    expected = any(_matches(pattern, key[start:]) for start in starts)
    assert Filter.of([glob]).admits(key.encode()) is expected


def test_exclude_is_stronger_and_no_filter_takes_all() -> None:
    both = Filter.of(["*.txt"], ["secret*"])
    assert [both.admits(key) for key in (b"a.txt", b"secret.txt", b"a.bin")] == [True, False, False]
    assert Filter().admits(b"anything")
    assert not Filter().active


@pytest.mark.parametrize("glob", ["", "[a", "a/[", "[!"])
def test_unusable_patterns(glob: str) -> None:
    with pytest.raises(UsageError):
        Filter.of([glob])


@given(
    st.lists(
        st.builds(
            Entry,
            key=st.binary(max_size=3),
            size=st.integers(0, 3),
            etag=st.sampled_from(["", "e1", "e2"]),
            modified=st.sampled_from(["", "now", "e1"]),
            version=st.sampled_from(["", "v1", "null"]),
            storage_class=st.sampled_from(["", "STANDARD"]),
            problem=st.sampled_from(["", "a socket"]),
            ordinal=st.integers(0, 2),
            delete_marker=st.booleans(),
        ),
        max_size=8,
    )
)
@settings(deadline=None)
def test_what_waits_on_disk_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    scratch = str(tmp_path_factory.mktemp("s"))
    spooled = Spooled(entries, scratch)
    spooled.fill(threading.Event())
    assert list(spooled) == entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "RUN_ENTRIES", 2)
        assert list(sort(entries, scratch)) == sorted(entries, key=lambda entry: entry.key)


def test_a_listing_that_passes_by_is_kept_when_it_has_come_to_its_end(tmp_path: Path) -> None:
    shelf = Listing(Shelf([b"%05d" % n for n in range(1000)], ordered=True), Filter(), str(tmp_path))  # type: ignore[arg-type]
    spooled, heard = Spooled(shelf, str(tmp_path)), list[Entry]()
    passing = spooled.passing(threading.Event(), heard.append)
    assert list(itertools.islice(passing, 999)) == heard[:999]
    assert len(list(spooled)) == 1000, "not kept yet, so it is listed anew"
    assert shelf.storage.listings == 2  # type: ignore[attr-defined]
    assert len(list(passing)) == 1
    spooled.fill(threading.Event())
    assert list(spooled) == heard
    assert shelf.storage.listings == 2  # type: ignore[attr-defined]


def test_a_listing_that_was_given_up_writes_nothing_into_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SPOOLED_TOGETHER", 10)  # so that the last lines still wait in the file's buffer
    shelf = [Entry(b"old%05d" % n, n) for n in range(1000)]
    spooled = Spooled(shelf, str(tmp_path))
    given_up = spooled.passing(threading.Event(), lambda _: None)
    list(itertools.islice(given_up, 600))
    shelf[:] = [Entry(b"new%05d" % n, n, "another") for n in range(1000)]
    assert list(spooled.passing(threading.Event(), lambda _: None)) == shelf
    given_up.close()  # as the garbage collector does, some time later
    assert list(spooled) == shelf


def test_a_listing_begun_again_is_not_the_one_before(tmp_path: Path) -> None:
    shelf = [Entry(b"%05d" % n, n) for n in range(1000)]
    spooled = Spooled(shelf, str(tmp_path))
    spooled.fill(threading.Event())
    shelf.append(Entry(b"later", 1))
    again = spooled.passing(threading.Event(), lambda _: None)
    next(again)
    again.close()
    assert list(spooled) == shelf
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        spooled.fill(stop)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_a_listing_on_disk_that_was_cut_off_is_no_shorter_listing(tmp_path: Path, left: float) -> None:
    spooled = Spooled([Entry(b"%05d" % n, n) for n in range(1000)], str(tmp_path))
    spooled.fill(threading.Event())
    (file,) = tmp_path.iterdir()
    os.truncate(file, int(file.stat().st_size * left))
    with pytest.raises(ListingBroken):
        list(spooled)
