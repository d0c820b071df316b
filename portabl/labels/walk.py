"""Who is labelled: from the credentials a label covers to a service, its provider, and the provider's country."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from portabl import countries
from portabl.labels import credential
from portabl.labels.finding import Service
from portabl.labels.jose import Token
from portabl.labels.steps import Failed

_SERVICE = re.compile(r"gx:\w*ServiceOffering").fullmatch
_PERSON = "gx:LegalPerson"


def services(members: Sequence[Token]) -> tuple[Service, ...]:
    """The services among a label's credentials, each with the legal person that provides it. Raises Failed.

    A service whose provider is not among the same credentials, or was signed by somebody else, is refused: anyone can
    point at a well-known company.
    """
    found = [member for member in members if any(map(_SERVICE, credential.types(member.payload)))]
    return tuple(_service(member, members) for member in found)


def _service(member: Token, members: Sequence[Token]) -> Service:
    about = credential.subject(member.payload)
    name = str(about.get("schema:name") or about.get("gx:name") or about.get("name") or "")
    person = _provider(member, about, members)
    return Service(
        id=str(member.payload.get("id", "")),
        name=name,
        types=tuple(t for t in credential.types(member.payload) if _SERVICE(t)),
        endpoints=tuple(_endpoints(about)),
        provider=str(person.get("schema:name") or person.get("gx:legalName") or person.get("gx:name") or ""),
        country=_country(person, "gx:headquartersAddress"),
        legal_country=_country(person, "gx:legalAddress"),
    )


def _provider(member: Token, about: Mapping[str, Any], members: Sequence[Token]) -> Mapping[str, Any]:
    wanted = credential.links(about.get("gx:providedBy"))
    if len(wanted) != 1:
        raise Failed(f"the service names {len(wanted)} providers (gx:providedBy), not one")
    for other in members:
        person = credential.subject(other.payload)
        names = {person.get("id"), other.payload.get("id")} - {None}
        if wanted[0] not in names or _PERSON not in credential.types(other.payload):
            continue
        if credential.issuer(other.payload) != credential.issuer(member.payload):
            signer = credential.issuer(member.payload)
            raise Failed(f"the service is signed by {signer}, its provider by {credential.issuer(other.payload)}")
        return person
    raise Failed(f"the provider {wanted[0]} is not among the credentials that the label covers")


def _country(person: Mapping[str, Any], member: str) -> str:
    addresses = credential.listed(person.get(member))
    codes = {_code(one.get("gx:countryCode")) for one in addresses if isinstance(one, dict)}
    known = {countries.alpha2(code) for code in codes if code}
    if len(known) != 1 or "" in known:
        raise Failed(f"the provider's {member} has no country that is known: {sorted(codes)}")
    return known.pop()


def _code(value: Any) -> str:
    value = value.get("@value") if isinstance(value, dict) else value
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _endpoints(about: Mapping[str, Any]) -> list[str]:
    found = []
    for one in credential.listed(about.get("gx:endpoint")):
        value = one.get("gx:endpointURL", one.get("endpointURL")) if isinstance(one, dict) else one
        for url in credential.listed(value):
            text = url.get("@value", url.get("id")) if isinstance(url, dict) else url
            if isinstance(text, str):
                found.append(text)
    return found


def names(service: Service, endpoint: str) -> bool:
    """Whether a service's credential names this endpoint: the same scheme, host and port, nothing looser."""
    wanted = origin(endpoint)
    return bool(wanted) and any(origin(url) == wanted for url in service.endpoints)


def origin(url: str) -> str:
    """Scheme, host and port of a URL in one spelling, "" when it has none, or is of something below a host."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return ""
    whole = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    return f"{parts.scheme}://{parts.hostname.rstrip('.')}:{port}" if parts.hostname and port and whole else ""
