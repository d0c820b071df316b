"""Threads that carry out work: a bounded queue for a pass, and an ordered window for read-backs."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

QUEUE_PER_THREAD = 4
WINDOW_PER_THREAD = 4


class Workers(Generic[T]):
    """``threads`` threads that run ``work`` on every item put in; the first exception ends it all.

    At most `QUEUE_PER_THREAD` items a thread wait, so whoever puts them is slowed to the pace of the work.
    """

    def __init__(self, threads: int, work: Callable[[T], None]) -> None:
        self._work = work
        self._queue: queue.Queue[T | None] = queue.Queue(threads * QUEUE_PER_THREAD)
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._loop, name=f"portabl-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, item: T) -> None:
        """Queue one item, waiting for room; raises what a worker raised."""
        while True:
            if self._failed.is_set():
                self._raise()
            try:
                return self._queue.put(item, timeout=1)
            except queue.Full:
                continue

    def finish(self) -> None:
        """Wait until everything is done; raises what a worker raised."""
        self._end()
        if self._error is not None:
            self._raise()

    def cancel(self) -> None:
        """Let what is under way come to its end and drop the rest."""
        self._failed.set()
        self._end()

    def _end(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _raise(self) -> None:
        assert self._error is not None
        raise self._error

    def _loop(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failed.is_set():
                continue
            try:
                self._work(item)
            except BaseException as error:
                if self._error is None:
                    self._error = error
                self._failed.set()


def in_order(items: Iterable[T], work: Callable[[T], R], threads: int) -> Iterator[tuple[T, R]]:
    """Run ``work`` on many items at once and yield (item, result) in the order of the items; memory is bounded.

    An exception of ``work`` is raised where its item would have come.
    """
    window: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="portabl-read")
    try:
        for item in items:
            window.append((item, pool.submit(work, item)))
            if len(window) >= threads * WINDOW_PER_THREAD:
                first, future = window.popleft()
                yield first, future.result()
        while window:
            first, future = window.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
