"""What a verification found: frozen values, and the document and the text made of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from portabl.keys import plain
from portabl.labels.steps import Outcome, Step

LEVELS = ("SC", "L1", "L2", "L3")
"""Label levels, weakest first: Standard Compliance, then 1 to 3."""

PORTABILITY = ("P4.1.1", "P4.1.2", "P3.1.11")
"""Criteria on switching, on saying before the contract how porting goes, on fetching data when the contract ends."""

EUROPEAN = tuple(f"P5.1.{number}" for number in range(1, 8))
"""Criteria on processing and control in the EU or EEA."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a label is for, as its own credential says. Countries are ISO 3166-1 alpha-2."""

    id: str
    name: str
    types: tuple[str, ...]
    endpoints: tuple[str, ...]
    provider: str
    country: str
    legal_country: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A label held against every step. What it claims counts only when `labelled` is true.

    ``at``: the time the question was asked for. ``criteria``: identifiers such as P4.1.1.
    """

    at: datetime
    token_sha256: str
    steps: tuple[Step, ...]
    level: str = ""
    rules_version: str = ""
    engine_version: str = ""
    issuer: str = ""
    issuer_name: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    criteria: tuple[str, ...] = ()
    services: tuple[Service, ...] = field(default=())
    participant_only: bool = False

    @property
    def labelled(self) -> bool:
        """Whether every step passed."""
        return all(step.outcome is Outcome.PASSED for step in self.steps)

    @property
    def first_problem(self) -> Step | None:
        """The first step that failed, else the first that was not checked, else None."""
        failed = [step for step in self.steps if step.outcome is Outcome.FAILED]
        open_ = [step for step in self.steps if step.outcome is Outcome.NOT_CHECKED]
        return next(iter([*failed, *open_]), None)

    @property
    def state(self) -> str:
        """One word: unreadable, expired, or the furthest thing proven (present ... labelled)."""
        passed = {step.name for step in self.steps if step.outcome is Outcome.PASSED}
        if not {"token", "credential"} <= passed:
            return "unreadable" if "token" not in passed else "no label"
        if self.valid_until is not None and self.at > self.valid_until:
            return "expired"
        found = "present"
        for name, word in (
            ("signature", "signature-ok"),
            ("issuer", "issuer-trusted"),
            ("chain", "chain-ok"),
            ("digests", "digests-ok"),
        ):
            if name not in passed:
                return found
            found = word
        return "labelled" if self.labelled else found

    @property
    def days_left(self) -> int | None:
        """Whole days from the time asked for to validUntil; negative when it has passed."""
        return None if self.valid_until is None else (self.valid_until - self.at).days


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding for programs, and for the manifest: every text in it is valid Unicode."""
    return {name: _clean(value) for name, value in _document(finding).items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return {name: _clean(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "labelled": finding.labelled,
        "state": finding.state,
        "at": stamp(finding.at),
        "token_sha256": finding.token_sha256,
        "level": finding.level,
        "rules_version": finding.rules_version,
        "engine_version": finding.engine_version,
        "issuer": finding.issuer,
        "issuer_name": finding.issuer_name,
        "valid_from": stamp(finding.valid_from),
        "valid_until": stamp(finding.valid_until),
        "criteria": list(finding.criteria),
        "portability": {name: name in finding.criteria for name in PORTABILITY},
        "european": {name: name in finding.criteria for name in EUROPEAN},
        "labels": "participant" if finding.participant_only else "service" if finding.services else "",
        "services": [_service_document(service) for service in finding.services],
        "steps": [
            {"step": step.name, "outcome": str(step.outcome), "reason": step.reason, "where": step.where}
            for step in finding.steps
        ],
    }


def _service_document(service: Service) -> dict[str, Any]:
    return {
        "id": service.id,
        "name": service.name,
        "types": list(service.types),
        "endpoints": list(service.endpoints),
        "provider": service.provider,
        "country": service.country,
        "legal_country": service.legal_country,
    }


def stamp(moment: datetime | None) -> str:
    """A time as RFC 3339 in UTC with milliseconds, "" for none."""
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def finding_text(finding: Finding, name: str) -> str:
    """A finding for people: a line a step, what the label claims, and the verdict."""
    return "\n".join([*_step_lines(finding), *_claim_lines(finding), _verdict(finding, name)]) + "\n"


_WORDS = {Outcome.PASSED: "passed", Outcome.FAILED: "FAILED", Outcome.NOT_CHECKED: "not checked"}


def _step_lines(finding: Finding) -> Iterator[str]:
    for step in finding.steps:
        yield f"{_WORDS[step.outcome]:<12} {step.name:<10} {plain(step.reason)}"
        yield f"{'':<23} [{step.where}]"


def _claim_lines(finding: Finding) -> Iterator[str]:
    if not finding.level:
        return
    said = "" if finding.labelled else " (claimed, not proven)"
    rows = [
        ("level", f"{finding.level}{said}"),
        ("rules", f"{finding.rules_version}, engine {finding.engine_version or 'unknown'}"),
        ("issuer", f"{finding.issuer_name or 'unknown'} ({finding.issuer})"),
        ("valid", f"{stamp(finding.valid_from)} to {stamp(finding.valid_until)}"),
        ("portability", _of(PORTABILITY, finding.criteria)),
        ("European", _of(EUROPEAN, finding.criteria)),
        ("criteria", f"{len(finding.criteria)}: {', '.join(finding.criteria) or 'none'}"),
    ]
    for service in finding.services:
        where = ", ".join(service.endpoints) or "no endpoint named"
        rows.append(("service", f"{service.name or service.id}: {where}"))
        rows.append(("provided by", f"{service.provider or 'unnamed'} ({service.country or 'country unknown'})"))
    yield from (f"  {name:<12} {plain(value)}" for name, value in rows)


def _of(wanted: tuple[str, ...], found: tuple[str, ...]) -> str:
    there = [name for name in wanted if name in found]
    missing = [name for name in wanted if name not in found]
    return f"{', '.join(there) or 'none'}{' (not: ' + ', '.join(missing) + ')' if missing else ''}"


def _verdict(finding: Finding, name: str) -> str:
    at = f"at {stamp(finding.at)}"
    if finding.labelled:
        return f"{plain(name)}: labelled {finding.level} {at}"
    problem = finding.first_problem
    assert problem is not None
    return f"{plain(name)}: NOT labelled {at}: {problem.name} {problem.outcome}: {plain(problem.reason)}"
