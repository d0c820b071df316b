"""From a key in a DID document to a certificate authority that is trusted: who stands behind the key.

The path is built and checked by cryptography's verifier (RFC 5280 in the profile of the Web PKI, without a demand for
TLS usage, because seals have other usages), at the time that was asked for. Certificates that the chain itself brings
are never roots.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from portabl.labels import jose
from portabl.labels.steps import Failed, NotChecked

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CERTIFICATES_MAX = 10
CHAIN_BYTES_MAX = 1 << 18
_EXTENDED_VALIDATION = "2.23.140.1.1"  # CA/Browser Forum, EV Guidelines


def from_pem(text: str) -> list[Certificate]:
    """The certificates of a PEM file, leaf first. Raises Failed."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except ValueError as error:
        raise Failed(f"the chain is no PEM: {error}") from None
    return _few(found)


def from_x5c(value: Any) -> list[Certificate]:
    """The certificates of a JWK's ``x5c`` (base64 of DER, leaf first). Raises Failed."""
    from cryptography import x509

    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Failed("x5c is no list of certificates")
    try:
        ders = [base64.b64decode(one, validate=True) for one in value[: CERTIFICATES_MAX + 1]]
        return _few([x509.load_der_x509_certificate(der) for der in ders])
    except ValueError as error:
        raise Failed(f"x5c holds what is no certificate: {error}") from None


def _few(found: list[Certificate]) -> list[Certificate]:
    if not 1 <= len(found) <= CERTIFICATES_MAX:
        raise Failed(f"the chain has {len(found)} certificates, accepted are 1 to {CERTIFICATES_MAX}")
    return found


def check(chain: Sequence[Certificate], jwk: Mapping[str, Any], host: str, anchors: str, at: datetime) -> str:
    """Hold a chain against key, host, roots and time; answers who stands at its end. Raises Failed, NotChecked.

    ``anchors``: PEM of the roots; "" for those this machine trusts, and then only for extended validation.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    leaf, own = chain[0], not anchors
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = leaf.public_key().public_bytes(*form)
    except ValueError as error:
        raise Failed(f"the certificate's key cannot be read: {error}") from None
    if certified != jose.public_key(jwk).public_bytes(*form):
        raise Failed("the first certificate is for another key than the DID document's")
    roots = _system_roots() if own else from_pem_roots(anchors)
    root = _path(leaf, chain[1:], host, roots, at)
    if own and not _is_extended(leaf):
        raise Failed(
            "the chain ends at an authority for TLS, but the certificate is not one of extended validation;"
            " if this authority is to be trusted, name it in a trust file (anchors)"
        )
    return root.subject.rfc4514_string()


def _path(
    leaf: Certificate, others: Sequence[Certificate], host: str, roots: Sequence[Certificate], at: datetime
) -> Certificate:
    from cryptography import x509
    from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

    if not roots:
        raise NotChecked("no certificate authority is trusted on this machine; name one in a trust file (anchors)")
    any_usage = ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    builder = PolicyBuilder().store(Store(list(roots))).time(at)
    builder = builder.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=any_usage)
    try:
        return builder.build_server_verifier(x509.DNSName(host)).verify(leaf, list(others))[-1]
    except VerificationError as error:
        reason = str(error).partition(" (encountered")[0].removeprefix("validation failed: ")
        raise Failed(f"no path from the key for {host} to a trusted authority at {at:%Y-%m-%d}: {reason}") from None
    except ValueError as error:
        raise Failed(f"{host} cannot be checked against a certificate: {error}") from None


def from_pem_roots(text: str) -> list[Certificate]:
    """Roots from a trust file. Raises Failed."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(text.encode("ascii"))
    except ValueError as error:
        raise Failed(f"the anchors are no PEM: {error}") from None


def _system_roots() -> list[Certificate]:
    import ssl

    from cryptography import x509

    with warnings.catch_warnings():  # a few old roots have numbers that are no longer allowed
        warnings.simplefilter("ignore")
        return [
            x509.load_der_x509_certificate(der) for der in ssl.create_default_context().get_ca_certs(binary_form=True)
        ]


def _is_extended(leaf: Certificate) -> bool:
    from cryptography import x509

    try:
        policies = leaf.extensions.get_extension_for_class(x509.CertificatePolicies).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(policy.policy_identifier.dotted_string == _EXTENDED_VALIDATION for policy in policies)
