"""The time of day, in one place, so that a test can say what it is."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def text(moment: datetime) -> str:
    """A moment as records keep it: UTC, RFC 3339, milliseconds; sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(written: str) -> datetime:
    """The moment that `text` wrote."""
    return datetime.fromisoformat(written)
