"""Stage 3: move one object: read, hash in passing, write, confirm.

Every outcome is a `Record`. Trouble with one object becomes a loss in its record; trouble with a whole place is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from portabl import checksum
from portabl.budget import Budget
from portabl.errors import Changed, Corrupt, PortablError, Refused, StorageError
from portabl.guard import KeyGuard
from portabl.model import Body, Content, Entry, Loss, Metadata, ObjectInfo, Record, Seen, Written
from portabl.plan import Action, Step
from portabl.shapes import Shapes, beyond, read_back, without
from portabl.slots import filled_directly
from portabl.storage import Storage
from portabl.tasks import Carrier, Task, aside, finish

ATTEMPTS = 3
"""Times an object is tried when it changes under the copy or arrives damaged (the adapter retries its own requests)."""

SINGLE_MAX = 16 * 2**20
"""Bytes up to which an object is read and written in one piece."""

BRIEF_MAX = 256 * 2**10
"""Bytes up to which an object is hashed in the thread that carries many; larger ones would keep the others waiting."""


@filled_directly
@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one step: its record (None: nothing to record), whether bytes were written, or shared."""

    record: Record | None
    written: bool = False
    adopted: bool = False
    shared: bool = False


class Mover:
    """Copies objects from one storage to another; safe to call from many threads.

    ``large`` copies an object that is too big for one piece (see `portabl.large`); ``halt`` tells whether to stop
    between two parts. ``earlier``: the snapshot that SHARE takes bodies from.
    """

    def __init__(
        self,
        source: Storage,
        target: Storage,
        budget: Budget,
        large: Callable[[Mover, Step, Entry], Outcome],
        halt: Callable[[], bool],
        earlier: Storage | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.guard = KeyGuard(target)
        self.shapes = Shapes(target.stating)
        self.budget = budget
        self.halt = halt
        self.earlier = earlier
        self._large = large
        self.same_store = target.copies(source)
        self._bodies_only = target.capabilities.metadata_in_manifest

    def engine(self) -> Carrier | None:
        """What carries requests of many copies at once in one thread, where one of the places makes requests."""
        place = self.target if self.target.capabilities.engine else self.source
        return place.engine()

    def move(self, step: Step) -> Outcome:
        """Carry out all but KEEP and EXTRA. Raises only what concerns a whole place or the user's wish to stop."""
        return finish(self.moving(step))

    def moving(self, step: Step) -> Task[Outcome]:
        """The same as a task."""
        entry = step.entry
        if step.action is Action.REPORT:
            return Outcome(lost(entry, entry.problem, step.restore)) if entry.problem else Outcome(None)
        try:
            if step.action is Action.SHARE:
                yield aside
                shared = self._share(step)
                if shared is not None:
                    return shared
            return (yield from self._persisting(step))
        except StorageError as error:
            if not error.passable:
                raise
            raise ObjectFailed(lost(entry, error.message, step.restore), error) from error

    def _share(self, step: Step) -> Outcome | None:
        """The body as the earlier snapshot holds it; None when it has to be copied from the source after all."""
        if self.earlier is None or step.known is None:
            return None
        old = step.known[1]
        assert old.target is not None
        body = Entry(old.key, old.size, old.target.etag, old.target.modified, old.target.version)
        try:
            written = self.target.share(self.earlier, body, old.key)
        except StorageError as trouble:
            if not trouble.per_object:
                raise
            return None
        if written is None:
            return None
        return Outcome(replace(old, target=Seen(written.etag, "", written.version)), shared=True)

    def _persisting(self, step: Step) -> Task[Outcome]:
        entry = step.entry
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if entry.size > BRIEF_MAX:
                    yield aside
                if entry.size > SINGLE_MAX:
                    return self._large(self, step, entry)
                if not self.budget.take(entry.size, wait=False):
                    yield aside
                    self.budget.take(entry.size)
                try:
                    return (yield from self._single(step, entry))
                finally:
                    self.budget.give(entry.size)
            except Changed:
                if attempt == ATTEMPTS:
                    raise
                yield aside
                entry = self._again(entry)
            except Corrupt:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _again(self, entry: Entry) -> Entry:
        """The object as it is now, after it changed under the copy. Raises NotFound when it is gone."""
        now = self.source.look(entry)
        return replace(entry, size=now.size, etag=now.etag, version=now.version, modified=now.modified)

    def _single(self, step: Step, entry: Entry) -> Task[Outcome]:
        content = yield from self.source.reading(entry)
        if len(content.data) != entry.size:
            raise Changed(
                f"listed with {entry.size} bytes, read {len(content.data)}", key=entry.key, storage=self.source.name
            )
        body = checksum.body(content.data, md5=True)
        digests = {"sha256": body.sha256, "md5": body.md5}
        checksum.confirm(content.info.digests, digests, entry.key, self.source.name)
        check_restore(step.restore, entry, body.sha256)
        metadata = step.restore.metadata if step.restore else content.info.metadata
        info = with_losses_of(step.restore, content.info)
        if step.action is Action.ADOPT and (yield from self._is_there(step, body, metadata)):
            assert step.target is not None
            return Outcome(record(entry, body.sha256, info, metadata, _as_written(step.target)), adopted=True)
        known = beyond(self.target.capabilities, metadata)
        sent = without(metadata, known)
        written = yield from self.guard.writing(
            entry.key,
            listed=step.target is not None,
            write=lambda: self._putting(entry, body, sent, content),
        )
        return (yield from self.finishing(entry, body.sha256, info, metadata, written, known))

    def _putting(self, entry: Entry, body: Body, metadata: Metadata, content: Content) -> Task[Written]:
        if self.same_store and metadata == content.info.metadata:
            yield aside
            copied = self.target.copy(self.source, entry, entry.key, content.info)
            if copied is not None:
                return copied
        return (yield from self.target.writing(entry.key, body, metadata))

    def finishing(
        self,
        entry: Entry,
        sha256: str,
        info: ObjectInfo,
        metadata: Metadata,
        written: Written,
        known: Sequence[Loss],
        way: str = "",
    ) -> Task[Outcome]:
        """Confirm what a finished write kept of the metadata, and make the record. ``way``: how it was written."""
        losses = (*known, *written.losses)
        if not self._bodies_only:
            losses += yield from self.shapes.losses(entry.key, entry.size, without(metadata, losses), way)
        return Outcome(record(entry, sha256, info, metadata, written, losses), written=True)

    def _is_there(self, step: Step, body: Body, metadata: Metadata) -> Task[bool]:
        """Whether the target already holds exactly this object: same digest by its listing, same metadata by HEAD."""
        if step.target is None or step.target.etag != body.md5:
            return False
        seen = yield from self.target.stating(step.entry.key)
        return seen.etag == body.md5 and seen.size == len(body.data) and not read_back(metadata, seen)


class ObjectFailed(PortablError):
    """One object did not arrive. ``record`` names the loss; ``cause`` tells whether a whole place may be in trouble."""

    def __init__(self, record: Record, cause: StorageError) -> None:
        super().__init__(cause.message, key=record.key, storage=cause.storage, hint=cause.hint)
        self.record = record
        self.cause = cause


def _as_written(entry: Entry) -> Written:
    return Written(entry.etag, entry.version)


def check_restore(restore: Record | None, entry: Entry, sha256: str) -> None:
    """A body put back under a manifest must be the body the manifest names. Raises Refused."""
    if restore is not None and restore.sha256 != sha256:
        raise Refused(
            f"sha256 differs from the manifest that is restored: recorded {restore.sha256}, found {sha256}",
            key=entry.key,
        )


def with_losses_of(restore: Record | None, info: ObjectInfo) -> ObjectInfo:
    """What could not be read when the manifest was made is missing from what is restored under it, too."""
    if restore is None or not restore.losses:
        return info
    unread = [loss for loss in restore.losses if loss.field in ("headers", "user", "metadata")]
    unread += [loss for loss in restore.losses if loss.field == "tags" and not restore.metadata.tags]
    return replace(info, losses=(*info.losses, *unread))


def record(
    entry: Entry, sha256: str, info: ObjectInfo, metadata: Metadata, written: Written, losses: Sequence[Loss] = ()
) -> Record:
    """The record of an object that arrived, with whatever it lost on the way."""
    return Record(
        key=entry.key,
        size=entry.size,
        sha256=sha256,
        metadata=metadata,
        source=Seen(entry.etag or info.etag, entry.modified, entry.version),
        target=Seen(written.etag, "", written.version),
        losses=(*info.losses, *losses),
    )


def lost(entry: Entry, reason: str, restore: Record | None = None) -> Record:
    """The record of an object that did not arrive."""
    return Record(
        key=entry.key,
        size=entry.size,
        sha256=restore.sha256 if restore else None,
        metadata=restore.metadata if restore else Metadata(),
        source=Seen(entry.etag, entry.modified, entry.version),
        losses=(Loss("object", reason),),
    )
