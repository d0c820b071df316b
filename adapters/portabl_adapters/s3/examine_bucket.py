"""What the bucket is set to and what its settings do: versions, object lock, ACL. Its settings are never changed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

from portabl.model import Fact
from portabl_adapters.s3 import replies
from portabl_adapters.s3.questions import BODY, Questions
from portabl_adapters.s3.wire import Answer

_STATUS = re.compile(rb"<Status>\s*(\w+)\s*</Status>")
_MODE = re.compile(rb"<Mode>\s*(\w+)\s*</Mode>")
BYPASS = "x-amz-bypass-governance-retention: true"
LOCK_SECONDS = 5
"""How long the object that tries a lock is locked, should the server not let it go earlier."""


def lock_obstacle(bucket: Callable[[str], Answer]) -> str:
    """Why this bucket would keep what is tried in it, "" when it would not."""
    mode = _MODE.search(bytes(bucket("?object-lock").body))
    if mode is None:
        return ""
    return f"the bucket locks every new object ({mode[1].decode()}), so nothing tried there could be removed"


def versioning(bucket: Callable[[str], Answer]) -> str:
    """Enabled, Suspended, off, or refused where the server has no versions."""
    answer = bucket("?versioning")
    if answer.status != 200:
        return "refused"
    status = _STATUS.search(bytes(answer.body))
    return status[1].decode().lower() if status else "off"


def bucket_facts(questions: Questions) -> Iterator[Fact]:
    """Facts about versions, lock and ACL in this bucket."""
    state = versioning(questions.bucket)
    yield Fact("bucket: versioning", state)
    yield _version_listing(questions)
    yield from _lock(questions)
    yield _acl(questions)


def _version_listing(questions: Questions) -> Fact:
    prefix = quote(questions.storage.prefix.decode("utf-8", "surrogateescape"), safe="", errors="surrogateescape")
    answer = questions.bucket(f"?versions&max-keys=1&prefix={prefix}")
    return Fact("list: versions", "readable" if answer.status == 200 else "refused", questions.said(answer))


def _lock(questions: Questions) -> Iterator[Fact]:
    answer = questions.bucket("?object-lock")
    enabled = b"<ObjectLockEnabled>Enabled" in bytes(answer.body)
    absent = replies.error_code(answer.body) == "ObjectLockConfigurationNotFoundError"
    state = "enabled" if enabled else "off" if answer.status in (200, 404) or absent else "refused"
    yield Fact("bucket: object lock", state, "" if enabled else questions.said(answer))
    if enabled:
        yield _retention(questions)
        yield _legal_hold(questions)


def _retention(questions: Questions) -> Fact:
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=LOCK_SECONDS)
    headers = (
        "x-amz-object-lock-mode: GOVERNANCE",
        f"x-amz-object-lock-retain-until-date: {until.strftime('%Y-%m-%dT%H:%M:%SZ')}",
    )
    return _held(questions, "lock: retention", b"locked", headers)


def _legal_hold(questions: Questions) -> Fact:
    fact = _held(questions, "lock: legal hold", b"held", ("x-amz-object-lock-legal-hold: ON",))
    _release(questions, b"held")
    return fact


def _held(questions: Questions, name: str, key: bytes, headers: tuple[str, ...]) -> Fact:
    """Whether a version written with these headers can be deleted. (Not by a delete marker: by its version.)"""
    written = questions.put_checked(key, "", BODY, *headers)
    if written.status != 200:
        return Fact(name, "refused", questions.said(written))
    version = quote(written.identity[1], safe="")
    removed = questions.ask("DELETE", key, f"?versionId={version}")
    return Fact(name, "honoured" if removed.status in (401, 403) else "ignored", questions.said(removed))


def _release(questions: Questions, key: bytes) -> None:
    """Take the legal hold off again, so that the object can be removed."""
    body = b'<LegalHold xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>OFF</Status></LegalHold>'
    questions.put_checked(key, "?legal-hold", body)


def _acl(questions: Questions) -> Fact:
    questions.put(b"acl")
    answer = questions.ask("GET", b"acl", "?acl")
    return Fact("bucket: ACL of objects", "readable" if answer.status == 200 else "refused", questions.said(answer))
