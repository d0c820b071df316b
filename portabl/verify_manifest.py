#!/usr/bin/env python3
"""Check a portabl manifest without portabl: one file, Python 3.9 or newer, nothing but the standard library.

    python3 verify_manifest.py MANIFEST_DIR [--directory DIR] [--sha256sums FILE]

Written from the specification (docs/manifest.md), not from portabl's own code, so that the two can disagree.
Always: manifest.json against itself, each segment, order, totals and both roots. --directory: every current object
is a file in DIR (named as portabl names files) with this size and SHA-256. --sha256sums: FILE lists exactly the
current objects. Exit code: 0 all of it is proven; 1 differences, each named; 2 no usable manifest, or wrong usage.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import decimal
import hashlib
import json
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

FORMAT = "portabl manifest 1"
INT_MAX = 2**53 - 1
LINE_MAX = 4 * 2**20
DOCUMENT_MAX = 256 * 2**20
CHUNK = 256 * 1024
KINDS_MAX = 1000
CONTENT_HEADERS = (
    b"cache-control",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-type",
    b"expires",
    b"website-redirect-location",
)
LOCKS = (b"lock.hold", b"lock.mode", b"lock.until")


class ManifestError(Exception):
    """The manifest cannot be trusted: not one, damaged, edited, or of a newer format."""


def need(condition: object, message: str) -> None:
    """Raise ManifestError unless the condition holds."""
    if not condition:
        raise ManifestError(message)


# --- JSON: strict reading, RFC 8785 writing ------------------------------------------------------------------------


def no_number(text: str) -> Any:
    """Manifests hold integers only, none longer than 16 digits."""
    raise ValueError("number out of range: " + text[:20])


def integer(text: str) -> Any:
    """An integer literal; long ones are refused before they are converted."""
    return int(text) if len(text) <= 17 else no_number(text)


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that comes twice is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


STRICT = json.JSONDecoder(object_pairs_hook=members, parse_int=integer, parse_float=no_number, parse_constant=no_number)


def canonical(value: Any) -> str:
    """RFC 8785 text of a value made of objects, arrays, strings, integers, true, false and null."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(canonical(name) + ":" + canonical(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > INT_MAX:
        raise ValueError("integer out of range")
    return json.dumps(value, ensure_ascii=False)


def parsed(data: bytes, what: str) -> dict[str, Any]:
    """The object in these bytes, which must be its canonical form."""
    try:
        value: dict[str, Any] = STRICT.decode(data.decode("utf-8"))
        good = isinstance(value, dict) and canonical(value).encode("utf-8") == data
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{what} is not JSON: {type(error).__name__}") from None
    need(good, what + " is not in canonical form")
    return value


def raw(value: Any) -> bytes:
    """The bytes of a text: a string, or base64 of what is no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8")
    need(isinstance(value, dict) and list(value) == ["base64"] and isinstance(value["base64"], str), "no text")
    try:
        found = base64.b64decode(value["base64"], validate=True)
    except ValueError:
        raise ManifestError("broken base64") from None
    need(wrapped(found) == value, "base64 of what is plain text, or not canonical")
    return found


def wrapped(text: bytes) -> Any:
    """The inverse of raw()."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(text).decode("ascii")}


def group(value: Any) -> dict[bytes, bytes]:
    """User metadata or tags: an object, or sorted pairs when some name is no UTF-8; as a dict of bytes."""
    if isinstance(value, dict):
        found = {name.encode("utf-8"): raw(text) for name, text in value.items()}
    else:
        need(isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value), "misshapen group")
        names = [raw(name) for name, _ in value]
        need(names == sorted(set(names)), "pairs out of order")
        need(any(isinstance(wrapped(name), dict) for name in names), "pairs where an object would do")
        found = {raw(name): raw(text) for name, text in value}
    need(found, "empty group")
    return found


def grouped(found: dict[bytes, bytes]) -> Any:
    """The inverse of group()."""
    if any(isinstance(wrapped(name), dict) for name in found):
        return [[wrapped(name), wrapped(found[name])] for name in sorted(found)]
    return {name.decode("utf-8"): wrapped(text) for name, text in found.items()}


