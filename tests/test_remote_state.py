"""State at another place: carried over by whoever goes on, and never thrown away for something older."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from portabl import remote_state
from portabl.desk import Ticket
from portabl.errors import JobLocked, StorageError
from portabl.files import Files
from portabl.remote_state import RemoteState
from portabl.state import Job

IDENTITY = {"source": "a", "target": "b"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.at(str(tmp_path / "remote"))


def stamp(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "remote").rglob("stamp.json")
    return found


def test_another_machine_goes_on_where_the_first_stopped(files: Files, tmp_path: Path) -> None:
    with Job(tmp_path / "one", IDENTITY, files) as job:
        job.journal.intend_upload(b"k", "v", 8, [])
        run = job.begin()
    with Job(tmp_path / "two", IDENTITY, files) as job:
        assert job.journal.open_keys() == [b"k"]
        assert job.begin().number == run.number + 1
        job.journal.end_upload(b"k")
    with Job(tmp_path / "one", IDENTITY, files) as job:
        assert job.journal.open_keys() == [], "older local knowledge was kept"


def test_what_was_fetched_and_added_to_survives_a_kill_before_any_push(files: Files, tmp_path: Path) -> None:
    with Job(tmp_path / "one", IDENTITY, files):
        pass
    killed = Job(tmp_path / "two", IDENTITY, files)
    killed.journal.intend_upload(b"k", "v", 8, [])
    killed._unlock()  # as the kernel does for a killed process; nothing is pushed
    with Job(tmp_path / "two", IDENTITY, files) as job:
        assert job.journal.open_keys() == [b"k"], "the upload would be left behind for ever"


def test_killed_between_both_stamps_it_keeps_what_is_here(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Job(tmp_path / "one", IDENTITY, files)
    write = files.write

    def last(name: str, data: bytes) -> None:
        write(name, data)
        if name.endswith("stamp.json"):
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", last)
    with pytest.raises(KeyboardInterrupt):
        killed.shard_closed()
    monkeypatch.undo()
    killed.journal.intend_upload(b"k", "v", 8, [])
    killed.journal.close()
    killed._unlock()
    with Job(tmp_path / "one", IDENTITY, files) as job:
        assert job.journal.open_keys() == [b"k"], "the upload would be left behind for ever"


def test_a_run_elsewhere_keeps_others_out_from_its_first_moment(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Job(tmp_path / "one", IDENTITY, files):
        monkeypatch.setattr(remote_state, "_host", lambda: "elsewhere:0")
        with pytest.raises(JobLocked, match="is going on"):
            Job(tmp_path / "two", IDENTITY, files)
        later = time.time() + remote_state.ALIVE_SECONDS + 1
        monkeypatch.setattr(time, "time", lambda: later)
        with Job(tmp_path / "two", IDENTITY, files):
            pass


def test_workers_of_a_killed_run_are_told_to_stop(files: Files, tmp_path: Path) -> None:
    killed = Job(tmp_path / "one", IDENTITY, files)
    begun = killed.begun(killed.begin())
    ticket = Ticket(begun, "going on")
    ticket.issue()
    killed.journal.close()
    killed._unlock()  # as the kernel does for a killed process
    ticket.check()
    with Job(tmp_path / "one", IDENTITY, files):
        ticket.look()
        assert ticket.is_set(), "what they write now the new run would not know of"


def test_a_run_is_seen_from_elsewhere_while_it_takes_up_what_is_there(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: RemoteState) -> None:
        seen.append(json.loads(stamp(tmp_path).read_text())["running"])

    seen: list[bool] = []
    monkeypatch.setattr(RemoteState, "_take_up", slow)
    with Job(tmp_path / "one", IDENTITY, files):
        assert seen == [True]


@pytest.mark.parametrize("text", ["", "[]", "not JSON", "[" * 100_000])
def test_a_damaged_stamp_is_no_empty_state(text: str, files: Files, tmp_path: Path) -> None:
    with Job(tmp_path / "one", IDENTITY, files):
        pass
    stamp(tmp_path).write_text(text)
    with pytest.raises(StorageError, match="damaged"):
        Job(tmp_path / "two", IDENTITY, files)
    stamp(tmp_path).write_text(json.dumps({"generation": "x", "time": None, "running": True}))
    with Job(tmp_path / "three", IDENTITY, files):
        pass
