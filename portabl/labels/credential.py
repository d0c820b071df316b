"""Credentials as data: types, contexts, times, subjects, digests. Every quirk seen on real ones is handled here.

Nothing is resolved: a JSON-LD context is a name to be recognised, never a thing to be fetched. A credential that gives
Gaia-X's names another meaning is refused, so the names can be read as they stand.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from portabl.labels import jose
from portabl.labels.jose import Token
from portabl.labels.steps import Failed

FORMATS = (("vc+jwt", "vc"), ("vc+ld+jwt", "vc+ld"), ("vc+ld+json+jwt", "vc+ld+json"))
"""(typ, cty) of credentials that were seen or specified; the notaries still use the second."""

PRESENTATIONS = (
    ("vp+jwt", "vp"),
    ("vp+ld+jwt", "vp+ld"),
    ("vp+ld+jwt", "vp+ld+json"),
    ("vp+ld+json+jwt", "vp+ld+json"),
)
PRESENTATION_BYTES_MAX = 4 << 20
MEMBERS_MAX = 500

CONTEXT = "https://www.w3.org/ns/credentials/v2"
GAIAX = re.compile(r"https://w3id\.org/gaia-x/[A-Za-z0-9.]+#?")
_IRI = re.compile(r"https://w3id\.org/gaia-x/[A-Za-z0-9.]+[#/](\w+)")
_ENVELOPE = re.compile(r"data:application/vc(?:\+ld)?(?:\+json)?\+jwt,(.+)", re.DOTALL)
_DEFINING = {
    "gx",
    "@vocab",
    "@base",
    "@import",
    "@propagate",
    "type",
    "id",
    "issuer",
    "credentialSubject",
    "validUntil",
}


def check_format(header: Mapping[str, Any]) -> None:
    """typ and cty must be set, and say "credential". Raises Failed."""
    found = (header.get("typ"), header.get("cty"))
    if found not in FORMATS:
        known = ", ".join("/".join(pair) for pair in FORMATS)
        raise Failed(f"typ and cty are {found[0]!r} and {found[1]!r}, accepted are {known}")


def check_shape(payload: Mapping[str, Any]) -> None:
    """Contexts known and not bent, no wrapper claim, one subject. Raises Failed."""
    if wrapper := {"vc", "vp"} & set(payload):
        raise Failed(f"the credential is wrapped in a {min(wrapper)!r} claim, as in version 1 of the data model")
    contexts = listed(payload.get("@context"))
    if not contexts or contexts[0] != CONTEXT:
        raise Failed(f"the first context is not {CONTEXT}")
    if not any(isinstance(one, str) and GAIAX.fullmatch(one) for one in contexts):
        raise Failed("no context is Gaia-X's (https://w3id.org/gaia-x/...)")
    for inline in (one for one in contexts if not isinstance(one, str)):
        bent = sorted(n for n in inline if n in _DEFINING or n.startswith("gx:")) if isinstance(inline, dict) else ["?"]
        if bent:
            raise Failed(f"a context gives {bent[0]!r} another meaning")
    if "VerifiableCredential" not in types(payload):
        raise Failed("the type does not say VerifiableCredential")
    subject(payload)


def listed(value: Any) -> list[Any]:
    """A member that may be absent, one thing, or a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def types(thing: Mapping[str, Any]) -> list[str]:
    """Type names, ``gx:`` for Gaia-X's, each once: older engines wrote them doubled, separated by a comma."""
    raw = [part.strip() for one in listed(thing.get("type")) if isinstance(one, str) for part in one.split(",")]
    return list(dict.fromkeys(_IRI.sub(r"gx:\1", name) for name in raw if name))


def subject(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one credentialSubject. Raises Failed."""
    found = listed(payload.get("credentialSubject"))
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Failed(f"a credential has one subject here, this has {len(found)}")
    only: Mapping[str, Any] = found[0]
    return only


def issuer(payload: Mapping[str, Any]) -> str:
    """The issuer's DID; the data model allows an object with an id too. Raises Failed."""
    found = payload.get("issuer")
    name = found.get("id") if isinstance(found, dict) else found
    if not isinstance(name, str) or not name:
        raise Failed("the credential names no issuer")
    return name


def links(value: Any) -> list[str]:
    """Identifiers that a member points to: ``{"id": ...}``, text, or a list of them."""
    found = [one.get("id", one.get("@id")) if isinstance(one, dict) else one for one in listed(value)]
    return [one for one in found if isinstance(one, str)]


def instant(value: Any, name: str) -> datetime:
    """A time with its zone (``Z``, ``+00:00``, ``+01:00``), in UTC. Raises Failed."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Failed(f"{name} is no time with a zone: {str(value)[:60]!r}")
    return found.astimezone(UTC)


def validity(payload: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """validFrom and validUntil; both must be there. Raises Failed."""
    start, end = (instant(payload.get(name), name) for name in ("validFrom", "validUntil"))
    if end <= start:
        raise Failed("validUntil is not after validFrom")
    return start, end


def header_times(token: Token) -> None:
    """iat and exp, where the header has them, must say what validFrom and validUntil say. Raises Failed.

    Clearing houses write them in milliseconds, RFC 7519 in seconds.
    """
    for name, member in (("iat", "validFrom"), ("exp", "validUntil")):
        value = token.header.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e14:
            raise Failed(f"{name} is no time: {str(value)[:60]!r}")
        seconds = value / 1000 if value > 1e11 else value
        said = datetime.fromtimestamp(seconds, UTC)
        if abs(said - instant(token.payload.get(member), member)) >= timedelta(seconds=1):
            raise Failed(f"{name} in the header and {member} in the payload disagree")


def digest(payload: Mapping[str, Any]) -> bytes:
    """SHA-256 of the payload's RFC 8785 form. Raises Failed."""
    import rfc8785

    try:
        return hashlib.sha256(rfc8785.dumps(dict(payload))).digest()
    except (rfc8785.CanonicalizationError, ValueError, RecursionError) as error:
        raise Failed(f"the payload has no canonical form: {type(error).__name__}") from None


def digest_named(text: Any) -> bytes:
    """The 32 bytes in ``sha256-...``: in hex, as clearing houses write it, or base64, as W3C does. Raises Failed."""
    kind, _, value = text.partition("-") if isinstance(text, str) else ("", "", "")
    if kind != "sha256":
        raise Failed(f"{str(text)[:40]!r} is no sha256- digest")
    if re.fullmatch("[0-9a-f]{64}", value):
        return bytes.fromhex(value)
    try:
        found = base64.b64decode(value, validate=True)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Failed(f"{text[:80]!r} is neither 64 hex digits nor base64 of 32 bytes")
    return found


def enveloped(text: str) -> Iterator[Token]:
    """The credentials in a presentation (JWT). Its own signature says nothing: a digest proves each. Raises Failed."""
    token = jose.parse(text, PRESENTATION_BYTES_MAX)
    if "VerifiablePresentation" not in types(token.payload):
        raise Failed("this is no presentation: its type does not say VerifiablePresentation")
    members = listed(token.payload.get("verifiableCredential"))
    if len(members) > MEMBERS_MAX:
        raise Failed(f"the presentation holds {len(members)} credentials, more than {MEMBERS_MAX}")
    for number, member in enumerate(members, 1):
        match = (
            _ENVELOPE.fullmatch(member["id"])
            if isinstance(member, dict) and isinstance(member.get("id"), str)
            else None
        )
        if not match:
            raise Failed(f"credential {number} of the presentation is not enveloped as a JWT")
        yield jose.parse(match[1])