# --- records -------------------------------------------------------------------------------------------------------


class Record:
    """One checked line: key, ordinal, size, sha256 (or None), delete_marker, its two leaves, fields of its losses."""

    def __init__(self, line: bytes) -> None:
        value = parsed(line, "a record")
        need(set(value) <= {"losses", "object", "source", "target"} and "object" in value, "unknown fields in a record")
        part = value["object"]
        self.losses = [check_loss(loss) for loss in listed(value, "losses")]
        metadata = check_object(part)
        for place in ("source", "target"):
            if place in value:
                check_seen(value[place], place)
        self.key = raw(part["key"])
        self.ordinal = part.get("ordinal", 0)
        self.size = part["size"]
        self.sha256 = part.get("sha256")
        self.delete_marker = "delete_marker" in part
        self.failed = any(field == b"object" for field, _ in self.losses)
        self.leaf = leaf(part)
        proven = self.sha256 is not None or self.delete_marker
        self.target_leaf = None
        if "target" in value and proven and not self.failed:
            self.target_leaf = leaf(after(part, metadata, self.losses)) if self.losses else self.leaf


def listed(value: dict[str, Any], name: str) -> list[Any]:
    """A list that is left out when it is empty."""
    found = value.get(name)
    need(name not in value or (isinstance(found, list) and found), "misshapen " + name)
    return found or []


def check_object(part: Any) -> dict[bytes, bytes]:
    """Check the portable part; answers its metadata as bytes by flat field name."""
    known = {
        "acl",
        "delete_marker",
        "headers",
        "key",
        "lock",
        "ordinal",
        "sha256",
        "size",
        "storage_class",
        "tags",
        "user",
    }
    need(isinstance(part, dict) and {"key", "size"} <= set(part) <= known, "misshapen object")
    need(is_count(part["size"]) and is_count(part.get("ordinal", 1)) and part.get("ordinal", 1) > 0, "misshapen number")
    need("sha256" not in part or is_hash(part["sha256"]), "misshapen sha256")
    if "delete_marker" in part:
        need(part["delete_marker"] is True and part["size"] == 0 and "sha256" not in part, "misshapen delete marker")
    flat = {}
    if "headers" in part:
        need(isinstance(part["headers"], dict), "misshapen headers")
        for name in part["headers"]:
            need(re.fullmatch("[a-z0-9-]+", name) and name not in ("storage-class", "acl"), "not a header")
        flat.update(group(part["headers"]))
    if "lock" in part:
        need(isinstance(part["lock"], dict), "misshapen lock")
        locks = {b"lock." + name: text for name, text in group(part["lock"]).items()}
        need(set(locks) <= set(LOCKS) and all(locks.values()), "misshapen lock")
        flat.update(locks)
    for member, prefix in (("user", b"user."), ("tags", b"tag.")):
        if member in part:
            flat.update((prefix + name, text) for name, text in group(part[member]).items())
    for member, field in (("storage_class", b"storage-class"), ("acl", b"acl")):
        if member in part:
            flat[field] = raw(part[member])
            need(flat[field], "empty " + member)
    return flat


def check_loss(loss: Any) -> tuple[bytes, bytes | None]:
    """Check one loss; answers (field, what it became or None)."""
    good = isinstance(loss, dict) and {"field", "reason"} <= set(loss) <= {"became", "field", "reason", "value"}
    need(good, "misshapen loss")
    texts = {name: raw(text) for name, text in loss.items()}
    return texts["field"], texts.get("became")


def check_seen(seen: Any, place: str) -> None:
    """Identity of an object at one place: up to three texts, none empty."""
    good = isinstance(seen, dict) and set(seen) <= {"etag", "modified", "version"}
    need(good and all(raw(text) for text in seen.values()) and (seen or place == "target"), "misshapen " + place)


