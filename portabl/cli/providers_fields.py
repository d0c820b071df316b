"""Options that set fields of a provider: shared by ``add`` and ``edit``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from portabl.errors import UsageError
from portabl.keys import plain

F = TypeVar("F", bound=Callable[..., Any])
_FLAGS: Mapping[str, str] = {
    "catalogue": "Entry of the catalogue; `portabl providers list --catalogue` shows all.",
    "type": "What kind of place it is: s3, file or fsspec. Not needed with --catalogue.",
    "region": "Region of the catalogue's entry, or the region for signatures.",
    "endpoint": "URL of scheme and host, for a place the catalogue does not know.",
    "access_key_id": "The access key, or where it is kept: env:NAME, file:PATH, keyring:SERVICE/USER.",
    "secret_access_key": "Where the secret is kept, in the same words. Never the secret itself.",
    "session_token": "Where a session token is kept.",
    "profile": "Profile of the AWS configuration, instead of keys.",
    "path": "Directory, for type file.",
    "url": "URL, for type fsspec.",
}
_SECRET_WORDS = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)


def field_options(function: F) -> F:
    """One option for each common field, and ``--set`` for all others."""
    function = click.option(
        "--set", "settings", metavar="FIELD=VALUE", multiple=True, help="Any other field, such as `addressing=path`."
    )(function)
    for name, text in reversed(list(_FLAGS.items())):
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="VALUE", help=text)(function)
    return function


def given(flags: Mapping[str, str | None], settings: tuple[str, ...]) -> dict[str, str]:
    """All fields that the command line sets, as text. Raises UsageError."""
    found = {name: value for name, value in flags.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"`--set {plain(setting)}` has no `=`", hint="write `--set FIELD=VALUE`")
        found[name] = value
    for name, value in found.items():
        _refuse_visible_secret(name, value)
    return found


def typed(kind: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Fields with values of the types they have in the file. Raises UsageError."""
    from portabl import tables
    from portabl.provider_types import DERIVED, TYPES

    if kind not in TYPES:
        raise UsageError(f"`--type {plain(kind)}` is unknown", hint=f"one of {', '.join(TYPES)}")
    known = tables.fields_of(TYPES[kind], but=DERIVED)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        head, dot, inner = name.partition(".")
        if name == "type":
            continue
        if head not in known:
            raise UsageError(f"type `{kind}` has no field `{plain(head)}`", hint=tables.suggest(head, known))
        if dot:
            values.setdefault(head, {})[inner] = text
        else:
            values[name] = _value(name, text, known[name])
    return values


def _value(name: str, text: str, expected: str) -> object:
    try:
        if expected == "bool":
            return {"true": True, "false": False}[text.lower()]
        if expected == "int":
            return int(text)
        if expected == "float":
            return float(text)
    except (KeyError, ValueError):
        words = {"bool": "true or false", "int": "a whole number", "float": "a number"}[expected]
        raise UsageError(f"{name}: must be {words}, not `{plain(text)}`") from None
    return [part.strip() for part in text.split(",")] if expected.startswith("tuple") else text


def _refuse_visible_secret(name: str, value: str) -> None:
    """What is on a command line, every process of this machine can read."""
    from portabl.credentials import is_reference
    from portabl.provider_types import SECRETS
    from portabl.registry import has_password

    secret = name in SECRETS or (name.startswith("options.") and _SECRET_WORDS.search(name))
    if (secret and not is_reference(value)) or (name == "url" and has_password(value)):
        raise UsageError(
            f"{name}: a secret does not belong on a command line, where others can read it",
            hint="say where it is kept: `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`",
        )
