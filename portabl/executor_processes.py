"""A fleet of processes on this machine: one interpreter has one lock, so one process uses hardly more than one core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import replace

from portabl.fleet import Done, Lot
from portabl.leases import Lessor, lease_from
from portabl.throttle import Throttle
from portabl.worker import Orders, workplace


class ProcessFleet:
    """``orders.workers`` processes. When one dies the pool is made anew; its shards come back as BrokenExecutor."""

    def __init__(self, orders: Orders, throttle: Throttle | None) -> None:
        self._lessor = Lessor(throttle) if throttle else None
        self._orders = replace(orders, lessor=self._lessor.address) if self._lessor else orders
        self._pool = self._opened()

    @property
    def workers(self) -> int:
        """As `Fleet.workers`."""
        return self._orders.workers

    def _opened(self) -> ProcessPoolExecutor:
        # spawned, not forked: this process has threads and connections that a copy must not share
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=settle_in)

    def submit(self, lot: Lot) -> Future[Done]:
        """As `Fleet.submit`."""
        try:
            return self._pool.submit(_work, self._orders, lot)
        except BrokenExecutor as broken:
            lost: Future[Done] = Future()
            lost.set_exception(broken)
            return lost

    def renew(self) -> None:
        """As `Fleet.renew`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._opened()

    def close(self) -> None:
        """As `Fleet.close`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._lessor:
            self._lessor.close()


def _work(orders: Orders, lot: Lot) -> Done:
    return workplace(orders, lease_from).work(lot)


def settle_in() -> None:
    """Signals are for the conductor, which tells its workers; a worker whose conductor dies ends at once."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_follow, name="portabl-follow", daemon=True).start()


def _follow() -> None:
    conductor = multiprocessing.parent_process()
    if conductor is not None:
        conductor.join()
        os._exit(1)