def is_count(value: object) -> bool:
    """An integer from 0 to 2**53 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INT_MAX


def is_hash(value: object) -> bool:
    """A SHA-256 in lower-case hex."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def leaf(part: dict[str, Any]) -> bytes:
    """RFC 6962 leaf hash of a portable part."""
    return hashlib.sha256(b"\0" + canonical(part).encode("utf-8")).digest()


def after(
    part: dict[str, Any], metadata: dict[bytes, bytes], losses: list[tuple[bytes, bytes | None]]
) -> dict[str, Any]:
    """The portable part with the losses applied, in their order."""
    flat = dict(metadata)
    for field, became in losses:
        if field in (b"headers", b"user", b"tags", b"lock", b"metadata"):
            flat = {name: text for name, text in flat.items() if field not in (b"metadata", member_of(name))}
        elif became is None:
            flat.pop(field, None)
        elif (
            field in CONTENT_HEADERS or field in LOCKS or field in flat or member_of(field) not in (b"headers", b"lock")
        ):
            flat[field] = became
    changed: dict[str, Any] = {
        name: part[name] for name in ("delete_marker", "key", "ordinal", "sha256", "size") if name in part
    }
    for member, cut in (("headers", 0), ("user", 5), ("tags", 4), ("lock", 5)):
        found = {name[cut:]: text for name, text in flat.items() if member_of(name) == member.encode()}
        found = {name: text for name, text in found.items() if text or member != "lock"}
        if found:
            changed[member] = grouped(found)
    for member, field in (("storage_class", b"storage-class"), ("acl", b"acl")):
        if flat.get(field):
            changed[member] = wrapped(flat[field])
    return changed


def member_of(field: bytes) -> bytes:
    """The group of the portable part a flat field name belongs to."""
    if field.startswith(b"user."):
        return b"user"
    if field.startswith(b"tag."):
        return b"tags"
    if field.startswith(b"lock."):
        return b"lock"
    return field if field in (b"storage-class", b"acl") else b"headers"


class Tree:
    """RFC 6962 Merkle tree hash over a stream of leaf hashes: the stack holds (height, root) of full subtrees."""

    def __init__(self) -> None:
        self.stack: list[tuple[int, bytes]] = []

    def add(self, hashed: bytes) -> None:
        """Append a leaf hash."""
        height = 0
        while self.stack and self.stack[-1][0] == height:
            hashed = hashlib.sha256(b"\1" + self.stack.pop()[1] + hashed).digest()
            height += 1
        self.stack.append((height, hashed))

    def root(self) -> str:
        """Root in hex."""
        if not self.stack:
            return hashlib.sha256(b"").hexdigest()
        hashed: bytes = self.stack[-1][1]
        for _, left in reversed(self.stack[:-1]):
            hashed = hashlib.sha256(b"\1" + left + hashed).digest()
        return hashed.hex()


# --- the manifest --------------------------------------------------------------------------------------------------


