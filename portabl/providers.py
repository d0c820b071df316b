"""Named providers: ``portabl.toml`` read into frozen values, every mistake named by file, table and field.

Searched in this order: the file given with ``--config``; ``portabl.toml`` in the working directory;
``portabl/portabl.toml`` in the user's configuration directory. The first that exists is used alone; files are
never merged.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from portabl import credentials
from portabl.errors import ConfigError
from portabl.keys import plain

FILE_NAME = "portabl.toml"
SECRETS = ("secret_access_key", "session_token")
CREDENTIALS = ("access_key_id", *SECRETS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Provider:
    """A place with a name. ``origin`` is the file it was read from, for messages."""

    name: str
    origin: str = field(default="", repr=False)
    type = ""

    def settings(self) -> dict[str, object]:
        """The table as written: fields that are set, credential references unresolved."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("name", "origin")}
        return {name: value for name, value in own.items() if value not in (None, "")}

    def secret(self, name: str) -> str | None:
        """The present value of a credential field, None when it is not set. Raises ConfigError."""
        value = getattr(self, name, None) if name in CREDENTIALS else None
        if not value:
            return None
        return credentials.resolve(value, where(self.origin, self.name, name), os.path.dirname(self.origin))


@dataclass(frozen=True)
class S3Provider(Provider):
    """An S3-compatible store. An empty ``endpoint`` means AWS; unset behaviours are found out by the adapter.

    ``stall_seconds``: how long a transfer may stand still. ``part_size_min``: bytes.
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
    parts_max: int | None = None
    part_size_min: int | None = None
    stall_seconds: float | None = None
    type = "s3"


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
_REQUIRED = {"s3": (), "file": ("path",), "fsspec": ("url",)}
_EXPECTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a string"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "Mapping[str, object]": (dict, "a table"),
}


@dataclass(frozen=True)
class Config:
    """All named providers. ``path`` is the file they came from ("" for none), ``searched`` every place looked at."""

    providers: Mapping[str, Provider] = field(default_factory=dict)
    path: str = ""
    searched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def provider(self, name: str, text: str = "") -> Provider:
        """The provider of that name. Raises ConfigError that lists the known ones and where they were looked for."""
        if name in self.providers:
            return self.providers[name]
        known = f"known: {', '.join(sorted(self.providers))}" if self.providers else "none is configured"
        looked = self.path or " and ".join(self.searched) or "no configuration file"
        path = f"; if a path is meant, write `./{text}`" if text else ""
        guess = f"did you mean `{_near(name, self.providers)}`? " if _near(name, self.providers) else ""
        raise ConfigError(
            f"unknown provider `{plain(name)}` ({known}; looked in {looked})",
            hint=f"{guess}add a table `[providers.{plain(name)}]`{plain(path)}",
        )


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration. Without any file the result has no providers. Raises ConfigError."""
    env = os.environ if environ is None else environ
    if path is not None:
        return _read(os.path.abspath(os.path.expanduser(path)), ())
    searched = (os.path.abspath(FILE_NAME), os.path.join(user_directory(env), FILE_NAME))
    for candidate in searched:
        if os.path.lexists(candidate):
            return _read(candidate, searched)
    return Config(searched=searched)


def user_directory(environ: Mapping[str, str]) -> str:
    """The user's configuration directory for portabl (XDG base directories; their equivalents elsewhere)."""
    if environ.get("XDG_CONFIG_HOME"):
        return os.path.join(environ["XDG_CONFIG_HOME"], "portabl")
    if sys.platform == "win32":
        return os.path.join(environ.get("APPDATA") or os.path.expanduser("~"), "portabl")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/portabl")
    return os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config", "portabl")


def _read(path: str, searched: tuple[str, ...]) -> Config:
    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="name a file with `--config FILE`"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8 text"
        raise ConfigError(f"{path}: not valid TOML: {reason}") from error
    return dataclasses.replace(from_document(document, path), searched=searched or (path,))


