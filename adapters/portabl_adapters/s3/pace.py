"""How many requests may be under way at once: halved when the store asks to slow down, grown back one by one."""

from __future__ import annotations

import threading
import time

SHRINK_PAUSE_SECONDS = 1.0
"""Answers to requests sent before a halving say nothing new: one halving a second at most."""


class Pace:
    """A semaphore whose limit follows the store (additive increase, multiplicative decrease; as TCP does, RFC 5681).

    ``limit`` starts at and never passes ``most``, which the number of calling threads bounds anyway: until the first
    slow-down nothing is counted and nothing locked. It never falls below 1; ``limit`` good answers make it grow by one.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._limit = float(self._most)
        self._active = 0
        self._shrunk = float("-inf")
        self._free = threading.Condition()
        self.held = False

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    def enter(self) -> bool:
        """Wait for a place; whether one was taken that `leave` has to give back."""
        if not self.held:
            return False
        with self._free:
            while self._active >= int(self._limit):
                self._free.wait()
            self._active += 1
        return True

    def leave(self) -> None:
        """Give a place back after an answer that did not ask to slow down."""
        with self._free:
            self._active -= 1
            self._limit = min(float(self._most), self._limit + 1 / self._limit)
            self.held = self._active > 0 or self._limit < self._most
            self._free.notify(2)

    def slow_down(self, *, entered: bool) -> None:
        """The store asked for less: give the place back, if one was taken, and halve the limit."""
        with self._free:
            if entered:
                self._active -= 1
            now = time.monotonic()
            if now - self._shrunk >= SHRINK_PAUSE_SECONDS:
                self._limit = max(1.0, self._limit / 2)
                self._shrunk = now
            self.held = True
            self._free.notify()
