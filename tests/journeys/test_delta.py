"""The second run: nothing changed costs two listings; every change, on either side, is noticed and put right."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import hazards
from kit.hazards import Item
from kit.losses import admitted
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Shell, shell

ITEMS = (
    *hazards.torture([b"one", b"two", b"dir/three", b"a//b", b"Case", "é".encode()]),
    Item(b"meta", b"with fields", {"ContentType": "text/plain"}, {"k": "v"}, {"tag": "x"}),
)
PART_OBJECT = Item(b"multi", b"m" * (5 * 2**20 + 1), {}, {"of": "parts"}, {}, parts=2)


class Pair:
    """Two buckets behind proxies that count."""

    def __init__(self, folder: Path, source: FaultProxy, target: FaultProxy, old: S3Server, new: S3Server) -> None:
        self.shell: Shell = shell(folder, old.environment, new.environment)
        self.shell.configure(old.provider_toml("old", source.endpoint), new.provider_toml("new", target.endpoint))
        self.source, self.target, self.old, self.new = source, target, old, new
        self.old_bucket, self.new_bucket = old.bucket(), new.bucket()

    def run(self, code: int, *options: str) -> dict[str, Any]:
        """Migrate, with counters from zero."""
        self.source.counts.clear()
        self.target.counts.clear()
        where = (f"old:{self.old_bucket}", f"new:{self.new_bucket}")
        done = self.shell.portabl("migrate", *where, "--json", "-q", *options)
        assert done.code == code, (done.code, done.out, done.err)
        document: dict[str, Any] = done.document
        return document

    def equal(self) -> bool:
        """By boto3, not by portabl."""
        return hazards.snapshot(self.old, self.old_bucket) == hazards.snapshot(self.new, self.new_bucket)

    @property
    def written(self) -> int:
        """Requests of the last run that can have changed the target."""
        counts = self.target.counts
        kinds = ("put", "copy", "delete", "create", "part", "complete", "abort", "tagging")
        return sum(counts[kind] for kind in kinds)


@pytest.fixture
def pair(tmp_path: Path, rgw: S3Server, seaweed: S3Server) -> Iterator[Pair]:
    """SeaweedFS to RGW: both check signatures, the target keeps every key."""
    with FaultProxy(seaweed.endpoint) as source, FaultProxy(rgw.endpoint) as target:
        made = Pair(tmp_path, source, target, seaweed, rgw)
        hazards.fill(seaweed, made.old_bucket, [item for item in ITEMS if item.key != b"a//b"])
        yield made


def _put(server: S3Server, bucket: str, key: str, body: bytes) -> None:
    server.client().put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/plain")


def test_nothing_changed_copies_nothing_and_only_lists(pair: Pair) -> None:
    first = pair.run(0)
    assert first["copied"] == first["objects"] == len(ITEMS) - 1
    assert pair.equal()
    second = pair.run(0)
    assert (second["copied"], second["adopted"], second["unchanged"]) == (0, 0, first["objects"])
    assert set(pair.target.counts) == {"list"}
    assert pair.source.counts.pop("uploads") == 1, "unfinished uploads are counted, once a run"
    assert pair.source.counts.pop("bucket") == 1, "whether there are versions is asked once a run"
    assert set(pair.source.counts) == {"list"}
    assert sum(pair.source.counts.values()) <= 2, "whether it is there, and its listing"
    assert sum(pair.target.counts.values()) <= 2, (
        "whether it is there, and its one listing: the plan's and the final one"
    )
    assert second["source_root"] == second["target_root"] == first["source_root"]


def test_changed_with_the_same_size_in_the_same_second(pair: Pair) -> None:
    pair.source.add(Fault("rewrite", kind="list", rewrite=_at_one_time))
    _put(pair.old, pair.old_bucket, "two", b"content-0001")
    pair.run(0)
    _put(pair.old, pair.old_bucket, "two", b"Content+0002")
    report = pair.run(0)
    assert (report["copied"], report["changed"], report["unchanged"]) == (1, 1, report["objects"] - 1)
    assert pair.target.counts["put"] == 1
    assert pair.equal()


def _at_one_time(listing: bytes) -> bytes:
    return re.sub(rb"<LastModified>[^<]*<", b"<LastModified>2026-01-01T00:00:00.000Z<", listing)


def test_deleted_at_the_source(pair: Pair) -> None:
    pair.run(0)
    pair.old.client().delete_object(Bucket=pair.old_bucket, Key="one")
    report = pair.run(0)
    assert (report["extra"], report["deleted"], pair.written) == (1, 0, 0)
    assert "one" in pair.new.keys(pair.new_bucket)
    report = pair.run(0, "--mirror", "--dry-run")
    assert (report["deleted"], pair.written) == (1, 0)
    report = pair.run(0, "--mirror")
    assert (report["extra"], report["deleted"], pair.target.counts["delete"]) == (0, 1, 1)
    assert pair.equal()


def test_nothing_is_deleted_while_anything_is_unproven(pair: Pair) -> None:
    pair.run(0)
    pair.old.client().delete_object(Bucket=pair.old_bucket, Key="one")
    _put(pair.old, pair.old_bucket, "unreadable", b"never arrives")
    pair.source.add(Fault("status", kind="get", status=404, match=lambda request: "unreadable" in request.target))
    report = pair.run(3, "--mirror")
    assert (report["failed"], report["extra"], report["deleted"]) == (1, 1, 0)
    assert "delete" not in pair.target.counts
    assert admitted(report["manifest"]) == {(b"unreadable", "object")}
    assert "one" in pair.new.keys(pair.new_bucket)
    pair.source.clear()
    report = pair.run(0, "--mirror")
    assert (report["copied"], report["deleted"]) == (1, 1)
    assert pair.equal()


def test_mirror_of_an_empty_source_deletes_nothing(pair: Pair) -> None:
    pair.run(0)
    for name in pair.old.keys(pair.old_bucket):
        pair.old.client().delete_object(Bucket=pair.old_bucket, Key=name)
    report = pair.run(0, "--mirror")
    assert (report["deleted"], pair.written) == (0, 0)
    assert len(pair.new.keys(pair.new_bucket)) == len(ITEMS) - 1
    assert "the source is empty" in " ".join(report["warnings"])


def test_tampered_or_deleted_at_the_target(pair: Pair) -> None:
    pair.run(0)
    there = hazards.snapshot(pair.new, pair.new_bucket)
    _put(pair.new, pair.new_bucket, "two", b"X" * there[b"two"].size)
    pair.new.client().delete_object(Bucket=pair.new_bucket, Key="dir/three")
    report = pair.run(0)
    assert (report["copied"], pair.target.counts["put"]) == (2, 2)
    assert pair.equal()


def test_a_lost_state_directory_adopts_without_writing(pair: Pair) -> None:
    hazards.store(pair.old, pair.old_bucket, PART_OBJECT)
    first = pair.run(0)
    shutil.rmtree(pair.shell.state)
    second = pair.run(0)
    assert second["adopted"] == first["objects"] - 1
    assert second["copied"] == 1, "the ETag of an upload in parts is no digest"
    assert pair.target.counts["put"] <= 1
    assert second["source_root"] == first["source_root"]
    assert pair.equal()
    third = pair.run(0)
    assert (third["copied"], third["adopted"], pair.written) == (0, 0, 0)


def test_adopted_only_with_the_same_metadata(pair: Pair) -> None:
    pair.run(0)
    shutil.rmtree(pair.shell.state)
    where = {"Bucket": pair.new_bucket, "Key": "meta"}
    body = pair.new.client().get_object(**where)["Body"].read()
    pair.new.client().put_object(**where, Body=body, ContentType="text/html", Metadata={"k": "v"})
    report = pair.run(0)
    assert (report["copied"], report["adopted"]) == (1, report["objects"] - 1)
    assert pair.equal()
