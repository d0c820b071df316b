"""Stopping on request: the first signal finishes what is in flight, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from portabl.errors import Interrupted

_FIRST = b"\nstopping: finishing what is in flight (again to stop at once; nothing is lost either way)\n"
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets.

    A signal that whoever started the process had it ignore stays ignored: SIGHUP under `nohup`, SIGINT behind `&`.
    """
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(Interrupted.exit_code)  # state is safe at any instant, so nothing needs tidying
        stop.set()
        try:
            os.write(2, _FIRST)  # print() is not safe inside a signal handler
        except OSError:
            return

    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
