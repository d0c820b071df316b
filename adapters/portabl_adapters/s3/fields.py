"""Metadata to request headers and back. Values are bytes on the wire, UTF-8 with surrogateescape in the model."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

from portabl.model import DEFAULT_CONTENT_TYPE, HEADERS, NOTHING, Loss, Metadata, ObjectInfo
from portabl_adapters.s3 import replies
from portabl_adapters.s3.wire import Answer, Header

_REDIRECT = "website-redirect-location"
_META = b"x-amz-meta-"
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_MD5 = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile("[\r\n\0]")
_WIRE_NAME = {_REDIRECT: "x-amz-website-redirect-location"}
_CONTENT = {_WIRE_NAME.get(name, name).encode(): name for name in HEADERS}


def metadata_of(answer: Answer, tags: Mapping[str, str], *, keep_class: bool) -> Metadata:
    """What a GET or HEAD answer says an object carries, with the tags asked for apart."""
    headers: dict[str, str] = {}
    user: dict[str, str] = {}
    for raw, value in answer.headers.items():
        if raw in _CONTENT:
            headers[_CONTENT[raw]] = value.decode("utf-8", "surrogateescape")
        elif raw.startswith(_META):
            user[_text(raw[11:])] = value.decode("utf-8", "surrogateescape")
    if headers.get("content-type") in (DEFAULT_CONTENT_TYPE, ""):
        del headers["content-type"]
    if "content-encoding" in headers:
        _drop_chunked(headers)
    storage_class = _text(answer.headers.get(b"x-amz-storage-class", b"")) if keep_class else ""
    return Metadata(headers, user, tags, storage_class)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _drop_chunked(headers: dict[str, str]) -> None:
    """``aws-chunked`` is how a client sent the object, not what it is; some servers store it all the same."""
    codings = [part.strip() for part in headers["content-encoding"].split(",")]
    kept = [part for part in codings if part.lower() != "aws-chunked"]
    if not kept or kept == [""]:
        del headers["content-encoding"]
    elif len(kept) < len(codings):
        headers["content-encoding"] = ",".join(kept)


def info_of(
    answer: Answer, size: int, tags: Mapping[str, str], losses: tuple[Loss, ...], *, etag_is_md5: bool, keep_class: bool
) -> ObjectInfo:
    """`ObjectInfo` from the headers of a GET or HEAD."""
    found = answer.headers
    etag = etag_of(found)
    missing = found.get(b"x-amz-missing-meta", b"0")
    if missing not in (b"0", b""):
        losses = (*losses, Loss("user", f"{_text(missing)} values that no header can hold are hidden by the source"))
    return ObjectInfo(
        size,
        etag,
        _text(found.get(b"x-amz-version-id", b"")),
        _text(found.get(b"last-modified", b"")),
        metadata_of(answer, tags, keep_class=keep_class),
        digests_of(found, etag, etag_is_md5=etag_is_md5),
        losses,
    )


def etag_of(found: Mapping[bytes, bytes]) -> str:
    """The ETag an answer names, without quotes; "" for none."""
    return _text(found.get(b"etag", b"")).strip('"')


def digests_of(found: Mapping[bytes, bytes], etag: str, *, etag_is_md5: bool) -> dict[str, str]:
    """Full-object digests an answer claims. An ETag is an MD5 only of a single-part object without SSE-KMS or SSE-C."""
    digests: dict[str, str] = {}
    if etag_is_md5 and _MD5.fullmatch(etag) and not encrypted(found):
        digests["md5"] = etag
    claimed = found.get(b"x-amz-checksum-sha256", b"")
    if claimed and b"-" not in claimed and found.get(b"x-amz-checksum-type", b"FULL_OBJECT") == b"FULL_OBJECT":
        try:
            raw = base64.b64decode(claimed, validate=True)
        except ValueError:
            raw = b""
        if len(raw) == 32:
            digests["sha256"] = raw.hex()
    return digests


def encrypted(found: Mapping[bytes, bytes]) -> bool:
    """Whether the ETag is no digest because of server-side encryption (SSE-KMS, SSE-C)."""
    if b"x-amz-server-side-encryption-customer-algorithm" in found:
        return True
    return found.get(b"x-amz-server-side-encryption", b"AES256") != b"AES256"


def is_md5(etag: str) -> bool:
    """Whether an ETag looks like an MD5."""
    return _MD5.fullmatch(etag) is not None


def request_headers(
    metadata: Metadata, dropped: frozenset[str], further: Callable[[Metadata], list[Header]]
) -> tuple[list[Header], list[Loss]]:
    """Headers that store ``metadata``, and what headers cannot say or is in ``dropped`` (refused kinds). ``further``:
    those for ACL and lock.

    Content-Type is always sent, so that no store guesses one. The empty value is ``Name;`` as libcurl wants it.
    """
    lines: list[Header] = []
    losses: list[Loss] = []
    if "content-type" not in metadata.headers:
        lines.append(f"Content-Type: {DEFAULT_CONTENT_TYPE}")
    for name, value in metadata.headers.items():
        if name in dropped:
            losses.append(Loss(name, "the target does not hold this header", value))
        elif name == "expires" and "expires that is no date" in dropped and not is_http_date(value):
            losses.append(Loss(name, "the target takes only dates here", value))
        else:
            _add(lines, losses, name, _WIRE_NAME.get(name, name), value)
    for name, value in metadata.user.items():
        _add(lines, losses, f"user.{name}", f"x-amz-meta-{name}", value)
    if metadata.tags:
        if "tags" in dropped:
            losses += (
                Loss(f"tag.{name}", "the target has no object tags", value) for name, value in metadata.tags.items()
            )
        else:
            lines.append(f"x-amz-tagging: {tagging(metadata.tags)}")
    metadata, refused = _without_refused(metadata, dropped)
    if metadata.storage_class:
        lines.append(f"x-amz-storage-class: {metadata.storage_class}")
    if metadata.acl or metadata.lock:
        lines += further(metadata)
    return lines, [*losses, *refused]


def _without_refused(metadata: Metadata, dropped: frozenset[str]) -> tuple[Metadata, list[Loss]]:
    losses: list[Loss] = []
    if metadata.storage_class and f"storage-class {metadata.storage_class}" in dropped:
        losses.append(Loss("storage-class", "the target does not have this storage class", metadata.storage_class))
        metadata = replace(metadata, storage_class="")
    if "acl" in dropped and metadata.acl:
        losses.append(Loss("acl", "the target refuses this ACL", metadata.acl))
        metadata = replace(metadata, acl="")
    if "lock" in dropped and metadata.lock:
        losses += [Loss(f"lock.{name}", "the target refuses this lock", text) for name, text in metadata.lock.items()]
        metadata = replace(metadata, lock=NOTHING)
    return metadata, losses


def tagging(tags: Mapping[str, str]) -> str:
    """Value of x-amz-tagging: percent-encoded, a space as %20 (Ceph does not decode a plus sign)."""
    return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in tags.items())


def _quote(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _add(lines: list[Header], losses: list[Loss], field: str, wire_name: str, value: str) -> None:
    line, reason = _line(wire_name, value)
    if line is None:
        losses.append(Loss(field, reason, value))
    else:
        lines.append(line)


@lru_cache(maxsize=1024)  # most objects are alike in most fields
def _line(wire_name: str, value: str) -> tuple[Header | None, str]:
    """The line that says this, or why no header can."""
    if not _NAME.fullmatch(wire_name):
        return None, "the name cannot be a header"
    if _BAD_VALUE.search(value):
        return None, "a header cannot hold line breaks"
    line = f"{wire_name}: {value}" if value.strip(" \t") else f"{wire_name};"
    return (line if line.isascii() else line.encode("utf-8", "surrogateescape")), ""


def is_http_date(value: str) -> bool:
    """Whether a value is a date some store may insist on for Expires."""
    from email.utils import parsedate_to_datetime  # slow to load, seldom needed

    try:
        parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return False
    return True


def content_md5(md5: str) -> str:
    """Content-MD5 header for an MD5 in hex: every store compares it with the body before it stores anything."""
    return f"Content-MD5: {base64.b64encode(bytes.fromhex(md5)).decode('ascii')}"


def says_damaged(answer: Answer) -> bool:
    """Whether the store refused a body because it does not match its digest: damaged on the way, worth another try."""
    return answer.status == 400 and replies.error_code(answer.body) in _DAMAGED