def load(directory: str) -> dict[str, Any]:
    """manifest.json, checked against itself."""
    path = os.path.join(directory, "manifest.json")
    try:
        with open(path, "rb") as file:
            chunks: list[bytes] = []
            for chunk in iter(lambda: file.read(2**20), b""):  # asked for all at once, Python makes room for all of it
                chunks.append(chunk)
                need(len(chunks) <= DOCUMENT_MAX // 2**20, "manifest.json is too long")
    except OSError as error:
        raise ManifestError(f"manifest.json: {error.strerror}") from None
    data = b"".join(chunks)
    need(data.endswith(b"\n"), "manifest.json is cut short")
    try:
        form = json.loads(data.decode("utf-8"), parse_int=str, parse_float=str).get("format")
    except (ValueError, RecursionError, AttributeError):
        form = None
    need(isinstance(form, str) and form.startswith("portabl manifest "), "manifest.json is no manifest of portabl")
    need(form == FORMAT, f"only {FORMAT!r} is understood here, this is {form!r}: get a newer verifier")
    document = parsed(data[:-1], "manifest.json")
    claimed = document.pop("document_sha256", None)
    actual = hashlib.sha256(canonical(document).encode("utf-8")).hexdigest()
    need(claimed == actual, "manifest.json was edited: document_sha256 does not match")
    check_document(document)
    try:
        claims(document)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise ManifestError(f"policy or labels are misshapen: {type(error).__name__}") from None
    return document


def check_document(document: dict[str, Any]) -> None:
    """Shapes of everything this verifier relies on."""
    names = {"counts", "root", "segments", "target_root"}
    need(
        names <= set(document) and is_hash(document["root"]) and is_hash(document["target_root"]), "fields are missing"
    )
    need(isinstance(document["segments"], list), "misshapen segments")
    last = b""
    for number, segment in enumerate(document["segments"]):
        fields = {"bytes", "first", "last", "name", "records", "sha256", "text_bytes"}
        need(isinstance(segment, dict) and set(segment) == fields, "misshapen segment")
        sizes = [segment["bytes"], segment["records"], segment["text_bytes"]]
        need(segment["name"] == f"segments/{number:06d}.jsonl.gz" and is_hash(segment["sha256"]), "misshapen segment")
        need(all(is_count(size) and size for size in sizes), "misshapen segment")
        need(last <= raw(segment["first"]) <= raw(segment["last"]), "segments out of order")
        last = raw(segment["last"])
    numbers = {"at_target", "bytes", "delete_markers", "failed", "objects", "unread"}
    counts = document["counts"]
    need(isinstance(counts, dict) and set(counts) == numbers | {"losses"}, "misshapen counts")
    good = isinstance(counts["losses"], dict) and all(is_count(n) for n in counts["losses"].values())
    total = counts["bytes"]  # above 2**53 - 1 it is text
    if isinstance(total, str):
        need(re.fullmatch("[1-9][0-9]{15,30}", total) and int(total) > INT_MAX, "misshapen counts")
        numbers.remove("bytes")
    need(good and all(is_count(counts[name]) for name in numbers), "misshapen counts")


def lines(directory: str, segment: dict[str, Any]) -> Iterator[bytes]:
    """Lines of a segment; its sizes and SHA-256 are proven when the iterator ends."""
    rest, size, text_size, digest, unpack = b"", 0, 0, hashlib.sha256(), zlib.decompressobj(31)
    name = segment["name"]
    with open(os.path.join(directory, name), "rb") as file:
        while True:
            packed = file.read(CHUNK)
            size += len(packed)
            digest.update(packed)
            need(size <= segment["bytes"] and not (packed and unpack.eof), name + " is longer than recorded")
            last = not packed
            while packed or last:
                text = unpack.flush() if last else unpack.decompress(packed, CHUNK)
                packed = unpack.unconsumed_tail
                text_size += len(text)
                *whole, rest = (rest + text).split(b"\n")
                need(text_size <= segment["text_bytes"] and len(rest) <= LINE_MAX, name + " unpacks to too much")
                for line in whole:
                    need(len(line) <= LINE_MAX, name + " has a line that is too long")
                    yield line
                if last:
                    break
            if last:
                break
    sizes = (size, text_size) == (segment["bytes"], segment["text_bytes"])
    intact = unpack.eof and not unpack.unused_data and not rest
    need(sizes and intact and digest.hexdigest() == segment["sha256"], name + " is cut short or was changed")


def records(directory: str, document: dict[str, Any]) -> Iterator[Record]:
    """Every record in order. Only when the iterator ends are hashes, order, totals and roots proven."""
    last, source, target = (b"", -1), Tree(), Tree()
    counts: dict[str, Any] = dict.fromkeys(("at_target", "bytes", "delete_markers", "failed", "objects", "unread"), 0)
    counts["losses"] = {}
    for segment in document["segments"]:
        found = 0
        try:
            for line in lines(directory, segment):
                record = Record(line)
                need((record.key, record.ordinal) > last, "records out of order at " + show(record.key))
                need(found or record.key == raw(segment["first"]), segment["name"] + " begins with another key")
                last = (record.key, record.ordinal)
                found += 1
                need(found <= segment["records"], segment["name"] + " has more records than recorded")
                count(counts, record)
                source.add(record.leaf)
                if record.target_leaf is not None:
                    target.add(record.target_leaf)
                yield record
        except OSError as error:
            raise ManifestError(segment["name"] + f": {error.strerror}") from None
        except zlib.error as error:
            raise ManifestError(segment["name"] + f" is damaged: {error}") from None
        good = found == segment["records"] and last[0] == raw(segment["last"])
        need(good, segment["name"] + " has other records than recorded")
    if counts["bytes"] > INT_MAX:
        counts["bytes"] = str(counts["bytes"])
    need(counts == document["counts"], "the counts are not those of the records")
    need(source.root() == document["root"], "the root is not that of the records")
    need(target.root() == document["target_root"], "the target root is not that of the records")


def count(counts: dict[str, Any], record: Record) -> None:
    """Add one record to the totals."""
    counts["delete_markers" if record.delete_marker else "objects"] += 1
    counts["bytes"] += record.size
    counts["at_target"] += record.target_leaf is not None
    counts["failed"] += record.failed
    counts["unread"] += record.sha256 is None and not record.delete_marker
    for field, _ in record.losses:
        name = {b"user": b"user.*", b"tags": b"tag.*"}.get(member_of(field), field)
        text = wrapped(name)
        if not isinstance(text, str) or (text not in counts["losses"] and len(counts["losses"]) >= KINDS_MAX):
            text = "other"
        counts["losses"][text] = counts["losses"].get(text, 0) + 1


def show(key: bytes) -> str:
    """A key on one line, quoted, with everything a terminal could obey escaped."""
    out = []
    for c in key.decode("utf-8", "surrogateescape"):
        if "\udc80" <= c <= "\udcff":
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        elif c in '"\\':
            out.append("\\" + c)
        else:
            out.append(c if c.isprintable() else f"\\u{{{ord(c):x}}}")
    return '"' + "".join(out) + '"'


# --- policy and labels ---------------------------------------------------------------------------------------------


def claims(document: dict[str, Any]) -> None:
    """Hold the members ``policy`` and ``labels`` against themselves. Their signatures need cryptography: not here."""
    if "policy" in document:
        check_policy(document["policy"])
    for entry in document.get("labels", []):
        known = {"endpoint", "evidence", "finding", "provider", "side", "token"}
        need(isinstance(entry, dict) and set(entry) == known, "misshapen label")
        check_label(entry["token"], entry["evidence"], entry["finding"])


def check_policy(policy: Any) -> None:
    """A decision says of every rule whether it held, and allows nothing else without a reason."""
    need(isinstance(policy, dict) and isinstance(policy.get("rulings"), list) and policy["rulings"], "misshapen policy")
    held = [isinstance(one, dict) and one.get("held") is True for one in policy["rulings"]]
    need(policy.get("allowed") is all(held), "the policy decision is not that of its rulings")
    override = policy.get("override")
    need(override is None or (isinstance(override, str) and override.strip()), "misshapen policy")
    need(all(held) or override, "a rule was broken, and no reason for going on is given")


def check_label(token: Any, evidence: Any, finding: Any) -> None:
    """The finding is about this token; what it calls labelled was valid then and covers the evidence by digest."""
    good = isinstance(token, str) and isinstance(finding, dict) and isinstance(evidence, list)
    pieces = [] if not good else [p for p in evidence if isinstance(p, dict) and set(p) == {"kind", "name", "text"}]
    need(good and len(pieces) == len(evidence), "misshapen label")
    need(finding.get("token_sha256") == hashlib.sha256(token.encode("utf-8")).hexdigest(), "a label of another token")
    if finding.get("labelled") is not True:
        return
    steps = finding.get("steps")
    need(isinstance(steps, list) and steps, "misshapen label")
    need(all(isinstance(s, dict) and s.get("outcome") == "passed" for s in steps), "a label with a step not passed")
    payload = claims_of(token)
    start, until, at = moment(payload.get("validFrom")), moment(payload.get("validUntil")), moment(finding.get("at"))
    need(start <= at <= until, "a label that was not valid when it was looked at")
    need(payload["credentialSubject"].get("gx:labelLevel") == finding.get("level"), "a label of another level")
    known = {digest_of(claims_of(one)) for one in covered(pieces)}
    entries = payload["credentialSubject"]["gx:compliantCredentials"]
    for entry in entries if isinstance(entries, list) else [entries]:
        named = next((entry[name] for name in ("gx:digestSRI", "cred:digestSRI", "digestSRI") if name in entry), "")
        need(sri(named) in known, "a label covers a credential that is not in the evidence")


def covered(pieces: list[dict[str, Any]]) -> Iterator[str]:
    """The credentials in the evidence, those in presentations taken out of their envelopes."""
    for piece in pieces:
        if piece["kind"] == "credential":
            yield piece["text"].strip()
        elif piece["kind"] == "presentation":
            found = claims_of(piece["text"])["verifiableCredential"]
            for member in found if isinstance(found, list) else [found]:
                yield member["id"].partition(",")[2]


def claims_of(token: str) -> dict[str, Any]:
    """The payload of a compact JWS (RFC 7515), unproven."""
    part = token.strip().split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=members)
    need(isinstance(found, dict), "a token without payload")
    return cast("dict[str, Any]", found)


