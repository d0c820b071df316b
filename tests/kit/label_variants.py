"""Forged labels: each is the sound one of `clearing_house` with one thing changed, and the step that must catch it.

``python tests/kit/label_variants.py`` prints the table that docs/labels.md holds between its markers.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kit.clearing_house import Authority, Case, certificate, document, jwk, key, pem, sign, stamp

CONTEXT_V1 = "https://www.w3.org/2018/credentials/v1"


@dataclass(frozen=True)
class Variant:
    """A forgery: what was done, the step that must not pass, and how that step must end."""

    name: str
    step: str
    change: Callable[[Case], None]
    outcome: str = "failed"


VARIANTS: list[Variant] = []


def forged(name: str, step: str, outcome: str = "failed") -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Add a variant to the table."""

    def add(change: Callable[[Case], None]) -> Callable[[Case], None]:
        VARIANTS.append(Variant(name, step, change, outcome))
        return change

    return add


def table() -> str:
    """The table for docs/labels.md."""
    rows = [f"| {one.name} | `{one.step}` | {one.outcome} |" for one in VARIANTS]
    return "\n".join(["| what was changed | caught by | outcome |", "|---|---|---|", *rows]) + "\n"


def _text(case: Case, change: Callable[[str], str]) -> None:
    """Change the JSON text of the payload before it is signed."""
    payload = json.dumps(case.payload, separators=(",", ":"))
    case.token = lambda c: sign(c.header, change(payload), c.key)


def _parts(case: Case, change: Callable[[list[str]], list[str]]) -> None:
    """Change the three parts of the finished token."""
    signed = case.token(case)
    case.token = lambda _: ".".join(change(signed.split(".")))


def _decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return found


def _coded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# --- token ----------------------------------------------------------------------------------------------------------


@forged("a token of 10 MB", "token")
def _(case: Case) -> None:
    case.payload["padding"] = "x" * 10_000_000


@forged("JSON nested 100 levels deep", "token")
def _(case: Case) -> None:
    _text(case, lambda text: text[:-1] + ',"deep":' + "[" * 100 + "]" * 100 + "}")


@forged("JSON nested 200,000 levels deep", "token")
def _(case: Case) -> None:
    _text(case, lambda text: text[:-1] + ',"deep":' + "[" * 200_000 + "]" * 200_000 + "}")


@forged("the level named twice, L3 last", "token")
def _(case: Case) -> None:
    _text(case, lambda text: text.replace('"gx:labelLevel":"L1"', '"gx:labelLevel":"L1","gx:labelLevel":"L3"'))


@forged("a number that is none (NaN)", "token")
def _(case: Case) -> None:
    _text(case, lambda text: text[:-1] + ',"x":NaN}')


@forged("four parts instead of three", "token")
def _(case: Case) -> None:
    _parts(case, lambda parts: [*parts, parts[2]])


@forged("base64 with padding", "token")
def _(case: Case) -> None:
    _parts(case, lambda parts: [parts[0], parts[1], parts[2] + "=="])


@forged("a JSON document with a proof (release Tagus) instead of a JWT", "token")
def _(case: Case) -> None:
    case.token = lambda c: json.dumps({**c.payload, "proof": {"type": "JsonWebSignature2020", "jws": "eyJ..abc"}})


# --- algorithm ------------------------------------------------------------------------------------------------------


@forged("`alg: none`, no signature", "algorithm")
def _(case: Case) -> None:
    case.header["alg"] = "none"


@forged("`alg: HS256`, signed with the public key as secret", "algorithm")
def _(case: Case) -> None:
    case.header["alg"] = "HS256"


@forged("`alg: ES256K`", "algorithm")
def _(case: Case) -> None:
    _parts(case, lambda parts: [_coded({**_decoded(parts[0]), "alg": "ES256K"}), *parts[1:]])


@forged("the signer's own key in the header (`jwk`)", "algorithm")
def _(case: Case) -> None:
    case.header["jwk"], case.key = jwk(key("rsa thief")), key("rsa thief")


@forged("an unknown critical extension (`crit`)", "algorithm")
def _(case: Case) -> None:
    case.header |= {"crit": ["exp"]}


# --- header ---------------------------------------------------------------------------------------------------------


@forged("no `typ`", "header")
def _(case: Case) -> None:
    del case.header["typ"]


@forged("`typ: JWT`", "header")
def _(case: Case) -> None:
    case.header["typ"] = "JWT"


