"""One run of a job: lock > clean up > record > work > record > alert."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from portabl.errors import Interrupted, JobLocked, PolicyRefused, PortablError
from portabl.jobs import alerts, clock
from portabl.jobs.alerts import Message
from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.outcome import Outcome, Request
from portabl.jobs.store import SKEW, Run, Store
from portabl.jobs.work import perform
from portabl.keys import plain
from portabl.progress import NoProgress, Progress
from portabl.registry import safe_url

KILLED = "the process ended without a word: killed, or the machine went down"


@dataclass(frozen=True)
class Runner:
    """Runs jobs of one configuration. ``tell`` takes lines for people; ``sleep`` is between attempts of an alert."""

    jobs: Jobs
    store: Store
    now: Callable[[], datetime] = clock.now
    tell: Callable[[str], object] = lambda _: None
    sleep: Callable[[float], object] = time.sleep

    def run(
        self,
        job: ScheduledJob,
        *,
        trigger: str = "hand",
        due: str = "",
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> tuple[Run, Outcome]:
        """Run a job under its lock and record what came of it; whoever is named in its tables is told.

        Raises PolicyRefused for a disabled job, JobLocked while another run goes on, and what the work raises.
        """
        self._refuse_disabled(job)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self.store.lock(job.name))
            except JobLocked as locked:
                self.note_skipped(job, trigger, due, str(locked))
                raise
            resumes = self._after_a_kill(job)
            run = self.store.begin(job, self.now(), trigger=trigger, due=due, resumes=resumes)
            return self._recorded(job, run, progress or NoProgress(), stop or threading.Event())

    def note_skipped(self, job: ScheduledJob, trigger: str, due: str, message: str) -> None:
        """Record that nothing ran because another run goes on; by hand only once, however often it is tried."""
        newest = self.store.history(job.name, 1)
        if trigger != "hand" or not newest or newest[0].result != "skipped":
            self.store.note(job, self.now(), trigger=trigger, due=due, result="skipped", message=message)

    def _refuse_disabled(self, job: ScheduledJob) -> None:
        if not job.enabled:
            hint = "set `enabled = true`, or remove the line"
            raise PolicyRefused(f"{job.where('enabled')}: the job is disabled there", hint=hint)
        if disabled := self.store.see(job, self.now()).disabled:
            hint = f"`portabl jobs enable {job.name}`"
            raise PolicyRefused(f"the job `{job.name}` was disabled at {disabled}", hint=hint)

    def _after_a_kill(self, job: ScheduledJob) -> int | None:
        """Close what killed runs left open; the number of the interrupted run that this one goes on from."""
        for killed in self.store.killed(job.name):
            self.close_killed(job, killed)
        last = self.store.last(job.name)
        return last.id if last is not None and last.result == "interrupted" else None

    def close_killed(self, job: ScheduledJob, run: Run) -> Run:
        """Record that a run was killed, and tell. Only for who holds the job's lock."""
        message = f"{KILLED} (process {run.pid} on {run.host})"
        return self.notify(job, self.store.update(run, result="interrupted", message=message))

    def _recorded(self, job: ScheduledJob, run: Run, progress: Progress, stop: threading.Event) -> tuple[Run, Outcome]:
        request = Request(job, self.jobs, self.store, self.now(), progress, stop)
        try:
            with _stopped_after(job.timeout, stop):
                outcome = perform(request)
        except Exception as error:
            self._finish(job, run, _failure(error))
            raise
        return self._finish(job, run, outcome), outcome

    def _finish(self, job: ScheduledJob, run: Run, outcome: Outcome) -> Run:
        result = {0: "ok", Interrupted.exit_code: "interrupted"}.get(outcome.exit_code, "failed")
        run = self.store.update(
            run,
            finished=clock.text(self.now()),
            result=result,
            exit_code=outcome.exit_code,
            objects=outcome.objects,
            bytes=outcome.bytes,
            changes=outcome.changes,
            manifest=outcome.manifest,
            message=plain(outcome.message)[:2000],
        )
        return self.notify(job, run)

    def missed(self, job: ScheduledJob, due: datetime) -> Run:
        """Record that a run that was due did not take place, and tell."""
        message = f"was due at {clock.text(due)}, and nothing ran within {job.grace}"
        run = self.store.note(
            job, self.now(), trigger="schedule", due=clock.text(due), result="missed", message=message
        )
        return self.notify(job, run)

    def could_not_begin(self, job: ScheduledJob, code: int) -> Run:
        """Record a run that ended with ``code`` before it could record itself, and tell."""
        what = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        message = f"the run {what} before it began: see what it wrote to stderr"
        run = self.store.note(
            job, self.now(), trigger="schedule", due="", result="failed", exit_code=code, message=message
        )
        return self.notify(job, run)

    def notify(self, job: ScheduledJob, run: Run) -> Run:
        """Send what the job's tables ask for after such a run; what was not delivered is recorded and told."""
        if not (job.on_failure or job.on_success or job.ping):
            return run
        return self.store.update(run, alerts=self.send(job, message_of(job, run, run.result)) or "delivered")

    def send(self, job: ScheduledJob, message: Message) -> str:
        """Send a message to whom the job names for such an event; "" or what was not delivered, which is told too."""
        event = message["event"]
        names = job.on_success if event == "ok" else job.on_failure
        answers = {name: alerts.send(self.jobs.alerts[name], message, self.sleep) for name in names}
        if job.ping and event == "ok":
            answers["ping"] = self._ping(job)
        troubles = [f"{name}: {reason}" for name, reason in answers.items() if reason]
        for trouble in troubles:
            self.tell(f"warning: the alert could not be delivered: {trouble}")
        return "; ".join(troubles)

    def _ping(self, job: ScheduledJob) -> str:
        try:
            return alerts.ping(job.ping_url(), self.sleep)
        except PortablError as error:
            return str(error)


