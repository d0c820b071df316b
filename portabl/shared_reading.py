"""Reading back on every core: large objects are read and hashed in further processes of this machine.

Small ones stay in this process, where many wait for the store at once; a large one keeps a process busy by itself.
Nothing depends on a worker: an object whose worker died is read here.
"""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from portabl.budget import BYTES_IN_FLIGHT, Budget
from portabl.errors import ConfigError
from portabl.executor_processes import settle_in
from portabl.leases import Lessor, lease_from
from portabl.readback import PIECE, Read, Reader
from portabl.throttle import Leased, Throttle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portabl.model import Entry
    from portabl.storage import Storage

LARGE = 2 * PIECE
"""Objects above so many bytes are read in pieces, several at once: these go to other processes."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a process is told to open: names, never a secret. ``place``: what ``location`` has to mean there."""

    location: str
    config: str | None
    place: tuple[str, bytes]
    options: tuple[tuple[str, str], ...]
    workers: int
    lessor: str = ""

    @classmethod
    def of(cls, storage: Storage, location: str, config: str | None, options: Mapping[str, str], workers: int) -> Place:
        """The place of an open storage."""
        return cls(location, config, storage.place, tuple(sorted(options.items())), workers)


class SharedReader(Reader):
    """A `Reader` of ``storage`` that has ``place.workers`` processes read the large objects. Context manager.

    ``throttle``: the budget that ``storage`` keeps to; what other processes read is part of it.
    """

    def __init__(self, storage: Storage, place: Place, throttle: Throttle | None) -> None:
        super().__init__(storage, Budget())
        self._lessor = Lessor(throttle) if throttle else None
        self._place = replace(place, lessor=self._lessor.address) if self._lessor else place
        context = multiprocessing.get_context("spawn")  # this process has threads and connections
        self._processes = ProcessPoolExecutor(place.workers, mp_context=context, initializer=settle_in)

    def read(self, entry: Entry) -> Read:
        """As `Reader.read`."""
        if entry.size <= LARGE:
            return super().read(entry)
        try:
            return self._processes.submit(_read, self._place, entry).result()
        except BrokenExecutor:
            return super().read(entry)

    def __exit__(self, *_: object) -> None:
        self._processes.shutdown(wait=True, cancel_futures=True)
        if self._lessor:
            self._lessor.close()
        super().__exit__()


def _read(place: Place, entry: Entry) -> Read:
    return _reader(place).read(entry)


@functools.lru_cache(maxsize=1)
def _reader(place: Place) -> Reader:
    """The reader of this process, opened for its first object."""
    from portabl import providers, registry

    pacer = Leased(lease_from(place.lessor)) if place.lessor else None
    config = providers.load(place.config)
    storage = registry.open_location(place.location, config, options=dict(place.options), pacer=pacer)
    if storage.place != place.place:
        raise ConfigError(
            f"the configuration names another place {place.location} than when this run began",
            hint="leave portabl.toml alone during a run",
        )
    return Reader(storage, Budget(max(LARGE, BYTES_IN_FLIGHT // place.workers)))
