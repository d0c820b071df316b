"""Keys and fields that migration tools lose: everything arrives, or exactly what does not arrive is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kit import hazards
from kit.hazards import HAZARDS, PART, Item, Seen
from kit.losses import admitted, observed
from kit.servers import S3Server
from shell import Result, Shell, shell

LARGE = Item(
    b"multi/large.bin",
    random.Random(8).randbytes(3 * PART + 2**21 + 77),  # more than portabl writes in one piece
    {"ContentType": "application/x-large", "CacheControl": "no-store"},
    {"made-of": "four parts"},
    {"parts": "4", "sp ace": "a b+c"},
    parts=4,
)
KNOWN = {item.key for item in HAZARDS}
EVERYTHING = (*HAZARDS, LARGE, *hazards.torture(key for key in hazards.TORTURE if key not in KNOWN))


class Places:
    """Servers, the shell that knows them as providers, and runs between their buckets."""

    def __init__(self, folder: Path, *servers: S3Server) -> None:
        self.shell: Shell = shell(folder, *(server.environment for server in servers))
        twins = [server.provider_toml(f"{server.name}-again") for server in servers]
        self.shell.configure(*(server.provider_toml() for server in servers), *twins)

    def migrate(self, code: int, source: str, target: str, *options: str) -> Result:
        done = self.shell.portabl("migrate", source, target, "--json", "-q", *options)
        assert done.code == code, (done.code, done.out, done.err)
        return done


@pytest.fixture(scope="module")
def filled(rgw: S3Server) -> tuple[str, dict[bytes, Seen]]:
    """A bucket of the RGW that holds everything (it knows no storage class but the standard one)."""
    bucket = rgw.bucket()
    stored = hazards.fill(rgw, bucket, EVERYTHING)
    assert {item.key for item in EVERYTHING} - {item.key for item in stored} == {b"meta/class"}
    return bucket, hazards.snapshot(rgw, bucket)


def test_rgw_to_rgw(tmp_path: Path, rgw: S3Server, filled: tuple[str, dict[bytes, Seen]]) -> None:
    bucket, source = filled
    places = Places(tmp_path, rgw)
    for provider in ("rgw", "rgw-again"):
        target = rgw.bucket()
        report = places.migrate(0, f"rgw:{bucket}", f"{provider}:{target}").document
        assert hazards.differences(source, hazards.snapshot(rgw, target)) == {}
        assert report["objects"] == report["copied"] == len(source)
        assert report["roots_equal"] is True
        assert report["losses"] == []
        verified = places.shell.portabl("verify", report["manifest"], "--json", "-q")
        assert (verified.code, verified.document["root_proven"]) == (0, report["source_root"])


def test_moto_to_moto_with_storage_class(tmp_path: Path, moto: S3Server, moto2: S3Server) -> None:
    bucket, target = moto.bucket(), moto2.bucket()
    stored = hazards.fill(moto, bucket, EVERYTHING)
    assert {item.key for item in EVERYTHING} - {item.key for item in stored} == {b"nl\nkey", b"\r\n"}
    places = Places(tmp_path, moto, moto2)
    options = ("--storage-class", "keep", "--proof", "readback")
    report = places.migrate(0, f"moto:{bucket}", f"moto2:{target}", *options).document
    source = hazards.snapshot(moto, bucket)
    assert source[b"meta/class"].headers["StorageClass"] == "STANDARD_IA"
    assert hazards.differences(source, hazards.snapshot(moto2, target)) == {}
    assert (report["objects"], report["roots_equal"]) == (len(source), True)


def test_rgw_to_moto_and_back(
    tmp_path: Path, rgw: S3Server, moto: S3Server, filled: tuple[str, dict[bytes, Seen]]
) -> None:
    bucket, source = filled
    between, back = moto.bucket(), rgw.bucket()
    places = Places(tmp_path, rgw, moto)
    out = places.migrate(3, f"rgw:{bucket}", f"moto:{between}").document
    assert (
        admitted(out["manifest"])
        == observed(source, hazards.snapshot(moto, between))
        == {
            (b"nl\nkey", "object"),  # moto answers 404 to a PUT of a line feed
            (b"\r\n", "object"),
        }
    )
    assert out["failed"] == 2
    home = places.migrate(0, f"moto:{between}", f"rgw:{back}").document
    assert home["source_root"] == home["target_root"] == out["target_root"] != out["source_root"]
    returned = hazards.snapshot(rgw, back)
    assert hazards.differences({k: v for k, v in source.items() if b"\n" not in k}, returned) == {}


def test_rgw_to_swift_names_tags_redirect_and_non_ascii_metadata(
    tmp_path: Path, rgw: S3Server, swift: S3Server, filled: tuple[str, dict[bytes, Seen]]
) -> None:
    bucket, source = filled
    target = swift.bucket()
    places = Places(tmp_path, rgw, swift)
    report = places.migrate(3, f"rgw:{bucket}", f"swift:{target}").document
    arrived = hazards.snapshot(swift, target)
    lost = admitted(report["manifest"])
    assert lost == observed(source, arrived)
    tags = {(key, f"tag.{name}") for key, seen in source.items() for name in seen.tags}
    refused = {(b"meta/redirect", "website-redirect-location"), (b"meta/unicode", "user.name")}
    assert lost == tags | refused
    assert set(arrived) == set(source)
    assert sum(group["count"] for group in report["losses"]) == len(lost)
    assert report["failed"] == 0


def test_rgw_to_seaweed_names_everything_it_cannot_keep(
    tmp_path: Path, rgw: S3Server, seaweed: S3Server, filled: tuple[str, dict[bytes, Seen]]
) -> None:
    bucket, source = filled
    target = seaweed.bucket()
    places = Places(tmp_path, rgw, seaweed)
    report = places.migrate(3, f"rgw:{bucket}", f"seaweed:{target}").document
    arrived = hazards.snapshot(seaweed, target)
    lost = admitted(report["manifest"])
    assert lost == observed(source, arrived)
    assert {b"a//b", b"/x", b"..", b"back\\slash", b"trail/", b"n" * 300} < {
        key for key, what in lost if what == "object"
    }
    assert set(arrived) <= set(source), "something was left under a name the source does not know"
    assert report["failed"] == sum(what == "object" for _, what in lost)


def test_seaweed_merges_nothing_into_what_is_already_there(tmp_path: Path, rgw: S3Server, seaweed: S3Server) -> None:
    keys = (
        b"a//b",
        b"/lead",
        b"p//q//r",
        b"up/../dots",
        b"./dot",
        b"in/./side",
        b"back\\slash",
        b"end//",
        b"//two",
        b"fine",
    )
    victims = ("a/b", "lead", "p/q/r", "dots", "dot", "in/side", "back/slash", "end", "two", "up/other")
    bucket, target = rgw.bucket(), seaweed.bucket()
    hazards.fill(rgw, bucket, hazards.torture(keys))
    for name in victims:
        body = b"mine: " + name.encode()
        seaweed.client().put_object(Bucket=target, Key=name, Body=body, Metadata={"whose": "mine"}, ContentType="x/y")
    before = hazards.snapshot(seaweed, target)
    places = Places(tmp_path, rgw, seaweed)
    for mirror in ((), ("--mirror",)):  # the second run knows from the first, and deletes nothing either
        report = places.migrate(3, f"rgw:{bucket}", f"seaweed:{target}", *mirror).document
        after = hazards.snapshot(seaweed, target)
        assert {name: after.get(name) for name in before} == before
        assert set(after) - set(before) == {b"fine"}
        assert admitted(report["manifest"]) == {(key, "object") for key in keys if key != b"fine"}
        assert (report["failed"], report["deleted"]) == (len(keys) - 1, 0)
    assert "not everything is proven" in " ".join(report["warnings"])
