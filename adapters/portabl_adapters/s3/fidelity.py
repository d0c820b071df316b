"""What an object has besides bytes, headers and tags: storage class, ACL, lock; read as far as the run asked for it.

Options of a place (`portabl.storage.Opening.options`): ``storage_class`` (``keep``, or ``OLD=NEW,*=OTHER``), ``acl``
(``report``, ``report-all``, ``canned``, ``full``), ``lock`` (``report``, ``keep``), ``restore_archived`` (days).
Without them nothing of it is looked at. ``counts``: what the notes count, ``heads`` for objects that are asked for by
HEAD, otherwise those that are read.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from portabl.errors import Archived, StorageError, Unreachable
from portabl.model import Entry, Loss, Metadata, ObjectInfo
from portabl.tasks import Task, aside
from portabl_adapters.s3 import fields, grants, locks, replies, versions
from portabl_adapters.s3.calls import ATTEMPTS, Calls
from portabl_adapters.s3.wire import Answer, Header

ACL_FIRST, ACL_EVERY = 100, 100
"""Where ACLs are only to be reported, the first so many objects are looked at, then one in so many: a request each."""
_NO_ACL = frozenset({400, 405, 501})


class Fidelity:
    """The options of one place and what was found out under them. Safe to use from many threads."""

    def __init__(self, calls: Calls, options: Mapping[str, str]) -> None:
        self._calls = calls
        self._acl = options.get("acl", "none")
        self._lock = options.get("lock", "none")
        self._classes = _classes(options.get("storage_class", ""))
        self._days = int(options.get("restore_archived") or 0)
        self._guard = threading.Lock()
        self._encrypted: Counter[str] = Counter()
        self.by_heads = options.get("counts") == "heads"
        self._met = self._looked_at = self._granted = 0
        self._unreadable_acls = self._without_acls = False
        self._example = b""
        self._hidden: bool | None = None
        self._owner = ""

    @property
    def keeps_class(self) -> bool:
        """Whether storage classes are to be carried."""
        return self._classes is not None

    def drawn(self) -> bool:
        """Whether to look at the ACL of the next object, where they are only to be reported. Counts it."""
        if not self._acl.startswith("report"):
            return False
        with self._guard:
            self._met += 1
            if self._unreadable_acls or self._without_acls:
                return False
            return self._acl == "report-all" or self._met <= ACL_FIRST or self._met % ACL_EVERY == 0

    def adds_nothing(self, answer: Answer) -> bool:
        """Whether `completing` would leave what is known of an object as it is, and ask for nothing, unless drawn."""
        if self._classes or self._acl in ("canned", "full"):
            return False
        if self._lock == "none":
            return True
        known = self._hidden is False or (self._hidden and self._lock == "report")
        return bool(known) and not locks.lock_of(answer.headers)

    def completing(
        self, full: bytes, answer: Answer, version: str, info: ObjectInfo, *, drawn: bool
    ) -> Task[ObjectInfo]:
        """``info`` with class, lock and ACL, or with what could not be had of them as losses. ``drawn``: see there."""
        if self._classes and info.metadata.storage_class != "":
            asked = self._classes.get(info.metadata.storage_class, self._classes.get("*", ""))
            info = _with(info, storage_class=asked or info.metadata.storage_class)
        if drawn or self._acl in ("canned", "full") or (self._lock != "none" and self._hidden is None):
            yield aside  # it costs a request of its own
        if self._lock != "none":
            info = self._locked(full, answer, version, info)
        if self._acl in ("canned", "full"):
            info = self._granting(full, version, info)
        elif drawn:
            self._look(full, version)
        return info

    # locks

    def _locked(self, full: bytes, answer: Answer, version: str, info: ObjectInfo) -> ObjectInfo:
        lock = locks.lock_of(answer.headers)
        if self._hidden is None:
            with self._guard:
                if self._hidden is None:
                    unknown = not lock and locks.enabled(self._calls) is not False
                    self._hidden = unknown and locks.hidden(self._calls, full, version)
        if self._lock == "keep":
            if self._hidden:
                return _losing(info, Loss("lock", "no permission to read object locks"))
            return _with(info, lock=lock) if lock else info
        if not lock:
            return info
        reason = "not carried: `--lock keep` carries it, `--lock none` leaves it behind"
        return _losing(info, Loss("lock", reason, " ".join(lock[name] for name in sorted(lock))))

    # access control lists

    def _granting(self, full: bytes, version: str, info: ObjectInfo) -> ObjectInfo:
        acl = self._read_acl(full, version)
        if acl is None:
            return _losing(info, Loss("acl", "no permission to read it"))
        if acl and self._acl == "canned" and not grants.is_canned(acl):
            return _losing(info, Loss("acl", "no canned ACL says this; `--acl full` carries each grant", acl))
        return _with(info, acl=acl) if acl else info

    def _read_acl(self, full: bytes, version: str, attempts: int = ATTEMPTS) -> str | None:
        """The ACL as text, "" for the one every object has at first; None when it may not be read."""
        query = f"?acl{versions.query(version).replace('?', '&')}"
        answer = self._calls.request("GET", full, query, attempts=attempts)()
        if self._calls.denied(answer):
            return None
        if answer.status in _NO_ACL:
            self._without_acls = True
            return ""
        if answer.status != 200:
            raise self._calls.error(answer, full)
        try:
            return grants.text_of(answer.body)
        except replies.Unreadable as problem:
            raise Unreachable(f"its ACL cannot be read: {problem}", key=full, storage=self._calls.name) from None

    def _look(self, full: bytes, version: str) -> None:
        try:
            acl = self._read_acl(full, version, attempts=1)
        except StorageError:
            acl = None
        with self._guard:
            if acl is None:  # no permission, or a store that stumbles over the question: it is not asked again
                self._unreadable_acls = True
            else:
                self._looked_at += 1
            if acl:
                self._granted += 1
                self._example = self._example or full

    def owner(self) -> str:
        """Canonical id of the bucket's owner, who owns what is written there. Asked once."""
        with self._guard:
            if not self._owner:
                answer = self._calls.bucket("?acl")
                if answer.status != 200:
                    raise self._calls.error(answer)
                self._owner = grants.owner_of(answer.body)
            return self._owner

    def header_lines(self, metadata: Metadata) -> list[Header]:
        """Headers of a PUT for ACL and lock."""
        lines: list[Header] = list(locks.header_lines(metadata.lock))
        if metadata.acl:
            lines += [line.encode("utf-8", "surrogateescape") for line in grants.header_lines(metadata.acl, self.owner)]
        return lines

    # archives

    def archived(self, entry: Entry, full: bytes) -> Archived:
        """The error for an object that must be restored before it can be read; asks for that where it was wanted."""
        where = f"archived ({entry.storage_class})" if entry.storage_class else "archived"
        if not self._days:
            reason = f"{where}: `--restore-archived DAYS` asks the store for a copy that can be read"
        else:
            reason = f"{where}: {self._restore(full, entry.version)}"
        return Archived(reason, key=entry.key, storage=self._calls.name)

    def _restore(self, full: bytes, version: str) -> str:
        body = (
            '<RestoreRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Days>{self._days}</Days></RestoreRequest>"
        ).encode()
        headers = ["Content-Type: application/xml", fields.content_md5(hashlib.md5(body).hexdigest())]
        query = f"?restore{versions.query(version).replace('?', '&')}"
        answer = self._calls.object("POST", full, query, headers, body, hashlib.sha256(body).hexdigest())
        if answer.status in (200, 202):
            return "a copy was asked for; run the same command again when the store has made it, which takes hours"
        if replies.error_code(answer.body) == "RestoreAlreadyInProgress":
            return "a copy is being made; run the same command again later"
        return f"the store does not restore it: {self._calls.said(answer)}"

    # what the report says of the place

    def count(self, answer: Answer) -> None:
        """Take note of how an object that was read is encrypted at rest."""
        found = answer.headers
        kind = found.get(b"x-amz-server-side-encryption", b"").decode("ascii", "replace")
        if b"x-amz-server-side-encryption-customer-algorithm" in found:
            kind = "SSE-C"
        if kind:
            with self._guard:
                self._encrypted[kind] += 1

    def notes(self) -> Sequence[str]:
        """What was seen that is not carried and is no loss of one object."""
        notes: list[str] = []
        if self._encrypted:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self._encrypted.items()))
            notes.append(f"encrypted by the source's server: {kinds}; the target encrypts as it is set up to")
        notes += self._acls_seen()
        if self._unreadable_acls:
            notes.append("ACLs were not carried, and the source does not let them be read")
        if self._lock == "report" and self._hidden:
            notes.append("object locks were not carried, and these credentials may not see whether there are any")
        return notes

    def _acls_seen(self) -> Sequence[str]:
        sample = ""
        if self._looked_at < self._met:
            sample = f" looked at, of {self._met:,} (the first {ACL_FIRST}, then one in {ACL_EVERY})"
        if not self._looked_at or self._without_acls or not (self._granted or sample):
            return ()
        some = f"{self._granted:,}" if self._granted else "none"
        example = f", such as {_shown(self._example)}" if self._granted else ""
        seen = f"{some} of the {self._looked_at:,} objects{sample} grant{'s' if not self._granted else ''} something"
        return (f"ACLs were not carried: {seen} to others{example}; `--acl canned` or `--acl full` carries them",)


def _shown(key: bytes) -> str:
    return ascii(key.decode("utf-8", "backslashreplace"))


def _with(info: ObjectInfo, **parts: object) -> ObjectInfo:
    return replace(info, metadata=replace(info.metadata, **parts))  # type: ignore[arg-type]


def _losing(info: ObjectInfo, loss: Loss) -> ObjectInfo:
    return replace(info, losses=(*info.losses, loss))


def _classes(option: str) -> Mapping[str, str] | None:
    """None when classes are not carried, empty when each stays what it is, else old to new (``*``: any other)."""
    if option in ("", "keep"):
        return {} if option else None
    return dict(pair.split("=", 1) for pair in option.split(","))