@forged("the header names another issuer than the payload", "header")
def _(case: Case) -> None:
    case.header["iss"] = "did:web:compliance.gxdch.gaiax.ovh:v2"


@forged("the key belongs to another DID than the issuer", "header")
def _(case: Case) -> None:
    case.header["kid"] = "did:web:thief.example#X509-JWK"


@forged("the key's DID only begins like the issuer's", "header")
def _(case: Case) -> None:
    case.header["kid"] = case.header["kid"].replace("#", "x#")


@forged("`exp` in the header a year after `validUntil`", "header")
def _(case: Case) -> None:
    case.header["exp"] += 365 * 86_400_000


@forged("issuer `did:elsi` (label credentials of DOME)", "header")
def _(case: Case) -> None:
    case.payload["issuer"] = case.header["iss"] = "did:elsi:VATES-12345678"
    case.header["kid"] = "did:elsi:VATES-12345678#key"
    case.subject["gx:labelLevel"] = "BL"


@forged("issuer with a path that climbs (`did:web:host:..:v2`)", "header")
def _(case: Case) -> None:
    case.payload["issuer"] = case.header["iss"] = case.payload["issuer"].replace(":v2", ":..:v2")
    case.header["kid"] = case.header["iss"] + "#X509-JWK"


# --- credential -----------------------------------------------------------------------------------------------------


@forged("another type (`ComplianceCredential` of TWIN)", "credential")
def _(case: Case) -> None:
    case.payload["type"][1] = "ComplianceCredential"


@forged("the type of another vocabulary (`dome:LabelCredential`)", "credential")
def _(case: Case) -> None:
    case.payload["type"][1] = "dome:LabelCredential"


@forged("a context that gives `gx` another meaning", "credential")
def _(case: Case) -> None:
    case.payload["@context"].append({"gx": "https://thief.example/terms#"})


@forged("the contexts of data model 1.1", "credential")
def _(case: Case) -> None:
    case.payload["@context"][0] = CONTEXT_V1


@forged("the credential wrapped in a `vc` claim", "credential")
def _(case: Case) -> None:
    case.payload = {**case.payload, "vc": case.payload}


@forged("two subjects", "credential")
def _(case: Case) -> None:
    case.payload["credentialSubject"] = [case.subject, {**case.subject, "gx:labelLevel": "L3"}]


# --- issuer, key, signature, chain ------------------------------------------------------------------------------------


def _issued_by(case: Case, did: str, name: str, host: str) -> None:
    """Everything in order, but by somebody else."""
    case.payload["issuer"] = case.header["iss"] = did
    case.header["kid"], case.key = f"{did}#X509-JWK", key(name)
    case.documents[did] = document(did, "X509-JWK", key(name), x5u=f"https://{host}/chain.pem")
    case.chain = Authority().chain(key(name), host)


@forged("an issuer that no list knows, otherwise in order", "issuer")
def _(case: Case) -> None:
    _issued_by(case, "did:web:labels.thief.example:v2", "rsa thief", "labels.thief.example")


@forged("a host that looks like a clearing house's", "issuer")
def _(case: Case) -> None:
    _issued_by(case, "did:web:compliance.gxdch.gaiax.ovh.example:v2", "rsa thief", "compliance.gxdch.gaiax.ovh.example")


@forged("Gaia-X's laboratory as issuer", "issuer")
def _(case: Case) -> None:
    _issued_by(case, "did:web:compliance.lab.gaia-x.eu:v2", "rsa lab", "compliance.lab.gaia-x.eu")


@forged("a trusted host, but another path (`:development`)", "issuer")
def _(case: Case) -> None:
    did = case.payload["issuer"].replace(":v2", ":development")
    _issued_by(case, did, "rsa house", "localhost")


@forged("the notary as issuer of a label", "issuer")
def _(case: Case) -> None:
    did = next(one for one in case.documents if one.endswith(":notary"))
    _issued_by(case, did, "rsa notary", "localhost")


@forged("a DID document of another DID", "key", "not checked")
def _(case: Case) -> None:
    case.documents[case.payload["issuer"]]["id"] = "did:web:thief.example"


@forged("a key that the DID document does not have", "key")
def _(case: Case) -> None:
    case.header["kid"] = case.payload["issuer"] + "#other"


@forged("a key for `authentication` only, not in `assertionMethod`", "key")
def _(case: Case) -> None:
    found = case.documents[case.payload["issuer"]]
    found["authentication"] = found.pop("assertionMethod")