def digest_of(payload: Any) -> str:
    """SHA-256, in hex, of the RFC 8785 form, numbers with fractions included."""
    return hashlib.sha256(jcs(payload).encode("utf-8")).hexdigest()


def jcs(value: Any) -> str:
    """RFC 8785 text of any JSON value."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(jcs(name) + ":" + jcs(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(jcs, value)) + "]"
    if not isinstance(value, float):
        return json.dumps(value, ensure_ascii=False)
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < 1e21:
        return re.sub(r"\.0$", "", format(decimal.Decimal(repr(value)), "f"))
    return re.sub(r"\.0(?=e)", "", re.sub(r"e([+-])0+", r"e\1", repr(value)))


def sri(text: Any) -> str:
    """The hex digits in ``sha256-...``, which come as hex or as base64."""
    value = str(text).partition("sha256-")[2]
    if re.fullmatch("[0-9a-f]{64}", value):
        return value
    return base64.b64decode(value, validate=True).hex()


def moment(text: Any) -> datetime.datetime:
    """A time of RFC 3339; Python 3.9 wants an offset in digits and six digits of a second."""
    six = re.sub(r"\.([0-9]+)", lambda digits: "." + (digits[1] + "00000")[:6], re.sub("Z$", "+00:00", str(text)))
    found = datetime.datetime.fromisoformat(six)
    need(found.tzinfo is not None, "a time without zone")
    return found


# --- files named as portabl names them -----------------------------------------------------------------------------
# A key is cut at its slashes. A segment that can be a file name is itself; any other is "%~=" (or "%~!", the second
# choice when that name is taken) and its text with NUL and "%" (and more on filesystems that fold case) as %xx;
# what is longer than 255 bytes is cut into pieces, "%~+" directories.


def quoted(segment: bytes, fold: bool) -> bytes:
    """Text of a spelled segment."""
    pattern = rb"[\x00%A-Z\x80-\xff]" if fold else rb"[\x00%]"
    return re.sub(pattern, lambda found: b"%%%02x" % found[0][0], segment)


def spelled(segment: bytes, kind: bytes, fold: bool) -> tuple[bytes, ...]:
    """Names of a segment that is spelled, with ``kind`` b"=" or b"!"."""
    text = quoted(segment, fold)
    if len(text) <= 252:
        return (b"%~" + kind + text,)
    names, piece = [], b""
    for unit in re.findall(rb"(?s)%[0-9a-f]{2}|[^%]", text):
        piece += unit
        if len(piece) >= 250:
            names.append(b"%~+" + piece)
            piece = b""
    return (*names, b"%~" + kind + piece)


def unquoted(text: bytes) -> bytes | None:
    """The inverse of quoted(), None when there is none."""
    if not re.fullmatch(rb"(?s)(?:%[0-9a-f]{2}|[^%\x00/])*", text):
        return None
    return re.sub(rb"%([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text)


def special(name: bytes) -> bool:
    """Does this name mean something else than itself?"""
    if not name.startswith(b"%~"):
        return False
    text = unquoted(name[3:])
    if re.fullmatch(rb"%~tmp-[0-9a-f]{16}", name):
        return True
    if text is None:
        return False
    if name[2:3] == b"+":
        last = 3 if name[-3:-2] == b"%" else 1
        return 253 <= len(name) <= 255 and len(name) - last < 253
    return text != name and any((name,) in own_names(text, fold) for fold in (False, True))


def own_names(segment: bytes, fold: bool) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """First and second choice of names for a segment."""
    return natural(segment, fold), spelled(segment, b"!", fold)


def natural(segment: bytes, fold: bool = False) -> tuple[bytes, ...]:
    """First choice: the segment itself wherever it can be a name."""
    good = 0 < len(segment) <= 255 and segment not in (b".", b"..") and b"\0" not in segment
    if good and not (fold and re.search(rb"[A-Z\x80-\xff]", segment)) and not special(segment):
        return (segment,)
    return spelled(segment, b"=", fold)


def encode(key: bytes, fold: bool = False) -> tuple[bytes, ...]:
    """The names, one in another, of the file that holds a key."""
    return tuple(name for segment in key.split(b"/") for name in natural(segment, fold))


def find(directory: bytes, key: bytes) -> bytes | None:
    """Path of the file that holds a key, or None. At each step the first spelling of the right kind counts."""
    *parents, base = key.split(b"/")
    path = directory
    for segment in parents:
        below = first(path, segment, stat.S_ISDIR)
        if below is None:
            return None
        path = below
    return first(path, base, lambda mode: not stat.S_ISDIR(mode))


def first(path: bytes, segment: bytes, right: Callable[[int], bool]) -> bytes | None:
    """The first spelling of a segment below ``path`` that exists and whose mode is right."""
    for fold in (False, True):
        for names in own_names(segment, fold):
            found = os.path.join(path, *names)
            try:
                mode = os.stat(found).st_mode if right is stat.S_ISDIR else os.lstat(found).st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            if right(mode):
                return found
    return None


def difference(directory: bytes, record: Record) -> str:
    """What is wrong with the file of a record, "" when its size and SHA-256 are proven."""
    try:
        path = find(directory, record.key)
        if record.delete_marker:
            return "" if path is None else "deleted at the source, but there is a file"
        if path is None:
            return "missing"
        if record.sha256 is None:
            return "the manifest has no SHA-256 for it"
        return content_difference(path, record)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def content_difference(path: bytes, record: Record) -> str:
    """Compare size, then SHA-256."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_size != record.size:
            return f"size differs: manifest {record.size}, file {status.st_size}"
        digest, size = hashlib.sha256(), 0
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
            size += len(chunk)
        if (size, digest.hexdigest()) != (record.size, record.sha256):
            return f"SHA-256 differs: manifest {record.sha256}, file {digest.hexdigest()}"
    return ""


