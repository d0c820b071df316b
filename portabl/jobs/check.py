"""Whether jobs are well: the last run ended well, and one that was due has ended in time."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from portabl.jobs import clock
from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.run import Runner, message_of
from portabl.jobs.store import Run, Store
from portabl.keys import plain


@dataclass(frozen=True, slots=True)
class Health:
    """One job. ``state``: ok, waiting (no run was due yet), running, disabled; or, and then it is not well, failed or
    late. ``missing``: the due time that no run has ended well for in time.
    """

    job: str
    state: str
    message: str = ""
    due: datetime | None = None
    missing: datetime | None = None
    last: Run | None = None
    last_ok: Run | None = None

    @property
    def well(self) -> bool:
        """Whether there is nothing to look at."""
        return self.state not in ("failed", "late")


def health(job: ScheduledJob, store: Store, now: datetime) -> Health:
    """Judge one job by what is recorded. Late is one of which nothing has been told yet: no run, or one without end."""
    seen = store.see(job, now)
    last, last_ok = store.last(job.name), store.last(job.name, "ok")
    due = job.schedule.after(now) if job.schedule else None
    if not job.enabled or seen.disabled:
        since = f"since {seen.disabled}" if seen.disabled else "in portabl.toml"
        return Health(job.name, "disabled", f"disabled {since}", None, None, last, last_ok)
    running = store.is_running(job.name)
    missing = overdue(job, store, seen.since, now)
    if missing is not None and not store.covered(job.name, missing, "failed", "interrupted", "missed"):
        what = "a run is going on" if running else "no run has ended well since then"
        return Health(job.name, "late", f"was due at {clock.text(missing)}, {what}", due, missing, last, last_ok)
    if not running and (left := store.running(job.name)):
        return Health(job.name, "failed", f"run {left.id} was killed", due, None, left, last_ok)
    if last is not None and last.result != "ok":
        message = f"run {last.id} {last.result}: {last.message}".rstrip(": ")
        return Health(job.name, "failed", message, due, None, last, last_ok)
    state = "running" if running else "ok" if last else "waiting"
    return Health(job.name, state, "", due, None, last, last_ok)


def document(found: Health) -> dict[str, Any]:
    """A judgement for programs."""
    return {
        "job": found.job,
        "state": found.state,
        "well": found.well,
        "message": plain(found.message),
        "due": clock.text(found.due) if found.due else None,
        "missing": clock.text(found.missing) if found.missing else None,
        "last": found.last.document() if found.last else None,
        "last_ok": found.last_ok.document() if found.last_ok else None,
    }


def overdue(job: ScheduledJob, store: Store, since: datetime, now: datetime) -> datetime | None:
    """The newest due time whose deadline is over without a run that ended well; None when there is none."""
    if job.schedule is None:
        return None
    if job.deadline is not None:
        due = job.schedule.latest(now - job.deadline)
    else:
        following = job.schedule.latest(now)
        due = job.schedule.latest(following - timedelta(seconds=1)) if following else None
    if due is None or due <= since or store.covered(job.name, due, "ok"):
        return None
    return due


def check(jobs: Jobs, store: Store, now: datetime) -> list[Health]:
    """Judge every job."""
    return [health(job, store, now) for job in jobs.jobs.values()]


def raise_alarms(runner: Runner, found: list[Health]) -> list[str]:
    """Tell about jobs that are late, once for each due time; the names of those that were told about."""
    told = []
    for one in found:
        if one.missing is not None and runner.store.alarm(one.job, one.missing):
            job = runner.jobs.job(one.job)
            run = one.last or Run(0, job.name, job.kind, "schedule", "", "", result="missed", host=socket.gethostname())
            due = clock.text(one.missing)
            summary = f"job {job.name} is late: {one.message}"
            runner.send(job, message_of(job, run, "late", summary=summary, due=due, id=f"{job.name}-late-{due}"))
            told.append(one.job)
    return told
