"""Tables of a TOML file held against dataclasses: unknown fields get a suggestion, wrong types are named in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from portabl.errors import ConfigError
from portabl.keys import plain

_EXPECTED: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a string"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "Mapping[str, object]": (dict, "a table"),
    "tuple[str, ...]": (list, "a list of strings"),
}
_WORDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    list: "a list",
}


def fields_of(kind: type[Any], *, but: Iterable[str] = ()) -> dict[str, str]:
    """Field names of a dataclass with their types as written, without ``| None``."""
    hidden = set(but)
    return {f.name: str(f.type).removesuffix(" | None") for f in dataclasses.fields(kind) if f.name not in hidden}


def checked(where: str, table: Mapping[str, object], known: Mapping[str, str], what: str = "field") -> dict[str, Any]:
    """The values of ``table``, lists as tuples, ready to be the arguments of a dataclass.

    ``where`` names file and table, ``known`` is what `fields_of` answers, ``what`` says what a name stands for.
    Raises ConfigError.
    """
    return {key: _value(f"{where} {plain(key)}", key, value, known, what) for key, value in table.items()}


def _value(where: str, key: str, value: object, known: Mapping[str, str], what: str) -> object:
    if key not in known:
        raise ConfigError(f"{where}: unknown {what}", hint=suggest(key, known))
    expected, words = _EXPECTED[known[key]]
    if not isinstance(value, expected) or (isinstance(value, bool) and known[key] != "bool"):
        raise ConfigError(f"{where}: must be {words}, not {type_words(value)}")
    if not isinstance(value, list):
        return value
    if strange := next((item for item in value if not isinstance(item, str)), None):
        raise ConfigError(f"{where}: must be {words}, but holds {type_words(strange)}")
    return tuple(value)


def near(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or ""."""
    import difflib

    names = list(known)
    if close := difflib.get_close_matches(name, names, 1, 0.6):
        return close[0]
    holding = [one for one in names if len(name) > 2 and (name in one or one in name)]
    return holding[0] if len(holding) == 1 else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the one that was meant, else all of them."""
    names = list(known)
    meant = near(name, names)
    return f"did you mean `{meant}`?" if meant else f"known: {', '.join(names)}"


def type_words(value: object) -> str:
    """What a value is, for people."""
    return _WORDS.get(type(value), f"a {type(value).__name__}")