# --- what is compared with the manifest ----------------------------------------------------------------------------


class Directory:
    """A local directory that should hold every current object."""

    def __init__(self, path: str) -> None:
        self.path = os.fsencode(path)
        need(os.path.isdir(self.path), "no directory: " + show(self.path))

    def check(self, record: Record, tell: Callable[[str], None]) -> None:
        """Tell what differs for the current version of a key."""
        wrong = difference(self.path, record)
        if wrong:
            tell(f"{show(record.key)}: {wrong}")

    def older(self, record: Record, tell: Callable[[str], None]) -> None:
        """A directory holds one version of each key."""
        tell(f"{show(record.key)}: version {record.ordinal} is an older one, no directory can hold it")

    def finish(self, tell: Callable[[str], None]) -> None:
        """Nothing is left to do."""


class Sums:
    """A SHA256SUMS file that should have exactly one line for each current object, in order."""

    def __init__(self, path: str) -> None:
        try:
            self.file = open(path, "rb")  # noqa: SIM115 - closed by finish
        except OSError as error:
            raise ManifestError(f"{show(os.fsencode(path))}: {error.strerror}") from None

    def check(self, record: Record, tell: Callable[[str], None]) -> None:
        """Compare the next line."""
        if record.delete_marker:
            return
        if record.sha256 is None or re.search(rb"(?:^|/)\.{0,2}(?:/|$)|\0", record.key):
            tell(f"{show(record.key)}: a SHA256SUMS file cannot name it")
            return
        escapes = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
        name = re.sub(rb"[\\\n\r]", lambda found: escapes[found[0]], record.key)
        line = (b"\\" if name != record.key else b"") + record.sha256.encode() + b"  " + name + b"\n"
        found = self.file.readline(LINE_MAX)
        if found != line:
            tell(f"{show(record.key)}: the list has {show(found[:300])}")

    def older(self, record: Record, tell: Callable[[str], None]) -> None:
        """The list is of current objects; nothing to compare."""

    def finish(self, tell: Callable[[str], None]) -> None:
        """Nothing may follow."""
        if self.file.read(1):
            tell("the list goes on after the last object")
        self.file.close()


