"""The budget of a run: what a rate allows over any stretch of time, timetables, and workers in other processes."""

from __future__ import annotations

import hashlib
import heapq
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from journeys.yard import MIB, Yard, large_items, make_bucket, small_items
from kit.hazards import Item
from kit.proxy import FaultProxy
from kit.servers import S3Server

from portabl import executor_dask, registry
from portabl.errors import Unreachable, UsageError
from portabl.leases import Lessor, lease_from
from portabl.model import Body, Entry, Metadata
from portabl.providers import Config
from portabl.storage import Storage
from portabl.throttle import (
    CREDIT_SECONDS,
    HOLDER_SECONDS,
    LEASE_SECONDS,
    Leased,
    Throttle,
    Timetable,
    parse_bandwidth,
    wait,
)
from portabl.wrappers import Around, Throttled, passes_on


class Clock:
    """A clock that only moves when told; also the time of day."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def at(clock: str) -> float:
    """Seconds since the epoch of a local time on some day."""
    return time.mktime(time.strptime(f"2026-06-15 {clock}", "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50M", 50 * 2**20),
        ("50MiB", 50 * 2**20),
        ("50MB", 50e6),
        ("1.5k", 1536),
        ("2g", 2**31),
        ("900", 900),
        ("7B", 7),
    ],
)
def test_a_rate(text: str, rate: float) -> None:
    assert parse_bandwidth(text) == Timetable.always(rate)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "0", "0.5", "-1", "M", "50X", "50 M", "50M 60M", "08:00,", "8,20M", "24:00,20M", "08:60,1M", "1e9"),
        *("08:00,20M 08:00,off", "08:00,20M off", "nan", "inf", "٥٠M", "08:00,0"),
    ],
)
def test_no_rate(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bandwidth(text)
    assert "08:00,20M 19:00,off" in caught.value.hint


@pytest.mark.parametrize(("rate", "none"), [("", True), ("off", True), ("08:00,off 19:00,OFF", True), ("5M", False)])
def test_no_limit_is_no_throttle(rate: str, none: bool) -> None:
    assert (Throttle.of(rate, None) is None) is none
    assert Throttle.of(rate, 5.0) is not None


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_request_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(UsageError):
        Throttle.of("", rate)


@pytest.mark.parametrize(
    ("clock", "rate", "stays"),
    [("00:00:00", None, 8 * 3600), ("08:00:00", 20, 11 * 3600), ("18:59:30", 20, 30), ("19:00:00", None, 13 * 3600)],
)
def test_a_timetable_over_the_day(clock: str, rate: float | None, stays: float) -> None:
    assert parse_bandwidth("19:00,off 08:00,20").at(at(clock)) == (rate, stays)


def test_what_a_timetable_allows_is_counted_across_its_changes() -> None:
    table = parse_bandwidth("08:00,20 19:00,10 19:01,off")
    assert table.seconds_for(20 * 30 + 10 * 60, at("18:59:30")) == 90
    assert table.seconds_for(10**9, at("18:59:30")) == 90, "the rest is free"
    assert table.seconds_for(10**9, at("23:00:00")) == 0
    assert Timetable.always(3).seconds_for(3 * 10**7, at("12:00:00")) == 10**7


@given(
    rate=some.floats(1, 1000),
    amounts=some.lists(some.integers(1, 500), min_size=1, max_size=60),
    pauses=some.lists(some.floats(0, 2), min_size=60, max_size=60),
)
def test_no_stretch_of_time_holds_more_than_the_rate(rate: float, amounts: list[int], pauses: list[float]) -> None:
    clock = Clock(1000.0)
    throttle = Throttle(Timetable.always(rate), clock=clock, wall=clock)
    turns: list[tuple[float, int]] = []
    for amount, pause in zip(amounts, pauses, strict=False):
        turns.append((clock.now + throttle.before(sent=amount), amount))
        clock.now += pause
    for first in range(len(turns)):
        for last in range(first, len(turns)):
            began = [amount for _, amount in turns[first:last]]
            allowed = rate * (turns[last][0] - turns[first][0] + CREDIT_SECONDS)
            assert sum(began) <= allowed * (1 + 1e-9) + 1e-6


def test_directions_and_requests_are_counted_apart_and_the_slowest_decides() -> None:
    clock = Clock()
    throttle = Throttle(Timetable.always(100), 10, clock=clock, wall=clock)
    clock.now = 50.0
    assert throttle.before(1, sent=1000, received=0) == 0
    assert throttle.before(1, sent=0, received=1000) == 0
    assert throttle.before(1, sent=1) == pytest.approx(10 - CREDIT_SECONDS)
    assert throttle.before(received=1) == pytest.approx(10 - CREDIT_SECONDS)
    assert throttle.before(100) == pytest.approx(0.3 - CREDIT_SECONDS)


def test_a_lease_is_prepaid_and_given_up_when_its_time_is_over() -> None:
    clock = Clock()
    throttle = Throttle(Timetable.always(1000), clock=clock, wall=clock)
    one, two = (Leased(throttle.lease, clock) for _ in range(2))
    assert one.before(1, sent=400) == 0
    assert one.before(1, sent=100) == 0, "the rest of the block"
    assert two.before(1, sent=1) == pytest.approx(LEASE_SECONDS - CREDIT_SECONDS)
    clock.now += 2
    assert two.before(1, sent=499) == 0
    clock.now += LEASE_SECONDS + 0.01
    two.before(1, sent=499)
    assert two.before(1, sent=2) > 0, "what was left of the first block was kept"
    assert one.before(received=10**6) == 0, "an object larger than a block is one block"
    assert two.before(received=1) == pytest.approx(1000 - CREDIT_SECONDS)


def _shared(rate: float, speeds: list[float], seconds: float) -> list[tuple[float, int]]:
    """When how much was sent by workers that lease from one budget; each could do so many units a second alone."""
    clock, piece = Clock(), 10
    throttle = Throttle(Timetable.always(rate), clock=clock, wall=clock)
    workers = [
        Leased(lambda *wanted, holder=str(n): throttle.lease(*wanted, holder), clock) for n in range(len(speeds))
    ]
    sent, due = [], [(0.0, n) for n in range(len(speeds))]
    while due:
        clock.now, n = heapq.heappop(due)
        turn = clock.now + workers[n].before(sent=piece)
        if turn < seconds:
            sent.append((turn, piece))
            heapq.heappush(due, (turn + piece / speeds[n], n))
    return sorted(sent)


@pytest.mark.parametrize(
    "speeds",
    [[10_000], [10_000] * 3, [10_000, 1, 1], [350, 350, 350, 350], [5_000, 600, 50]],
    ids=["one", "three", "two hardly work", "all slow", "unlike"],
)
def test_leases_use_the_whole_budget_and_never_more(speeds: list[float]) -> None:
    rate, seconds = 1_000.0, 30.0
    sent = _shared(rate, speeds, seconds)
    least = 0.8 if 50 in speeds else 0.93  # what a worker that is too slow for its part leaves of it is lost
    assert sum(amount for _, amount in sent) >= least * rate * seconds, "budget was left lying"
    for first in range(0, len(sent), 97):
        held = 0
        for turn, amount in sent[first:]:
            held += amount
            assert held <= rate * (turn - sent[first][0] + LEASE_SECONDS + CREDIT_SECONDS) + amount


def test_who_asks_for_nothing_leaves_his_part_to_the_others() -> None:
    clock = Clock()
    throttle = Throttle(Timetable.always(1000), clock=clock, wall=clock)
    assert [throttle.lease(0, 1, 0, holder)[1][1] for holder in "abca"] == [500, 250, 166, 166]
    clock.now += HOLDER_SECONDS + 0.01
    assert throttle.lease(0, 1, 0, "a")[1][1] == 500


def _work(address: str, count: int, times: multiprocessing.Queue[float]) -> None:
    pacer = Leased(lease_from(address))
    for _ in range(count):
        wait(pacer, 1)
    times.put(time.monotonic())


def test_workers_in_other_processes_share_one_budget() -> None:
    spawn = multiprocessing.get_context("spawn")
    times: multiprocessing.Queue[float] = spawn.Queue()
    rate, counts = 200, (200, 200, 1)
    lessor = Lessor(Throttle(None, rate))
    workers = [spawn.Process(target=_work, args=(lessor.address, count, times)) for count in counts]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    ended = max(times.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    lessor.close()
    assert ended - began >= (sum(counts) - rate * LEASE_SECONDS) / rate - CREDIT_SECONDS


def test_a_lessor_lets_nobody_else_in_and_its_end_is_noticed() -> None:
    lessor = Lessor(Throttle(None, 10))
    with pytest.raises(multiprocessing.AuthenticationError):
        Client(lessor.address, authkey=b"guessed")
    lease = lease_from(lessor.address)
    assert lease(1, 0, 0) == (0.0, (5, 0, 0))
    lessor.close()
    with pytest.raises(Unreachable):
        lease_from(lessor.address)


def test_a_lessor_whose_thread_has_ended_holds_nobody_up() -> None:
    lessor = Lessor(Throttle(None, 10))
    lessor._closing = True  # as if a worker came in between this and what wakes the thread
    lease_from(lessor.address)
    lessor._thread.join(30)
    with pytest.raises(Unreachable):
        lease_from(lessor.address)
    closing = threading.Thread(target=lessor.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_the_end_of_an_earlier_lessor_of_a_cluster_does_not_end_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    queues: dict[str, queue.Queue[object]] = {name: queue.Queue() for name in ("run", "worker")}
    monkeypatch.setattr(executor_dask._Lessor, "_queue", lambda _, name: queues[name])
    first = executor_dask._Lessor(Throttle(None, 10), None, "run")
    first.close()
    first.close()  # as one whose thread the lost scheduler had ended: nobody takes this out
    second = executor_dask._Lessor(Throttle(None, 10), None, "run")
    queues["run"].put(("worker", 1, 0, 0))
    assert queues["worker"].get(timeout=30) == (0.0, (5, 0, 0))
    second.close()
    assert not second._thread.is_alive()


class Recorder:
    """A pacer that only notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def before(self, requests: int = 0, sent: int = 0, received: int = 0) -> float:
        self.asked.append((requests, sent, received))
        return 0.0


