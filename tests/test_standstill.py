"""A look at a standstill against the usual way: it says that nothing moves exactly when that would write the same."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from manifest_samples import written

from portabl import providers, records, registry
from portabl.checker import Checker
from portabl.errors import Interrupted, ListingDisordered
from portabl.files import Files
from portabl.manifest import Manifest
from portabl.migrate import _amended
from portabl.model import Entry, Loss, Proof, Record, Seen
from portabl.plan import Action, Line, steps
from portabl.standstill import TOLD_TOGETHER, Standstill, look
from portabl.tally import Losses

Change = tuple[str, int, str]
CHANGES = st.tuples(
    st.sampled_from(["source", "target", "record"]),
    st.integers(0, 4),
    st.sampled_from(["gone", "size", "etag", "modified", "version", "problem", "no etag", "no time", "key"]),
)
LOSSES = st.sampled_from(
    [(), (), (), (Loss("user.x", "too long"),), (Loss("tags", "not allowed"),), (Loss("object", "refused"),)]
)


@dataclass
class World:
    """Both listings and the records of the last pass."""

    source: list[Entry]
    target: list[Entry]
    records: list[Record]

    @property
    def lines(self) -> list[Line]:
        return [(records.encode(record), record) for record in self.records]


def _record(key: bytes, size: int = 1, losses: tuple[Loss, ...] = ()) -> Record:
    seen = Seen("old", "then"), Seen("new", "later")
    return Record(key, size, "a" * 64, source=seen[0], target=seen[1], losses=losses)


def _world(known: list[Record]) -> World:
    """All as the records say."""
    source = [Entry(one.key, one.size, "old", "then") for one in known]
    return World(source, [Entry(one.key, one.size, "new", "later") for one in known], known)


def _change(world: World, change: Change) -> None:
    where, number, what = change
    if where == "record":
        if what == "gone":
            del world.records[number : number + 1]
        for at, record in enumerate(world.records):
            if at == number:
                world.records[at] = _other_record(record, what)
        return
    entries = world.source if where == "source" else world.target
    if what == "gone":
        del entries[number : number + 1]
        return
    values: dict[str, object] = {"size": 2, "problem": "a socket", "no etag": "", "no time": ""}
    field = {"no etag": "etag", "no time": "modified"}.get(what, what)
    for at, entry in enumerate(entries):
        if at == number:
            values["key"] = entry.key + b"!"  # renamed: all else is as it was, and so is the order
            entries[at] = replace(entry, **{field: values.get(what, "another")})  # type: ignore[arg-type]


def _other_record(record: Record, what: str) -> Record:
    seen = record.target or Seen()
    match what:
        case "size":
            return replace(record, size=2)
        case "key":
            return replace(record, key=record.key + b"!")
        case "etag" | "version":
            return replace(record, source=replace(record.source, **{what: "another"}))
        case "problem":
            return replace(record, target=None)
        case "no etag":
            return replace(record, target=replace(seen, etag=""))
        case "no time":
            return replace(record, target=replace(seen, modified=""))
        case "modified":
            return replace(record, sha256=None)
    return record


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Hardly anything is changed, or nothing; and some of it is known to one side only."""
    keys = sorted(draw(st.sets(st.sampled_from([b"a", b"a/b", b"a0", b"b", b"\xff", b"z"]), max_size=5)))
    world = _world([_record(key, draw(st.integers(0, 1)), draw(LOSSES)) for key in keys])
    for name in draw(st.lists(st.sampled_from([b"", b"a-", b"c", b"\xff\xff"]), max_size=2, unique=True)):
        world.target = sorted([*world.target, Entry(name, 3, "stranger", "now")], key=lambda entry: entry.key)
    for change in draw(st.lists(CHANGES, max_size=1)):
        _change(world, change)
    return world


