"""Signed tokens, read without trust: each limit is checked before the next thing is looked at.

Compact JWS of RFC 7515 with three algorithms and nothing else; the mistakes that RFC 8725 collects (``none``, a key
in the header, one algorithm's key used with another) have no way in. All cryptography is the package ``cryptography``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portabl.errors import ConfigError
from portabl.labels.steps import Failed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = RSAPublicKey | EllipticCurvePublicKey

TOKEN_BYTES_MAX = 1 << 20
"""Longest token that is read; real labels have 2.5 kB, real presentations 7 kB."""

DEPTH_MAX = 32
"""Deepest nesting of JSON that is read; real credentials have 5."""

ALGORITHMS = ("PS256", "ES256", "RS256")
RSA_BITS = range(2048, 8193)
_UNDERSTOOD = {"alg", "typ", "cty", "iss", "kid", "iat", "exp", "nbf", "sub", "jti"}
_KEY_IN_HEADER = {"jwk", "jku", "x5c", "x5u"}
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Token:
    """A compact JWS taken apart; nothing of it is proven yet. ``signed``: the bytes that ``signature`` is over."""

    text: str
    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    signature: bytes
    signed: bytes


def require() -> None:
    """Raise ConfigError when the packages of the extra ``labels`` are missing."""
    try:
        import cryptography
        import rfc8785
    except ImportError as error:
        hint = "pip install 'portabl[labels]'"
        raise ConfigError(f"labels need the package {error.name}, which is not installed", hint=hint) from error
    del cryptography, rfc8785


def parse(text: str, limit: int = TOKEN_BYTES_MAX) -> Token:
    """Take a token apart. Raises Failed."""
    text = text.strip()
    if len(text) > limit:
        raise Failed(f"the token has {len(text):,} characters, more than the {limit:,} that are read")
    parts = text.split(".")
    if len(parts) != 3:
        raise Failed(f"a compact JWS has three parts, this has {len(parts)}")
    header, payload = (read_json(decode64(parts[i], what), what) for i, what in enumerate(("header", "payload")))
    signature = decode64(parts[2], "signature")
    return Token(text, header, payload, signature, f"{parts[0]}.{parts[1]}".encode("ascii"))


def decode64(text: str, what: str) -> bytes:
    """Base64url without padding, in the one way it can be written (RFC 4648 section 5). Raises Failed."""
    if not _BASE64URL(text) or len(text) % 4 == 1:
        raise Failed(f"the {what} is not base64url without padding")
    found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text.encode("ascii"):
        raise Failed(f"the {what} is base64url with bits left over")
    return found


def read_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object in UTF-8, without names that come twice and without depth. Raises Failed."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_constant)
    except RecursionError:
        raise Failed(f"the {what} is nested deeper than {DEPTH_MAX} levels") from None
    except UnicodeDecodeError:
        raise Failed(f"the {what} is not UTF-8") from None
    except ValueError as error:
        raise Failed(f"the {what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Failed(f"the {what} is no JSON object")
    if _deeper(value, DEPTH_MAX):
        raise Failed(f"the {what} is nested deeper than {DEPTH_MAX} levels")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!r} comes twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _deeper(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (one for one in inner if isinstance(one, (dict, list)))


def check_header(header: Mapping[str, Any]) -> str:
    """The token's algorithm, one of `ALGORITHMS`. Raises Failed for others and for headers that bring their own key."""
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS:
        raise Failed(f"alg is {algorithm!r}, accepted are {', '.join(ALGORITHMS)}")
    if "crit" in header or "b64" in header:
        raise Failed("the header asks for extensions (crit, b64) that are not understood")
    if own := sorted(_KEY_IN_HEADER & set(header)):
        raise Failed(f"the header brings its own key ({', '.join(own)}); a key comes from the issuer's DID document")
    if not all(isinstance(header.get(name, ""), str) for name in ("typ", "cty", "iss", "kid")):
        raise Failed("typ, cty, iss and kid must be strings")
    return str(algorithm)


def check_signature(token: Token, jwk: Mapping[str, Any]) -> None:
    """Hold the signature against a public key (JWK). Raises Failed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    algorithm = check_header(token.header)
    if jwk.get("alg", algorithm) != algorithm:
        raise Failed(f"the key is for {jwk['alg']!r}, the token says {algorithm}")
    key = public_key(jwk)
    sha256 = hashes.SHA256()
    try:
        if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            if len(token.signature) != 64:
                raise Failed(f"an ES256 signature has 64 bytes, this has {len(token.signature)}")
            numbers = (int.from_bytes(token.signature[:32]), int.from_bytes(token.signature[32:]))
            key.verify(utils.encode_dss_signature(*numbers), token.signed, ec.ECDSA(sha256))
        elif algorithm == "PS256" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(sha256), padding.PSS.DIGEST_LENGTH)
            key.verify(token.signature, token.signed, pss, sha256)
        elif algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(token.signature, token.signed, padding.PKCS1v15(), sha256)
        else:
            raise Failed(f"the key is of type {jwk.get('kty')!r}, which does not go with {algorithm}")
    except InvalidSignature:
        raise Failed(f"the {algorithm} signature is not one of this key over this token") from None


def public_key(jwk: Mapping[str, Any]) -> PublicKey:
    """The key a JWK describes: RSA of 2048 to 8192 bits, or EC on P-256 (RFC 7518 section 6). Raises Failed."""
    if any(name in jwk for name in _PRIVATE):
        raise Failed("the DID document publishes a private or symmetric key: whoever reads it can sign")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        raise Failed("the key is not meant for signatures")
    try:
        return _rsa(jwk) if jwk.get("kty") == "RSA" else _p256(jwk)
    except (ValueError, TypeError) as error:
        raise Failed(f"the key is none: {error}") from None


def _rsa(jwk: Mapping[str, Any]) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    modulus, exponent = _number(jwk, "n"), _number(jwk, "e")
    if modulus.bit_length() not in RSA_BITS or exponent.bit_length() > 64:
        raise Failed(f"an RSA key of {modulus.bit_length()} bits is not accepted (2048 to 8192)")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _p256(jwk: Mapping[str, Any]) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
        raise Failed(f"a key of type {jwk.get('kty')!r} {jwk.get('crv', '')!r} is not accepted (RSA, or EC P-256)")
    return ec.EllipticCurvePublicNumbers(_number(jwk, "x"), _number(jwk, "y"), ec.SECP256R1()).public_key()


def _number(jwk: Mapping[str, Any], name: str) -> int:
    if not isinstance(jwk.get(name), str):
        raise Failed(f"the key has no {name}")
    return int.from_bytes(decode64(jwk[name], f"key's {name}"))
