"""What a run says at its end: frozen values, turned into text for people and into a document for programs. Pure.

The names in the documents are a promise (docs/cli.md): fields are added, never renamed and never given another meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portabl.errors import Interrupted
from portabl.keys import plain, show, to_json

COMPLETE, INCOMPLETE, INTERRUPTED = 0, 3, Interrupted.exit_code
EXAMPLES_MAX = 5


@dataclass(frozen=True, slots=True)
class LossGroup:
    """All losses of one field for one reason. ``examples``: at most `EXAMPLES_MAX` of the ``count`` keys."""

    field: str
    reason: str
    count: int
    examples: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A migration in figures. Sizes in bytes, times in seconds; counts are objects.

    ``objects``: in the source's scope. ``adopted``: were at the target already, equal, without us having written them.
    ``unchanged``: written by an earlier run and still what it wrote. ``shared``: taken from an earlier snapshot,
    without reading the source. ``changed``: the part of ``copied`` that replaced
    an older version. ``extra``: at the target only; left alone unless deleted by --mirror. ``complete``: everything in
    scope is proven at ``proof``. Roots are hex, "" when not computed. ``issues``: file that lists every issue.
    ``notes``: what was seen at the source that is neither carried nor a loss of one object. ``next_command``: what to
    run next, "" when nothing is left to do. With ``dry_run`` the counts say what would
    be done. ``stopped``: nothing was copied, because the ``losses`` lie ahead and are not among those ``accepted``.
    ``policy``: which rules were kept or overridden, "" without rules; ``policy_override``: the reason given.
    """

    source: str
    target: str
    proof: str
    objects: int = 0
    bytes: int = 0
    copied: int = 0
    bytes_copied: int = 0
    adopted: int = 0
    unchanged: int = 0
    shared: int = 0
    changed: int = 0
    failed: int = 0
    deleted: int = 0
    extra: int = 0
    delete_markers: int = 0
    losses: tuple[LossGroup, ...] = ()
    issues: str = ""
    source_root: str = ""
    target_root: str = ""
    manifest: str = ""
    elapsed_seconds: float = 0.0
    complete: bool = False
    interrupted: bool = False
    dry_run: bool = False
    stopped: bool = False
    accepted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    next_command: str = ""
    policy: str = ""
    policy_override: str = ""

    @property
    def exit_code(self) -> int:
        """0 proven, 3 finished with something to look at, 4 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        return COMPLETE if self.complete and not self.failed and not self.losses else INCOMPLETE

    @property
    def roots_equal(self) -> bool | None:
        """Whether both roots are the same; None when one of them is not known."""
        return self.source_root == self.target_root if self.source_root and self.target_root else None


def report_text(report: Report) -> str:
    """A migration for people. No line holds anything a terminal could obey."""
    return "\n".join(_report_lines(report)) + "\n"


def _report_lines(report: Report) -> Iterator[str]:
    yield f"{plain(report.source)} -> {plain(report.target)}: {_verdict(report)}"
    yield from rows(_counts(report))
    for loss in report.losses:
        yield from _loss_lines(loss, report.manifest)
    yield from rows(_facts(report))
    yield from (f"note: {plain(line)}" for line in report.notes)
    yield from (f"warning: {plain(line)}" for line in report.warnings)
    if report.next_command:
        yield f"next: {plain(report.next_command)}"


def _verdict(report: Report) -> str:
    if report.interrupted:
        return "interrupted; the same command goes on from here"
    if report.stopped:
        return "stopped before copying, nothing was written: what is named below would be lost"
    if report.dry_run:
        return "dry run, nothing was written"
    if report.exit_code == COMPLETE:
        return f"complete, every object is proven at the target ({report.proof})"
    return "NOT complete, see the losses below" if report.losses else "NOT complete"


def _counts(report: Report) -> Iterator[tuple[str, str]]:
    would = "to copy" if report.dry_run else "copied"
    yield "objects", f"{report.objects:,} ({size_text(report.bytes)})"
    if report.delete_markers:
        yield "delete markers", f"{report.delete_markers:,}"
    yield would, f"{report.copied:,} ({size_text(report.bytes_copied)})"
    yield "already there", f"{report.adopted:,}"
    yield "unchanged", f"{report.unchanged:,}"
    if report.shared:
        yield "shared", f"{report.shared:,} (with the earlier snapshot)"
    yield "changed", f"{report.changed:,}"
    yield "failed", f"{report.failed:,}"
    if report.deleted:
        yield "to delete" if report.dry_run else "deleted", f"{report.deleted:,}"
    if report.extra:
        yield "only at target", f"{report.extra:,}"
    yield "losses", f"{sum(loss.count for loss in report.losses):,}"


def _loss_lines(loss: LossGroup, manifest: str) -> Iterator[str]:
    yield f"    {loss.count:,} x {plain(loss.field)}: {plain(loss.reason)}"
    yield from (f"        {show(key)}" for key in loss.examples[:EXAMPLES_MAX])
    more = loss.count - len(loss.examples[:EXAMPLES_MAX])
    if more > 0:
        where = f", see `portabl manifest show {plain(manifest)}`" if manifest else ""
        yield f"        and {more:,} more{where}"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    if report.source_root:
        yield "source root", report.source_root
    if report.target_root:
        yield "target root", f"{report.target_root} ({'equal' if report.roots_equal else 'DIFFERENT'})"
    yield "proof", report.proof
    if report.policy:
        yield "policy", plain(report.policy)
    yield "time", rate_text(report.elapsed_seconds, report.copied, report.bytes_copied)
    if report.accepted:
        yield "accepted losses", plain(", ".join(report.accepted))
    if report.issues:
        yield "issues", plain(report.issues)
    if report.manifest:
        yield "manifest", plain(report.manifest)


def report_document(report: Report) -> dict[str, object]:
    """A migration for programs; fields as in docs/cli.md."""
    return {
        "document": "portabl report",
        "version": 1,
        **{name: plain(getattr(report, name)) for name in ("source", "target", "proof", "issues", "manifest")},
        **{name: getattr(report, name) for name in _COUNTS},
        "losses": [_loss_document(loss) for loss in report.losses],
        "source_root": report.source_root,
        "target_root": report.target_root,
        "roots_equal": report.roots_equal,
        "elapsed_seconds": round(report.elapsed_seconds, 3),
        "bytes_per_second": _per_second(report.bytes_copied, report.elapsed_seconds),
        "objects_per_second": _per_second(report.copied, report.elapsed_seconds),
        "complete": report.complete,
        "interrupted": report.interrupted,
        "dry_run": report.dry_run,
        "stopped": report.stopped,
        "accepted": list(report.accepted),
        "notes": [plain(line) for line in report.notes],
        "warnings": [plain(line) for line in report.warnings],
        "next_command": plain(report.next_command),
        "policy": plain(report.policy),
        "policy_override": plain(report.policy_override),
        "exit_code": report.exit_code,
    }


_COUNTS = (
    *("objects", "bytes", "copied", "bytes_copied", "adopted", "unchanged", "changed"),
    *("shared", "failed", "deleted", "extra", "delete_markers"),
)


def _loss_document(loss: LossGroup) -> dict[str, object]:
    examples = [to_json(key) for key in loss.examples]
    return {"field": plain(loss.field), "reason": plain(loss.reason), "count": loss.count, "examples": examples}


def size_text(size: float) -> str:
    """A number of bytes for people, in binary units: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError  # the last unit always returns


def duration_text(seconds: float) -> str:
    """A time for people: ``0.4 s``, ``2 min 05 s``, ``3 h 04 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def rate_text(seconds: float, objects: int, size: int) -> str:
    """A time, and what it makes of objects and bytes a second."""
    if seconds <= 0 or not objects:
        return duration_text(seconds)
    return f"{duration_text(seconds)} ({objects / seconds:,.0f} objects/s, {size_text(size / seconds)}/s)"


def _per_second(amount: int, seconds: float) -> float:
    return round(amount / seconds, 1) if seconds > 0 else 0.0


def rows(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Names and values as the lines of a table."""
    return (f"  {name:<15} {value}" for name, value in pairs)