class Looker:
    """Looks at worlds, by the checker of a real directory."""

    def __init__(self, folder: Path) -> None:
        folder.joinpath("target").mkdir()
        self._folder = folder
        self._numbers = itertools.count()
        self.stop = threading.Event()
        with registry.open_location(str(folder / "target"), providers.Config()) as target:
            self.checker = Checker(target, Proof.INGEST, 1, self.stop)
        self.extras: list[bytes] = []
        self.told: list[tuple[int, int]] = []

    def last(self, world: World, together: int = 2) -> Manifest:
        """A manifest of its records."""
        return written(Files.at(f"memory://{self._folder}/{next(self._numbers)}"), world.records, together)

    def look(self, world: World) -> Standstill | None:
        """In the way that is tested."""
        self.extras.clear()
        self.told.clear()
        return look(
            self.last(world),
            world.source,
            world.target,
            self.checker.by_listing,
            lambda entry: self.extras.append(entry.key),
            lambda objects, size: self.told.append((objects, size)),
        )

    def usual(self, world: World) -> tuple[int, list[bytes], Losses] | None:
        """In the usual way: plan, keep, and the final look; None when that moves anything or writes other records."""
        found = list(steps(world.source, world.target, world.lines))
        kept = [step.known for step in found if step.action is Action.KEEP and step.known is not None]
        if any(step.action not in (Action.KEEP, Action.EXTRA) for step in found) or kept != world.lines:
            return None
        losses, extras = Losses(), list[bytes]()
        told = [_amended(one) for one in self.checker.check(kept, world.target, lambda e: extras.append(e.key))]
        for _, record in told:
            losses.add(record)
        assert extras == [step.entry.key for step in found if step.action is Action.EXTRA]
        return (len(kept), extras, losses) if told == world.lines else None


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Looker:
    return Looker(tmp_path_factory.mktemp("look"))


def _told_of_the_last(change: Change) -> World:
    world = _world([_record(b"a"), _record(b"b")])
    _change(world, change)
    return world


@given(world=worlds())
@example(world=_world([]))
@example(world=World([], [Entry(b"extra", 1, "e", "m")], []))
@example(world=World([Entry(b"new", 1, "e", "m")], [], []))
@example(world=_told_of_the_last(("source", 1, "gone")))
@example(world=_told_of_the_last(("target", 1, "gone")))
@example(world=_told_of_the_last(("record", 1, "gone")))
@example(world=_told_of_the_last(("source", 1, "key")))
@example(world=_told_of_the_last(("target", 1, "key")))
@example(world=_told_of_the_last(("record", 1, "key")))
@example(world=_told_of_the_last(("target", 0, "problem")))
@example(world=_told_of_the_last(("record", 0, "no time")))
@settings(deadline=None, max_examples=80)
def test_nothing_moves_exactly_when_the_usual_way_would_write_the_same(looker: Looker, world: World) -> None:
    found, usual = looker.look(world), looker.usual(world)
    assert (found is None) == (usual is None)
    if found is not None and usual is not None:
        objects, extras, losses = usual
        assert (found.objects, found.extra, looker.extras) == (objects, len(extras), extras)
        assert (found.losses.groups(), found.losses.failed) == (losses.groups(), losses.failed)
        assert sum(objects for objects, _ in looker.told) == objects
        assert sum(size for _, size in looker.told) == sum(entry.size for entry in world.source)


@pytest.mark.parametrize("where", ["source", "target"])
@pytest.mark.parametrize("what", ["gone", "size", "etag", "modified", "problem", "no etag", "key"])
@pytest.mark.parametrize("number", [0, 2, 4])
def test_any_one_change_is_seen(where: str, what: str, number: int, looker: Looker) -> None:
    world = _world([_record(b"%d" % n) for n in range(5)])
    assert looker.look(world) is not None
    _change(world, (where, number, what))
    assert looker.look(world) is None


def test_every_object_is_told_once(looker: Looker) -> None:
    world = _world([_record(b"%06d" % n, n) for n in range(2 * TOLD_TOGETHER + 1)])
    assert looker.look(world) is not None
    objects, sizes = zip(*looker.told, strict=True)
    assert (sum(objects), sum(sizes)) == (len(world.source), sum(entry.size for entry in world.source))


def test_a_listing_that_breaks_off_is_no_end_of_it(looker: Looker) -> None:
    def disordered(entries: list[Entry]) -> Iterator[Entry]:
        yield from entries
        raise ListingDisordered("not in order")

    world = _world([_record(b"a"), _record(b"b")])
    last = looker.last(world)
    for source, target in ((disordered(world.source), world.target), (world.source, disordered(world.target))):
        with pytest.raises(ListingDisordered):
            look(last, source, target, looker.checker.by_listing, lambda _: None, lambda _n, _s: None)


def test_it_ends_when_asked_to_stop(looker: Looker) -> None:
    looker.stop.set()
    try:
        with pytest.raises(Interrupted):
            looker.look(_world([_record(b"a")]))
    finally:
        looker.stop.clear()
