"""What is remembered of scheduled jobs: every run, who is disabled, what was read when; and each job's lock.

One directory per configuration file, ``scheduled/<id>/`` in the user's state directory::

    about.json           which portabl.toml it belongs to
    runs.sqlite3         runs, jobs, rings
    NAME.lock            held while a run of the job goes on; the system frees it when the process ends, however it ends

So a lock is never stale: a run that is recorded as running while nobody holds its job's lock was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from portabl.errors import JobLocked, StateFull, UsageError
from portabl.jobs import clock
from portabl.jobs.config import ScheduledJob
from portabl.jobs.ring import Position
from portabl.state import default_root, disk_errors, state_error

VERSION = 1
RUNS_KEPT = 10_000
"""Per job; older ones are forgotten."""

LOCK_SECONDS = 2.0
"""How long a run waits for its lock: longer than `Store.is_running` holds it to look."""

SKEW = timedelta(seconds=60)
"""A run that began this much before a due time counts for it: a scheduler's clock need not be this machine's."""

ENDED = ("ok", "failed", "interrupted", "missed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, kind TEXT NOT NULL, trigger TEXT NOT NULL,
    due TEXT NOT NULL, started TEXT NOT NULL, finished TEXT NOT NULL, result TEXT NOT NULL, exit_code INTEGER,
    objects INTEGER NOT NULL, bytes INTEGER NOT NULL, changes INTEGER NOT NULL, manifest TEXT NOT NULL,
    message TEXT NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL, resumes INTEGER, alerts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS run_of_job ON run (job, id);
CREATE TABLE IF NOT EXISTS job (
    name TEXT PRIMARY KEY, schedule TEXT NOT NULL, since TEXT NOT NULL, disabled TEXT NOT NULL, alarmed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ring (
    job TEXT NOT NULL, name TEXT NOT NULL, place REAL NOT NULL, read TEXT NOT NULL, PRIMARY KEY (job, name));
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are UTC, RFC 3339, "" when unknown.

    ``result``: running, ok, failed, interrupted, missed (was due, nothing ran) or skipped (another run was going on).
    ``due``: the scheduled time it is for, "" by hand. ``changes``: objects copied and deleted, or found different.
    ``resumes``: the interrupted run it went on from. ``alerts``: what became of them, "" when there were none.
    """

    id: int
    job: str
    kind: str
    trigger: str
    due: str
    started: str
    finished: str = ""
    result: str = "running"
    exit_code: int | None = None
    objects: int = 0
    bytes: int = 0
    changes: int = 0
    manifest: str = ""
    message: str = ""
    pid: int = 0
    host: str = ""
    resumes: int | None = None
    alerts: str = ""

    @property
    def duration_seconds(self) -> float | None:
        """How long it took, None when that is not known."""
        if not self.started or not self.finished:
            return None
        return (clock.moment(self.finished) - clock.moment(self.started)).total_seconds()

    def document(self) -> dict[str, Any]:
        """The run for programs."""
        return {**asdict(self), "duration_seconds": self.duration_seconds}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a job itself. ``since``: from when on it is expected to run; ``disabled``: when, or ""."""

    since: datetime
    disabled: str
    alarmed: str


_COLUMNS = ", ".join(field.name for field in fields(Run))


def default_place(config_path: str) -> Path:
    """Where runs of this configuration file's jobs are remembered."""
    path = os.path.abspath(config_path)  # no links followed: Kubernetes swaps what a ConfigMap's file points to
    return default_root() / "scheduled" / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


