"""A systemd service and its timer (systemd.service(5), systemd.timer(5), systemd.time(7))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta

from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.install.common import Artifact, Fields, command, scheduled, this_program, variables, word
from portabl.jobs.schedule import Schedule

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_SERVICE = """# Made by `portabl jobs install {job} --systemd`.
[Unit]
Description=portabl job {job}
{network}
[Service]
Type=oneshot
ExecStart={command}
# Variables that portabl.toml refers to with env:NAME, one NAME=value a line, readable by its owner only{variables}
EnvironmentFile=-{environment}
TimeoutStartSec={limit}
# A stop finishes what is in flight; the next run goes on from there.
TimeoutStopSec=5min
NoNewPrivileges=yes
Nice=10
"""
_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"
_TIMER = """# Made by `portabl jobs install {job} --systemd`.
[Unit]
Description=portabl job {job}: {expression} in {zone}

[Timer]
{calendars}
AccuracySec=1s
# What was due while the machine was off is run when it is back.
Persistent=true

[Install]
WantedBy=timers.target
"""


def units(
    jobs: Jobs, job: ScheduledJob, now: datetime, *, system: bool, program: list[str] | None = None
) -> list[Artifact]:
    """Service and timer, for the system's manager or the user's. Raises UsageError for a job without schedule."""
    schedule = scheduled(job)
    lines, if_due = calendars(schedule, now)
    call = command(program or this_program(), job, jobs.config.path, *(["--if-due"] if if_due else []))
    names = variables(jobs)
    values = {
        "job": job.name,
        "network": _NETWORK if system else "",
        "command": " ".join(map(quoted, call)),
        "variables": f": {', '.join(names)}" if names else ".",
        "environment": escaped(os.path.join(os.path.dirname(jobs.config.path), "portabl.env")),
        "limit": f"{int((job.timeout + timedelta(minutes=5)).total_seconds())}s" if job.timeout else "infinity",
        "expression": escaped(schedule.expression),
        "zone": schedule.zone.key,
        "calendars": "\n".join(f"OnCalendar={line}" for line in lines),
    }
    stem = f"portabl-{word(job.name)}"
    manager = "systemctl" if system else "systemctl --user"
    note = f"{manager} daemon-reload && {manager} enable --now {stem}.timer"
    return [
        Artifact(f"{stem}.service", _SERVICE.format(**values)),
        Artifact(f"{stem}.timer", _TIMER.format(**values), note),
    ]


def calendars(schedule: Schedule, now: datetime) -> tuple[list[str], bool]:
    """OnCalendar expressions, and whether the job itself has to say if it is due.

    It has to where systemd skips a time that a change of the clocks skips (it waits for the next day; so the moment
    after the gap is added), and where it cannot say what cron can: then it asks every hour.
    """
    fields, zone = Fields(schedule), schedule.zone.key
    minutes, hours, months = _list(fields.minutes, 60), _list(fields.hours, 24), _list(fields.months, 12)
    if not fields.plain and not (fields.weekday_text == "*" and fields.day_text.upper() == "L"):
        return [f"*-*-* *:{minutes}:00 {zone}"], True
    day = "~01" if fields.day_text.upper() == "L" else f"-{_list(fields.days, 31)}"
    weekday = _weekdays(fields)
    date = f"*-{months}"
    dates = [f"{date}{day}", f"{weekday}{date}-*"] if fields.either_day else [f"{weekday}{date}{day}"]
    found = [f"{one} {hours}:{minutes}:00 {zone}" for one in dates]
    moved = schedule.moved(now, 2 * 366)
    if moved is None:
        return found, False
    return [*found, f"*-*-* {moved.astimezone(schedule.zone):%H:%M}:00 {zone}"], True


def _list(numbers: Iterable[object], count: int) -> str:
    found = sorted(int(str(one)) for one in numbers)
    return "*" if len(found) == count else ",".join(f"{one:02d}" for one in found)


def _weekdays(fields: Fields) -> str:
    days = sorted({int(str(day)) % 7 for day in fields.weekdays}) if fields.plain else list(range(7))
    return "" if len(days) == 7 else ",".join(_DAYS[day] for day in days) + " "


def escaped(text: str) -> str:
    """Text in which systemd finds no specifier."""
    return text.replace("%", "%%")


def quoted(argument: str) -> str:
    """One argument of ExecStart=, whatever is in it."""
    safe = escaped(argument).replace("$", "$$")
    if safe and all(c.isalnum() or c in "/-_.:=+,@%" for c in safe):
        return safe
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
