"""Shards: contiguous ranges of the key order, each with an append-only file of the records it has so far.

A record is handed to the operating system at once, so a killed process loses none, and is on the disk within
`SYNC_SECONDS`, so a power cut loses no more. When the last object of a shard is recorded its file is closed, renamed
from .log to .seg, and noted in the journal.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Protocol

from portabl import records, worklog
from portabl.journal import Journal
from portabl.model import Record
from portabl.state import Pass, state_error
from portabl.tasks import Task, aside
from portabl.worklog import LATE

SHARD_OBJECTS = 5_000
SYNC_SECONDS = 2.0


class Writer(Protocol):
    """Whoever has shards written."""

    def closed(self, shard: Shard) -> None:
        """A shard has all its records."""


class Shard:
    """Records of one key range. `add` is called from many threads."""

    def __init__(self, number: int, path: Path, writer: Writer) -> None:
        self.number = number
        self.first = self.last = b""
        self.planned = 0
        self._path = path
        self._writer = writer
        self._guard = threading.Lock()
        self._sealed = False
        self._recorded = 0
        self._file: FileIO = path.open("wb", buffering=0)

    def plan(self, key: bytes) -> None:
        """One more object belongs to this shard."""
        with self._guard:
            if not self.planned:
                self.first = key
            self.last = key
            self.planned += 1

    def add(self, record: Record) -> None:
        """The outcome for one planned object."""
        self.add_line(records.encode(record))

    def adding(self, record: Record) -> Task[None]:
        """The same as a task: closing the shard takes its time."""
        if self._append(records.encode(record)):
            yield aside
            self._close()

    def add_line(self, line: bytes) -> None:
        """The same, for a line that is known already."""
        if self._append(line):
            self._close()

    def _append(self, line: bytes) -> bool:
        """Whether that was the last of a sealed shard."""
        try:
            with self._guard:
                _write_all(self._file, worklog.sealed(line))
                self._recorded += 1
                return self._sealed and self._recorded == self.planned
        except OSError as full:
            raise state_error(full, self._path) from full

    def drop(self) -> None:
        """One planned object needs no record after all."""
        with self._guard:
            self.planned -= 1
            done = self._sealed and self._recorded == self.planned
        if done:
            self._close()

    def seal(self) -> None:
        """No further object will be planned."""
        with self._guard:
            self._sealed = True
            done = self._recorded == self.planned
        if done:
            self._close()

    def sync(self) -> None:
        """Push what is recorded all the way to the disk."""
        with self._guard:
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def _close(self) -> None:
        try:
            with self._guard:
                if self._file.closed:
                    return
                os.fsync(self._file.fileno())
                self._file.close()
            self._path.replace(self._path.with_suffix(".seg"))
        except OSError as full:
            raise state_error(full, self._path) from full
        self._writer.closed(self)

    def abandon(self) -> None:
        """Let go of the file as it is, for a later run to read."""
        with self._guard:
            self._file.close()


def _write_all(file: FileIO, data: bytes) -> None:
    """A disk that is nearly full takes a part of a line first."""
    written = file.write(data) or 0
    while written < len(data):
        written += file.write(memoryview(data)[written:]) or 0


class Shards:
    """The shards of one pass: the one being filled, those still waiting for records, and a thread that syncs."""

    def __init__(
        self, run: Pass, journal: Journal, when_closed: Callable[[], None] = lambda: None, first: int = 0
    ) -> None:
        self._pass = run
        self._journal = journal
        self._when_closed = when_closed
        self._guard = threading.Lock()
        self._open: dict[int, Shard] = {}
        self._current: Shard | None = None
        self._count = first
        self._recorded = 0
        self._stop = threading.Event()
        self.trouble: BaseException | None = None
        self._syncer = threading.Thread(target=self._sync_loop, name="portabl-sync", daemon=True)
        self._syncer.start()

    def place(self, key: bytes) -> Shard:
        """The shard for the next key in order."""
        shard = self._current
        if shard is None or shard.planned >= SHARD_OBJECTS:
            if shard is not None:
                shard.seal()
            shard = self._current = self._new(f"{self._count:06d}")
        shard.plan(key)
        return shard

    def late(self) -> Shard:
        """A shard for keys written after all others."""
        return self._new(LATE)

    def _new(self, stem: str) -> Shard:
        path = self._pass.path / f"{stem}.log"
        try:
            shard = Shard(self._count, path, self)
        except OSError as full:
            raise state_error(full, path) from full
        with self._guard:
            self._open[shard.number] = shard
        self._count += 1
        return shard

    def closed(self, shard: Shard) -> None:
        """A shard has all its records."""
        self._journal.add_shard(self._pass.number, shard.number, shard.first, shard.last, shard.planned)
        with self._guard:
            self._open.pop(shard.number, None)
            self._recorded += shard.planned
            self._when_closed()

    def finish(self) -> Pass:
        """Seal the last shard; every object planned has been recorded. Returns the pass with its number of records."""
        if self._current is not None:
            self._current.seal()
        self._halt()
        if self.trouble is not None:
            raise self.trouble
        if self._open:
            raise AssertionError(f"shards without all their records: {sorted(self._open)}")
        return replace(self._pass, objects=self._recorded)

    def abandon(self) -> None:
        """Stop where we are; what is recorded stays readable."""
        self._halt()
        for shard in list(self._open.values()):
            shard.abandon()

    def _halt(self) -> None:
        self._stop.set()
        self._syncer.join()

    def _sync_loop(self) -> None:
        while not self._stop.wait(SYNC_SECONDS):
            with self._guard:
                shards = list(self._open.values())
            try:
                for shard in shards:
                    shard.sync()
            except OSError as full:
                self.trouble = state_error(full, self._pass.path)
                return
