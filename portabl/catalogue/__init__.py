"""The built-in catalogue: what is publicly known of storage providers, one small file each, read when it is asked for.

It is a starting point with sources and dates, and no promise: nothing in it was measured, and `[capabilities]` are
hints that a user's own settings and anything measured overrule. ``documented = false`` and the list ``undocumented``
mark what no document confirms. Every file is held against the dataclasses below when it is loaded.
"""

from __future__ import annotations

import datetime
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from portabl import tables
from portabl.countries import COUNTRY
from portabl.errors import ConfigError
from portabl.keys import plain

STATUSES = ("active", "closing", "closed", "self-hosted", "no-endpoint")
APIS = ("s3", "azure-blob", "reseller", "unknown", "none")
ADDRESSING = ("path", "virtual", "either", "unknown", "none")
SIDES = ("source", "target", "both")


@dataclass(frozen=True)
class Region:
    """Where a bucket can be. ``country`` is "" when it depends on the bucket or the tenant; ``signing``: the region
    that signatures name, when it is not the region's own name.
    """

    name: str
    endpoint: str = ""
    country: str = ""
    place: str = ""
    signing: str = ""
    documented: bool = True
    note: str = ""


@dataclass(frozen=True)
class Owner:
    """The country of the company behind a provider, and whether a document confirms it."""

    country: str = ""
    documented: bool = False
    note: str = ""


@dataclass(frozen=True)
class Limits:
    """Numbers: bytes, counts, seconds. What is None is unknown, not unlimited."""

    object_size_max: int | None = None
    single_put_max: int | None = None
    part_size_min: int | None = None
    part_size_max: int | None = None
    parts_max: int | None = None
    key_bytes_max: int | None = None
    key_segment_bytes_max: int | None = None
    metadata_bytes_max: int | None = None
    tags_max: int | None = None
    versions_max: int | None = None
    buckets_max: int | None = None
    bucket_objects_recommended: int | None = None
    keys_per_delete_max: int | None = None
    request_seconds_max: int | None = None
    reads_per_second: int | None = None
    writes_per_second: int | None = None
    annotations_max: int | None = None
    annotation_bytes_max: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """Hints, overruled by whatever was measured. None: unknown, or as on AWS.

    ``headers_dropped``: content headers that are accepted and not given back.
    """

    list_objects_version: int | None = None
    url_encoded_listing: bool | None = None
    etag_is_md5: bool | None = None
    multipart_etag_is_md5_of_md5s: bool | None = None
    equal_parts: bool | None = None
    tags: bool | None = None
    object_acl: bool | None = None
    versions: bool | None = None
    object_lock: bool | None = None
    conditional_writes: bool | None = None
    server_side_copy: bool | None = None
    server_side_copy_of_parts: bool | None = None
    bucket_exists_error_means_foreign: bool | None = None
    headers_dropped: tuple[str, ...] = ()
    storage_classes: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hazard:
    """What a migration may lose. ``side``: source, target or both; ``reason``: why, or what to do."""

    side: str
    what: str
    reason: str
    documented: bool = True


@dataclass(frozen=True)
class Portability:
    """Public documents about leaving; named like the fields of ``gx:DataPortability`` in the Gaia-X ontology 25.11."""

    resource: str = ""
    means: tuple[str, ...] = ()
    documentations: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    deletion_methods: tuple[str, ...] = ()
    deletion_timeframe: str = ""
    legal_document: str = ""
    pricing: str = ""
    contact_information: str = ""


@dataclass(frozen=True)
class Entry:
    """One provider. ``advice``: what to use instead where there is no S3 API; ``history``: what became of it."""

    id: str
    name: str
    status: str
    api: str
    checked: datetime.date
    sources: tuple[str, ...]
    addressing: str = "unknown"
    endpoint_template: str = ""
    advice: str = ""
    history: str = ""
    notes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    undocumented: tuple[str, ...] = ()
    owner: Owner = Owner()
    limits: Limits = Limits()
    capabilities: Capabilities = Capabilities()
    portability: Portability = Portability()
    regions: Mapping[str, Region] = field(default_factory=dict)
    hazards: tuple[Hazard, ...] = ()

    def region(self, name: str) -> Region | None:
        """The region of that name, or the only one that is signed as that name."""
        if name in self.regions:
            return self.regions[name]
        signed = [region for region in self.regions.values() if region.signing == name]
        return signed[0] if len(signed) == 1 else None

    @property
    def is_aws(self) -> bool:
        """Whether the adapter's own rule for AWS makes the endpoints."""
        return self.endpoint_template == "https://s3.{region}.amazonaws.com"

    @property
    def why_not_s3(self) -> str:
        """The end of a sentence that begins with the provider's name."""
        if self.status == "closed":
            return "is closed"
        if self.api == "reseller":
            return "resells the storage of others"
        return "has no S3 API" if self.api == "azure-blob" else "has no public S3 endpoint that is known"

    def hints(self) -> dict[str, object]:
        """Settings of an S3 provider that follow from this entry; every one of them may be overruled."""
        found: dict[str, object] = {
            "addressing": self.addressing if self.addressing in ("path", "virtual") else None,
            "parts_max": self.limits.parts_max,
            "part_size_min": self.limits.part_size_min,
            "list_objects_version": self.capabilities.list_objects_version,
            "url_encoded_listing": self.capabilities.url_encoded_listing,
            "etag_is_md5": self.capabilities.etag_is_md5,
        }
        return {name: value for name, value in found.items() if value is not None}


