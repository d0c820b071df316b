"""A fleet on a Dask cluster: one that is running, or one made on this machine for the run.

Workers get names of places and steps, never a client or a secret; each reads the configuration at the same path and
resolves credentials in its own environment. They share the state directory with the conductor, where they write
segments themselves: no record passes through the scheduler. Dask gives the shards of a worker that it lost to others.
"""

from __future__ import annotations

import uuid
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from portabl.errors import PortablError, Unreachable, UsageError
from portabl.fleet import Done, Lot
from portabl.worker import Orders, workplace

CONNECT_SECONDS = 30


class DaskFleet:
    """Shards as Dask tasks. ``scheduler``: its address, "" for a cluster of this machine's processes."""

    def __init__(self, orders: Orders, scheduler: str) -> None:
        self._orders = orders
        self._scheduler = scheduler
        self._cluster = None if scheduler else _local_cluster(orders.workers)
        self._client = self._connected()

    @property
    def workers(self) -> int:
        """As many as there are now: a cluster may grow and shrink under a run."""
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def submit(self, lot: Lot) -> Future[Done]:
        """As `Fleet.submit`."""
        answer: Future[Done] = Future()
        name = f"portabl-{lot.number}-{uuid.uuid4().hex}"  # a shard given out again is another task
        task = self._client.submit(_work, self._orders, lot, key=name, pure=False)
        task.add_done_callback(lambda done: _hand_over(done, answer))
        return answer

    def renew(self) -> None:
        """As `Fleet.renew`: connect again, to a scheduler that was started anew."""
        self._client.close()
        self._client = self._connected()

    def close(self) -> None:
        """As `Fleet.close`; a cluster that was made for the run ends with it."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _connected(self) -> Any:
        try:
            from distributed import Client
        except ImportError:
            raise UsageError("the Dask engine is not installed", hint="pip install 'portabl[dask]'") from None
        try:
            connect: Any = Client  # without types
            return connect(self._cluster or self._scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"no Dask scheduler answers at {self._scheduler}: {error}",
                hint="start one with `dask scheduler`, or leave --scheduler out for a cluster on this machine",
            ) from error


def _local_cluster(workers: int) -> Any:
    try:
        from distributed import LocalCluster
    except ImportError:
        raise UsageError("the Dask engine is not installed", hint="pip install 'portabl[dask]'") from None
    start: Any = LocalCluster  # without types
    return start(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)


def _hand_over(task: Any, answer: Future[Done]) -> None:
    """The outcome of a Dask task as that of a plain future. Losing workers, or the scheduler, is `BrokenExecutor`."""
    if task.status == "finished":
        answer.set_result(task.result())
        return
    error = task.exception() if task.status == "error" else None
    if isinstance(error, PortablError):
        answer.set_exception(error)
    else:  # KilledWorker, a cancelled task, a lost scheduler, a worker without portabl
        answer.set_exception(BrokenExecutor(f"{task.status}: {error!r}"))


def _work(orders: Orders, lot: Lot) -> Done:
    return workplace(orders).work(lot)
