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

    At most `QUEUE_PER_THREAD` items a thread are under way or waiting, so whoever puts them is slowed to the pace of
    the work. Permits go round through a second queue: both are C, an item costs well under a microsecond.
    """

    def __init__(self, threads: int, work: Callable[[T], None]) -> None:
        self._work = work
        self._items: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(threads * QUEUE_PER_THREAD):
            self._permits.put(None)
        self._error: BaseException | None = None
        self._cancelled = False
        self._threads = [threading.Thread(target=self._loop, name=f"portabl-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, item: T) -> None:
        """Queue one item, waiting for a permit; raises what a worker raised."""
        self._permits.get()
        if self._error is not None:
            raise self._error
        self._items.put(item)

    def finish(self) -> None:
        """Wait until everything is done; raises what a worker raised."""
        self._end()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Let what is under way come to its end and drop the rest."""
        self._cancelled = True
        self._end()

    def _end(self) -> None:
        for _ in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                if self._error is None and not self._cancelled:
                    self._work(item)
            except BaseException as error:
                self._error = self._error or error
            finally:
                self._permits.put(None)


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
