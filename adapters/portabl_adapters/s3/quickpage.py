"""A page of a listing taken apart by regular expressions, where it is as plain as servers write it.

A parser that builds a tree of a page costs more than all else about listing it. So the run of ``<Contents>`` elements
is cut out, and what is left is read by the parser in `replies`, as ever. The first element of the run says which fields
every one has, and in which order; a run that is not exactly that, to the last byte, is read by the parser as well. What
is accepted here means the same there: printable ASCII, no attributes, no references but the quotes of an ETag, no field
twice, nothing nested but an owner's fields.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from portabl.model import Entry

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_TEXT = rb"[ !-%'-;=?-~]*"
"""Printable ASCII without ``&``, ``<`` and ``>``."""
_UNQUOTED = rb"[ !#-%'-;=?-~]*"
_HEAD = re.compile(
    rb'\s*(?:<\?xml [ -;=?-~]*\?>)?\s*<ListBucketResult(?: xmlns="[^"<>&]*")?>'
    rb"(?:\s*<([A-Za-z]+)>" + _TEXT + rb"</\1>|\s*<[A-Za-z]+ ?/>)*\s*"
)
_FIELD = re.compile(rb"<([A-Za-z0-9]+)>([^<>]*)</\1>")
_OWNER = re.compile(rb"</?Owner>")
_QUOTED = re.compile(rb"(&quot;|&#34;|\"|)" + _UNQUOTED + rb"\1")
_PLAIN = bytes([10, *range(32, 127)])
_SIZE_DIGITS_MAX = 18


def cut(page: bytes) -> tuple[bytes, bytes] | None:
    """(the page without its ``<Contents>``, all of these), None when they do not follow each other at the top."""
    begin, end = page.find(_OPEN), page.rfind(_CLOSE) + len(_CLOSE)
    if begin < 0 or end < begin or page.translate(None, _PLAIN) or not _HEAD.fullmatch(page, 0, begin):
        return None
    return page[:begin] + page[end:], page[begin:end]


def entries(run: bytes) -> list[Entry] | None:
    """The entries of a run of ``<Contents>`` with percent-encoded keys; None when it is not all of one plain kind."""
    end = run.find(_CLOSE)
    kind = _kind(_shape(run[len(_OPEN) : end])) if end > 0 else None
    if kind is None:
        return None
    pattern, (key, size, etag, modified, storage_class), marks = kind
    found = pattern.findall(str(run, "ascii"))
    if [run.count(mark) for mark in (b"<", b">", b"&", b"\n")] != [len(found) * count for count in marks]:
        return None
    if any(len(values[size]) > _SIZE_DIGITS_MAX or not values[size].isdigit() for values in found):
        return None
    return [
        Entry(
            unquote_to_bytes(values[key].replace("+", " ")),
            int(values[size]),
            values[etag],
            values[modified],
            "",
            values[storage_class],
        )
        for values in found
    ]


def _shape(element: bytes) -> tuple[bytes, ...] | None:
    """The tags of an element in order, ETag with its kind of quote; None when it is not plain."""
    tags: list[bytes] = []
    at = 0
    while at < len(element):
        if field := _FIELD.match(element, at):
            quoted = _QUOTED.fullmatch(field[2]) if field[1] == b"ETag" else None
            tags.append(b"ETag " + quoted[1] if quoted else field[1])
        elif field := _OWNER.match(element, at):
            tags.append(field[0])
        else:
            return None
        at = field.end()
    return tuple(tags)


_Kind = tuple[re.Pattern[str], tuple[int, int, int, int, int], tuple[int, int, int, int]]


@lru_cache(maxsize=16)
def _kind(shape: tuple[bytes, ...] | None) -> _Kind | None:
    """Pattern of one element; groups of key, size, ETag, time and class; how often it holds ``<``, ``>``, ``&``, LF."""
    if shape is None:
        return None
    groups: dict[bytes, int] = {}
    pattern, inside = _OPEN, False
    for tag in shape:
        name, _, quote = tag.partition(b" ")
        if tag in (b"<Owner>", b"</Owner>"):
            if inside is (tag == b"<Owner>"):
                return None
            inside, pattern = not inside, pattern + tag
        elif inside:
            pattern += b"<%b>%b</%b>" % (name, _TEXT, name)
        elif name in groups:
            return None
        else:
            groups[name] = len(groups)
            text = quote + b"(" + _UNQUOTED + b")" + quote if name == b"ETag" else b"(" + _TEXT + b")"
            pattern += b"<%b>%b</%b>" % (name, text, name)
    if inside or b"Key" not in groups or b"Size" not in groups:
        return None
    pattern += _CLOSE + b"()"
    none = len(groups)  # this last group, always there and always empty
    etag, modified, storage_class = (groups.get(name, none) for name in (b"ETag", b"LastModified", b"StorageClass"))
    order = (groups[b"Key"], groups[b"Size"], etag, modified, storage_class)
    return re.compile(str(pattern, "ascii")), order, (pattern.count(b"<"), pattern.count(b">"), pattern.count(b"&"), 0)
