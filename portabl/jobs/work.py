"""What a job does, by its kind: one call each, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from portabl.errors import UsageError
from portabl.jobs.config import Jobs, ScheduledJob
from portabl.jobs.store import Store
from portabl.keys import show
from portabl.model import Proof
from portabl.progress import Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run in figures. ``changes``: objects copied and deleted, or found different. ``text`` and ``document`` are the
    kind's own report, for people and for programs.
    """

    exit_code: int
    objects: int = 0
    bytes: int = 0
    changes: int = 0
    manifest: str = ""
    message: str = ""
    text: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One run to be done. ``stop`` asks for an orderly end."""

    job: ScheduledJob
    jobs: Jobs
    store: Store
    now: datetime
    progress: Progress
    stop: threading.Event


def perform(request: Request) -> Outcome:
    """Do what the job says. Raises PortablError."""
    return _KINDS[request.job.kind](request)


def _migrate(request: Request) -> Outcome:
    from portabl.migrate import Migration, migrate
    from portabl.report import report_document, report_text

    migration = Migration(config=request.jobs.config, **request.job.values)
    report = migrate(migration, progress=request.progress, stop=request.stop)
    losses = "; ".join(f"{loss.count:,} x {loss.field}: {loss.reason}" for loss in report.losses[:3])
    return Outcome(
        report.exit_code,
        report.objects,
        report.bytes,
        report.copied + report.deleted,
        report.manifest,
        "stopped on request; the next run goes on from here" if report.interrupted else losses,
        report_text(report),
        report_document(report),
    )


def _verify(request: Request) -> Outcome:
    from portabl.registry import safe_url
    from portabl.report import verification_document, verification_text
    from portabl.verify import verify

    values = request.job.values
    manifest = values.get("manifest") or request.store.last_manifest(values["manifest_of"])
    if not manifest:
        hint = f"run it once: `portabl jobs run {values['manifest_of']}`"
        raise UsageError(f"the job `{values['manifest_of']}` has left no manifest yet", hint=hint)
    found = verify(
        manifest,
        values.get("target"),
        request.jobs.config,
        proof=values.get("proof", Proof.READBACK),
        threads=values.get("threads", 64),
        progress=request.progress,
        stop=request.stop,
    )
    found = replace(found, manifest=safe_url(found.manifest), location=safe_url(found.location))
    wrong = "; ".join(f"{issue.kind}: {show(issue.key)}" for issue in found.issues[:3] if issue.kind != "extra")
    return Outcome(
        found.exit_code,
        found.checked,
        found.bytes_checked,
        found.issues_total - found.extra,
        found.manifest,
        "stopped on request" if found.interrupted else wrong,
        verification_text(found),
        verification_document(found),
    )


_KINDS: Mapping[str, Callable[[Request], Outcome]] = MappingProxyType({"migrate": _migrate, "verify": _verify})
