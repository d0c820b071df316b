"""One object against what is known of a target."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from portabl import capability
from portabl.capability import Card
from portabl.features import ABOVE, BESIDE
from portabl.judge import Judge, accept_name
from portabl.model import Entry, Fact, Metadata
from portabl.storage import Capabilities, Storage


def target(prefix: bytes = b"", **limits: Any) -> Storage:
    """As much of a storage as is asked for."""
    capabilities = Capabilities(**limits)
    return cast("Storage", SimpleNamespace(capabilities=capabilities, place=("s3 http://x b", prefix)))


def card(facts: Mapping[str, str]) -> Card:
    return Card("s3 http://x", "x:b", "", "2026-11-30", "", {name: Fact(name, how) for name, how in facts.items()})


def lost(judge: Judge, *keys: bytes, size: int = 1) -> list[bytes]:
    return [key for key in keys if judge.entry(Entry(key, size))[0]]


def test_what_the_card_says_is_lost_is_lost_and_the_rest_is_unknown_or_kept() -> None:
    judge = Judge(target(), card({"key: empty segment": "changed", "key: character '%'": "kept"}))
    found, unknown = judge.entry(Entry(b"a//b", 1))
    assert [(one.field, one.accept, str(one.portability)) for one in found] == [("object", "keys", "needs adaptation")]
    assert judge.entry(Entry(b"50%", 1)) == ([], [])
    assert judge.entry(Entry("é".encode(), 1)) == ([], ["key: non-ASCII"])
    assert unknown == []


def test_without_a_card_no_key_is_called_lost() -> None:
    assert lost(Judge(target(), None), b"a//b", b"..", b"n" * 3000) == []


def test_a_place_that_names_keys_its_own_way_loses_none() -> None:
    assert lost(Judge(target(key_rules="exact"), card({"key: empty segment": "changed"})), b"a//b") == []


def test_the_prefix_of_the_target_counts_towards_limits() -> None:
    limits = card({"limit: key bytes": "10", "limit: segment bytes": "6"})
    assert lost(Judge(target(), limits), b"ab/defg/ij", b"ab/defg/ijk", b"abcdefg") == [b"ab/defg/ijk", b"abcdefg"]
    assert lost(Judge(target(b"p/"), limits), b"ab/defg/", b"ab/defg/i") == [b"ab/defg/i"]


@pytest.mark.parametrize(
    ("fact", "keys", "expected"),
    [
        (BESIDE, [b"x", b"x!", b"x-y", b"x/", b"y/"], [b"x/"]),
        (ABOVE, [b"a", b"a!b", b"a/b", b"a/c/d", b"b/c"], [b"a/b", b"a/c/d"]),
        (ABOVE, [b"a/", b"a/b"], []),
        (BESIDE, [b"ab", b"ab/c", b"ab/c/"], [b"ab/c/"]),
    ],
)
def test_neighbours_are_seen_in_key_order(fact: str, keys: list[bytes], expected: list[bytes]) -> None:
    assert keys == sorted(keys)
    assert lost(Judge(target(), card({fact: "refused"})), *keys, size=0) == expected


def test_sizes_are_held_against_parts_and_the_largest_object() -> None:
    few = Judge(target(part_size_max=2**30, parts_max=10_000), card({"limit: parts": "10"}))
    sizes = {size: [one.accept for one in few.entry(Entry(b"k", size))[0]] for size in (1, 10 * 2**30, 11 * 2**30)}
    assert sizes == {1: [], 10 * 2**30: [], 11 * 2**30: ["size"]}
    small = Judge(target(object_size_max=100), None)
    assert [bool(small.entry(Entry(b"k", size))[0]) for size in (100, 101, 2**40)] == [False, True, True]


def test_archived_objects_are_lost_unless_they_can_be_read() -> None:
    entries = [Entry(b"a", 1, storage_class="GLACIER"), Entry(b"b", 1, storage_class="DEEP_ARCHIVE"), Entry(b"c", 1)]
    judge = Judge(target(), None, readable=lambda entry: entry.key == b"b")
    assert [[one.accept for one in judge.entry(entry)[0]] for entry in entries] == [["archived"], [], []]


def test_what_a_source_cannot_give_is_named_and_a_deletion_is_nothing() -> None:
    judge = Judge(target(), None)
    assert [one.accept for one in judge.entry(Entry(b"s", 0, problem="a socket"))[0]] == ["unreadable"]
    assert judge.entry(Entry(b"d", 0, delete_marker=True, problem="")) == ([], [])


def test_fields_are_lost_one_by_one() -> None:
    judge = Judge(target(), card({"tags: plain": "refused", "user: empty value": "dropped", "user: plain": "kept"}))
    metadata = Metadata({"expires": "0"}, {"a": "", "b": "x"}, {"t": "v", "u": ""})
    found, unknown = judge.fields(Entry(b"k", 1), metadata)
    assert {(one.field, one.accept) for one in found} == {("user.a", "user"), ("tag.t", "tags"), ("tag.u", "tags")}
    assert set(unknown) == {"header: expires that is no date", "tags: empty value"}


def test_fields_depend_on_where_they_are() -> None:
    judge = Judge(target(), card({"user: on a folder": "dropped", "upload: tags": "dropped"}))
    metadata = Metadata({}, {"a": "x"}, {"t": "v"})

    def fields(key: bytes, size: int) -> list[str]:
        return [one.field for one in judge.fields(Entry(key, size), metadata)[0]]

    assert (fields(b"d/", 0), fields(b"d", 0), fields(b"d/", 1)) == (["user.a"], [], [])
    assert (fields(b"large", 2**30), fields(b"small", 2**10)) == (["tag.t"], [])


def test_an_object_with_too_much_metadata_is_lost_as_a_whole() -> None:
    judge = Judge(target(), card({"limit: user value bytes": "4", "limit: user metadata bytes": "8"}))
    found = [judge.fields(Entry(b"k", 1), Metadata({}, user))[0] for user in ({"a": "four"}, {"a": "fiver"})]
    assert [[one.field for one in some] for some in found] == [[], ["object"]]
    both = judge.fields(Entry(b"k", 1), Metadata({}, {"a": "four", "b": "four"}))[0]
    assert [one.field for one in both] == ["object"]


def test_what_a_kind_of_place_cannot_hold_needs_no_card() -> None:
    judge = Judge(target(tags=False, headers=frozenset()), None)
    assert judge.wants_fields
    metadata = Metadata({"expires": "x"}, {"a": "b"}, {"t": "v"})
    assert [one.accept for one in judge.fields(Entry(b"k", 1), metadata)[0]] == ["expires", "tags"]
    bodies = Judge(target(metadata_in_manifest=True, tags=False), None)
    assert (bodies.wants_fields, bodies.fields(Entry(b"k", 1), metadata)) == (False, ([], []))
    assert not Judge(target(), None).wants_fields


def test_names_to_accept() -> None:
    names = [accept_name(field) for field in ("user.a.b", "tag.user.x", "lock.mode", "acl", "expires", "storage-class")]
    assert names == ["user", "tags", "lock", "acl", "expires", "storage-class"]


def test_each_card_that_comes_along_judges_every_feature() -> None:
    from pathlib import Path

    from portabl.features import FIELDS, KEYS, PAIRS

    for name in capability.shipped():
        known = capability.find(name, "", Path())
        assert known is not None
        assert {fact for fact in (*KEYS, *PAIRS, *FIELDS) if known.outcome(fact) == "unknown"} == set()
