"""A label credential held against the specification, step by step.

Every step ends in passed, failed or not checked, and a step runs whenever what it needs is there, so that one flaw does
not hide the others. Only a label whose every step passed is a label: `Finding.labelled`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from portabl.errors import PortablError
from portabl.labels import chain, credential, did, jose, walk
from portabl.labels.finding import LEVELS, Finding, Service
from portabl.labels.jose import Token
from portabl.labels.sources import Sources
from portabl.labels.steps import WHERE, Failed, NotChecked, Outcome, Step
from portabl.labels.trust import ClearingHouse, Trust

T = TypeVar("T")
LABEL = "gx:LabelCredential"
_RULES = re.compile(r"CD[0-9]{2}\.[0-9]{2}").fullmatch
_CRITERION = re.compile(
    r"https://docs\.gaia-x\.eu/policy-rules-committee/compliance-document/[0-9]{2}\.[0-9]{2}/[a-z_]+/#(PA?[0-9]+(?:\.[0-9]+)*)"
).fullmatch


def verify(text: str, *, at: datetime, sources: Sources, trust: Trust, endpoint: str | None = None) -> Finding:
    """Check a label token at a time. ``endpoint``: URL of the storage service that must be among those labelled.

    Raises ConfigError when the packages of the extra ``labels`` are missing; all else is in the finding.
    """
    jose.require()
    return _Check(text, at, sources, trust, endpoint).run()


class _Check:
    """One verification: what each step found is what the next ones need."""

    def __init__(self, text: str, at: datetime, sources: Sources, trust: Trust, endpoint: str | None) -> None:
        self._text = text
        self._at = at
        self._sources = sources
        self._trust = trust
        self._endpoint = endpoint
        self._token: Token | None = None
        self._house: ClearingHouse | None = None
        self._jwk: Mapping[str, Any] | None = None
        self._issuer = ""
        self._shape_ok = False
        self._members: list[Token] | None = None
        self._services: tuple[Service, ...] | None = None
        self._claims: dict[str, Any] = {}

    def run(self) -> Finding:
        names = [name for name in WHERE if name != "provider" or self._endpoint is not None]
        steps = tuple(self._step(name) for name in names)
        digest = hashlib.sha256(self._text.strip().encode("utf-8", "surrogateescape")).hexdigest()
        return Finding(at=self._at, token_sha256=digest, steps=steps, **self._claims)

    def _step(self, name: str) -> Step:
        try:
            reason, outcome = getattr(self, f"_{name}_step")(), Outcome.PASSED
        except Failed as error:
            reason, outcome = str(error), Outcome.FAILED
        except NotChecked as error:
            reason, outcome = str(error), Outcome.NOT_CHECKED
        except PortablError:
            raise
        except Exception as error:  # whatever a stranger put in there: no label, and the other steps go on
            reason, outcome = f"it cannot be understood: {type(error).__name__}: {error}"[:300], Outcome.FAILED
        return Step(name, outcome, reason, WHERE[name])

    def _need(self, value: T | None, what: str) -> T:
        if value is None:
            raise NotChecked(what)
        return value

    def _read(self) -> Token:
        return self._need(self._token, "the token cannot be read")

    # the token itself

    def _token_step(self) -> str:
        self._token = jose.parse(self._text)
        return f"compact JWS of {len(self._token.text):,} characters"

    def _algorithm_step(self) -> str:
        return jose.check_header(self._read().header)

    def _header_step(self) -> str:
        self._issuer = named_issuer(self._read())
        self._claims["issuer"] = self._issuer
        credential.check_format(self._read().header)
        credential.header_times(self._read())
        return f"issuer {self._issuer} in header, payload and key name"

    def _credential_step(self) -> str:
        payload = self._read().payload
        credential.check_shape(payload)
        if LABEL not in credential.types(payload):
            raise Failed(f"this is a {', '.join(credential.types(payload))[:200]}, not a {LABEL}")
        self._shape_ok = True
        return LABEL

    # who signed it

    def _issuer_step(self) -> str:
        if not self._issuer:
            raise NotChecked("the issuer is not known")
        self._house = self._trust.house(self._issuer)
        self._claims["issuer_name"] = self._house.name
        return f"clearing house of {self._house.name}"

    def _key_step(self) -> str:
        if not self._issuer:
            raise NotChecked("the issuer is not known")
        kid = str(self._read().header.get("kid"))
        self._jwk, origin = key_for(self._issuer, kid, self._at, self._sources, fetch=self._house is not None)
        return f"{kid} may sign credentials ({origin})"

    def _signature_step(self) -> str:
        token, jwk = self._read(), self._need(self._jwk, "no key at hand")
        jose.check_signature(token, jwk)
        return f"{token.header['alg']} signature of {token.header.get('kid')}"

    def _chain_step(self) -> str:
        jwk = self._need(self._jwk, "no key at hand")
        house = self._need(self._house, "the issuer is not trusted")
        certificates, origin = self._sources.chain(jwk)
        host = did.parse(self._issuer).host
        root = chain.check(certificates, jwk, host, house.anchors or self._trust.anchors, self._at)
        return f"the key is certified for {host} by {root} ({origin})"

    # what it says

    def _dates_step(self) -> str:
        start, end = credential.validity(self._read().payload)
        self._claims |= {"valid_from": start, "valid_until": end}
        within(start, end, self._at)
        return f"valid, {(end - self._at).days} days left"

    def _status_step(self) -> str:
        if "credentialStatus" in self._read().payload:
            raise NotChecked("it names a status list, which is not read: it may have been revoked")
        return "no status list: such labels are not revoked, they end"

    def _label_step(self) -> str:
        if not self._shape_ok:
            raise NotChecked("it is no label credential")
        about = credential.subject(self._read().payload)
        level, rules = about.get("gx:labelLevel"), about.get("gx:rulesVersion")
        if level not in LEVELS:
            raise Failed(f"the level is {str(level)[:40]!r}, Gaia-X knows {', '.join(LEVELS)}")
        if not isinstance(rules, str) or not _RULES(rules):
            raise Failed(f"the rules version is {str(rules)[:40]!r}, not such as CD25.10")
        urls = credential.links(about.get("gx:validatedCriteria"))
        known = [match[1] for match in map(_CRITERION, urls) if match]
        engine = about.get("gx:engineVersion")
        self._claims |= {"level": level, "rules_version": rules, "criteria": tuple(dict.fromkeys(known))}
        self._claims["engine_version"] = engine if isinstance(engine, str) else ""
        unknown = f", {len(urls) - len(known)} not known here" if len(urls) != len(known) else ""
        return f"level {level} by {rules}, {len(known)} criteria{unknown}"

    # what it covers

    def _digests_step(self) -> str:
        if not self._shape_ok:
            raise NotChecked("it is no label credential")
        about = credential.subject(self._read().payload)
        entries = credential.listed(about.get("gx:compliantCredentials"))
        if not entries or not all(isinstance(one, dict) for one in entries):
            raise Failed("the label names no compliant credentials")
        if len(entries) > credential.MEMBERS_MAX:
            raise Failed(f"the label names {len(entries)} credentials, more than {credential.MEMBERS_MAX}")
        at_hand = {credential.digest(token.payload): token for token in self._sources.credentials()}
        self._members = [self._member(entry, at_hand) for entry in entries]
        return f"{len(entries)} credentials have the digests that the label names"

    def _member(self, entry: Mapping[str, Any], at_hand: dict[bytes, Token]) -> Token:
        named = next((entry[name] for name in _DIGESTS if name in entry), None)
        wanted, name = credential.digest_named(named), entry.get("id")
        token = at_hand.get(wanted) or self._elsewhere(name, wanted, at_hand)
        if name is not None and token.payload.get("id") != name:
            raise Failed(f"the credential with the digest of {name} calls itself {token.payload.get('id')}")
        kinds = credential.types({"type": entry.get("type", entry.get("gx:credentialType"))})
        if not set(kinds) <= set(credential.types(token.payload)):
            raise Failed(f"the label calls {name} a {', '.join(kinds)}, the credential itself does not")
        return token

    def _elsewhere(self, name: object, wanted: bytes, at_hand: Mapping[bytes, Token]) -> Token:
        if any(token.payload.get("id") == name for token in at_hand.values()):
            raise Failed(f"{name} is not the credential that was labelled: its digest is another")
        if not isinstance(name, str) or self._house is None:
            raise NotChecked(f"the credential {name or 'without a name'} is not at hand (give its presentation)")
        token = self._sources.credential(name)
        if credential.digest(token.payload) != wanted:
            raise Failed(f"{name} is not the credential that was labelled: its digest is another")
        return token

    def _members_step(self) -> str:
        members = self._need(self._members, "the credentials are not known")
        missing = []
        for member in members:
            try:
                self._check_member(member)
            except Failed as error:
                raise Failed(f"{member.payload.get('id')}: {error}") from None
            except NotChecked as error:
                missing.append(f"{member.payload.get('id')}: {error}")
        if missing:
            raise NotChecked("; ".join(missing))
        return f"{len(members)} credentials are signed by their issuers and valid"

    def _check_member(self, member: Token) -> None:
        jose.check_header(member.header)
        credential.check_format(member.header)
        credential.check_shape(member.payload)
        credential.header_times(member)
        within(*credential.validity(member.payload), self._at)
        if "credentialStatus" in member.payload:
            raise NotChecked("it names a status list, which is not read: it may have been revoked")
        jwk, _ = key_for(named_issuer(member), str(member.header["kid"]), self._at, self._sources)
        jose.check_signature(member, jwk)

    def _service_step(self) -> str:
        members = self._need(self._members, "the credentials are not known")
        found = walk.services(members)
        self._services, self._claims["services"] = found, found
        if not found:
            self._claims["participant_only"] = True
            raise Failed("it labels a participant: there is no service among its credentials")
        return "; ".join(f"{one.name or one.id}, provided by {one.provider} ({one.country})" for one in found)

    def _provider_step(self) -> str:
        services = self._need(self._services, "the services are not known")
        assert self._endpoint is not None
        if not walk.origin(self._endpoint):
            raise NotChecked("the provider has no endpoint that a label could name")
        if not any(walk.names(one, self._endpoint) for one in services):
            named = ", ".join(url for one in services for url in one.endpoints) or "none"
            raise Failed(f"the label is for another service: it names the endpoints {named}, not {self._endpoint}")
        return f"the label names {self._endpoint}"


_DIGESTS = ("gx:digestSRI", "cred:digestSRI", "digestSRI")


def named_issuer(token: Token) -> str:
    """The issuer that header, payload and key name agree on. Raises Failed."""
    claimed, kid = credential.issuer(token.payload), token.header.get("kid")
    did.parse(claimed)
    if token.header.get("iss") != claimed:
        raise Failed(f"the header is by {token.header.get('iss')!r}, the payload by {claimed!r}")
    if not isinstance(kid, str) or not kid.startswith(f"{claimed}#") or kid == f"{claimed}#":
        raise Failed(f"the key {kid!r} is not one of {claimed}")
    return claimed


def key_for(
    issuer: str, kid: str, at: datetime, sources: Sources, *, fetch: bool = True
) -> tuple[Mapping[str, Any], str]:
    """The key ``kid`` from its issuer's DID document, and where that came from. Raises Failed, NotChecked."""
    document, origin = sources.did(did.parse(issuer), fetch=fetch)
    return did.key_of(document, issuer, kid, at), origin


def within(start: datetime, end: datetime, at: datetime) -> None:
    """Raise Failed unless ``at`` is in the period, ends included."""
    if at < start:
        raise Failed(f"not valid before {start:%Y-%m-%d %H:%M:%S} UTC")
    if at > end:
        raise Failed(f"expired on {end:%Y-%m-%d %H:%M:%S} UTC")
