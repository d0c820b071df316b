"""What an object asks of a place: the names of the facts (see `portabl.capability`) that its key and its fields need.

Each feature has samples in `KEYS` or `FIELDS`, which the probe writes to find out the fact of the same name; so what is
measured and what is asked for cannot drift apart (a test holds both against each other). Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from portabl.model import Metadata

FOLDER = "key: trailing slash without a body"
FOLDER_WITH_BODY = "key: trailing slash with a body"
BESIDE = "key: object beside its folder"
ABOVE = "key: object above another"

_ODD = re.compile(rb"[^\w\-./\x80-\xff]")
_PATTERNS: tuple[tuple[str, re.Pattern[bytes], tuple[bytes, ...]], ...] = (
    ("empty segment", re.compile(rb"^/|//"), (b"a//b", b"p//q//r", b"end//", b"//two")),
    (
        "dot segment",
        re.compile(rb"(?:^|/)\.{1,2}(?:/|$)"),
        (b"./x", b"../x", b"a/./b", b"a/../b", b".", b"..", b"x/.", b"x/.."),
    ),
    ("trailing dot", re.compile(rb"[^./]\.+(?:/|$)"), (b"trail.", b"d./f")),
    ("trailing space", re.compile(rb" (?:/|$)"), (b"trail ", b"d /f")),
    ("leading space", re.compile(rb"(?:^|/) "), (b" lead", b"d/ f")),
    ("C1 control character", re.compile(rb"\xc2[\x80-\x9f]"), (b"nel\xc2\x85x",)),
    ("percent escape", re.compile(rb"%[0-9A-Fa-f]{2}"), (b"pct%2Fenc", b"%0A", b"%25zz")),
    ("query in a name", re.compile(rb"\?.*="), (b"q?versionId=abc",)),
    ("XML entity", re.compile(rb"&#?\w+;"), (b"&amp;x",)),
    ("upper case", re.compile(rb"[A-Z]"), (b"A", b"aB")),
    ("many segments", re.compile(rb"(?:/[^/]*){100}"), (b"d/" * 300 + b"deep",)),
)


def character(code: int) -> str:
    """The fact about one ASCII character in keys."""
    return f"key: character {chr(code)!r}" if 0x20 <= code < 0x7F else f"key: character U+{code:04X}"


CHARACTERS: Mapping[str, bytes] = MappingProxyType(
    {character(code): b"a%cb" % code for code in range(1, 0x80) if _ODD.match(bytes([code]))}
)
"""Every ASCII character that is no letter, digit or one of ``_-./``, in a key of its own."""

_UNICODE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("non-ASCII", ("\u00e9", "\u6771\u4eac", "full\uff0fwidth", "a\u240ab")),
    ("not NFC", ("cafe\u0301",)),
    ("compatibility form", ("\ufb01x", "\uff0f")),
    ("beyond the BMP", ("\N{GRINNING FACE}",)),
    ("format character", ("\u202edesrever", "\u200bx")),
    ("line separator", ("a\u2028b",)),
    ("noncharacter", ("\uffff", "\ufffe")),
)
KEYS: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {f"key: {name}": samples for name, _, samples in _PATTERNS}
    | {name: (sample,) for name, sample in CHARACTERS.items()}
    | {f"key: {name}": tuple(text.encode() for text in texts) for name, texts in _UNICODE}
    | {"key: not UTF-8": (b"\xff\xfe", b"lone\xed\xa0\x80"), FOLDER_WITH_BODY: (b"trail/",), FOLDER: (b"dir/",)}
)
"""Keys to try for every feature of a key. All are written with a body, but those of `FOLDER`."""

PAIRS: Mapping[str, tuple[bytes, bytes]] = MappingProxyType(
    {BESIDE: (b"x", b"x/"), ABOVE: (b"node", b"node/child")}
    | {"key: upper and lower case": (b"Case", b"case"), "key: NFC and NFD": ("é".encode(), "e\u0301".encode())}
)
"""Two keys that must not become one. The second of the first two is an empty object resp. one with a body."""


def key_features(key: bytes, size: int) -> list[str]:
    """Names of the facts that decide about a key; empty for a key that every store keeps. ``key``: the whole key."""
    found = [f"key: {name}" for name, pattern, _ in _PATTERNS if pattern.search(key)]
    found += sorted({character(odd[0]) for odd in _ODD.findall(key)})
    if key.endswith(b"/"):
        found.append(FOLDER_WITH_BODY if size else FOLDER)
    if not key.isascii():
        found += _unicode_features(key)
    return found


def _unicode_features(key: bytes) -> list[str]:
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        return ["key: not UTF-8"]
    found = ["key: non-ASCII"]
    nfc = unicodedata.normalize("NFC", text)
    if nfc != text:
        found.append("key: not NFC")
    if unicodedata.normalize("NFKC", text) not in (text, nfc):
        found.append("key: compatibility form")
    if max(text) > "\uffff":
        found.append("key: beyond the BMP")
    kinds = {unicodedata.category(c) for c in text}
    found += ["key: format character"] if "Cf" in kinds else []
    found += ["key: line separator"] if kinds & {"Zl", "Zp"} else []
    found += ["key: noncharacter"] if re.search("[\ufffe\uffff]", text) else []
    return found


def _user(**fields: str) -> Metadata:
    return Metadata(user={name.replace("__", "."): value for name, value in fields.items()})


_WORD = re.compile(r"=\?[^?]*\?[bqBQ]\?[^?]*\?=")
_TAG_SIGN = re.compile(r"[ +\-=._:/@]")

FIELDS: Mapping[str, Metadata] = MappingProxyType(
    {
        "header: cache-control": Metadata({"cache-control": "public, max-age=31536000"}),
        "header: content-disposition": Metadata({"content-disposition": 'attachment; filename="a \\"b\\", c.html"'}),
        "header: content-encoding": Metadata({"content-encoding": "gzip"}),
        "header: content-language": Metadata({"content-language": "de-DE, en"}),
        "header: content-type": Metadata({"content-type": "text/html; charset=utf-8"}),
        "header: expires": Metadata({"expires": "Wed, 21 Oct 2099 07:28:00 GMT"}),
        "header: expires that is no date": Metadata({"expires": "0"}),
        "header: website-redirect-location": Metadata({"website-redirect-location": "/new/place"}),
        "header: non-ASCII value": Metadata({"content-disposition": "inline; filename=Zoë"}),
        "user: plain": _user(colour="blue"),
        "user: empty value": _user(none=""),
        "user: non-ASCII value": _user(name="Zoë 東京"),
        "user: underscore in a name": _user(under_score="1"),
        "user: dot in a name": _user(dot__ted="2"),
        "user: digit first in a name": Metadata(user={"9": "3"}),
        "user: hyphen last in a name": Metadata(user={"many-dashes-": "4"}),
        "user: punctuation in a value": _user(p='a=b, c; d "quoted", 100% %20 <g>'),
        "user: encoded word in a value": _user(w="=?UTF-8?B?w6k=?="),
        "tags: plain": Metadata(tags={"team": "blue"}),
        "tags: signs": Metadata(tags={"cost": "a+b=c", "e/f": "a b", "g": "-._:@"}),
        "tags: empty value": Metadata(tags={"none": ""}),
        "tags: non-ASCII": Metadata(tags={"ort": "Köln"}),
    }
)
"""Metadata to try for every feature of a field."""

STORAGE_CLASSES = (
    *("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
    *("GLACIER", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY"),
)


def field_features(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """(field, fact that decides about it) for everything an object carries besides its bytes."""
    for name, value in metadata.headers.items():
        odd = name == "expires" and not _is_date(value)
        yield name, f"header: {name}{' that is no date' if odd else ''}"
        if not value.isascii():
            yield name, "header: non-ASCII value"
    for name, value in metadata.user.items():
        yield from ((f"user.{name}", f"user: {feature}") for feature in _user_features(name, value))
    for name, value in metadata.tags.items():
        yield from ((f"tag.{name}", f"tags: {feature}") for feature in _tag_features(name, value))
    if metadata.storage_class not in ("", "STANDARD"):
        yield "storage-class", f"storage class: {metadata.storage_class}"


def _user_features(name: str, value: str) -> Iterator[str]:
    yield "plain"
    if not value:
        yield "empty value"
    if not value.isascii():
        yield "non-ASCII value"
    if _WORD.search(value):
        yield "encoded word in a value"
    elif re.search(r"""["%<>,;=]""", value):
        yield "punctuation in a value"
    if "_" in name:
        yield "underscore in a name"
    if "." in name:
        yield "dot in a name"
    if name[:1].isdigit():
        yield "digit first in a name"
    if name.endswith("-"):
        yield "hyphen last in a name"


def _tag_features(name: str, value: str) -> Iterator[str]:
    yield "plain"
    if not value:
        yield "empty value"
    if not (name + value).isascii():
        yield "non-ASCII"
    if _TAG_SIGN.search(name + value):
        yield "signs"


def _is_date(value: str) -> bool:
    from email.utils import parsedate_to_datetime  # slow to load, seldom needed

    try:
        parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return False
    return True
