"""The journal: passes, uploads and parts outlive the process; damage is said in one line."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from portabl.errors import UsageError
from portabl.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def test_history_is_the_last_published_pass_and_what_came_after(path: Path) -> None:
    journal = Journal(path)
    first, second, third = journal.begin_pass(), journal.begin_pass(), journal.begin_pass()
    journal.end_pass(second, "published", objects=1, size=2, manifest="m")
    assert journal.history(third) == (second, [])
    assert journal.history(third + 1) == (second, [third])
    assert journal.history(first + 1) == (None, [first])
    fourth = journal.begin_pass()
    journal.merge_passes(fourth, [third, fourth])
    assert journal.history(99) == (second, [fourth])


def test_an_open_upload_is_known_to_the_next_process(path: Path) -> None:
    journal, key = Journal(path), b"\xff/\0k"
    journal.intend_upload(key, "v1", 8, ["theirs", "others"])
    journal.add_part(key, 1, "aa", "t1")
    again = Journal(path)  # as after kill -9: nothing was closed
    found = again.open_upload(key)
    assert found is not None
    assert (found.token, found.foreign, dict(found.parts)) == ("", {"theirs", "others"}, {1: ("aa", "t1")})
    again.name_upload(key, "ours")
    assert again.open_keys() == [key]
    again.intend_upload(key, "v2", 8, [])
    found = again.open_upload(key)
    assert found is not None
    assert (found.token, dict(found.parts)) == ("", {}), "parts of another upload"
    again.end_upload(key)
    assert again.open_upload(key) is None


def test_every_commit_is_on_the_disk(path: Path) -> None:
    journal = Journal(path)
    assert journal._run("PRAGMA synchronous") == [(2,)]  # FULL, https://sqlite.org/pragma.html#pragma_synchronous
    assert journal._run("PRAGMA journal_mode") == [("wal",)]


def test_another_version_and_damage_are_told(path: Path) -> None:
    Journal(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(UsageError, match="another version"):
        Journal(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageError, match="cannot be used"):
        Journal(path)
    assert Journal.peek(path).state == "unreadable journal"


def test_a_snapshot_is_a_whole_journal(path: Path, tmp_path: Path) -> None:
    journal = Journal(path)
    journal.intend_upload(b"k", "v", 8, [])
    journal.snapshot(tmp_path / "copy")
    assert Journal(tmp_path / "copy").open_keys() == [b"k"]
