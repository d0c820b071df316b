"""`portabl jobs serve`: a scheduler in the foreground.

APScheduler is the clock: it sleeps, fires, coalesces, and limits how many runs go on at once. When a job is due comes
from `portabl.jobs.schedule`, because APScheduler's own cron trigger runs a nightly job twice when the clocks go back
and counts days of the week from Monday. Each run is a process of its own, `portabl jobs run NAME`, so whatever ends it,
even the kernel for want of memory, ends nothing else, and is recorded and told at once.
"""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from portabl.errors import PortablError
from portabl.jobs import check, clock
from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.run import Runner, is_due
from portabl.jobs.schedule import Schedule
from portabl.jobs.store import Store

WATCH_SECONDS = 60
"""How often it is looked whether a job is late."""

STOP_SECONDS = 120.0
"""How long runs have to stop in order; then they are killed, which is safe too."""

WATCH = "portabl:watch"


class Due(BaseTrigger):  # type: ignore[misc]
    """APScheduler's trigger for a `Schedule`."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first due time after the previous one: those that were missed come too, and are coalesced."""
        return self.schedule.after(previous_fire_time or now)

    def __str__(self) -> str:
        return f"{self.schedule.expression} {self.schedule.zone.key}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. ``parallel``: runs at once. ``place``: the records' directory."""

    place: Path
    parallel: int = 2
    stop_seconds: float = STOP_SECONDS


@dataclass
class Status:
    """What the health endpoint and the metrics ask. ``watched``: when it was last looked after everything."""

    jobs: Jobs
    started: datetime
    watched: datetime
    reloaded: datetime
    reload_failed: bool = False
    running: set[str] = field(default_factory=set)


Launch = Callable[[ScheduledJob, str], int]
"""Runs a job for a due time, waits for its end, returns its exit code (below 0: the signal that ended it)."""


