"""Names of payload files in a package: relative paths that every filesystem, store and tool takes as they are.

A key is cut at its slashes. A segment that is harmless everywhere is its own name; in any other, each byte that could
harm is written ``!xx`` (two lower-case hex digits). Four further spellings begin with ``!`` too:

============  ====================================================================================================
``!-``        an empty segment: ``a//b`` is ``a/!-/b``, and the key ``dir/`` is the file ``dir/!-``
``name!+/``   a directory whose plain name is a file's, as with the keys ``a`` and ``a/b``
``name!~/``   a segment too long for one name goes on in the next, without a slash
============  ====================================================================================================

So names hold no ``%`` (which BagIt tools disagree about), no control characters, nothing Windows or a shell treats
specially, no dot segments, and are in Unicode form NFC. `decode` needs no table of characters: it is exact whatever
Unicode version wrote the name.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import OrderedDict
from functools import lru_cache

NAME_MAX = 240
"""Bytes of the longest name: below every common limit, with room for what tools append while they copy."""

SHADOWED_MAX = 500_000
"""Directories remembered because a file has their name: far more than can be under way between listing and writing."""

_HARMLESS = re.compile(r"[A-Za-z0-9 ._+,=@()\[\]{}#&^;'~-]*").fullmatch
_HARMFUL = re.compile(r"[\x00-\x1f!\"$%*/:<>?\\|`\x7f]")
_DEVICE = re.compile(rb"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)").match
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_MISTAKEN = re.compile("[\u201b\u2400-\u2426\uff01-\uff5e]").match
"""Characters that rclone and other tools write in place of harmful ones, and take for those when they read them."""
_UNIT = re.compile(rb"(?s)![0-9a-f]{2}|[\xc2-\xf4][\x80-\xbf]+|.")
_ESCAPE = re.compile(rb"!([0-9a-f]{2})")
_EMPTY, _SHADOWED, _CONTINUED = b"!-", b"!+", b"!~"


class Names:
    """Names of keys, where files and directories of one name are kept apart. Safe to use from many threads."""

    def __init__(self) -> None:
        self._files: list[bytes] = []
        self._learned: set[bytes] = set()
        self._shadowed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def see(self, key: bytes) -> None:
        """Hear of every key, in byte order, before its name is asked for."""
        with self._lock:
            while self._files and not key.startswith(self._files[-1]):
                self._files.pop()
            for file in self._files:
                if key[len(file) : len(file) + 1] == b"/" and file not in self._shadowed:
                    self._shadowed[file] = None
                    if len(self._shadowed) > SHADOWED_MAX:
                        self._shadowed.popitem(last=False)
            if not self._files or self._files[-1] != key:
                self._files.append(key)

    def learn(self, path: bytes) -> bytes:
        """The key of a name that was found, remembering how its directories are spelled. Raises ValueError."""
        start = 0
        while (end := path.find(_SHADOWED + b"/", start)) >= 0:
            self._learned.add(decode(path[:end]))
            start = end + 1
        return decode(path)

    def canonical(self, path: bytes) -> bool:
        """Whether a path can be a name: the test that a file belongs into a payload."""
        return canonical(path)

    def of(self, key: bytes) -> bytes:
        """The relative path of a key that was seen (or whose name was learned)."""
        *parents, base = key.split(b"/")
        names: list[bytes] = []
        end = -1
        for parent in parents:
            end += 1 + len(parent)
            shadowed = key[:end] in self._shadowed or key[:end] in self._learned
            names += _spelled(parent, _SHADOWED if shadowed else b"")
        return b"/".join([*names, *_spelled(base, b"")])


def decode(path: bytes) -> bytes:
    """The key of a name, exact for every name that `Names` makes. Raises ValueError for names it never makes."""
    parts = path.split(b"/")
    key = b""
    for number, name in enumerate(parts):
        last = number == len(parts) - 1
        if name.endswith(_CONTINUED) and not last:
            key += _unquoted(name.removesuffix(_CONTINUED))
            continue
        plain = name if last else name.removesuffix(_SHADOWED)
        key += b"" if plain == _EMPTY else _unquoted(plain)
        key += b"" if last else b"/"
    return key


def canonical(path: bytes) -> bool:
    """Whether `Names` could make this path."""
    try:
        key = decode(path)
    except ValueError:
        return False
    if not key.isascii():  # how it would be written depends on the Unicode version of whoever wrote it
        return True
    plain = b"/".join(b"/".join(_spelled(segment, b"")) for segment in key.split(b"/"))
    return path.replace(_SHADOWED + b"/", b"/") == plain


def _unquoted(text: bytes) -> bytes:
    if not text or _ESCAPE.sub(b"", text).count(b"!"):
        raise ValueError("not a name of a package's payload")
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), text)


@lru_cache(8192)
def _spelled(segment: bytes, suffix: bytes) -> tuple[bytes, ...]:
    """The names one segment is stored under, nearly always one."""
    text = _quoted(segment) if segment else _EMPTY
    if len(text) <= NAME_MAX - 2:  # with and without a suffix alike
        return (text + suffix,)
    names: list[bytes] = []
    current = b""
    for unit in _UNIT.findall(text):
        if len(current) + len(unit) > NAME_MAX - 2:
            names.append(current + _CONTINUED)
            current = b""
        current += unit
    return (*names, current + suffix)


def _quoted(segment: bytes) -> bytes:
    out = _in_characters(segment)
    if out is None:
        out = b"".join(_unit(bytes([byte])) if byte < 0x80 else b"!%02x" % byte for byte in segment)
    if _DEVICE(segment):
        out = b"!%02x" % segment[0] + out[1:]
    return _whole(out)


def _in_characters(segment: bytes) -> bytes | None:
    """The text of a segment that is Unicode in form NFC, and stays that with some characters written in hex."""
    try:
        text = segment.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _HARMLESS(text):
        return segment
    out = b"".join(map(_quoted_character, text))
    stays = text.isascii() or unicodedata.is_normalized("NFC", out.decode("utf-8"))
    return out if stays and unicodedata.is_normalized("NFC", text) else None


def _quoted_character(character: str) -> bytes:
    if character.isascii():
        return _unit(character.encode("ascii"))
    raw = character.encode("utf-8")
    harmful = unicodedata.category(character) in _UNSAFE_CATEGORIES or _MISTAKEN(character)
    return b"".join(b"!%02x" % byte for byte in raw) if harmful else raw


def _unit(one: bytes) -> bytes:
    return b"!%02x" % one[0] if _HARMFUL.match(one.decode("ascii")) else one


def _whole(text: bytes) -> bytes:
    """No blank at either end and no dot at the end: tools strip them, and dot segments have no other dots."""
    if text[:1] == b" ":
        text = b"!20" + text[1:]
    if text[-1:] in (b" ", b"."):
        text = text[:-1] + b"!%02x" % text[-1]
    return text
