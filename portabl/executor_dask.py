"""A fleet on a Dask cluster: one that is running, or one made on this machine for the run.

Workers get names of places and steps, never a client or a secret; each reads the configuration at the same path and
resolves credentials in its own environment. They write segments to the job's state themselves, a directory that all
share or any fsspec URL (`portabl.desk`): no record passes through the scheduler. Dask gives the shards of a worker that
it lost to others.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from dataclasses import replace
from typing import Any

from portabl.errors import PortablError, Unreachable, UsageError
from portabl.fleet import Done, Lot
from portabl.throttle import Lease, Throttle
from portabl.worker import Orders, workplace

CONNECT_SECONDS = 30


class DaskFleet:
    """Shards as Dask tasks. ``scheduler``: its address, "" for a cluster of this machine's processes."""

    def __init__(self, orders: Orders, scheduler: str, throttle: Throttle | None) -> None:
        self._throttle = throttle
        self._orders = replace(orders, lessor=f"portabl-{uuid.uuid4().hex}") if throttle else orders
        self._scheduler = scheduler
        self._cluster = None if scheduler else _local_cluster(orders.workers)
        self._client = self._connected()
        self._lessor = self._leasing()
        self._out: set[Future[Done]] = set()

    @property
    def workers(self) -> int:
        """As many as there are now: a cluster may grow and shrink under a run."""
        known = self._client.scheduler_info(n_workers=-1)
        return max(1, len(known.get("workers", ())))  # a client that has given up knows of none

    def submit(self, lot: Lot) -> Future[Done]:
        """As `Fleet.submit`."""
        answer: Future[Done] = Future()
        self._out.add(answer)
        answer.add_done_callback(self._out.discard)
        name = f"portabl-{lot.number}-{uuid.uuid4().hex}"  # a shard given out again is another task
        try:
            if self._lessor and not self._lessor.alive:
                self._lessor = self._leasing()
            task = self._client.submit(_work, self._orders, lot, key=name, pure=False)
            task.add_done_callback(lambda done: _hand_over(done, answer))
        except Exception as gone:  # a client that has given up its scheduler: `renew` makes another
            _answered(answer, BrokenExecutor(repr(gone)))
        return answer

    def renew(self) -> None:
        """As `Fleet.renew`: connect again, to a scheduler that was started anew. What was out is lost."""
        self._release()
        for answer in tuple(self._out):  # a client that is closed says nothing more of its tasks
            _answered(answer, BrokenExecutor("the connection was given up"))
        self._client = self._connected()
        self._lessor = self._leasing()

    def close(self) -> None:
        """As `Fleet.close`; a cluster that was made for the run ends with it."""
        self._release()
        if self._cluster is not None:
            self._cluster.close()

    def _leasing(self) -> _Lessor | None:
        return _Lessor(self._throttle, self._client, self._orders.lessor) if self._throttle else None

    def _release(self) -> None:
        if self._lessor:
            self._lessor.close()
        with contextlib.suppress(Exception):  # of a scheduler that is gone there is nothing to take leave
            self._client.close()

    def _connected(self) -> Any:
        try:
            from distributed import Client
        except ImportError:
            raise UsageError("the Dask engine is not installed", hint="pip install 'portabl[dask]'") from None
        # else it prints tracebacks of what is told below, or mended
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            connect: Any = Client  # without types
            return connect(self._cluster or self._scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"no Dask scheduler answers at {self._scheduler}: {error}",
                hint="start one with `dask scheduler`, or leave --scheduler out for a cluster on this machine",
            ) from error


class _Lessor:
    """Grants leases of a throttle over queues that the scheduler keeps: workers need not reach this process."""

    def __init__(self, throttle: Throttle, client: Any, name: str) -> None:
        self._throttle = throttle
        self._client = client
        self._asked = self._queue(name)
        self._end = uuid.uuid4().hex  # a queue outlives who asks it: the end of an earlier one is none of this one
        self._thread = threading.Thread(target=self._grant, name="portabl-lessor", daemon=True)
        self._thread.start()

    def _queue(self, name: str) -> Any:
        from distributed import Queue

        queue: Any = Queue  # without types
        return queue(name, client=self._client)

    def _grant(self) -> None:
        answers: dict[str, Any] = {}
        # a scheduler that is lost ends this thread; the fleet sees it by its shards, and `renew` makes another
        with contextlib.suppress(Exception):
            while (wanted := self._asked.get()) != self._end:
                if isinstance(wanted, str):
                    continue
                holder, requests, sent, received = wanted
                if holder not in answers:
                    answers[holder] = self._queue(holder)
                answers[holder].put(self._throttle.lease(requests, sent, received, holder))

    @property
    def alive(self) -> bool:
        """Whether it still grants: a connection that was lost for a moment has ended it."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Grant no more."""
        with contextlib.suppress(Exception):  # the scheduler may be gone, and the thread with it
            self._asked.put(self._end, timeout=CONNECT_SECONDS)
        self._thread.join(CONNECT_SECONDS)


def _lease_from(name: str) -> Lease:
    """In a worker: ask the conductor, by way of the scheduler."""
    from distributed import Queue, get_client

    queue: Any = Queue  # without types
    client: Any = get_client
    holder = f"{name}-{uuid.uuid4().hex}"
    asked, answers = (queue(one, client=client()) for one in (name, holder))

    def lease(requests: int, sent: int, received: int) -> tuple[float, tuple[int, ...]]:
        try:
            asked.put((holder, requests, sent, received), timeout=CONNECT_SECONDS)
            seconds, granted = answers.get(timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError) as gone:
            raise Unreachable(f"the run that leads this worker does not answer: {gone!r}") from None
        return seconds, tuple(granted)

    return lease


def _local_cluster(workers: int) -> Any:
    try:
        from distributed import LocalCluster
    except ImportError:
        raise UsageError("the Dask engine is not installed", hint="pip install 'portabl[dask]'") from None
    start: Any = LocalCluster  # without types
    return start(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)


def _hand_over(task: Any, answer: Future[Done]) -> None:
    """The outcome of a Dask task as that of a plain future. Losing workers, or the scheduler, is `BrokenExecutor`."""
    status = task.status
    try:
        outcome = task.result() if status == "finished" else task.exception() if status == "error" else None
    except BaseException as lost:  # the connection broke on the way, or what came cannot be read
        outcome = lost
    if not isinstance(outcome, Done | PortablError):
        # KilledWorker, a cancelled task, a lost scheduler, a worker without portabl
        outcome = BrokenExecutor(f"{status}: {outcome!r}")
    _answered(answer, outcome)


def _answered(answer: Future[Done], outcome: Done | BaseException) -> None:
    """Settle a future, unless it is: a task may end while its connection is given up."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


def _work(orders: Orders, lot: Lot) -> Done:
    return workplace(orders, _lease_from).work(lot)
