"""The check before copying: `portabl plan`'s own, over the listing that is then copied; what is lost must be accepted.

Accepting a loss lets the run begin. It does not make it a success: what is lost is named still, and the exit code is
3.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portabl import capability
from portabl.errors import StorageError, UsageError
from portabl.judge import ARCHIVED, KEYS, SIZE, TAGS, USER, Judge, readable
from portabl.model import ARCHIVES, HEADERS, Entry, Record
from portabl.report import LossGroup
from portabl.state import default_root
from portabl.storage import Storage
from portabl.transfer import SINGLE_MAX

if TYPE_CHECKING:
    from portabl.preflight import Ahead

NAMES = (KEYS, SIZE, ARCHIVED, USER, TAGS, "storage-class", "acl", "lock", *HEADERS)
"""What losses are called for ``--accept``."""


def accepted(names: Iterable[str]) -> tuple[str, ...]:
    """The names of ``--accept``, given one by one or joined by commas. Raises UsageError for one that means nothing."""
    found = sorted({name.strip() for text in names for name in text.split(",") if name.strip()})
    for name in found:
        if name not in NAMES:
            raise UsageError(f"no loss is called `{name}`", hint=f"known: {', '.join(NAMES)}")
    return tuple(found)


def source_names_losses(source: Storage, acl: str, lock: str) -> bool:
    """Whether objects may be lost for what the source holds and the options say, whatever the target can keep: ACLs
    that are to be carried are looked at in any case, locks where there can be any.
    """
    if acl in ("canned", "full"):
        return True
    if lock == "none":
        return False
    try:
        return source.has_versions() is not False and source.locks_objects() is not False
    except StorageError as error:
        if not error.passable:
            raise
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found. ``figures``: of a report that says so; ``warnings``: how little was looked at, if so."""

    stops: bool
    figures: Mapping[str, object]
    warnings: tuple[str, ...] = ()


class Gate:
    """Looks before a run copies. From here on both places keep to what their cards say. Raises UsageError.

    ``accept``: names of losses, as given by the user. ``card``: the one to go by, None for the one measured at the
    target, if there is one. ``acl``, ``lock``: what is to become of them, as in `portabl.migration`.
    """

    def __init__(
        self, source: Storage, target: Storage, accept: Iterable[str], card: str | None, acl: str, lock: str
    ) -> None:
        self.accepted = accepted(accept)
        self._source = source
        root = default_root()
        found = capability.find(card, target.service, root)
        for place, its in ((target, found), (source, capability.find(None, source.service, root))):
            if its is not None:
                place.capabilities = its.fit(place.capabilities)
        self._judge = Judge(target, found, readable(source))
        self._knows = found is not None or self._judge.wants_fields
        self._doubtful = False
        self._acl, self._lock = acl, lock
        limits = target.capabilities
        measured = {"parts_max": limits.parts_max, "part_size_min": limits.part_size_min} if found else {}
        self.options = {name: str(value) for name, value in measured.items()}
        """What other processes, which have no card, are to be told when they open the places."""

    def see(self, entry: Entry) -> None:
        """Hears of every entry of the source while it is listed. Without a card hardly any can be foreseen to be lost,
        and a second look at all of them would be for nothing.
        """
        if entry.size > SINGLE_MAX or entry.problem or entry.storage_class.upper() in ARCHIVES:
            self._doubtful = True

    def check(
        self, entries: Iterable[Entry], restored: Iterable[Record] | None, threads: int, stop: threading.Event
    ) -> Verdict:
        """What would be lost, as far as it is known, of entries that `see` has heard of. ``restored``: records whose
        metadata is carried instead.

        Raises Interrupted, and what looking raises.
        """
        asks = source_names_losses(self._source, self._acl, self._lock)
        if not (self._knows or self._doubtful or asks) and restored is None:
            return Verdict(False, {})
        from portabl.preflight import Surveyor, record_items

        items = record_items(restored) if restored is not None else ((entry, None) for entry in entries)
        survey = Surveyor(self._judge, asks=asks).run(items, self._source, threads, stop)
        warnings = []
        if not survey.complete:
            seen = f"{survey.looked_at:,} of {survey.wanted:,}"
            warnings.append(f"the check before copying looked at the metadata of {seen} objects")
        ahead = survey.unaccepted(self.accepted)
        figures: dict[str, object] = {
            "objects": survey.objects,
            "delete_markers": survey.delete_markers,
            "bytes": survey.bytes,
            "losses": tuple(LossGroup(one.field, one.reason, one.count, one.examples) for one in ahead),
            "next_command": self._advice(ahead),
        }
        return Verdict(bool(ahead), figures, tuple(warnings))

    def _advice(self, ahead: Iterable[Ahead]) -> str:
        names = sorted({*self.accepted, *(one.accept for one in ahead)})
        return f"the same command with `--accept {','.join(names)}` if that may be lost, or another target"
