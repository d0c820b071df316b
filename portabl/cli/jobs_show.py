"""``portabl jobs list``, ``show``, ``next`` and ``history``: looking, changing nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from portabl.cli.jobs_output import (
    duration,
    job_document,
    opened,
    short,
    table,
    when,
)
from portabl.cli.options import as_json, common
from portabl.cli.output import Session
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.jobs.store import Run

_LIST = """List the jobs: what they are, when they run next, and how they are.

\b
Example
  portabl jobs list --json
"""
_SHOW = """Show one job: its definition, its last run and its next one.

\b
Example
  portabl jobs show nightly
"""
_NEXT = """Show when jobs are due next, in their own time zone and in UTC.

\b
Examples
  portabl jobs next
  portabl jobs next nightly --count 10
"""
_HISTORY = """Show the runs of one job, or of all, newest first.

\b
Examples
  portabl jobs history
  portabl jobs history nightly --count 100 --json
"""


@click.command("list", help=_LIST)
@as_json
@common
@click.pass_obj
def list_command(session: Session, /) -> int:
    """See _LIST."""
    with opened(session) as runner:
        from portabl.jobs import check

        runner.jobs.required()
        found = [(job, check.health(job, runner.store, runner.now())) for job in runner.jobs.jobs.values()]
    if session.json:
        rows = [{**job_document(job), "health": check.document(one)} for job, one in found]
        session.document({"document": "portabl jobs", "version": 1, "jobs": rows, "exit_code": 0})
        return 0
    head = ("JOB", "KIND", "SCHEDULE", "NEXT", "STATE", "LAST RUN")
    lines = [head]
    for job, one in found:
        schedule = f"{job.schedule.expression} ({job.schedule.zone.key})" if job.schedule else "by hand"
        last = f"{short(one.last.started)} {one.last.result}" if one.last else "-"
        lines.append((job.name, job.kind, schedule, when(one.due, job), one.state, last))
    session.say(table(lines))
    return 0


@click.command("show", help=_SHOW)
@click.argument("name", metavar="NAME")
@as_json
@common
@click.pass_obj
def show_command(session: Session, /, name: str) -> int:
    """See _SHOW."""
    with opened(session) as runner:
        from portabl.jobs import check

        job = runner.jobs.job(name)
        found = check.health(job, runner.store, runner.now())
    definition = job_document(job)
    if session.json:
        document = {"document": "portabl job definition", "version": 1, "job": definition}
        session.document(document | {"health": check.document(found), "exit_code": 0})
        return 0
    rows = [(key, _value(value)) for key, value in definition.items() if value not in (None, [], "", False)]
    rows += [("state", f"{found.state}{f': {plain(found.message)}' if found.message else ''}")]
    rows += [("next", when(found.due, job))]
    if found.last:
        rows += [("last run", _run_text(found.last))]
    session.say(table(rows))
    return 0


def _value(value: object) -> str:
    return plain(value) if isinstance(value, str) else json.dumps(value)


def _run_text(run: Run) -> str:
    took = f", {duration(run.duration_seconds)}" if run.finished else ""
    return f"{run.id}: {run.result}, began {short(run.started)}{took}"


@click.command("next", help=_NEXT)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--count", type=click.IntRange(1, 1000), default=3, show_default=True, help="Times for each job.")
@as_json
@common
@click.pass_obj
def next_command(session: Session, /, name: str | None, count: int) -> int:
    """See _NEXT."""
    from portabl.jobs import clock
    from portabl.jobs.config import load

    jobs = load(session.config())
    jobs.required()
    wanted = [jobs.job(name)] if name else list(jobs.jobs.values())
    found = []
    for job in wanted:
        moment = clock.now()
        for _ in range(count if job.schedule else 0):
            assert job.schedule is not None
            moment = job.schedule.after(moment)
            found.append((moment, job))
    found.sort(key=lambda one: (one[0], one[1].name))
    if session.json:
        times = [{"job": job.name, "due": clock.text(moment), "local": when(moment, job)} for moment, job in found]
        session.document({"document": "portabl jobs due", "version": 1, "times": times, "exit_code": 0})
    elif found:
        session.say(table([(job.name, when(moment, job), f"{moment:%Y-%m-%d %H:%M}Z") for moment, job in found]))
    else:
        session.tell("no schedule: such a job runs when somebody runs it")
    return 0


@click.command("history", help=_HISTORY)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Runs to show.")
@as_json
@common
@click.pass_obj
def history_command(session: Session, /, name: str | None, count: int) -> int:
    """See _HISTORY."""
    from portabl.report import size_text

    with opened(session) as runner:
        if name:
            runner.jobs.job(name)
        runs = runner.store.history(name or "", count)
    if session.json:
        rows = [run.document() for run in runs]
        session.document({"document": "portabl jobs history", "version": 1, "runs": rows, "exit_code": 0})
        return 0
    if not runs:
        session.tell("no run is recorded yet")
        return 0
    lines = [("RUN", "JOB", "STARTED", "TOOK", "RESULT", "EXIT", "OBJECTS", "SIZE", "CHANGES", "MANIFEST OR MESSAGE")]
    for run in runs:
        code = "-" if run.exit_code is None else str(run.exit_code)
        figures = (f"{run.objects:,}", size_text(run.bytes), f"{run.changes:,}")
        told = plain(run.manifest if run.result == "ok" and run.manifest else run.message or run.manifest)
        took = duration(run.duration_seconds)
        lines.append((str(run.id), run.job, short(run.started), took, run.result, code, *figures, told))
    session.say(table(lines))
    return 0
