"""How fast a run may go: bytes and requests a second, one budget for everything the run does.

Whoever is about to send a request calls `Throttle.before` and waits as long as it says. Nothing else is needed, so a
thread that blocks and a loop that drives many requests at once keep to the same budget. Each call reserves its turn:
turns come in the order of the calls, and the rate holds over any stretch of time but for `CREDIT_SECONDS` of it and
one request.

A worker in another process holds a `Leased`, which takes its budget from the owner in blocks.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from portabl.errors import UsageError

CREDIT_SECONDS = 0.25
"""Time in which nothing was asked for counts for this long at most."""
LEASE_SECONDS = 0.5
"""A lease is good for this long from its turn on. It holds what so much time allows, parted among all who lease, or
what was asked for.
"""
HOLDER_SECONDS = 2 * LEASE_SECONDS
"""Who has asked for nothing for so long has no part any more."""
DAY_SECONDS = 86_400
UNLIMITED = 2**62
_BINARY = {unit: 2 ** (10 * power) for power, unit in enumerate(("B", "K", "M", "G"))}
_UNITS: dict[str, float] = {
    "": 1,
    **_BINARY,
    **{f"{unit}IB": size for unit, size in _BINARY.items()},
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_RATE = re.compile(r"(\d+(?:\.\d+)?)([KMG]i?B|[KMGB]?)", re.IGNORECASE | re.ASCII)
_CHANGE = re.compile(r"([01]?\d|2[0-3]):([0-5]\d),(\S+)", re.ASCII)
_HINT = "write `50M`, `off`, or a timetable in local time such as `08:00,20M 19:00,off`"


@dataclass(frozen=True, slots=True)
class Timetable:
    """A rate for each time of day. ``changes``, sorted: (second of the local day, units a second or None: no limit)."""

    changes: tuple[tuple[int, float | None], ...]

    @classmethod
    def always(cls, rate: float | None) -> Timetable:
        """The same rate all day."""
        return cls(((0, rate),))

    @property
    def unlimited(self) -> bool:
        """Whether no time of day has a limit."""
        return all(rate is None for _, rate in self.changes)

    def at(self, wall: float) -> tuple[float | None, float]:
        """The rate at a time (seconds since the epoch), and for how many seconds it stays."""
        day = time.localtime(wall)
        second = day.tm_hour * 3600 + day.tm_min * 60 + day.tm_sec + wall % 1
        rate = self.changes[-1][1]  # of yesterday evening, until the first change
        for when, following in self.changes:
            if when > second:
                return rate, when - second
            rate = following
        return rate, self.changes[0][0] + DAY_SECONDS - second

    def seconds_for(self, amount: float, wall: float) -> float:
        """How long ``amount`` takes when it begins at ``wall``."""
        spent = 0.0
        while amount > 0:
            rate, stays = self.at(wall + spent)
            if rate is None:
                break
            if len(self.changes) == 1 or amount <= rate * stays:
                return spent + amount / rate
            amount -= rate * stays
            spent += stays
        return spent


def parse_bandwidth(text: str) -> Timetable:
    """``50M`` (bytes a second; K, M, G are powers of 1,024, KB, MB, GB of 1,000), ``off``, or ``HH:MM,RATE ...``.

    Raises UsageError.
    """
    words = text.split()
    if len(words) == 1 and "," not in words[0]:
        return Timetable.always(_rate(words[0], text))
    changes: dict[int, float | None] = {}
    for word in words:
        change = _CHANGE.fullmatch(word)
        if change is None or (second := int(change[1]) * 3600 + int(change[2]) * 60) in changes:
            raise UsageError(f"`{text}` is no bandwidth", hint=_HINT)
        changes[second] = _rate(change[3], text)
    if not changes:
        raise UsageError("the bandwidth is empty", hint=_HINT)
    return Timetable(tuple(sorted(changes.items())))


def _rate(word: str, text: str) -> float | None:
    if word.lower() == "off":
        return None
    found = _RATE.fullmatch(word)
    if found is None or (rate := float(found[1]) * _UNITS[found[2].upper()]) < 1:
        raise UsageError(f"`{text}` is no bandwidth", hint=_HINT)
    return rate


class Pacer(Protocol):
    """What a storage asks before each request."""

    def before(self, requests: int = 0, sent: int = 0, received: int = 0) -> float:
        """Reserve ``requests`` and the bytes of their bodies in either direction; seconds to wait before sending."""
        ...


def wait(pacer: Pacer | None, requests: int = 0, sent: int = 0, received: int = 0) -> None:
    """The same for a thread that may block; returns when its turn has come."""
    if pacer is not None and (seconds := pacer.before(requests, sent, received)) > 0:
        time.sleep(seconds)


class _Meter:
    """One quantity: when what was reserved until now will have been paid."""

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable
        self._free = float("-inf")

    def reserve(self, amount: float, now: float, wall: float) -> float:
        """Reserve; seconds until the turn has come. Clocks: seconds, monotonic and since the epoch."""
        if amount <= 0:
            return 0.0
        begin = max(self._free, now - CREDIT_SECONDS)
        self._free = begin + self.timetable.seconds_for(amount, wall + begin - now)
        return max(0.0, begin - now)


class Throttle:
    """The budget of a run, held in one process and safe to share among its threads.

    ``bandwidth`` counts bytes of bodies a second, in each direction by itself, because a copy receives every byte and
    sends it again. ``requests_per_second`` counts requests to both places together.
    """

    def __init__(
        self,
        bandwidth: Timetable | None = None,
        requests_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        bytes_a_second = bandwidth or Timetable.always(None)
        timetables = (Timetable.always(requests_per_second), bytes_a_second, bytes_a_second)
        self._meters = tuple(_Meter(timetable) for timetable in timetables)
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._holders: dict[str, float] = {}

    @classmethod
    def of(cls, bandwidth: str, requests_per_second: float | None) -> Throttle | None:
        """From what a user typed ("" and None: nothing asked for); None without any limit. Raises UsageError."""
        timetable = parse_bandwidth(bandwidth) if bandwidth else Timetable.always(None)
        if requests_per_second is not None and not requests_per_second > 0:
            raise UsageError("requests per second must be above 0")
        if timetable.unlimited and requests_per_second is None:
            return None
        return cls(timetable, requests_per_second)

    def before(self, requests: int = 0, sent: int = 0, received: int = 0) -> float:
        """See `Pacer.before`."""
        with self._lock:
            now, wall = self._clock(), self._wall()
            amounts = zip(self._meters, (requests, sent, received), strict=True)
            return max(meter.reserve(amount, now, wall) for meter, amount in amounts)

    def lease(self, requests: int, sent: int, received: int, holder: str = "") -> tuple[float, tuple[int, ...]]:
        """A block of budget for a worker elsewhere: seconds until it may be used, and how much of each it is.

        Of what is asked for at least so much, else the part of ``holder`` in `LEASE_SECONDS` of the present rate;
        nothing of what is not. Parts are small enough to be used up in time while all have something to do, and
        whoever has not leaves his to the others.
        """
        wall, wanted = self._wall(), (requests, sent, received)
        parts = self._sharing(holder)
        granted = tuple(_block(meter, amount, wall, parts) for meter, amount in zip(self._meters, wanted, strict=True))
        return self.before(*(0 if amount == UNLIMITED else amount for amount in granted)), granted

    def _sharing(self, holder: str) -> int:
        """How many lease now."""
        with self._lock:
            now = self._clock()
            self._holders[holder] = now
            for gone in [one for one, asked in self._holders.items() if now - asked > HOLDER_SECONDS]:
                del self._holders[gone]
            return len(self._holders)


def _block(meter: _Meter, amount: int, wall: float, parts: int) -> int:
    rate, _ = meter.timetable.at(wall)
    if amount <= 0:
        return 0
    return UNLIMITED if rate is None else max(amount, int(rate * LEASE_SECONDS / parts))


Lease = Callable[[int, int, int], tuple[float, tuple[int, ...]]]


class Leased:
    """A worker's share of a `Throttle` in another process. ``lease`` is the owner's, over whatever connects the two.

    What is left of a lease when its time is up is given up: a worker that does nothing holds nothing back for long.
    """

    def __init__(self, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._lock = threading.Lock()
        self._left = [0, 0, 0]
        self._ready = 0.0

    def before(self, requests: int = 0, sent: int = 0, received: int = 0) -> float:
        """See `Pacer.before`."""
        with self._lock:
            now = self._clock()
            if now > self._ready + LEASE_SECONDS:
                self._left = [0, 0, 0]
            missing = [max(0, need - have) for need, have in zip((requests, sent, received), self._left, strict=True)]
            if any(missing):
                seconds, granted = self._lease(*missing)
                self._ready = max(self._ready, self._clock() + seconds)
                self._left = [have + more for have, more in zip(self._left, granted, strict=True)]
            for which, need in enumerate((requests, sent, received)):
                self._left[which] -= need
            return max(0.0, self._ready - now)
