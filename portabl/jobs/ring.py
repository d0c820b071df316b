"""Reading a share of something each time, so that everything is read within a given time.

All keys lie on a ring, by their hash. Each reading takes the arc after the one before; how long it is follows from how
much time has gone by. So after runs that were left out the next one reads more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portabl.checker import Sample

OVERLAP = 1e-9
"""Of the ring, so that no key falls between two arcs by rounding."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a ring has been read: up to ``place`` (0 to 1), at ``read``."""

    place: float
    read: datetime


@dataclass(frozen=True, slots=True)
class Arc:
    """What to read now: ``share`` of the ring from ``start`` on. All of it when ``share`` is 1."""

    start: float
    share: float

    @property
    def sample(self) -> Sample | None:
        """The arc for a verification; None reads everything."""
        from portabl.checker import Sample

        return None if self.share >= 1 else Sample(min(1.0, self.share + OVERLAP), self.start)

    def done(self, now: datetime) -> Position:
        """Where the ring stands once the arc was read."""
        return Position((self.start + self.share) % 1.0, now)


def arc(position: Position | None, now: datetime, following: datetime, within: timedelta) -> Arc:
    """The next arc, such that every key is read again within ``within``, when the next reading is at ``following``.

    The time between two readings is taken off, because a key may have to wait that long for its arc. Where nothing
    is left then, everything is read each time.
    """
    pause = following - now
    usable = within - pause
    if usable <= timedelta(0):
        return Arc(0.0, 1.0)
    gone = now - position.read if position else pause
    return Arc(position.place if position else 0.0, min(1.0, max(0.0, gone / usable)))
