"""Finding out what a provider really does, in a scratch prefix that is removed again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from portabl import __version__
from portabl.capability import Card
from portabl.errors import Interrupted, StorageError, UsageError
from portabl.model import Fact
from portabl.probe import names, objects
from portabl.probe.scratch import Scratch
from portabl.storage import Probing, Storage

Said = Callable[[str], None]


def examine(scratch: Scratch, *, server: str = "", say: Said = lambda _: None, stop: threading.Event) -> Card:
    """Try everything out in ``scratch`` and make the card. ``server``: its name and version, when it does not say.

    ``say`` hears what is going on. Raises Interrupted when asked to stop, UsageError where nothing may or need be
    tried, StorageError when the place fails: half a card is no card. Nothing is removed here (`Scratch` does).
    """
    storage = scratch.storage
    probing = storage.probing()
    if probing is None:
        raise UsageError(
            f"there is nothing to measure at {scratch.name}: what it keeps does not depend on a server",
            hint="probe a place at an S3 provider; docs/adapters.md says what the others keep",
        )
    if obstacle := probing.obstacle():
        raise UsageError(f"{scratch.name}: {obstacle}", hint="probe another bucket of the same provider")
    objects.control(storage)
    facts: dict[str, Fact] = {}
    for section, ask in _sections(storage, probing):
        say(section)
        for fact in ask():
            if stop.is_set():
                raise Interrupted("the probe was stopped; what it had written is removed")
            facts[fact.name] = fact
    objects.control(storage)  # a place that broke on the way would have refused all that came after
    return Card(
        service=storage.service,
        location=scratch.name,
        server=server or probing.server(),
        measured=datetime.now(UTC).date().isoformat(),
        tool=f"portabl {__version__}",
        facts=facts,
    )


def _sections(storage: Storage, probing: Probing) -> Iterator[tuple[str, Callable[[], Iterator[Fact]]]]:
    yield "keys", lambda: names.key_facts(storage)
    yield "lengths of keys", lambda: names.length_facts(storage)
    yield "headers, metadata and tags", lambda: objects.field_facts(storage)
    yield "sizes of metadata", lambda: objects.size_facts(storage)
    yield "storage classes", lambda: objects.class_facts(storage)
    yield "uploads in parts", lambda: objects.upload_facts(storage)
    yield "checksums, conditions, versions, paging", probing.facts


__all__ = ["Scratch", "StorageError", "examine"]
