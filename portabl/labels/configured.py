"""Labels of the providers in portabl.toml: ``[providers.NAME] labels`` and ``[labels] trust``.

Here the evidence kept beside a label decides, and nothing else: no network, no cache. What a run is allowed to do must
not depend on who answers at that moment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from portabl import tables
from portabl.errors import ManifestError
from portabl.labels import evidence, trust
from portabl.labels.finding import Finding
from portabl.labels.sources import Piece, Sources
from portabl.labels.trust import Trust
from portabl.labels.verify import verify
from portabl.providers import Config, Provider, S3Provider


@dataclass(frozen=True, slots=True)
class Settings:
    """The table ``[labels]``. ``trust``: a trust file, relative to the configuration file."""

    trust: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A label a provider shows: its file, its token, the evidence that was used, and what was found.

    ``endpoint``: URL of the provider's service, which the label had to name.
    """

    provider: str
    endpoint: str
    file: str
    token: str
    evidence: tuple[Piece, ...]
    finding: Finding


def trust_of(config: Config, named: str | None = None) -> Trust:
    """Whom to believe: the trust file that was named, else the one of the configuration. Raises ConfigError."""
    if named is not None:
        return trust.load(named)
    table = tables.checked(f"{config.path}: [labels]", config.section("labels"), tables.fields_of(Settings))
    path = Settings(**table).trust
    return trust.load(os.path.join(os.path.dirname(config.path), os.path.expanduser(path)) if path else None)


def endpoint_of(provider: Provider) -> str:
    """The URL of a provider's S3 service, as a label would name it; "" when there is none."""
    if not isinstance(provider, S3Provider):
        return ""
    return provider.endpoint or (f"https://s3.{provider.region}.amazonaws.com" if provider.region else "")


def held(provider: Provider, believed: Trust, at: datetime) -> tuple[Held, ...]:
    """Every label the provider's table names, verified for that provider. Raises UsageError, ConfigError."""
    folder = os.path.dirname(provider.origin)
    paths = [os.path.join(folder, os.path.expanduser(name)) for name in provider.labels]
    return tuple(_held(path, provider, believed, at) for path in paths)


def _held(path: str, provider: Provider, believed: Trust, at: datetime) -> Held:
    text, sources, endpoint = evidence.read(path), Sources(evidence.beside(path)), endpoint_of(provider)
    finding = verify(text, at=at, sources=sources, trust=believed, endpoint=endpoint)
    return Held(provider.name, endpoint, path, text.strip(), tuple(sources.used.values()), finding)


def recorded(labels: Sequence[Mapping[str, Any]], believed: Trust) -> tuple[Held, ...]:
    """The labels in a manifest, verified again: its own evidence, at the time its run asked. Raises ManifestError."""
    try:
        return tuple(_recorded(label, believed) for label in labels)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"the labels in the manifest are misshapen: {type(error).__name__}") from error


def _recorded(label: Mapping[str, Any], believed: Trust) -> Held:
    pieces = tuple(Piece(p["kind"], p["name"], p["text"], "the manifest") for p in label["evidence"])
    at, token, endpoint = datetime.fromisoformat(label["finding"]["at"]), label["token"], label["endpoint"]
    finding = verify(token, at=at, sources=Sources(pieces), trust=believed, endpoint=endpoint)
    return Held(label["provider"], endpoint, f"{label['side']} {label['provider']}", token, pieces, finding)
