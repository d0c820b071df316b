"""The copy stage of a pass: steps in key order go to worker threads, their outcomes into shards."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import nullcontext

from portabl.errors import AccessDenied, Interrupted, StorageError
from portabl.executors import Driven, Workers
from portabl.model import Entry
from portabl.plan import Action, Step
from portabl.progress import Progress
from portabl.shards import Shard, Shards
from portabl.state import Pass
from portabl.tally import Tally
from portabl.tasks import Task, aside, finish
from portabl.transfer import SINGLE_MAX, Mover, ObjectFailed, lost

_Workers = Workers[tuple[Shard, Step]] | Driven[tuple[Shard, Step]]
FAILURES_IN_A_ROW = 64
"""When so many objects in a row get no answer or no permission, it is the place that is in trouble."""


class CopyStage:
    """Copies what the plan says. One bad object is named and passed; a place in trouble ends the run."""

    def __init__(
        self, mover: Mover, shards: Shards, tally: Tally, progress: Progress, threads: int, stop: threading.Event
    ) -> None:
        self._mover = mover
        self._shards = shards
        self._tally = tally
        self._progress = progress
        self._threads = threads
        self._stop = stop
        self._halted = False
        self._breaker = Breaker(mover.target.name)
        mover.halt = self.halted

    def halted(self) -> bool:
        """Whether large copies should stop between two parts: on request, or because the stage failed."""
        return self._halted or self._stop.is_set()

    def run(self, steps: Iterable[Step]) -> Pass:
        """Carry out every step; returns the pass with all its records.

        Raises Interrupted when asked to stop, or the error of the place in trouble.
        """
        with self._mover.engine() or nullcontext() as engine:
            if engine is None:
                return self._carry_out(steps, Workers(self._threads, self._work))
            return self._carry_out(steps, Driven(self._threads, self._working, engine))

    def _carry_out(self, steps: Iterable[Step], workers: _Workers) -> Pass:
        late: list[Step] = []
        try:
            for step in steps:
                self._check()
                self._dispatch(step, workers, late)
            workers.finish()
            self._last(late)
            return self._shards.finish()
        except BaseException:
            self._halted = True
            workers.cancel()
            self._shards.abandon()
            raise

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped on request")
        if self._shards.trouble is not None:
            raise self._shards.trouble

    def _dispatch(self, step: Step, workers: _Workers, late: list[Step]) -> None:
        if step.action is Action.EXTRA:
            return
        if not step.entry.key.strip(b"/") and step.action is Action.COPY:
            late.append(step)
            return
        shard = self._shards.place(step.entry.key)
        if step.action is Action.KEEP:
            assert step.known is not None
            shard.add_line(step.known[0])
            self._tally.unchanged += 1  # only this thread keeps
            self._progress.advance(1, step.entry.size)
        else:
            workers.put((shard, step))

    def _last(self, late: list[Step]) -> None:
        """Keys made only of slashes come after all others, when it is known what the target does to names."""
        if not late:
            return
        shard = self._shards.late()
        for step in late:
            shard.plan(step.entry.key)
        for step in late:
            self._check()
            self._work((shard, step))
        shard.seal()

    def _work(self, item: tuple[Shard, Step]) -> None:
        finish(self._working(item))

    def _working(self, item: tuple[Shard, Step]) -> Task[None]:
        shard, step = item
        try:
            if not step.entry.key.strip(b"/"):
                self._mover.guard.refuse_unproven(step.entry.key)
            outcome = yield from self._mover.moving(step)
        except ObjectFailed as failed:
            self._breaker.failed(failed.cause)
            record = failed.record
        except StorageError as refused:
            if not refused.per_object:
                raise
            record = lost(step.entry, refused.message, step.restore)
        else:
            self._breaker.worked()
            if outcome.record is None:
                yield aside
                shard.drop()
                return
            record = outcome.record
            if outcome.written:
                self._tally.wrote(record.size, replaced=step.target is not None or step.known is not None)
            elif outcome.adopted:
                self._tally.add("adopted")
        yield from shard.adding(record)
        self._advance(step.entry)

    def _advance(self, entry: Entry) -> None:
        # the bytes of a large object were counted part by part
        self._progress.advance(1, entry.size if entry.size <= SINGLE_MAX else 0)


class Breaker:
    """Decides when failing objects mean a failing place."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._in_a_row = 0
        self._ever_worked = False

    def worked(self) -> None:
        """An object arrived."""
        self._in_a_row = 0
        self._ever_worked = True

    def failed(self, cause: StorageError) -> None:
        """Raises ``cause`` when it is about a place: refused from the first write on, or too often in a row."""
        if not (cause.transient or isinstance(cause, AccessDenied)):
            return
        self._in_a_row += 1  # a lost update only delays the verdict
        first_write = isinstance(cause, AccessDenied) and cause.storage == self._target and not self._ever_worked
        if first_write or (self._in_a_row >= FAILURES_IN_A_ROW and (cause.transient or not self._ever_worked)):
            raise cause
