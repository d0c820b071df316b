"""What all installers share: a file to be written, how portabl is called, and what a schedule consists of."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from portabl.errors import UsageError
from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file for a scheduler. ``note``: what is to be known about it, "" for nothing."""

    name: str
    text: str
    note: str = ""


def scheduled(job: ScheduledJob) -> Schedule:
    """The job's schedule. Raises UsageError when it has none."""
    if job.schedule is None:
        raise UsageError(f"{job.where('schedule')}: is not set, so there is nothing to install", hint="set one first")
    return job.schedule


def command(program: Sequence[str], job: ScheduledJob, config: str, *more: str) -> list[str]:
    """The command that runs a job."""
    return [*program, "jobs", "run", job.name, "--config", config, "--quiet", *more]


def this_program() -> list[str]:
    """How this very installation is called, whatever PATH says."""
    return [sys.executable, "-m", "portabl"]


def variables(jobs: Jobs) -> list[str]:
    """Environment variables that the configuration refers to."""
    texts = [repr(vars(one)) for one in jobs.config.providers.values()]
    texts += [str(value) for alert in jobs.alerts.values() for value in alert.values.values()]
    texts += [job.ping for job in jobs.jobs.values()]
    return sorted({name for text in texts for name in re.findall(r"\benv:([A-Za-z_][A-Za-z0-9_]*)", text)})


def word(name: str, between: str = "-") -> str:
    """A job's name as schedulers with narrow rules for names accept it."""
    return re.sub(r"[^a-z0-9]+", between, name.lower()).strip(between) or "job"


class Fields:
    """The fields of a cron expression as sets of numbers."""

    def __init__(self, schedule: Schedule) -> None:
        parsed = CronSim(schedule.expression, datetime(2026, 1, 1))
        self.minutes, self.hours, self.months = parsed.minutes, parsed.hours, parsed.months
        self.days, self.weekdays = parsed.days, parsed.weekdays
        self.either_day = not parsed.day_and
        _, _, self.day_text, _, self.weekday_text = schedule.expression.split()

    @property
    def plain(self) -> bool:
        """Whether days are numbers only: no last day, no n-th weekday."""
        return all(isinstance(one, int) and one >= 0 for one in (*self.days, *self.weekdays))


def simple_expression(schedule: Schedule, who: str) -> str:
    """The expression for schedulers that know only the common part of cron. Raises UsageError when it says more."""
    fields = Fields(schedule)
    stepped = [text for text in (fields.day_text, fields.weekday_text) if text.startswith("*/")]
    if not fields.plain or (stepped and "*" not in (fields.day_text, fields.weekday_text)):
        raise UsageError(
            f"{who} reads `{schedule.expression}` in another way than cron",
            hint="use plain numbers for the days, or let `portabl jobs serve` run it",
        )
    parts = schedule.expression.split()
    if parts[4] != "*" and not parts[4].startswith("*/"):
        parts[4] = ",".join(str(day) for day in sorted({int(str(day)) % 7 for day in fields.weekdays}))
    return " ".join(parts)


def machine_zone() -> str:
    """The time zone this machine's cron uses, "" when that cannot be told."""
    named = os.environ.get("TZ", "").removeprefix(":")
    target = os.path.realpath("/etc/localtime")
    name = named or target.partition("/zoneinfo/")[2]
    try:
        return ZoneInfo(name).key if name else ""
    except (KeyError, ValueError, OSError):
        return ""
