"""What lies at a source beside the objects that a run carries: told, and no loss of any of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import groupby, islice

from portabl.errors import CredentialsRefused, Interrupted, StorageError
from portabl.listing import Filter
from portabl.model import Entry
from portabl.report import EXAMPLES_MAX
from portabl.storage import Storage

VERSIONS_COUNTED = 20_000
"""A run counts older versions among so many versions of the source; `portabl plan` counts them all."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Something at the source that the options of a run leave there. ``count`` is a lower bound if not ``counted``.

    ``field``: "versions" or "delete-markers". ``examples``: some of the keys.
    """

    field: str
    reason: str
    count: int
    examples: tuple[bytes, ...] = ()
    counted: bool = True


class Older:
    """Counts versions that are not current, and delete markers. Keys come one after the other, oldest version first."""

    def __init__(self) -> None:
        self._counts = {"versions": 0, "delete-markers": 0}
        self._examples: dict[str, list[bytes]] = {name: [] for name in self._counts}

    def add(self, history: list[Entry]) -> None:
        """All versions of one key."""
        markers = sum(entry.delete_marker for entry in history)
        current = not history[-1].delete_marker
        for name, count in (("versions", len(history) - markers - current), ("delete-markers", markers)):
            self._counts[name] += count
            if count and len(self._examples[name]) < EXAMPLES_MAX:
                self._examples[name].append(history[0].key)

    def found(self, *, counted: bool) -> tuple[LeftBehind, ...]:
        """What there is."""
        reason = "not carried: `--versions all` carries every version and delete marker"
        return tuple(
            LeftBehind(name, reason, count, tuple(self._examples[name]), counted)
            for name, count in self._counts.items()
            if count
        )


def older_versions(
    source: Storage, keep: Filter, stop: threading.Event, most: int | None = None
) -> tuple[tuple[LeftBehind, ...], str]:
    """What a run leaves behind that carries what is current; and a sentence on what could not be found out, or "".

    ``most``: versions to look at, None for all. Raises Interrupted, and CredentialsRefused.
    """
    try:
        has = source.has_versions()
        if has is None:
            return (), "whether the source has older versions is not told; they are not carried"
        return (_count(source, keep, stop, most), "") if has else ((), "")
    except StorageError as error:
        if isinstance(error, CredentialsRefused):
            raise
        return (), f"older versions at the source are not carried, and could not be counted: {error.message}"


def _count(source: Storage, keep: Filter, stop: threading.Event, most: int | None) -> tuple[LeftBehind, ...]:
    older, seen = Older(), 0
    entries = source.versions()
    for _, group in groupby(islice(entries, most), lambda entry: entry.key):
        if stop.is_set():
            raise Interrupted("stopped on request")
        history = list(group)
        seen += len(history)
        if keep.admits(history[0].key):
            older.add(history)
    return older.found(counted=most is None or seen < most)


def unfinished(source: Storage) -> tuple[int, str]:
    """How many uploads at a source nobody has finished, and a sentence on them, "" when there are none."""
    try:
        count = source.unfinished()
    except CredentialsRefused:
        raise
    except StorageError as refused:
        return 0, f"unfinished uploads at the source could not be counted: {refused.message}"
    text = f"{count:,} unfinished uploads at the source are no objects yet and are not carried" if count else ""
    return count, text


def sentence(left: LeftBehind) -> str:
    """The same for a report."""
    names = {"versions": "older versions", "delete-markers": "delete markers"}
    number = f"{left.count:,}" if left.counted else f"at least {left.count:,}"
    return f"{number} {names[left.field]} at the source are {left.reason}"
