"""A job's memory: newest knowledge wins, damaged knowledge is none, one run at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from portabl import manifest
from portabl.errors import JobLocked, ManifestError
from portabl.files import Files
from portabl.model import Record, Seen
from portabl.records import encode
from portabl.shards import Shards
from portabl.state import UNFINISHED_MAX, Job, Pass, job_id

IDENTITY = {"source": "a", "target": "b"}


def record(key: bytes, size: int) -> Record:
    return Record(key, size, f"{size:064x}", target=Seen("e"))


def a_pass(job: Job, *records: Record) -> Pass:
    """A pass that was interrupted after these records."""
    run = job.begin()
    shards = Shards(run, job.journal)
    for one in records:
        shards.place(one.key).add(one)
    shards.abandon()
    return run


def publish(job: Job, number: int, *records: Record, **document: object) -> Path:
    folder = job.root / "manifests" / f"{number:04d}"
    with manifest.ManifestWriter(Files.at(str(folder))) as writer:
        for one in records:
            writer.add(encode(one), one)
        writer.finish(document)
    job.journal.end_pass(number, "published", objects=1, size=1, manifest=str(folder))
    job.forget(number)
    return folder


def known(job: Job) -> dict[bytes, int]:
    return {r.key: r.size for _, r in job.known(10**6)}


def test_the_newest_record_of_a_key_counts(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        first = a_pass(job, record(b"a", 1), record(b"b", 1))
        publish(job, first.number, record(b"a", 1), record(b"b", 1), record(b"c", 1))
        a_pass(job, record(b"b", 2))
        a_pass(job, record(b"a", 3), record(b"d", 3))
        assert known(job) == {b"a": 3, b"b": 2, b"c": 1, b"d": 3}


def test_many_interrupted_passes_become_one_that_says_the_same(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        for number in range(UNFINISHED_MAX + 3):
            a_pass(job, record(b"same", number), record(b"own/%d" % number, number))
        before = known(job)
        assert before[b"same"] == UNFINISHED_MAX + 2
        job.compact()
        assert known(job) == before
        assert len(list((job.root / "passes").iterdir())) == 1
    with Job(tmp_path, IDENTITY) as job:
        assert known(job) == before


def test_an_edited_manifest_is_refused_before_its_first_record(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        run = a_pass(job, record(b"a", 1))
        folder = publish(job, run.number, record(b"a", 1))
        segment = folder / "segments" / "000000.jsonl.gz"
        data = bytearray(segment.read_bytes())
        data[-6] ^= 1  # in gzip's own check, behind every record
        segment.write_bytes(data)
        with pytest.raises(ManifestError, match="cannot be trusted"):
            next(iter(job.known(10**6)))
        folder.rename(tmp_path / "away")  # as the hint says
        assert known(job) == {}


def settled(job: Job) -> list[bytes] | None:
    last = job.settled()
    return None if last is None else [record.key for _, record in last.own_records()]


def test_a_job_is_settled_when_its_last_manifest_is_all_that_is_known(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        assert settled(job) is None, "nothing is known"
        first = a_pass(job, record(b"a", 1))
        assert settled(job) is None, "nothing is published"
        publish(job, first.number, record(b"a", 1), tool=manifest.TOOL)
        assert settled(job) == [b"a"]
        begun = job.begin()
        assert settled(job) is None, "a run was killed since"
        job.journal.end_pass(begun.number, "interrupted", objects=0, size=0)
        assert settled(job) is None, "a run was stopped since"
        last = job.begin()
        publish(job, last.number, record(b"b", 1), tool=manifest.TOOL)
        assert settled(job) == [b"b"]
    with Job(tmp_path, IDENTITY) as job:
        assert settled(job) == [b"b"]


@pytest.mark.parametrize("document", [{}, {"tool": "portabl 0.0.1"}, {"tool": f"{manifest.TOOL}.1"}])
def test_a_manifest_of_another_release_settles_nothing(document: dict[str, object], tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        publish(job, job.begin().number, record(b"a", 1), **document)
        assert settled(job) is None
        assert known(job) == {b"a": 1}


def test_a_manifest_that_is_damaged_or_gone_settles_nothing(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY) as job:
        folder = publish(job, job.begin().number, record(b"a", 1), tool=manifest.TOOL)
        good = (folder / "manifest.json").read_bytes()
        for bad in (good[:-2], good.replace(b'"objects":1', b'"objects":2'), b"{}"):
            (folder / "manifest.json").write_bytes(bad)
            assert settled(job) is None
            with pytest.raises(ManifestError, match="cannot be trusted"):
                known(job)
        (folder / "manifest.json").write_bytes(good)
        assert settled(job) == [b"a"]
        folder.rename(tmp_path / "away")
        assert settled(job) is None


def test_one_run_at_a_time_and_the_lock_ends_with_it(tmp_path: Path) -> None:
    with Job(tmp_path, IDENTITY), pytest.raises(JobLocked):
        Job(tmp_path, IDENTITY)
    with Job(tmp_path, IDENTITY):
        assert job_id(IDENTITY) != job_id({**IDENTITY, "target": "c"})
