"""Packages: everything of a place in a form that explains itself, checks itself, and goes back into any store.

An export is a migration into the package's payload (`portabl.migrate.between`), followed by the files that describe it;
package.json claims the place first and declares the package finished last. A restore is a migration back.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from portabl import archive, places, registry
from portabl import manifest as manifests
from portabl.archive_export import Maker
from portabl.checker import pairs
from portabl.encryption import described, recipients_of
from portabl.errors import ContainerMissing, NotFound, PortablError, UsageError
from portabl.file_errors import is_temporary
from portabl.files import Files
from portabl.guise import Guise
from portabl.journal import utc_now
from portabl.keys import plain, show
from portabl.listing import Filter, Listing, until_ordered
from portabl.migrate import between
from portabl.migration import Earlier, Migration
from portabl.model import Entry, Proof
from portabl.package_claim import Claim
from portabl.package_format import (
    COMPLETE,
    LAYOUTS,
    MANIFEST,
    NAME,
    PAYLOAD,
    REMOVING,
    UNFINISHED,
    VERSIONS,
    Document,
    finish,
    finished,
)
from portabl.package_names import Names
from portabl.package_place import below, is_package, package_of, payload_of
from portabl.package_provider import provider_files
from portabl.package_reading import Restore, restore, verify
from portabl.package_versions import Flattened, as_carried, folded, names_of, real_key
from portabl.package_writing import Describer
from portabl.payload import Payload, Watched
from portabl.policy import Decision, Policy
from portabl.progress import NoProgress, Progress
from portabl.providers import Config
from portabl.report import Report
from portabl.storage import Storage
from portabl.throttle import Throttle

__all__ = ["Export", "Restore", "below", "decide", "export", "is_package", "origin", "package_of", "restore", "verify"]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be exported. ``source``, ``target``, ``state`` and ``since`` are locations as typed.

    ``target``: where the package is to be; empty, or an unfinished package of the same export, which is continued.
    ``layout``: "mirror" or "bag". ``since``: an earlier package of the same source; what has not changed since is taken
    from there. ``evidence``: local files to put into ``provider/``, such as label credentials.
    ``recipients``: public keys of age (or files of them) that the payload is encrypted to; none leaves it as it is.
    ``versions``: "current", or "all" for every version and deletion of each key (see `portabl.package_versions`).
    The rest is as in `portabl.migrate.Migration`.
    """

    source: str
    target: str
    config: Config
    layout: str = "mirror"
    since: str | None = None
    proof: Proof = Proof.INGEST
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    threads: int = 64
    state: str | None = None
    storage_class: str = ""
    symlinks: str = "report"
    evidence: tuple[str, ...] = ()
    dry_run: bool = False
    bandwidth: str = ""
    requests_per_second: float | None = None
    policy: Policy = field(default_factory=Policy)
    policy_override: str = ""
    recipients: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    versions: str = "current"

    @property
    def all_versions(self) -> bool:
        """Whether histories are exported, not only what is current."""
        return self.versions == "all"

    def options(self) -> dict[str, str]:
        """What is asked of the source: to name what a package does not hold, too."""
        wanted = {"storage_class": self.storage_class, "symlinks": self.symlinks, "acl": "report", "lock": "report"}
        wanted["versions"] = self.versions
        return {name: value for name, value in wanted.items() if value}


def export(job: Export, *, progress: Progress | None = None, stop: threading.Event | None = None) -> Report:
    """Make a package, or continue one that was interrupted; ``Report.manifest`` is where its manifest lies.

    Exit code 0 of the report: everything is in the package and proven. Raises as `portabl.migrate.migrate`, UsageError
    when something else is at the target already, ManifestError when the package named by ``since`` cannot be relied on.
    """
    for name, asked, known in (("layout", job.layout, LAYOUTS), ("kind of versions", job.versions, VERSIONS)):
        if asked not in known:
            raise UsageError(f"unknown {name} `{plain(asked)}`", hint=f"known: {', '.join(known)}")
    make = _export_archive if archive.kind_of(job.target) else _export
    try:
        return _told(job, make(job, progress or NoProgress(), stop or threading.Event()))
    except PortablError as error:
        if job.all_versions and error.key is not None:
            error.key = real_key(error.key)
        raise


def _told(job: Export, report: Report) -> Report:
    """The same, with keys as the source has them."""
    if not job.all_versions:
        return report
    losses = (replace(group, examples=tuple(map(real_key, group.examples))) for group in report.losses)
    return replace(report, losses=tuple(losses))


