"""Keeps a key that a target would merge with another from overwriting it.

Some stores keep ``a//b`` under ``a/b``. Keys are sorted into hazard classes (`portabl.keys.classes`). The first keys of
a class are written alone, with a look before and after; once a class has been seen to arrive exactly, its keys
are written like all others. Until then, and for ever where the target merges:

1. before: the target must not answer for the key unless its listing shows exactly that key;
2. after: a fresh listing must show exactly that key, else the write is taken back and the key refused;
3. the target must not answer under a cleaned-up, folded or case-changed variant of the key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from portabl.errors import NotFound, Refused, StorageError
from portabl.keys import aliases, classes, show
from portabl.model import ObjectInfo, Written
from portabl.storage import Storage
from portabl.tasks import Task, aside, finish


class KeyGuard:
    """Watches every write to one target."""

    def __init__(self, target: Storage) -> None:
        self._target = target
        self._watch = target.capabilities.key_rules == "store"
        self._exact: set[str] = set()
        self._merging = False
        self.renames = False
        self._lock = _SharedLock()

    @property
    def exact(self) -> frozenset[str]:
        """The hazard classes whose keys the target was seen to keep; none once it was seen to merge."""
        return frozenset() if self._merging else frozenset(self._exact)

    def trust(self, exact: frozenset[str]) -> None:
        """Take over what another guard of the same target has found out."""
        self._exact |= exact

    def ordinary(self, key: bytes, *, listed: bool) -> bool:
        """Whether a write of this key needs no watching."""
        return not self._watch or listed or (not self._merging and classes(key) <= self._exact)

    def write(self, key: bytes, *, listed: bool, write: Callable[[], Written]) -> Written:
        """Run ``write``, watched when ``key`` needs it. ``listed``: the target's listing shows exactly this key.

        Raises Refused when the target does not keep this key, with nothing of ours left behind.
        """
        return finish(self.writing(key, listed=listed, write=lambda: _at_once(write)))

    def writing(self, key: bytes, *, listed: bool, write: Callable[[], Task[Written]]) -> Task[Written]:
        """The same for a write that is a task."""
        if not self._watch:
            return (yield from write())
        hazards = classes(key)
        if listed or (not self._merging and hazards <= self._exact):
            if not self._lock.enter(wait=False):
                yield aside
                self._lock.enter()
            try:
                return (yield from write())
            finally:
                self._lock.leave()
        yield aside
        with self._lock.exclusive():
            if not self._merging and hazards <= self._exact:  # found out while we waited
                return finish(write())
            return self._watched(key, hazards, lambda: finish(write()))

    def _watched(self, key: bytes, hazards: frozenset[str], write: Callable[[], Written]) -> Written:
        if self._answers(key) is not None and self._target.listed(key) is None:
            self.renames = True
            raise Refused(
                "the target answers for this key with another object, so it would be overwritten",
                key=key,
                storage=self._target.name,
                hint="the target merges keys; choose another one, or rename the object at the source",
            )
        written = write()
        if self._target.listed(key) is None:
            self.renames = True
            self._take_back(key, written)
            raise Refused(
                "the target stores this key under another name; the copy was taken back",
                key=key,
                storage=self._target.name,
                hint="choose a target that keeps this key, or rename the object at the source",
            )
        if self._merges(key, written):
            self._merging = True
        else:
            self._exact |= hazards
        return written

    def _answers(self, key: bytes, *, alias: bool = False) -> ObjectInfo | None:
        """What the target says of this key, None when it holds nothing. An ``alias`` may be a name it cannot hold."""
        try:
            return self._target.stat(key)
        except NotFound:
            return None
        except StorageError as unclear:
            if alias and isinstance(unclear, Refused):
                return None
            if unclear.per_object or not unclear.passable:
                raise
            raise Refused(
                f"the target does not say whether it holds this key: {unclear.message}",
                key=key,
                storage=self._target.name,
            ) from unclear

    def _take_back(self, key: bytes, written: Written) -> None:
        """Undo our own write: nothing answered for this key before it, so what answers now is ours."""
        if not key.strip(b"/"):
            return  # some servers take such a DELETE for one of the bucket
        seen = self._answers(key)
        if seen is not None and (not written.etag or seen.etag == written.etag):
            self._target.take_back(key, written.version)

    def _merges(self, key: bytes, written: Written) -> bool:
        for alias in sorted(aliases(key)):
            if not alias.strip(b"/"):
                continue
            seen = self._answers(alias, alias=True)
            if seen is not None and seen.etag == written.etag and self._target.listed(alias) is None:
                return True
        return False

    def refuse_unproven(self, key: bytes) -> None:
        """For keys made of slashes only, written last: refuse them where the target was seen to rename keys."""
        if self._watch and self.renames:
            raise Refused(
                f"the target renames keys like {show(key)}, and such a write could not be taken back",
                key=key,
                storage=self._target.name,
            )


def _at_once(write: Callable[[], Written]) -> Task[Written]:
    return write()
    yield


class _SharedLock:
    """Many ordinary writes at once, or one watched write alone; a waiting watched write goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._shared = 0
        self._waiting = 0
        self._alone = False

    def enter(self, *, wait: bool = True) -> bool:
        """Begin an ordinary write; pair with `leave`. False when ``wait`` is off and it would have to."""
        with self._lock:
            while self._alone or self._waiting:
                if not wait:
                    return False
                self._changed.wait()
            self._shared += 1
        return True

    def leave(self) -> None:
        """End an ordinary write."""
        with self._lock:
            self._shared -= 1
            if not self._shared and self._waiting:
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """A watched write: nothing else is written meanwhile."""
        with self._lock:
            self._waiting += 1
            while self._alone or self._shared:
                self._changed.wait()
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._lock:
                self._alone = False
                self._changed.notify_all()
