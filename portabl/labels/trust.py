"""Whom to believe: the clearing houses that may issue labels, and the certificate authorities behind their keys.

The built-in list holds the operators of Gaia-X Digital Clearing Houses whose addresses were public in November 2026
(release Loire, path v2). A trust file adds own ones, or replaces the list.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portabl.errors import ConfigError
from portabl.labels import did
from portabl.labels.steps import Failed

TRUST_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ClearingHouse:
    """An issuer of labels. ``anchors``: PEM text of the only roots its key may lead to, "" for the general ones."""

    did: str
    name: str
    anchors: str = ""


BUILT_IN = (
    ClearingHouse("did:web:compliance.gxdch.gaiax.ovh:v2", "OVHcloud"),
    ClearingHouse("did:web:compliance.cispe.gxdch.clouddataengine.io:v2", "CISPE"),
    ClearingHouse("did:web:gx-compliance.gxdch.dih.telekom.com:v2", "T-Systems"),
    ClearingHouse("did:web:www.delta-dao.com:compliance:v2", "deltaDAO"),
    ClearingHouse("did:web:aerospace-digital-exchange.eu:compliance:v2", "neusta aerospace"),
    ClearingHouse("did:web:compliance.pfalzkom-gxdch.de:v2", "Pfalzkom"),
)
_LAB = "lab.gaia-x.eu"


@dataclass(frozen=True, slots=True)
class Trust:
    """``anchors``: PEM text of further roots for all houses. ``private_hosts`` may have private addresses.

    ``warnings``: what a trust file opened, to be said each time it is used. ``origin``: its path, "" for the built-in.
    """

    houses: Mapping[str, ClearingHouse] = field(default_factory=lambda: {one.did: one for one in BUILT_IN})
    anchors: str = ""
    private_hosts: frozenset[str] = frozenset()
    ca_bundle: str = ""
    origin: str = ""
    warnings: tuple[str, ...] = ()

    def house(self, issuer: str) -> ClearingHouse:
        """The clearing house of that name. Raises Failed: an issuer nobody vouches for, or one for tests."""
        host = did.parse(issuer).host
        if host == _LAB or host.endswith(f".{_LAB}"):
            raise Failed(f"{host} is Gaia-X's laboratory: its labels are for tests")
        if issuer not in self.houses:
            raise Failed(f"{issuer} is none of the {len(self.houses)} clearing houses that are trusted")
        return self.houses[issuer]


def load(path: str | None) -> Trust:
    """The built-in list, or it with a trust file (TOML, docs/labels.md). Raises ConfigError."""
    if path is None:
        return Trust()
    try:
        with open(path, "rb") as stream:
            document = tomllib.loads(stream.read(TRUST_BYTES_MAX).decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="name a trust file that exists") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return _from_document(document, path)


_FIELDS: Mapping[str, type] = {
    "builtin": bool,
    "anchors": list,
    "private_hosts": list,
    "ca_bundle": str,
    "clearing_houses": list,
}
_HOUSE_FIELDS: Mapping[str, type] = {"did": str, "name": str, "anchors": list}


def _from_document(document: dict[str, Any], path: str) -> Trust:
    _check(document, _FIELDS, path)
    houses = {one.did: one for one in BUILT_IN} if document.get("builtin", True) else {}
    own = [_house(value, path) for value in document.get("clearing_houses", [])]
    hosts = frozenset(_strings(document, "private_hosts", path))
    warnings = [f"{path}: labels of {house.did} ({house.name}) are accepted because this file says so" for house in own]
    if hosts:
        warnings.append(f"{path}: private addresses are allowed for {', '.join(sorted(hosts))}")
    bundle = document.get("ca_bundle", "")
    return Trust(
        {**houses, **{house.did: house for house in own}},
        _pem(document, path),
        hosts,
        os.path.join(os.path.dirname(path), bundle) if bundle else "",
        path,
        tuple(warnings),
    )


def _house(value: Any, path: str) -> ClearingHouse:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: clearing_houses must be tables", hint="write `[[clearing_houses]]`")
    _check(value, _HOUSE_FIELDS, f"{path}: [[clearing_houses]]")
    try:
        web = did.parse(value.get("did", ""))
    except Failed as error:
        raise ConfigError(f"{path}: [[clearing_houses]] did: {error}") from None
    return ClearingHouse(web.did, value.get("name", "") or web.host, _pem(value, path))


def _check(table: Mapping[str, Any], known: Mapping[str, type], where: str) -> None:
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{where}: unknown field `{name}`", hint=f"known: {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise ConfigError(f"{where}: {name} must be a {known[name].__name__}, not a {type(value).__name__}")


def _strings(table: Mapping[str, Any], name: str, where: str) -> list[str]:
    found = table.get(name, [])
    if not all(isinstance(one, str) and one for one in found):
        raise ConfigError(f"{where}: {name} must be a list of strings")
    return list(found)


def _pem(table: Mapping[str, Any], path: str) -> str:
    """The text of all PEM files a table names, relative to the trust file."""
    found = []
    for name in _strings(table, "anchors", path):
        full = os.path.join(os.path.dirname(path), name)
        try:
            with open(full, encoding="ascii") as stream:
                found.append(stream.read(TRUST_BYTES_MAX))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: anchors: {full} cannot be read as PEM: {error}") from error
    return "\n".join(found)
