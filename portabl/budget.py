"""A bound on the bytes in memory, shared by every copy of a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

BYTES_IN_FLIGHT = 64 * 2**20


class Budget:
    """Hands out at most ``limit`` bytes at a time. A request above the limit counts as the whole limit."""

    def __init__(self, limit: int = BYTES_IN_FLIGHT) -> None:
        self._limit = limit
        self._used = 0
        self._freed = threading.Condition()

    def take(self, count: int, *, wait: bool = True) -> bool:
        """Reserve ``count`` bytes; False when ``wait`` is off and they are not free."""
        count = min(count, self._limit)
        with self._freed:
            while self._used + count > self._limit:
                if not wait:
                    return False
                self._freed.wait()
            self._used += count
        return True

    def give(self, count: int) -> None:
        """Return what `take` reserved."""
        with self._freed:
            self._used -= min(count, self._limit)
            self._freed.notify_all()

    @contextmanager
    def bytes(self, count: int) -> Iterator[None]:
        """Reserve for the length of a block."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)
