"""Opening an S3 storage in a test, in front of a real server or of a proxy that breaks things."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kit.servers import S3Server
from portabl.model import Body
from portabl.storage import Opening
from portabl_adapters.s3.storage import S3Storage


def opened(
    server: S3Server,
    bucket: str,
    prefix: bytes = b"",
    *,
    endpoint: str = "",
    secrets: Mapping[str, str] | None = None,
    threads: int = 4,
    **settings: object,
) -> S3Storage:
    """The bucket as the adapter opens it; ``endpoint`` of a proxy instead of the server's own."""
    keys = secrets or {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    where = {"endpoint": endpoint or server.endpoint, "region": server.region, **settings}
    return S3Storage(Opening(f"{server.name}:{bucket}", bucket, prefix, where, keys.get, threads))


def body(data: bytes) -> Body:
    """Bytes with their digests."""
    return Body(data, hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
