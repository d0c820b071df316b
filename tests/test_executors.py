"""Threads, and an engine beside them: everything is done once, an error ends it all, nothing waits for ever."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from portabl.executors import QUEUE_PER_THREAD, WINDOW_PER_THREAD, Driven, Workers, in_order
from portabl.tasks import Call, Carrier, Task, aside, briefly


class Quick(Carrier):
    """Carries `quick` and nothing else, as an adapter's engine carries its own requests."""

    def __init__(self) -> None:
        self.woken = threading.Event()

    def run(
        self, take: Callable[[], Task[None] | None], away: Callable[[Task[None], Call], None], over: Callable[[], bool]
    ) -> None:
        """See `Carrier`."""
        while True:
            self.woken.clear()
            while (task := take()) is not None:
                self._carry(task, away)
            if over():
                return
            assert self.woken.wait(60), "nobody wakes the engine"

    @staticmethod
    def _carry(task: Task[None], away: Callable[[Task[None], Call], None]) -> None:
        with contextlib.suppress(StopIteration):
            call = next(task)
            while call is quick:
                call = task.send(call())
            away(task, call)

    def carries(self, call: Call) -> bool:
        """See `Carrier`."""
        return call is quick

    def wake(self) -> None:
        """See `Carrier`."""
        self.woken.set()

    def close(self) -> None:
        """See `Carrier`."""


def quick() -> int:
    """What the engine carries."""
    return 1


def engine_driven(threads: int, work: Callable[[int], None]) -> Driven[int]:
    """Every third item goes through the engine alone, the others leave it for a thread."""

    def task(number: int) -> Task[None]:
        assert (yield quick) == 1
        if number % 3:
            yield aside
        work(number)

    return Driven(threads, task, Quick())


def lent_and_driven(threads: int, work: Callable[[int], None]) -> Driven[int]:
    """Every item goes to a thread first, and comes back; some end in a thread after all."""

    def task(number: int) -> Task[None]:
        yield briefly
        assert (yield quick) == 1
        if number % 5 == 0:
            yield briefly
        if number % 7 == 0:
            yield aside
        work(number)

    return Driven(threads, task, Quick())


both = pytest.mark.parametrize("crew", [Workers, engine_driven, lent_and_driven])
Crew = Callable[[int, Callable[[int], object]], Workers[int]]


@both
def test_everything_is_done_once(crew: Crew) -> None:
    done: list[int] = []
    workers = crew(4, done.append)
    for number in range(500):
        workers.put(number)
    workers.finish()
    assert sorted(done) == list(range(500))


@both
def test_an_error_reaches_whoever_puts_and_ends_the_rest(crew: Crew) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 5:
            raise KeyError("five")
        time.sleep(0.001)
        done.append(number)

    workers = crew(2, work)

    def put_all() -> None:
        for number in range(10_000):
            workers.put(number)

    with pytest.raises(KeyError, match="five"):
        put_all()
    workers.cancel()
    assert len(done) < 100


@both
def test_an_error_of_the_last_item_is_not_lost(crew: Crew) -> None:
    workers = crew(3, lambda n: 1 // n)
    workers.put(0)
    with pytest.raises(ZeroDivisionError):
        workers.finish()


@pytest.mark.parametrize("most", [0, 2])
def test_where_no_more_threads_are_to_be_had_those_that_run_do_it_all(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, running = threading.Thread.start, []

    def scarce(thread: threading.Thread) -> None:
        if len(running) == most:
            raise RuntimeError("can't start new thread")
        running.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    done: list[int] = []
    workers = Workers(5, done.append)
    if not most:
        with pytest.raises(RuntimeError, match="can't start"):
            workers.put(0)
        workers.cancel()
        return
    for number in range(100):
        workers.put(number)
    workers.finish()
    assert sorted(done) == list(range(100))


def test_cancel_finishes_what_is_under_way_and_drops_the_rest() -> None:
    started, finished = threading.Semaphore(0), []

    def work(number: int) -> None:
        started.release()
        time.sleep(0.1)
        finished.append(number)

    workers = Workers(2, work)
    for number in range(2 * QUEUE_PER_THREAD):
        workers.put(number)
    started.acquire()
    started.acquire()
    workers.cancel()
    assert sorted(finished) == [0, 1]


def test_no_more_are_under_way_than_threads_were_given() -> None:
    """An engine that hands every task on at once does not pile them up behind the threads."""
    under_way, most, guard = 0, 0, threading.Lock()

    def work(_: int) -> Task[None]:
        nonlocal under_way, most
        with guard:
            under_way += 1
            most = max(most, under_way)
        yield aside
        with guard:
            under_way -= 1

    driven = Driven(5, work, Quick())
    for number in range(2000):
        driven.put(number)
    driven.finish()
    assert under_way == 0
    assert most == 5


def _thread() -> str:
    return "engine" if threading.current_thread().name == "portabl-engine" else "thread"


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], ["engine"]),
        ([quick], ["engine", "engine"]),
        ([briefly], ["engine", "thread"]),
        ([briefly, quick, quick], ["engine", "thread", "engine", "engine"]),
        ([briefly, briefly, quick], ["engine", "thread", "thread", "engine"]),
        ([aside, quick], ["engine", "thread", "thread"]),
        ([aside, briefly, quick], ["engine", "thread", "thread", "thread"]),
        ([briefly, aside, quick], ["engine", "thread", "thread", "thread"]),
        ([quick, briefly, quick, aside, quick], ["engine", "engine", "thread", "engine", "thread", "thread"]),
    ],
)
def test_what_comes_after_a_call_is_done_where_it_may_block_or_may_not(calls: list[Call], expected: list[str]) -> None:
    seen: list[str] = []

    def work(_: int) -> Task[None]:
        seen.append(_thread())
        for call in calls:
            yield call
            seen.append(_thread())

    driven = Driven(2, work, Quick())
    driven.put(0)
    driven.finish()
    assert seen == expected


def test_what_a_call_raises_reaches_the_task_that_came_back() -> None:
    """Also one that fails in a thread, as an engine's calls do there."""
    caught: list[str] = []

    def broken() -> None:
        raise KeyError("broken")

    def work(_: int) -> Task[None]:
        yield briefly
        yield quick
        try:
            yield broken
        except KeyError as error:
            caught.append(f"{error} in a {_thread()}")
        raise LookupError("last")

    driven = Driven(2, work, Quick())
    driven.put(0)
    with pytest.raises(LookupError, match="last"):
        driven.finish()
    assert caught == ["'broken' in a thread"]


def test_an_engine_that_fails_ends_the_run() -> None:
    class Failing(Quick):
        def run(self, take: object, away: object, over: object) -> None:
            raise KeyError("engine")

    driven = Driven(2, lambda _: iter(()), Failing())  # type: ignore[arg-type,return-value]

    def put_all() -> None:
        for number in range(1000):
            driven.put(number)

    with pytest.raises(KeyError, match="engine"):
        put_all()
    driven.cancel()


def test_results_in_order_within_a_bounded_window() -> None:
    taken = 0

    def items() -> object:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield number

    results = in_order(items(), lambda n: time.sleep(n % 3 / 1000) or n * n, 3)
    for number, (item, result) in enumerate(results):
        assert (item, result) == (number, number * number)
        assert taken <= number + 1 + 3 * WINDOW_PER_THREAD
    assert taken == 300


def test_an_error_comes_where_its_item_would_have_come() -> None:
    results = in_order(range(20), lambda n: 1 // (7 - n), 4)
    assert [next(results)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(ZeroDivisionError):
        next(results)
