"""What carries out work: threads with a bounded queue, an engine with threads beside it, an ordered window."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from portabl.tasks import Call, Carrier, Task, briefly, finish, resumed, until

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

QUEUE_PER_THREAD = 4
WINDOW_PER_THREAD = 4


class Workers(Generic[T]):
    """Up to ``threads`` threads that run ``work`` on every item put in; the first exception ends it all.

    Each of the first items brings a thread with it, so that few items have few.

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
        self._most = threads
        self._threads: list[threading.Thread] = []

    def put(self, item: T) -> None:
        """Queue one item, waiting for a permit; raises what a worker raised. One thread puts all items."""
        self._permits.get()
        if self._error is not None:
            raise self._error
        self._items.put(item)
        if len(self._threads) < self._most:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._loop, name=f"portabl-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine lets us have no more threads: those that run do it all
            if not self._threads:
                raise
            self._most = len(self._threads)
        else:
            self._threads.append(thread)

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


class Driven(Generic[T]):
    """Runs ``work``, a task an item: most of them in one thread, many at once, and where one meets with anything out of
    the ordinary, in one of ``threads`` threads, for good or `briefly`. The first exception ends it all.

    At most ``threads`` items are under way, `QUEUE_PER_THREAD` times as many wait. Threads that hand the interpreter to
    each other a few times an object cost more than all else does for a small one (measured: two and a half times).
    """

    def __init__(self, threads: int, work: Callable[[T], Task[None]], engine: Carrier) -> None:
        self._threads = threads
        self._work = work
        self._engine = engine
        self._waiting: deque[T] = deque()
        self._most_waiting = threads * QUEUE_PER_THREAD
        self._room = threading.Event()
        self._guard = threading.Lock()
        self._under_way = 0
        self._back: deque[Task[None]] = deque()
        self._lent = 0
        self._full = self._hungry = self._closed = False
        self._error: BaseException | None = None
        self._others: Workers[tuple[Task[None], Call]] = Workers(threads, self._elsewhere)
        self._thread = threading.Thread(target=self._drive, name="portabl-engine", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue one item, waiting while too many do; raises what was raised for another."""
        if self._error is not None:
            raise self._error
        self._waiting.append(item)
        if self._hungry:
            self._engine.wake()
        if len(self._waiting) >= self._most_waiting:
            self._room.clear()  # and then let many in at once: each wait is a change of threads
            if len(self._waiting) > self._most_waiting // 2:
                self._room.wait()

    def finish(self) -> None:
        """Wait until everything is done; raises what was raised for any item."""
        self._end()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Let what is under way come to its end and drop the rest."""
        self._waiting.clear()
        self._end()

    def _end(self) -> None:
        self._closed = True
        self._engine.wake()
        self._thread.join()
        self._others.finish()

    def _drive(self) -> None:
        try:
            self._engine.run(self._take, self._away, self._over)
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._most_waiting = 2**62  # nobody takes any more
            self._room.set()

    def _over(self) -> bool:
        return self._closed and not self._waiting and not self._lent and not self._back

    def _take(self) -> Task[None] | None:
        if self._back:
            return self._back.popleft()
        self._full = self._hungry = False
        if self._under_way >= self._threads:
            self._full = True  # said before looking again: whoever ends one in between wakes the engine
            if self._under_way >= self._threads:
                return None
        try:
            item = self._waiting.popleft()
        except IndexError:
            self._hungry = True
            try:
                item = self._waiting.popleft()  # put in between, by somebody who saw no reason to wake anybody
            except IndexError:
                return None
        with self._guard:
            self._under_way += 1
        if len(self._waiting) <= self._most_waiting // 2:
            self._room.set()
        return self._guarded(item)

    def _guarded(self, item: T) -> Task[None]:
        try:
            if self._error is None:
                yield from self._work(item)
        except BaseException as error:
            self._error = self._error or error
        finally:
            with self._guard:
                self._under_way -= 1

    def _away(self, task: Task[None], call: Call) -> None:
        if call is briefly:
            with self._guard:
                self._lent += 1
        self._others.put((task, call))

    def _elsewhere(self, pair: tuple[Task[None], Call]) -> None:
        task, call = pair
        if call is not briefly:
            finish(task, call)
            if self._full:
                self._engine.wake()
            return
        try:
            left = until(task, call, self._engine.carries)
            if left is not None:
                self._back.append(resumed(task, left))
        finally:
            with self._guard:
                self._lent -= 1
            self._engine.wake()


class LatePool:
    """At most ``threads`` threads for calls that end in futures. All of it is loaded and started with the first call:
    most runs make none.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()

    def submit(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have ``work`` called in one of the threads."""
        with self._guard:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
        return self._pool.submit(work, *args, **kwargs)

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def in_order(items: Iterable[T], work: Callable[[T], R], threads: int) -> Iterator[tuple[T, R]]:
    """Run ``work`` on many items at once and yield (item, result) in the order of the items; memory is bounded.

    An exception of ``work`` is raised where its item would have come.
    """
    window: deque[tuple[T, Future[R]]] = deque()
    pool = LatePool(threads, "portabl-read")
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
        pool.close()
