"""What a ``[providers.NAME]`` table can be: one frozen class a type, with its checks.

Secrets stay references until they are asked for, and no repr shows them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from portabl import credentials
from portabl.countries import COUNTRY
from portabl.errors import ConfigError
from portabl.keys import plain
from portabl.model import NOTHING

SECRETS = ("secret_access_key", "session_token", "sse_c_keys")
CREDENTIALS = ("access_key_id", *SECRETS)
_CLASS = re.compile(r"[A-Za-z0-9_-]+")
DERIVED = ("name", "origin", "hints")
"""Not fields of the file."""
ABOUT = ("catalogue", "country", "owner_country", "labels")
"""Said about the place; its adapter has no use for them."""


@dataclass(frozen=True)
class Provider:
    """A place with a name. ``origin`` is the file it was read from, for messages.

    ``catalogue``: id of a catalogue entry. ``country``: where the data is; ``owner_country``: of the company behind
    it (both ISO 3166-1 alpha-2): the user's own word, else the catalogue's where it is documented, else "".
    ``labels``: files of Gaia-X label credentials, relative to the configuration file (docs/labels.md).
    ``hints``: settings that follow from the catalogue; whatever is set or measured overrules them.
    """

    name: str
    origin: str = field(default="", repr=False)
    catalogue: str = ""
    country: str = ""
    owner_country: str = ""
    labels: tuple[str, ...] = ()
    hints: Mapping[str, object] = field(default=NOTHING, repr=False)
    type = ""

    def settings(self) -> dict[str, object]:
        """What an adapter is given: hints, overruled by the fields that are set; credential references unresolved."""
        left_out = (*DERIVED, *ABOUT)
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        if own.get("ca_bundle"):
            own["ca_bundle"] = self.trusted()
        return {**self.hints, **{name: value for name, value in own.items() if value not in (None, "")}}

    def secret(self, name: str) -> str | None:
        """The present value of a credential field, None when it is not set. Raises ConfigError."""
        value = getattr(self, name, None) if name in CREDENTIALS else None
        if not value:
            return None
        return credentials.resolve(value, where(self.origin, self.name, name), os.path.dirname(self.origin))

    def trusted(self) -> str:
        """Path of the certificates to trust, "" for the system's. A relative one starts at the configuration file."""
        written = getattr(self, "ca_bundle", "")
        return os.path.join(os.path.dirname(self.origin), os.path.expanduser(written)) if written else ""

    def check(self) -> None:
        """Values that a type alone does not rule out. Raises ConfigError."""
        for name in ("country", "owner_country"):
            value = getattr(self, name)
            if value and not COUNTRY.fullmatch(value):
                raise self.wrong(name, f"must be an ISO 3166-1 code such as `FR`, not `{plain(value)}`")

    def wrong(self, name: str, message: str, hint: str = "") -> ConfigError:
        """An error about one field."""
        return ConfigError(f"{where(self.origin, self.name, name)}: {message}", hint=hint)


@dataclass(frozen=True)
class S3Provider(Provider):
    """An S3-compatible store. An empty ``endpoint`` means AWS; unset behaviours are found out by the adapter.

    ``stall_seconds``: how long a transfer may stand still. ``part_size_min``: bytes. ``sse_c_keys``: keys in base64 to
    read SSE-C objects with. ``storage_classes``: names at a source to names here, for ``--storage-class map``.
    """

    endpoint: str = ""
    region: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    addressing: str = ""
    ca_bundle: str = ""
    insecure: bool | None = None
    etag_is_md5: bool | None = None
    announces_tags: bool | None = None
    list_objects_version: int | None = None
    url_encoded_listing: bool | None = None
    parts_max: int | None = None
    part_size_min: int | None = None
    stall_seconds: float | None = None
    sse_c_keys: str = field(default="", repr=False)
    storage_classes: Mapping[str, object] | None = None
    type = "s3"

    def check(self) -> None:
        """Values that contradict each other or S3. Raises ConfigError."""
        super().check()
        if self.endpoint and not _is_endpoint(self.endpoint):
            raise self.wrong("endpoint", "must be a URL of scheme and host", "such as `https://s3.example.org`")
        if self.addressing not in ("", "path", "virtual"):
            raise self.wrong("addressing", f"must be `path` or `virtual`, not `{plain(self.addressing)}`")
        if self.list_objects_version not in (None, 1, 2):
            raise self.wrong("list_objects_version", "must be 1 or 2")
        for name in ("parts_max", "part_size_min", "stall_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise self.wrong(name, f"must be above 0, not {value}")
        for old, new in (self.storage_classes or {}).items():
            if not (isinstance(new, str) and _CLASS.fullmatch(new) and (old == "*" or _CLASS.fullmatch(old))):
                raise self.wrong(
                    "storage_classes", "must give each class a class", 'such as `{ STANDARD_IA = "COLD" }`'
                )
        if bool(self.access_key_id) != bool(self.secret_access_key):
            missing = "secret_access_key" if self.access_key_id else "access_key_id"
            raise self.wrong(missing, "is missing; access_key_id and secret_access_key belong together")
        if self.profile and self.access_key_id:
            raise self.wrong("profile", "cannot be combined with access_key_id", "keep one of the two")


@dataclass(frozen=True)
class FileProvider(Provider):
    """A directory. ``path`` may start with ``~``; a relative one starts from the configuration file's directory."""

    path: str = ""
    type = "file"


@dataclass(frozen=True)
class FsspecProvider(Provider):
    """Any fsspec filesystem. Strings in ``options`` may be credential references."""

    url: str = field(default="", repr=False)
    options: Mapping[str, object] | None = field(default=None, repr=False)
    type = "fsspec"

    def resolved_options(self) -> dict[str, object]:
        """``options`` with every credential reference replaced by its value. Raises ConfigError."""
        folder = os.path.dirname(self.origin)

        def value_of(name: str, value: object) -> object:
            if isinstance(value, str):
                return credentials.resolve(value, where(self.origin, self.name, f"options.{name}"), folder)
            if isinstance(value, Mapping):
                return {inner: value_of(f"{name}.{inner}", v) for inner, v in value.items()}
            return value

        return {name: value_of(name, value) for name, value in (self.options or {}).items()}


TYPES: Mapping[str, type[Provider]] = MappingProxyType(
    {"s3": S3Provider, "file": FileProvider, "fsspec": FsspecProvider}
)
REQUIRED: Mapping[str, tuple[str, ...]] = MappingProxyType({"s3": (), "file": ("path",), "fsspec": ("url",)})


def where(origin: str, name: str, field_name: str = "") -> str:
    """File, table and field, the way every configuration error begins."""
    start = f"{origin}: " if origin else ""
    return f"{start}[providers.{plain(name)}]{' ' + plain(field_name) if field_name else ''}"


def _is_endpoint(text: str) -> bool:
    """Scheme, host, perhaps a port, and nothing else."""
    try:
        url = urlsplit(text)
        if url.port is not None and url.port <= 0:
            return False
    except ValueError:
        return False
    if url.scheme not in ("http", "https") or not url.hostname:
        return False
    return not (url.username or url.password or url.query or url.fragment or url.path not in ("", "/"))
