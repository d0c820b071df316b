"""Listings are complete wherever a page ends: every awkward key is the last of a page once."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit import hazards
from kit.servers import S3Server
from shell import shell

from portabl import providers, registry
from portabl.errors import ListingBroken, ListingDisordered
from portabl.storage import Storage
from portabl_adapters.s3 import listing

_TOML = S3Server.provider_toml
NEIGHBOURS = ("a&b", "a/b", "a/c", "a", "a.b", "a/c/d", "a/c!", "zz\x01a", "zz\x01b", "zz", "q+1", "q+2", "s 1", "s 2")


def _open(server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Storage:
    config = f"{tmp_path}/portabl.toml"
    with open(config, "w", encoding="utf-8") as file:
        file.write(server.provider_toml("here"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return registry.open_location(f"here:{bucket}", providers.load(config), threads=4, options={})


def _names(storage: Storage) -> list[bytes]:
    try:
        return [entry.key for entry in storage.entries()]
    except ListingDisordered:
        assert not storage.capabilities.ordered
        return [entry.key for entry in storage.entries()]


@pytest.mark.parametrize("name", ["moto", "rgw", "swift", "seaweed"])
def test_no_page_end_loses_or_repeats_a_key(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket = server.bucket()
    hazards.fill(server, bucket, hazards.torture(dict.fromkeys([*hazards.TORTURE, *map(str.encode, NEIGHBOURS)])))
    expected = sorted(hazards.listed(server, bucket))
    assert len(expected) > 45
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(listing, "PAGE_KEYS", size)
        with _open(server, bucket, monkeypatch, tmp_path) as storage:
            found = _names(storage)
            assert sorted(found) == expected, f"pages of {size}"
            missing = [key for key in expected if storage.listed(key) is None]
            assert missing == []
            assert storage.listed(b"no such key") is None


def test_a_listing_that_repeats_the_question_is_not_believed(
    seaweed: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = seaweed.bucket()
    for key in ("e/f", "p/q/r", "lead", "b/s", "end/"):
        seaweed.client().put_object(Bucket=bucket, Key=key, Body=b"" if key == "end/" else b"own")
    assert seaweed.keys(bucket, "e//f") == ["e//f"]  # no such key
    with _open(seaweed, bucket, monkeypatch, tmp_path) as storage:
        asked = (b"e//f", b"p//q//r", b"/lead", b"b\\s", b"end//", b"e/./f", b"e/../e/f", b"./lead")
        assert [storage.listed(key) for key in asked] == [None] * len(asked)
        assert storage.listed(b"e/f") is not None
    with _open(seaweed, f"{bucket}/p", monkeypatch, tmp_path) as below:
        assert [below.listed(key) for key in (b"/q/r", b"q//r")] == [None, None]
        assert below.listed(b"q/r") is not None


@pytest.mark.parametrize("version", [1, 2])
def test_keys_that_are_not_percent_encoded(
    rgw: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int
) -> None:
    """For stores that cannot encode: ordinary keys are exact, and a key that XML cannot say ends the listing."""
    bucket = rgw.bucket()
    names = sorted(
        [*"abc", "s 1", "p+1", "100%", "%41", "a&b", "<x>", "é", "a//b", "../up", "tab\tkey"], key=str.encode
    )
    for name in names:
        rgw.client().put_object(Bucket=bucket, Key=name, Body=b"x")
    plain = f"url_encoded_listing = false\nlist_objects_version = {version}\n"
    monkeypatch.setattr(S3Server, "provider_toml", lambda self, name: _TOML(self, name) + plain)
    monkeypatch.setattr(listing, "PAGE_KEYS", 2)
    with _open(rgw, bucket, monkeypatch, tmp_path) as storage:
        assert [entry.key for entry in storage.entries()] == [name.encode() for name in names]
        rgw.client().put_object(Bucket=bucket, Key="zz\x01", Body=b"x")
        with pytest.raises(ListingBroken):
            list(storage.entries())


def test_ls_of_a_disordered_store_names_every_key_once(seaweed: S3Server, tmp_path: Path) -> None:
    bucket = seaweed.bucket()
    names = [f"{letter}{mark}{n}" for letter in "abc" for mark in ("/", "!", "0") for n in range(3)]
    for name in names:
        seaweed.client().put_object(Bucket=bucket, Key=name, Body=b"x")
    here = shell(tmp_path, seaweed.environment)
    here.configure(seaweed.provider_toml())
    listed = here.portabl("ls", f"seaweed:{bucket}", "--json")
    assert listed.code == 0, listed.err
    assert sorted(entry["key"] for entry in listed.document["entries"]) == sorted(names)
    plain = here.portabl("ls", f"seaweed:{bucket}")
    assert (plain.code, len(plain.out.splitlines())) == (0, len(names))
