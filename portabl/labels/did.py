"""did:web: from a name to a URL, and from the document there to the one key a token was signed with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from portabl.labels.credential import instant
from portabl.labels.steps import Failed

PREFIX = "did:web:"
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")
_KINDS = ("JsonWebKey", "JsonWebKey2020")


@dataclass(frozen=True, slots=True)
class Web:
    """A did:web taken apart. ``host`` is without port; ``url``: where its document is."""

    did: str
    host: str
    port: int
    url: str


def parse(did: str) -> Web:
    """Where the document of a did:web is (did:web method, Read). Raises Failed.

    Only names in lower case: DIDs are compared as text, so one host has one spelling.
    """
    if not did.startswith(PREFIX):
        method = ":".join(did.split(":")[:2])[:40]
        raise Failed(f"{method!r} is not did:web, the only method Gaia-X knows")
    place, *path = did[len(PREFIX) :].split(":")
    host, mark, port = place.partition("%3A")
    good_port = not mark or (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536)
    if not _HOST.fullmatch(host) or host.replace(".", "").isdecimal() or not good_port:
        raise Failed(f"{did[:200]!r} names no host")
    if not all(_SEGMENT.fullmatch(segment) for segment in path):
        raise Failed(f"{did[:200]!r} has a path that is not plain")
    authority = f"{host}:{int(port)}" if mark else host
    rest = "/".join(path) if path else ".well-known"
    return Web(did, host, int(port) if mark else 443, f"https://{authority}/{rest}/did.json")


def key_of(document: Mapping[str, Any], did: str, kid: str, at: datetime) -> dict[str, Any]:
    """The JWK of method ``kid``, which the document must allow for assertions at that time. Raises Failed."""
    if document.get("id") != did:
        raise Failed(f"the DID document is of {str(document.get('id'))[:100]!r}, not of {did}")
    methods = [one for one in _listed(document, "verificationMethod") if _id_of(one, did) == kid]
    asserted = [one for one in _listed(document, "assertionMethod") if _id_of(one, did) == kid]
    methods += [one for one in asserted if isinstance(one, dict)]
    if not methods:
        raise Failed(f"the DID document has no key {kid!r}")
    if len(methods) > 1:
        raise Failed(f"the DID document has the key {kid!r} twice")
    if not asserted:
        raise Failed(f"the key {kid!r} is not in assertionMethod: it is not for signing credentials")
    return _jwk(methods[0], did, at)


def _listed(document: Mapping[str, Any], name: str) -> list[Any]:
    found = document.get(name, [])
    return found if isinstance(found, list) else [found]


def _id_of(method: Any, did: str) -> str:
    name = method.get("id") if isinstance(method, dict) else method
    name = name if isinstance(name, str) else ""
    return did + name if name.startswith("#") else name


def _jwk(method: Any, did: str, at: datetime) -> dict[str, Any]:
    if not isinstance(method, dict) or not isinstance(method.get("publicKeyJwk"), dict):
        raise Failed("the key is not given as publicKeyJwk")
    if method.get("type") not in _KINDS:
        raise Failed(f"the key is of type {method.get('type')!r}, accepted are {' and '.join(_KINDS)}")
    if method.get("controller", did) != did:
        raise Failed(f"the key is controlled by {str(method.get('controller'))[:100]!r}, not by the issuer")
    for name in ("revoked", "expires"):
        if name in method and at >= instant(method[name], name):
            raise Failed(f"the key is {'revoked' if name == 'revoked' else 'expired'} since {method[name]}")
    return dict(method["publicKeyJwk"])
