"""One worker of a fleet: opens both places for itself, carries out shards, writes their segments.

It is told names, never secrets: locations as the user typed them and the path of a configuration; credentials are
resolved here. Everything about one process is in `Workplace`; a process has one.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portabl import providers, registry, worklog
from portabl.budget import BYTES_IN_FLIGHT, Budget
from portabl.copying import CopyStage
from portabl.errors import ConfigError
from portabl.fleet import Done, Lot
from portabl.journal import Journal
from portabl.large import LargeMover, Uploads
from portabl.plan import Action, Line, Step
from portabl.progress import NoProgress
from portabl.shards import Shard
from portabl.state import Pass, disk_errors, write_synced
from portabl.tally import Tally
from portabl.throttle import Lease, Leased
from portabl.transfer import Mover
from portabl.upload_notes import UploadNotes
from portabl.worklog import BEGUN

BUDGET_MIN = 24 * 2**20
"""Bytes in flight that a worker is allowed at least."""
TICKET = "ticket"
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Orders:
    """What every worker of a run is told.

    ``places``: what ``source`` and ``target`` have to mean (`Storage.place`); ``records``: directory of the pass, which
    all workers share; ``ticket``: what its `TICKET` file holds while the run goes on; ``uploads``: where open uploads
    are noted: the job's journal for workers on the same machine, a folder for others; ``workers``: how many share the
    bounds on threads and memory, in equal parts; ``lessor``: where they lease bytes and requests a second, "" when
    there is no limit.
    """

    source: str
    target: str
    config: str | None
    places: tuple[tuple[str, bytes], tuple[str, bytes]]
    records: str
    ticket: str
    uploads: str
    threads: int
    workers: int
    source_options: tuple[tuple[str, str], ...] = ()
    target_options: tuple[tuple[str, str], ...] = ()
    lessor: str = ""


class Ticket:
    """Says whether the run that gave a shard out still goes on: as long as its file is there.

    A file, because workers on other machines share nothing else with the conductor, and none outlives it unseen.
    """

    def __init__(self, records: Path, ticket: str) -> None:
        self._path = records / BEGUN / TICKET
        self._ticket = ticket
        self._looked = 0.0
        self._over = False

    def issue(self) -> None:
        """The run begins."""
        with disk_errors(self._path):
            self._path.parent.mkdir(exist_ok=True)
            write_synced(self._path, self._ticket.encode())

    def withdraw(self) -> None:
        """Workers stop after what is in flight."""
        self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises ConfigError where a worker does not share the directory."""
        if self._gone():
            raise ConfigError(
                f"this worker does not see {self._path.parent}",
                hint="name a directory that every worker shares with `--state`",
            )

    def is_set(self) -> bool:
        """Whether to stop; looked up at most every `LOOK_SECONDS`."""
        now = time.monotonic()
        if not self._over and now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._over = self._gone()
        return self._over

    def _gone(self) -> bool:
        try:
            return self._path.read_text() != self._ticket
        except OSError:
            return True