def verify(
    manifest: str, directory: str | None = None, sums: str | None = None, tell: Callable[[str], None] | None = None
) -> tuple[dict[str, Any], int]:
    """Check everything; ``tell`` is called with each difference. Answers (document, number of differences).

    Raises ManifestError, and OSError for nothing that concerns the manifest.
    """
    found = [0]

    def difference_found(text: str) -> None:
        found[0] += 1
        if tell is not None:
            tell(text)

    document = load(manifest)
    checks = ([Directory(directory)] if directory is not None else []) + ([Sums(sums)] if sums is not None else [])
    before = None
    for record in records(manifest, document):
        if before is not None:
            for check in checks:
                (check.older if before.key == record.key else check.check)(before, difference_found)
        before = record
    for check in checks:
        if before is not None:
            check.check(before, difference_found)
        check.finish(difference_found)
    if document["root"] != document["target_root"]:
        counts = document["counts"]
        arrived, total = counts["at_target"], counts["objects"] + counts["delete_markers"]
        losses = sum(counts["losses"].values())
        difference_found(f"source and target root differ: {arrived} of {total} arrived, {losses} losses are recorded")
    if document.get("complete", True) is not True:
        difference_found("the manifest says that the run was not complete")
    return document, found[0]


def main(arguments: list[str] | None = None) -> int:
    """The command line; answers the exit code."""
    parser = argparse.ArgumentParser(description="Check a portabl manifest with nothing but Python.")
    parser.add_argument("manifest", metavar="MANIFEST_DIR", help="directory that holds manifest.json")
    parser.add_argument("--directory", metavar="DIR", help="local directory that should hold every object")
    parser.add_argument("--sha256sums", metavar="FILE", help="SHA256SUMS file that should list every object")
    options = parser.parse_args(arguments)
    out = cast(TextIO, sys.stdout)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def tell(text: str) -> None:
        out.write(f"differs: {text}\n")

    try:
        document, found = verify(options.manifest, options.directory, options.sha256sums, tell)
    except (ManifestError, OSError) as error:
        sys.stderr.write(f"not proven: {ascii(str(error))[1:-1]}\n")
        return 2
    counts = document["counts"]
    out.write(f"objects      {counts['objects']}, {counts['bytes']} bytes\n")
    out.write(f"source root  {document['root']}\ntarget root  {document['target_root']}\n")
    if "policy" in document:
        override = document["policy"].get("override", "")
        kept = document["policy"]["allowed"]
        out.write("policy       " + ("kept" if kept else f"OVERRIDDEN: {ascii(override)[1:-1]}") + "\n")
    out.write(f"NOT proven: {found} differences\n" if found else "proven\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