def _export(job: Export, progress: Progress, stop: threading.Event) -> Report:
    job = replace(job, recipients=recipients_of(job.recipients))
    if job.recipients and job.proof is Proof.READBACK:
        hint = "export with `--proof ingest`, then `portabl verify` it where the secret key is, with `--identity`"
        raise UsageError("what is encrypted cannot be read back without the secret key", hint=hint)
    decision = decide(job)
    names = names_of(job.versions)
    pacer = Throttle.of(job.bandwidth, job.requests_per_second)
    files = registry.files(job.target, job.config)
    with (
        registry.open_location(
            job.source, job.config, threads=job.threads, options=job.options(), pacer=pacer
        ) as opened,
        _watched(job, opened, names) as source,
        payload_of(job.target, job.config, names, job.threads, pacer=pacer, recipients=job.recipients) as payload,
        _earlier(job, opened) as earlier,
    ):
        migration = _migration(job)
        run = functools.partial(
            between, decision=decision, earlier=earlier, guise=_guise(job), progress=progress, stop=stop
        )
        if job.dry_run:
            return run(migration, source, payload)
        _apart(job, source)
        source.check(write=False)
        evidence = provider_files(job.source, job.config, opened, job.evidence)
        with Claim(files, stop) as claim:
            resumed = _claim(job, opened, payload, files, claim)
            run = functools.partial(run, migration, source, payload, stop=claim.stop)
            report = run()
            claim.confirm()
            if resumed and not report.interrupted and _cleared(job, payload):
                report = run()
            if report.interrupted or report.stopped:
                return report
            return _finish(job, files, payload, report, claim, evidence)


def decide(job: Export) -> Decision:
    """Whether the rules allow this export. Raises PolicyRefused when they do not; no place is touched."""
    return _migration(job).decide()


def _watched(job: Export, opened: Storage, names: Names) -> Watched:
    keep = Filter.of(job.include, job.exclude)
    return Watched(Flattened(opened, keep), names, Filter()) if job.all_versions else Watched(opened, names, keep)


def _guise(job: Export) -> Guise | None:
    if not job.all_versions:
        return None
    filters = {"include": list(job.include), "exclude": list(job.exclude)}
    return Guise(folded, {"filters": filters, "versions": "all"})


def _migration(job: Export) -> Migration:
    return Migration(
        source=job.source,
        target=below(job.target, PAYLOAD),
        config=job.config,
        proof=job.proof,
        policy=job.policy,
        policy_override=job.policy_override,
        include=() if job.all_versions else job.include,  # the source of all versions has passed them
        exclude=() if job.all_versions else job.exclude,
        dry_run=job.dry_run,
        mirror=True,  # what an interrupted run left of objects that are gone since
        threads=job.threads,
        state=job.state,
        manifest=None if job.dry_run else below(job.target, MANIFEST),
        storage_class=job.storage_class,
        symlinks=job.symlinks,
        accept=job.accept,
        forget=True,
    )


# --- where a package may be made ------------------------------------------------------------------------------------


def _apart(job: Export, source: Storage) -> None:
    with registry.open_location(job.target, job.config) as target:
        places.apart(source, target)


def _claim(job: Export, source: Storage, payload: Payload, files: Files, claim: Claim) -> bool:
    """Write the unfinished package.json into an empty place; whether an interrupted export is continued instead."""
    document = _unfinished(job, source)
    if not files.exists(NAME):
        _empty(job, payload)
    resumed = claim.take(document, lambda there: _continued(files, there, document))
    for folder in ("", MANIFEST, f"{MANIFEST}/segments", "provider"):
        files.sweep(folder)
    if resumed:
        payload.check(write=True)
    return resumed


def _unfinished(job: Export, source: Storage) -> Document:
    return Document(
        state=UNFINISHED,
        source=plain(source.name),
        origin=origin(source, job),
        layout=job.layout,
        started=utc_now(),
        include=tuple(map(plain, job.include)),
        exclude=tuple(map(plain, job.exclude)),
        versions=job.versions,
        encryption=described(job.recipients),
    )


def _continued(files: Files, there: Document, document: Document) -> Document:
    if there.state == COMPLETE:
        hint = "a package is never changed: choose another place, and give this one with `--since` to copy only changes"
        raise UsageError("there is a finished package here already", storage=files.url, hint=hint)
    same = ("origin", "source", "layout", "include", "exclude", "versions", "encryption")
    if there.state == REMOVING or any(getattr(there, name) != getattr(document, name) for name in same):
        hint = "choose another place, or remove this one first"
        raise UsageError("there is another export's package here", storage=files.url, hint=hint)
    return replace(there, state=UNFINISHED)


def _empty(job: Export, payload: Payload) -> None:
    """Refuse a place that holds something: what does not belong to a package would seem to. What a killed run left
    before it had claimed the place is nothing.
    """
    inside = f"{PAYLOAD}/".encode()
    with registry.open_location(job.target, job.config) as storage:
        around = (entry for entry in _listed(storage) if not entry.key.startswith(inside))
        _nothing(next(around, None), storage)
        payload.check(write=True)  # clears litter
        within = (replace(entry, key=inside + entry.key) for entry in _listed(payload.inner))
        _nothing(next(within, None), storage)


def _nothing(entry: Entry | None, storage: Storage) -> None:
    if entry is not None:
        hint = "choose an empty place for the package, such as a new directory or prefix"
        raise UsageError(f"not empty, and no package: it holds {show(entry.key)}", storage=storage.name, hint=hint)


def _listed(storage: Storage) -> Iterator[Entry]:
    """What there is besides the markers that consoles make for folders, and our own first file half-written."""
    with contextlib.suppress(ContainerMissing, NotFound):
        for entry in storage.entries():
            marker = not entry.size and entry.key.endswith(b"/")
            if not marker and not is_temporary(entry.key.decode("utf-8", "replace")):
                yield entry


