"""One record of a manifest as one line of canonical JSON, and what of it is hashed (docs/manifest.md).

The form is RFC 8785 (JSON Canonicalization Scheme): one way to write each record, so equal records are equal bytes.
Lines are put together by hand around the C string escaper; `decode` re-encodes what it read and compares, so there
is one description of the form, and every deviation from it (unknown members, duplicate names, blanks, another
escape, another order) is refused by the same comparison.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from json.encoder import encode_basestring
from typing import Any

from portabl import keys
from portabl.errors import ManifestError
from portabl.model import HEADERS, LOCK, NOT_HEADERS, Loss, Metadata, Record, Seen

LINE_BYTES_MAX = 4 * 2**20
"""Longest line; the bound on memory when a manifest is read."""

INT_MAX = 2**53 - 1
"""Largest integer RFC 8785 can write exactly (numbers are IEEE 754 doubles there)."""

_Quote = Callable[[str], str]
_HEX = re.compile(r"[0-9a-f]{64}").fullmatch
_HEADER_NAME = re.compile(r"(?!(?:storage-class|acl)$)[a-z0-9-]+").fullmatch
_HEADERS = frozenset(HEADERS)
_GROUPS = ("headers", "user", "tags", "lock", "metadata")
_LOCKS = frozenset(f"lock.{name}" for name in LOCK)
_DECODER = json.JSONDecoder()
_BEGIN, _LOSSES, _AFTER_LOSSES = b'{"object":{', b'{"losses":[', b'],"object":{'
_SOURCE, _TARGET = b',"source":{', b',"target":{'


def encode(record: Record) -> bytes:
    """The record as one line of canonical JSON, without the line feed. Raises ManifestError if it has no such form."""
    line = _bytes(_line, record)
    if len(line) > LINE_BYTES_MAX:
        raise ManifestError(f"record of {len(line)} bytes, more than {LINE_BYTES_MAX}", key=record.key)
    return line


def decode(line: bytes) -> Record:
    """The record a line holds. Raises ManifestError for anything but exactly what `encode` writes."""
    record = decode_own(line)
    if encode(record) != line:
        raise ManifestError("not a manifest record: not in canonical form, or with unknown fields", key=record.key)
    return record


def decode_own(line: bytes) -> Record:
    """The same for a line that `encode` is known to have written, in this run: it is not written again and compared.

    Raises ManifestError for a line that is no JSON or lacks a field; nothing else is looked at.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ManifestError(f"record of {len(line)} bytes, more than {LINE_BYTES_MAX}")
    try:
        text = line.decode("utf-8")
        value: dict[str, Any]
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise ValueError("more than one JSON value")
        return _exact(value) if '{"base64":' in text else _plain(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"not a manifest record: {_short(error)}") from error


def leaf(record: Record) -> bytes:
    """RFC 6962 leaf hash (32 bytes) of what the source held: SHA-256 of 0x00 and the canonical portable part."""
    return hashlib.sha256(b"\0" + _bytes(_portable, record)).digest()


def leaf_of_line(line: bytes, record: Record) -> bytes:
    """`leaf`, taken from the line that `encode` writes of this record, which costs a fraction of writing it anew.

    Raises ManifestError where the line plainly is of another record; that it is of this one is for the caller to know.
    """
    begin = line.find(_AFTER_LOSSES) + len(_AFTER_LOSSES) - 1 if record.losses else len(_BEGIN) - 1
    end = _portable_end(line, record)
    if not line.startswith(_LOSSES if record.losses else _BEGIN) or not begin < end:
        raise ManifestError("the line is of another record", key=record.key)
    return hashlib.sha256(b"\0" + line[begin:end]).digest()


def _portable_end(line: bytes, record: Record) -> int:
    """Where the portable part of a line ends.

    Inside of text a quote has a backslash before it, and text that ends is followed by a comma, colon or bracket. So a
    quote behind a comma can only begin text, and what is looked for is the name of a member that is an object. The
    last one of that name is the record's own: behind it come only texts.
    """
    source, target = record.source, record.target
    if source.etag or source.modified or source.version:
        return line.rfind(_SOURCE)
    return len(line) - 1 if target is None else line.rfind(_TARGET)


