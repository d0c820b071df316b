"""The daemon: APScheduler over a clock that is set by hand, and the real thing in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.base import BaseScheduler
from jobs.place import NIGHTLY, Place, receiver
from prometheus_client.parser import text_string_to_metric_families
from shell import Shell, shell

from portabl.errors import ConfigError, PortablError
from portabl.jobs.config import ScheduledJob
from portabl.jobs.daemon import Daemon, Settings, serve
from portabl.jobs.endpoint import answering
from portabl.jobs.store import Run

SCHEDULED = NIGHTLY + 'schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\n'


class Ticked(BaseScheduler):
    """APScheduler without a thread of its own: it looks at the clock when it is told to."""

    def wakeup(self) -> None:
        return

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def tick(self) -> None:
        self._process_jobs()


@dataclass
class Served:
    """A daemon over a place. ``fired``: what it ran and for when."""

    place: Place
    daemon: Daemon
    scheduler: Ticked
    fired: list[tuple[str, str]] = field(default_factory=list)

    def until(self, text: str, minutes: int = 30) -> None:
        """Let time go by in steps."""
        end = datetime.fromisoformat(text).replace(tzinfo=UTC)
        while self.place.clock() < end:
            self.place.clock.forward(minutes=minutes)
            self.scheduler.tick()

    def jump(self, text: str) -> None:
        """Let the machine sleep, and wake up then."""
        self.place.clock.set(text)
        self.scheduler.tick()

    @property
    def results(self) -> list[str]:
        """Results of all runs, oldest first."""
        with self.place.runner() as runner:
            return [run.result for run in reversed(runner.store.history("", 1000))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    made.data(a="1", b="22")

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return made.clock().astimezone(tz)

    for module in ("schedulers.base", "executors.base", "triggers.interval"):
        monkeypatch.setattr(f"apscheduler.{module}.datetime", Now)
    return made


@contextmanager
def served(place: Place, launch: Callable[[ScheduledJob, str], int] | None = None) -> Iterator[Served]:
    """A daemon that was started now; by default it runs jobs really, in this process."""
    scheduler = Ticked(timezone=UTC)
    fired: list[tuple[str, str]] = []

    def run(job: ScheduledJob, due: str) -> int:
        fired.append((job.name, due))
        if launch is not None:
            return launch(job, due)
        try:
            return place.run(job.name, trigger="schedule", due=due).exit_code or 0
        except PortablError as error:
            return error.exit_code

    daemon = Daemon(
        lambda: place.jobs, Settings(place.folder / "records"), launch=run, now=place.clock, tell=place.told.append,
        sleep=place.slept.append, scheduler=scheduler, pool=lambda _: DebugExecutor(),
    )  # fmt: skip
    daemon.start()
    try:
        yield Served(place, daemon, scheduler, fired)
    finally:
        daemon.stop()


def _records(place: Place) -> list[Run]:
    with place.runner() as runner:
        return list(reversed(runner.store.history("", 1000)))


@pytest.mark.parametrize(
    ("first", "last", "elsewhere"),
    [
        ("2026-03-27T12:00", "2026-03-31T12:00", "2026-03-29T01:00:00.000Z"),
        ("2026-10-23T12:00", "2026-10-27T12:00", "2026-10-25T00:30:00.000Z"),
    ],
)
def test_a_nightly_job_runs_once_a_night_when_the_clocks_change(
    place: Place, first: str, last: str, elsewhere: str
) -> None:
    place.write(SCHEDULED)
    place.clock.set(first)
    with served(place) as here:
        here.until(last)
    berlin = place.jobs.job("nightly").schedule
    assert berlin
    began = [datetime.fromisoformat(run.started).astimezone(berlin.zone) for run in _records(place)]
    start = date.fromisoformat(first[:10])
    assert [one.date() for one in began] == [start + timedelta(days=n) for n in range(1, 5)], "once for each date"
    assert elsewhere in [run.due for run in _records(place)]
    assert [run.due for run in _records(place)] == [due for _, due in here.fired]
    assert set(here.results) == {"ok"}


def test_a_machine_that_slept_runs_what_it_missed_once(place: Place) -> None:
    place.write(NIGHTLY + 'schedule = "0 * * * *"\ngrace = "30m"\n')
    with served(place) as here:
        here.jump("2026-06-03T09:10")
        assert here.fired == [("nightly", "2026-06-03T09:00:00.000Z")], "45 hours are coalesced into one run"
        here.until("2026-06-03T11:05")
        assert len(here.fired) == 3


def test_what_is_too_late_is_not_run_but_is_told(place: Place) -> None:
    with receiver() as hook:
        place.write(
            SCHEDULED + f'grace = "1h"\non_failure = ["ops"]\n[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n'
        )
        with served(place) as here:
            here.jump("2026-06-02T09:00")
            assert (here.fired, here.results) == ([], ["missed"])
        said = [json.loads(body) for _, _, _, body in hook.seen]
        assert [one["event"] for one in said] == ["missed"]
        assert "was due at 2026-06-02T00:30" in said[0]["message"]


@pytest.mark.parametrize(("back", "results"), [("2026-06-02T01:00", ["ok"]), ("2026-06-02T09:00", ["missed"])])
def test_what_was_due_while_nobody_served(place: Place, back: str, results: list[str]) -> None:
    place.write(SCHEDULED)
    with served(place):
        pass
    place.clock.set(back)
    with served(place) as here:
        here.scheduler.tick()
        assert here.results == results
    with served(place) as here:
        here.scheduler.tick()
        assert here.results == results, "and only once"


def test_a_run_that_was_interrupted_goes_on_at_the_next_start_however_late(place: Place) -> None:
    place.write(SCHEDULED)
    with place.runner() as runner:
        runner.store.see(runner.jobs.job("nightly"), place.clock())
        runner.store.begin(runner.jobs.job("nightly"), place.clock(), trigger="schedule")
    place.clock.forward(days=9)
    with served(place) as here:
        here.scheduler.tick()
        assert here.results == ["interrupted", "ok"]


def test_a_late_job_rings_once(place: Place) -> None:
    with receiver() as hook:
        place.write(
            SCHEDULED + f'deadline = "2h"\non_failure = ["ops"]\n[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n'
        )
        with served(place, launch=lambda *_: 0) as here:  # a run that says it did well, and left no record
            here.until("2026-06-03T01:00")
        assert [json.loads(body)["event"] for _, _, _, body in hook.seen] == ["late"]
        assert [line for line in place.told if "is late" in line] == ["job nightly: is late"]


def test_a_run_that_could_not_even_begin_is_recorded_and_told(place: Place) -> None:
    with receiver() as hook:
        place.write(SCHEDULED + f'on_failure = ["ops"]\n[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n')
        with served(place, launch=lambda *_: 2) as here:
            here.until("2026-06-02T01:00")
            assert here.results == ["failed"]
        (said,) = [json.loads(body) for _, _, _, body in hook.seen]
        assert (said["event"], said["exit_code"]) == ("failed", 2)
        assert "exit code 2 before it began" in said["message"]


def test_disabled_jobs_do_not_fire(place: Place) -> None:
    place.write(SCHEDULED + SCHEDULED.replace("nightly", "other").replace("copy", "copy2") + "enabled = false\n")
    with served(place) as here:
        with place.runner() as runner:
            runner.store.disable(runner.jobs.job("nightly"), place.clock())
        here.until("2026-06-02T12:00")
        assert (here.fired, here.results) == ([], [])
        assert "job nightly: is due, but disabled" in place.told


def test_a_reload_takes_new_times_and_a_broken_file_changes_nothing(place: Place) -> None:
    place.write(SCHEDULED)
    with served(place) as here:
        (place.folder / "portabl.toml").write_text(SCHEDULED + "shedule = 1\n")
        here.daemon.reload()
        assert here.daemon.status.reload_failed
        assert "was not reloaded" in place.told[-1]
        assert "shedule" in place.told[-1]
        here.until("2026-06-02T01:00")
        assert len(here.fired) == 1, "the jobs it had before"
        place.write("")
        here.daemon.reload()
        assert here.daemon.status.reload_failed, "no jobs at all is no configuration"
        place.write(SCHEDULED.replace("30 2", "0 12") + SCHEDULED.replace("nightly", "more").replace("copy", "copy2"))
        here.daemon.reload()
        assert not here.daemon.status.reload_failed
        here.until("2026-06-03T12:00")
        assert Counter(name for name, _ in here.fired) == {"nightly": 3, "more": 1}


def test_no_job_is_no_service(place: Place) -> None:
    place.write("")
    with pytest.raises(ConfigError, match="no job is configured"):
        Daemon(lambda: place.jobs, Settings(place.folder / "records"))


def test_several_jobs_at_once_up_to_the_limit(tmp_path: Path) -> None:
    """With the real scheduler and its threads: five jobs to catch up with, two at a time."""
    place = Place(tmp_path)
    place.data(a="1")
    names = [f"j{n}" for n in range(5)]
    place.write("".join(SCHEDULED.replace("nightly", n).replace('"copy"', f'"{n}"') for n in names))
    with place.runner() as runner:
        for name in names:
            runner.store.see(runner.jobs.job(name), place.clock())
    place.clock.set("2026-06-02T00:40")
    lock, both, done = threading.Lock(), threading.Event(), threading.Semaphore(0)
    going, most = [0], [0]

    def launch(*_: object) -> int:
        with lock:
            going[0] += 1
            most[0] = max(most[0], going[0])
            if going[0] == 2:
                both.set()
        assert both.wait(60), "the first one waits for the second"
        with lock:
            going[0] -= 1
        done.release()
        return 0

    daemon = Daemon(lambda: place.jobs, Settings(tmp_path / "records", 2), launch=launch, now=place.clock)
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    thread = threading.Thread(target=serve, args=(daemon, events))
    thread.start()
    try:
        assert all(done.acquire(timeout=60) for _ in names)
    finally:
        events.put("stop")
        thread.join(60)
    assert (most[0], thread.is_alive()) == (2, False)


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_check_and_metrics(place: Place) -> None:
    place.write(SCHEDULED + 'deadline = "2h"\n')
    with served(place) as here, answering(here.daemon, "127.0.0.1", 0) as port:
        base = f"http://127.0.0.1:{port}"
        here.until("2026-06-02T01:00")
        status, text = _get(f"{base}/healthz")
        assert (status, json.loads(text)["status"], json.loads(text)["jobs"]) == (200, "ok", 1)
        status, text = _get(f"{base}/check")
        assert (status, json.loads(text)["jobs"][0]["state"]) == (200, "ok")
        status, text = _get(f"{base}/metrics")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        run = _records(place)[0]
        began = datetime.fromisoformat(run.started).timestamp()
        assert samples["portabl_job_runs_total", "nightly", "ok"] == 1
        assert samples["portabl_job_last_success_timestamp_seconds", "nightly"] == began
        assert samples["portabl_job_last_run_objects", "nightly"] == 2
        assert samples["portabl_job_last_run_exit_code", "nightly"] == 0
        due = datetime(2026, 6, 3, 0, 30, tzinfo=UTC).timestamp()
        assert samples["portabl_job_next_due_timestamp_seconds", "nightly"] == due
        assert (samples["portabl_job_late", "nightly"], samples["portabl_config_reload_failed",]) == (0, 0)
        place.clock.set("2026-06-05T12:00")
        assert _get(f"{base}/check")[0] == 503
        assert 'portabl_job_late{job="nightly"} 1.0' in _get(f"{base}/metrics")[1]
        assert _get(f"{base}/healthz")[0] == 503, "nobody has looked after the jobs for days"
        assert _get(f"{base}/etc/passwd")[0] == 404


# The real daemon, in a process of its own.


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    made = shell(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    return made


@dataclass
class Process:
    """A daemon process and the lines it has said."""

    child: subprocess.Popen[str]
    lines: list[str]
    said: threading.Condition

    def wait(self, words: str) -> str:
        """The next line with these words; fails when there is none in two minutes."""
        end = time.monotonic() + 120
        with self.said:
            while not (found := [line for line in self.lines if words in line]):
                assert self.child.poll() is None or self.said.wait(1), self.lines
                self.said.wait(min(1, max(0, end - time.monotonic())))
                assert time.monotonic() < end, self.lines
            self.lines[:] = self.lines[self.lines.index(found[0]) + 1 :]
            return found[0]


@contextmanager
def process(here: Shell, *more: str) -> Iterator[Process]:
    """`portabl jobs serve` on a port of its own."""
    command = here.command("jobs", "serve", "--listen", "127.0.0.1:0", *more)
    child = subprocess.Popen(
        command, cwd=here.folder, env=dict(here.environment), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    made = Process(child, [], threading.Condition())

    def read() -> None:
        assert child.stderr
        for line in child.stderr:
            with made.said:
                made.lines.append(line)
                made.said.notify_all()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield made
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        thread.join(60)
        assert child.stderr
        child.stderr.close()


def _overdue(here: Shell, *names: str) -> None:
    """Make jobs known long ago, so that the daemon has something to catch up with."""
    from portabl import providers
    from portabl.jobs.config import load
    from portabl.jobs.store import Store

    jobs = load(providers.load(str(here.folder / "portabl.toml")))
    name = hashlib.sha256(os.fsencode(str(here.folder / "portabl.toml"))).hexdigest()[:16]
    with Store(here.state / "scheduled" / name) as records:
        for one in names:
            records.see(jobs.job(one), datetime.now(UTC) - timedelta(days=2))


def test_the_daemon_catches_up_reloads_and_stops_cleanly(here: Shell) -> None:
    table = NIGHTLY + 'schedule = "0 * * * *"\ngrace = "2h"\n'
    here.configure(table)
    _overdue(here, "nightly")
    with process(here) as daemon:
        url = daemon.wait("serving 1 jobs on").split()[-1]
        daemon.wait("job nightly: ended with 0")
        assert (here.folder / "copy" / "a").read_text() == "1"
        assert json.loads(_get(f"{url}/healthz")[1])["status"] == "ok"
        assert 'portabl_job_runs_total{job="nightly",result="ok"} 1.0' in _get(f"{url}/metrics")[1]
        here.configure(table + "nonsense = 1\n")
        daemon.child.send_signal(signal.SIGHUP)
        assert "nonsense" in daemon.wait("was not reloaded")
        here.configure(table, table.replace("nightly", "more").replace("copy", "copy2"))
        daemon.child.send_signal(signal.SIGHUP)
        daemon.wait("configuration reloaded: 2 jobs")
        daemon.child.send_signal(signal.SIGTERM)
        daemon.wait("stopped")
        assert daemon.child.wait(60) == 0
    assert here.portabl("jobs", "check").code == 0


def test_a_run_that_is_killed_is_told_at_once_and_one_that_hangs_is_killed_at_the_end(here: Shell) -> None:
    """The source accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent, receiver() as hook:
        provider = f'[providers.silent]\ntype = "s3"\nendpoint = "http://127.0.0.1:{silent.getsockname()[1]}"\n'
        provider += 'access_key_id = "x"\nsecret_access_key = "y"\n'
        alert = f'[alerts.ops]\ntype = "webhook"\nurl = "{hook.url}"\n'
        table = NIGHTLY.replace('"data"', '"silent:bucket"') + 'schedule = "0 * * * *"\ngrace = "2h"\ndeadline = "9d"\n'
        here.configure(provider, alert, table + 'on_failure = ["ops"]\n')
        _overdue(here, "nightly")
        with process(here, "--stop-seconds", "0.1") as daemon:
            daemon.wait("serving 1 jobs")
            silent.accept()[0].close()
            run = _running(here)
            os.kill(run.pid, signal.SIGKILL)
            daemon.wait("job nightly: ended with -9")
            while not hook.seen:
                time.sleep(0.01)
            said = json.loads(hook.seen[0][3])
            assert (said["event"], said["run"]) == ("interrupted", run.id)
        with process(here, "--stop-seconds", "0.1") as daemon:
            daemon.wait("catching up")
            pid = _running(here).pid
            daemon.child.send_signal(signal.SIGTERM)
            daemon.wait("stopped")
            assert daemon.child.wait(60) == 0
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    assert here.portabl("jobs", "check").code == 3


def _running(here: Shell) -> Run:
    from portabl.jobs.store import Store

    (place,) = (here.state / "scheduled").iterdir()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with Store(place) as records:
            if run := records.running("nightly"):
                return run
        time.sleep(0.02)
    raise AssertionError("nothing runs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--listen", "nonsense"), "is no HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), "is no HOST:PORT"),
        (("--listen", "192.0.2.1:1"), "cannot listen on 192.0.2.1:1"),
        (("--parallel", "0"), "parallel"),
    ],
)
def test_bad_options(here: Shell, arguments: tuple[str, ...], words: str) -> None:
    here.configure(SCHEDULED)
    here.portabl("jobs", "serve", *arguments).clear(2, words)
