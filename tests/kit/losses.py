"""What a run admits to have lost, beside what boto3 finds to be lost: both as sets of (key, field)."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kit.hazards import Seen

_NAMES = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "ExpiresString": "expires",
    "WebsiteRedirectLocation": "website-redirect-location",
    "StorageClass": "storage-class",
}
Losses = set[tuple[bytes, str]]


def fields(seen: Seen, *, storage_class: bool = False) -> dict[str, str]:
    """Everything boto3 told of an object besides its bytes, by the names a manifest uses."""
    found = {_NAMES[name]: value for name, value in seen.headers.items()}
    if found.get("content-type") == "binary/octet-stream":  # what S3 says of an object stored without a type
        del found["content-type"]
    if not storage_class:
        found.pop("storage-class", None)
    found |= {f"user.{name.lower()}": value for name, value in seen.metadata.items()}
    return found | {f"tag.{name}": value for name, value in seen.tags.items()}


def observed(source: Mapping[bytes, Seen], target: Mapping[bytes, Seen], *, storage_class: bool = False) -> Losses:
    """What boto3 finds missing or different at the target: (key, "object") for bytes, else (key, field)."""
    lost: Losses = set()
    for key, was in source.items():
        now = target.get(key)
        if now is None or (now.size, now.sha256) != (was.size, was.sha256):
            lost.add((key, "object"))
            continue
        ours, theirs = fields(was, storage_class=storage_class), fields(now, storage_class=storage_class)
        lost |= {(key, name) for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    return lost


def admitted(manifest: str | Path) -> Losses:
    """What the manifest names as lost; of an object that is lost as a whole, its fields are not counted."""
    lost = {(key(record["object"]), loss["field"]) for record in records(manifest) for loss in record.get("losses", ())}
    return {(name, field) for name, field in lost if field == "object" or (name, "object") not in lost}


def records(manifest: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a manifest in a local directory, by nothing but json and gzip."""
    folder = Path(str(manifest).removeprefix("file://"))
    for segment in json.loads((folder / "manifest.json").read_bytes())["segments"]:
        yield from map(json.loads, gzip.decompress((folder / segment["name"]).read_bytes()).splitlines())


def key(record: Mapping[str, Any]) -> bytes:
    """The exact key of a record."""
    value = record["key"]
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
