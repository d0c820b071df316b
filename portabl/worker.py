"""One worker of a fleet: opens both places for itself, carries out shards, writes their segments.

It is told names, never secrets: locations as the user typed them and the path of a configuration; credentials are
resolved here. Everything about one process is in `Workplace`; a process has one.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portabl import __version__, providers, registry
from portabl.budget import BYTES_IN_FLIGHT, Budget
from portabl.copying import CopyStage
from portabl.desk import Desk, RemoteDesk, SharedDesk
from portabl.errors import ConfigError
from portabl.fleet import Done, Lot
from portabl.folder import Folder
from portabl.journal import Journal
from portabl.large import LargeMover, Uploads
from portabl.plan import Action, Line, Step
from portabl.progress import NoProgress
from portabl.shards import Shard
from portabl.state import Pass, disk_errors
from portabl.tally import Tally
from portabl.throttle import Lease, Leased
from portabl.transfer import Mover
from portabl.upload_notes import UploadNotes
from portabl.worklog import BEGUN

BUDGET_MIN = 24 * 2**20
"""Bytes in flight that a worker is allowed at least."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What every worker of a run is told.

    ``places``: what ``source`` and ``target`` have to mean (`Storage.place`); ``state``: where the job's state is, ""
    when it is a directory that all workers share; ``records``: the folder of the pass, below ``state`` if there is
    one, with a slash at its end; ``ticket``: what its ticket holds while the run goes on (`portabl.desk.Ticket`);
    ``uploads``: where open uploads are noted, below ``state`` as well: the job's journal for workers on the same
    machine, a folder for others; ``workers``: how many share the bounds on threads and memory, in equal parts;
    ``lessor``: where they lease bytes and requests a second, "" when there is no limit; ``release``: the portabl
    that gives the orders.
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
    state: str = ""
    release: str = __version__


class Workplace:
    """Both places opened, and what is learned about the target kept from shard to shard."""

    def __init__(self, orders: Orders, connect: Callable[[str], Lease]) -> None:
        self._orders = orders
        with contextlib.ExitStack() as stack:
            self._open(stack, connect)
            self._stack = stack.pop_all()

    def _open(self, stack: contextlib.ExitStack, connect: Callable[[str], Lease]) -> None:
        orders = self._orders
        config = providers.load(orders.config)
        self._state = registry.files(orders.state, config) if orders.state else None
        self._desk = self._own_desk()
        stack.callback(self._desk.close)
        self._desk.running.check()
        self._threads = max(4, orders.threads // orders.workers)
        pacer = Leased(connect(orders.lessor)) if orders.lessor else None
        places = ((orders.source, orders.source_options), (orders.target, orders.target_options))
        source, target = (
            stack.enter_context(
                registry.open_location(place, config, threads=self._threads, options=dict(options), pacer=pacer)
            )
            for place, options in places
        )
        if (source.place, target.place) != orders.places:
            raise ConfigError(
                f"the configuration of this worker names other places {orders.source} and {orders.target}",
                hint="give all workers the same portabl.toml, and leave it alone during a run",
            )
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="portabl-worker-"))
        stack.callback((journal := self._uploads()).close)
        large = LargeMover(journal, scratch, lambda _: None)
        stack.callback(large.close)
        budget = Budget(max(BUDGET_MIN, BYTES_IN_FLIGHT // orders.workers))
        self._mover = Mover(source, target, budget, large, self._desk.running.is_set)

    def _own_desk(self) -> Desk:
        orders = self._orders
        if self._state is None:
            return SharedDesk(Path(orders.records), orders.ticket)
        return RemoteDesk(Folder(self._state, f"{orders.records}{BEGUN}/"), orders.ticket)

    def _uploads(self) -> Uploads:
        path = Path(self._orders.uploads)
        if path.suffix == ".sqlite3":
            return Journal(path)
        folder = Folder.at(path) if self._state is None else Folder(self._state, self._orders.uploads)
        return UploadNotes(folder, uuid.uuid4().hex)

    def work(self, lot: Lot) -> Done:
        """Carry out a shard. Raises Interrupted, or the error of a place in trouble."""
        self._mover.guard.trust(lot.exact)
        tally = Tally()
        before = self._desk.earlier(lot.number)
        shards = _OneShard(self._desk.attempt(lot.number), lot.number)
        stage = CopyStage(self._mover, shards, tally, NoProgress(), self._threads, self._desk.running)
        with self._desk.keeping(shards.path):
            stage.run(_continued(lot, before))
        return shards.publish(self._desk, tally)

    def close(self) -> None:
        """Close both places."""
        self._stack.close()


def _continued(lot: Lot, before: Mapping[bytes, Line]) -> Iterator[Step]:
    """The steps of a shard; what an attempt that died has recorded is kept."""
    for step in lot.steps:
        line = before.get(step.entry.key)
        done = line is not None and line[1].target is not None
        yield Step(Action.KEEP, step.entry, step.target, line) if done and step.action is not Action.KEEP else step


def workplace(orders: Orders, connect: Callable[[str], Lease]) -> Workplace:
    """The workplace of this process, opened for the first shard. ``connect`` leads to `Orders.lessor`.

    Raises ConfigError when the orders are those of another release.
    """
    release = getattr(orders, "release", "an earlier release")  # one that did not say so; what it lacks has no hash
    if release != __version__:
        raise ConfigError(
            f"this worker has portabl {__version__}, and the command that leads it {release}",
            hint="install the same version of portabl everywhere, and start the workers anew",
        )
    return _opened(orders, connect)


@functools.lru_cache(maxsize=1)
def _opened(orders: Orders, connect: Callable[[str], Lease]) -> Workplace:
    return Workplace(orders, connect)


class _OneShard:
    """What `CopyStage` writes records into: a single shard, in a file of this attempt until it is whole."""

    trouble: BaseException | None = None

    def __init__(self, path: Path, number: int) -> None:
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        self.path = path
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

    def publish(self, desk: Desk, tally: Tally) -> Done:
        """Hand the segment over, whatever another attempt at the same shard has done meanwhile."""
        held = desk.publish(self.path.with_suffix(".seg"), self._number)
        return Done(
            self._number,
            self._shard.first,
            self._shard.last,
            self._shard.planned,
            tally.copied,
            tally.bytes_copied,
            tally.adopted,
            tally.changed,
            held,
        )
