"""What a bucket is told about all its objects: compared between two places, and carried where it means the same.

Versioning, lifecycle, CORS, policy, tags, default encryption, object-lock default, website and notifications. Each
setting of the source is one of

* carried: the same document means the same at the target,
* needs adaptation: parts of it name things of the source's provider (keys, accounts, storage classes, queues),
* cannot be carried: the target does not know such a setting, or it could not be read.

Nothing here removes a setting: what only the target has stays as it is.
"""

from __future__ import annotations

import difflib
import enum
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portabl.errors import StorageError, UsageError
from portabl.model import Setting
from portabl.storage import Storage

NAMES = (
    *("versioning", "encryption", "tags", "cors", "policy", "website", "lifecycle"),
    *("object-lock", "notifications"),
)
"""In the order in which they are applied."""

PORTABLE_CLASSES = frozenset({"STANDARD"})


class Class(enum.StrEnum):
    """How a setting travels."""

    SAME = "same"
    CARRIED = "carried"
    ADAPT = "needs adaptation"
    NOT = "cannot be carried"
    ABSENT = "not set"


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, as it is at the source and at the target. Documents are JSON values in S3's own terms.

    ``proposed``: what would be written at the target, None when nothing can be without help. ``reasons``: why it needs
    adaptation, or cannot be carried. ``notes``: what to know before applying it.
    """

    name: str
    kind: Class
    source: Any = None
    target: Any = None
    proposed: Any = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def diff(self) -> str:
        """The target's document against the proposed one, as a unified diff; "" when nothing would be written."""
        if self.proposed is None or self.kind is Class.SAME:
            return ""
        before, after = _lines(self.target), _lines(self.proposed)
        return "\n".join(difflib.unified_diff(before, after, f"target {self.name}", "proposed", lineterm=""))


def settings(storage: Storage) -> dict[str, Setting]:
    """Every setting of a place's bucket. Raises UsageError for places that are no buckets, StorageError."""
    found = {setting.name: setting for setting in storage.settings()}
    if not found:
        raise UsageError(
            f"{storage.name} is no bucket: it has no configuration", hint="name a bucket of an S3 provider"
        )
    return found


def compare(source: Storage, target: Storage, given: Mapping[str, Any] | None = None) -> list[Change]:
    """All settings in the order of `NAMES`. ``given``: documents to use instead of the source's, by name.

    Raises UsageError or StorageError.
    """
    theirs, ours = settings(source), settings(target)
    buckets = (_bucket(source), _bucket(target))
    return [_change(name, theirs[name], ours[name], buckets, (given or {}).get(name)) for name in NAMES]


def apply(target: Storage, changes: Sequence[Change]) -> list[tuple[Change, str]]:
    """Write what is proposed, read it back; each change with "" or what went wrong."""
    due = [change for change in changes if change.proposed is not None and change.kind is not Class.SAME]
    refused = [_refusal(target, change) for change in due]
    now = settings(target)
    return [(change, why or _differs(change, now[change.name])) for change, why in zip(due, refused, strict=True)]


def _refusal(target: Storage, change: Change) -> str:
    try:
        target.configure(change.name, change.proposed)
    except StorageError as error:
        if not error.per_object:
            raise
        return error.message
    return ""


def _differs(change: Change, now: Setting) -> str:
    if not now.problem and equal(now.value, change.proposed):
        return ""
    return f"the target accepted it and now shows {now.problem or json.dumps(now.value)}"


def _bucket(storage: Storage) -> str:
    return storage.place[0].rpartition(" ")[2]


def _lines(document: Any) -> list[str]:
    return [] if document is None else json.dumps(document, indent=2, sort_keys=True).splitlines()


