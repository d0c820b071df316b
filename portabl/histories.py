"""All versions of a key, moved by one worker from the oldest on, so that the target's history has the same order.

Where a history was left off is found by looking: the leading versions that the target shows as the last records wrote
them are settled; one more that is there without a record (written just before a crash) is read and compared; what
follows is appended. A target history that does not begin as the source's does is reported and never touched: only
deleting could mend it. Nor is a version left out: when one does not arrive, the later ones of its key wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from portabl import checksum
from portabl.copying import Breaker
from portabl.errors import Changed, Corrupt, Interrupted, StorageError, UsageError
from portabl.executors import Workers
from portabl.large import LargeMover
from portabl.model import Entry, Loss, Metadata, Record, Seen, Written
from portabl.plan import AN_OLDER_ONE, Action, History, Step
from portabl.progress import Progress
from portabl.readback import Reader
from portabl.records import encode
from portabl.shapes import beyond, read_back, without
from portabl.shards import Shard, Shards
from portabl.state import Pass
from portabl.storage import Storage
from portabl.tally import Tally
from portabl.tasks import finish
from portabl.transfer import ATTEMPTS, SINGLE_MAX, Mover, check_restore, record, with_losses_of

INLINE = 1_000
"""A history with more versions is carried while nothing else is planned, so that few such are held at once."""
OTHER_HISTORY = "the target's history of this key is another one, and stays as it is"


def check(source: Storage, target: Storage) -> None:
    """Refuse what cannot end in equal histories. Raises UsageError."""
    if not source.capabilities.versions:
        raise UsageError(
            f"{source.name} keeps one version of each object", hint="leave `--versions all` out for such a source"
        )
    if target.capabilities.versions and target.keeps_versions():
        return
    choice = "migrate what is current with `--versions current`"
    if target.capabilities.versions:
        choice = f"enable versioning there and run the same command again, or {choice}"
    raise UsageError(
        f"{target.name} does not keep versions, so all but the last of each key would be lost", hint=choice
    )


def rehearsed(steps: Iterable[History]) -> dict[str, int]:
    """What a run would do, as figures of a report, going by how many versions there are on both sides."""
    figures = dict.fromkeys(("objects", "delete_markers", "bytes", "copied", "bytes_copied", "extra"), 0)
    for step in steps:
        markers = sum(entry.delete_marker for entry in step.source)
        missing = step.source[len(step.target) :]
        figures["objects"] += len(step.source) - markers
        figures["delete_markers"] += markers
        figures["bytes"] += sum(entry.size for entry in step.source)
        figures["copied"] += len(missing)
        figures["bytes_copied"] += sum(entry.size for entry in missing)
        figures["extra"] += len(step.target[len(step.source) :])
    return figures


class HistoryMover:
    """Carries versions one at a time; safe to call from many threads, each with a key of its own."""

    def __init__(self, mover: Mover, large: LargeMover) -> None:
        self._mover = mover
        self._large = large
        self._source = Reader(mover.source, mover.budget)
        self._target = Reader(mover.target, mover.budget)

    def close(self) -> None:
        """End the threads that read."""
        self._source.__exit__()
        self._target.__exit__()

    def carry(
        self, entry: Entry, there: Entry | None, previous: str, restore: Record | None = None
    ) -> tuple[Record, bool]:
        """Make ``entry`` the next version at the target, unless it is there as ``there``; and whether it was written.

        ``previous``: the version it comes after, "" for the first. ``restore``: what a manifest says of it.
        Raises StorageError, Interrupted.
        """
        if there is not None:
            return self._adopted(entry, there, restore), False
        if entry.delete_marker:
            written = self._mover.target.append(entry.key, None, Metadata(), previous)
            return _deletion(entry, written), True
        large = entry.size > SINGLE_MAX
        found = self._large_one(entry, previous, restore) if large else self._small_one(entry, previous, restore)
        assert found.target is not None
        if not found.target.version:  # Ceph does not say which version a finished upload has become
            found = replace(found, target=self._named(entry, found.target, previous))
        return replace(found, ordinal=entry.ordinal), True

    def _small_one(self, entry: Entry, previous: str, restore: Record | None) -> Record:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._once(entry, previous, restore)
            except Corrupt:
                continue
        return self._once(entry, previous, restore)

    def _once(self, entry: Entry, previous: str, restore: Record | None) -> Record:
        mover = self._mover
        mover.budget.take(entry.size)
        try:
            content = mover.source.read(entry)
            if len(content.data) != entry.size:
                raise Changed(f"listed with {entry.size} bytes, read {len(content.data)}", key=entry.key)
            body = checksum.body(content.data, md5=True)
            digests = {"sha256": body.sha256, "md5": body.md5}
            checksum.confirm(content.info.digests, digests, entry.key, mover.source.name)
            check_restore(restore, entry, body.sha256)
            metadata = restore.metadata if restore else content.info.metadata
            info = with_losses_of(restore, content.info)
            known = beyond(mover.target.capabilities, metadata)
            sent = without(metadata, known)
            written = mover.guard.write(
                entry.key,
                listed=bool(previous),
                write=lambda: mover.target.append(entry.key, body, sent, previous),
            )
        finally:
            mover.budget.give(entry.size)
        done = finish(mover.finishing(entry, body.sha256, info, metadata, written, known)).record
        assert done is not None
        return done

    def _large_one(self, entry: Entry, previous: str, restore: Record | None) -> Record:
        """In parts: an upload becomes a version once, however often its end is asked for."""
        on_top = replace(entry, version=previous) if previous else None
        done = self._large(self._mover, Step(Action.COPY, entry, on_top, restore=restore), entry).record
        assert done is not None
        return done

    def _named(self, entry: Entry, seen: Seen, previous: str) -> Seen:
        there = self._mover.target.history(entry.key)
        before = there[-2].version if len(there) > 1 else ""
        if not there or there[-1].etag != seen.etag or before != previous:
            raise Changed("something else writes to this key", key=entry.key, storage=self._mover.target.name)
        return replace(seen, version=there[-1].version)

    def _adopted(self, entry: Entry, there: Entry, restore: Record | None) -> Record:
        """The record of a version that is there already, by its bytes. Raises Changed when it is another one."""
        if entry.delete_marker and there.delete_marker:
            return _deletion(entry, Written("", there.version))
        if entry.delete_marker or there.delete_marker or entry.size != there.size:
            raise Changed(OTHER_HISTORY, key=entry.key, storage=self._mover.target.name)
        ours, theirs = self._source.read(entry), self._target.read(there)
        if ours.sha256 != theirs.sha256:
            raise Changed(OTHER_HISTORY, key=entry.key, storage=self._mover.target.name)
        check_restore(restore, entry, ours.sha256)
        metadata = restore.metadata if restore else ours.info.metadata
        info = with_losses_of(restore, ours.info)
        known = beyond(self._mover.target.capabilities, metadata)
        losses = (*known, *read_back(without(metadata, known), theirs.info))
        written = Written(there.etag, there.version)
        return replace(record(entry, ours.sha256, info, metadata, written, losses), ordinal=entry.ordinal)


def _deletion(entry: Entry, written: Written) -> Record:
    return Record(
        entry.key,
        0,
        None,
        ordinal=entry.ordinal,
        delete_marker=True,
        source=Seen("", entry.modified, entry.version),
        target=Seen("", "", written.version),
    )


class HistoryStage:
    """The copy stage of a pass over all versions: a history a worker, a record a version."""

    def __init__(
        self,
        mover: Mover,
        large: LargeMover,
        shards: Shards,
        tally: Tally,
        progress: Progress,
        threads: int,
        stop: threading.Event,
    ) -> None:
        self._mover = mover
        self._versions = HistoryMover(mover, large)
        self._shards = shards
        self._tally = tally
        self._progress = progress
        self._threads = threads
        self._stop = stop
        self._halted = False
        self._breaker = Breaker(mover.source, mover.target)
        mover.halt = self.halted

    def halted(self) -> bool:
        """Whether to stop between two parts, or two versions."""
        return self._halted or self._stop.is_set()

    def run(self, steps: Iterable[History]) -> Pass:
        """Carry every history; returns the pass with all its records.

        Raises Interrupted when asked to stop, or the error of the place in trouble.
        """
        workers = Workers(self._threads, self._work)
        late: list[History] = []
        try:
            for step in steps:
                self._check()
                if step.source and not step.key.strip(b"/"):
                    late.append(step)
                elif len(step.source) > INLINE:
                    self._work((self._placed(step), step))
                elif step.source:
                    workers.put((self._placed(step), step))
            workers.finish()
            self._last(late)
            return self._shards.finish()
        except BaseException:
            self._halted = True
            workers.cancel()
            self._shards.abandon()
            raise
        finally:
            self._versions.close()

    def _last(self, late: list[History]) -> None:
        """Keys made only of slashes come after all others, when it is known what the target does to names."""
        if not late:
            return
        shard = self._shards.late()
        for step in late:
            for _ in step.source:
                shard.plan(step.key)
        for step in late:
            self._check()
            self._work((shard, step))
        shard.seal()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped on request")
        if self._shards.trouble is not None:
            raise self._shards.trouble

    def _placed(self, step: History) -> Shard:
        shard = self._shards.place(step.key)
        for _ in step.source[1:]:
            shard.plan(step.key)
        return shard

    def _work(self, item: tuple[Shard, History]) -> None:
        shard, step = item
        settled = step.settled()
        for line, known in settled:
            shard.add_line(line if not known.losses else encode(_as_carried(known)))
            self._tally.add("unchanged")
            self._breaker.known()
            self._progress.advance(1, known.size)
        previous = step.target[len(settled) - 1].version if settled else ""
        reason = ""
        for number, entry in enumerate(step.source[len(settled) :], len(settled)):
            if self.halted():
                raise Interrupted("stopped between two versions", key=step.key)
            there = step.target[number] if number < len(step.target) else None
            done = self._next(entry, there, previous, reason, step.restore.get(entry.ordinal))
            shard.add(done)
            self._advance(entry)
            if done.target is None:
                reason = done.losses[0].reason if done.losses[0].reason == OTHER_HISTORY else AN_OLDER_ONE
            else:
                previous = done.target.version

    def _next(self, entry: Entry, there: Entry | None, previous: str, reason: str, restore: Record | None) -> Record:
        """The record of one version; lost when it, or one before it, cannot be carried."""
        if reason or entry.problem:
            return _lost(entry, reason or entry.problem, restore)
        try:
            if not entry.key.strip(b"/"):
                self._mover.guard.refuse_unproven(entry.key)
            done, written = self._versions.carry(entry, there, previous, restore)
        except StorageError as error:
            if not error.passable:
                raise
            self._breaker.failed(error)
            return _lost(entry, error.message, restore)
        self._breaker.worked()
        if written:
            self._tally.wrote(entry.size, replaced=bool(previous))
        else:
            self._tally.add("adopted")
        return done

    def _advance(self, entry: Entry) -> None:
        # the bytes of a large object were counted part by part
        self._progress.advance(1, entry.size if entry.size <= SINGLE_MAX else 0)


def _as_carried(known: Record) -> Record:
    """A record without what was found behind its version: that is looked at anew."""
    return replace(known, losses=tuple(loss for loss in known.losses if loss.field != "history"))


def _lost(entry: Entry, reason: str, restore: Record | None) -> Record:
    return Record(
        key=entry.key,
        size=entry.size,
        sha256=restore.sha256 if restore else None,
        metadata=restore.metadata if restore else Metadata(),
        ordinal=entry.ordinal,
        delete_marker=entry.delete_marker,
        source=Seen(entry.etag, entry.modified, entry.version),
        losses=(Loss("object", reason),),
    )