def seen_later(line: bytes, record: Record, modified: str) -> tuple[bytes, Record]:
    """A record that has a target, and its line, with the time at which the target shows it."""
    assert record.target is not None
    target = Seen(record.target.etag, modified, record.target.version)
    told = Record(
        record.key,
        record.size,
        record.sha256,
        record.metadata,
        record.ordinal,
        record.delete_marker,
        record.source,
        target,
        record.losses,
    )
    cut = line.rfind(_TARGET)
    if cut < 0:
        raise ManifestError("the line is of another record", key=record.key)
    longer = line[:cut] + _TARGET[:-1] + _bytes(_target, told) + b"}"
    return (longer if len(longer) <= LINE_BYTES_MAX else encode(told)), told


def _target(record: Record, quote: _Quote) -> str:
    return _seen(record.target or Seen(), quote)


def target_leaf(record: Record) -> bytes | None:
    """The same for what the target holds: the portable part with the losses applied; None when the object is lost.

    A loss of one field removes it (``became`` None) or replaces it; a loss of ``headers``, ``user``, ``tags``,
    ``lock`` or ``metadata`` removes the whole group; other names are outside the portable part.
    """
    if not record.losses:
        return leaf(record)
    if any(loss.field == "object" for loss in record.losses):
        return None
    return leaf(replace(record, metadata=_after(record.metadata, record.losses)))


def at_target(record: Record) -> bool:
    """Does the record claim the object for the target tree: written, not lost, and its bytes known?"""
    if record.target is None or (record.sha256 is None and not record.delete_marker):
        return False
    return not record.losses or not any(loss.field == "object" for loss in record.losses)


_SEALED = re.compile(r"sealed:([0-9a-f]{64}):([0-9]{1,16})").fullmatch


def sealed_as(version: str) -> tuple[str, int] | None:
    """SHA-256 and size in bytes of a body as it is stored, where a target's version says that it is encrypted."""
    found = _SEALED(version)
    return (found[1], int(found[2])) if found else None


def sizes_at_target(record: Record) -> tuple[int, ...]:
    """Sizes in bytes that the body may be listed with: its own and, where it is encrypted, that of its file."""
    stored = sealed_as(record.target.version) if record.target else None
    return (record.size, stored[1]) if stored else (record.size,)


def sort_key(record: Record) -> tuple[bytes, int]:
    """Order of records in a manifest: raw key bytes, then version."""
    return record.key, record.ordinal


def key_of(value: object) -> bytes:
    """The key that `portabl.keys.to_json` wrote. Raises TypeError or ValueError for anything else, base64 included
    where plain text would do."""
    key = _unwrap(value).encode("utf-8", "surrogateescape")
    if keys.to_json(key) != value:
        raise ValueError("not the canonical form of a key")
    return key


def canonical(value: object) -> str:
    """RFC 8785 text of strings, integers, booleans, None, lists and mappings; ManifestError for anything else."""
    match value:
        case None | True | False:
            return "null" if value is None else "true" if value else "false"
        case str():
            return encode_basestring(value) if value.isascii() else _document_text(value)
        case int():
            return _integer(value, -INT_MAX)
        case list() | tuple():
            return f"[{','.join(map(canonical, value))}]"
        case Mapping():
            members = ((name, value[name]) for name in _sorted(value))
            return "{" + ",".join(f"{_name(name)}:{canonical(member)}" for name, member in members) + "}"
    raise ManifestError(f"a {type(value).__name__} cannot be written to a manifest")


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ManifestError(f"{name!r} cannot name a field of a manifest")
    return encode_basestring(name)


# --- writing -------------------------------------------------------------------------------------------------------


def _bytes(write: Callable[[Record, _Quote], str], record: Record) -> bytes:
    try:
        try:
            return write(record, encode_basestring).encode("utf-8")
        except UnicodeEncodeError:  # some text is no Unicode: slower and exact
            return write(record, _text).encode("utf-8")
    except (UnicodeEncodeError, TypeError, AttributeError) as error:
        raise ManifestError(f"not fit for a manifest: {_short(error)}", key=record.key) from error


