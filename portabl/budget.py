"""A bound on the bytes in memory, shared by every copy of a run."""

from __future__ import annotations

import threading

BYTES_IN_FLIGHT = 64 * 2**20


class Budget:
    """Hands out at most ``limit`` bytes at a time. A request above the limit counts as the whole limit.

    One who is ``urgent`` may pass the limit while nobody else has: whoever holds bytes may be waiting for him (small
    objects, read already, wait for a large one under a watched key). So at most one request goes over the limit.
    """

    def __init__(self, limit: int = BYTES_IN_FLIGHT) -> None:
        self._limit = limit
        self._used = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)

    def take(self, count: int, *, wait: bool = True, urgent: bool = False) -> bool:
        """Reserve ``count`` bytes; False when ``wait`` is off and they are not free."""
        count = min(count, self._limit)
        with self._lock:
            while self._used + count > self._limit and not (urgent and self._used <= self._limit):
                if not wait:
                    return False
                self._waiting += 1
                self._freed.wait()
                self._waiting -= 1
            self._used += count
        return True

    def give(self, count: int) -> None:
        """Return what `take` reserved."""
        with self._lock:
            self._used -= min(count, self._limit)
            if self._waiting:
                self._freed.notify_all()
