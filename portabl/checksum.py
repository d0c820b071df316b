"""Digests: what is computed on the way, and what a store's own digest proves.

SHA-256 is the identity portabl records. MD5 is computed besides it for bodies written in one piece, because the
ETag of such an object usually is its MD5: it then proves what the source sent and what the target keeps. An ETag
of a multipart object ("...-12"), of an encrypted one, or of a store that does not use MD5 proves nothing and is
never treated as a digest; adapters only claim digests they can stand behind (`ObjectInfo.digests`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from portabl.errors import Corrupt
from portabl.model import Body

MD5_ETAG = re.compile(r"[0-9a-f]{32}")


def body(data: bytes | memoryview, *, md5: bool) -> Body:
    """Wrap bytes with their SHA-256 and, when asked, MD5 (lower-case hex)."""
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest() if md5 else ""
    return Body(data, hashlib.sha256(data).hexdigest(), digest)


def crc64nvme(data: bytes | memoryview) -> str:
    """CRC-64/NVME (NVM Express NVM Command Set 1.0d, 5.2.1.3.4) as 16 hex digits."""
    from awscrt import checksums

    return f"{checksums.crc64nvme(data):016x}"


class Whole:
    """Digests of an object that passes by in pieces, in order; ``algorithms`` are hashlib names."""

    def __init__(self, *algorithms: str) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in dict.fromkeys(algorithms)}

    def update(self, data: bytes | memoryview) -> None:
        """Take the next piece."""
        for digest in self._hashes.values():
            digest.update(data)

    def hexdigests(self) -> dict[str, str]:
        """Lower-case hex by algorithm, of everything so far."""
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}


COMPARABLE = ("md5", "sha256", "sha1", "sha512")


def confirm(claimed: Mapping[str, str], computed: Mapping[str, str], key: bytes, storage: str) -> None:
    """Hold the digests a store claims against ours; raises Corrupt with both values when they differ."""
    for name, theirs in claimed.items():
        ours = computed.get(name)
        if ours and ours != theirs:
            raise Corrupt(
                f"{name} differs: the store says {theirs}, the bytes give {ours}",
                key=key,
                storage=storage,
                hint="if this store's ETags are not MD5, set `etag_is_md5 = false` for the provider",
            )
