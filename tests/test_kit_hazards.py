"""The hazard objects and the oracle: faithful servers hold them all, and a change of any kind is seen."""

from __future__ import annotations

import dataclasses

import pytest
from kit import hazards
from kit.hazards import HAZARDS, Item
from kit.servers import S3Server


def test_there_are_as_many_as_promised() -> None:
    assert len({item.key for item in HAZARDS}) == len(HAZARDS) >= 70
    assert len(set(hazards.TORTURE)) == len(hazards.TORTURE) >= 62
    assert max(len(item.key) for item in HAZARDS) == 1024


@pytest.mark.parametrize("name", ["moto", "rgw"])
def test_a_faithful_server_holds_every_object_as_it_was_stored(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    bucket = server.bucket()
    stored = hazards.fill(server, bucket)
    assert {item.key for item in HAZARDS} - {item.key for item in stored} == (
        {b"meta/class"} if name == "rgw" else set()
    )
    seen = hazards.snapshot(server, bucket)
    assert {key: (one.size, one.sha256) for key, one in seen.items()} == {
        item.key: (len(item.body), hazards.hashlib.sha256(item.body).hexdigest()) for item in stored
    }
    wrong = {item.key for item in stored if not _same(item, seen[item.key])}
    assert wrong == ({b"meta/names"} if name == "rgw" else set())


def _same(item: Item, seen: hazards.Seen) -> bool:
    headers = {name: value for name, value in item.headers.items() if name != "Expires"}
    expires = {"ExpiresString": "Wed, 21 Oct 2099 07:28:00 GMT"} if "Expires" in item.headers else {}
    kept = {name: value for name, value in seen.headers.items() if name in {*headers, *expires}}
    return (kept, seen.metadata, seen.tags) == ({**headers, **expires}, item.metadata, item.tags)


@pytest.mark.parametrize(("name", "refused"), [("moto", {b"nl\nkey", b"\r\n"}), ("rgw", set()), ("swift", set())])
def test_torture_keys(name: str, refused: set[bytes], request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    bucket, items = server.bucket(), hazards.torture()
    stored = hazards.fill(server, bucket, items)
    assert {item.key for item in items} - {item.key for item in stored} == refused
    seen = hazards.snapshot(server, bucket)
    assert {key: one.metadata["of"] for key, one in seen.items()} == {item.key: item.metadata["of"] for item in stored}


def test_the_oracle_sees_every_kind_of_difference(moto: S3Server) -> None:
    bucket = moto.bucket()
    item = Item(b"k", b"body", {"ContentType": "text/plain"}, {"a": "b"}, {"c": "d"})
    hazards.store(moto, bucket, item)
    first = hazards.snapshot(moto, bucket)
    assert hazards.differences(first, hazards.snapshot(moto, bucket)) == {}
    changes = {
        "sha256": {"body": b"bodi"},
        "size": {"body": b"bodies"},
        "headers": {"headers": {"ContentType": "text/html"}},
        "metadata": {"metadata": {"a": "B"}},
        "tags": {"tags": {}},
    }
    for part, change in changes.items():
        hazards.store(moto, bucket, dataclasses.replace(item, **change))
        assert f"{part}: " in hazards.differences(first, hazards.snapshot(moto, bucket))[b"k"]
    hazards.store(moto, bucket, item)
    hazards.store(moto, bucket, dataclasses.replace(item, key=b"new"))
    assert hazards.differences(first, hazards.snapshot(moto, bucket)) == {b"new": "only in the second"}
