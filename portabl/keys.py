"""Keys: exact bytes, shown safely, and sorted into classes by what careless stores do to them."""

from __future__ import annotations

import base64
import re
import unicodedata
from functools import lru_cache

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def show(key: bytes | None) -> str:
    """A key on one line for people: quoted, with everything a terminal could obey or hide escaped."""
    if key is None:
        return ""
    text = key.decode("utf-8", "surrogateescape")
    return '"' + "".join(_escape(c) for c in text) + '"'


def plain(text: str) -> str:
    """Text from outside on one line for people, unquoted: what a terminal could obey or hide is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    if c == '"':
        return '\\"'
    if c == "\\":
        return "\\\\"
    if c.isprintable() and unicodedata.category(c) not in _UNPRINTABLE:
        return c
    if "\udc80" <= c <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{{{ord(c):x}}}"


def to_json(key: bytes) -> str | dict[str, str]:
    """The exact key for JSON: a string when it is valid UTF-8, else ``{"base64": ...}``."""
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(key).decode("ascii")}


def from_json(value: object) -> bytes:
    """The inverse of `to_json`. Raises ValueError for anything else."""
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, dict) and list(value) == ["base64"]:
        return base64.b64decode(value["base64"], validate=True)
    raise ValueError("not a key")


_ORDINARY = re.compile(rb"(?!.*(?:^|/|\.)(?:/|$))[a-z0-9_.\-/]{1,240}")
_ODD = re.compile(rb"[^\w\-./\x80-\xff]")
_CLASSES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("empty segment", re.compile(rb"^/|//")),
    ("trailing slash", re.compile(rb"/$|^$")),
    ("dot segment", re.compile(rb"(?:^|/)\.{1,2}(?:/|$)")),
    ("backslash", re.compile(rb"\\")),
    ("C1 control character", re.compile(rb"\xc2[\x80-\x9f]")),
    ("trailing dot or space", re.compile(rb"[. ](?:/|$)")),
    ("leading space", re.compile(rb"(?:^|/) ")),
    ("segment over 255 bytes", re.compile(rb"[^/]{256}")),
    ("over 1000 bytes", re.compile(rb"(?s).{1001}")),
    ("upper case", re.compile(rb"[A-Z]")),
)


@lru_cache(maxsize=1024)  # a key is asked for several times while it is under way
def classes(key: bytes) -> frozenset[str]:
    """Names of the hazards in a key; empty for a key every store keeps."""
    if _ORDINARY.fullmatch(key):
        return frozenset()
    found = {name for name, pattern in _CLASSES if pattern.search(key)}
    found |= {f"character {chr(odd[0])!r}" for odd in _ODD.findall(key)}
    if not key.isascii():
        found |= _unicode_classes(key)
    return frozenset(found)


def _unicode_classes(key: bytes) -> set[str]:
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        return {"not UTF-8"}
    found = {"non-ASCII"}
    if unicodedata.normalize("NFC", text) != text:
        found.add("not NFC")
    if unicodedata.normalize("NFD", text) != text:
        found.add("not NFD")
    if unicodedata.normalize("NFKC", text) not in (text, unicodedata.normalize("NFC", text)):
        found.add("compatibility form")
    if re.search("[\uffff\ufffe\u2028\u2029\ufeff]|[^\u0000-\uffff]", text):
        found.add("rare code point")
    if text.lower() != text:
        found.add("upper case")
    return found


def aliases(key: bytes) -> frozenset[bytes]:
    """Other names a careless store may keep this key under: slashes cleaned, dots resolved, case or Unicode folded."""
    found = {re.sub(rb"/+", b"/", key), key.strip(b"/"), key.replace(b"\\", b"/"), key.rstrip(b". "), key.strip()}
    cleaned = re.sub(rb"/+", b"/", key.replace(b"\\", b"/"))
    found |= {cleaned.strip(b"/"), _without_dots(cleaned)}
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text:
        variants = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC")}
        found |= {v.encode("utf-8") for v in variants | {text.lower(), text.upper(), text.swapcase()}}
    return frozenset(found - {key, b""})


def _without_dots(key: bytes) -> bytes:
    out: list[bytes] = []
    for segment in key.split(b"/"):
        if segment == b"..":
            del out[-1:]
        elif segment not in (b".", b""):
            out.append(segment)
    return b"/".join(out)