def _line(record: Record, quote: _Quote) -> str:
    # Members in the order RFC 8785 asks for: losses, object, source, target.
    losses = f'"losses":[{",".join(_loss(loss, quote) for loss in record.losses)}],' if record.losses else ""
    source = _seen(record.source, quote)
    seen = "" if source == "{}" else f',"source":{source}'
    target = "" if record.target is None else f',"target":{_seen(record.target, quote)}'
    return f'{{{losses}"object":{_portable(record, quote)}{seen}{target}}}'


def _portable(record: Record, quote: _Quote) -> str:
    sha256, metadata = record.sha256, record.metadata
    acl = f'"acl":{quote(metadata.acl)},' if metadata.acl else ""
    marker = '"delete_marker":true,' if record.delete_marker else ""
    headers = f'"headers":{_headers(metadata.headers, quote)},' if metadata.headers else ""
    try:
        key = encode_basestring(record.key.decode("utf-8"))
    except UnicodeDecodeError:
        key = _base64(record.key)
    lock = f',"lock":{_lock(metadata.lock, quote)}' if metadata.lock else ""
    ordinal = f',"ordinal":{_integer(record.ordinal)}' if record.ordinal else ""
    if sha256 is not None and not _HEX(sha256):
        raise ManifestError("a SHA-256 is 64 lower-case hexadecimal digits", key=record.key)
    if record.delete_marker and (record.size or sha256):
        raise ManifestError("a delete marker has no bytes", key=record.key)
    digest = "" if sha256 is None else f',"sha256":"{sha256}"'
    storage = f',"storage_class":{quote(metadata.storage_class)}' if metadata.storage_class else ""
    tags = f',"tags":{_group(metadata.tags, quote)}' if metadata.tags else ""
    user = f',"user":{_group(metadata.user, quote)}' if metadata.user else ""
    size = _integer(record.size)
    return f'{{{acl}{marker}{headers}"key":{key}{lock}{ordinal}{digest},"size":{size}{storage}{tags}{user}}}'


def _headers(headers: Mapping[str, str], quote: _Quote) -> str:
    for name in headers:
        if name not in _HEADERS and not _HEADER_NAME(name):
            raise ManifestError(f"not the name of a content header: {name!r}")
    return _group(headers, quote)


def _lock(lock: Mapping[str, str], quote: _Quote) -> str:
    for name, value in lock.items():
        if name not in LOCK or not value:
            raise ManifestError(f"not a part of an object lock: {name!r}")
    return _group(lock, quote)


def _group(group: Mapping[str, str], quote: _Quote) -> str:
    """An object; or, when a name is no valid Unicode, which no object can hold, pairs in order of name bytes."""
    if quote is _text and any(_raw(name) is not None for name in group):
        pairs = sorted(group.items(), key=lambda pair: pair[0].encode("utf-8", "surrogateescape"))
        return "[" + ",".join(f"[{quote(name)},{quote(value)}]" for name, value in pairs) + "]"
    return "{" + ",".join([f"{encode_basestring(name)}:{quote(group[name])}" for name in _sorted(group)]) + "}"