class Workplace:
    """Both places opened, and what is learned about the target kept from shard to shard."""

    def __init__(self, orders: Orders, connect: Callable[[str], Lease]) -> None:
        self._running = Ticket(Path(orders.records), orders.ticket)
        self._running.check()
        config = providers.load(orders.config)
        self._orders = orders
        self._stack = contextlib.ExitStack()
        self._threads = max(4, orders.threads // orders.workers)
        pacer = Leased(connect(orders.lessor)) if orders.lessor else None
        places = ((orders.source, orders.source_options), (orders.target, orders.target_options))
        opened = [
            registry.open_location(place, config, threads=self._threads, options=dict(options), pacer=pacer)
            for place, options in places
        ]
        source, target = (self._stack.enter_context(storage) for storage in opened)
        if (source.place, target.place) != orders.places:
            raise ConfigError(
                f"the configuration of this worker names other places {orders.source} and {orders.target}",
                hint="give all workers the same portabl.toml, and leave it alone during a run",
            )
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-worker-"))
        self._stack.callback((journal := self._uploads()).close)
        large = LargeMover(journal, scratch, lambda _: None)
        self._stack.callback(large.close)
        budget = Budget(max(BUDGET_MIN, BYTES_IN_FLIGHT // orders.workers))
        self._mover = Mover(source, target, budget, large, self._running.is_set)

    def _uploads(self) -> Uploads:
        path = Path(self._orders.uploads)
        return UploadNotes(path, uuid.uuid4().hex) if path.suffix != ".sqlite3" else Journal(path)

    def work(self, lot: Lot) -> Done:
        """Carry out a shard. Raises Interrupted, or the error of a place in trouble."""
        self._mover.guard.trust(lot.exact)
        path = Path(self._orders.records)
        tally = Tally()
        shards = _OneShard(path / BEGUN, lot.number)
        stage = CopyStage(self._mover, shards, tally, NoProgress(), self._threads, self._running)
        stage.run(_continued(lot, recorded(path / BEGUN, lot.number, but=shards.path)))
        return shards.publish(path, tally)

    def close(self) -> None:
        """Close both places."""
        self._stack.close()


def recorded(folder: Path, number: int, but: Path | None = None) -> dict[bytes, Line]:
    """What earlier attempts at a shard have recorded, whole lines only; one that is finished too."""
    found: dict[bytes, Line] = {}
    whole = folder.parent / f"{number:06d}.seg"
    for path in (*folder.glob(f"{number:06d}.*"), *([whole] if whole.exists() else ())):
        if path != but:
            found |= {line[1].key: line for line in worklog.of_file(path)}
    return found


def _continued(lot: Lot, before: Mapping[bytes, Line]) -> Iterator[Step]:
    """The steps of a shard; what an attempt that died has recorded is kept."""
    for step in lot.steps:
        line = before.get(step.entry.key)
        done = line is not None and line[1].target is not None
        yield Step(Action.KEEP, step.entry, step.target, line) if done and step.action is not Action.KEEP else step


@functools.lru_cache(maxsize=1)
def workplace(orders: Orders, connect: Callable[[str], Lease]) -> Workplace:
    """The workplace of this process, opened for the first shard. ``connect`` leads to `Orders.lessor`."""
    return Workplace(orders, connect)


class _OneShard:
    """What `CopyStage` writes records into: a single shard, in a file of this attempt until it is whole."""

    trouble: BaseException | None = None

    def __init__(self, folder: Path, number: int) -> None:
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
        self.path = folder / f"{number:06d}.{uuid.uuid4().hex}.log"
        self._number = number
        self._shard: Shard = Shard(number, self.path, self)
        self._whole = threading.Event()

    def place(self, key: bytes) -> Shard:
        """The shard."""
        self._shard.plan(key)
        return self._shard

    def late(self) -> Shard:
        """Nothing comes last here: the conductor keeps such keys to itself."""
        raise AssertionError("a key that comes last was given to a worker")

    def closed(self, shard: Shard) -> None:  # noqa: ARG002 - there is only one
        """All records are on the disk."""
        self._whole.set()

    def finish(self) -> Pass:
        """Nothing more is planned, and everything planned has its record."""
        self._shard.seal()
        if not self._whole.is_set():
            raise AssertionError("a shard without all its records")
        return Pass(self._number, self.path.parent, self._shard.planned)

    def abandon(self) -> None:
        """Let go of the file as it is, for the next attempt or a later run to read."""
        self._shard.abandon()

    def publish(self, folder: Path, tally: Tally) -> Done:
        """Give the segment its name, whatever another attempt at the same shard has done meanwhile."""
        self.path.with_suffix(".seg").replace(folder / f"{self._number:06d}.seg")
        return Done(
            self._number,
            self._shard.first,
            self._shard.last,
            self._shard.planned,
            tally.copied,
            tally.bytes_copied,
            tally.adopted,
            tally.changed,
        )
