"""Keys as file names, and back: pure functions, exact in both directions.

A key is cut at its slashes into segments. A segment a filesystem can hold is its own name. Any other is spelled with a
prefix of its own, ``%~``, and a letter that says what follows:

====================  =======================================================================================
``%~=text``           a segment that cannot be a name: empty, ``.``, ``..``, with NUL, or itself such a spelling
``%~+text/%~=text``   one segment in pieces: ``+`` is a directory, the next name goes on without a slash
``%~!text``           the second of a file and a directory of one name (`a` and `a/b`), whichever came later
``%~tmp-<16 hex>``    a directory for unfinished files; the run that owns it holds a lock on it
====================  =======================================================================================

In ``text``, NUL and ``%`` are written ``%00`` and ``%25``; where a filesystem folds case, ASCII capitals and bytes over
0x7f are written in hex too. So the key ``dir/`` is the file ``dir/%~=``, and ``a//b`` is ``a/%~=/b``.

A name that starts with ``%~`` but is none of these *as portabl itself would write it* stands for itself: ``%~=abc`` is
the key ``%~=abc``, because ``abc`` needs no spelling. `understand` decides that by spelling the answer again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

PREFIX = b"%~"
NAME_MAX = 255
"""Longest name in bytes that every common filesystem holds."""

_PIECE_MIN = NAME_MAX - 2  # a piece ends at the first unit (1 or 3 bytes) that reaches this, so it never exceeds 255
_TEMPORARY = re.compile(rb"%~tmp-[0-9a-f]{16}")
_UNIT = re.compile(rb"(?s)%[0-9a-f]{2}|[^%]")
_TEXT = re.compile(rb"(?s)(?:%[0-9a-f]{2}|[^%\x00/])*")
_PLAIN = re.compile(rb"[\x00%]")
_FOLDED = re.compile(rb"[\x00%A-Z\x80-\xff]")
_CAPITAL = re.compile(rb"[A-Z\x80-\xff]")

Names = tuple[bytes, ...]


def temporary(name: bytes) -> bool:
    """Whether a directory of this name may hold unfinished files."""
    return _TEMPORARY.fullmatch(name) is not None


def natural(segment: bytes, fold: bool = False) -> Names:
    """The names one segment is stored under: nearly always itself. ``fold``: the filesystem ignores case."""
    if _holdable(segment, fold) and not reserved(segment):
        return (segment,)
    return _spell(segment, b"=", fold)


def alternative(segment: bytes, fold: bool = False) -> Names:
    """The names to use when `natural` is taken by a directory (for a file) or by a file (for a directory)."""
    return _spell(segment, b"!", fold)


def spellings(segment: bytes, fold: bool = False) -> Iterator[Names]:
    """Every way a segment may be found, best first. When two exist at once, only the first counts."""
    yield natural(segment, fold)
    yield alternative(segment, fold)
    yield from {natural(segment, not fold): 1, alternative(segment, not fold): 1}
    if _holdable(segment, False) and understand((segment,)) == segment:
        yield (segment,)  # a file named like a piece or a temporary directory is neither


def encode(key: bytes, fold: bool = False) -> Names:
    """The path of a key as a tuple of names, none empty, none longer than 255 bytes."""
    return tuple(name for segment in key.split(b"/") for name in natural(segment, fold))


def decode(path: Names) -> bytes:
    """The key of a file at ``path``; the inverse of `encode`. Raises ValueError where pieces do not add up."""
    segments: list[bytes] = []
    start = 0
    for end, name in enumerate(path, 1):
        if piece(name) and end < len(path):
            continue
        segment = understand(path[start:end])
        if segment is None:
            raise ValueError("these names are no spelling of one segment")
        segments.append(segment)
        start = end
    return b"/".join(segments)


def piece(name: bytes) -> bool:
    """Whether a directory of this name holds the continuations of its own name instead of files of its own."""
    if not name.startswith(b"%~+") or not _PIECE_MIN <= len(name) <= NAME_MAX:
        return False
    text = name[3:]
    if _unquote(text) is None:
        return False
    last = 3 if text[-3:-2] == b"%" else 1
    return len(name) - last < _PIECE_MIN


def not_itself(name: bytes) -> bool:
    """Whether a directory of this name never stands for a segment of its own."""
    return name.startswith(PREFIX) and (piece(name) or temporary(name))


def understand(names: Names) -> bytes | None:
    """The segment that one name, or a chain of pieces with its last name, stands for. None for a broken chain."""
    if len(names) == 1 and not names[0].startswith(PREFIX):
        return names[0]
    return _understand(names)


@lru_cache(4096)
def _understand(names: Names) -> bytes | None:
    texts = [_unquote(name[3:]) if name.startswith(PREFIX) else None for name in names]
    segment = b"".join(text for text in texts if text is not None)
    if None not in texts and _spelled(segment, names):
        return segment
    return names[0] if len(names) == 1 else None


def reserved(name: bytes) -> bool:
    """Whether this name, taken by itself, already means something else than itself."""
    if not name.startswith(PREFIX):
        return False
    return temporary(name) or piece(name) or understand((name,)) != name


def _spelled(segment: bytes, names: Names) -> bool:
    return any(names in (natural(segment, fold), alternative(segment, fold)) for fold in (False, True))


def _holdable(segment: bytes, fold: bool) -> bool:
    if not 0 < len(segment) <= NAME_MAX or segment in (b".", b"..") or b"\0" in segment:
        return False
    return not (fold and _CAPITAL.search(segment))


def _spell(segment: bytes, kind: bytes, fold: bool) -> Names:
    text = _quote(segment, fold)
    if len(PREFIX + kind + text) <= NAME_MAX:
        return (PREFIX + kind + text,)
    names: list[bytes] = []
    current = PREFIX + b"+"
    for unit in _UNIT.findall(text):
        current += unit
        if len(current) >= _PIECE_MIN:
            names.append(current)
            current = PREFIX + b"+"
    return (*names, PREFIX + kind + current[3:])


def _quote(segment: bytes, fold: bool) -> bytes:
    return (_FOLDED if fold else _PLAIN).sub(lambda m: b"%%%02x" % m[0][0], segment)


def _unquote(text: bytes) -> bytes | None:
    if not _TEXT.fullmatch(text):
        return None
    return re.sub(rb"%([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), text)
