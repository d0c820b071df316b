"""What the ``portabl jobs`` commands share: opening jobs and their records, and how both look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from portabl.cli.output import Session
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.jobs.config import ScheduledJob
    from portabl.jobs.run import Runner


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
