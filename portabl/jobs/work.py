"""What a job does, by its kind: one call each, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from portabl.errors import PortablError, UsageError
from portabl.jobs.outcome import Outcome, Request
from portabl.keys import plain, show
from portabl.model import Proof

if TYPE_CHECKING:
    from portabl.report import Report
    from portabl.snapshots import Pruned


def perform(request: Request) -> Outcome:
    """Do what the job says. Raises PortablError."""
    return _KINDS[request.job.kind](request)


def _migrate(request: Request) -> Outcome:
    from portabl.migrate import migrate
    from portabl.migration import Migration
    from portabl.report import report_document, report_text

    migration = Migration(config=request.jobs.config, **request.job.values)
    report = migrate(migration, progress=request.progress, stop=request.stop)
    return _outcome(report, report_text(report), report_document(report))


def _outcome(report: Report, text: str, document: dict[str, object]) -> Outcome:
    losses = "; ".join(f"{loss.count:,} x {loss.field}: {loss.reason}" for loss in report.losses[:3])
    stopped = "stopped on request; the next run goes on from here"
    return Outcome(
        report.exit_code,
        report.objects,
        report.bytes,
        report.copied + report.deleted,
        report.manifest,
        stopped if report.interrupted else losses or "; ".join(report.warnings if report.exit_code else ()),
        text,
        document,
    )


def _export(request: Request) -> Outcome:
    """The next snapshot, or the rest of an interrupted one; then, if it is complete, those that no rule keeps go."""
    from portabl import snapshots
    from portabl.package import Export
    from portabl.report import report_document, report_text

    values = dict(request.job.values)
    keep = values.pop("retention", None)
    export = Export(config=request.jobs.config, **values)
    report = snapshots.take(export, now=request.now, progress=request.progress, stop=request.stop)
    made = _outcome(report, report_text(report), report_document(report))
    return made if made.exit_code or not keep else _pruned(request, made, keep)


def _pruned(request: Request, made: Outcome, keep: Mapping[str, int]) -> Outcome:
    from portabl import snapshots

    zone = request.job.schedule.zone.key if request.job.schedule else "UTC"
    try:
        pruned = snapshots.prune(
            request.job.values["target"],
            request.jobs.config,
            snapshots.Retention(**keep, zone=zone),
            apply=True,
            threads=request.job.values.get("threads", 64),
            progress=request.progress,
            stop=request.stop,
        )
    except PortablError as error:
        message = f"the snapshot is complete, but older ones could not be pruned: {error}"
        return replace(made, exit_code=error.exit_code, message=message, text=f"{made.text}{plain(message)}\n")
    return replace(
        made,
        exit_code=pruned.exit_code,
        message=f"the snapshot is complete, but nothing was pruned: {pruned.refused}" if pruned.refused else "",
        text=made.text + _pruned_text(pruned),
        document={**made.document, "pruned": list(pruned.removed), "prune_refused": pruned.refused},
    )


def _pruned_text(pruned: Pruned) -> str:
    if pruned.refused:
        return f"nothing was pruned: {plain(pruned.refused)}\n"
    return "".join(f"pruned: {name}\n" for name in pruned.removed)


def _verify(request: Request) -> Outcome:
    from portabl.jobs.rereading import next_arc
    from portabl.registry import safe_url
    from portabl.verification import verification_document, verification_text
    from portabl.verify import verify

    values = request.job.values
    manifest = values.get("manifest") or request.store.last_manifest(values["manifest_of"])
    if not manifest:
        hint = f"run it once: `portabl jobs run {values['manifest_of']}`"
        raise UsageError(f"the job `{values['manifest_of']}` has left no manifest yet", hint=hint)
    turn = next_arc(request, "")
    found = verify(
        manifest,
        values.get("target"),
        request.jobs.config,
        proof=values.get("proof", Proof.READBACK),
        sample=turn.sample,
        pacer=request.pacer,
        threads=values.get("threads", 64),
        progress=request.progress,
        stop=request.stop,
    )
    if found.as_described:
        request.store.move_ring(request.job.name, "", turn.done(request.now))
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


def _reread(request: Request) -> Outcome:
    from portabl.jobs.rereading import reread_snapshots

    return reread_snapshots(request)


_KINDS: Mapping[str, Callable[[Request], Outcome]] = MappingProxyType(
    {"migrate": _migrate, "export": _export, "verify": _verify, "snapshots-verify": _reread}
)