@forged("the same key name twice in the DID document", "key")
def _(case: Case) -> None:
    found = case.documents[case.payload["issuer"]]
    found["verificationMethod"].append({**found["verificationMethod"][0], "publicKeyJwk": jwk(key("rsa thief"))})


@forged("a key controlled by somebody else", "key")
def _(case: Case) -> None:
    case.documents[case.payload["issuer"]]["verificationMethod"][0]["controller"] = "did:web:thief.example"


@forged("a key that was revoked yesterday", "key")
def _(case: Case) -> None:
    revoked = stamp(case.at - timedelta(days=1))
    case.documents[case.payload["issuer"]]["verificationMethod"][0]["revoked"] = revoked


@forged("signed by another key", "signature")
def _(case: Case) -> None:
    case.key = key("rsa thief")


@forged("the level changed to L3 after signing", "signature")
def _(case: Case) -> None:
    def stronger(parts: list[str]) -> list[str]:
        payload = _decoded(parts[1])
        payload["credentialSubject"]["gx:labelLevel"] = "L3"
        return [parts[0], _coded(payload), parts[2]]

    _parts(case, stronger)


@forged("the signature of another label of the same house", "signature")
def _(case: Case) -> None:
    other = copy.deepcopy(case.payload)
    other["id"] += "2"
    theirs = sign(case.header, other, case.key).split(".")[2]
    _parts(case, lambda parts: [*parts[:2], theirs])


@forged("an RSA key, but `alg: ES256`", "signature")
def _(case: Case) -> None:
    case.header["alg"] = "ES256"


@forged("signed as RS256 with a key that is for PS256", "signature")
def _(case: Case) -> None:
    case.header["alg"] = "RS256"


@forged("an RSA key of 1,024 bits", "signature")
def _(case: Case) -> None:
    weak = key("rsa weak")
    case.key = weak
    case.documents[case.payload["issuer"]]["verificationMethod"][0]["publicKeyJwk"] = jwk(weak)


@forged("a DID document that publishes the private key", "signature")
def _(case: Case) -> None:
    case.documents[case.payload["issuer"]]["verificationMethod"][0]["publicKeyJwk"]["d"] = "AQAB"


@forged("a chain for another key", "chain")
def _(case: Case) -> None:
    case.chain = Authority().chain(key("rsa thief"), "localhost")


@forged("a chain for another host", "chain")
def _(case: Case) -> None:
    case.chain = Authority().chain(case.key, "cloud.example")


@forged("a chain to a root that nobody trusts, brought along", "chain")
def _(case: Case) -> None:
    other = Authority("Thief Trust Services")
    case.chain = other.chain(case.key, "localhost") + pem(other.root())


@forged("a certificate that certifies itself", "chain")
def _(case: Case) -> None:
    case.chain = pem(certificate("localhost", case.key, "localhost", case.key, hosts=("localhost",)))


@forged("a certificate that ended yesterday", "chain")
def _(case: Case) -> None:
    case.chain = Authority().chain(case.key, "localhost", days=-1)


@forged("the chain without its intermediate", "chain")
def _(case: Case) -> None:
    case.chain = case.chain.partition("-----END CERTIFICATE-----\n")[0] + "-----END CERTIFICATE-----\n"


# --- dates, status, label ---------------------------------------------------------------------------------------------


def _period(case: Case, start: timedelta, end: timedelta) -> None:
    first, last = case.at + start, case.at + end
    case.payload |= {"validFrom": stamp(first), "validUntil": stamp(last)}
    case.header |= {"iat": round(first.timestamp() * 1000), "exp": round(last.timestamp() * 1000)}


@forged("ended yesterday", "dates")
def _(case: Case) -> None:
    _period(case, timedelta(days=-91), timedelta(days=-1))


@forged("begins tomorrow", "dates")
def _(case: Case) -> None:
    _period(case, timedelta(days=1), timedelta(days=91))


@forged("no `validUntil`", "dates")
def _(case: Case) -> None:
    del case.payload["validUntil"], case.header["exp"]


@forged("a `validUntil` without a time zone", "dates")
def _(case: Case) -> None:
    case.payload["validUntil"] = case.payload["validUntil"].rstrip("Z")
    del case.header["exp"]


@forged("a status list that may say revoked", "status", "not checked")
def _(case: Case) -> None:
    case.payload["credentialStatus"] = {"type": "BitstringStatusListEntry", "statusListIndex": "1"}


@forged("a level that Gaia-X does not know (L4)", "label")
def _(case: Case) -> None:
    case.subject["gx:labelLevel"] = "L4"


