"""What a comparison says at its end: frozen values, turned into text for people and into documents for programs. Pure.

The names in the documents are a promise, as those of a `Report` are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from portabl.keys import plain, show, to_json
from portabl.report import COMPLETE, INCOMPLETE, INTERRUPTED, rate_text, rows, size_text

ISSUES_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Issue:
    """One object that is not as the manifest says. ``kind``: missing, size, content, metadata, extra or unreadable;
    in a package also foreign (a file that does not belong there) and document (a file about the payload).
    """

    kind: str
    key: bytes
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """A location compared with a manifest. ``objects`` the manifest's, ``checked`` those looked at, sizes in bytes.

    ``size_differs``, ``content_differs`` and ``metadata_differs`` count objects by what differs first. ``extra``
    objects are named but are no failure: a manifest speaks of its own objects only. ``issues``: the first of
    ``issues_total``. ``losses``: objects whose losses the manifest itself admits. ``root``: the manifest's,
    ``root_proven``: the one computed from what was found, "" when the level does not read everything.
    ``read``: objects whose bytes were read; with ``sample`` (a share of 0 to 1) only these, and nothing is verified by
    that. ``foreign``: files in a package that do not belong there; ``documents_differ``: its other files that changed.
    """

    manifest: str
    location: str
    proof: str
    objects: int = 0
    checked: int = 0
    bytes_checked: int = 0
    missing: int = 0
    size_differs: int = 0
    content_differs: int = 0
    metadata_differs: int = 0
    unreadable: int = 0
    extra: int = 0
    losses: int = 0
    issues: tuple[Issue, ...] = ()
    issues_total: int = 0
    root: str = ""
    root_proven: str = ""
    elapsed_seconds: float = 0.0
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    read: int = 0
    sample: float = 0.0
    foreign: int = 0
    documents_differ: int = 0

    @property
    def complete(self) -> bool:
        """Whether every object of the manifest was checked and found as described. Never of a sample."""
        return self.as_described and not self.sample

    @property
    def as_described(self) -> bool:
        """Whether everything that was looked at is as the manifest says."""
        wrong = self.missing + self.size_differs + self.content_differs + self.metadata_differs + self.unreadable
        wrong += self.foreign + self.documents_differ
        root_differs = bool(self.root_proven) and self.root_proven != self.root
        return not (wrong or self.losses or self.interrupted or root_differs) and self.checked == self.objects

    @property
    def exit_code(self) -> int:
        """0 all that was asked for is as the manifest says, 3 not, 4 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        return COMPLETE if self.as_described else INCOMPLETE


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A place in 32 bytes: ``root`` in hex over ``objects`` objects of ``bytes`` bytes together."""

    root: str
    objects: int
    bytes: int
    location: str = ""
    issues: tuple[Issue, ...] = field(default=())


def verification_text(found: Verification) -> str:
    """A verification for people: one line an issue (- missing, * different, + extra, ! unreadable), then figures."""
    return "\n".join(_verification_lines(found)) + "\n"


_SIGILS = {"missing": "-", "extra": "+", "unreadable": "!"}


def _verification_lines(found: Verification) -> Iterator[str]:
    for issue in found.issues[:ISSUES_SHOWN_MAX]:
        detail = f": {plain(issue.detail)}" if issue.detail else ""
        yield f"{_SIGILS.get(issue.kind, '*')} {show(issue.key)} {issue.kind}{detail}"
    total = max(found.issues_total, len(found.issues))
    if total > ISSUES_SHOWN_MAX:
        yield f"and {total - ISSUES_SHOWN_MAX:,} more; `--json` lists up to {len(found.issues):,}"
    yield f"{plain(found.manifest)} at {plain(found.location)}: {_verification_verdict(found)}"
    yield from rows(_verification_facts(found))
    yield from (f"warning: {plain(line)}" for line in found.warnings)


def _verification_verdict(found: Verification) -> str:
    if found.interrupted:
        return "interrupted"
    if found.sample and found.as_described:
        return f"no difference in a SAMPLE of {found.sample:.3%}, which verifies nothing"
    return f"everything is there ({found.proof})" if found.complete else "NOT as the manifest says"


def _verification_facts(found: Verification) -> Iterator[tuple[str, str]]:
    yield "objects", f"{found.objects:,}"
    yield "checked", f"{found.checked:,} ({size_text(found.bytes_checked)} read)"
    yield "missing", f"{found.missing:,}"
    yield "different", f"{found.size_differs + found.content_differs + found.metadata_differs:,}"
    if found.unreadable:
        yield "unreadable", f"{found.unreadable:,}"
    if found.sample:
        yield "sample", f"{found.read:,} of {found.objects:,} objects were read ({found.sample:.3%} was asked for)"
    if found.foreign:
        yield "foreign", f"{found.foreign:,} files that do not belong into the package"
    if found.documents_differ:
        yield "documents", f"{found.documents_differ:,} files about the payload are missing or changed"
    if found.extra:
        yield "extra", f"{found.extra:,} (not in the manifest; no failure)"
    if found.losses:
        yield "losses", f"{found.losses:,} (named in the manifest)"
    if found.root:
        yield "root", found.root
    if found.root_proven:
        yield "found root", f"{found.root_proven} ({'equal' if found.root == found.root_proven else 'DIFFERENT'})"
    yield "proof", found.proof
    yield "time", rate_text(found.elapsed_seconds, found.checked, found.bytes_checked)


_CHECKS = (
    *("objects", "checked", "bytes_checked", "missing", "size_differs", "content_differs", "metadata_differs"),
    *("unreadable", "extra", "losses", "issues_total", "read", "sample", "foreign", "documents_differ"),
)


def verification_document(found: Verification) -> dict[str, object]:
    """A verification for programs; fields as in docs/cli.md."""
    return {
        "document": "portabl verification",
        "version": 1,
        **{name: plain(getattr(found, name)) for name in ("manifest", "location", "proof")},
        **{name: getattr(found, name) for name in _CHECKS},
        "issues": issue_documents(found.issues),
        "root": found.root,
        "root_proven": found.root_proven,
        "elapsed_seconds": round(found.elapsed_seconds, 3),
        "complete": found.complete,
        "interrupted": found.interrupted,
        "warnings": [plain(line) for line in found.warnings],
        "exit_code": found.exit_code,
    }


def issue_documents(issues: Sequence[Issue]) -> list[dict[str, object]]:
    """Issues for programs: the exact key, the kind, and what was found."""
    return [{"kind": issue.kind, "key": to_json(issue.key), "detail": plain(issue.detail)} for issue in issues]