def _failure(error: Exception) -> Outcome:
    if isinstance(error, PortablError):
        return Outcome(error.exit_code, message=str(error))
    return Outcome(1, message=f"unexpected {type(error).__name__}: {error}")


class _stopped_after:  # noqa: N801 - reads as a statement
    """Ask for an orderly end after a time, if there is one."""

    def __init__(self, span: timedelta | None, stop: threading.Event) -> None:
        self._timer = threading.Timer(span.total_seconds(), stop.set) if span else None

    def __enter__(self) -> None:
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()


def message_of(job: ScheduledJob, run: Run, event: str, **more: str) -> dict[str, Any]:
    """What an alert says of a run (docs/jobs.md); ``more`` replaces fields. Locations are as they are printed."""
    return {
        "document": "portabl job",
        "version": 1,
        "id": f"{job.name}-{run.id}-{event}",
        "event": event,
        "summary": f"job {job.name} on {run.host}: {event}{f' ({run.message[:200]})' if run.message else ''}",
        "job": job.name,
        "kind": job.kind,
        "source": safe_url(job.values.get("source", "")),
        "target": safe_url(job.values.get("target", "")),
        "run": run.id,
        "host": run.host,
        "due": run.due,
        "started": run.started,
        "finished": run.finished,
        "duration_seconds": run.duration_seconds,
        "result": run.result,
        "exit_code": run.exit_code,
        "objects": run.objects,
        "bytes": run.bytes,
        "changes": run.changes,
        "manifest": run.manifest,
        "message": run.message,
        **more,
    }


def is_due(job: ScheduledJob, store: Store, now: datetime) -> datetime | None:
    """The due time that no run was tried for yet, None when there is none. An interrupted run is due at once, and so
    is one that was killed: recorded as going on while nobody holds the job's lock.
    """
    seen = store.see(job, now)
    if job.schedule is None or not job.enabled or seen.disabled:
        return None
    due = job.schedule.latest(now + SKEW)
    if due is None:
        return None
    last = store.last(job.name)
    killed = store.running(job.name) is not None and not store.is_running(job.name)
    if killed or (last is not None and last.result == "interrupted"):
        return due
    if due <= seen.since or store.covered(job.name, due, "ok", "failed", "interrupted", "missed", "running"):
        return None
    return due