class Store:
    """The memory of one configuration's jobs. Context manager; safe to open from many processes at once."""

    def __init__(self, place: Path, config_path: str = "") -> None:
        self.place = place
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            about = place / "about.json"
            if config_path and not about.exists():
                about.write_text(json.dumps({"config": os.path.abspath(config_path)}) + "\n", encoding="utf-8")
        with self._translated():
            self._db = sqlite3.connect(place / "runs.sqlite3", timeout=30, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            self._db.close()
            raise UsageError(
                f"the run records in {self.place} were written by a newer portabl", hint="upgrade portabl here"
            )
        if version < VERSION:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                hint = "free space and run the same command again"
                raise StateFull(f"no space left for the run records in {self.place}", hint=hint) from error
            hint = "move the directory away; the next run then begins a new history"
            raise UsageError(f"the run records in {self.place} cannot be used: {error}", hint=hint) from error

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        with self._translated():
            return self._db.execute(sql, values).fetchall()

    # the lock

    @contextlib.contextmanager
    def lock(self, job: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold a job's lock. Raises JobLocked, naming the run that holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.place / f"{job}.lock", timeout=seconds)
        try:
            lock.acquire()
        except OSError as error:
            if not isinstance(error, Timeout):
                raise state_error(error, self.place) from error
            going = self.last(job, "running", *ENDED)
            who = f" (run {going.id}, process {going.pid} on {going.host}, since {going.started})" if going else ""
            hint = "wait for it to end, see `portabl jobs history`"
            raise JobLocked(f"a run of the job `{job}` is going on{who}", hint=hint) from None
        try:
            yield
        finally:
            lock.release()

    def is_running(self, job: str) -> bool:
        """Whether anybody holds the job's lock."""
        try:
            with self.lock(job, 0):
                return False
        except JobLocked:
            return True

    # runs

    def begin(
        self, job: ScheduledJob, now: datetime, *, trigger: str, due: str = "", resumes: int | None = None
    ) -> Run:
        """Record the start of a run."""
        return self._insert(job, now, trigger=trigger, due=due, resumes=resumes)

    def note(self, job: ScheduledJob, now: datetime, **values: object) -> Run:
        """Record what is over as it is noticed: a missed or skipped run."""
        return self._insert(job, now, finished=clock.text(now), **values)

    def _insert(self, job: ScheduledJob, now: datetime, **values: object) -> Run:
        run = Run(0, job.name, job.kind, "", "", clock.text(now), pid=os.getpid(), host=socket.gethostname())
        row = {field.name: getattr(run, field.name) for field in fields(Run) if field.name != "id"} | values
        marks = ", ".join("?" * len(row))
        with self._translated():
            done = self._db.execute(f"INSERT INTO run ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
            oldest = (done.lastrowid or 0) - RUNS_KEPT
            self._db.execute("DELETE FROM run WHERE job = ? AND id < ? AND result != 'running'", (job.name, oldest))
        return self.run(done.lastrowid or 0)

    def update(self, run: Run, **values: object) -> Run:
        """Change a run's record."""
        parts = ", ".join(f"{name} = ?" for name in values)
        self._all(f"UPDATE run SET {parts} WHERE id = ?", (*values.values(), run.id))  # noqa: S608 - names are ours
        return self.run(run.id)

    def run(self, number: int) -> Run:
        """The run of that number."""
        return self._runs("WHERE id = ?", number)[0]

    def _runs(self, rest: str, *values: object) -> list[Run]:
        rows = self._all(f"SELECT {_COLUMNS} FROM run {rest}", values)  # noqa: S608 - the rest is ours
        return [Run(*row) for row in rows]  # type: ignore[arg-type]

    def history(self, job: str = "", count: int = 20) -> list[Run]:
        """The newest runs, newest first."""
        if job:
            return self._runs("WHERE job = ? ORDER BY id DESC LIMIT ?", job, count)
        return self._runs("ORDER BY id DESC LIMIT ?", count)

    def newest(self) -> int:
        """The number of the newest run of all jobs, 0 when there is none."""
        return next((run.id for run in self.history("", 1)), 0)

    def running(self, job: str) -> Run | None:
        """The run that is recorded as going on."""
        return next(iter(self._runs("WHERE job = ? AND result = 'running' ORDER BY id DESC LIMIT 1", job)), None)

    def killed(self, job: str) -> list[Run]:
        """Runs recorded as going on. Who holds the job's lock knows that they were killed."""
        return self._runs("WHERE job = ? AND result = 'running' ORDER BY id", job)

    def last(self, job: str, *results: str) -> Run | None:
        """The newest run with one of these results; by default, any that ended."""
        wanted = results or ENDED
        marks = ", ".join("?" * len(wanted))
        return next(
            iter(self._runs(f"WHERE job = ? AND result IN ({marks}) ORDER BY id DESC LIMIT 1", job, *wanted)), None
        )

    def last_manifest(self, job: str) -> str:
        """The manifest the newest run that wrote one left, "" when there is none."""
        found = self._runs("WHERE job = ? AND manifest != '' ORDER BY id DESC LIMIT 1", job)
        return found[0].manifest if found else ""

    def covered(self, job: str, due: datetime, *results: str) -> bool:
        """Whether a run with one of these results began for ``due`` or after it."""
        marks = ", ".join("?" * len(results))
        rest = f"WHERE job = ? AND result IN ({marks}) AND (started >= ? OR due = ?) LIMIT 1"
        return bool(self._runs(rest, job, *results, clock.text(due - SKEW), clock.text(due)))

    def totals(self) -> Mapping[tuple[str, str], int]:
        """Number of runs by job and result."""
        rows = self._all("SELECT job, result, count(*) FROM run GROUP BY job, result")
        return {(str(job), str(result)): int(str(count)) for job, result, count in rows}

    # jobs

    def see(self, job: ScheduledJob, now: datetime) -> Seen:
        """What is remembered of a job. One that is new, or has a new schedule, is expected from now on."""
        schedule = f"{job.schedule.expression} {job.schedule.zone.key}" if job.schedule else ""
        rows = self._all("SELECT schedule, since, disabled, alarmed FROM job WHERE name = ?", (job.name,))
        if not rows or rows[0][0] != schedule:
            self._all(
                "INSERT INTO job VALUES (?, ?, ?, '', '')"
                " ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, since = excluded.since",
                (job.name, schedule, clock.text(now)),
            )
            rows = self._all("SELECT schedule, since, disabled, alarmed FROM job WHERE name = ?", (job.name,))
        _, since, disabled, alarmed = map(str, rows[0])
        return Seen(clock.moment(since), disabled, alarmed)

    def disable(self, job: ScheduledJob, now: datetime) -> None:
        """From now on it is not run."""
        if not self.see(job, now).disabled:
            self._all("UPDATE job SET disabled = ? WHERE name = ?", (clock.text(now), job.name))

    def enable(self, job: ScheduledJob, now: datetime) -> None:
        """From now on it is expected again; what was due meanwhile is not missed."""
        if self.see(job, now).disabled:
            self._all("UPDATE job SET disabled = '', since = ? WHERE name = ?", (clock.text(now), job.name))

    def alarm(self, job: str, due: datetime) -> bool:
        """Whether being late for ``due`` is news: True once, to one of those who ask."""
        text = clock.text(due)
        with self._translated():
            return (
                self._db.execute(
                    "UPDATE job SET alarmed = ? WHERE name = ? AND alarmed < ?", (text, job, text)
                ).rowcount
                == 1
            )

    # rings of verification jobs

    def ring(self, job: str, name: str) -> Position | None:
        """How far a job has read what is called so, None at first."""
        rows = self._all("SELECT place, read FROM ring WHERE job = ? AND name = ?", (job, name))
        return Position(float(str(rows[0][0])), clock.moment(str(rows[0][1]))) if rows else None

    def move_ring(self, job: str, name: str, position: Position) -> None:
        """It has been read up to there."""
        row = (job, name, position.place, clock.text(position.read))
        self._all("INSERT OR REPLACE INTO ring VALUES (?, ?, ?, ?)", row)

    def keep_rings(self, job: str, names: Sequence[str]) -> None:
        """Forget all others of this job."""
        for (name,) in self._all("SELECT name FROM ring WHERE job = ?", (job,)):
            if name not in names:
                self._all("DELETE FROM ring WHERE job = ? AND name = ?", (job, name))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
