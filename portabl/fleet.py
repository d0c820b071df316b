"""The copy stage on many processes: shards of steps go out, finished segments come back.

One process, the conductor, lists and plans; workers copy. A worker writes the segment of its shard itself, where the
job keeps its state, and answers with a few figures. What must not happen twice at once stays with the conductor:
writes that are watched because a target may merge keys are made here while every worker is idle (`KeyGuard`).

A worker may die at any instant, and a shard may be carried out twice at once: a shard's records are kept in a file of
that attempt until all are there, then take the shard's name in one step. A shard that is begun again takes over what
an earlier attempt has recorded. At most `SHARDS_PER_WORKER` shards a worker are out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from portabl import records, worklog
from portabl.copying import CopyStage
from portabl.errors import PortablError
from portabl.plan import Action, Step
from portabl.progress import Progress
from portabl.state import Pass, disk_errors, write_synced
from portabl.tally import Tally

if TYPE_CHECKING:
    from portabl.folder import Folder
    from portabl.throttle import Throttle
    from portabl.worker import Orders

SHARD_STEPS = 1_000
SHARD_BYTES = 256 * 2**20
"""A shard for a worker ends with the step that reaches either."""
SHARDS_PER_WORKER = 2
FIRST_LATE = 2**40
"""Number of the shard for keys written last, beyond those of all workers."""
ATTEMPTS = 5
"""Times a shard is given out again because its worker died."""


@dataclass(frozen=True, slots=True)
class Lot:
    """One shard for a worker. ``exact``: the hazard classes of keys that the target was seen to keep."""

    number: int
    steps: tuple[Step, ...]
    exact: frozenset[str]


@dataclass(frozen=True, slots=True)
class Held:
    """A segment that lies in a state elsewhere: its name below ``begun/``, its bytes, and their SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Done:
    """A shard whose segment is written: its key range, its records, and what was done for them (bytes, objects).

    ``held``: where the segment is, when it is not in the directory of the pass already.
    """

    number: int
    first: bytes
    last: bytes
    objects: int
    copied: int = 0
    bytes_copied: int = 0
    adopted: int = 0
    changed: int = 0
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Crew:
    """Everything a copy stage with a fleet works with. ``own``: the stage in this process, for what is done alone;
    ``begun``: the folder of shards that workers have begun; ``throttle``: the budget of the run, which its places keep
    to in this process already.
    """

    orders: Orders
    begun: Folder
    own: CopyStage
    run: Pass
    closed: Callable[[Done], None]
    tally: Tally
    progress: Progress
    throttle: Throttle | None = None


class Fleet(Protocol):
    """Workers somewhere. A future fails with BrokenExecutor when its worker died; `renew` then finds others."""

    @property
    def workers(self) -> int:
        """How many there are now."""

    def submit(self, lot: Lot) -> Future[Done]:
        """Have a shard carried out."""

    def renew(self) -> None:
        """Replace workers that died."""

    def close(self) -> None:
        """Let all workers go."""


