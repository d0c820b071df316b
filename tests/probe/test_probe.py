"""Probes of real servers: what they find is what the cards that come with portabl say, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from kit import cards
from kit.servers import S3Server
from shell import Shell, shell

from portabl import capability

MOST_SECONDS = 120
"""A generous deadline for what takes seconds on a quiet machine."""


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        ("moto", "moto"),
        ("seaweed", "seaweedfs"),
        ("rgw", "ceph-rgw"),
        pytest.param("swift", "swift", marks=pytest.mark.slow),
    ],
)
def test_the_cards_say_what_the_servers_do(
    tmp_path: Path, request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    server: S3Server = request.getfixturevalue(fixture)
    found = cards.measure(server, "", tmp_path)["facts"]
    kept = capability.find(name, "", tmp_path)
    assert kept is not None
    unlike = {fact: (said["outcome"], kept.outcome(fact)) for fact, said in found.items()}
    assert {fact: pair for fact, pair in unlike.items() if pair[0] != pair[1]} == {}
    assert set(found) == set(kept.facts)
    assert list((tmp_path / "home" / "state" / "portabl" / "probes").iterdir()) == []


def _place(folder: Path, server: S3Server, bucket: str) -> tuple[Shell, str]:
    here = shell(folder, server.environment)
    here.configure(server.provider_toml())
    return here, f"{server.name}:{bucket}/some/place"


def _versions(server: S3Server, bucket: str) -> list[Any]:
    found = server.client().list_object_versions(Bucket=bucket)
    return [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]


def test_a_versioned_bucket_with_locks_is_as_it_was_before(tmp_path: Path, rgw: S3Server) -> None:
    s3, bucket = rgw.client(), "locked-" + rgw.bucket()
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    s3.put_object(Bucket=bucket, Key="some/place/mine", Body=b"mine")
    before = _versions(rgw, bucket)
    here, location = _place(tmp_path, rgw, bucket)
    done = here.portabl("probe", location, "--json", "-q", timeout=300)
    assert done.code == 0, done.err
    facts = {name: fact["outcome"] for name, fact in done.document["facts"].items()}
    assert (facts["bucket: versioning"], facts["bucket: object lock"]) == ("enabled", "enabled")
    assert (facts["lock: retention"], facts["lock: legal hold"]) == ("honoured", "honoured")
    assert _versions(rgw, bucket) == before
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_bucket_that_would_lock_what_is_tried_is_refused(tmp_path: Path, moto: S3Server) -> None:
    s3, bucket = moto.client(), "lock-" + moto.bucket()
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    s3.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    here, location = _place(tmp_path, moto, bucket)
    here.portabl("probe", location).clear(2, "COMPLIANCE", "could be removed")
    assert _versions(moto, bucket) == []


def test_a_directory_has_nothing_to_measure(tmp_path: Path) -> None:
    here = shell(tmp_path)
    (tmp_path / "data").mkdir()
    here.portabl("probe", "./data").clear(2, "nothing to measure")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_stopped_probe_tried_is_removed(tmp_path: Path, moto: S3Server, blow: signal.Signals) -> None:
    bucket = moto.bucket()
    moto.client().put_object(Bucket=bucket, Key="some/place/mine", Body=b"mine")
    here, location = _place(tmp_path, moto, bucket)
    probe = subprocess.Popen(
        here.command("probe", location, "-q"), cwd=here.folder, env=here.environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + MOST_SECONDS
    while not any("/k/" in key for key in moto.keys(bucket)):
        assert time.monotonic() < deadline
        assert probe.poll() is None
    probe.send_signal(blow)
    code = probe.wait(MOST_SECONDS)
    assert code == (4 if blow == signal.SIGTERM else -signal.SIGKILL)
    assert (moto.keys(bucket) == ["some/place/mine"]) == (blow == signal.SIGTERM)
    assert not list((here.state / "cards").glob("*")), "half a card is no card"
    if blow == signal.SIGKILL:
        elsewhere = here.portabl("probe", location.replace("place", "other"), "-q", timeout=300)
        assert elsewhere.code == 0, elsewhere.err
        assert len(moto.keys(bucket)) > 1, "another location's probe is none of its business"
        assert here.portabl("probe", location, "-q", timeout=300).code == 0
    assert moto.keys(bucket) == ["some/place/mine"]


def test_a_probe_that_may_not_write_says_so_and_makes_no_card(tmp_path: Path, rgw: S3Server) -> None:
    bucket = rgw.bucket()
    here, location = _place(tmp_path, rgw, bucket)
    wrong = {name: "wrong" for name in rgw.environment if "SECRET" in name}
    here.portabl("probe", location, "-q", **wrong).clear(6, "credentials")
    here.portabl("probe", "rgw:no-such-bucket-here", "-q").clear(6, "no bucket")
    assert not list((here.state / "cards").glob("*"))
