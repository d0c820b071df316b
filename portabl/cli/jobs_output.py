"""What the ``portabl jobs`` commands share: opening jobs and their records, and how both look."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from portabl.cli.output import Session
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.jobs.check import Health
    from portabl.jobs.config import Jobs, ScheduledJob
    from portabl.jobs.run import Runner
    from portabl.jobs.store import Run


@contextmanager
def opened(session: Session) -> Iterator[Runner]:
    """The jobs of the configuration and their records."""
    from portabl.jobs import clock
    from portabl.jobs.config import load
    from portabl.jobs.run import Runner
    from portabl.jobs.store import Store, default_place

    jobs = load(session.config())
    with Store(default_place(jobs.config.path), jobs.config.path) as store:
        yield Runner(jobs, store, now=clock.now, tell=lambda line: session.tell(plain(line)))


def required(jobs: Jobs) -> None:
    """No job at all is an error: a check of nothing would always be well. Raises ConfigError."""
    if not jobs.jobs:
        jobs.job("")


def when(moment: datetime | None, job: ScheduledJob) -> str:
    """A due time in the job's own zone."""
    if moment is None or job.schedule is None:
        return "-"
    return f"{moment.astimezone(job.schedule.zone):%a %Y-%m-%d %H:%M %Z}"


def short(written: str) -> str:
    """A recorded time to the second."""
    return f"{written[:10]} {written[11:19]}Z" if written else "-"


def duration(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run_document(run: Run | None) -> dict[str, Any] | None:
    """A run for programs."""
    if run is None:
        return None
    return {**dataclasses.asdict(run), "duration_seconds": run.duration_seconds}


def health_document(found: Health) -> dict[str, Any]:
    """A judgement for programs."""
    from portabl.jobs import clock

    return {
        "job": found.job,
        "state": found.state,
        "well": found.well,
        "message": plain(found.message),
        "due": clock.text(found.due) if found.due else None,
        "missing": clock.text(found.missing) if found.missing else None,
        "last": run_document(found.last),
        "last_ok": run_document(found.last_ok),
    }


def job_document(job: ScheduledJob) -> dict[str, Any]:
    """A job's definition for programs; what may be a secret is left out."""
    from portabl.jobs.fields import span_text
    from portabl.registry import safe_url

    def shown(value: Any) -> Any:
        if isinstance(value, timedelta):
            return span_text(value)
        if isinstance(value, tuple):
            return list(value)
        return safe_url(value) if isinstance(value, str) else value

    values = {name: shown(value) for name, value in job.values.items()}
    common = {name: shown(getattr(job, name)) for name in ("deadline", "timeout", "grace", "on_failure", "on_success")}
    return {
        "name": job.name,
        "kind": job.kind,
        "schedule": job.schedule.expression if job.schedule else None,
        "timezone": job.schedule.zone.key if job.schedule else None,
        "enabled": job.enabled,
        **common,
        "ping": bool(job.ping),
        **values,
    }
