"""A table of a TOML text added, changed or removed, with every comment staying where it was.

tomlkit keeps a text as it is but puts what is new behind the comments that introduce the next table; so new lines are
placed here, and the result is taken only if it says exactly what was wanted. Otherwise tomlkit's own version is.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

_HEADER = re.compile(r"\s*\[")


def add_table(text: str, family: str, name: str, values: Mapping[str, Any]) -> str:
    """The text with a new table ``[family.name]`` at its end."""
    wanted = _parsed(text)
    wanted.setdefault(family, {})[name] = dict(values)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return _right(
        wanted, lambda: text + gap + _rendered(family, name, values), lambda: _edited(text, _set, family, name, values)
    )


def change_table(text: str, family: str, name: str, values: Mapping[str, Any], unset: tuple[str, ...] = ()) -> str:
    """The text with fields of ``[family.name]`` set and unset. Tables in it are merged. Raises KeyError."""
    wanted = _parsed(text)
    table = wanted[family][name]
    for field in unset:
        del table[field]
    merged = {field: _merged(table.get(field), value) for field, value in values.items()}
    table.update(merged)
    new = {field: value for field, value in merged.items() if field not in _parsed(text)[family][name]}
    old = {field: value for field, value in merged.items() if field not in new}

    def placed() -> str:
        return _inserted(_edited(text, _change, family, name, old, unset), family, name, new)

    return _right(wanted, placed, lambda: _edited(text, _change, family, name, merged, unset))


def remove_table(text: str, family: str, name: str) -> str:
    """The text without ``[family.name]``. Comments behind its last field stay. Raises KeyError."""
    wanted = _parsed(text)
    del wanted[family][name]
    return _right(wanted, lambda: _cut(text, family, name), lambda: _edited(text, _remove, family, name))


def _parsed(text: str) -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(text))


def _merged(old: object, new: object) -> object:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def _right(wanted: dict[str, Any], *ways: Callable[[], str]) -> str:
    """The first text that says what is wanted; an empty table of tables says nothing."""
    for way in ways:
        try:
            text = way()
            found = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, ValueError, KeyError):
            continue
        if {key: value for key, value in found.items() if value} == {
            key: value for key, value in wanted.items() if value
        }:
            return text
    raise ValueError("the text cannot be changed")


def _edited(text: str, change: Callable[..., None], family: str, name: str, *arguments: Any) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    if family not in document:
        document[family] = tomlkit.table(is_super_table=True)
    change(document[family], name, *arguments)
    changed: str = document.as_string()
    return changed


def _set(tables: Any, name: str, values: Mapping[str, Any]) -> None:
    tables[name] = dict(values)


def _change(tables: Any, name: str, values: Mapping[str, Any], unset: tuple[str, ...]) -> None:
    for field in unset:
        del tables[name][field]
    for field, value in values.items():
        if isinstance(value, dict) and field in tables[name]:
            tables[name][field].update(value)
        else:
            tables[name][field] = value


def _remove(tables: Any, name: str) -> None:
    del tables[name]


def _rendered(family: str, name: str, values: Mapping[str, Any]) -> str:
    import tomlkit

    if not values:
        return f"[{family}.{tomlkit.key(name).as_string()}]\n"
    text: str = tomlkit.dumps({family: {name: dict(values)}})
    return text


def _inserted(text: str, family: str, name: str, values: Mapping[str, Any]) -> str:
    """New fields behind the last one of the table, before the comments that follow it."""
    import tomlkit

    if not values:
        return text
    lines = text.splitlines(keepends=True)
    start, end = _span(lines, family, name, whole=False)
    last = _before_comments(lines, start, end)
    ending = "\r\n" if lines[start].endswith("\r\n") else "\n"
    fields = [f"{tomlkit.key(field).as_string()} = {_item(value)}{ending}" for field, value in values.items()]
    if not lines[last - 1].endswith("\n"):
        lines[last - 1] += ending
    return "".join([*lines[:last], *fields, *lines[last:]])


def _item(value: Any) -> str:
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        inline: str = table.as_string()
        return inline
    text: str = tomlkit.item(value).as_string()
    return text


def _cut(text: str, family: str, name: str) -> str:
    lines = text.splitlines(keepends=True)
    start, end = _span(lines, family, name, whole=True)
    return "".join([*lines[:start], *lines[_before_comments(lines, start, end) : end], *lines[end:]])


def _span(lines: list[str], family: str, name: str, *, whole: bool) -> tuple[int, int]:
    """Lines of a table from its header on; ``whole``: with the tables inside it. Raises ValueError."""
    quoted = f"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')"
    start_of = re.compile(rf"\s*\[\s*{re.escape(family)}\s*\.\s*{quoted}\s*\]")
    inside = re.compile(rf"\s*\[\s*{re.escape(family)}\s*\.\s*{quoted}\s*\.")
    start = next((at for at, line in enumerate(lines) if start_of.match(line)), -1)
    if start < 0:
        raise ValueError("no header of its own")
    end = start + 1
    while end < len(lines) and not (_HEADER.match(lines[end]) and not (whole and inside.match(lines[end]))):
        end += 1
    return start, end


def _before_comments(lines: list[str], start: int, end: int) -> int:
    """Where blank lines and comments at the end of a table begin."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
