"""What a migration will take: requests, time, cost. Estimates, each with what it is made from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from portabl.errors import StorageError
from portabl.executors import in_order
from portabl.model import Entry
from portabl.preflight import Survey
from portabl.prices import GB, ClassPrices, Prices, ProviderPrices
from portabl.storage import Storage
from portabl.throttle import parse_bandwidth

PAGE_KEYS = 1000
MEASURE_SECONDS = 3.0
MEASURE_BYTES = 64 * 2**20
MEASURE_PIECE = 8 * 2**20
MEASURE_THREADS = 8
"""A measurement reads at most `MEASURE_BYTES` and begins nothing new after `MEASURE_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to one side. A first run: every object is carried. Retries, tags asked for apart and HEADs by shape come
    on top.
    """

    list: int
    read: int
    write: int


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the source was read a moment ago: ``seconds`` a read of one byte, ``bytes_per_second`` by 8 threads.

    The latter is None when there was too little to tell.
    """

    seconds: float
    bytes_per_second: float | None
    bytes_read: int


@dataclass(frozen=True, slots=True)
class Cost:
    """One item of a bill, in the currency of the price table."""

    what: str
    amount: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """All estimates. ``seconds`` is None when nothing is known of the speed; ``basis`` says what it is made from."""

    source: Requests
    target: Requests
    seconds: float | None
    basis: str
    currency: str = ""
    prices_of: str = ""
    costs: tuple[Cost, ...] = ()


def requests(survey: Survey) -> tuple[Requests, Requests]:
    """Requests to source and target. The target is listed before and after; objects of several pieces are begun and
    completed besides their parts.
    """
    pages = -(-survey.objects // PAGE_KEYS) or 1
    small = survey.objects - survey.in_parts
    source = Requests(pages, small + survey.parts + survey.looked_at, 0)
    return source, Requests(2 * pages, 0, small + survey.parts + 2 * survey.in_parts)


def measure(source: Storage, entries: Sequence[Entry]) -> Speed | None:
    """Read a little of the largest objects. None when there is nothing to read, or nothing can be."""
    begin, got, small = time.monotonic(), 0, []
    try:
        for entry in entries[:4]:
            start = time.monotonic()
            source.read(entry, 0, min(entry.size, 1))
            small.append(time.monotonic() - start)
        if not small:
            return None
        at = time.monotonic()
        pieces = [entry for entry in entries if entry.size >= 2**20]
        for _, size in in_order(_until(begin, pieces), lambda entry: _piece(source, entry), MEASURE_THREADS):
            got += size
        spent = time.monotonic() - at
    except StorageError:
        return None
    return Speed(sorted(small)[len(small) // 2], got / spent if got else None, got)


def _until(begin: float, entries: Sequence[Entry]) -> list[Entry]:
    """As many pieces as may be read in all; none when the time is up already."""
    most = MEASURE_BYTES // MEASURE_PIECE
    return list(entries[:most]) if time.monotonic() < begin + MEASURE_SECONDS else []


def _piece(source: Storage, entry: Entry) -> int:
    return len(source.read(entry, 0, min(entry.size, MEASURE_PIECE)).data)


def duration(survey: Survey, bandwidth: str, speed: Speed | None, threads: int) -> tuple[float | None, str]:
    """Seconds for all bytes, and what that is made from. Raises UsageError for a bandwidth that is none."""
    if bandwidth:
        seconds = parse_bandwidth(bandwidth).seconds_for(survey.bytes, time.time())
        return seconds, f"{bandwidth} for every byte; requests are taken to cost no time"
    if speed is None:
        return None, "not measured"
    seconds = survey.objects * speed.seconds / threads
    basis = f"a read takes {speed.seconds * 1000:.0f} ms now, {threads} at once"
    if speed.bytes_per_second:
        seconds += survey.bytes / speed.bytes_per_second
        basis += f"; {speed.bytes_read:,} bytes came at {speed.bytes_per_second / 1e6:.0f} MB/s"
    return seconds, f"reading alone, measured at the source: {basis}; how fast the target writes is not known"


def costs(survey: Survey, prices: Prices, names: tuple[str, str]) -> tuple[Cost, ...]:
    """The bill by the user's prices. ``names``: providers of source and target. Items of 0 are left out."""
    source = prices.providers.get(names[0], ProviderPrices())
    target = prices.providers.get(names[1], ProviderPrices())
    ours, theirs = requests(survey)
    leaving = max(0.0, survey.bytes / GB - source.egress_free_gb)
    items = [
        Cost(f"egress from {names[0]}", leaving * source.egress_gb),
        Cost(f"requests to {names[0]}", _requests(ours, source)),
        Cost(f"requests to {names[1]}", _requests(theirs, target)),
    ]
    for name, (_, size) in survey.classes.items():
        known = source.classes.get(name, ClassPrices())
        items.append(Cost(f"retrieval from {name}", size / GB * known.retrieval_gb))
        early = survey.byte_days.get(name, 0.0) / GB / 30 * known.storage_gb_month
        items.append(Cost(f"early deletion in {name}, if deleted at the source today", early))
    return tuple(item for item in items if item.amount > 0)


def _requests(count: Requests, prices: ProviderPrices) -> float:
    of = ((count.list, prices.list_1000), (count.read, prices.read_1000), (count.write, prices.write_1000))
    return sum(number / 1000 * price for number, price in of)
