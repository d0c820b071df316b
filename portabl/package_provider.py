"""What a package says of the provider its data came from, as files below ``provider/``."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from portabl import capability, catalogue, registry
from portabl.errors import UsageError
from portabl.files import Files
from portabl.keys import plain
from portabl.labels import evidence
from portabl.providers import Config, Provider
from portabl.state import default_root
from portabl.storage import Storage

SOURCE, CARD, CATALOGUE = "provider/source.json", "provider/capabilities.json", "provider/catalogue.json"
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        SOURCE: "where the data came from",
        CARD: "what the service of the source was measured to do, and when",
        CATALOGUE: "what was publicly known of the provider",
    }
)
"""What the files are that are not given by the user."""


def provider_files(source: str, config: Config, opened: Storage, given: Sequence[str]) -> dict[str, bytes]:
    """Everything known of the source's provider, by name: how it was reached, its capability card if it was measured,
    its entry in the catalogue, the labels its table names with their evidence; and the files that were ``given``.

    Raises UsageError for a file that cannot be read, or for two of one name; StorageError.
    """
    location = registry.parse(source, config)
    provider = location.provider
    found = {SOURCE: _json(_reached(location))}
    card = capability.find(None, opened.service, default_root())
    if card is not None:
        found[CARD] = _json(capability.document(card))
    if provider.catalogue:
        found[CATALOGUE] = _json(_known(dataclasses.asdict(catalogue.entry(provider.catalogue))))
    for name, data in (*_labels(provider), *map(_given, given)):
        if found.setdefault(f"provider/{name}", data) != data:
            raise UsageError(f"two files of evidence are called {plain(name)}")
    return found


def _reached(location: registry.Location) -> dict[str, str]:
    provider = location.provider
    about = {"location": location.name, "type": location.type, "provider": provider.name}
    settings = {**provider.settings(), "country": provider.country, "owner_country": provider.owner_country}
    for name in ("endpoint", "region", "country", "owner_country"):
        if settings.get(name) and isinstance(settings[name], str):
            about[name] = registry.safe_url(str(settings[name]))
    return about


def _labels(provider: Provider) -> Iterator[tuple[str, bytes]]:
    for name in provider.labels:
        path = os.path.join(os.path.dirname(provider.origin), os.path.expanduser(name))
        yield os.path.basename(path), evidence.read(path).encode("utf-8")
        for piece in evidence.beside(path):
            yield piece.name, piece.text.encode("utf-8")


def _given(path: str) -> tuple[str, bytes]:
    name = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name, Files.at(path.removesuffix(name) or ".").read(name)


def _known(value: Any) -> Any:
    """The same without what is not known."""
    if isinstance(value, Mapping):
        return {name: _known(one) for name, one in value.items() if one not in (None, "", (), {})}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n"