def equal(one: Any, other: Any) -> bool:
    """Whether two documents mean the same: order does not count, nor whether one value stands in a list."""
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = dict(value)
        if "Prefix" in named and "Status" in named and "Filter" not in named:  # a lifecycle rule in the old form
            named["Filter"] = {"Prefix": named.pop("Prefix")}
        if named.get("Filter") == {"Prefix": ""}:
            named["Filter"] = {}
        return {name: _plain(inner) for name, inner in named.items() if not _empty(inner)}
    if isinstance(value, list):
        plain = sorted((_plain(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
        return plain[0] if len(plain) == 1 else plain
    return value


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def _change(name: str, source: Setting, target: Setting, buckets: tuple[str, str], given: Any) -> Change:
    change = Change(name, Class.ABSENT, source.value, target.value)
    value = source.value if given is None else given
    if source.problem and given is None:
        return _as(change, Class.NOT, reasons=(f"it cannot be read at the source: {source.problem}",))
    if value is None:
        return change
    if target.problem:
        return _as(change, Class.NOT, reasons=(f"the target does not tell or know it: {target.problem}",))
    if given is not None:
        kind = Class.SAME if equal(given, target.value) else Class.CARRIED
        return _as(change, kind, proposed=given)
    found = _RULES[name](value, target.value, buckets)
    if not found.reasons and equal(found.proposed, target.value):
        return _as(change, Class.SAME, proposed=found.proposed)
    return _as(change, found.kind, found.proposed, found.reasons, found.notes)


def _as(
    change: Change, kind: Class, proposed: Any = None, reasons: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> Change:
    return Change(change.name, kind, change.source, change.target, proposed, reasons, notes)


@dataclass(frozen=True, slots=True)
class _Found:
    proposed: Any = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    impossible: bool = False

    @property
    def kind(self) -> Class:
        if self.impossible:
            return Class.NOT
        return Class.ADAPT if self.reasons else Class.CARRIED


_Rule = Callable[[Any, Any, tuple[str, str]], _Found]


def _versioning(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    reasons = ("MFA delete belongs to an account's own device: only the status is carried",)
    return _Found({"Status": value["Status"]}, reasons if value.get("MFADelete") == "Enabled" else ())


def _encryption(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    for rule in value.get("Rules", ()):
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if str(default.get("SSEAlgorithm", "")).startswith("aws:kms"):
            key = default.get("KMSMasterKeyID", "the provider's default key")
            return _Found(reasons=(f"objects are encrypted under {key}, a key that exists at the source only",))
    return _Found(value)


def _tags(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    kept = [tag for tag in value["TagSet"] if not tag["Key"].startswith("aws:")]
    reserved = sorted(tag["Key"] for tag in value["TagSet"] if tag["Key"].startswith("aws:"))
    reasons = (f"names that begin with aws: are reserved, these are left out: {', '.join(reserved)}",)
    return _Found({"TagSet": kept} if kept else None, reasons if reserved else ())


def _as_it_is(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    return _Found(value)


def _website(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    return _Found(value, notes=("the site has another address at the target: links and DNS names have to follow",))


def _policy(value: Any, _: Any, buckets: tuple[str, str]) -> _Found:
    text = json.dumps(value)
    statements = value.get("Statement", [])
    reasons: list[str] = []
    principals = sorted(set(_foreign(statements if isinstance(statements, list) else [statements])))
    if principals:
        reasons.append(f"it names accounts or users of the source's provider: {', '.join(principals)}")
    foreign = ("aws:SourceVpc", "aws:SourceVpce", "aws:PrincipalOrgID")
    if conditions := [name for name in foreign if f'"{name}"' in text]:
        reasons.append(f"its conditions have no meaning elsewhere: {', '.join(conditions)}")
    for end in ("/", '"'):  # the bucket itself and its keys, not another bucket whose name begins so
        text = text.replace(f":::{buckets[0]}{end}", f":::{buckets[1]}{end}")
    proposed = json.loads(text)
    notes = (f"resources of {buckets[0]} are written as {buckets[1]}",) if proposed != value else ()
    return _Found(None if reasons else proposed, tuple(reasons), notes)


def _foreign(statements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for statement in statements:
        for member in ("Principal", "NotPrincipal"):
            who = statement.get(member, "*")
            for names in who.values() if isinstance(who, Mapping) else [who]:
                yield from (name for name in ([names] if isinstance(names, str) else names) if name != "*")


def _lifecycle(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    classes, dates = set(), set()
    for rule in value["Rules"]:
        for moved in (*rule.get("Transitions", ()), *rule.get("NoncurrentVersionTransitions", ())):
            classes.add(moved.get("StorageClass", ""))
        dates |= {
            str(part["Date"]) for part in (rule.get("Expiration", {}), *rule.get("Transitions", ())) if "Date" in part
        }
    reasons: list[str] = []
    if foreign := sorted(classes - PORTABLE_CLASSES):
        reasons.append(f"it moves objects to storage classes of the source's provider: {', '.join(foreign)}")
    if dates:
        reasons.append(f"it acts on a date, for copies at once when that is past: {', '.join(sorted(dates))}")
    notes = ("ages count from the day of the copy, so rules by days act later than at the source",)
    return _Found(None if reasons else value, tuple(reasons), notes)


def _object_lock(value: Any, target: Any, _: tuple[str, str]) -> _Found:
    if target is None:
        return _Found(
            reasons=("object lock is chosen when a bucket is made, and the target's has none",), impossible=True
        )
    return _Found(value, notes=("every object written afterwards is locked: apply it when the migration is complete",))


def _notifications(value: Any, _: Any, __: tuple[str, str]) -> _Found:
    named = sorted(set(_arns(value)))
    targets = ", ".join(named) or "the provider's own event bus"
    return _Found(reasons=(f"events go to things that exist at the source's provider only: {targets}",))


def _arns(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (text for name, text in value.items() if name.endswith("Arn") and isinstance(text, str))
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _arns(inner)


_RULES: Mapping[str, _Rule] = {
    "versioning": _versioning,
    "encryption": _encryption,
    "tags": _tags,
    "cors": _as_it_is,
    "policy": _policy,
    "website": _website,
    "lifecycle": _lifecycle,
    "object-lock": _object_lock,
    "notifications": _notifications,
}