@pytest.mark.parametrize(("kind", "requests"), [("file", 0), ("fsspec", 1)])
def test_adapters_that_know_of_no_throttle_are_throttled_from_outside(kind: str, requests: int, tmp_path: Path) -> None:
    pacer = Recorder()
    where = str(tmp_path) if kind == "file" else f"memory://{tmp_path.name}"
    with registry.open_location(where, Config(), pacer=pacer) as storage:
        storage.check(write=True)
        storage.write(b"k", Body(b"12345", ""), Metadata())
        entry = storage.listed(b"k")
        assert isinstance(entry, Entry)
        assert bytes(storage.read(entry).data) == b"12345"
        assert bytes(storage.read(entry, 1, 2).data) == b"23"
        upload = storage.upload(b"m", 7, Metadata(), 4)
        tags = [upload.part(1, Body(b"abcd", ""), 0), upload.part(2, Body(b"efg", ""), 4)]
        upload.finish(tags, hashlib.sha256(b"abcdefg").hexdigest())
        storage.delete(b"k")
        assert [entry.key for entry in storage.entries()] == [b"m"]
    bodies = [(sent, received) for _, sent, received in pacer.asked if sent or received]
    assert bodies == [(5, 0), (0, 5), (0, 2), (4, 0), (3, 0)]
    assert {count for count, _, _ in pacer.asked} == {requests}