def _sorted(names: Iterable[str]) -> list[str]:
    # RFC 8785, 3.2.3: by UTF-16 code units. That differs from code points only behind U+D7FF.
    try:
        ordered = sorted(names)
        if len(ordered) < 2 or "".join(ordered).isascii():
            return ordered
        return sorted(ordered, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    except TypeError as error:
        raise ManifestError("names in a manifest are text") from error


def _seen(seen: Seen, quote: _Quote) -> str:
    etag = f'"etag":{quote(seen.etag)},' if seen.etag else ""
    modified = f'"modified":{quote(seen.modified)},' if seen.modified else ""
    version = f'"version":{quote(seen.version)},' if seen.version else ""
    return f"{{{(etag + modified + version)[:-1]}}}"


def _loss(loss: Loss, quote: _Quote) -> str:
    became = "" if loss.became is None else f'"became":{quote(loss.became)},'
    value = "" if loss.value is None else f',"value":{quote(loss.value)}'
    return f'{{{became}"field":{quote(loss.field)},"reason":{quote(loss.reason)}{value}}}'


def _integer(value: int, least: int = 0) -> str:
    if type(value) is not int or not least <= value <= INT_MAX:
        raise ManifestError(f"not an integer from {least} to {INT_MAX}: {_short(value)}")
    return str(value)


def _raw(text: str) -> bytes | None:
    """The bytes behind text that is no valid Unicode, else None."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return None


def _text(text: str) -> str:
    raw = _raw(text)
    if raw is not None:
        return _base64(raw)
    return encode_basestring(text.encode("utf-8", "surrogateescape").decode("utf-8"))


def _document_text(text: str) -> str:
    try:
        return _text(text)
    except UnicodeEncodeError as error:
        raise ManifestError(f"neither Unicode nor bytes: {_short(text)}") from error


def _base64(raw: bytes) -> str:
    return f'{{"base64":"{base64.b64encode(raw).decode("ascii")}"}}'


# --- reading: only shapes are taken apart here, `decode` compares the result with the line ---------------------------


def _plain(value: dict[str, Any]) -> Record:
    """A record without base64. Types are checked when it is encoded again."""
    part, target = value["object"], value.get("target")
    metadata = Metadata(
        part.get("headers", {}),
        part.get("user", {}),
        part.get("tags", {}),
        part.get("storage_class", ""),
        part.get("acl", ""),
        part.get("lock", {}),
    )
    losses = value.get("losses")
    return Record(
        part["key"].encode("utf-8"),
        part["size"],
        part.get("sha256"),
        metadata,
        part.get("ordinal", 0),
        part.get("delete_marker", False),
        Seen(**value["source"]) if "source" in value else Seen(),
        None if target is None else Seen(**target),
        tuple([Loss(**loss) for loss in losses]) if losses else (),
    )


def _exact(value: dict[str, Any]) -> Record:
    """A record in which some text is base64: unwrap it, then as usual."""
    part = dict(value["object"])
    key = part["key"]
    part["key"] = ""
    for group in ("headers", "lock", "tags", "user"):
        if group in part:
            part[group] = _unwrap_group(part[group])
    for name in ("acl", "storage_class"):
        if name in part:
            part[name] = _unwrap(part[name])
    plain: dict[str, Any] = {**value, "object": part}
    for place in ("source", "target"):
        if place in plain:
            plain[place] = {name: _unwrap(text) for name, text in plain[place].items()}
    if "losses" in plain:
        plain["losses"] = [{name: _unwrap(text) for name, text in loss.items()} for loss in plain["losses"]]
    return replace(_plain(plain), key=_unwrap(key).encode("utf-8", "surrogateescape"))


def _unwrap(value: Any) -> str:
    if type(value) is str:
        value.encode("utf-8")  # a lone surrogate from an escape is refused, not taken for a byte
        return value
    if type(value) is not dict or list(value) != ["base64"]:
        raise TypeError('neither text nor {"base64": ...}')
    return base64.b64decode(value["base64"], validate=True).decode("utf-8", "surrogateescape")


def _unwrap_group(group: Any) -> dict[str, str]:
    pairs = group.items() if type(group) is dict else group
    return {_unwrap(name): _unwrap(text) for name, text in pairs}


def target_metadata(record: Record) -> Metadata:
    """What the target holds of the record's metadata: its losses applied."""
    return _after(record.metadata, record.losses) if record.losses else record.metadata


def _after(metadata: Metadata, losses: Iterable[Loss]) -> Metadata:
    """What is left of the metadata when the losses are applied in their order."""
    fields = metadata.fields()
    for loss in losses:
        name = loss.field
        if name in _GROUPS:
            fields = {other: text for other, text in fields.items() if name not in ("metadata", _group_of(other))}
        elif loss.became is None:
            fields.pop(name, None)
        elif name in HEADERS or name in fields or _settable(name):
            fields[name] = loss.became
    return Metadata.from_fields(fields)


def _settable(field: str) -> bool:
    return field in NOT_HEADERS or field in _LOCKS or field.startswith(("user.", "tag."))


def _group_of(field: str) -> str:
    if field in NOT_HEADERS:
        return field
    group = {"user": "user", "tag": "tags", "lock": "lock"}
    return group.get(field.partition(".")[0], "headers") if "." in field else "headers"


def _short(thing: object) -> str:
    text = ascii(thing) if not isinstance(thing, Exception) else f"{type(thing).__name__}: {str(thing)!a}"
    return text if len(text) <= 200 else f"{text[:200]}..."
