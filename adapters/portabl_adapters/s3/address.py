"""Where a bucket is: endpoint, region, addressing, TLS; and the exact URL of every key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_from_bytes, urlsplit

from portabl.errors import ConfigError, Refused

DEFAULT_REGION = "us-east-1"
KEYS_REMEMBERED = 1024
"""More than are under way at once: what was found out about a key for its GET serves its PUT."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DOTS = re.compile(rb"(?:^|/)\.{1,2}(?:/|$)")
_AWS = re.compile(r"s3[a-z0-9.-]*\.(amazonaws\.com(?:\.cn)?)")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """One bucket at one endpoint. ``base`` is the bucket's URL with its slash at the end: every key's URL begins so.

    ``encoded_listing``: the server is asked to percent-encode keys in listings; some repeat a page for ever when asked.
    """

    endpoint: str
    region: str
    bucket: str
    base: str
    host: str
    ca_bundle: str = ""
    insecure: bool = False
    encoded_listing: bool = True

    def url(self, key: bytes) -> str:
        """URL of one key: unreserved characters and ``/`` as they are, every other byte percent-encoded (RFC 3986).

        Raises Refused for the empty key: its URL is the bucket's own, where PUT creates and DELETE removes it.
        """
        if not key:
            raise Refused("an object without a name cannot exist in S3", key=key)
        return self.base + _quoted(key)

    @property
    def place(self) -> str:
        """Service and bucket, the same however the endpoint is spelled. AWS has many; its bucket names are unique."""
        parts = urlsplit(self.endpoint)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        if partition := _AWS.fullmatch(host):
            return f"s3 {partition[1]} {self.bucket}"
        where = (
            f"{parts.scheme}://{host}:{parts.port}" if parts.port else host
        )  # one service behind both standard ports
        return f"s3 {where}{parts.path} {self.bucket}"

    @property
    def encoding(self) -> str:
        """The parameter of a listing that asks for percent-encoded keys, or ""."""
        return "encoding-type=url&" if self.encoded_listing else ""

    @property
    def guarded(self) -> bool:
        """Whether nobody can change a body on the way unseen: verified TLS, or this machine alone and no proxy."""
        parts = urlsplit(self.endpoint)
        if parts.scheme == "https":
            return not self.insecure
        host = parts.hostname or ""
        alone = host in ("localhost", "::1") or re.fullmatch(r"127\.\d+\.\d+\.\d+", host) is not None
        return alone and not any(os.environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))

    @property
    def bucket_url(self) -> str:
        """URL of the bucket itself, for listings."""
        return self.base[:-1] if self.base.count("/") > 3 else self.base


@lru_cache(maxsize=KEYS_REMEMBERED)
def _quoted(key: bytes) -> str:
    return quote_from_bytes(key)


@lru_cache(maxsize=KEYS_REMEMBERED)
def has_dot_segment(key: bytes) -> bool:
    """Whether libcurl would change the path: it resolves ``.`` and ``..`` segments, and must while it signs."""
    return b"." in key and _DOTS.search(key) is not None


def parse_address(settings: Mapping[str, object], bucket: str) -> Address:
    """Read endpoint, region, addressing, ca_bundle and insecure. Raises ConfigError."""
    region = str(settings.get("region") or DEFAULT_REGION)
    endpoint = str(settings.get("endpoint") or "")
    addressing = str(settings.get("addressing") or ("path" if endpoint or "." in bucket else "virtual"))
    parts = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
    _refuse_bad(parts.scheme, parts.hostname, addressing, bucket, secret="@" in parts.netloc, extra=parts.query)
    host = _host(parts.scheme, parts.hostname or "", parts.port)
    root = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    if addressing == "virtual":
        base = f"{parts.scheme}://{bucket}.{host}{parts.path.rstrip('/')}/"
    else:
        base = f"{root}/{bucket}/"
    ca_bundle = str(settings.get("ca_bundle") or "")
    encoded = settings.get("url_encoded_listing") is not False
    return Address(root, region, bucket, base, host, ca_bundle, settings.get("insecure") is True, encoded)


def _refuse_bad(scheme: str, host: str | None, addressing: str, bucket: str, *, secret: bool, extra: str) -> None:
    if secret:
        raise ConfigError("the endpoint must not hold a user name or password")
    if scheme not in _DEFAULT_PORTS or not host or extra:
        raise ConfigError("the endpoint must be a URL such as https://s3.example.com")
    if addressing not in ("path", "virtual"):
        raise ConfigError(f'addressing must be "path" or "virtual", not "{addressing}"')
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f'"{bucket}" is no bucket name')


def _host(scheme: str, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, _DEFAULT_PORTS[scheme]) else f"{shown}:{port}"
