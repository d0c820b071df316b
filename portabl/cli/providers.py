"""``portabl providers``: named places, the catalogue, and the file they are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common
from portabl.cli.output import Session
from portabl.cli.providers_add import add
from portabl.cli.providers_edit import edit, remove
from portabl.cli.providers_show import complete_name, show
from portabl.cli.providers_test import test

if TYPE_CHECKING:
    from portabl.catalogue import Entry
    from portabl.provider_types import Provider

__all__ = ["command", "complete_name"]


@click.group("providers")
@common
def command() -> None:
    """Name the places you move between: list, show, add, edit, remove and test them."""


for inner in (show, add, edit, remove, test):
    command.add_command(inner)

_LIST = """List the providers in portabl.toml, or with --catalogue those that portabl knows of.

\b
Examples
  portabl providers list
  portabl providers list --catalogue
"""


@command.command("list", help=_LIST)
@click.option("--catalogue", "of_catalogue", is_flag=True, help="The built-in catalogue instead of portabl.toml.")
@as_json
@common
@click.pass_obj
def list_all(session: Session, /, of_catalogue: bool) -> int:
    """See _LIST."""
    rows = _of_catalogue() if of_catalogue else _of_config(session)
    if session.json:
        name = "catalogue" if of_catalogue else "providers"
        session.document({"document": f"portabl {name}", "version": 1, "providers": rows, "exit_code": 0})
    elif rows:
        session.say(table(rows))
    else:
        session.tell("no provider is configured: `portabl providers add` adds one")
    return 0


def _of_config(session: Session) -> list[dict[str, str]]:
    return [_provider_row(provider) for provider in session.config().providers.values()]


def _provider_row(provider: Provider) -> dict[str, str]:
    from portabl.provider_types import FileProvider, FsspecProvider, S3Provider
    from portabl.registry import safe_url

    place = region = ""
    if isinstance(provider, S3Provider):
        place, region = provider.endpoint or "AWS", provider.region
    elif isinstance(provider, FileProvider):
        place = provider.path
    elif isinstance(provider, FsspecProvider):
        place = safe_url(provider.url)
    row = {"name": provider.name, "type": provider.type, "place": place, "region": region}
    return row | {"country": provider.country, "catalogue": provider.catalogue}


def _of_catalogue() -> list[dict[str, str]]:
    from portabl import catalogue

    return [_entry_row(catalogue.entry(name)) for name in catalogue.names()]


def _entry_row(entry: Entry) -> dict[str, str]:
    countries = sorted({region.country for region in entry.regions.values() if region.country})
    row = {"name": entry.id, "provider": entry.name, "status": entry.status, "api": entry.api}
    return row | {"regions": str(len(entry.regions) or ""), "countries": " ".join(countries)}


def table(rows: list[dict[str, str]]) -> str:
    """Rows under each other, with the names of the columns; columns that are empty throughout are left out."""
    from portabl.keys import plain

    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [{name: name for name in columns}, *({name: plain(row[name]) for name in columns} for row in rows)]
    widths = {name: max(len(line[name]) for line in lines) for name in columns}
    return "\n".join(_line(line, widths) for line in lines)


def _line(line: Mapping[str, str], widths: Mapping[str, int]) -> str:
    return "  ".join(value.ljust(widths[name]) for name, value in line.items()).rstrip()