@forged("no rules version", "label")
def _(case: Case) -> None:
    del case.subject["gx:rulesVersion"]


# --- what is labelled -------------------------------------------------------------------------------------------------


@forged("the service's credential changed after labelling", "digests")
def _(case: Case) -> None:
    case.signed_members = copy.deepcopy(case.members)
    case.signed_members[3]["credentialSubject"]["schema:name"] = "Another service"


@forged("a digest with one bit changed", "digests")
def _(case: Case) -> None:
    entry = case.subject["gx:compliantCredentials"][0]
    entry["gx:digestSRI"] = entry["gx:digestSRI"][:-1] + ("0" if entry["gx:digestSRI"][-1] != "0" else "1")


@forged("a digest of another kind (`md5-`)", "digests")
def _(case: Case) -> None:
    case.subject["gx:compliantCredentials"][0]["gx:digestSRI"] = "md5-" + "0" * 32


@forged("a digest under another credential's name", "digests")
def _(case: Case) -> None:
    entries = case.subject["gx:compliantCredentials"]
    entries[0]["gx:digestSRI"], entries[1]["gx:digestSRI"] = entries[1]["gx:digestSRI"], entries[0]["gx:digestSRI"]


@forged("a participant called a service in the label only", "digests")
def _(case: Case) -> None:
    case.subject["gx:compliantCredentials"][0]["type"] = "gx:ServiceOffering"


@forged("no credentials named", "digests")
def _(case: Case) -> None:
    case.subject["gx:compliantCredentials"] = []


@forged("the presentation without the service's credential", "digests", "not checked")
def _(case: Case) -> None:
    del case.members[3], case.member_headers[3], case.member_keys[3]


@forged("a covered credential with a signature of somebody else", "members")
def _(case: Case) -> None:
    case.member_keys[3] = key("other participant")


@forged("a covered credential that has ended", "members")
def _(case: Case) -> None:
    case.members[0]["validUntil"] = stamp(case.at - timedelta(days=1))
    case.label_members()


@forged("a covered credential that bends Gaia-X's names", "members")
def _(case: Case) -> None:
    case.members[3]["@context"].append({"gx:endpoint": "https://thief.example/x"})
    case.label_members()


@forged("a covered credential whose issuer's key is not at hand", "members", "not checked")
def _(case: Case) -> None:
    del case.documents[next(one for one in case.documents if one.endswith(":notary"))]


@forged("a label of a participant, no service in it", "service")
def _(case: Case) -> None:
    del case.members[3], case.member_headers[3], case.member_keys[3]
    case.label_members()


@forged("a provider that is not among the covered credentials", "service")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:providedBy"] = {"id": "https://big.example/legal-person.json#cs"}
    case.label_members()


@forged("a service that points at a company which did not sign it", "service")
def _(case: Case) -> None:
    thief = "did:web:thief.example"
    case.documents[thief] = document(thief, "key-0", key("other participant"), alg="ES256")
    case.members[3]["issuer"] = thief
    case.member_headers[3] = {**case.member_headers[3], "iss": thief, "kid": f"{thief}#key-0"}
    case.member_keys[3] = key("other participant")
    case.label_members()


@forged("a provider in a country that does not exist", "service")
def _(case: Case) -> None:
    address = {"type": "gx:Address", "gx:countryCode": "XX"}
    case.members[0]["credentialSubject"]["gx:headquartersAddress"] = address
    case.label_members()


@forged("a label of another provider's service", "provider")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:endpoint"] = {"gx:endpointURL": "https://s3.other.example"}
    case.label_members()


@forged("a service at another port of the provider's host", "provider")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:endpoint"] = {"gx:endpointURL": case.endpoint + ":8443"}
    case.label_members()


@forged("a service below a path of the provider's host", "provider")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:endpoint"] = {"gx:endpointURL": case.endpoint + "/tenants/4711"}
    case.label_members()


@forged("the provider's host over http instead of https", "provider")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:endpoint"] = {"gx:endpointURL": case.endpoint.replace("https:", "http:")}
    case.label_members()


@forged("a service at a host that only ends like the provider's", "provider")
def _(case: Case) -> None:
    case.members[3]["credentialSubject"]["gx:endpoint"] = {"gx:endpointURL": "https://evil-s3.cloud.example"}
    case.label_members()


@forged("a service that names no endpoint", "provider")
def _(case: Case) -> None:
    del case.members[3]["credentialSubject"]["gx:endpoint"]
    case.label_members()


if __name__ == "__main__":
    print(table(), end="")