def from_document(document: Mapping[str, Any], origin: str = "") -> Config:
    """Check a parsed TOML document. ``origin`` names it in errors. Raises ConfigError."""
    for name in document:
        if name != "providers":
            raise ConfigError(f"{origin}: unknown table `{plain(name)}`", hint=_suggest(name, ["providers"]))
    tables = document.get("providers", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{origin}: `providers` must be a table", hint="write `[providers.NAME]`")
    providers = {name: _provider(name, table, origin) for name, table in tables.items()}
    warnings = tuple(line for provider in providers.values() for line in _warnings(provider))
    return Config(MappingProxyType(providers), origin, (), warnings)


def where(origin: str, name: str, field_name: str = "") -> str:
    """File, table and field, the way every configuration error begins."""
    start = f"{origin}: " if origin else ""
    return f"{start}[providers.{plain(name)}]{' ' + plain(field_name) if field_name else ''}"


def _provider(name: str, table: object, origin: str) -> Provider:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where(origin, name)}: names consist of letters, digits, `_`, `.` and `-`")
    if not isinstance(table, dict):
        raise ConfigError(
            f"{where(origin, name)}: must be a table", hint=f"write `[providers.{name}]` and `type = ...`"
        )
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        given = "is missing" if kind is None else f"`{plain(str(kind))}` is unknown"
        raise ConfigError(f"{where(origin, name, 'type')}: {given}", hint=f"one of {', '.join(TYPES)}")
    values = {key: value for key, value in table.items() if key != "type"}
    _check_fields(name, TYPES[kind], values, origin)
    for needed in _REQUIRED[kind]:
        if not values.get(needed):
            raise ConfigError(f"{where(origin, name, needed)}: is missing; type `{kind}` needs it")
    provider = TYPES[kind](name=name, origin=origin, **values)
    if isinstance(provider, S3Provider):
        _check_s3(provider)
    return provider


def _check_fields(name: str, kind: type[Provider], values: Mapping[str, object], origin: str) -> None:
    known = {f.name: str(f.type).removesuffix(" | None") for f in dataclasses.fields(kind)}
    del known["name"], known["origin"]
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{where(origin, name, key)}: unknown field for type `{kind.type}`", hint=_suggest(key, known)
            )
        expected, words = _EXPECTED[known[key]]
        if not isinstance(value, expected) or (isinstance(value, bool) and known[key] != "bool"):
            raise ConfigError(f"{where(origin, name, key)}: must be {words}, not {_type_words(value)}")


def _check_s3(provider: S3Provider) -> None:
    def wrong(name: str, message: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{where(provider.origin, provider.name, name)}: {message}", hint=hint)

    if provider.endpoint:
        _check_endpoint(
            provider, wrong("endpoint", "must be a URL of scheme and host", "such as `https://s3.example.org`")
        )
    if provider.addressing not in ("", "path", "virtual"):
        raise wrong("addressing", f"must be `path` or `virtual`, not `{plain(provider.addressing)}`")
    if provider.list_objects_version not in (None, 1, 2):
        raise wrong("list_objects_version", "must be 1 or 2")
    for name in ("parts_max", "part_size_min", "stall_seconds"):
        value = getattr(provider, name)
        if value is not None and value <= 0:
            raise wrong(name, f"must be above 0, not {value}")
    if bool(provider.access_key_id) != bool(provider.secret_access_key):
        missing = "secret_access_key" if provider.access_key_id else "access_key_id"
        raise wrong(missing, "is missing; access_key_id and secret_access_key belong together")
    if provider.profile and provider.access_key_id:
        raise wrong("profile", "cannot be combined with access_key_id", "keep one of the two")


def _check_endpoint(provider: S3Provider, error: ConfigError) -> None:
    try:
        url = urlsplit(provider.endpoint)
        port_is_valid = url.port is None or url.port > 0
    except ValueError:
        raise error from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_valid:
        raise error
    if url.username or url.password or url.query or url.fragment or url.path not in ("", "/"):
        raise error


_IN_FILE = "the secret itself is in the file; better `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`"
_INSECURE = "TLS certificates are NOT checked; anyone on the way can read and change the data"


def _warnings(provider: Provider) -> list[str]:
    found: list[str] = []
    if not isinstance(provider, S3Provider):
        return found
    for name in SECRETS:
        value = getattr(provider, name)
        if value and not credentials.is_reference(value):
            found.append(f"{where(provider.origin, provider.name, name)}: {_IN_FILE}")
    if provider.insecure:
        found.append(f"{where(provider.origin, provider.name, 'insecure')}: {_INSECURE}")
    return found


def _near(name: str, known: Mapping[str, object] | list[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), "")


def _suggest(name: str, known: Mapping[str, object] | list[str]) -> str:
    near = _near(name, known)
    return f"did you mean `{near}`?" if near else f"known: {', '.join(known)}"


def _type_words(value: object) -> str:
    words = {
        str: "a string",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        dict: "a table",
        list: "a list",
    }
    return words.get(type(value), f"a {type(value).__name__}")