class FleetStage:
    """Carries out a plan with a fleet. ``own``: the same stage in this process, for what has to be done alone;
    ``closed`` is told of every segment; ``halt`` makes workers stop after what is in flight.
    """

    def __init__(
        self,
        own: CopyStage,
        fleet: Fleet,
        run: Pass,
        closed: Callable[[Done], None],
        tally: Tally,
        progress: Progress,
        halt: Callable[[], None],
    ) -> None:
        self._halt = halt
        self._own = own
        self._fleet = fleet
        self._run = run
        self._closed = closed
        self._tally = tally
        self._progress = progress
        self._out: dict[Future[Done], Lot] = {}
        self._attempts: dict[int, int] = {}
        self._recorded = 0
        self._number = 0

    def run(self, steps: Iterable[Step]) -> Pass:
        """Carry out every step; returns the pass with all its records.

        Raises Interrupted when asked to stop, or the error of a place in trouble.
        """
        late: list[Step] = []
        try:
            for shard in _cut(steps, late):
                self._own.check()
                self._dispatch(shard)
            self._collect(0)
            self._last(late)
        except BaseException:
            self._halt()
            wait(self._out)
            raise
        return replace(self._run, objects=self._recorded)

    def _dispatch(self, shard: list[Step]) -> None:
        ready = [step for one in shard if (step := self._alone(one)) is not None]
        self._tally.add("unchanged", sum(step.action is Action.KEEP for step in shard))
        if not ready:
            return
        lot = Lot(self._number, tuple(ready), self._own.guard.exact)
        self._number += 1
        if all(step.action is Action.KEEP for step in ready):
            self._took(_kept(self._run, lot), ready)
            return
        self._collect(self._fleet.workers * SHARDS_PER_WORKER - 1)
        self._send(lot)

    def _alone(self, step: Step) -> Step | None:
        """A step that workers may carry out; one they may not is carried out here, with no write going on elsewhere."""
        if step.action is Action.KEEP:
            return step
        if step.action is not Action.REPORT and self._own.guard.ordinary(
            step.entry.key, listed=step.target is not None
        ):
            return step
        self._collect(0)
        record = self._own.single(step)
        if record is None:
            return None
        return replace(step, action=Action.KEEP, known=(records.encode(record), record))

    def _send(self, lot: Lot) -> None:
        self._out[self._fleet.submit(lot)] = lot

    def _collect(self, most: int) -> None:
        """Wait until at most ``most`` shards are out."""
        while len(self._out) > most:
            finished, _ = wait(self._out, timeout=1.0, return_when=FIRST_COMPLETED)
            self._own.check()
            lost = []
            for future in finished:
                lot = self._out.pop(future)
                try:
                    self._took(future.result(), lot.steps)
                except BrokenExecutor:
                    lost.append(lot)
            if lost:
                self._again(lost)

    def _again(self, lost: list[Lot]) -> None:
        """A worker died: with a pool of processes, everything that was out is lost with it."""
        self._fleet.renew()
        broken = [future for future in self._out if future.done() and isinstance(future.exception(), BrokenExecutor)]
        lost += [self._out.pop(future) for future in broken]
        for lot in sorted(lost, key=lambda lot: lot.number):
            self._attempts[lot.number] = self._attempts.get(lot.number, 0) + 1
            if self._attempts[lot.number] >= ATTEMPTS:
                raise PortablError(
                    f"workers died {ATTEMPTS} times over the {len(lot.steps)} objects from this one on",
                    key=lot.steps[0].entry.key,
                    hint="look at the memory of the machine; the same command with `--processes 1` goes on from here",
                )
            self._send(lot)

    def _took(self, done: Done, steps: Iterable[Step]) -> None:
        """A segment is where it belongs: note it, and count."""
        self._closed(done)
        self._recorded += done.objects
        for name in ("copied", "bytes_copied", "adopted", "changed"):
            self._tally.add(name, getattr(done, name))
        sizes = [step.entry.size for step in steps]
        self._progress.advance(len(sizes), sum(sizes))

    def _last(self, late: list[Step]) -> None:
        """Keys made only of slashes, after all others and in this process."""
        self._recorded += self._own.last(late).objects
        self._progress.advance(len(late), sum(step.entry.size for step in late))


def _kept(run: Pass, lot: Lot) -> Done:
    """The segment of a shard in which nothing is left to do."""
    path = run.path / f"{lot.number:06d}.seg"
    lines = [step.known[0] for step in lot.steps if step.known is not None]
    with disk_errors(path):
        write_synced(path, b"".join(worklog.sealed(line) for line in lines))
    return Done(lot.number, lot.steps[0].entry.key, lot.steps[-1].entry.key, len(lines))


def _cut(steps: Iterable[Step], late: list[Step]) -> Iterator[list[Step]]:
    """Steps in key order as shards; those that come last go to ``late``, what is only at the target nowhere."""
    shard: list[Step] = []
    size = 0
    for step in steps:
        if step.action is Action.EXTRA:
            continue
        if not step.entry.key.strip(b"/") and step.action is Action.COPY:
            late.append(step)
            continue
        shard.append(step)
        size += step.entry.size if step.action is not Action.KEEP else 0
        if len(shard) >= SHARD_STEPS or size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
