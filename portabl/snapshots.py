"""Snapshots: packages of one source side by side below one location, each whole by itself, named by when it was begun.

``LOCATION/20261130T020000Z/package.json ...``. What has not changed since the snapshot before is shared with it: a hard
link in a directory, a copy made by the server in an object store. So removing one never harms another.
"""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

from portabl import package, registry
from portabl.checker import Sample
from portabl.encryption import described, recipients_of
from portabl.errors import Interrupted, ManifestError, UsageError
from portabl.executors import in_order
from portabl.keys import plain
from portabl.model import Entry, Proof
from portabl.package import Export, below
from portabl.package_claim import is_held
from portabl.package_format import (
    COMPLETE,
    INCOMPLETE,
    NAME,
    PAYLOAD,
    REMOVING,
    UNFINISHED,
    Document,
    load,
    with_state,
)
from portabl.progress import NoProgress, Progress
from portabl.providers import Config
from portabl.report import Report
from portabl.storage import Storage
from portabl.verification import Verification

DAMAGED = "damaged"
_NAME = re.compile(r"(\d{8}T\d{6}Z)(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot. ``taken``: when it was begun, UTC. ``state``: of its package.json, or "damaged"."""

    name: str
    location: str
    taken: datetime.datetime
    state: str
    document: Document | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether it is a package that can be restored."""
        return self.state in (COMPLETE, INCOMPLETE)


def snapshots(location: str, config: Config) -> list[Snapshot]:
    """Every snapshot below a location, oldest first. Raises StorageError."""
    found = []
    for name in registry.files(location, config).folders():
        match = _NAME.fullmatch(name)
        if match:
            found.append(_snapshot(name, match[1], below(location, name), config))
    return sorted(found, key=lambda one: (one.taken, len(one.name), one.name))


def _snapshot(name: str, stamp: str, location: str, config: Config) -> Snapshot:
    taken = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    files = registry.files(location, config)
    if not files.exists(NAME):  # an export claims its place with it before all else, and a removal takes it last
        lost = files.exists("manifest/manifest.json")
        return Snapshot(name, location, taken, DAMAGED if lost else UNFINISHED)
    try:
        document = load(files)
    except ManifestError:
        return Snapshot(name, location, taken, DAMAGED)
    return Snapshot(name, location, taken, document.state, document)


# --- taking -----------------------------------------------------------------------------------------------------------


def take(
    job: Export,
    *,
    now: datetime.datetime | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Make the next snapshot below ``job.target``, or go on with one that was interrupted.

    Unchanged objects are shared with the newest finished snapshot of the same source, unless ``job.since`` names
    another package. ``now``: the time that names it. Raises as `portabl.package.export`.
    """
    package.decide(job)  # before either place is looked at
    there = snapshots(job.target, job.config)
    with registry.open_location(job.source, job.config, options=job.options()) as source:
        origin, encryption = package.origin(source, job), described(recipients_of(job.recipients))
    same = [
        one for one in there if one.document and (one.document.origin, one.document.encryption) == (origin, encryption)
    ]
    base = [one.location for one in same if one.finished]
    since = job.since or (base[-1] if base else None)
    open_ones = [one for one in same if one.state == UNFINISHED and _continues(one, job)]
    location = open_ones[-1].location if open_ones else below(job.target, _free_name(there, now))
    return package.export(replace(job, target=location, since=since), progress=progress, stop=stop)


def _continues(one: Snapshot, job: Export) -> bool:
    document = one.document
    wanted = (job.layout, tuple(map(plain, job.include)), tuple(map(plain, job.exclude)))
    return document is not None and (document.layout, document.include, document.exclude) == wanted


def _free_name(there: Sequence[Snapshot], now: datetime.datetime | None) -> str:
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    taken = {one.name for one in there}
    names = (stamp if number == 1 else f"{stamp}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


# --- retention --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retention:
    """How many to keep: the newest ``last``, and the newest of each of the last so many days, weeks (ISO) and months
    that have one, counted in ``zone`` (IANA name). A snapshot is kept if any rule keeps it.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    zone: str = "UTC"

    @property
    def active(self) -> bool:
        """Whether there is any rule; without one everything would go."""
        return any((self.last, self.daily, self.weekly, self.monthly))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a snapshot, and why."""

    snapshot: Snapshot
    keep: bool
    reason: str


_PERIODS: tuple[tuple[str, Callable[[datetime.datetime], str]], ...] = (
    ("daily", lambda moment: moment.strftime("%Y-%m-%d")),
    ("weekly", lambda moment: moment.strftime("%G-W%V")),
    ("monthly", lambda moment: moment.strftime("%Y-%m")),
)


def decide(there: Sequence[Snapshot], retention: Retention, now: datetime.datetime | None = None) -> list[Decision]:
    """What a prune would do, in the order given; pure. Raises UsageError without a rule, or with an unknown zone.

    An incomplete snapshot (its manifest names losses) stands for its period only where there is no complete one.
    """
    if not retention.active:
        raise UsageError("no rule says what to keep", hint="give `--keep-last`, `--keep-daily` or the like")
    series: dict[object, list[Snapshot]] = {}
    for one in there:
        series.setdefault(_series(one), []).append(one)
    decided = {each.snapshot.name: each for group in series.values() for each in _decide(group, retention, now)}
    return [decided[one.name] for one in there]


def _series(one: Snapshot) -> object:
    """What is a snapshot of the same: one never makes another's superfluous."""
    return one.document and (one.document.origin, one.document.include, one.document.exclude)


def _whole(one: Snapshot) -> bool:
    """Complete, and of something: a source that was not mounted is an empty place."""
    return one.state == COMPLETE and (one.document is None or one.document.objects > 0)


def _decide(there: Sequence[Snapshot], retention: Retention, now: datetime.datetime | None) -> list[Decision]:
    kept: dict[str, list[str]] = {}
    soon = (now or datetime.datetime.now(datetime.UTC)) + datetime.timedelta(days=1)
    finished = [one for one in there if one.finished and one.taken <= soon]
    newest_first = sorted(finished, key=lambda one: one.taken, reverse=True)
    complete = [one for one in newest_first if _whole(one)]
    for one in complete[: retention.last]:
        kept.setdefault(one.name, []).append("last")
    for rule, period in _PERIODS:
        for one in _representatives(newest_first, period, getattr(retention, rule), _zone(retention.zone)):
            kept.setdefault(one.name, []).append(rule)
    newest = complete[0].taken if complete else None
    return [_decision(one, kept.get(one.name, ()), newest) for one in there]


def _zone(name: str) -> datetime.tzinfo:
    try:
        return datetime.UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"unknown time zone {plain(name)}", hint="write one such as `Europe/Berlin`") from None


def _representatives(
    newest_first: Iterable[Snapshot],
    period: Callable[[datetime.datetime], str],
    count: int,
    zone: datetime.tzinfo,
) -> list[Snapshot]:
    chosen: dict[str, Snapshot] = {}
    for one in newest_first:
        name = period(one.taken.astimezone(zone))
        if name not in chosen and len(chosen) >= count:
            break
        if name not in chosen or (not _whole(chosen[name]) and _whole(one)):
            chosen[name] = one
    return list(chosen.values())


def _decision(one: Snapshot, rules: Sequence[str], newest: datetime.datetime | None) -> Decision:
    if one.state == DAMAGED:
        return Decision(one, True, "its package.json is damaged: look at it, then remove it by hand")
    if one.state == REMOVING:
        return Decision(one, False, "was being removed")
    if newest is None or one.taken >= newest:
        return Decision(one, True, ", ".join(rules) or "no complete snapshot is newer")
    if one.state == UNFINISHED:
        return _unfinished(one)
    return Decision(one, bool(rules), ", ".join(rules) or "no rule keeps it")


def _unfinished(one: Snapshot) -> Decision:
    if one.document is None:
        return Decision(one, True, "no package.json says that this is a package")
    if is_held(one.document):
        return Decision(one, True, "an export into it is going on")
    return Decision(one, False, "unfinished, and a complete one is newer")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did. ``removed``: names, empty in a dry run. ``refused``: why nothing was removed, "" if nothing
    spoke against it.
    """

    decisions: tuple[Decision, ...]
    removed: tuple[str, ...] = ()
    dry_run: bool = True
    refused: str = ""
    checked: tuple[Verification, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done (or nothing to do), 3 refused."""
        return 3 if self.refused else 0


def prune(
    location: str,
    config: Config,
    retention: Retention,
    *,
    apply: bool = False,
    proof: Proof = Proof.SIZE,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Pruned:
    """Remove the snapshots that no rule keeps; only say so unless ``apply``.

    Before anything is removed every snapshot that stays is proven: its documents, its manifest, and its payload at
    ``proof`` (SIZE lists it, READBACK reads all of it). If one is not as it should be, nothing is removed. Raises
    Interrupted, UsageError, StorageError.
    """
    progress, stop = progress or NoProgress(), stop or threading.Event()
    decisions = tuple(decide(snapshots(location, config), retention))
    going = [decision.snapshot for decision in decisions if not decision.keep]
    staying = [decision.snapshot for decision in decisions if decision.keep and decision.snapshot.finished]
    if not apply or not going:
        return Pruned(decisions, dry_run=not apply)
    checked, refused = _prove(staying, config, proof, threads, progress, stop)
    if refused:
        return Pruned(decisions, dry_run=False, refused=refused, checked=checked)
    for one in going:
        remove(location, one, config, threads=threads, stop=stop)
    return Pruned(decisions, tuple(one.name for one in going), dry_run=False, checked=checked)


def _prove(
    staying: Sequence[Snapshot], config: Config, proof: Proof, threads: int, progress: Progress, stop: threading.Event
) -> tuple[tuple[Verification, ...], str]:
    if not any(_whole(one) for one in staying):
        return (), "no complete snapshot would be left"
    checked: list[Verification] = []
    for one in staying:
        try:
            found = package.verify(one.location, config, proof=proof, threads=threads, progress=progress, stop=stop)
        except ManifestError as damaged:
            return tuple(checked), f"{one.name} is to stay, but is damaged: {damaged.message}"
        checked.append(found)
        if found.interrupted:
            raise Interrupted("stopped before anything was removed")
        wrong = found.issues_total or found.checked != found.objects
        if wrong or (one.state == COMPLETE and found.exit_code):
            return tuple(checked), f"{one.name} is to stay, but is not as its manifest says: see `portabl verify`"
    return tuple(checked), ""


def remove(
    location: str, one: Snapshot, config: Config, *, threads: int = 64, stop: threading.Event | None = None
) -> None:
    """Remove one snapshot. It is marked first, so what a crash leaves of it is never taken for a snapshot again."""
    files = registry.files(one.location, config)
    if one.document is not None and one.state != REMOVING:
        files.write(NAME, with_state(one.document, REMOVING).to_json())
    prefix = one.name.encode("ascii") + b"/"
    with registry.open_location(below(one.location, PAYLOAD), config) as payload:
        payload.check(write=True)  # clears what a killed run left unfinished, which no listing shows
    with (
        registry.open_location(one.location, config, threads=threads) as inside,
        registry.open_location(location, config, threads=threads) as outside,
    ):
        outside.check(write=True)
        for _ in in_order(_doomed(inside), lambda entry: _delete(outside, prefix + entry.key, stop), threads):
            pass
        outside.delete(prefix + NAME.encode("ascii"))


def _doomed(inside: Storage) -> Iterator[Entry]:
    return (entry for entry in inside.entries() if entry.key != NAME.encode("ascii"))


def _delete(outside: Storage, key: bytes, stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Interrupted("stopped while a snapshot was removed; the next prune goes on")
    outside.delete(key)


# --- verifying --------------------------------------------------------------------------------------------------------


def verify(
    location: str,
    config: Config,
    *,
    names: Sequence[str] = (),
    proof: Proof = Proof.READBACK,
    sample: Sample | None = None,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    identity: str = "",
) -> Iterator[tuple[Snapshot, Verification | ManifestError]]:
    """`portabl.package.verify` for every finished snapshot (or those named), oldest first, as each is done.

    Raises UsageError for a name that is not there.
    """
    there = snapshots(location, config)
    unknown = set(names) - {one.name for one in there}
    if unknown:
        raise UsageError(f"no snapshot {plain(min(unknown))}", hint="`portabl snapshots list` shows them")
    for one in there:
        if names and one.name not in names:
            continue
        if not one.finished and one.state != DAMAGED and not names:
            continue
        try:
            found = package.verify(
                one.location,
                config,
                proof=proof,
                sample=sample,
                threads=threads,
                progress=progress,
                stop=stop,
                identity=identity,
            )
        except ManifestError as damaged:
            yield one, damaged
            continue
        yield one, found
        if found.interrupted:
            return
