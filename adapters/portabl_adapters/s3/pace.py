"""How many requests may be under way at once: halved when the store asks to slow down, grown back one by one."""

from __future__ import annotations

import threading
import time

SHRINK_PAUSE_SECONDS = 1.0
"""Answers to requests sent before a halving say nothing new: one halving a second at most."""


class Pace:
    """A semaphore whose limit follows the store (additive increase, multiplicative decrease; as TCP does, RFC 5681).

    ``limit`` starts at and never passes ``most``; it never falls below 1. It grows by one after ``limit`` good answers.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._limit = float(self._most)
        self._active = 0
        self._shrunk = 0.0
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    def enter(self) -> None:
        """Wait for a place."""
        with self._free:
            while self._active >= int(self._limit):
                self._free.wait()
            self._active += 1

    def leave(self, *, slow_down: bool = False) -> None:
        """Give the place back and say how it went."""
        with self._free:
            self._active -= 1
            if slow_down:
                self._shrink()
            elif self._limit < self._most:
                self._limit = min(self._most, self._limit + 1 / self._limit)
                self._free.notify(2)
                return
            self._free.notify()

    def _shrink(self) -> None:
        now = time.monotonic()
        if now - self._shrunk >= SHRINK_PAUSE_SECONDS:
            self._limit = max(1.0, self._limit / 2)
            self._shrunk = now
