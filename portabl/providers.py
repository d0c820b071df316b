"""Named providers: ``portabl.toml`` read into frozen values, every mistake named by file, table and field.

Searched in this order: the file given with ``--config``; ``portabl.toml`` in the working directory;
``portabl/portabl.toml`` in the user's configuration directory. The first that exists is used alone; files are
never merged.

Other tables of the file (`SECTIONS`) belong to the modules that use them: they find theirs, unchecked, with
`Config.section`, and hold it against their own dataclass with `portabl.tables`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from portabl import credentials, tables
from portabl.errors import ConfigError
from portabl.keys import plain
from portabl.model import NOTHING
from portabl.provider_types import (
    CREDENTIALS,
    DERIVED,
    REQUIRED,
    SECRETS,
    TYPES,
    FileProvider,
    FsspecProvider,
    Provider,
    S3Provider,
    where,
)

if TYPE_CHECKING:
    from portabl import catalogue

__all__ = [
    "CREDENTIALS",
    "FILE_NAME",
    "SECRETS",
    "SECTIONS",
    "TYPES",
    "Config",
    "FileProvider",
    "FsspecProvider",
    "Provider",
    "S3Provider",
    "find",
    "from_document",
    "load",
    "parse_document",
    "user_directory",
    "where",
]

FILE_NAME = "portabl.toml"
SECTIONS = ("providers", "policy", "jobs", "alerts", "labels")
"""Every table the file may hold."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Config:
    """All named providers. ``path`` is the file they came from ("" for none), ``searched`` every place looked at.

    ``sections``: the other tables of the file, as they were read.
    """

    providers: Mapping[str, Provider] = field(default_factory=dict)
    path: str = ""
    searched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def provider(self, name: str, text: str = "") -> Provider:
        """The provider of that name. Raises ConfigError that lists the known ones and where they were looked for."""
        if name in self.providers:
            return self.providers[name]
        raise self.unknown(name, text)

    def unknown(self, name: str, text: str = "", also: Iterable[str] = ()) -> ConfigError:
        """What is said of a name that is no provider. ``text``: the location; ``also``: other names that would do."""
        known = f"known: {', '.join(sorted(self.providers))}" if self.providers else "none is configured"
        looked = self.path or " and ".join(self.searched) or "no configuration file"
        path = f"; if a path is meant, write `./{text}`" if text else ""
        near = tables.near(name, [*self.providers, *also])
        meant = f"did you mean `{near}`? " if near else ""
        return ConfigError(
            f"unknown provider `{plain(name)}` ({known}; looked in {looked})",
            hint=f"{meant}`portabl providers add {plain(name)}` adds it{plain(path)}",
        )

    def section(self, name: str) -> Mapping[str, object]:
        """One of the other tables, empty when the file has none. Raises ConfigError when it is no table."""
        found = self.sections.get(name, NOTHING)
        if not isinstance(found, Mapping):
            raise ConfigError(f"{self.path}: `{name}` must be a table", hint=f"write `[{name}]`")
        return found


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration. Without any file the result has no providers. Raises ConfigError."""
    env = os.environ if environ is None else environ
    if path is not None:
        return _read(os.path.abspath(os.path.expanduser(path)), ())
    searched = _places(env)
    found = find(env)
    return _read(found, searched) if found else Config(searched=searched)


def find(environ: Mapping[str, str] | None = None) -> str:
    """The file that `load` reads without being told, "" when there is none. A broken link is not an absent file."""
    places = _places(os.environ if environ is None else environ)
    return next((place for place in places if os.path.lexists(place)), "")


def _places(environ: Mapping[str, str]) -> tuple[str, ...]:
    return os.path.abspath(FILE_NAME), os.path.join(user_directory(environ), FILE_NAME)


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
        with open(path, encoding="utf-8", newline="") as stream:
            text = stream.read()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="name a file with `--config FILE`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: not UTF-8 text") from error
    return dataclasses.replace(from_document(parse_document(text, path), path), searched=searched or (path,))


def parse_document(text: str, path: str) -> dict[str, Any]:
    """TOML, its content unchecked. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def from_document(document: Mapping[str, Any], origin: str = "") -> Config:
    """Check a parsed TOML document. ``origin`` names it in errors. Raises ConfigError."""
    for name in document:
        if name not in SECTIONS:
            raise ConfigError(f"{origin}: unknown table `{plain(name)}`", hint=tables.suggest(name, SECTIONS))
    found = document.get("providers", {})
    if not isinstance(found, dict):
        raise ConfigError(f"{origin}: `providers` must be a table", hint="write `[providers.NAME]`")
    providers = {name: _provider(name, table, origin) for name, table in found.items()}
    warnings = tuple(line for provider in providers.values() for line in _warnings(provider))
    others = {name: table for name, table in document.items() if name != "providers"}
    return Config(MappingProxyType(providers), origin, (), warnings, MappingProxyType(others))


