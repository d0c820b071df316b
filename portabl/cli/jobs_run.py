"""``portabl jobs run``, ``check``, ``enable``, ``disable`` and ``test-alerts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from portabl.cli.jobs_output import opened
from portabl.cli.options import as_json, common
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.jobs.check import Health
    from portabl.jobs.outcome import Outcome
    from portabl.jobs.run import Runner
    from portabl.jobs.store import Run

_RUN = """Run one job now: this is what any scheduler calls.

The job's lock keeps a second run out (exit code 2); a run that was interrupted or killed is gone on with; the run is
recorded, and those whom `on_failure` or `on_success` name are told. Otherwise the exit codes are those of `portabl
migrate`: 0 only when everything is proven.

\b
Examples
  portabl jobs run nightly
  portabl jobs run nightly --if-due      do nothing unless its own schedule asks for it
"""
_CHECK = """Say whether the jobs are well: for monitoring systems.

Exit code 3 when the last run of a job did not end well, or when one did not end well in time: within `deadline` of
the time it was due, or, where none is set, before the next one was due. A disabled job is named, and is no failure.

\b
Examples
  portabl jobs check
  portabl jobs check --nagios            one line and the exit codes of Nagios and Icinga plugins
  portabl jobs check --alert             tell those named in `on_failure`, once, about a job that is late
"""
_ENABLE = """Run a job again that `portabl jobs disable` has stopped.

\b
Example
  portabl jobs enable nightly
"""
_DISABLE = """Run a job no more, whoever asks, until `portabl jobs enable`; a run that goes on is not stopped.

\b
Example
  portabl jobs disable nightly
"""
_TEST = """Send a test message to everybody a job would tell, except to the dead man's switch.

\b
Example
  portabl jobs test-alerts nightly
"""


@click.command("run", help=_RUN)
@click.argument("name", metavar="NAME")
@click.option("--if-due", is_flag=True, help="Do nothing, with exit code 0, unless a run is due and was not tried yet.")
@click.option("--trigger", default="hand", hidden=True, help="Who asks.")
@click.option("--due", default="", hidden=True, help="The scheduled time this run is for.")
@as_json
@common
@click.pass_obj
def run_command(session: Session, /, name: str, if_due: bool, trigger: str, due: str) -> int:
    """See _RUN."""
    from portabl.jobs import clock
    from portabl.jobs.run import is_due

    with opened(session) as runner:
        job = runner.jobs.job(name)
        if if_due:
            moment = is_due(job, runner.store, runner.now())
            if moment is None:
                return _nothing_to_do(session, name)
            trigger, due = "schedule", clock.text(moment)
        progress = session.progress()
        with stop_on_signals() as stop:
            try:
                run, outcome = runner.run(job, trigger=trigger, due=due, progress=progress, stop=stop)
            finally:
                progress.close()
    _say_run(session, run, outcome)
    return outcome.exit_code


def _nothing_to_do(session: Session, name: str) -> int:
    if session.json:
        session.document({"document": "portabl job run", "version": 1, "job": name, "run": None, "exit_code": 0})
    else:
        session.tell(f"job {plain(name)}: no run is due")
    return 0


def _say_run(session: Session, run: Run, outcome: Outcome) -> None:
    if session.json:
        document = {"document": "portabl job run", "version": 1, "job": run.job, "run": run.document()}
        session.document(document | {"report": outcome.document, "exit_code": outcome.exit_code})
        return
    session.say(f"job {run.job}, run {run.id}: {run.result}")
    session.say(outcome.text)


@click.command("check", help=_CHECK)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--nagios", is_flag=True, help="One line; exit code 0 OK, 2 CRITICAL.")
@click.option(
    "--alert", is_flag=True, help="Send the `on_failure` alerts of jobs that are late, once for each due time."
)
@as_json
@common
@click.pass_obj
def check_command(session: Session, /, names: tuple[str, ...], nagios: bool, alert: bool) -> int:
    """See _CHECK."""
    with opened(session) as runner:
        from portabl.jobs import check

        runner.jobs.required()
        wanted = [runner.jobs.job(name) for name in names] or list(runner.jobs.jobs.values())
        found = [check.health(job, runner.store, runner.now()) for job in wanted]
        if alert:
            check.raise_alarms(runner, found)
    bad = [one for one in found if not one.well]
    if nagios:
        session.say(_nagios(found, bad))
        return 2 if bad else 0
    code = 3 if bad else 0
    if session.json:
        jobs = [check.document(one) for one in found]
        session.document({"document": "portabl jobs check", "version": 1, "jobs": jobs, "exit_code": code})
        return code
    for one in found:
        session.say(f"{one.job}: {one.state}{f': {plain(one.message)}' if one.message else ''}")
    return code


def _nagios(found: list[Health], bad: list[Health]) -> str:
    what = ", ".join(f"{one.job}: {one.state}: {plain(one.message)}" for one in bad) or f"{len(found)} jobs are well"
    state = "CRITICAL" if bad else "OK"
    return f"PORTABL {state} - {what.replace('|', '/')} | jobs={len(found)} not_well={len(bad)};;0"


@click.command("enable", help=_ENABLE)
@click.argument("name", metavar="NAME")
@as_json
@common
@click.pass_obj
def enable_command(session: Session, /, name: str) -> int:
    """See _ENABLE."""
    from portabl.errors import ConfigError

    with opened(session) as runner:
        job = runner.jobs.job(name)
        runner.store.enable(job, runner.now())
        if not job.enabled:
            raise ConfigError(f"{job.where('enabled')}: is false there", hint="remove the line, or set it to true")
    return _switched(session, runner, name, enabled=True)


@click.command("disable", help=_DISABLE)
@click.argument("name", metavar="NAME")
@as_json
@common
@click.pass_obj
def disable_command(session: Session, /, name: str) -> int:
    """See _DISABLE."""
    with opened(session) as runner:
        runner.store.disable(runner.jobs.job(name), runner.now())
    return _switched(session, runner, name, enabled=False)


def _switched(session: Session, _runner: Runner, name: str, *, enabled: bool) -> int:
    document: dict[str, Any] = {"document": "portabl job switch", "version": 1, "job": name, "enabled": enabled}
    if session.json:
        session.document(document | {"exit_code": 0})
    else:
        session.tell(f"job {name} is {'enabled' if enabled else 'disabled'}")
    return 0


@click.command("test-alerts", help=_TEST)
@click.argument("name", metavar="NAME")
@as_json
@common
@click.pass_obj
def test_alerts_command(session: Session, /, name: str) -> int:
    """See _TEST."""
    from portabl.jobs import alerts, clock
    from portabl.jobs.run import message_of
    from portabl.jobs.store import Run

    with opened(session) as runner:
        job = runner.jobs.job(name)
        names = list(dict.fromkeys((*job.on_failure, *job.on_success)))
        run = Run(0, job.name, job.kind, "test", "", clock.text(runner.now()), result="test")
        message = message_of(job, run, "test", summary=f"a test of the alerts of job {job.name}")
        results = {one: alerts.send(runner.jobs.alerts[one], message, runner.sleep) for one in names}
    code = 0 if names and not any(results.values()) else 3
    if session.json:
        session.document({"document": "portabl jobs alerts", "version": 1, "alerts": results, "exit_code": code})
        return code
    for one, reason in results.items():
        session.say(f"{one}: {f'NOT delivered: {reason}' if reason else 'delivered'}")
    if not names:
        session.tell(f"job {name} tells nobody: set `on_failure`")
    return code
