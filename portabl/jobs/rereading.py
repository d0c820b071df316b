"""Verification jobs: snapshots read again, whole or by turns; bit rot is named by snapshot and key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from portabl import package, snapshots
from portabl.errors import Interrupted, ManifestError, UsageError
from portabl.jobs.outcome import Outcome, Request
from portabl.jobs.ring import Arc, arc
from portabl.keys import plain, show, to_json
from portabl.package_format import INCOMPLETE as INCOMPLETE_STATE
from portabl.registry import safe_url
from portabl.report import COMPLETE, INCOMPLETE
from portabl.snapshots import DAMAGED, Snapshot
from portabl.verification import Issue, Verification

ISSUES_SHOWN = 20
"""For each snapshot in the text; the JSON document has up to a thousand."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What came of one snapshot. ``damaged``: why it is no package any more, "" when it is one."""

    name: str
    arc: Arc
    found: Verification | None = None
    damaged: str = ""
    losses_known: bool = False

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What is not as the manifest says."""
        return tuple(one for one in self.found.issues if one.kind != "extra") if self.found else ()

    @property
    def well(self) -> bool:
        """Whether all that was looked at is as the manifest says; losses that an export reported are not news."""
        if self.found is None:
            return False
        admitted = self.losses_known and not self.issues and self.found.checked == self.found.objects
        return not self.found.interrupted and (self.found.as_described or admitted)


def next_arc(request: Request, name: str) -> Arc:
    """What of a ring is to be read now; everything when the job does not spread it, or has no schedule."""
    within: timedelta | None = request.job.values.get("within")
    if within is None or request.job.schedule is None:
        return Arc(0.0, 1.0)
    following: datetime = request.job.schedule.after(request.now)
    return arc(request.store.ring(request.job.name, name), request.now, following, within)


def reread_snapshots(request: Request) -> Outcome:
    """Verify every snapshot below the job's source. Raises UsageError when there is none: nothing is no proof."""
    location = request.job.values["source"]
    there = [one for one in snapshots.snapshots(location, request.jobs.config) if one.finished or one.state == DAMAGED]
    if not there:
        where = plain(safe_url(location))
        raise UsageError(f"there is no finished snapshot in {where}", hint="run the job that exports into it first")
    request.store.keep_rings(request.job.name, [one.name for one in there])
    done = list(_reread(request, there))
    return _outcome(done, len(there))


def _reread(request: Request, there: list[Snapshot]) -> Iterator[Reread]:
    """One snapshot after the other; a ring moves on only when its arc was read and found well.

    So a difference is read again, and told again, until it is mended or its snapshot is gone.
    """
    for one in there:
        if request.stop.is_set():
            return
        turn = next_arc(request, one.name)
        try:
            found = package.verify(
                one.location,
                request.jobs.config,
                sample=turn.sample,
                threads=request.job.values.get("threads", 64),
                progress=request.progress,
                stop=request.stop,
                pacer=request.pacer,
            )
        except ManifestError as damaged:
            yield Reread(one.name, turn, damaged=damaged.message)
            continue
        result = Reread(one.name, turn, found, losses_known=one.state == INCOMPLETE_STATE)
        if result.well:
            request.store.move_ring(request.job.name, one.name, turn.done(request.now))
        yield result


def _outcome(done: list[Reread], total: int) -> Outcome:
    bad = [one for one in done if not one.well and not (one.found and one.found.interrupted)]
    stopped = len(done) < total or any(one.found and one.found.interrupted for one in done)
    code = Interrupted.exit_code if stopped else INCOMPLETE if bad else COMPLETE
    lines = [line for one in bad for line in _differences(one)]
    return Outcome(
        code,
        sum(one.found.read for one in done if one.found),
        sum(one.found.bytes_checked for one in done if one.found),
        len(lines),
        message="; ".join([*(["stopped before everything was read"] if stopped else []), *lines[:5]]),
        text="\n".join(line for one in done for line in _lines(one)),
        document={
            "document": "portabl snapshots reread",
            "version": 1,
            "snapshots": [_document(one) for one in done],
            "snapshots_total": total,
            "exit_code": code,
        },
    )


def _differences(one: Reread) -> list[str]:
    if one.damaged:
        return [f"{one.name}: damaged: {plain(one.damaged)}"]
    found = [f"{one.name}: {issue.kind}: {show(issue.key)}: {plain(issue.detail)}" for issue in one.issues]
    return found or [f"{one.name}: not as its manifest says"]


def _lines(one: Reread) -> Iterator[str]:
    if one.found is not None:
        verdict = "well" if one.well else "stopped" if one.found.interrupted else "DIFFERENT"
        yield f"{one.name}: {verdict}, read {one.found.read:,} of {one.found.objects:,} objects, listed the others"
    if not one.well and not (one.found and one.found.interrupted):
        differences = _differences(one)
        yield from (f"    {line}" for line in differences[:ISSUES_SHOWN])
        if len(differences) > ISSUES_SHOWN:
            yield f"    and {len(differences) - ISSUES_SHOWN:,} more"


def _document(one: Reread) -> dict[str, Any]:
    issues = [{"kind": issue.kind, "key": to_json(issue.key), "detail": plain(issue.detail)} for issue in one.issues]
    return {
        "name": one.name,
        "well": one.well,
        "damaged": plain(one.damaged),
        "share": one.arc.share,
        "objects": one.found.objects if one.found else 0,
        "read": one.found.read if one.found else 0,
        "issues": issues,
    }
