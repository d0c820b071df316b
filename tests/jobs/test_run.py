"""Runs: their records, their lock, what a kill leaves, and how `check` judges them. The clock is set by hand."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from jobs.place import NIGHTLY, Place
from shell import Shell, shell

from portabl.errors import JobLocked, PolicyRefused, PortablError, StateFull, UsageError
from portabl.jobs import check, store
from portabl.jobs.run import is_due
from portabl.jobs.store import Run, Store

SCHEDULED = NIGHTLY + 'schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\n'
KILLER = str(Path(__file__).parent.parent / "journeys" / "killed.py")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.data(a="1", b="22")
    return made


def _writer(path: Path) -> str:
    """A command, as TOML, that appends what it reads to a file."""
    return json.dumps([sys.executable, "-c", f"import sys; open({str(path)!r}, 'a').write(sys.stdin.read() + '\\n')"])


def _history(place: Place) -> list[Run]:
    with place.runner() as runner:
        return runner.store.history()


def _state(place: Place, name: str = "nightly") -> str:
    with place.runner() as runner:
        return check.health(runner.jobs.job(name), runner.store, place.clock()).state


def _due(place: Place) -> str:
    with place.runner() as runner:
        due = is_due(runner.jobs.job("nightly"), runner.store, place.clock())
        return f"{due:%d %H:%M}" if due else ""


def test_a_run_is_recorded_with_its_figures(place: Place) -> None:
    place.write(NIGHTLY)
    first = place.run()
    assert (first.result, first.exit_code, first.objects, first.bytes, first.changes) == ("ok", 0, 2, 3, 2)
    assert Path(first.manifest, "manifest.json").exists()
    assert (first.started, first.trigger, first.due, first.alerts) == ("2026-06-01T12:00:00.000Z", "hand", "", "")
    place.data(c="333")
    second = place.run()
    assert (second.id, second.objects, second.bytes, second.changes) == (2, 3, 6, 1)
    assert [run.id for run in _history(place)] == [2, 1]


def test_a_failure_is_recorded_and_raised(place: Place) -> None:
    place.write(NIGHTLY.replace('"data"', '"gone"'))
    with pytest.raises(PortablError):
        place.run()
    (run,) = _history(place)
    assert (run.result, run.exit_code) == ("failed", 6)
    assert "gone" in run.message


def test_losses_are_a_failure(place: Place) -> None:
    (place.folder / "data" / "link").symlink_to("a")
    place.write(NIGHTLY)
    run = place.run()
    assert (run.result, run.exit_code, run.objects) == ("failed", 3, 3)
    assert "symbolic link" in run.message


def test_a_verification_follows_the_last_manifest_of_a_job(place: Place) -> None:
    place.write(NIGHTLY + '[jobs.check]\nkind = "verify"\nmanifest_of = "nightly"\n')
    with pytest.raises(UsageError, match="has left no manifest yet"):
        place.run("check")
    place.run()
    assert (place.run("check").result, place.run("check").objects) == ("ok", 2)
    (place.folder / "copy" / "b").write_text("2X")
    bad = place.run("check")
    assert (bad.result, bad.exit_code, bad.changes) == ("failed", 3, 1)
    assert 'content: "b"' in bad.message


def test_a_timeout_stops_in_order_and_the_next_run_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(NIGHTLY + 'timeout = "1h"\n')

    class AtOnce(threading.Timer):
        def start(self) -> None:
            self.function()

    monkeypatch.setattr(threading, "Timer", AtOnce)
    stopped = place.run()
    assert (stopped.result, stopped.exit_code) == ("interrupted", 4)
    monkeypatch.undo()
    after = place.run()
    assert (after.result, after.resumes) == ("ok", stopped.id)


def test_of_two_runs_at_once_one_is_refused_and_says_by_whom(place: Place) -> None:
    place.write(NIGHTLY)
    with place.runner() as runner, runner.store.lock("nightly"):
        going = runner.store.begin(runner.jobs.job("nightly"), place.clock(), trigger="hand")
        for _ in range(3):
            with pytest.raises(JobLocked, match=f"run {going.id}, process {going.pid}"):
                place.run()
    assert [run.result for run in _history(place)] == ["skipped", "running"], "one note, not one for each attempt"


def test_a_lock_that_was_left_is_no_lock(place: Place) -> None:
    place.write(NIGHTLY)
    (place.folder / "records").mkdir()
    (place.folder / "records" / "nightly.lock").write_text("left by a machine that went down")
    assert place.run().result == "ok"


def test_a_killed_run_is_recognised_told_of_and_gone_on_with(place: Place) -> None:
    said = place.folder / "said"
    command = _writer(said)
    place.write(NIGHTLY + f'on_failure = ["ops"]\n[alerts.ops]\ntype = "command"\ncommand = {command}\n')
    with place.runner() as runner:
        killed = runner.store.begin(runner.jobs.job("nightly"), place.clock(), trigger="hand")
    assert _state(place) == "failed", "nobody holds the lock of the run that is recorded as going on"
    after = place.run()
    assert (after.result, after.resumes) == ("ok", killed.id)
    closed = _history(place)[-1]
    assert (closed.result, closed.finished, closed.duration_seconds, closed.alerts) == (
        "interrupted",
        "",
        None,
        "delivered",
    )
    (message,) = map(json.loads, said.read_text().splitlines())
    assert (message["event"], message["run"]) == ("interrupted", killed.id)
    assert "killed" in message["message"]


def test_a_disabled_job_does_not_run(place: Place) -> None:
    place.write(SCHEDULED)
    with place.runner() as runner:
        runner.store.disable(runner.jobs.job("nightly"), place.clock())
    with pytest.raises(PolicyRefused, match="was disabled at 2026-06-01T12:00"):
        place.run()
    place.clock.forward(days=3)
    assert (_state(place), _due(place), _history(place)) == ("disabled", "", [])
    with place.runner() as runner:
        runner.store.enable(runner.jobs.job("nightly"), place.clock())
    assert (_state(place), _due(place)) == ("waiting", ""), "what was due meanwhile is not missed"
    place.write(SCHEDULED + "enabled = false\n")
    with pytest.raises(PolicyRefused, match="enabled"):
        place.run()


def test_if_due_over_a_week(place: Place) -> None:
    place.write(SCHEDULED)
    assert _due(place) == "", "a new job is expected from its first due time on"
    place.clock.set("2026-06-02T00:28")
    assert _due(place) == ""
    place.clock.set("2026-06-02T00:29:30")
    assert _due(place) == "02 00:30", "another machine's clock may be a little ahead"
    place.run()
    assert _due(place) == ""
    place.clock.set("2026-06-02T23:00")
    assert _due(place) == ""
    place.clock.set("2026-06-05T07:00")
    assert _due(place) == "05 00:30", "what was missed is due once"
    shutil.move(place.folder / "data", place.folder / "away")
    with pytest.raises(PortablError):
        place.run()
    assert _due(place) == "", "a run that failed is not tried again before the next due time"
    with place.runner() as runner:
        runner.store.begin(runner.jobs.job("nightly"), place.clock(), trigger="hand")
        with runner.store.lock("nightly", 0):
            assert is_due(runner.jobs.job("nightly"), runner.store, place.clock()) is None, "it is going on"
        assert is_due(runner.jobs.job("nightly"), runner.store, place.clock()), "killed, and nobody has noticed"
        runner._after_a_kill(runner.jobs.job("nightly"))
    assert _due(place) == "05 00:30", "but one that was interrupted is"


def test_check_over_a_week(place: Place) -> None:
    place.write(SCHEDULED + 'deadline = "6h"\n')
    assert _state(place) == "waiting"
    place.clock.set("2026-06-02T06:29")
    assert _state(place) == "waiting"
    place.clock.set("2026-06-02T06:31")
    assert _state(place) == "late"
    place.run()
    assert _state(place) == "ok"
    place.clock.set("2026-06-03T06:29")
    assert _state(place) == "ok", "there is still time"
    place.clock.set("2026-06-03T06:31")
    assert _state(place) == "late"
    with place.runner() as runner, runner.store.lock("nightly"):
        found = check.health(runner.jobs.job("nightly"), runner.store, place.clock())
        assert (found.state, "a run is going on" in found.message) == ("late", True), "running late is late"
    shutil.move(place.folder / "data", place.folder / "away")
    with pytest.raises(PortablError):
        place.run()
    assert _state(place) == "failed"
    place.clock.set("2026-06-04T06:31")
    assert _state(place) == "late", "of the next night nothing is known"
    shutil.move(place.folder / "away", place.folder / "data")
    place.run()
    assert _state(place) == "ok"
    shutil.move(place.folder / "data", place.folder / "away")
    with pytest.raises(PortablError):
        place.run()
    assert _state(place) == "failed"


def test_without_a_deadline_a_run_has_until_the_next_one_is_due(place: Place) -> None:
    place.write(SCHEDULED)
    place.clock.set("2026-06-02T00:30")
    place.run()
    place.clock.set("2026-06-04T00:29")
    assert _state(place) == "ok"
    place.clock.set("2026-06-04T00:30")
    assert _state(place) == "late"


def test_an_early_run_does_not_count_for_a_later_due_time(place: Place) -> None:
    place.write(SCHEDULED + 'deadline = "1h"\n')
    place.run()
    place.clock.set("2026-06-02T00:20")
    place.run()
    place.clock.set("2026-06-02T01:31")
    assert _state(place) == "late"


def test_a_new_schedule_is_expected_from_now_on(place: Place) -> None:
    place.write(SCHEDULED + 'deadline = "1h"\n')
    place.clock.set("2026-06-02T00:30")
    place.run()
    place.clock.set("2026-06-02T12:00")
    place.write(SCHEDULED.replace("30 2", "0 12") + 'deadline = "1h"\n')
    assert (_state(place), _due(place)) == ("ok", ""), "noon in Berlin was before the schedule said noon"
    place.clock.set("2026-06-03T11:01")
    assert _state(place) == "late"


def test_the_alarm_for_a_late_job_rings_once_for_each_due_time(place: Place) -> None:
    said = place.folder / "said"
    command = _writer(said)
    text = SCHEDULED + 'deadline = "1h"\non_failure = ["ops"]\n'
    place.write(text + f'[alerts.ops]\ntype = "command"\ncommand = {command}\n')
    assert _state(place) == "waiting"
    for moment in ("2026-06-02T02:00", "2026-06-02T03:00", "2026-06-03T02:00"):
        place.clock.set(moment)
        with place.runner() as runner:
            check.raise_alarms(runner, check.check(runner.jobs, runner.store, place.clock()))
    messages = [json.loads(line) for line in said.read_text().splitlines()]
    assert [(one["event"], one["summary"][:44]) for one in messages] == [
        ("late", "job nightly is late: was due at 2026-06-02T0"),
        ("late", "job nightly is late: was due at 2026-06-03T0"),
    ]
    assert len({one["id"] for one in messages}) == 2


def test_records_that_cannot_be_used_are_an_error(place: Place) -> None:
    place.write(NIGHTLY)
    place.run()
    records = place.folder / "records" / "runs.sqlite3"
    with sqlite3.connect(records) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="newer portabl"):
        place.run()
    records.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(UsageError, match="cannot be used"):
        place.run()


def test_no_room_for_the_record_is_no_success(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(NIGHTLY)

    def full(*_: object, **__: object) -> Run:
        raise StateFull("no space left")

    monkeypatch.setattr(Store, "update", full)
    with pytest.raises(StateFull):
        place.run()
    monkeypatch.undo()
    assert _state(place) == "failed"
    assert place.run().result == "ok"


def test_old_runs_are_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RUNS_KEPT", 5)
    place.write(NIGHTLY)
    with place.runner() as runner:
        for _ in range(20):
            runner.store.note(runner.jobs.job("nightly"), place.clock(), trigger="hand", result="missed")
    assert [run.id for run in _history(place)] == [20, 19, 18, 17, 16, 15]


# The real command line, in processes of its own.


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    made = shell(tmp_path)
    (tmp_path / "data").mkdir()
    for number in range(30):
        (tmp_path / "data" / f"{number:02d}").write_bytes(bytes([number]) * number * 1000)
    made.configure(NIGHTLY.replace('state = "state"\n', "threads = 2\n"))
    return made


PLACES = [
    ("portabl.jobs.store:Store.begin", 1, "before"),
    ("portabl.jobs.store:Store.begin", 1, "after"),
    ("portabl.shards:Shard._append", 12, "after"),
    ("portabl.manifest:ManifestWriter.finish", 1, "before"),
    ("portabl.migrate:migrate", 1, "after"),
    ("portabl.jobs.store:Store.update", 1, "after"),
]


@pytest.mark.parametrize(("place", "number", "when"), PLACES)
def test_killed_at_any_instant_and_run_again(here: Shell, place: str, number: int, when: str) -> None:
    command = [sys.executable, KILLER, f"{place}@{number},{when}", "--", "jobs", "run", "nightly", "-q"]
    done = subprocess.run(command, cwd=here.folder, env=dict(here.environment), capture_output=True)
    assert done.returncode == -9, done.stderr
    recorded = _recorded(here)
    nothing_yet = place.endswith("begin") and when == "before"
    assert [run.result for run in recorded] == ["ok" if "update" in place else "running"][nothing_yet:]
    again = here.portabl("jobs", "run", "nightly", "--json", "-q")
    assert again.code == 0, again.err
    run, report = again.document["run"], again.document["report"]
    assert (run["result"], run["objects"], report["source_root"]) == ("ok", 30, report["target_root"])
    killed = [one.id for one in recorded if one.result == "running"]
    assert run["resumes"] == (killed[0] if killed else None)
    assert [one.result for one in _recorded(here)] == ["ok", *("interrupted" if killed else "ok" for _ in recorded)]


def _recorded(here: Shell) -> list[Run]:
    (place,) = (here.state / "scheduled").iterdir()
    with Store(place) as records:
        return records.history()


def test_two_processes_at_once(here: Shell) -> None:
    """One waits inside its run, in an alert, until the other has been refused."""
    go = here.folder / "go"
    wait = f"import pathlib, time; p = pathlib.Path({str(go)!r})\nwhile not p.exists(): time.sleep(0.01)"
    command = json.dumps([sys.executable, "-c", wait])
    here.configure(NIGHTLY + f'on_success = ["wait"]\n[alerts.wait]\ntype = "command"\ncommand = {command}\n')
    command_line = here.command("jobs", "run", "nightly", "-q")
    first = subprocess.Popen(command_line, cwd=here.folder, env=dict(here.environment), stdout=subprocess.PIPE)
    try:
        while not list(here.state.glob("scheduled/*/runs.sqlite3")) or not _recorded(here):
            assert first.poll() is None
            time.sleep(0.05)
        here.portabl("jobs", "run", "nightly").clear(2, "a run of the job `nightly` is going on (run 1, process")
        assert "running" in here.portabl("jobs", "list").out
    finally:
        go.touch()
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert [run.result for run in _recorded(here)] == ["skipped", "ok"]
    assert here.portabl("jobs", "check").code == 0
