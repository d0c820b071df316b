"""The ``alerts`` tables: who is told, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from portabl import credentials
from portabl.errors import ConfigError
from portabl.jobs.fields import Field, checked, where
from portabl.keys import plain
from portabl.model import NOTHING

SECURITY = {"starttls": 587, "tls": 465, "none": 25}
"""How mail is sent, and the usual port for it."""

TYPES: Mapping[str, tuple[tuple[str, ...], Mapping[str, Field]]] = MappingProxyType(
    {
        "webhook": (("url",), {"url": Field.TEXT, "secret": Field.TEXT}),
        "email": (
            ("host", "from", "to"),
            {
                "host": Field.TEXT,
                "port": Field.PORT,
                "security": Field.TEXT,
                "username": Field.TEXT,
                "password": Field.TEXT,
                "from": Field.TEXT,
                "to": Field.TEXTS,
            },
        ),
        "command": (("command",), {"command": Field.TEXTS}),
    }
)


@dataclass(frozen=True)
class Alert:
    """One ``[alerts.NAME]`` table. ``type``: webhook, email or command; ``values``: its other fields."""

    name: str
    type: str
    origin: str = field(default="", repr=False)
    values: Mapping[str, Any] = field(default=NOTHING, repr=False)

    def secret(self, name: str) -> str:
        """The present value of a field that may be a reference, "" when it is not set. Raises ConfigError."""
        value = self.values.get(name, "")
        if not value:
            return ""
        at = where(self.origin, "alerts", self.name, name)
        return credentials.resolve(value, at, os.path.dirname(self.origin))


def alert_of(name: str, table: Mapping[str, Any], origin: str) -> Alert:
    """Check a table. Raises ConfigError."""

    def at(field_name: str) -> str:
        return where(origin, "alerts", name, field_name)

    kind = table.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        given = "is missing" if kind is None else f"`{plain(str(kind))}` is unknown"
        raise ConfigError(f"{at('type')}: {given}", hint=f"one of {', '.join(TYPES)}")
    needs, known = TYPES[kind]
    values = checked({k: v for k, v in table.items() if k != "type"}, known, at, f"type `{kind}`")
    for needed in needs:
        if not values.get(needed):
            raise ConfigError(f"{at(needed)}: is missing; type `{kind}` needs it")
    if kind == "webhook":
        check_url(values["url"], at("url"))
    if kind == "email":
        _check_email(values, at)
    return Alert(name, kind, origin, MappingProxyType(values))


def check_url(url: str, at: str) -> None:
    """Refuse what is neither a reference nor an HTTP URL. Raises ConfigError."""
    if credentials.is_reference(url):
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{at}: must be a URL", hint="such as `https://hooks.example.org/portabl`, or `env:NAME`")


def _check_email(values: Mapping[str, Any], at: Any) -> None:
    security = values.get("security", "starttls")
    if security not in SECURITY:
        raise ConfigError(f"{at('security')}: `{plain(security)}` is unknown", hint=f"one of {', '.join(SECURITY)}")
    if bool(values.get("username")) != bool(values.get("password")):
        missing = "password" if values.get("username") else "username"
        raise ConfigError(f"{at(missing)}: is missing; username and password belong together")
    if values.get("password") and security == "none":
        raise ConfigError(f"{at('security')}: a password is not sent in the clear", hint="use `starttls` or `tls`")
    for address in (values["from"], *values["to"]):
        if "@" not in address or any(c in address for c in "\r\n"):
            raise ConfigError(f"{at('to')}: `{plain(address)}` is no mail address")