def origin(source: Storage, job: Export) -> str:
    """What makes a package one of the same source: the place itself, and how its objects were read."""
    where, prefix = source.place
    how = [job.storage_class, job.symlinks, *(["all versions"] if job.all_versions else [])]
    text = json.dumps([where, prefix.hex(), *how])
    return hashlib.sha256(text.encode()).hexdigest()


def _cleared(job: Export, payload: Payload) -> bool:
    """Remove what an interrupted run left that has no place in the package now: bodies of objects that are gone, and
    bodies under another name, because a key that needed their name came or went. Whether there was anything.
    """
    loaded = as_carried(manifests.load(registry.files(below(job.target, MANIFEST), job.config)))
    inner, wrong = payload.inner, list[bytes]()
    with tempfile.TemporaryDirectory(prefix="portabl-") as scratch:
        extra = lambda entry: wrong.append(payload.names.of(entry.key))  # noqa: E731
        for _ in pairs(loaded.records(), Listing(payload, Filter(), scratch), extra):
            pass
    for name in (entry.key for entry in inner.entries()):
        if payload.names.canonical(name) and payload.names.of(names_of(job.versions).learn(name)) != name:
            wrong.append(name)
    for name in wrong:
        inner.delete(name)
    return bool(wrong)


# --- finishing --------------------------------------------------------------------------------------------------------


def _finish(
    job: Export, files: Files, payload: Payload, report: Report, claim: Claim, evidence: Mapping[str, bytes]
) -> Report:
    """Write what describes the payload, and package.json last; or say why the package cannot be finished."""
    warnings = list(report.warnings)
    if payload.foreign_total or report.extra:
        examples = ", ".join(map(show, payload.foreign[:3]))
        what = f"{payload.foreign_total + report.extra:,} files that this export did not write"
        warnings.append(f"the payload holds {what}: {examples}; remove them and run the same command again")
        return replace(report, complete=False, warnings=tuple(warnings), next_command="")
    loaded = manifests.load(registry.files(below(job.target, MANIFEST), job.config))
    document = finish(claim.confirm(), report, plain(registry.safe_url(job.since or "")))
    Describer(files, loaded).describe(document, evidence, claim.end)
    where = plain(registry.safe_url(job.target))
    return replace(report, next_command=f"portabl verify {where}" if report.exit_code == 0 else "")


# --- earlier packages -------------------------------------------------------------------------------------------------


@contextmanager
def _earlier(job: Export, source: Storage) -> Iterator[Earlier | None]:
    """The package named by ``since``, its manifest held against its hashes before the first record is believed."""
    if job.since is None:
        yield None
        return
    location = package_of(job.since, job.config)
    document = finished(registry.files(location, job.config))
    if document.origin != origin(source, job):
        hint = "name a package that was exported from the same source with the same options"
        raise UsageError(f"{plain(registry.safe_url(job.since))} is of another source: {document.source}", hint=hint)
    if document.encryption != described(job.recipients):
        hint = "leave `--since` out, or encrypt to the same recipients"
        raise UsageError(f"{plain(registry.safe_url(job.since))} is encrypted in another way", hint=hint)
    loaded = manifests.load(registry.files(below(location, MANIFEST), job.config))
    loaded.check_segments()
    names = names_of(job.versions)

    def lines() -> Iterator[tuple[bytes, Any]]:
        for line, record in as_carried(loaded).records():
            names.see(record.key)
            yield line, record

    with payload_of(location, job.config, names, job.threads) as bodies:
        yield Earlier(lines, bodies)


# --- archives ---------------------------------------------------------------------------------------------------------


def _export_archive(job: Export, progress: Progress, stop: threading.Event) -> Report:
    """The package as one stream. It cannot be continued, nor share anything."""
    decision = decide(job)
    folder, name = archive.split(job.target)
    files = registry.files(folder, job.config)
    if job.since is not None:
        hint = "leave `--since` out, or export to a directory"
        raise UsageError("an archive holds everything itself", hint=hint)
    if job.recipients:
        hint = "encrypt the finished file, as with `age -R FILE`, or export to a directory"
        raise UsageError("an archive is not encrypted on its way", hint=hint)
    if files.exists(name):
        hint = "choose another name, or remove it first"
        raise UsageError("there is a file of this name already", storage=files.url, hint=hint)
    pacer = Throttle.of(job.bandwidth, job.requests_per_second)
    names = names_of(job.versions)
    with (
        registry.open_location(
            job.source, job.config, threads=job.threads, options=job.options(), pacer=pacer
        ) as opened,
        _watched(job, opened, names) as watched,
    ):
        with registry.open_location(folder, job.config) as place:
            places.outside(place, watched)
        watched.check(write=False)
        document = _unfinished(job, opened)
        maker = Maker(decision, watched, names, _guise(job), files, name, job.threads, progress, stop)
        if job.dry_run:
            return maker.rehearse()
        evidence = provider_files(job.source, job.config, opened, job.evidence)
        return until_ordered(lambda: maker.make(document, evidence, job.proof))
