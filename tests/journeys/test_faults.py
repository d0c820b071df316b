"""Fails closed: whatever a network or a store does, a run either proves everything or names what it could not."""

from __future__ import annotations

import gzip
import hashlib
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Seen, differences, snapshot
from kit.proxy import Fault, FaultProxy
from kit.servers import S3Server
from shell import Impatient, Result

from portabl import manifest
from portabl.files import Files

Stock = tuple[S3Server, str, dict[bytes, Seen]]


@pytest.fixture(scope="module")
def stock(moto: S3Server) -> Stock:
    """A source with 40 small objects and one that goes in parts."""
    bucket = make_bucket(moto, small_items(40) + large_items([17 * MIB + 3]))
    return moto, bucket, snapshot(moto, bucket)


@dataclass
class Two:
    """A yard with a proxy on either side."""

    yard: Yard
    source: FaultProxy
    target: FaultProxy


@pytest.fixture
def two(stock: Stock, seaweed: S3Server, tmp_path: Path) -> Iterator[Two]:
    source, bucket, seen = stock
    with FaultProxy(source.endpoint) as old, FaultProxy(seaweed.endpoint) as new:
        more = {"via_source": old.endpoint, "via_target": new.endpoint, "settings": "stall_seconds = 2\n"}
        yield Two(Yard.at(tmp_path, source, bucket, seaweed, seen=seen, **more), old, new)


def _named(done: Result) -> set[bytes]:
    """Keys that the manifest of a finished run names, with what was lost of them."""
    records = manifest.load(Files.at(done.document["manifest"])).records()
    return {record.key for _, record in records if record.losses}


def _no_silence(two: Two, done: Result) -> None:
    """Exit 0 means equal; exit 3 names every object that differs; all else is one clear error. Then all goes well."""
    yard = two.yard
    if done.code == 0:
        yard.equal()
    elif done.code == 3:
        wrong = differences(yard.expected, snapshot(yard.target, yard.into))
        assert set(wrong) <= _named(done), (wrong, done.out)
    else:
        assert done.code in (4, 6), (done.code, done.err)
        assert "error:" in done.err
        assert "hint:" in done.err or "again" in done.err, done.err
    two.source.clear()
    two.target.clear()
    yard.proven()


def _error_200(body: bytes) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>x</Message></Error>'


SMALL = b"/small/0002"
LARGE = b"/large/0"


def _of(key: bytes) -> Callable[..., bool]:
    return lambda request: key.decode() in request.target


