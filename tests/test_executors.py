"""Threads: everything is done once, an error ends it and is raised, nothing waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from portabl.executors import QUEUE_PER_THREAD, WINDOW_PER_THREAD, Workers, in_order


def test_everything_is_done_once() -> None:
    done: list[int] = []
    workers = Workers(4, done.append)
    for number in range(500):
        workers.put(number)
    workers.finish()
    assert sorted(done) == list(range(500))


def test_an_error_reaches_whoever_puts_and_ends_the_rest() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 5:
            raise KeyError("five")
        time.sleep(0.001)
        done.append(number)

    workers = Workers(2, work)

    def put_all() -> None:
        for number in range(10_000):
            workers.put(number)

    with pytest.raises(KeyError, match="five"):
        put_all()
    workers.cancel()
    assert len(done) < 100


def test_an_error_of_the_last_item_is_not_lost() -> None:
    workers = Workers(3, lambda n: 1 // n)
    workers.put(0)
    with pytest.raises(ZeroDivisionError):
        workers.finish()


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
