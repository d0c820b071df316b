"""Buckets with histories, and what boto3 sees of them: every version and delete marker in the server's own order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.servers import S3Server


@dataclass(frozen=True)
class Version:
    """One version as boto3 reads it; ``body`` None for a delete marker. ``latest``: the server says that it is."""

    body: bytes | None
    latest: bool
    content_type: str = ""
    user: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


def versioned(server: S3Server, status: str = "Enabled", prefix: str = "v", *, lock: bool = False) -> str:
    """A new bucket that keeps versions."""
    name = server.bucket(prefix, lock=lock)
    set_versioning(server, name, status)
    return name


def set_versioning(server: S3Server, bucket: str, status: str) -> None:
    """Enabled or Suspended."""
    server.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def listed(server: S3Server, bucket: str) -> list[tuple[str, str, bool, bool]]:
    """(key, version id, delete marker, latest) of all versions, asked for one by one: boto3 keeps two lists apart, and
    only so their common order shows. Newest first in each key, as servers list them.
    """
    singly, all_together = items(server, bucket, 1), items(server, bucket, 1000)
    if len(singly) < len(all_together):  # Ceph loses what is behind a ``null`` delete marker; its times are exact
        assert len({(item["Key"], item["LastModified"]) for item, _ in all_together}) == len(all_together)
        newest_first = sorted(all_together, key=lambda pair: pair[0]["LastModified"], reverse=True)
        singly = sorted(newest_first, key=lambda pair: pair[0]["Key"].encode())
    return [(item["Key"], item["VersionId"], gone, item["IsLatest"]) for item, gone in singly]


def items(server: S3Server, bucket: str, size: int = 1000) -> list[tuple[dict[str, Any], bool]]:
    """What boto3 shows, and whether it is a delete marker."""
    pages = server.client().get_paginator("list_object_versions")
    found = []
    for page in pages.paginate(Bucket=bucket, PaginationConfig={"PageSize": size}):
        found += [(item, False) for item in page.get("Versions", ())]
        found += [(item, True) for item in page.get("DeleteMarkers", ())]
    return found


def histories(server: S3Server, bucket: str) -> dict[str, list[Version]]:
    """Every key's versions, oldest first, read whole by boto3."""
    found: dict[str, list[Version]] = {}
    for key, version, gone, latest in reversed(listed(server, bucket)):
        seen = Version(None, latest) if gone else _read(server, bucket, key, version, latest=latest)
        found.setdefault(key, []).append(seen)
    return found


def _read(server: S3Server, bucket: str, key: str, version: str, *, latest: bool) -> Version:
    client = server.client()
    answer = client.get_object(Bucket=bucket, Key=key, VersionId=version)
    tags = client.get_object_tagging(Bucket=bucket, Key=key, VersionId=version)["TagSet"]
    return Version(
        answer["Body"].read(),
        latest,
        answer["ContentType"],
        tuple(sorted(answer["Metadata"].items())),
        tuple(sorted((tag["Key"], tag["Value"]) for tag in tags)),
    )
