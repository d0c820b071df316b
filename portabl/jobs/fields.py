"""Checking the fields of a TOML table: names, types, and values that have a form."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from portabl.errors import ConfigError
from portabl.keys import plain
from portabl.model import Proof
from portabl.tables import suggest

_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Field(enum.Enum):
    """The form of a field's value, and how it is called in an error."""

    TEXT = "a string"
    TEXTS = "a list of strings"
    BOOL = "true or false"
    COUNT = "a whole number above 0"
    NUMBER = "a number above 0"
    PORT = "a port number"
    SPAN = "a time such as `90s`, `15m`, `6h`, `7d` or `2w`"
    PROOF = "`size`, `ingest` or `readback`"
    COUNTS = "a table of whole numbers"


def where(origin: str, group: str, name: str, field: str = "") -> str:
    """File, table and field, the way every configuration error begins."""
    start = f"{origin}: " if origin else ""
    return f"{start}[{group}.{plain(name)}]{' ' + plain(field) if field else ''}"


def checked(
    values: Mapping[str, Any], known: Mapping[str, Field], at: Callable[[str], str], what: str
) -> dict[str, Any]:
    """The values of a table, spans and proofs parsed. ``at`` names a field in errors. Raises ConfigError."""
    found = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{at(name)}: unknown field for {what}", hint=suggest(name, known))
        try:
            found[name] = _PARSERS[known[name]](value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{at(name)}: must be {known[name].value}") from None
    return found


def span_text(span: timedelta) -> str:
    """A span as it is written in portabl.toml."""
    seconds = int(span.total_seconds())
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(one) for one in value)


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ValueError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError
    return float(value)


def _port(value: object) -> int:
    if _count(value) > 65_535:
        raise ValueError
    return _count(value)


def _span(value: object) -> timedelta:
    match = _SPAN.fullmatch(_text(value))
    if not match or not int(match[1]):
        raise ValueError
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _counts(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise TypeError
    return {name: _count(one) for name, one in value.items()}


_PARSERS: Mapping[Field, Callable[[object], Any]] = {
    Field.TEXT: _text,
    Field.TEXTS: _texts,
    Field.BOOL: _bool,
    Field.COUNT: _count,
    Field.NUMBER: _number,
    Field.PORT: _port,
    Field.SPAN: _span,
    Field.PROOF: lambda value: Proof(_text(value)),
    Field.COUNTS: _counts,
}