class Daemon:
    """Serves the jobs that ``load`` reads until it is asked to stop."""

    def __init__(
        self,
        load: Callable[[], Jobs],
        settings: Settings,
        *,
        launch: Launch | None = None,
        now: Callable[[], datetime] = clock.now,
        tell: Callable[[str], object] = lambda _: None,
        sleep: Callable[[float], object] | None = None,
        scheduler: Any = None,
        pool: Callable[[int], Any] = ThreadPoolExecutor,
    ) -> None:
        self._load = load
        self._settings = settings
        self.now = now
        self._tell = tell
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._children = Children(settings.stop_seconds)
        self._launch = launch or self._children.run
        self._scheduler = scheduler or BackgroundScheduler(timezone=UTC)
        self._pool = pool
        jobs = load()
        jobs.required()
        self.status = Status(jobs, now(), now(), now())
        self._guard = threading.Lock()
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # it tells what is told here in other words

    @contextmanager
    def runner(self) -> Iterator[Runner]:
        """The jobs as they are now, and their records; for one thread."""
        with Store(self._settings.place, self.status.jobs.config.path) as store:
            yield Runner(self.status.jobs, store, self.now, self._tell, self._sleep)

    def start(self) -> None:
        """Begin to fire; what was missed is caught up with, what is too old is told of."""
        self._scheduler.add_executor(self._pool(self._settings.parallel), "default")
        self._scheduler.add_executor(self._pool(1), "watch")
        self._scheduler.add_listener(self._on_missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._on_overlap, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_job(
            self._watch, "interval", seconds=WATCH_SECONDS, id=WATCH, executor="watch", coalesce=True,
            misfire_grace_time=None, next_run_time=self.now(),
        )  # fmt: skip
        self._arrange()
        self._scheduler.start()

    def _arrange(self) -> None:
        """Give the scheduler the jobs of the configuration, and what has to be caught up with."""
        for planned in self._scheduler.get_jobs():
            if planned.id != WATCH and planned.trigger is not None and isinstance(planned.trigger, Due):
                planned.remove()
        with self.runner() as runner:
            for job in self.status.jobs.jobs.values():
                if job.schedule is not None and job.enabled:
                    self._plan(job, job.schedule)
                    self._catch_up(runner, job)

    def _plan(self, job: ScheduledJob, schedule: Schedule) -> None:
        grace = max(1, int(job.grace.total_seconds()))
        self._scheduler.add_job(
            self._fire, Due(schedule), args=(job.name,), id=job.name, coalesce=True, max_instances=1,
            misfire_grace_time=grace, next_run_time=schedule.after(self.now()),
        )  # fmt: skip

    def _catch_up(self, runner: Runner, job: ScheduledJob) -> None:
        """What was due while nobody served: run it now, or say that it is too late."""
        due = is_due(job, runner.store, self.now())
        if due is None or due > self.now() or job.name in self.status.running or runner.store.is_running(job.name):
            return
        last = runner.store.last(job.name)
        interrupted = runner.store.running(job.name) is not None or (last is not None and last.result == "interrupted")
        if interrupted or self.now() - due <= job.grace:
            self._tell(f"job {job.name}: catching up with {clock.text(due)}")
            self._scheduler.add_job(
                self._fire, args=(job.name, clock.text(due)), id=f"{job.name}:now", replace_existing=True,
                misfire_grace_time=None, next_run_time=self.now(),
            )  # fmt: skip
        else:
            self._tell(f"job {job.name}: missed {clock.text(due)}")
            runner.missed(job, due)

    # what the scheduler calls, in its threads

    def _guarded(self, what: str, call: Callable[[], None]) -> None:
        """Nobody waits for these threads: what goes wrong in them is told, and the daemon lives on."""
        try:
            call()
        except PortablError as error:
            self._tell(f"error: {what}: {error}")
        except Exception as error:
            self._tell(f"error: {what}: unexpected {type(error).__name__}: {error}")

    def _fire(self, name: str, due: str = "") -> None:
        self._guarded(f"job {name}", lambda: self._run(name, due))

    def _run(self, name: str, due: str) -> None:
        with self.runner() as runner:
            job = runner.jobs.jobs.get(name)
            if job is None or self._stopping.is_set():
                return
            if runner.store.see(job, self.now()).disabled:
                self._tell(f"job {name}: is due, but disabled")
                return
            before = runner.store.newest()
            latest = job.schedule.latest(self.now()) if job.schedule and not due else None
            with self._guard:
                self.status.running.add(name)
            try:
                code = self._launch(job, due or (clock.text(latest) if latest else ""))
            finally:
                with self._guard:
                    self.status.running.discard(name)
            self._tell(f"job {name}: ended with {code}")
            self._look_after(runner, job, before, code)

    def _look_after(self, runner: Runner, job: ScheduledJob, before: int, code: int) -> None:
        """A run that was killed, or could not even begin, cannot say so itself."""
        left = runner.store.running(job.name)
        if left is not None and not runner.store.is_running(job.name):
            with runner.store.lock(job.name):
                runner.close_killed(job, left)
        elif code != 0 and not [run for run in runner.store.history(job.name, 5) if run.id > before]:
            runner.could_not_begin(job, code)

    def _watch(self) -> None:
        self._guarded("looking after the jobs", self._look_for_late_ones)

    def _look_for_late_ones(self) -> None:
        with self.runner() as runner:
            found = check.check(runner.jobs, runner.store, self.now())
            for name in check.raise_alarms(runner, found):
                self._tell(f"job {name}: is late")
        self.status.watched = self.now()

    def _on_missed(self, event: Any) -> None:
        self._guarded(f"job {event.job_id}", lambda: self._miss(event))

    def _miss(self, event: Any) -> None:
        with self.runner() as runner:
            job = runner.jobs.jobs.get(event.job_id)
            if job is not None:
                self._tell(f"job {job.name}: missed {clock.text(event.scheduled_run_time)}")
                runner.missed(job, event.scheduled_run_time)

    def _on_overlap(self, event: Any) -> None:
        self._guarded(f"job {event.job_id}", lambda: self._overlap(event))

    def _overlap(self, event: Any) -> None:
        with self.runner() as runner:
            job = runner.jobs.jobs.get(event.job_id)
            if job is not None:
                due = clock.text(max(event.scheduled_run_times))
                self._tell(f"job {job.name}: is due at {due}, but a run is going on")
                runner.note_skipped(job, "schedule", due, "the run before was still going on")

    # asked from outside

    def reload(self) -> None:
        """Read the configuration anew; a broken one changes nothing and is told."""
        try:
            jobs = self._load()
            jobs.required()
        except PortablError as error:
            self.status.reload_failed = True
            self._tell(f"error: the configuration was not reloaded, the one before stays: {error}")
            return
        self.status.jobs, self.status.reload_failed, self.status.reloaded = jobs, False, self.now()
        self._arrange()
        self._tell(f"configuration reloaded: {len(jobs.jobs)} jobs")

    def stop(self) -> None:
        """Fire no more, let runs stop in order, kill those that do not."""
        self._stopping.set()
        self._scheduler.pause()
        self._children.stop()
        self._scheduler.shutdown(wait=True)

    def kill(self) -> None:
        """End every run at once, as a second Ctrl-C asks."""
        self._children.kill()


class Children:
    """The processes of runs that go on."""

    def __init__(self, stop_seconds: float) -> None:
        self._stop_seconds = stop_seconds
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._closed = False

    def run(self, job: ScheduledJob, due: str) -> int:
        """Run a job in a process of its own; its exit code."""
        path = job.origin
        command = [sys.executable, "-m", "portabl", "jobs", "run", job.name, "--config", path, "--quiet"]
        with self._guard:
            if self._closed:
                return -signal.SIGTERM
            child = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, "--trigger", "schedule", "--due", due],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C at the terminal reaches the daemon, which asks the runs to stop
            )
            self._running.add(child)
        try:
            return child.wait()
        finally:
            with self._guard:
                self._running.discard(child)

    def stop(self) -> None:
        """Ask all to stop in order, and kill those that take too long."""
        with self._guard:
            self._closed = True
            going = list(self._running)
        for child in going:
            child.terminate()
        deadline = threading.Event()
        timer = threading.Timer(self._stop_seconds, deadline.set)
        timer.daemon = True
        timer.start()
        while any(child.poll() is None for child in going) and not deadline.wait(0.05):
            pass
        timer.cancel()
        self.kill()

    def kill(self) -> None:
        """End all at once; their jobs go on from there when they are run again."""
        for child in list(self._running):
            child.kill()


def serve(daemon: Daemon, events: queue.SimpleQueue[str]) -> None:
    """Serve until an event says ``stop``; ``reload`` reads the configuration anew."""
    daemon.start()
    try:
        while events.get() == "reload":
            daemon.reload()
    finally:
        daemon.stop()
