"""START HERE: the conductor. One run moves everything one stage on: list > plan > copy > prove > manifest > report."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from portabl import keys, places, records, registry
from portabl import manifest as manifests
from portabl import policy as policies
from portabl.budget import Budget
from portabl.checker import Checker, Finding, looked_at
from portabl.copying import CopyStage
from portabl.engines import Engine
from portabl.errors import ContainerMissing, Interrupted, ManifestError
from portabl.files import Files
from portabl.folder import Folder
from portabl.gate import Gate
from portabl.journal import utc_now
from portabl.judge import ARCHIVED
from portabl.large import LargeMover
from portabl.listing import Filter, Listing, Spooled, VersionListing, ahead, until_ordered
from portabl.migration import Earlier, Migration
from portabl.model import Entry, Proof, Record
from portabl.plan import Action, History, Line, Step, newest, steps
from portabl.plan import histories as planned_histories
from portabl.policy import Decision
from portabl.progress import NoProgress, Progress
from portabl.remote_state import JOURNAL
from portabl.report import Report
from portabl.shards import Shards
from portabl.standstill import Standstill, look
from portabl.state import Job, Pass, default_root, disk_errors
from portabl.storage import Storage
from portabl.surroundings import VERSIONS_COUNTED, older_versions, sentence, unfinished
from portabl.tally import Losses, Tally
from portabl.throttle import Pacer, Throttle
from portabl.transfer import Mover
from portabl.upload_notes import NOTES, UploadNotes
from portabl.worklog import BEGUN

if TYPE_CHECKING:
    from portabl.fleet import Crew
    from portabl.guise import Guise


def migrate(migration: Migration, *, progress: Progress | None = None, stop: threading.Event | None = None) -> Report:
    """Move everything in the source's scope to the target, prove it, and leave a manifest.

    ``stop`` asks for an orderly end: what is under way is finished, the report says interrupted, and the same call goes
    on from there. Raises UsageError, ConfigError, PolicyRefused, StorageError, StateFull.
    """
    pacer = Throttle.of(migration.bandwidth, migration.requests_per_second)
    migration.check()
    decision = migration.decide()
    with (
        _opened(migration, migration.source, migration.source_options(), pacer) as source,
        _opened(migration, migration.target, migration.target_options(), pacer) as target,
    ):
        if migration.mirror:
            places.not_mirrored_away(
                target, migration.config, migration.state or str(default_root()), migration.manifest
            )
        return _between(migration, source, target, decision, None, None, progress, stop, pacer)


def between(
    migration: Migration,
    source: Storage,
    target: Storage,
    *,
    decision: Decision | None = None,
    earlier: Earlier | None = None,
    guise: Guise | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """`migrate` between two open storages; ``earlier`` is a snapshot to take unchanged bodies from.

    ``decision``: what `Migration.decide` answered; asked for when it is not given.
    """
    alone = replace(migration, engine=Engine(processes=1), listers=1)  # other processes would open the locations anew
    return _between(alone, source, target, decision or migration.decide(), earlier, guise, progress, stop)


def _between(
    migration: Migration,
    source: Storage,
    target: Storage,
    decision: Decision,
    earlier: Earlier | None,
    guise: Guise | None,
    progress: Progress | None,
    stop: threading.Event | None,
    throttle: Throttle | None = None,
) -> Report:
    progress, stop = progress or NoProgress(), stop or threading.Event()
    places.apart(source, target)
    source.check(write=False)
    if migration.all_versions:
        from portabl import histories

        histories.check(source, target)
    if migration.dry_run:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="portabl-") as scratch:
            return _Run(migration, decision, source, target, scratch, progress, stop, earlier, guise).rehearse()
    target.check(write=True)
    if migration.lock == "keep":
        places.can_lock(target)
    with _job(migration, source, target) as job, job.scratch() as scratch, disk_errors(job.root):
        job.tidy()
        job.compact()
        report = _Run(migration, decision, source, target, scratch, progress, stop, earlier, guise, throttle).perform(
            job
        )
        if migration.forget and report.exit_code == 0:
            job.dissolve()
        return report


def _opened(migration: Migration, location: str, options: Mapping[str, str], pacer: Pacer | None) -> Storage:
    config, threads = migration.config, migration.threads
    return registry.open_location(location, config, threads=threads, options=options, pacer=pacer)


def _job(migration: Migration, source: Storage, target: Storage) -> Job:
    """The job's state: in the user's state directory, in another local one, or worked on locally and kept remotely."""
    identity = migration.identity(source, target)
    if migration.state is None:
        return Job(default_root(), identity)
    location = registry.parse(migration.state, migration.config)
    if location.type == "file":
        return Job(Path(location.container), identity)
    near = hashlib.sha256(location.name.encode()).hexdigest()[:16]
    return Job(default_root() / "remote" / near, identity, registry.files(migration.state, migration.config))


class _Run:
    """One run of a job: the stages, in order."""

    def __init__(
        self,
        migration: Migration,
        decision: Decision,
        source: Storage,
        target: Storage,
        scratch: str,
        progress: Progress,
        stop: threading.Event,
        earlier: Earlier | None = None,
        guise: Guise | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._throttle = throttle
        self._migration = migration
        self._decision = decision
        self._source = source
        self._target = target
        self._scratch = scratch
        self._progress = progress
        self._stop = stop
        self._earlier = earlier
        self._guise = guise
        self._began = time.monotonic()
        self._started = utc_now()
        self._keep = keep = Filter.of(migration.include, migration.exclude)
        accept = (*migration.accept, ARCHIVED) if migration.restore_archived else migration.accept
        # what is archived is asked for, and named
        self._gate = Gate(source, target, accept, migration.card, migration.acl, migration.lock)
        listing = VersionListing if migration.all_versions else Listing
        self._source_listing = Spooled(listing(source, keep, scratch, migration.listers), scratch)
        self._target_listing: Iterable[Entry] = listing(target, keep, scratch, migration.listers)
        self._warnings = list(decision.warnings)
        self._notes: list[str] = []
        self._planned = 0
        self._alone = True

    def rehearse(self) -> Report:
        """What a run would do, with nothing written anywhere."""
        self._look_around()
        try:
            self._target.check(write=False)
        except ContainerMissing:
            if not self._target.capabilities.metadata_in_manifest:
                raise
            self._target_listing = ()  # a directory that the real run would make
        else:
            if self._migration.lock == "keep":
                places.can_lock(self._target)
        rehearsal = self._rehearsal_of_histories if self._migration.all_versions else self._rehearsal
        return self._foreseen() or until_ordered(rehearsal)

    def _look_around(self) -> None:
        """What lies at the source and is no object."""
        if self._migration.engine.processes > 1 or self._migration.engine.kind != "local":
            self._notes.append(
                "ACLs and encryption at the source were not counted: only a run in one process does that"
            )
        self._notes += filter(None, (unfinished(self._source)[1],))
        if not self._migration.all_versions:
            left, unknown = older_versions(self._source, self._keep, self._stop, VERSIONS_COUNTED)
            self._notes += [*map(sentence, left), *filter(None, (unknown,))]

    def _rehearsal_of_histories(self) -> Report:
        from portabl import histories

        figures = histories.rehearsed(self._plan_histories(iter(())))
        self._warn_of_nothing(figures["objects"])
        self._warnings.append("a dry run counts versions; whether those at the target are the same is not looked at")
        return self._report(dry_run=True, complete=True, **figures)

    def _rehearsal(self) -> Report:
        counts: dict[Action, int] = dict.fromkeys(Action, 0)
        sizes: dict[Action, int] = dict.fromkeys(Action, 0)
        for step in self._plan(iter(())):
            counts[step.action] += 1
            sizes[step.action] += step.entry.size
        there = (Action.COPY, Action.ADOPT, Action.SHARE)
        self._warn_of_nothing(sum(counts.values()) - counts[Action.EXTRA])
        self._warnings.append("a dry run compares listings only: it knows no earlier run of this job")
        return self._report(
            objects=sum(counts.values()) - counts[Action.EXTRA],
            bytes=sum(sizes.values()) - sizes[Action.EXTRA],
            copied=sum(counts[a] for a in there),
            bytes_copied=sum(sizes[a] for a in there),
            failed=counts[Action.REPORT],
            extra=counts[Action.EXTRA],
            deleted=counts[Action.EXTRA] if self._migration.mirror else 0,
            dry_run=True,
            complete=not counts[Action.REPORT],
        )

    def perform(self, job: Job) -> Report:
        """The real thing; an interrupted run returns its report too."""
        self._look_around()
        tally = Tally()
        try:
            still = until_ordered(lambda: self._standstill(job))
            return self._foreseen() or self._pass(job, tally, still)
        except Interrupted as interrupted:
            if type(interrupted) is not Interrupted:
                raise  # no room for the state: an error, not a wish
            return self._report(
                copied=tally.copied,
                bytes_copied=tally.bytes_copied,
                unchanged=tally.unchanged,
                interrupted=True,
                next_command="the same command again",
            )

    def _standstill(self, job: Job) -> Standstill | None:
        """What a look at both listings says where nothing has changed since the last manifest; else None."""
        migration = self._migration
        moves = self._guise or self._earlier or migration.restore or migration.all_versions
        last = None if moves or migration.proof is Proof.READBACK else job.settled()
        if last is None:
            return None
        self._progress.stage("compare", None)
        with (
            contextlib.closing(self._source_listing.passing(self._stop, self._gate.see)) as listed,
            contextlib.closing(ahead(listed, self._expect)) as source,
            contextlib.closing(ahead(self._target_listing, lambda _: None)) as target,
            self._checker() as checker,
            self._extras() as extras,
        ):
            found = None
            with contextlib.suppress(ManifestError):  # the usual way says what is to be done about it
                told = self._progress.advance
                found = look(last, source, target, checker.by_listing, lambda entry: _note(extras, entry), told)
            if found is None:
                collections.deque(source, maxlen=0)  # the rest of it is wanted in any case
            return found

    def _pass(self, job: Job, tally: Tally, still: Standstill | None) -> Report:
        run = job.begin() if still else until_ordered(lambda: self._copy(job, tally))
        try:
            if still:
                manifest, losses = self._again(job, run, tally, still)
            else:
                manifest, losses = until_ordered(lambda: self._prove(job, run, tally))
            self._sweep_uploads(job)
            self._mirror(manifest.counts["objects"], losses, tally)
            where = self._publish(job, run, manifest)
        except BaseException:
            job.journal.end_pass(run.number, "interrupted", objects=0, size=0)
            raise
        return self._final(manifest, losses, tally, where)

    # list > check

    def _foreseen(self) -> Report | None:
        """The check of `portabl plan`: a report when something would be lost that nobody accepted, and then no copy."""
        self._source_listing.fill(self._stop, self._gate.see)
        found = self._gate.check(self._source_listing, self._restored(), self._migration.threads, self._stop)
        self._warnings += found.warnings
        return self._report(stopped=True, dry_run=self._migration.dry_run, **found.figures) if found.stops else None

    # plan > copy

    def _copy(self, job: Job, tally: Tally) -> Pass:
        run = job.begin()
        self._progress.stage("copy", None)
        large = LargeMover(job.journal, self._scratch, lambda size: self._progress.advance(0, size))
        earlier = self._earlier.storage if self._earlier else None
        mover = Mover(self._source, self._target, Budget(), large, self._stop.is_set, earlier)
        known, threads = job.known(run.number), self._migration.threads
        try:
            if self._migration.all_versions:
                from portabl import histories

                shards = Shards(run, job.journal, job.shard_closed)
                stage = histories.HistoryStage(mover, large, shards, tally, self._progress, threads, self._stop)
                return stage.run(self._plan_histories(known))
            return self._copy_current(job, run, mover, tally, self._plan(known))
        except BaseException:
            job.journal.end_pass(run.number, "interrupted", objects=tally.copied, size=tally.bytes_copied)
            raise
        finally:
            large.close()

    def _copy_current(self, job: Job, run: Pass, mover: Mover, tally: Tally, plan: Iterable[Step]) -> Pass:
        engine, threads = self._migration.engine, self._migration.threads
        workers, plan = engine.workers(plan)
        if workers == 1 and engine.kind == "local":
            shards = Shards(run, job.journal, job.shard_closed)
            return CopyStage(mover, shards, tally, self._progress, threads, self._stop).run(plan)
        from portabl.fleet import FIRST_LATE

        self._alone = False
        late = Shards(run, job.journal, job.shard_closed, FIRST_LATE)
        own = CopyStage(mover, late, tally, NoProgress(), threads, self._stop)  # the fleet's stage counts for all
        return engine.run(workers, plan, self._crew(job, run, own, tally))

    def _crew(self, job: Job, run: Pass, stage: CopyStage, tally: Tally) -> Crew:
        import uuid

        from portabl.fleet import Crew
        from portabl.worker import Orders

        migration = self._migration
        local = migration.engine.kind == "local"
        near = local or not job.remote
        begun = Folder.at(run.path / BEGUN) if near else job.begun(run)
        orders = Orders(
            source=migration.source,
            target=migration.target,
            config=migration.config.path or None,
            places=(self._source.place, self._target.place),
            records=str(run.path) if near else begun.prefix.removesuffix(f"{BEGUN}/"),
            ticket=uuid.uuid4().hex,
            uploads=str(job.root / (JOURNAL if local else NOTES)) if near else job.folder.below(NOTES).prefix,
            state="" if near else migration.state or "",
            threads=migration.threads,
            workers=1,
            source_options=tuple(sorted(migration.source_options().items())),
            target_options=tuple(sorted({**migration.target_options(), **self._gate.options}.items())),
        )
        closed = functools.partial(job.shard_done, run)
        return Crew(orders, begun, stage, run, closed, tally, self._progress, self._throttle)

    def _plan(self, known: Iterator[Line]) -> Iterator[Step]:
        source = ahead(self._source_listing, self._expect)
        earlier = self._earlier.records() if self._earlier else ()
        only_named = self._migration.only_named
        return steps(source, self._target_listing, known, self._restored(), earlier, only_named=only_named)

    def _plan_histories(self, known: Iterator[Line]) -> Iterator[History]:
        source = ahead(self._source_listing, self._expect)
        return planned_histories(source, self._target_listing, known, self._restored())

    def _expect(self, objects: int) -> None:
        self._planned = objects
        self._progress.expect(objects)

    def _restored(self) -> Iterator[Record] | None:
        if self._migration.restore is None:
            return None
        loaded = manifests.load(registry.files(self._migration.restore, self._migration.config))
        wanted = (record for _, record in loaded.records() if self._keep.admits(record.key))
        return wanted if self._migration.all_versions else newest(wanted)

    # prove > manifest

    def _prove(self, job: Job, run: Pass, tally: Tally) -> tuple[manifests.Manifest, Losses]:
        """Hold every record against a fresh listing of the target (and its bytes, if asked), writing the manifest."""
        losses, extras = Losses(), self._extras()
        tally.extra = 0
        files = Files.at(str(job.manifest_path(run.number)))

        def extra(entry: Entry) -> None:
            tally.extra += 1
            _note(extras, entry)

        self._progress.stage("prove", None)
        self._progress.expect(self._planned)
        with (
            extras,
            self._checker() as checker,
            manifests.ManifestWriter(files, replace=True) as writer,
            contextlib.closing(ahead(self._target_listing, lambda _: None)) as listing,
        ):
            # other processes may be of another release, on this machine too: one that was installed meanwhile
            for finding in checker.check(run.lines(own=self._alone), listing, extra):
                line, record = self._told(_amended(finding))
                losses.add(record)
                writer.add(line, record)
                self._progress.advance(1, record.size)
            return writer.finish(self._document(losses)), losses

    def _again(self, job: Job, run: Pass, tally: Tally, still: Standstill) -> tuple[manifests.Manifest, Losses]:
        """The last manifest once more, for the listings were as it says."""
        tally.unchanged, tally.extra = still.objects, still.extra
        files = Files.at(str(job.manifest_path(run.number)))
        return manifests.again(still.last, files, self._document(still.losses)), still.losses

    def _told(self, line: Line) -> Line:
        if self._guise is None:
            return line
        told = self._guise.tell(line[1])
        return records.encode(told), told

    def _checker(self) -> Checker:
        migration = self._migration
        versions, processes = migration.all_versions, migration.engine.processes
        reader = None
        if migration.proof is Proof.READBACK and migration.engine.kind == "local" and processes > 1:
            from portabl.shared_reading import Place, SharedReader

            options = {**migration.target_options(), **self._gate.options}
            place = Place.of(self._target, migration.target, migration.config.path or None, options, processes)
            reader = SharedReader(self._target, place, self._throttle)
        return Checker(self._target, migration.proof, migration.threads, self._stop, versions=versions, reader=reader)

    def _extras(self) -> TextIO:
        return open(self._extras_path, "w", encoding="utf-8")

    @property
    def _extras_path(self) -> str:
        return f"{self._scratch}/extras.jsonl"

    def _document(self, losses: Losses) -> dict[str, object]:
        migration = self._migration
        return {
            "tool": manifests.TOOL,
            "source": self._source.name,
            "target": self._target.name,
            "filters": {"include": list(migration.include), "exclude": list(migration.exclude)},
            "restored_from": registry.safe_url(migration.restore or ""),
            "storage_class": migration.storage_class,
            "versions": migration.versions,
            **{name: text for name, text in looked_at(migration.acl, migration.lock, "").items() if text},
            "proof": str(migration.proof),
            "metadata_at_target": not self._target.capabilities.metadata_in_manifest,
            "accepted": list(self._gate.accepted),
            "complete": not losses.groups(),
            "started": self._started,
            "finished": utc_now(),
            **self._decision.document(),
            **(self._guise.document if self._guise else {}),
        }

    def _sweep_uploads(self, job: Job) -> None:
        """Uploads of earlier runs whose objects are no longer copied in parts leave nothing behind either."""
        for uploads in (job.journal, UploadNotes(job.folder.below(NOTES))):
            large = LargeMover(uploads, self._scratch, lambda _: None)
            try:
                for key in uploads.open_keys():
                    large.discard(self._target, key)
            finally:
                large.close()

    def _mirror(self, objects: int, losses: Losses, tally: Tally) -> None:
        """Delete what is only at the target; never before everything else is proven."""
        if not self._migration.mirror or not tally.extra:
            return
        if not objects:
            self._warnings.append("nothing was deleted at the target, because the source is empty")
            return
        if losses.groups():
            self._warnings.append("nothing was deleted at the target, because not everything is proven there")
            return
        self._progress.stage("mirror", tally.extra)
        with open(self._extras_path, encoding="utf-8") as lines:
            for line in lines:
                if self._stop.is_set():
                    raise Interrupted("stopped while deleting what is only at the target")
                self._target.delete(keys.from_json(json.loads(line)))
                tally.add("deleted")
                self._progress.advance(1, 0)
        tally.extra -= tally.deleted

    def _publish(self, job: Job, run: Pass, manifest: manifests.Manifest) -> str:
        """Make the manifest the job's last one, and copy it to where the user wants it."""
        where = self._where(job, run, manifest)
        if self._migration.manifest is not None:
            elsewhere = registry.files(self._migration.manifest, self._migration.config)
            manifests.copy(manifest, elsewhere)
            where = registry.safe_url(self._migration.manifest)
        counts = manifest.counts
        job.journal.end_pass(
            run.number, "published", objects=counts["objects"], size=counts["bytes"], manifest=manifest.files.url
        )
        with disk_errors(job.root):
            job.forget(run.number)
        return where

    def _where(self, job: Job, run: Pass, manifest: manifests.Manifest) -> str:
        if not job.remote:
            return manifest.files.url
        assert self._migration.state is not None
        return f"{registry.safe_url(self._migration.state).rstrip('/')}/jobs/{job.id}/manifests/{run.number:04d}"

    # report

    def _final(self, manifest: manifests.Manifest, losses: Losses, tally: Tally, where: str) -> Report:
        counts = manifest.counts
        groups = losses.groups()
        follow = f"portabl verify {where}" if not groups else ""
        self._warn_of_nothing(counts["objects"])
        return self._report(
            objects=counts["objects"],
            delete_markers=counts["delete_markers"],
            bytes=counts["bytes"],
            copied=tally.copied,
            bytes_copied=tally.bytes_copied,
            adopted=tally.adopted,
            unchanged=tally.unchanged,
            shared=tally.shared,
            changed=tally.changed,
            failed=losses.failed,
            deleted=tally.deleted,
            extra=tally.extra,
            losses=groups,
            source_root=manifest.root,
            target_root=manifest.target_root,
            manifest=where,
            complete=not groups and manifest.root == manifest.target_root,
            next_command=follow,
        )

    def _warn_of_nothing(self, objects: int) -> None:
        """A mistyped prefix is an empty place: nothing missing there, and not what was meant."""
        if not objects:
            self._warnings.append(f"{self._source.name} holds nothing in scope: check its name and the filters")

    def _report(self, **figures: object) -> Report:
        empty = Report(
            source=self._source.name,
            target=self._target.name,
            proof=str(self._migration.proof),
            policy=policies.summary(self._decision),
            policy_override=self._decision.override,
            accepted=self._gate.accepted,
        )
        elapsed = time.monotonic() - self._began
        said = {"warnings": tuple(self._warnings), "notes": (*self._notes, *self._source.notes())}
        return replace(empty, elapsed_seconds=elapsed, **said, **figures)  # type: ignore[arg-type]


def _note(extras: TextIO, entry: Entry) -> None:
    """Write down what only the target has."""
    extras.write(json.dumps(keys.to_json(entry.key)) + "\n")


def _amended(finding: Finding) -> Line:
    """The record as the final look at the target leaves it.

    The time shown there is kept for the next pass: an ETag says nothing of headers, and whoever replaces them makes it
    a later one. A time that a record holds already stays, so that what happened since it was seen is looked at.
    """
    line, record = finding.line, finding.record
    if record.target is not None and finding.modified and not record.target.modified:
        line, record = records.seen_later(line, record, finding.modified)
    if finding.losses:
        record = replace(record, losses=(*record.losses, *finding.losses))
        line = records.encode(record)
    return line, record