def test_a_wrapper_hides_no_method_of_the_contract() -> None:
    public = {name for name, member in vars(Storage).items() if callable(member) and not name.startswith("_")}
    assert public <= vars(Around).keys()
    assert {"listed", "abandoned", "close", "copy"} <= public

    class Later(Around):
        pass

    passes_on(Later)
    calls: list[str] = []

    class Inner:
        name = "inner"

        def __getattr__(self, name: str) -> Callable[..., str]:
            calls.append(name)
            return lambda *_: name

    assert Later(Inner()).listed(b"k") == "listed"  # type: ignore[arg-type]
    assert calls == ["listed"]


def test_copies_inside_one_store_stay_possible(tmp_path: Path) -> None:
    one, two = (registry.open_location(str(tmp_path / name), Config()) for name in "ab")
    asked: list[Storage] = []
    two.copy = lambda source, *_: asked.append(source)  # type: ignore[method-assign, assignment, return-value]
    pacer = Recorder()
    Throttled(two, pacer).copy(Throttled(one, pacer), Entry(b"k", 0), b"k", None)  # type: ignore[arg-type]
    assert asked == [one]


LIMITS = {
    "requests": (("--requests-per-second", "60"), 2 * 64 / 60),
    "bandwidth": (("--bandwidth", "2M"), 6 * MIB / (2 * MIB)),
    "timetable": (("--bandwidth", "00:00,2M 12:00,2048K"), 6 * MIB / (2 * MIB)),
    "processes": (("--requests-per-second", "60", "--processes", "2"), 0),
    "dask": (("--requests-per-second", "60", "--engine", "dask", "--processes", "2"), 0),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_whole_run_keeps_to_its_limit(limit: str, moto: S3Server, seaweed: S3Server, tmp_path: Path) -> None:
    """Counted from outside, by the servers' side of a proxy; every way that data takes is bound."""
    options, at_least = LIMITS[limit]
    by_requests = options[0] == "--requests-per-second"
    items = small_items(64) if by_requests else [Item(b"%02d" % n, b"%02d" % n * (MIB // 8)) for n in range(24)]
    bucket = make_bucket(moto, items)
    with FaultProxy(moto.endpoint) as old, FaultProxy(seaweed.endpoint) as new:
        yard = Yard.at(tmp_path, moto, bucket, seaweed, via_source=old.endpoint, via_target=new.endpoint)
        yard.options = options
        done = yard.run()
        assert done.code == 0, done.err
        assert done.document["copied"] == len(items)
        if by_requests:
            at_least = (old.counts.total() + new.counts.total() - 1) / 60 - (LEASE_SECONDS if len(options) > 2 else 0)
        largest = MIB / 4 / (2 * MIB)
        assert done.document["elapsed_seconds"] >= at_least - CREDIT_SECONDS - largest
    yard.equal()


@pytest.mark.parametrize("command", ["verify", "fingerprint"])
def test_reading_back_keeps_to_it_too(command: str, seaweed: S3Server, tmp_path: Path) -> None:
    bucket = make_bucket(seaweed, large_items([17 * MIB]) + small_items(3))
    yard = Yard.at(tmp_path, seaweed, bucket, seaweed)
    done = yard.run()
    assert done.code == 0
    words = ("verify", done.document["manifest"]) if command == "verify" else ("fingerprint", f"old:{bucket}")
    began = time.monotonic()
    assert yard.here.portabl(*words, "--bandwidth", "8M").code == 0
    assert time.monotonic() - began >= (17 - 8) / 8 - CREDIT_SECONDS  # all pieces but the last have been paid


@pytest.mark.parametrize("words", [("--bandwidth", "fast"), ("--requests-per-second", "0")])
def test_a_limit_that_is_none_is_a_clear_error(words: tuple[str, str], moto: S3Server, tmp_path: Path) -> None:
    yard = Yard.at(tmp_path, moto, moto.bucket(), moto)
    yard.here.portabl("migrate", f"old:{yard.bucket}", f"new:{yard.into}", *words).clear(2)
