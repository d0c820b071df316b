"""``portabl providers show``: all that is known of a provider, and never a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from portabl.cli.options import as_json, common
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.catalogue import Entry
    from portabl.provider_types import Provider

_HELP = """Show all that is known of a provider: what portabl.toml says, where its credentials are found, and its entry
in the catalogue.

NAME is a provider in portabl.toml or an entry of the catalogue. Credentials are shown as the references they are;
what stands in the file itself is hidden.

\b
Examples
  portabl providers show ovh
  portabl providers show scaleway --json
"""
HIDDEN = "(in the file; hidden)"


def complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Configured providers, then those of the catalogue."""
    from portabl import catalogue
    from portabl.errors import ConfigError
    from portabl.providers import load

    try:
        names = list(load().providers)
    except ConfigError:  # completion is no place to complain
        names = []
    return [CompletionItem(name) for name in (*names, *catalogue.names()) if name.startswith(incomplete)]


@click.command("show", help=_HELP)
@click.argument("name", metavar="NAME", shell_complete=complete_name)
@as_json
@common
@click.pass_obj
def show(session: Session, /, name: str) -> int:
    """See _HELP."""
    from portabl import catalogue

    config = session.config()
    provider = config.providers.get(name)
    if provider is None and name not in catalogue.names():
        raise config.unknown(name, also=catalogue.names())
    known = (
        catalogue.entry(provider.catalogue if provider and provider.catalogue else name)
        if ((provider and provider.catalogue) or not provider)
        else None
    )
    document: dict[str, Any] = {"document": "portabl provider", "version": 1, "name": name}
    if provider is not None:
        document["provider"] = provider_document(provider)
    if known is not None:
        document["catalogue"] = entry_document(known)
    if session.json:
        session.document(document | {"exit_code": 0})
        return 0
    if provider is not None:
        session.say(_lines(f"[providers.{name}]", document["provider"]))
    if known is not None:
        session.say(_lines(f"catalogue: {known.id}", _shorter(document["catalogue"])))
    return 0


def provider_document(provider: Provider) -> dict[str, Any]:
    """A provider for printing: references as they are written, literal secrets hidden, whether each can be had."""
    from portabl.provider_types import CREDENTIALS, DERIVED

    found: dict[str, Any] = {"type": provider.type, "file": provider.origin}
    for field in dataclasses.fields(provider):
        value = getattr(provider, field.name)
        if field.name in DERIVED or value in (None, "", ()):
            continue
        found[field.name] = (
            _credential(provider, field.name, value) if field.name in CREDENTIALS else _safe(field.name, value)
        )
    if provider.type == "s3" and not found.keys() & {"access_key_id", "profile"}:
        found["credentials"] = (
            "what AWS tools find: environment, shared files, web identity, container or instance role"
        )
    if provider.hints:
        found["from_catalogue"] = {name: value for name, value in provider.hints.items() if name not in found}
    return found


def _credential(provider: Provider, name: str, value: str) -> str:
    from portabl.credentials import is_reference
    from portabl.errors import ConfigError

    if not is_reference(value):
        return HIDDEN
    if value.startswith("keyring:"):  # asking may open a dialogue
        return value
    try:
        provider.secret(name)
    except ConfigError as error:
        return f"{value} (NOT FOUND: {error.message.partition(f'{name}: ')[2] or error.message})"
    return f"{value} (found)"


def _safe(name: str, value: object) -> object:
    """Values of an fsspec provider may hold secrets anywhere: only references and what is no text is shown."""
    from portabl.credentials import is_reference
    from portabl.registry import safe_url

    if name == "url":
        return safe_url(str(value))
    if isinstance(value, Mapping):
        return {
            key: _safe("", inner) if not isinstance(inner, str) else (inner if is_reference(inner) else HIDDEN)
            for key, inner in value.items()
        }
    return list(value) if isinstance(value, tuple) else value


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry for printing, without what is empty."""
    found = _without_empty(dataclasses.asdict(dataclasses.replace(entry, regions={})))
    found["checked"] = entry.checked.isoformat()
    found["regions"] = {name: _without_empty(dataclasses.asdict(region)) for name, region in entry.regions.items()}
    return {name: value for name, value in found.items() if value not in ({}, [])}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {name: _without_empty(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        return [_without_empty(one) for one in value]
    return value


def _shorter(document: Mapping[str, Any]) -> dict[str, Any]:
    """For people: a line a region, a line a hazard."""
    found = dict(document)
    if "regions" in found:
        found["regions"] = {name: _region_text(region) for name, region in document["regions"].items()}
    if "hazards" in found:
        found["hazards"] = [f"{one['side']}: {one['what']} {one['reason']}{_doubt(one)}" for one in found["hazards"]]
    if "claims" in found:
        found["claims (as published; not verified)"] = found.pop("claims")
    return found


def _region_text(region: Mapping[str, Any]) -> str:
    words = [region.get("country", "--"), region["endpoint"], region.get("place", ""), region.get("note", "")]
    signing = f"signed as {region['signing']}" if "signing" in region else ""
    return ", ".join(filter(None, [*words, signing])) + _doubt(region)


def _doubt(value: Mapping[str, Any]) -> str:
    return "" if value.get("documented", True) else " (not documented)"


def _lines(title: str, document: Mapping[str, Any]) -> str:
    return "\n".join([title, *_indented(document, 1)])


def _indented(value: Mapping[str, Any], depth: int) -> list[str]:
    from portabl.keys import plain

    lines = []
    indent = "  " * depth
    for name, one in value.items():
        label = f"{indent}{plain(str(name))}"
        if isinstance(one, Mapping):
            lines += [label, *_indented(one, depth + 1)]
        elif isinstance(one, list) and sum(len(str(item)) for item in one) > 80:
            lines += [label, *(f"{indent}  - {plain(str(item))}" for item in one)]
        else:
            text = ", ".join(map(str, one)) if isinstance(one, list) else str(one)
            lines.append(f"{label:<28} {plain(text)}")
    return lines
