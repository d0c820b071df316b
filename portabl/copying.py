"""The copy stage of a pass: steps in key order go to worker threads, their outcomes into shards."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Protocol

from portabl.errors import AccessDenied, Interrupted, StorageError
from portabl.executors import Driven, Workers
from portabl.guard import KeyGuard
from portabl.model import Entry, Record
from portabl.plan import Action, Step
from portabl.progress import Progress
from portabl.shards import Shard
from portabl.state import Pass
from portabl.storage import Storage
from portabl.tally import Tally
from portabl.tasks import Task, aside, finish
from portabl.transfer import SINGLE_MAX, Mover, ObjectFailed, lost


class Destination(Protocol):
    """Where records go: `Shards`, or the one shard of a worker."""

    trouble: BaseException | None

    def place(self, key: bytes) -> Shard:
        """The shard for the next key in order."""

    def late(self) -> Shard:
        """A shard for keys written after all others."""

    def finish(self) -> Pass:
        """Everything planned has its record."""

    def abandon(self) -> None:
        """Stop where we are; what is recorded stays readable."""


class Stop(Protocol):
    """Whether to stop after what is in flight; a threading.Event is one."""

    def is_set(self) -> bool:
        """Asked between objects and between parts."""


_Item = tuple["Shard | _Caught", Step]
_Workers = Workers[_Item] | Driven[_Item]
FAILURES_IN_A_ROW = 64
"""When so many objects in a row get no answer or no permission, it is the place that is in trouble."""


class CopyStage:
    """Copies what the plan says. One bad object is named and passed; a place in trouble ends the run."""

    def __init__(
        self, mover: Mover, shards: Destination, tally: Tally, progress: Progress, threads: int, stop: Stop
    ) -> None:
        self._mover = mover
        self._shards = shards
        self._tally = tally
        self._progress = progress
        self._threads = threads
        self._stop = stop
        self._halted = False
        self._breaker = Breaker(mover.source, mover.target)
        mover.halt = self.halted

    def halted(self) -> bool:
        """Whether large copies should stop between two parts: on request, or because the stage failed."""
        return self._halted or self._stop.is_set()

    @property
    def guard(self) -> KeyGuard:
        """What watches the writes."""
        return self._mover.guard

    def run(self, steps: Iterable[Step]) -> Pass:
        """Carry out every step; returns the pass with all its records.

        Raises Interrupted when asked to stop, or the error of the place in trouble.
        """
        with self._mover.engine() or nullcontext() as engine:
            if engine is None:
                return self._carry_out(steps, Workers(self._threads, self._work))
            return self._carry_out(steps, Driven(self._threads, self._working, engine))

    def last(self, steps: list[Step]) -> Pass:
        """Carry out what comes after all else, one by one; the pass with the records of just these."""
        try:
            self._last(steps)
            return self._shards.finish()
        except BaseException:
            self._shards.abandon()
            raise

    def single(self, step: Step) -> Record | None:
        """Carry out one step in this thread; its record (None: nothing to record). Raises as `run` does."""
        caught = _Caught()
        self._work((caught, step))
        return caught.record

    def _carry_out(self, steps: Iterable[Step], workers: _Workers) -> Pass:
        late: list[Step] = []
        try:
            for step in steps:
                self.check()
                self._dispatch(step, workers, late)
            workers.finish()
            self._last(late)
            return self._shards.finish()
        except BaseException:
            self._halted = True
            workers.cancel()
            self._shards.abandon()
            raise

    def check(self) -> None:
        """Raises Interrupted when asked to stop, or what keeps records from being written."""
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
            self._breaker.known()
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
            self.check()
            self._work((shard, step))
        shard.seal()

    def _work(self, item: _Item) -> None:
        finish(self._working(item))

    def _working(self, item: _Item) -> Task[None]:
        shard, step = item
        whole = False
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
            elif outcome.shared:
                self._tally.add("shared")
                whole = True
        yield from shard.adding(record)
        self._advance(step.entry, whole=whole)

    def _advance(self, entry: Entry, *, whole: bool = False) -> None:
        # the bytes of a large object were counted part by part, unless they were shared
        self._progress.advance(1, entry.size if whole or entry.size <= SINGLE_MAX else 0)


class _Caught:
    """Takes one record where a shard would."""

    record: Record | None = None

    def adding(self, record: Record) -> Task[None]:
        self.record = record
        return
        yield

    def drop(self) -> None:
        """Nothing to record."""


class Breaker:
    """Decides when failing objects mean a failing place."""

    def __init__(self, source: Storage, target: Storage) -> None:
        self._source = source
        self._target = target
        self._in_a_row = 0
        self._ever_worked = False

    def worked(self) -> None:
        """An object arrived."""
        self._in_a_row = 0
        self._ever_worked = True

    def known(self) -> None:
        """An object arrived in an earlier run: a place that gave it is no stranger, but may be in trouble now."""
        self._ever_worked = True

    def failed(self, cause: StorageError) -> None:
        """Raises ``cause`` when it is about a place: refused from the first write on, or too often in a row.

        Where objects have worked before, a place that refuses many in a row is asked whether it still lists anything
        for us: some stores say of expired credentials no more than that access is denied.
        """
        denied = isinstance(cause, AccessDenied)
        if not (cause.transient or denied):
            return
        self._in_a_row += 1  # a lost update only delays the verdict
        if denied and cause.storage == self._target.name and not self._ever_worked:
            raise cause
        if self._in_a_row < FAILURES_IN_A_ROW:
            return
        if cause.transient or not self._ever_worked:
            raise cause
        self._in_a_row = 0
        place = self._target if cause.storage == self._target.name else self._source
        place.check(write=False)