@functools.cache
def names() -> tuple[str, ...]:
    """Ids of all entries, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def entry(name: str, where: str = "") -> Entry:
    """One entry. ``where`` begins the error when there is none of that name. Raises ConfigError."""
    if name not in names():
        start = f"{where}: " if where else ""
        near = tables.near(name, names())
        hint = f"did you mean `{near}`?" if near else "`portabl providers list --catalogue` shows all"
        raise ConfigError(f"{start}the catalogue has no `{plain(name)}`", hint=hint)
    return _load(name)


@functools.cache
def _load(name: str) -> Entry:
    text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return parse(name, text)


def parse(name: str, text: str) -> Entry:
    """An entry from its file's text, held against the schema. Raises ConfigError that names file, table and field."""
    file = f"catalogue/{name}.toml"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    inner = {key: document.pop(key, {}) for key in _TABLES}
    regions, hazards = document.pop("regions", {}), document.pop("hazards", [])
    checked = document.pop("checked", None)
    if not isinstance(checked, datetime.date) or isinstance(checked, datetime.datetime):
        raise ConfigError(f"{file} checked: must be a date")
    known = tables.fields_of(Entry, but=("id", "checked", "regions", "hazards", *_TABLES))
    values = tables.checked(file, document, known)
    for needed in ("name", "status", "api", "sources"):
        if not values.get(needed):
            raise ConfigError(f"{file} {needed}: is missing")
    made = Entry(
        id=name,
        checked=checked,
        **values,
        **{key: kind(**_inner(f"{file} [{key}]", kind, inner[key])) for key, kind in _TABLES.items()},
        regions=MappingProxyType({key: _region(file, key, table) for key, table in regions.items()}),
        hazards=tuple(Hazard(**_inner(f"{file} [[hazards]]", Hazard, table)) for table in hazards),
    )
    _check(file, made)
    return made


_TABLES: Mapping[str, type[Any]] = {
    "owner": Owner,
    "limits": Limits,
    "capabilities": Capabilities,
    "portability": Portability,
}


def _inner(where: str, kind: type[Any], table: object, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table")
    values = tables.checked(where, table, tables.fields_of(kind, but=but))
    missing = {"side", "what", "reason"} - values.keys() if kind is Hazard else ()
    if missing:
        raise ConfigError(f"{where}: {', '.join(sorted(missing))} is missing")
    return values


def _region(file: str, name: str, table: object) -> Region:
    return Region(name=name, **_inner(f"{file} [regions.{name}]", Region, table, but=("name",)))


def _check(file: str, made: Entry) -> None:
    """What a type alone does not say."""
    for name, value, allowed in (
        ("status", made.status, STATUSES),
        ("api", made.api, APIS),
        ("addressing", made.addressing, ADDRESSING),
        *(("[[hazards]] side", hazard.side, SIDES) for hazard in made.hazards),
    ):
        if value not in allowed:
            raise ConfigError(f"{file} {name}: `{plain(value)}` is none of {', '.join(allowed)}")
    for name, country in (
        ("[owner]", made.owner.country),
        *((f"[regions.{region.name}]", region.country) for region in made.regions.values()),
    ):
        if country and not COUNTRY.fullmatch(country):
            raise ConfigError(f"{file} {name} country: `{plain(country)}` is no ISO 3166-1 alpha-2 code")
    for region in made.regions.values():
        url = urlsplit(region.endpoint)
        if url.scheme != "https" or not url.hostname or url.path or url.query or "{" in region.endpoint:
            raise ConfigError(f"{file} [regions.{region.name}] endpoint: must be https:// and a host")
    fields = tables.fields_of(Entry)
    for path in made.undocumented:
        if (head := re.split(r"[.\[]", path)[0]) not in fields:
            raise ConfigError(f"{file} undocumented: there is no `{plain(head)}`", hint=tables.suggest(head, fields))
    if made.status == "closed" and not made.history:
        raise ConfigError(f"{file} history: is missing; a closed provider says when and why")
    if made.api != "s3" and not (made.advice or made.history):
        raise ConfigError(f"{file} advice: is missing; without an S3 API it says what to use")
