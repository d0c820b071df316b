"""What lies at a source and is not carried as it is: unfinished uploads, archived objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from portabl.errors import StorageError
from portabl.keys import show
from portabl.model import ARCHIVES, Entry
from portabl.storage import Storage


def unfinished(source: Storage) -> str:
    """A sentence on the uploads that nobody has finished, "" when there are none."""
    try:
        count = source.unfinished()
    except StorageError as refused:
        return f"unfinished uploads at the source could not be counted: {refused.message}"
    return f"{count:,} unfinished uploads at the source are no objects yet and are not carried" if count else ""


def archived(entries: Iterable[Entry], note: Callable[[str], None]) -> Iterator[Entry]:
    """The same entries; ``note`` is told at their end how many of them are archived, if any are."""
    count, example = 0, b""
    for entry in entries:
        if entry.storage_class.upper() in ARCHIVES:
            count, example = count + 1, example or entry.key
        yield entry
    if count:
        note(
            f"{count:,} objects are archived, such as {show(example)}: those that are not restored cannot be carried "
            "(`--restore-archived DAYS` asks for it)"
        )
