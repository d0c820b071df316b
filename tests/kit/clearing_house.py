"""A clearing house of our own: keys, certificates, DID documents over local HTTPS, labels in the shape of real ones.

The shapes (headers, milliseconds, hex digests, envelopes, the notary's other media type) are those of the tokens in
tests/labels/real.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import rfc8785
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

CONTEXT = ["https://www.w3.org/ns/credentials/v2", "https://w3id.org/gaia-x/development#"]
CRITERIA = "https://docs.gaia-x.eu/policy-rules-committee/compliance-document/25.10/criteria_cloud_services/#"
DAY = timedelta(days=1)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Change = Callable[[dict[str, Any]], None]


@cache
def key(name: str) -> Key:
    """A key by its role, made once: P-256 for participants and authorities, RSA for houses and notaries."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, 1024 if "weak" in name else 2048)
    return ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(private: Key, **more: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    numbers: Any = private.public_key().public_numbers()
    if isinstance(private, rsa.RSAPrivateKey):
        n = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        return {"kty": "RSA", "n": b64(n), "e": "AQAB", "alg": "PS256", **more}
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32)), **more}


def sign(header: dict[str, Any], payload: dict[str, Any] | str, private: Key) -> str:
    """A compact JWS; ``payload`` may be JSON text as it is. ``alg`` decides how it is signed, "none" not at all."""
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    signed = f"{b64(json.dumps(header, separators=(',', ':')).encode())}.{b64(text.encode())}"
    return f"{signed}.{b64(_signature(header.get('alg'), signed.encode(), private))}"


