"""Object lock: retention (mode and end) and legal hold, read from an object's headers and given with its PUT.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from portabl.model import Loss
from portabl_adapters.s3 import fields, replies, versions

if TYPE_CHECKING:
    from portabl_adapters.s3.calls import Calls

_MODE = b"x-amz-object-lock-mode"
_UNTIL = b"x-amz-object-lock-retain-until-date"
_HOLD = b"x-amz-object-lock-legal-hold"
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+?)0*)?(?:Z|\+00:00)")
_HEADERS = {"mode": _MODE.decode(), "until": _UNTIL.decode(), "hold": _HOLD.decode()}


def lock_of(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The lock an answer to GET or HEAD shows. A retention whose end has come protects nothing and is none."""
    lock: dict[str, str] = {}
    if _MODE not in headers and _HOLD not in headers:
        return lock
    mode, until = headers.get(_MODE, b"").decode(), _time(headers.get(_UNTIL, b"").decode())
    if mode and until and not over(until):
        lock |= {"mode": mode, "until": until}
    if headers.get(_HOLD, b"").upper() == b"ON":
        lock["hold"] = "ON"
    return lock


def _time(text: str) -> str:
    """One spelling of a time: servers write none, three or nine digits of fractions."""
    found = _TIME.fullmatch(text)
    if found is None:
        return text
    return f"{found[1]}.{found[2]}Z" if found[2] else f"{found[1]}Z"


def over(until: str) -> bool:
    """Whether this time is past; one that cannot be read is not."""
    try:
        return datetime.fromisoformat(until) <= datetime.now(UTC)
    except (ValueError, TypeError):
        return False


def header_lines(lock: Mapping[str, str]) -> list[str]:
    """Headers of a PUT that locks the new object."""
    return [f"{_HEADERS[name]}: {value}" for name, value in sorted(lock.items())]


def enabled(calls: Calls) -> bool | None:
    """Whether objects of the bucket can be locked; None when we may not know."""
    answer = calls.bucket("?object-lock")
    if answer.status == 200:
        return b"Enabled" in bytes(answer.body)
    if calls.denied(answer):
        return None
    if answer.status in (400, 404, 405, 501) and replies.error_code(answer.body) != "NoSuchBucket":
        return False
    raise calls.error(answer)


def hidden(calls: Calls, full: bytes, version: str) -> bool:
    """Whether these credentials may not see locks: the store then answers as if there were none."""
    query = versions.query(version)
    answer = calls.object("GET", full, f"?retention{query.replace('?', '&')}")
    return calls.denied(answer)


def ensure(calls: Calls, full: bytes, version: str, wanted: Mapping[str, str]) -> tuple[Loss, ...]:
    """Lock an object that was written in parts where the store forgot what the upload asked for; name what is wrong."""
    now = _seen(calls, full, version)
    if now != dict(wanted):
        _set(calls, full, version, wanted, now)
        now = _seen(calls, full, version)
    return tuple(
        Loss(f"lock.{name}", "the target did not keep it", value, now.get(name))
        for name, value in wanted.items()
        if now.get(name) != value
    )


def _seen(calls: Calls, full: bytes, version: str) -> dict[str, str]:
    answer = calls.object("HEAD", full, versions.query(version))
    if answer.status != 200:
        raise calls.error(answer, full)
    return lock_of(answer.headers)


def _set(calls: Calls, full: bytes, version: str, wanted: Mapping[str, str], now: Mapping[str, str]) -> None:
    which = versions.query(version).replace("?", "&")
    if wanted.get("until") and (wanted.get("mode"), wanted["until"]) != (now.get("mode"), now.get("until")):
        text = f"<Mode>{wanted.get('mode', '')}</Mode><RetainUntilDate>{wanted['until']}</RetainUntilDate>"
        _put(calls, full, f"?retention{which}", f"<Retention {_NAMESPACE}>{text}</Retention>")
    if wanted.get("hold") and wanted["hold"] != now.get("hold"):
        _put(calls, full, f"?legal-hold{which}", f"<LegalHold {_NAMESPACE}><Status>ON</Status></LegalHold>")


_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def _put(calls: Calls, full: bytes, query: str, text: str) -> None:
    """A refusal is no error here: the next look at the object shows what came of it."""
    body = text.encode()
    headers = ["Content-Type: application/xml", fields.content_md5(hashlib.md5(body).hexdigest())]
    calls.object("PUT", full, query, headers, body, hashlib.sha256(body).hexdigest())