def _provider(name: str, table: object, origin: str) -> Provider:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where(origin, name)}: names consist of letters, digits, `_`, `.` and `-`")
    if not isinstance(table, dict):
        raise ConfigError(
            f"{where(origin, name)}: must be a table", hint=f"write `[providers.{name}]` and `type = ...`"
        )
    kind = table.get("type", "s3" if "catalogue" in table else None)
    if not isinstance(kind, str) or kind not in TYPES:
        given = "is missing" if kind is None else f"`{plain(str(kind))}` is unknown"
        raise ConfigError(f"{where(origin, name, 'type')}: {given}", hint=f"one of {', '.join(TYPES)}")
    known = tables.fields_of(TYPES[kind], but=DERIVED)
    values = {key: value for key, value in table.items() if key != "type"}
    arguments = tables.checked(where(origin, name), values, known, f"field for type `{kind}`")
    for needed in REQUIRED[kind]:
        if not values.get(needed):
            raise ConfigError(f"{where(origin, name, needed)}: is missing; type `{kind}` needs it")
    provider = TYPES[kind](name=name, origin=origin, **arguments)
    provider.check()
    return _completed(provider) if provider.catalogue else provider


def _completed(provider: Provider) -> Provider:
    """A provider with what the catalogue knows of it and the file does not say. Raises ConfigError.

    Countries are taken over only for an endpoint that the catalogue itself names, and only documented ones.
    """
    from portabl import catalogue

    entry = catalogue.entry(provider.catalogue, where(provider.origin, provider.name, "catalogue"))
    owner = provider.owner_country or (entry.owner.country if entry.owner.documented else "")
    if not isinstance(provider, S3Provider):
        return dataclasses.replace(provider, owner_country=owner)
    if entry.api != "s3":
        raise provider.wrong("catalogue", f"{entry.name} {entry.why_not_s3}", entry.advice or entry.history)
    region = _region(provider, entry)
    endpoint = provider.endpoint or (region.endpoint if region else "")
    known = region is not None and endpoint.rstrip("/") == region.endpoint
    return dataclasses.replace(
        provider,
        endpoint="" if known and entry.is_aws else endpoint,
        region=(region.signing or region.name) if region else provider.region,
        country=provider.country or (region.country if region and known and region.documented else ""),
        owner_country=owner if known else provider.owner_country,
        hints=MappingProxyType(entry.hints()),
    )


def _region(provider: S3Provider, entry: catalogue.Entry) -> catalogue.Region | None:
    """The catalogue's region that is meant; None when only the file says where the provider is."""
    if not provider.region:
        same = [r for r in entry.regions.values() if r.endpoint == provider.endpoint.rstrip("/")]
        if provider.endpoint or len(entry.regions) == 1:
            return next(iter(same or ([] if provider.endpoint else entry.regions.values())), None)
        if entry.regions:
            raise provider.wrong(
                "region", f"is missing; {entry.name} has several", f"one of {', '.join(entry.regions)}"
            )
    found = entry.region(provider.region)
    if found is None and not provider.endpoint:
        raise _no_endpoint(provider, entry)
    return found


def _no_endpoint(provider: S3Provider, entry: catalogue.Entry) -> ConfigError:
    shape = f"such as `{entry.endpoint_template}`" if entry.endpoint_template else "as the provider names it"
    if not entry.regions:
        return provider.wrong("endpoint", f"is missing; {entry.name} has no endpoint common to all customers", shape)
    near = tables.near(provider.region, entry.regions)
    meant = f"did you mean `{near}`? " if near else f"known: {', '.join(entry.regions)}. "
    return provider.wrong(
        "region",
        f"the catalogue knows no region `{plain(provider.region)}` of {entry.name}",
        f"{meant}For a region it does not know, set `endpoint` too, {shape}",
    )


_IN_FILE = "the secret itself is in the file; better `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`"
_INSECURE = "TLS certificates are NOT checked; anyone on the way can read and change the data"


def _warnings(provider: Provider) -> list[str]:
    found: list[str] = []
    if provider.catalogue:
        from portabl import catalogue

        entry = catalogue.entry(provider.catalogue)
        if entry.status in ("closing", "closed"):
            found.append(f"{where(provider.origin, provider.name, 'catalogue')}: {entry.name}: {entry.history}")
    if not isinstance(provider, S3Provider):
        return found
    for name in SECRETS:
        value = getattr(provider, name)
        if value and not credentials.is_reference(value):
            found.append(f"{where(provider.origin, provider.name, name)}: {_IN_FILE}")
    if provider.insecure:
        found.append(f"{where(provider.origin, provider.name, 'insecure')}: {_INSECURE}")
    return found
