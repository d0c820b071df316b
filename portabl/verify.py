"""Verification and fingerprint: a manifest held against a place, a place read for its root."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from portabl import manifest as manifests
from portabl.budget import Budget
from portabl.checker import Checker, Finding, Sample, looked_at
from portabl.errors import Interrupted, StorageError, UsageError
from portabl.executors import in_order
from portabl.listing import Filter, Listing, VersionListing, until_ordered
from portabl.merkle import Tree
from portabl.model import Entry, ObjectInfo, Proof, Record
from portabl.readback import Read, Reader
from portabl.records import leaf
from portabl.storage import Storage
from portabl.throttle import Pacer, Throttle
from portabl.verification import Fingerprint, Issue, Verification

if TYPE_CHECKING:
    from portabl.progress import Progress
    from portabl.providers import Config

ISSUES_KEPT = 1000


@dataclass
class _Sum:
    """What a verification has found so far."""

    checked: int = 0
    read: int = 0
    bytes_read: int = 0
    losses: int = 0
    extra: int = 0
    total: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    interrupted: bool = False

    def take(self, finding: Finding) -> None:
        self.checked += not finding.record.delete_marker
        self.losses += bool(finding.record.losses)
        if finding.leaf is not None:
            self.tree.add(finding.leaf)
            self.read += 1
            self.bytes_read += finding.record.size
        if finding.kind:
            detail = "; ".join(f"{loss.field}: {loss.reason}" for loss in finding.losses)
            self._note(Issue(finding.kind, finding.record.key, detail))

    def more(self, entry: Entry) -> None:
        self.extra += 1
        self._note(Issue("extra", entry.key, entry.problem))

    def _note(self, issue: Issue) -> None:
        self.kinds[issue.kind] = self.kinds.get(issue.kind, 0) + 1
        self.total += 1
        if len(self.issues) < ISSUES_KEPT:
            self.issues.append(issue)


def verify(
    manifest: str,
    location: str | None,
    config: Config,
    *,
    proof: Proof | None = None,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    pacer: Throttle | None = None,
    sample: Sample | None = None,
    processes: int = 1,
) -> Verification:
    """Hold a manifest against a place: ``location``, or the target the manifest itself names.

    The manifest is checked against itself first (hashes, order, counts, roots), then every record against the place:
    by reading it all (`Proof.READBACK`, the default), or by the listing alone. ``sample``: read only these objects.
    ``processes``: more than one read large objects in as many further processes. Raises ManifestError, UsageError or
    StorageError.
    """
    from portabl import registry
    from portabl.shared_reading import Place, SharedReader

    loaded = manifests.load(registry.files(manifest, config))
    place = location or _own_target(loaded.document)
    options = _options(loaded.document)
    with registry.open_location(place, config, threads=threads, options=options, pacer=pacer) as storage:
        place_of = Place.of(storage, place, config.path or None, options, processes) if processes > 1 else None
        found = against(
            loaded,
            storage,
            proof=proof,
            sample=sample,
            threads=threads,
            progress=progress,
            stop=stop,
            reader=SharedReader(storage, place_of, pacer) if place_of else None,
        )
    return replace(found, manifest=manifest, location=place)


def against(
    loaded: manifests.Manifest,
    storage: Storage,
    *,
    proof: Proof | None = None,
    sample: Sample | None = None,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    reader: Reader | None = None,
) -> Verification:
    """`verify` for a manifest that is loaded and a storage that is open; ``sample``: read only these objects."""
    from portabl.progress import NoProgress

    progress, stop = progress or NoProgress(), stop or threading.Event()
    proof = proof or Proof.READBACK
    began = time.monotonic()
    versions = loaded.document.get("versions") == "all"
    storage.check(write=False)
    checking = Checker(storage, proof, threads, stop, versions=versions, sample=sample, reader=reader)
    with checking as checker, _scratch() as scratch:
        listing = _listing(storage, _filters(loaded.document), scratch, versions=versions)
        found = until_ordered(lambda: _hold(loaded, checker, listing, progress))
    whole = proof is Proof.READBACK and sample is None and not found.interrupted
    return Verification(
        manifest=loaded.files.url,
        location=storage.name,
        proof=proof,
        sample=sample.share if sample else 0.0,
        read=found.read,
        objects=loaded.counts["objects"],
        checked=found.checked,
        bytes_checked=found.bytes_read if proof is Proof.READBACK else 0,
        missing=found.kinds.get("missing", 0),
        size_differs=found.kinds.get("size", 0),
        content_differs=found.kinds.get("content", 0),
        metadata_differs=found.kinds.get("metadata", 0),
        unreadable=found.kinds.get("unreadable", 0),
        extra=found.extra,
        losses=found.losses,
        issues=tuple(found.issues),
        issues_total=found.total,
        root=loaded.target_root,
        root_proven=found.tree.root().hex() if whole else "",
        elapsed_seconds=time.monotonic() - began,
        interrupted=found.interrupted,
    )


def _hold(loaded: manifests.Manifest, checker: Checker, listing: Listing, progress: Progress) -> _Sum:
    """Every record against the place, from the beginning."""
    found = _Sum()
    progress.stage("verify", loaded.counts["objects"])
    try:
        for finding in checker.check(loaded.records(), listing, found.more):
            found.take(finding)
            progress.advance(1, finding.record.size)
    except Interrupted:
        found.interrupted = True
    return found


def _listing(storage: Storage, keep: Filter, scratch: str, *, versions: bool) -> Listing:
    if not versions:
        return Listing(storage, keep, scratch)
    if storage.capabilities.versions:
        return VersionListing(storage, keep, scratch)
    raise UsageError(f"{storage.name} keeps one version of each object, and all versions are asked for")


def fingerprint(
    location: str,
    config: Config,
    *,
    versions: bool = False,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    pacer: Pacer | None = None,
) -> Fingerprint:
    """The root of a place, by reading every object with its metadata and tags; ``versions``: all versions of it.

    What cannot be read is named in ``issues``, and the root then speaks only of the rest.
    """
    from portabl import registry
    from portabl.progress import NoProgress

    progress, stop = progress or NoProgress(), stop or threading.Event()
    with registry.open_location(location, config, threads=threads, pacer=pacer) as storage, _scratch() as scratch:
        storage.check(write=False)
        listing = _listing(storage, Filter(), scratch, versions=versions)
        with Reader(storage, Budget()) as reader:
            return until_ordered(lambda: _fingerprint(location, reader, listing, threads, progress, stop))


def _fingerprint(
    location: str, reader: Reader, listing: Listing, threads: int, progress: Progress, stop: threading.Event
) -> Fingerprint:
    tree, size = Tree(), 0
    issues: list[Issue] = []
    progress.stage("fingerprint", None)
    for entry, read in in_order(listing, lambda entry: _try_read(reader, entry), threads):
        if stop.is_set():
            raise Interrupted("stopped before everything was read")
        progress.advance(1, entry.size)
        if isinstance(read, Issue):
            issues.append(read)
            continue
        issues += [Issue("unreadable", entry.key, f"{loss.field}: {loss.reason}") for loss in read.info.losses]
        digest = None if entry.delete_marker else read.sha256
        tree.add(leaf(Record(entry.key, read.size, digest, read.info.metadata, entry.ordinal, entry.delete_marker)))
        size += read.size
    return Fingerprint(tree.root().hex(), tree.size, size, location, tuple(issues))


def _try_read(reader: Reader, entry: Entry) -> Read | Issue:
    if entry.problem:
        return Issue("unreadable", entry.key, entry.problem)
    if entry.delete_marker:
        return Read("", 0, ObjectInfo(0))
    try:
        return reader.read(entry)
    except StorageError as error:
        if not error.per_object and not error.transient:
            raise
        return Issue("unreadable", entry.key, error.message)


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="portabl-")


def _own_target(document: Mapping[str, object]) -> str:
    target = document.get("target")
    if not isinstance(target, str) or not target:
        raise UsageError("the manifest names no target", hint="give the location to verify after the manifest")
    return target


def _filters(document: Mapping[str, object]) -> Filter:
    patterns = document.get("filters")
    if not isinstance(patterns, Mapping):
        return Filter()
    include, exclude = patterns.get("include", ()), patterns.get("exclude", ())
    return Filter.of([str(p) for p in include], [str(p) for p in exclude])


def _options(document: Mapping[str, object]) -> dict[str, str]:
    """What the manifest's run asked of its places, so that the same is looked at again."""
    texts = {name: str(document.get(name) or "") for name in ("acl", "lock", "storage_class", "versions")}
    wanted = looked_at(texts["acl"], texts["lock"], texts["storage_class"]) | {"versions": texts["versions"]}
    return {name: text for name, text in wanted.items() if text}
