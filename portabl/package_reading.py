"""Using packages: everything back into a store, and everything held against itself."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace

from portabl import archive, registry
from portabl import manifest as manifests
from portabl.checker import Sample
from portabl.encryption import Key
from portabl.errors import ManifestError, NotFound, UsageError
from portabl.files import Files
from portabl.keys import plain
from portabl.migrate import between
from portabl.migration import Migration
from portabl.model import Proof
from portabl.package_format import MANIFEST, NAME, PAYLOAD, VERSIONS, Document, finished
from portabl.package_place import below, payload_of
from portabl.package_versions import Folded, as_carried, names_of
from portabl.payload import Payload
from portabl.policy import Decision, Policy
from portabl.progress import Progress
from portabl.providers import Config
from portabl.report import Report
from portabl.sealed import as_stored
from portabl.storage import Storage
from portabl.throttle import Pacer, Throttle
from portabl.verification import Issue, Verification
from portabl.verify import against

PROOFS = (Proof.SIZE, Proof.READBACK)


@dataclass(frozen=True, slots=True)
class Restore:
    """What is to be put back: a ``package`` to a ``target``, both locations.

    ``versions``: "all" or "current" of a package of all versions; "" for what the package holds.
    ``identity``: path of the file with the secret key of an encrypted package. The rest is as in `Migration`.
    """

    package: str
    target: str
    config: Config
    proof: Proof = Proof.INGEST
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    threads: int = 64
    state: str | None = None
    manifest: str | None = None
    storage_class: str = ""
    dry_run: bool = False
    bandwidth: str = ""
    requests_per_second: float | None = None
    policy: Policy = field(default_factory=Policy)
    policy_override: str = ""
    identity: str = ""
    accept: tuple[str, ...] = ()
    card: str | None = None
    versions: str = ""


def restore(job: Restore, *, progress: Progress | None = None, stop: threading.Event | None = None) -> Report:
    """Put everything in a package into a place, with its metadata, proven as a migration is.

    Raises as `portabl.migrate.migrate`, and ManifestError for a package that is not finished or damaged.
    """
    asked = Migration(
        job.package, job.target, job.config, job.proof, policy=job.policy, policy_override=job.policy_override
    )
    decision = asked.decide()
    with archive.readable(job.package) as location:
        return replace(_restore(replace(job, package=location), decision, progress, stop), source=job.package)


def _restore(job: Restore, decision: Decision, progress: Progress | None, stop: threading.Event | None) -> Report:
    document = finished(registry.files(job.package, job.config))
    versions = _versions(document, job)
    manifest = below(job.package, MANIFEST)
    migration = Migration(
        source=below(job.package, PAYLOAD),
        target=job.target,
        config=job.config,
        proof=job.proof,
        include=job.include,
        exclude=job.exclude,
        dry_run=job.dry_run,
        threads=job.threads,
        state=job.state,
        manifest=job.manifest,
        restore=manifest,
        only_named=True,
        storage_class=job.storage_class,
        accept=job.accept,
        card=job.card,
        versions=versions,
    )
    pacer = Throttle.of(job.bandwidth, job.requests_per_second)
    loaded = manifests.load(registry.files(manifest, job.config))
    key = _key(document, job.identity, needed=True)
    with (
        payload_of(
            job.package,
            job.config,
            names_of(document.versions),
            job.threads,
            learn=True,
            pacer=pacer,
            key=key,
            loaded=as_carried(loaded),
        ) as payload,
        _with_versions(payload, document) as source,
        registry.open_location(
            job.target, job.config, threads=job.threads, options=migration.target_options(), pacer=pacer
        ) as target,
    ):
        report = between(migration, source, target, decision=decision, progress=progress, stop=stop)
    partly = job.include or job.exclude or versions != document.versions
    whole = not (partly or job.dry_run or report.interrupted or report.stopped)
    if whole and report.source_root != document.root:
        why = f"what was restored has the root {report.source_root}, the package {document.root}"
        return replace(report, complete=False, warnings=(*report.warnings, why))
    return report


def _versions(document: Document, job: Restore) -> str:
    """What is put back. Raises UsageError for what the package does not hold."""
    if job.versions not in ("", *VERSIONS):
        raise UsageError(f"unknown kind of versions `{plain(job.versions)}`", hint=f"known: {', '.join(VERSIONS)}")
    if job.versions == "all" and not document.all_versions:
        raise UsageError("this package holds one version of each object", hint="leave `--versions all` out")
    return job.versions or document.versions


def _with_versions(payload: Payload, document: Document) -> Storage:
    return Folded(payload) if document.all_versions else payload


def verify(
    package: str,
    config: Config,
    *,
    proof: Proof = Proof.READBACK,
    sample: Sample | None = None,
    threads: int = 64,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    pacer: Pacer | None = None,
    identity: str = "",
) -> Verification:
    """Hold a package against itself: package.json, every file it names, the manifest, and the payload.

    ``proof``: READBACK reads all of the payload, SIZE lists it. ``sample``: read only a part, which is reported as a
    sample and never as verified. ``identity``: path of the file with the secret key of an encrypted package; without it
    the files are checked as they are stored. Raises ManifestError for what is no finished package, StorageError.
    """
    with archive.readable(package) as location:
        found = _verify(location, config, proof, sample, threads, progress, stop, pacer, identity)
    return replace(found, manifest=package, location=package)


def _verify(
    package: str,
    config: Config,
    proof: Proof,
    sample: Sample | None,
    threads: int,
    progress: Progress | None,
    stop: threading.Event | None,
    pacer: Pacer | None,
    identity: str,
) -> Verification:
    files = registry.files(package, config)
    document = finished(files)
    loaded = manifests.load(registry.files(below(package, MANIFEST), config))
    proof = proof if proof in PROOFS else Proof.SIZE
    key = _key(document, identity, needed=False)
    blind = bool(document.encryption) and key is None
    names = names_of(document.versions)
    with (
        payload_of(
            package, config, names, threads, learn=True, pacer=pacer, key=key, loaded=as_carried(loaded)
        ) as payload,
        _with_versions(payload, document) as place,
    ):
        found = against(
            as_stored(loaded) if blind else loaded,
            place,
            proof=proof,
            sample=sample,
            threads=threads,
            progress=progress,
            stop=stop,
        )
        issues = [Issue("foreign", name, "does not belong into the package") for name in payload.foreign]
        foreign = payload.foreign_total + found.extra
    issues += _documents(files, document)
    if loaded.root != document.root:
        issues.append(Issue("document", b"manifest/manifest.json", "is another manifest than package.json names"))
    return replace(
        found,
        root_proven="" if blind else found.root_proven,
        warnings=(*found.warnings, _BLIND) if blind else found.warnings,
        foreign=foreign,
        documents_differ=sum(issue.kind == "document" for issue in issues),
        issues=(*issues, *found.issues),
        issues_total=found.issues_total + len(issues),
    )


_BLIND = "the package is encrypted: its files were checked as they are stored; `--identity` reads what is in them"


def _key(document: Document, identity: str, *, needed: bool) -> Key | None:
    """The secret key for an encrypted package. Raises UsageError where one is needed and none is given."""
    if not document.encryption:
        return None
    if needed and not identity:
        hint = "name the file that holds the secret key with `--identity`"
        raise UsageError("this package is encrypted", hint=hint)
    return Key(identity) if identity else None


def _documents(files: Files, document: Document) -> list[Issue]:
    """Every file that package.json names, against its hash."""
    issues = []
    for name, wanted in sorted(document.files.items()):
        digest = hashlib.sha256()
        try:
            for chunk in files.chunks(name):
                digest.update(chunk)
        except NotFound:
            issues.append(Issue("document", name.encode(), "missing"))
            continue
        except ValueError as error:
            raise ManifestError(f"{NAME} names a file outside the package", storage=files.url) from error
        if digest.hexdigest() != wanted:
            issues.append(Issue("document", name.encode(), f"its SHA-256 is {digest.hexdigest()}, not {wanted}"))
    return issues
