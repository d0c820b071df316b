"""Writes docs/providers.md from the catalogue: ``python -m portabl.cli.providers_page > docs/providers.md``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator

from portabl import catalogue, tables
from portabl.catalogue import Entry

_INTRODUCTION = """# Providers

Made by `python -m portabl.cli.providers_page`; a test compares it with the catalogue.

A provider is a place with a name. Its settings are a table in `portabl.toml` ([configuration](configuration.md)); what
is publicly known of it is an entry of the catalogue that portabl brings along, in `portabl/catalogue/`, one file each.

| command | what for |
|---|---|
| `portabl providers list` | the providers in `portabl.toml`; with `--catalogue`, those portabl knows of |
| `portabl providers show NAME` | all that is known of one; credentials as references, never a secret |
| `portabl providers add` | asks step by step on a terminal, takes options elsewhere |
| `portabl providers edit`, `remove` | change the file in place: comments stay, and it is never half written |
| `portabl providers test NAME:BUCKET` | list, put a scratch object, read it back, delete it; say what is missing |

For a provider of the catalogue this is enough:

```toml
[providers.ovh]
catalogue = "ovhcloud"
region = "gra"
access_key_id = "env:OVH_KEY"
secret_access_key = "keyring:ovh/me"
```

## What an entry is worth

Every entry names its sources and the day they were read. No endpoint was contacted for it, and nothing was measured
unless a source says so. Limits and capabilities are hints: they make portabl careful (larger parts where fewer are
allowed, the older listing call where the newer is missing), and whatever you set overrules them; `portabl probe`
measures what there is to set. What no document confirms is marked `documented = false` or listed under `undocumented`;
a policy never takes such a country for an answer, so set `country` and `owner_country` yourself where you know better.
`claims` are what providers and the press say about labels; what a label credential proves is another matter, which
`portabl labels` looks into.

"""

_SCHEMA = """## Fields of an entry

A file in `portabl/catalogue/` is TOML. It is held against this when it is loaded, and by a test for every file: an
unknown field, a wrong type, a country that is no ISO 3166-1 code, an endpoint that is not `https://` and a host, or a
missing source is an error. Sizes are bytes, times are seconds; what is left out is unknown.

"""

_ABOUT: dict[str, str] = {
    "": "the first five are needed; an API other than S3 needs `advice`, a closed provider `history`",
    "[owner]": "the company behind it",
    "[regions.NAME]": "NAME is what `region = ` says; `signing` when signatures name the region otherwise",
    "[limits]": "numbers",
    "[capabilities]": "hints on what the store can do",
    "[[hazards]]": "what a migration may lose, and why",
    "[portability]": "documents about leaving, named as in `gx:DataPortability` of the Gaia-X ontology",
}


def text() -> str:
    """The whole page."""
    entries = [catalogue.entry(name) for name in catalogue.names()]
    parts = (_INTRODUCTION, _places(entries), _hazards(entries), _leaving(entries), _SCHEMA, *_fields())
    return "".join(parts)


def _table(*columns: str, rows: Iterable[tuple[str, ...]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows) + "\n"


def _places(entries: list[Entry]) -> str:
    rows = ((f"`{one.id}`", one.name, one.status, _where(one), one.checked.isoformat()) for one in entries)
    return "## Catalogue\n\n" + _table("entry", "provider", "status", "regions, or what to do", "read", rows=rows)


def _where(entry: Entry) -> str:
    """Regions by country; regions that no document confirms are marked."""
    if not entry.regions:
        return (
            entry.history
            or entry.advice
            or "set `endpoint`" + (f", such as `{entry.endpoint_template}`" if entry.endpoint_template else "")
        )
    countries: dict[str, list[str]] = {}
    for region in entry.regions.values():
        countries.setdefault(region.country or "depends", []).append(region.name + ("" if region.documented else "?"))
    return "; ".join(f"{country}: {' '.join(names)}" for country, names in sorted(countries.items()))


def _hazards(entries: list[Entry]) -> str:
    rows = (
        (one.name, hazard.side, f"{hazard.what} {hazard.reason}{'' if hazard.documented else ' (not documented)'}")
        for one in entries
        for hazard in one.hazards
    )
    return "## What a migration may lose\n\nBy provider, as source, as target, or both.\n\n" + _table(
        "provider", "as", "what and why", rows=rows
    )


def _leaving(entries: list[Entry]) -> str:
    rows = ((one.name, _documents(one)) for one in entries if one.portability != catalogue.Portability())
    return "## Documents about leaving\n\n" + _table("provider", "what it publishes", rows=rows)


def _documents(entry: Entry) -> str:
    found = {name: value for name, value in dataclasses.asdict(entry.portability).items() if value}
    return "; ".join(
        f"{name}: {', '.join(value) if isinstance(value, tuple) else value}" for name, value in found.items()
    )


def _fields() -> Iterator[str]:
    own = [name for name in tables.fields_of(Entry) if name not in ("id", *_inner_tables())]
    kinds = {
        "": own,
        "[owner]": list(tables.fields_of(catalogue.Owner)),
        "[regions.NAME]": list(tables.fields_of(catalogue.Region, but=("name",))),
        "[limits]": list(tables.fields_of(catalogue.Limits)),
        "[capabilities]": list(tables.fields_of(catalogue.Capabilities)),
        "[[hazards]]": list(tables.fields_of(catalogue.Hazard)),
        "[portability]": list(tables.fields_of(catalogue.Portability)),
    }
    rows = [
        (f"`{name}`" if name else "the file itself", ", ".join(f"`{one}`" for one in fields), _ABOUT[name])
        for name, fields in kinds.items()
    ]
    yield _table("table", "fields", "", rows=rows).rstrip("\n") + "\n"


def _inner_tables() -> tuple[str, ...]:
    return ("owner", "limits", "capabilities", "portability", "regions", "hazards")


if __name__ == "__main__":
    sys.stdout.write(text())
