"""A prefix to try things in, removed again: at the end, after an error, and by the next probe after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from portabl import registry
from portabl.errors import UsageError
from portabl.providers import Config
from portabl.storage import Storage

if TYPE_CHECKING:
    from portabl.registry import Location

PREFIX = "portabl-probe-"
ATTEMPTS = "2"
"""Times a request is tried: a server that answers 500 to what it does not like is answer enough."""


@dataclass(frozen=True)
class Scratch:
    """An open storage whose prefix belongs to this probe alone. ``name``: the location it lies in, as typed."""

    name: str
    storage: Storage


@contextlib.contextmanager
def scratch(text: str, config: Config, state: Path, left: list[bytes]) -> Iterator[Scratch]:
    """A scratch prefix below the location ``text``. ``left`` is given the keys that could not be removed at the end.

    Its name is written down in ``state`` before anything is tried, so that the next probe of the location finds it if
    this one is killed. Raises UsageError or ConfigError.
    """
    location = registry.parse(text, config)
    _sweep_earlier(location, state)
    name = f"{PREFIX}{secrets.token_hex(8)}/"
    note = _note(location, state, name)
    with _opened(location, name) as storage:
        try:
            yield Scratch(location.name, storage)
        finally:
            left += _swept(storage, note)


def _opened(location: Location, name: str) -> Storage:
    below = replace(location, prefix=location.prefix + name.encode())
    return registry.open_parsed(below, threads=8, options={"attempts": ATTEMPTS, "storage_class": "keep"})


def _swept(storage: Storage, note: Path) -> Sequence[bytes]:
    """Remove everything; the note goes only when nothing is left."""
    probing = storage.probing()
    left = probing.sweep() if probing else ()
    if not left:
        note.unlink(missing_ok=True)
    return left


def _note(location: Location, state: Path, name: str) -> Path:
    path = state / "probes" / f"{name.strip('/')}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"place": _place(location), "name": name, "pid": os.getpid()}), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot use the state directory {state}: {error.strerror or error}") from None
    return path


def _place(location: Location) -> list[str]:
    """Service, bucket and prefix of a location: what a prefix that was left behind is found again by."""
    with registry.open_parsed(location) as storage:
        where, prefix = storage.place
    return [where, prefix.hex()]


def _sweep_earlier(location: Location, state: Path) -> None:
    """Remove what probes of the same location left behind that were killed."""
    for path in sorted((state / "probes").glob(f"{PREFIX}*.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            place, name, pid = about["place"], str(about["name"]), int(about["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # written half, so nothing had been tried yet
        if place == _place(location) and name.startswith(PREFIX) and not _alive(pid):
            with _opened(location, name) as storage:
                _swept(storage, path)


def _alive(pid: int) -> bool:
    """Whether that probe is still going on (or, at worst, its number is another process now: swept another time)."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
