"""When jobs are due: cron's rules, time zones, and the days on which the clocks change."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from portabl.jobs.schedule import Schedule, ScheduleError

HOUR = timedelta(hours=1)


def _due(expression: str, zone: str, first: str, last: str) -> list[datetime]:
    schedule = Schedule.of(expression, zone)
    moment, end = (datetime.fromisoformat(text).replace(tzinfo=schedule.zone).astimezone(UTC) for text in (first, last))
    found = []
    while (moment := schedule.after(moment)) <= end:
        found.append(moment)
    return found


@pytest.mark.parametrize("time", ["0 2", "30 2", "59 2", "0 3", "30 1", "15 0", "0 12"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC"])
def test_a_nightly_job_runs_exactly_once_on_every_date_of_a_year(time: str, zone: str) -> None:
    found = _due(f"{time} * * *", zone, "2026-01-01T00:00", "2026-12-31T23:59")
    local = [due.astimezone(Schedule.of("@daily", zone).zone) for due in found]
    assert [one.date() for one in local] == [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    minute, hour = map(int, time.split())
    elsewhere = [one for one in local if (one.hour, one.minute) != (hour, minute)]
    assert len(elsewhere) <= 1, "only the date on which that time does not exist has another one"


def test_the_two_changes_of_the_clocks_in_berlin() -> None:
    spring = _due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", "2026-03-31T00:00")
    assert [f"{due:%d %H:%M}" for due in spring] == ["28 01:30", "29 01:00", "30 00:30"], "03:00 when 02:30 is skipped"
    autumn = _due("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00", "2026-10-27T00:00")
    assert [f"{due:%d %H:%M}" for due in autumn] == ["24 00:30", "25 00:30", "26 01:30"], "the first 02:30 only"


def test_asked_within_the_repeated_hour_it_does_not_answer_with_the_past() -> None:
    schedule = Schedule.of("50 2 * * *", "Europe/Berlin")
    second_quarter_to_three = datetime(2026, 10, 25, 1, 45, tzinfo=UTC)
    assert schedule.after(second_quarter_to_three) == datetime(2026, 10, 26, 1, 50, tzinfo=UTC)
    assert schedule.latest(second_quarter_to_three) == datetime(2026, 10, 25, 0, 50, tzinfo=UTC)


@pytest.mark.parametrize(("first", "count"), [("2026-03-29T00:00", 23), ("2026-10-25T00:00", 25)])
def test_hourly_jobs_follow_the_real_hours(first: str, count: int) -> None:
    found = _due("0 * * * *", "Europe/Berlin", first, first.replace("T00:00", "T23:59"))
    assert len(found) == count - 1, "midnight itself is not after midnight"
    assert all(later - earlier == HOUR for earlier, later in itertools.pairwise(found))


def test_days_of_the_week_count_from_sunday() -> None:
    for day in ("0", "7", "SUN", "sun"):
        assert Schedule.of(f"0 2 * * {day}", "UTC").after(datetime(2026, 11, 30, tzinfo=UTC)).weekday() == 6
    assert Schedule.of("0 2 * * 1", "UTC").after(datetime(2026, 11, 30, tzinfo=UTC)).strftime("%a") == "Mon"
    weekdays = _due("0 2 * * 1-5", "UTC", "2026-11-29T00:00", "2026-12-06T23:59")
    assert [f"{due:%a}" for due in weekdays] == ["Mon", "Tue", "Wed", "Thu", "Fri"]


def test_day_of_month_or_day_of_week() -> None:
    either = _due("0 2 13 * 5", "UTC", "2026-11-01T00:00", "2026-11-30T00:00")
    assert [due.day for due in either] == [6, 13, 20, 27]
    assert [due.day for due in _due("0 2 L * *", "UTC", "2026-01-01T00:00", "2026-03-01T00:00")] == [31, 28]


@pytest.mark.parametrize(
    "expression", ["*/7 * * * *", "30 2 * * *", "0 4 1 * *", "0 0 29 2 *", "0 6 * * 1", "0 0 1 1 *", "*/20 2 * * *"]
)
def test_latest_is_the_inverse_of_after(expression: str) -> None:
    schedule = Schedule.of(expression, "Europe/Berlin")
    for start in (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 23, 10, tzinfo=UTC)):
        moment = start
        for _ in range(40):
            following = schedule.after(moment)
            assert schedule.latest(following) == following
            assert schedule.latest(following + timedelta(seconds=1)) == following
            before = schedule.latest(following - timedelta(seconds=1))
            assert before is not None
            assert before <= moment or moment == start
            moment = following


def test_what_is_moved_by_a_change_of_the_clocks_is_known_beforehand() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert Schedule.of("30 2 * * *", "Europe/Berlin").moved(now) == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
    for expression, zone in (("30 4 * * *", "Europe/Berlin"), ("30 2 * * *", "UTC"), ("30 * * * *", "Europe/Berlin")):
        assert Schedule.of(expression, zone).moved(now) is None


def test_macros() -> None:
    assert Schedule.of("@daily", "UTC") == Schedule.of(" 0  0 * * * ", "UTC")


@pytest.mark.parametrize(
    "expression",
    [
        *("", "x", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 31 2 *", "0 0 0 * *", "0 0 * * 8"),
        *("@reboot", "0 0 * 13 *", "*/0 * * * *", "5-1 * * * *", "-1 * * * *", "a * * * *", "0 0 L-3 * *"),
        *("0 0 1W * *", "0 0 * * #1"),
    ],
)
def test_what_is_no_schedule(expression: str) -> None:
    with pytest.raises(ScheduleError):
        Schedule.of(expression, "UTC")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "/etc/localtime", "a\0b"])
def test_what_is_no_time_zone(zone: str) -> None:
    with pytest.raises(ScheduleError, match="no time zone"):
        Schedule.of("@daily", zone)