# name: (side, faults, exit codes that are right)
CELLS: dict[str, tuple[str, list[Fault], set[int]]] = {
    "lost PUT answers": ("target", [Fault("lose", kind="put", share=0.3)], {0}),
    "lost part answers": ("target", [Fault("lose", kind="part", times=2)], {0}),
    "lost complete answer": ("target", [Fault("lose", kind="complete", times=1)], {0}),
    "lost create answer": ("target", [Fault("lose", kind="create", times=1)], {0}),
    "cut PUT bodies": ("target", [Fault("cut", kind="put", up=True, after=10, share=0.3)], {0}),
    "cut part body": ("target", [Fault("cut", kind="part", up=True, after=MIB, times=2)], {0}),
    "cut GET bodies": ("source", [Fault("cut", kind="get", after=50, share=0.3)], {0}),
    "gently cut GET bodies": ("source", [Fault("cut", kind="get", after=50, share=0.3, gently=True)], {0}),
    "slow down": ("target", [Fault("status", status=503, share=0.3)], {0, 3, 6}),
    "burst of 500": ("target", [Fault("status", status=500, times=25)], {0, 3, 6}),
    "burst of 500 at the source": ("source", [Fault("status", status=500, times=25)], {0, 3, 6}),
    "stalled GETs": ("source", [Fault("stall", kind="get", after=20, times=3)], {0}),
    "stalled listing": ("source", [Fault("stall", kind="list", after=200, skip=1, times=1)], {0}),
    "stalled PUT answers": ("target", [Fault("stall", kind="put", times=3)], {0}),
    "200 with an error on complete": (
        "target",
        [Fault("rewrite", kind="complete", rewrite=_error_200, times=1)],
        {0},
    ),
    "complete always 200 with an error": (
        "target",
        [Fault("status", kind="complete", status=200)],
        {3},
    ),
    "listing cut": ("source", [Fault("cut", kind="list", after=900, skip=1, gently=True)], {6}),
    "listing cut well-formed": (
        "source",
        [Fault("rewrite", kind="list", rewrite=lambda body: body[: len(body) // 2], skip=1)],
        {6},
    ),
    "listing answers with an error": ("source", [Fault("rewrite", kind="list", rewrite=_error_200, skip=1)], {6}),
    "target listing cut": ("target", [Fault("cut", kind="list", after=300, skip=1, gently=True)], {6}),
    "target listing fails when proving": ("target", [Fault("status", kind="list", status=500, skip=2)], {3, 6}),
    "403 from the middle on": ("target", [Fault("status", status=403, skip=25)], {6}),
    "403 at the source from the middle on": ("source", [Fault("status", status=403, skip=25)], {3, 6}),
    "403 for one object": ("source", [Fault("status", status=403, kind="get", match=_of(SMALL))], {3}),
    "404 for one object": ("source", [Fault("status", status=404, kind="get", match=_of(SMALL))], {3}),
    "bit flipped in small GETs": ("source", [Fault("flip", kind="get", match=_of(b"/small/"), times=3)], {0}),
    "bit always flipped in a small GET": ("source", [Fault("flip", kind="get", match=_of(SMALL), after=40)], {0, 3}),
    "bit flipped in PUTs": ("target", [Fault("flip", kind="put", up=True, times=3)], {0, 3}),
    "bit flipped in a part": ("target", [Fault("flip", kind="part", up=True, after=99, times=1)], {0, 3}),
    "the server goes away for good": ("target", [Fault("cut", skip=30)], {6, 3}),
    "no room left": ("target", [Fault("status", kind="put", status=507, skip=10)], {3, 6}),
}


PATIENT = {
    *("the server goes away for good", "listing cut", "target listing cut", "target listing fails when proving"),
    *("complete always 200 with an error", "stalled PUT answers", "stalled listing", "stalled GETs"),
}
"""Cells in which every retry and wait of the adapter is used up."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in PATIENT)) for n in CELLS])
def test_fault(name: str, two: Two) -> None:
    side, faults, codes = CELLS[name]
    two.yard.here = Impatient(two.yard.here.folder, two.yard.here.environment)
    injected = [(two.source if side == "source" else two.target).add(replace(fault)) for fault in faults]
    done = two.yard.run()
    assert all(fault.fired for fault in injected), "the fault never happened"
    print(name, done.code, done.err[-300:])
    assert done.code in codes, (done.code, done.err, done.out)
    _no_silence(two, done)


def test_bucket_deleted_half_way(two: Two) -> None:
    """The target goes away: no object is called lost one by one, and nothing is believed to be there."""
    s3, into = two.yard.target.client(), two.yard.into

    def gone() -> None:
        while two.target.counts["put"] < 15:
            if over.wait(0.01):
                return
        two.target.add(Fault("status", status=404, code="NoSuchBucket"))

    over = threading.Event()
    two.target.add(Fault("delay", kind="put", seconds=0.05))
    thread = threading.Thread(target=gone)
    thread.start()
    done = two.yard.run()
    over.set()
    thread.join()
    if done.code == 0:
        pytest.fail("it never went away")
    done.clear(6, "no bucket")
    for key in two.yard.target.keys(into):
        s3.delete_object(Bucket=into, Key=key)
    two.source.clear()
    two.target.clear()
    two.yard.proven()  # what was recorded before is gone with the bucket, and is copied again


def test_objects_change_under_the_copy(rgw: S3Server, seaweed: S3Server, tmp_path: Path) -> None:
    """Each object that arrives is one whole version of the source, and its record is of that version.

    Ceph, because moto once kept the bytes of one version under the ETag of another when writes overlapped.
    """
    versions = [(b"%d " % n) * (100 + n) for n in range(40)]
    large = [bytes([n]) * (17 * MIB) for n in range(3)]
    keys = [f"k/{n:02d}" for n in range(20)]
    bucket, s3 = rgw.bucket(), rgw.client()
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=versions[0])
    s3.put_object(Bucket=bucket, Key="z", Body=large[0])
    over = threading.Event()

    def overwrite() -> None:
        number = 0
        while not over.wait(0.005):
            number += 1
            s3.put_object(Bucket=bucket, Key=keys[number * 7 % 20], Body=versions[number % 40])
            if number % 50 == 0:
                s3.put_object(Bucket=bucket, Key="z", Body=large[number // 50 % 3])

    with FaultProxy(rgw.endpoint) as proxy:
        proxy.add(Fault("delay", kind="get", seconds=0.2))
        yard = Yard.at(tmp_path, rgw, bucket, seaweed, via_source=proxy.endpoint)
        thread = threading.Thread(target=overwrite)
        thread.start()
        try:
            done = yard.run()
        finally:
            over.set()
            thread.join()
        assert done.code in (0, 3), done.err
        whole = {hashlib.sha256(body).hexdigest() for body in (*versions, *large)}
        there = snapshot(seaweed, yard.into)
        assert {seen.sha256 for seen in there.values()} <= whole
        records = manifest.load(Files.at(done.document["manifest"])).records()
        for _, record in records:
            if not record.losses:
                assert there[record.key].sha256 == record.sha256, record.key
        proxy.clear()
        yard.proven()


def test_resumed_upload_of_a_changed_source(moto: S3Server, seaweed: S3Server, tmp_path: Path) -> None:
    """Parts of the old version and of its headers never get into the new one."""
    bucket, s3 = moto.bucket(), moto.client()
    old, new = b"o" * (33 * MIB), b"o" * (20 * MIB) + b"n" * (13 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=old, Metadata={"version": "old"})
    with FaultProxy(seaweed.endpoint) as proxy:
        yard = Yard.at(tmp_path, moto, bucket, seaweed, via_target=proxy.endpoint)
        proxy.add(Fault("status", kind="part", status=404, code="NoSuchBucket", skip=3))
        assert yard.run().code == 6
        assert yard.uploads() == ["k"]
        s3.put_object(Bucket=bucket, Key="k", Body=new, Metadata={"version": "new"})
        proxy.clear()
        yard.proven()


def _job(yard: Yard) -> Path:
    (job,) = (yard.here.state / "jobs").iterdir()
    return job


def _interrupted(two: Two) -> Path:
    """The job's directory after a run that ended half way."""
    two.target.add(Fault("status", kind="put", status=404, code="NoSuchBucket", skip=25))
    assert two.yard.run().code == 6
    two.target.clear()
    return _job(two.yard)


def _spoil(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "random": random.Random(1).randbytes(len(data)),
        "cut": data[:middle],
        "empty": b"",
        "zeros": data[:middle] + bytes(len(data) - middle),
        "digit": re.sub(rb'("sha256":")(.)', lambda m: m[1] + (b"0" if m[2] != b"0" else b"1"), data),
        "size": re.sub(rb'"size":5000', b'"size":5001', data),
        "etag": re.sub(rb'("etag":")(.)', lambda m: m[1] + (b"0" if m[2] != b"0" else b"1"), data),
        "header": re.sub(rb"text/plain", b"text/plane", data),
        "swapped": b"".join(reversed(data.splitlines(keepends=True))),
        "twice": data + data,
        "joined": data.replace(b"\n", b"", 1),
    }[how]


DAMAGE = ("random", "cut", "empty", "zeros", "digit", "size", "etag", "header", "swapped", "twice", "joined")


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_working_records(how: str, two: Two) -> None:
    """What cannot be trusted is proven again: the end is the same, whatever happened to the records in between."""
    job = _interrupted(two)
    for shard in (job / "passes").rglob("*.log"):
        old = shard.read_bytes()
        shard.write_bytes(_spoil(old, how))
        assert shard.read_bytes() != old
    done = two.yard.run()
    assert done.code == 0, (done.err, done.out)
    two.yard.equal()
    for _, record in manifest.load(Files.at(done.document["manifest"])).records():
        assert record.sha256 == two.yard.expected[record.key].sha256
        assert record.size == two.yard.expected[record.key].size
        header = record.metadata.headers.get("content-type", "binary/octet-stream")
        assert header == two.yard.expected[record.key].headers["ContentType"]


@pytest.mark.parametrize("how", ["random", "cut", "empty", "zeros"])
@pytest.mark.parametrize("finished", [True, False])
def test_damaged_journal(how: str, finished: bool, two: Two) -> None:
    """One clear line or the right result; and the hint works."""
    if finished:
        assert two.yard.run().code == 0
        job = _job(two.yard)
    else:
        job = _interrupted(two)
    journal = job / "journal.sqlite3"
    journal.write_bytes(_spoil(journal.read_bytes(), how))
    done = two.yard.run()
    if done.code:
        done = replace(done, out="")
        done.clear(2, "journal")
        job.rename(job.with_name("away"))
    two.yard.proven()


@pytest.mark.parametrize("how", ["random", "cut", "empty", "gone", "edited"])
@pytest.mark.parametrize("part", ["manifest.json", "segments/000000.jsonl.gz"])
def test_damaged_last_manifest(part: str, how: str, two: Two) -> None:
    """It is refused before any of it is believed, and after the hint was followed everything is proven anew."""
    root = two.yard.proven()
    folder = _job(two.yard) / "manifests" / "0001"
    path = folder / part
    if how == "gone":
        path.unlink()
    elif how == "edited" and part != "manifest.json":
        path.write_bytes(gzip.compress(_spoil(gzip.decompress(path.read_bytes()), "digit")))
    else:
        path.write_bytes(_spoil(path.read_bytes(), "size" if how == "edited" else how) + b" " * (how == "edited"))
    for _ in range(2):  # the second run must not believe what the first one copied from it
        replace(two.yard.run(), out="").clear(3, "cannot be trusted", str(folder))
    folder.rename(folder.with_name("away"))
    two.yard.proven(root)


def test_names_given_to_other_places(moto: S3Server, seaweed: S3Server, seaweed2: S3Server, tmp_path: Path) -> None:
    """What is known of a target is not believed of another one that has its name now."""
    bucket = make_bucket(moto, small_items(20))
    yard = Yard.at(tmp_path, moto, bucket, seaweed)
    yard.proven()
    seaweed2.client().create_bucket(Bucket=yard.into)
    for key, seen in yard.expected.items():  # the same bodies and so the same ETags, but no headers and no tags
        body = moto.client().get_object(Bucket=bucket, Key=key.decode())["Body"].read()
        seaweed2.client().put_object(Bucket=yard.into, Key=key.decode(), Body=body)
        assert len(body) == seen.size
    other = Yard.at(tmp_path, moto, bucket, replace(seaweed2, name="seaweed"), into=yard.into)
    other.proven()


def test_two_runs_at_once(two: Two) -> None:
    """The second one is told so, and the first one is not disturbed; meanwhile it stands still, however long."""
    two.target.add(Fault("delay", kind="put", seconds=0.2))
    here = two.yard.here
    with (here.folder / "first").open("wb") as said:
        first = subprocess.Popen(
            here.command(*two.yard.arguments), cwd=here.folder, env=dict(here.environment), stdout=said, stderr=said
        )
        while not two.target.counts["put"]:
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        try:
            second = replace(two.yard.run(), out="")
        finally:
            first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=120) == 0, (here.folder / "first").read_bytes()
    second.clear(2, "another run of this job")
    two.yard.equal()


@pytest.mark.parametrize("words", [("--state", "/proc/state"), ("--state", "./file/below")])
def test_state_that_cannot_be_kept(words: tuple[str, ...], two: Two) -> None:
    (two.yard.here.folder / "file").write_text("a file")
    two.yard.options = words
    replace(two.yard.run(), out="").clear(2, "state directory")
    assert not two.yard.target.keys(two.yard.into), "something was written"
    two.yard.options = ()
    two.yard.proven()
