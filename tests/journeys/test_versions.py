"""Histories: every version and delete marker arrives once and in order, compared by boto3, stopped anywhere or not."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit import versions
from kit.proxy import Fault, FaultProxy
from kit.s3_opened import opened
from kit.servers import S3Server
from kit.versions import histories, set_versioning, versioned
from shell import Result, Shell, shell

from portabl_adapters.s3 import versions as listing_of_versions

MIB = 2**20
DRIVER = str(Path(__file__).with_name("killed.py"))


def put(server: S3Server, bucket: str, key: str, body: bytes, **more: Any) -> None:
    server.client().put_object(Bucket=bucket, Key=key, Body=body, **more)


def tangle(server: S3Server, bucket: str, *, suspend: bool = False) -> None:
    """Histories of all kinds; the first object of one is older than the bucket's versioning."""
    client = server.client()
    put(server, bucket, "before/versioning", b"null at first")
    set_versioning(server, bucket, "Enabled")
    for number in range(4):
        put(server, bucket, "before/versioning", b"v%d" % number, Metadata={"n": str(number)})
    put(server, bucket, "single", b"one", ContentType="text/plain", Tagging="team=blue")
    for body in (b"same", b"same", b"other", b"same"):  # nothing but its place tells one from the other
        put(server, bucket, "same again", body)
    put(server, bucket, "deleted and back", b"1", ContentType="text/html")
    client.delete_object(Bucket=bucket, Key="deleted and back")
    client.delete_object(Bucket=bucket, Key="deleted and back")
    put(server, bucket, "deleted and back", b"2", Tagging="a=b")
    for key in ("gone/é", "gone/a//b"):
        put(server, bucket, key, b"last words")
        client.delete_object(Bucket=bucket, Key=key)
    if suspend:
        put(server, bucket, "suspended", b"kept")
        set_versioning(server, bucket, "Suspended")
        put(server, bucket, "suspended", b"null")
        put(server, bucket, "suspended", b"null, over the other null")
        put(server, bucket, "only suspended", b"null")
        client.delete_object(Bucket=bucket, Key="deleted and back")
        set_versioning(server, bucket, "Enabled")
        put(server, bucket, "suspended", b"enabled again")


def place(folder: Path, source: S3Server, target: S3Server) -> Shell:
    here = shell(folder, source.environment, target.environment)
    here.configure(source.provider_toml("old"), target.provider_toml("new"))
    return here


def run(here: Shell, bucket: str, into: str, *more: str) -> Result:
    done = here.portabl(
        "migrate", f"old:{bucket}", f"new:{into}", "--versions", "all", "--json", "--threads", "8", *more
    )
    assert "Traceback" not in done.err, done.err
    return done


def records(here: Shell, manifest: str) -> list[dict[str, Any]]:
    segments = sorted((here.folder / manifest / "segments").iterdir())
    return [json.loads(line) for path in segments for line in gzip.open(path).read().splitlines()]


