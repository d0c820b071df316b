"""Shards and working records: what is recorded is read back exactly, or counts as not recorded."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portabl import records, shards, worklog
from portabl.errors import ManifestError
from portabl.journal import Journal
from portabl.model import Record, Seen
from portabl.shards import Shards
from portabl.state import Pass


def record(number: int) -> Record:
    return Record(b"k/%04d" % number, number, f"{number:064x}", target=Seen("e"))


@pytest.fixture
def run(tmp_path: Path) -> Pass:
    (tmp_path / "pass").mkdir()
    return Pass(1, tmp_path / "pass")


@pytest.fixture
def writer(run: Pass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shards]:
    monkeypatch.setattr(shards, "SHARD_OBJECTS", 10)
    made = Shards(run, Journal(tmp_path / "journal.sqlite3"))
    yield made
    made.abandon()


def test_records_of_many_threads_come_back_in_order(writer: Shards) -> None:
    placed = [(writer.place(b"k/%04d" % n), n) for n in range(95)]
    random.Random(1).shuffle(placed)
    threads = [
        threading.Thread(target=lambda part=part: [shard.add(record(n)) for shard, n in part])
        for part in (placed[::2], placed[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = writer.finish()
    assert [r for _, r in done.lines()] == [record(n) for n in range(95)]
    assert {p.suffix for p in done.path.iterdir()} == {".seg"}


def test_an_object_without_a_record_ends_the_pass(writer: Shards) -> None:
    writer.place(b"a")
    shard = writer.place(b"b")
    shard.add(record(1))
    with pytest.raises(AssertionError, match="without all their records"):
        writer.finish()


def test_late_records_are_merged_and_dropped_ones_do_not_count(writer: Shards) -> None:
    first = writer.place(b"k/0001")
    gone = writer.place(b"k/0002")
    gone.drop()
    first.add(record(1))
    late = writer.late()
    late.plan(b"//")
    late.add(Record(b"//", 0, "0" * 64))
    late.seal()
    done = writer.finish()
    assert [line[1].key for line in done.lines()] == [b"//", b"k/0001"]
    assert done.objects == 2


@pytest.mark.parametrize("position", range(0, 260, 13))
def test_any_flipped_byte_is_noticed(position: int, writer: Shards) -> None:
    for number in range(5):
        writer.place(b"k/%04d" % number).add(record(number))
    done = writer.finish()
    (path,) = done.path.iterdir()
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(data)
    whole = [record(n) for n in range(5)]
    left = [r for _, r in worklog.lines(done.path)]
    assert 3 <= len(left) < 5  # a damaged line feed takes two with it
    assert [r for r in whole if r in left] == left
    with pytest.raises(ManifestError):
        list(done.lines())


@pytest.mark.parametrize("own", [True, False])
def test_every_damage_to_a_complete_pass_is_noticed(own: bool, writer: Shards) -> None:
    """Every byte of two records, and every length: the lines are taken at their word, so none may be another."""
    for number in range(2):
        writer.place(b"k/%04d" % number).add(record(number))
    done = writer.finish()
    (path,) = done.path.iterdir()
    good = path.read_bytes()
    flipped = (good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(len(good)))
    for bad in (*flipped, *(good[:length] for length in range(len(good))), good + good[:40]):
        path.write_bytes(bad)
        with pytest.raises(ManifestError):
            list(done.lines(own=own))
    path.write_bytes(good)
    assert [one for _, one in done.lines(own=own)] == [record(0), record(1)]


@pytest.mark.parametrize("own", [True, False])
def test_a_record_in_the_place_of_another_is_no_complete_pass(own: bool, writer: Shards) -> None:
    for number in range(2):
        writer.place(b"k/%04d" % number).add(record(number))
    done = writer.finish()
    (path,) = done.path.iterdir()
    first, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + first)
    with pytest.raises(ManifestError, match="1 records instead of 2"):
        list(done.lines(own=own))
    path.with_name("000001.seg").write_bytes(first)
    with pytest.raises(ManifestError, match="out of order"):
        list(done.lines(own=own))


@pytest.mark.parametrize("more", [b" ", b'"x":1,'])
def test_records_of_another_form_are_not_believed_later(more: bytes, writer: Shards) -> None:
    """A whole line with the right check that this portabl would not have written, such as one of another release."""
    writer.place(b"k/0000").add(record(0))
    done = writer.finish()
    line = records.encode(record(0))
    other = line[:1] + more + line[1:]
    (path,) = done.path.iterdir()
    path.write_bytes(worklog.sealed(line) + worklog.sealed(other))
    assert list(worklog.of_file(path)) == [(line, record(0))]
    path.write_bytes(worklog.sealed(other))
    assert list(worklog.lines(done.path)) == []
    with pytest.raises(ManifestError, match="damaged"):
        list(done.lines())


def test_a_missing_record_or_file_is_no_complete_pass(writer: Shards) -> None:
    for number in range(25):
        writer.place(b"k/%04d" % number).add(record(number))
    done = writer.finish()
    path = done.path / "000001.seg"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(ManifestError, match="24 records instead of 25"):
        list(done.lines())
    path.unlink()
    with pytest.raises(ManifestError, match="15 records"):
        list(done.lines())
