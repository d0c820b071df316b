"""Small documents from elsewhere over HTTPS, and a cache that remembers when they were seen.

What is fetched here is named by a document from outside, so every connection is looked at when it is made: public
addresses only (a DNS answer that changes later gains nothing), HTTPS only, few redirects, little time, few bytes, and
no proxy, because behind one nobody could tell which address was reached.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from portabl import __version__
from portabl.errors import PortablError
from portabl.files import Files
from portabl.labels.steps import NotChecked

CONNECT_SECONDS_MAX = 10
SECONDS_MAX = 30
REDIRECTS_MAX = 3
CACHE_AGE_MAX = timedelta(days=90)
"""Oldest cached document that is used: a label lives 90 days, and keys change."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Gets documents. ``private``: ``host`` or ``host:port`` with a private address; ``ca_bundle``: PEM file."""

    private: frozenset[str] = frozenset()
    ca_bundle: str = ""

    def get(self, url: str, limit: int) -> str:
        """The text at an https URL, at most ``limit`` bytes of UTF-8. Raises NotChecked with the reason."""
        host, port = _authority(url)
        allowed = bool({host, f"{host}:{port}"} & self.private)
        status, body, refused = _perform(url, limit, allowed, self.ca_bundle)
        if refused:
            raise NotChecked(f"{url}: {refused}")
        if status != 200:
            raise NotChecked(f"{url}: the server answers {status}")
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            raise NotChecked(f"{url}: the answer is not UTF-8") from None


def _authority(url: str) -> tuple[str, int]:
    """Host and port of an https URL. Raises NotChecked for any other."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        raise NotChecked(f"{url[:200]!r} is no URL") from None
    if parts.scheme != "https" or not host or "@" in parts.netloc or not url.isascii() or not url.isprintable():
        raise NotChecked(f"{url[:200]!r} is no plain https URL")
    return host, port


def _perform(url: str, limit: int, private: bool, ca_bundle: str) -> tuple[int, bytes, str]:
    """Status, body, and why there is none ("" when there is)."""
    import pycurl

    body, refused = bytearray(), [""]
    sockets: list[socket.socket] = []  # libcurl works on copies of their descriptors

    def take(data: bytes) -> int | None:
        if len(body) + len(data) > limit:
            refused[0] = f"the answer is longer than {limit:,} bytes"
            return -1
        body.extend(data)
        return None

    curl = pycurl.Curl()
    try:
        for option, value in (
            (pycurl.URL, url),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTPS),
            (pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0 if private else 1),
            (pycurl.MAXREDIRS, REDIRECTS_MAX),
            (pycurl.CONNECTTIMEOUT, CONNECT_SECONDS_MAX),
            (pycurl.TIMEOUT, SECONDS_MAX),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.USERAGENT, f"portabl/{__version__}"),
            (pycurl.HTTPHEADER, ["Accept: application/did+json, application/json, */*;q=0.5"]),
            (pycurl.WRITEFUNCTION, take),
            (pycurl.OPENSOCKETFUNCTION, _guard(private, refused, sockets)),
            *([(pycurl.CAINFO, ca_bundle)] if ca_bundle else []),
        ):
            curl.setopt(option, value)
        curl.perform()
        return int(curl.getinfo(pycurl.RESPONSE_CODE)), bytes(body), ""
    except pycurl.error as error:
        return 0, b"", refused[0] or f"no answer: {error.args[-1]}"
    finally:
        curl.close()
        for one in sockets:
            one.close()


def _guard(
    private: bool, refused: list[str], sockets: list[socket.socket]
) -> Callable[[int, tuple[int, int, int, tuple[object, ...]]], object]:
    """Called by libcurl with the address it is about to connect to; refuses by giving no socket."""

    def opened(_purpose: int, where: tuple[int, int, int, tuple[object, ...]]) -> object:
        import pycurl

        family, kind, protocol, address = where
        host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
        if not private and not is_public(host):
            refused[0] = f"{host} is no public address; own clearing houses are named in a trust file (private_hosts)"
            return pycurl.SOCKET_BAD
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    return opened


def is_public(host: str) -> bool:
    """Whether an address is one of the public internet, also when it is wrapped into another."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return address.is_global and not address.is_multicast


@dataclass(frozen=True, slots=True)
class Cache:
    """Documents seen before, each with its date. A file that cannot be read is as good as none."""

    folder: str

    def put(self, url: str, text: str) -> None:
        """Remember a document. A cache that cannot be written is no reason to fail."""
        seen = datetime.now(UTC).replace(microsecond=0).isoformat()
        entry = json.dumps({"url": url, "seen": seen, "text": text})
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            Files.at(self.folder).write(_file_name(url), entry.encode())
        except (PortablError, OSError):
            return

    def get(self, url: str) -> tuple[str, str] | None:
        """The text and when it was seen (UTC, RFC 3339); None when it is not there or too old."""
        try:
            entry = json.loads(Files.at(self.folder).read(_file_name(url)))
            seen = datetime.fromisoformat(entry["seen"])
            good = entry["url"] == url and timedelta(0) <= datetime.now(UTC) - seen <= CACHE_AGE_MAX
            return (str(entry["text"]), str(entry["seen"])) if good else None
        except (PortablError, OSError, ValueError, KeyError, TypeError):
            return None


def _file_name(url: str) -> str:
    return f"{hashlib.sha256(url.encode()).hexdigest()}.json"


def default_cache() -> Cache:
    """The user's cache directory (`XDG_CACHE_HOME`, else the platform's habit)."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(base)
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", str(Path.home())))
    else:
        folder = Path.home() / ".cache"
    return Cache(str(folder / "portabl" / "labels"))
