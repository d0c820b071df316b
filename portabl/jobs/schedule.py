"""When a job is due: a cron expression read in a time zone.

The rules are those of Debian's cron (crontab(5)), through the cronsim package. Days of the week count from Sunday = 0.
A time of day that a change of the clocks skips is due at the first moment after the gap, one that comes twice is due
the first time only; schedules with a wildcard for the minute or the hour follow the real hours instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LOOK_BACK = [timedelta(days=days) for days in (1 / 24, 1, 8, 32, 367, 8 * 366)]
"""Spans in which the last due time is looked for; the longest holds a 29 February even around the year 2100."""


class ScheduleError(ValueError):
    """Not a cron expression, a time zone nobody knows, or a date that never comes."""


@dataclass(frozen=True)
class Schedule:
    """A cron expression of five fields (macros already replaced) in a time zone."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def of(cls, text: str, timezone: str) -> Schedule:
        """Read an expression such as ``30 2 * * *`` or ``@daily``. Raises ScheduleError."""
        expression = MACROS.get(text.strip().lower(), " ".join(text.split()))
        if expression.startswith("@"):
            raise ScheduleError(f"`{expression}` is none of {', '.join(MACROS)}")
        if len(expression.split()) != 5:
            raise ScheduleError("five fields are needed: minute, hour, day of month, month, day of week")
        schedule = cls(expression, zone_of(timezone))
        try:
            schedule.after(datetime.now(UTC))
        except (CronSimError, AssertionError) as error:
            raise ScheduleError(str(error) or "not a cron expression") from None
        return schedule

    def after(self, moment: datetime) -> datetime:
        """The first due time later than ``moment`` (aware), in UTC. Raises ScheduleError when there is none."""
        for due in self._from(moment):
            return due
        raise ScheduleError("such a date never comes")

    def latest(self, moment: datetime) -> datetime | None:
        """The last due time not later than ``moment``, in UTC; None when there was none in eight years."""
        for span in _LOOK_BACK:
            last = None
            for due in self._from(moment - span):
                if due > moment:
                    break
                last = due
            if last is not None:
                return last
        return None

    def _from(self, moment: datetime) -> Iterator[datetime]:
        """Due times later than ``moment``, rising. Inside a repeated hour cronsim may look back: that is skipped."""
        last = moment.astimezone(UTC)
        for local in CronSim(self.expression, moment.astimezone(self.zone)):
            due = local.astimezone(UTC)
            if due > last:
                last = due
                yield due

    def moved(self, moment: datetime, days: int = 400) -> datetime | None:
        """The first due time within ``days`` that is moved, because the clocks skip the time that was asked for."""
        if not self.is_fixed:
            return None
        wanted = CronSim(self.expression, moment.astimezone(self.zone).replace(tzinfo=None))
        for due in self._from(moment):
            if due > moment + timedelta(days=days):
                break
            if due.astimezone(self.zone).replace(tzinfo=None) != next(wanted):
                return due
        return None

    @property
    def is_fixed(self) -> bool:
        """Whether the time of day is fixed, with a wildcard neither for the minute nor for the hour."""
        minute, hour, *_ = self.expression.split()
        return not minute.startswith("*") and not hour.startswith("*")


def zone_of(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises ScheduleError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"no time zone `{name}` is known here") from None