def test_moto_to_moto(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = moto.bucket("v"), versioned(moto2)
    tangle(moto, bucket)
    here = place(tmp_path, moto, moto2)
    first = run(here, bucket, into)
    assert first.code == 0, (first.err, first.out)
    assert histories(moto2, into) == histories(moto, bucket)
    ids = {(key, version) for key, version, _, _ in versions.listed(moto, bucket)}
    assert {(r["object"]["key"], r["source"]["version"]) for r in records(here, first.document["manifest"])} == ids
    again = run(here, bucket, into)
    assert (again.code, again.document["copied"], again.document["unchanged"]) == (0, 0, len(ids))
    assert again.document["source_root"] == first.document["source_root"]


def test_rgw_to_rgw_with_suspended_versioning(rgw: S3Server, tmp_path: Path) -> None:
    bucket, into = rgw.bucket("v"), versioned(rgw)
    tangle(rgw, bucket, suspend=True)
    here = place(tmp_path, rgw, rgw)
    done = run(here, bucket, into, "--proof", "readback")
    assert done.code == 0, (done.err, done.out)
    expected = histories(rgw, bucket)
    assert [v.body for v in expected["suspended"]] == [b"kept", b"null, over the other null", b"enabled again"]
    assert histories(rgw, into) == expected
    assert any(r["source"]["version"] == "null" for r in records(here, done.document["manifest"]))
    root = done.document["target_root"]
    checked = here.portabl("verify", done.document["manifest"], "--json").document
    assert (checked["complete"], checked["root_proven"]) == (True, root)
    assert here.portabl("fingerprint", f"new:{into}", "--versions", "all", "--json").document["root"] == root
    put(rgw, bucket, "single", b"one more")
    put(rgw, bucket, "new", b"key")
    delta = run(here, bucket, into)
    assert (delta.code, delta.document["copied"]) == (0, 2)
    assert histories(rgw, into) == histories(rgw, bucket)


def test_answers_that_get_lost_make_no_version_twice(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = versioned(moto), versioned(moto2)
    for number in range(6):
        for body in (b"same", b"same", b"%d" % number):
            put(moto, bucket, f"k{number}", body)
        moto.client().delete_object(Bucket=bucket, Key=f"k{number}")
    with FaultProxy(moto2.endpoint) as proxy:
        here = shell(tmp_path, moto.environment, moto2.environment)
        here.configure(moto.provider_toml("old"), moto2.provider_toml("new", proxy.endpoint))
        faults = [
            proxy.add(Fault("lose", kind="put", share=0.3)),
            proxy.add(Fault("status", kind="put", status=500, committed=True, share=0.3)),
            proxy.add(Fault("status", kind="put", status=503, share=0.2)),
            proxy.add(Fault("lose", kind="delete", times=2)),
            proxy.add(Fault("status", kind="delete", status=500, committed=True, times=2)),
        ]
        done = run(here, bucket, into)
    assert done.code == 0, (done.err, done.out)
    assert all(fault.fired for fault in faults)
    assert histories(moto2, into) == histories(moto, bucket)


KILLS = (
    "portabl_adapters.s3.appending:append@3,after",  # written, not recorded
    "portabl_adapters.s3.appending:append@2,before",
    "portabl_adapters.s3.upload:S3Upload.finish@1,after",
    "portabl.shards:Shard.add@2,before",
    "portabl.manifest:ManifestWriter.finish@1,before",
)


def test_killed_inside_a_history_it_goes_on_where_it_was(moto: S3Server, moto2: S3Server, tmp_path: Path) -> None:
    bucket, into = versioned(moto), versioned(moto2)
    for body in (b"same", b"same", b"2", b"same"):
        put(moto, bucket, "k", body)
    moto.client().delete_object(Bucket=bucket, Key="k")
    put(moto, bucket, "k", random.Random(1).randbytes(17 * MIB), ContentType="a/b")
    put(moto, bucket, "k", b"last", Metadata={"a": "b"})
    put(moto, bucket, "l", b"1")
    here = place(tmp_path, moto, moto2)
    arguments = ("migrate", f"old:{bucket}", f"new:{into}", "--versions", "all", "--json", "--threads", "1")
    for kill in KILLS:
        command = [sys.executable, DRIVER, kill, "--", *arguments]
        done = subprocess.run(command, cwd=here.folder, env=dict(here.environment), capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, (kill, done.stderr)
    last = run(here, bucket, into)
    assert last.code == 0, (last.err, last.out)
    assert histories(moto2, into) == histories(moto, bucket)
    assert not moto2.client().list_multipart_uploads(Bucket=into).get("Uploads")


def test_another_history_at_the_target_is_reported_and_left_alone(
    moto: S3Server, moto2: S3Server, tmp_path: Path
) -> None:
    bucket, into = versioned(moto), versioned(moto2)
    for key in ("before", "behind", "good"):
        put(moto, bucket, key, b"1")
        put(moto, bucket, key, b"2")
    put(moto2, into, "before", b"somebody's own")
    here = place(tmp_path, moto, moto2)
    first = run(here, bucket, into)
    assert (first.code, first.document["failed"]) == (3, 2)
    assert [v.body for v in histories(moto2, into)["before"]] == [b"somebody's own"]
    assert histories(moto2, into)["good"] == histories(moto, bucket)["good"]
    put(moto2, into, "behind", b"somebody's own")
    second = run(here, bucket, into)
    fields = {loss["field"]: loss["count"] for loss in second.document["losses"]}
    assert (second.code, fields) == (3, {"object": 2, "history": 1})
    put(moto, bucket, "behind", b"3")
    third = run(here, bucket, into)
    assert {loss["field"]: loss["count"] for loss in third.document["losses"]} == {"object": 3}
    assert [v.body for v in histories(moto2, into)["behind"]] == [b"1", b"2", b"somebody's own"]
    newest = [v for k, v, _, latest in versions.listed(moto2, into) if k == "behind" and latest]
    moto2.client().delete_object(Bucket=into, Key="behind", VersionId=newest[0])
    mended = run(here, bucket, into)
    assert {loss["field"]: loss["count"] for loss in mended.document["losses"]} == {"object": 2}
    assert histories(moto2, into)["behind"] == histories(moto, bucket)["behind"]


def test_what_cannot_keep_versions_is_refused_with_a_choice(moto: S3Server, tmp_path: Path) -> None:
    bucket, plain, suspended = versioned(moto), moto.bucket(), versioned(moto, "Suspended")
    put(moto, bucket, "k", b"1")
    here = place(tmp_path, moto, moto)
    for into in (plain, suspended):
        run(here, bucket, into).clear(2, "does not keep versions", "enable versioning", "--versions current")
        assert not moto.keys(into)
    all_of_it = ("--versions", "all")
    here.portabl("migrate", f"old:{bucket}", "./out", *all_of_it).clear(2, "does not keep versions")
    (tmp_path / "in").mkdir()
    here.portabl("migrate", "./in", f"new:{bucket}", *all_of_it).clear(2, "one version of each")
    run(here, bucket, versioned(moto), "--mirror").clear(2, "--mirror")
    dry = run(here, bucket, versioned(moto), "--dry-run")
    assert (dry.code, dry.document["copied"]) == (0, 1)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_ceph_shows_every_version_on_pages_of_any_size(
    size: int, rgw: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = rgw.bucket("v")
    tangle(rgw, bucket, suspend=True)
    with opened(rgw, bucket) as storage:
        together = list(storage.versions())
        assert {entry.version for entry in together} == {i["VersionId"] for i, _ in versions.items(rgw, bucket)}
        assert any(entry.delete_marker and entry.version == "null" for entry in together)
        monkeypatch.setattr(listing_of_versions, "PAGE_VERSIONS", size)
        assert list(storage.versions()) == together


def test_pages_of_nothing_but_null_delete_markers(rgw: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions while versioning is suspended: asked for what follows one of them, Ceph leaves out older versions."""
    bucket, client = versioned(rgw), rgw.client()
    for number in range(3):
        put(rgw, bucket, "m5", b"%d" % number)
    set_versioning(rgw, bucket, "Suspended")
    for number in range(1, 9):
        client.delete_object(Bucket=bucket, Key=f"m{number}")
    put(rgw, bucket, "m9", b"null")
    with opened(rgw, bucket) as storage:
        together = list(storage.versions())
        assert sum(entry.delete_marker and entry.version == "null" for entry in together) == 8
        assert [entry.delete_marker for entry in together if entry.key == b"m5"] == [False, False, False, True]
        for size in (2, 3, 4, 5):
            monkeypatch.setattr(listing_of_versions, "PAGE_VERSIONS", size)
            assert list(storage.versions()) == together, size