def _signature(alg: Any, data: bytes, private: Key) -> bytes:
    sha = hashes.SHA256()
    if isinstance(private, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(private.sign(data, ec.ECDSA(sha)))
        return b"" if alg == "none" else r.to_bytes(32) + s.to_bytes(32)
    if alg in ("none", "HS256"):
        return b"" if alg == "none" else hashlib.sha256(data).digest()
    return private.sign(data, padding.PKCS1v15() if alg == "RS256" else padding.PSS(padding.MGF1(sha), 32), sha)


def milliseconds(moment: datetime) -> int:
    """A time as clearing houses write it into headers."""
    return round(moment.timestamp() * 1000)


def stamp(moment: datetime) -> str:
    """A time as clearing houses write it into payloads."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(payload: dict[str, Any]) -> str:
    """What engines write: sha256- and hex."""
    return f"sha256-{hashlib.sha256(rfc8785.dumps(payload)).hexdigest()}"


# --- certificates ---------------------------------------------------------------------------------------------------


def certificate(
    name: str,
    private: Key,
    issuer: str,
    issuer_key: Key,
    *,
    ca: bool = False,
    hosts: tuple[str, ...] = (),
    days: int = 365,
    policy: str = "",
) -> x509.Certificate:
    """One certificate, valid from yesterday for ``days`` days."""
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 200 * DAY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    if policy:
        policies = [x509.PolicyInformation(x509.ObjectIdentifier(policy), None)]
        made = made.add_extension(x509.CertificatePolicies(policies), critical=False)
    if hosts:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
    return made.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def pem(*certificates: x509.Certificate) -> str:
    """Certificates as PEM, in this order."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


@dataclass(frozen=True)
class Authority:
    """A root and an intermediate."""

    name: str = "Test Trust Services"

    @cache
    def root(self) -> x509.Certificate:
        """The trust anchor."""
        return certificate(self.name, key(self.name), self.name, key(self.name), ca=True)

    @cache
    def chain(self, private: Key, host: str, days: int = 365, policy: str = "") -> str:
        """Leaf and intermediate for a key."""
        inner = f"{self.name} Issuing"
        leaf = certificate(host, private, inner, key(inner), hosts=(host,), days=days, policy=policy)
        return pem(leaf, certificate(inner, key(inner), self.name, key(self.name), ca=True))


# --- credentials ----------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One label with everything beside it, all of which a test may change before it is signed.

    ``documents``: DID documents by DID. ``chain``: PEM. ``members``: credential payloads that are labelled, in order.
    """

    header: dict[str, Any]
    payload: dict[str, Any]
    key: Key
    documents: dict[str, dict[str, Any]]
    chain: str
    roots: str
    members: list[dict[str, Any]]
    member_headers: list[dict[str, Any]]
    member_keys: list[Key]
    at: datetime
    endpoint: str
    token: Callable[[Case], str] = field(default=lambda case: sign(case.header, case.payload, case.key))
    signed_members: list[dict[str, Any]] | None = None

    @property
    def subject(self) -> dict[str, Any]:
        """The label's subject."""
        return self.payload["credentialSubject"]

    def label_members(self) -> None:
        """Write the members' digests into the label, as an engine does."""
        self.subject["gx:compliantCredentials"] = [
            {"id": one["id"], "type": one["type"][1], "gx:digestSRI": digest(one)} for one in self.members
        ]

    def label(self) -> str:
        """The label token."""
        return self.token(self)

    def presentation(self) -> str:
        """The members, each in an envelope, signed by the participant."""
        payloads = self.members if self.signed_members is None else self.signed_members
        tokens = [sign(h, p, k) for h, p, k in zip(self.member_headers, payloads, self.member_keys, strict=True)]
        envelopes = [
            {"@context": CONTEXT[0], "id": f"data:application/vc+jwt,{token}", "type": "EnvelopedVerifiableCredential"}
            for token in tokens
        ]
        did = self.members[0]["issuer"]
        header = {"alg": "ES256", "typ": "vp+jwt", "cty": "vp", "iss": did, "kid": f"{did}#key-0"}
        payload = {
            "@context": [CONTEXT[0], "https://www.w3.org/ns/credentials/examples/v2"],
            "type": "VerifiablePresentation",
            "verifiableCredential": envelopes,
            "issuer": did,
            "validFrom": stamp(self.at - DAY),
            "validUntil": stamp(self.at + 300 * DAY),
        }
        return sign(header, payload, key("participant"))

    def write(self, folder: Path, name: str = "label") -> Path:
        """Label and evidence as files: NAME.jwt, NAME.*.did.json, NAME.chain.pem, NAME.vp.jwt; the label's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, document in enumerate(self.documents.values()):
            (folder / f"{name}.{number}.did.json").write_text(json.dumps(document))
        (folder / f"{name}.chain.pem").write_text(self.chain)
        (folder / f"{name}.vp.jwt").write_text(self.presentation())
        path = folder / f"{name}.jwt"
        path.write_text(self.label())
        return path


def document(did: str, fragment: str, private: Key, **more: Any) -> dict[str, Any]:
    """A DID document with one key for assertions."""
    kid = f"{did}#{fragment}"
    method = {"id": kid, "type": "JsonWebKey2020", "controller": did, "publicKeyJwk": jwk(private, **more)}
    return {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"],
        "id": did,
        "verificationMethod": [method],
        "assertionMethod": [kid],
    }


def _credential(base: str, name: str, kind: str, issuer: str, at: datetime, subject: dict[str, Any]) -> dict[str, Any]:
    return {
        "@context": [*CONTEXT, {"vcard": "http://www.w3.org/2006/vcard/ns#", "schema": "https://schema.org/"}],
        "id": f"{base}/{name}.json",
        "type": ["VerifiableCredential", kind],
        "issuer": issuer,
        "credentialSubject": {"id": f"{base}/{name}.json#cs", **subject},
        "validFrom": (at - 2 * DAY).astimezone().isoformat(timespec="milliseconds"),
        "validUntil": (at + 300 * DAY).astimezone().isoformat(timespec="milliseconds"),
    }


def _members(
    base: str, participant: str, notary: str, at: datetime, endpoint: str, country: str
) -> list[dict[str, Any]]:
    address = {"type": "gx:Address", "gx:countryCode": country, "vcard:locality": "Testville"}
    person = _credential(
        base,
        "legal-person",
        "gx:LegalPerson",
        participant,
        at,
        {
            "schema:name": "Test Cloud SAS",
            "gx:registrationNumber": {"id": f"{base}/vatID.json#cs"},
            "gx:headquartersAddress": address,
            "gx:legalAddress": address,
        },
    )
    terms = _credential(base, "terms", "gx:Issuer", participant, at, {"gaiaxTermsAndConditions": "4bd7"})
    vat = _credential(base, "vatID", "gx:VatID", notary, at, {"gx:vatID": "FR00", "gx:countryCode": country})
    service = _credential(
        base,
        "storage",
        "gx:ObjectStorageServiceOffering",
        participant,
        at,
        {
            "schema:name": "Test Object Storage",
            "gx:providedBy": {"id": f"{base}/legal-person.json#cs"},
            "gx:objectAPICompatibility": ["S3"],
            "gx:maximumObjectSize": {"type": "gx:MemorySize", "qudt:value": 5.5},
            "gx:endpoint": {"type": "gx:Endpoint", "gx:endpointURL": {"@type": "xsd:anyURI", "@value": endpoint}},
        },
    )
    return [person, terms, vat, service]


@dataclass
class House:
    """A clearing house with one participant and one notary, all under one host name."""

    authority: str = "localhost%3A443"
    base: str = "https://localhost"

    @property
    def did(self) -> str:
        """The issuer of labels."""
        return f"did:web:{self.authority}:v2"

    def case(
        self,
        *,
        endpoint: str = "https://s3.cloud.example",
        level: str = "L1",
        criteria: tuple[str, ...] = ("P1.1.2", "P3.1.11", "P4.1.1", "P4.1.2"),
        country: str = "FR",
        at: datetime | None = None,
        days: int = 90,
    ) -> Case:
        """A sound label: issued a moment ago (or a moment before ``at``), for ``days`` days."""
        at = at or datetime.now(UTC)
        start = (at - timedelta(minutes=5)).replace(microsecond=830000)
        until = (start + timedelta(days=days)).replace(microsecond=824000)
        participant, notary = f"did:web:{self.authority}:participant", f"did:web:{self.authority}:notary"
        base = f"{self.base}/credentials"
        kid = f"{self.did}#X509-JWK"
        case = Case(
            header={
                "alg": "PS256",
                "iss": self.did,
                "kid": kid,
                "iat": milliseconds(start),
                "exp": milliseconds(until),
                "cty": "vc",
                "typ": "vc+jwt",
            },
            payload={
                "@context": list(CONTEXT),
                "type": ["VerifiableCredential", "gx:LabelCredential"],
                "id": f"{base}/label.jwt",
                "issuer": self.did,
                "validFrom": stamp(start),
                "validUntil": stamp(until),
                "credentialSubject": {
                    "id": f"{base}/label.jwt#cs",
                    "gx:labelLevel": level,
                    "gx:engineVersion": "2.11.0",
                    "gx:rulesVersion": "CD25.10",
                    "gx:validatedCriteria": [CRITERIA + one for one in criteria],
                },
            },
            key=key("rsa house"),
            documents={
                self.did: document(self.did, "X509-JWK", key("rsa house"), x5u=f"{self.base}/v2/chain.pem"),
                participant: document(participant, "key-0", key("participant"), alg="ES256"),
                notary: document(notary, "X509-JWK", key("rsa notary")),
            },
            chain=Authority().chain(key("rsa house"), "localhost"),
            roots=pem(Authority().root()),
            members=_members(base, participant, notary, start, endpoint, country),
            member_headers=[_header(participant, "key-0")] * 2
            + [_notary_header(notary)]
            + [_header(participant, "key-0")],
            member_keys=[key("participant")] * 2 + [key("rsa notary")] + [key("participant")],
            at=at,
            endpoint=endpoint,
        )
        case.label_members()
        return case

    def trust(self, folder: Path, **more: Any) -> Path:
        """A trust file that names this house and its root."""
        (folder / "roots.pem").write_text(pem(Authority().root()))
        lines = [f"{name} = {json.dumps(value)}" for name, value in more.items()]
        lines += ["[[clearing_houses]]", f'did = "{self.did}"', 'name = "test house"', 'anchors = ["roots.pem"]']
        (folder / "trust.toml").write_text("\n".join(lines))
        return folder / "trust.toml"


def _header(did: str, fragment: str) -> dict[str, Any]:
    return {"alg": "ES256", "typ": "vc+jwt", "cty": "vc", "iss": did, "kid": f"{did}#{fragment}"}


def _notary_header(did: str) -> dict[str, Any]:
    return {"alg": "PS256", "iss": did, "kid": f"{did}#X509-JWK", "cty": "vc+ld", "typ": "vc+ld+jwt"}


# --- over HTTPS -----------------------------------------------------------------------------------------------------


class Web:
    """An HTTPS server on loopback. ``pages``: path to body or (status, headers, body); ``asked``: paths, in order."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []
        authority = trustme.CA()
        self.ca_file = folder / "tls.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                page = web.pages.get(self.path, (404, {}, b""))
                status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def house(self) -> House:
        """A clearing house whose documents are here."""
        return House(f"localhost%3A{self.port}", f"https://localhost:{self.port}")

    def publish(self, case: Case) -> None:
        """Serve a case's DID documents, chain and credentials where its DIDs and ids say."""
        for did, found in case.documents.items():
            path = did.split(":")[3:]
            self.pages[f"/{'/'.join(path)}/did.json"] = json.dumps(found).encode()
        self.pages["/v2/chain.pem"] = case.chain.encode()
        for header, payload, private in zip(case.member_headers, case.members, case.member_keys, strict=True):
            self.pages["/" + payload["id"].split("/", 3)[3]] = sign(header, payload, private).encode()

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
