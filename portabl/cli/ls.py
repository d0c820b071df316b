"""``portabl ls``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session, error_document

if TYPE_CHECKING:
    from portabl.model import Entry
    from portabl.storage import Storage

_HELP = """List every object of a location, exactly.

One line an object: size in bytes, time of change, key. Keys are quoted, and what a terminal could obey is escaped. What
is there but cannot be carried (a socket, an unreadable directory) is marked with `!` and makes the exit code 3.
With --versions all there is one line a version, oldest first, that ends with its id; `-` instead of a size marks a
deletion.

\b
Examples
  portabl ls old:photos/2026
  portabl ls ./export --json | jq '.entries[].key'
"""


@click.command("ls", help=_HELP)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", help="All: every version.")
@as_json
@common
@click.pass_obj
def command(session: Session, /, location: str, versions: str) -> int:
    """See _HELP."""
    from portabl.registry import open_location

    with open_location(location, session.config()) as storage:
        storage.check(write=False)
        entries = _entries(storage, versions)
        return _print_json(session, storage, entries) if session.json else _print_lines(entries)


def _entries(storage: Storage, versions: str) -> Iterator[Entry]:
    from portabl.listing import any_order

    return storage.versions() if versions == "all" else any_order(storage)


def _print_lines(entries: Iterator[Entry]) -> int:
    from portabl.keys import plain, show

    objects = problems = size = 0
    for entry in entries:
        if entry.problem:
            problems += 1
            sys.stdout.write(f"! {show(entry.key)} {plain(entry.problem)}\n")
            continue
        objects += not entry.delete_marker
        size += entry.size
        figure = "-" if entry.delete_marker else entry.size
        version = f" {plain(entry.version)}" if entry.ordinal else ""
        sys.stdout.write(f"{figure:>14} {plain(entry.modified):<25} {show(entry.key)}{version}\n")
    sys.stdout.flush()
    _summary(objects, size, problems)
    return 3 if problems else 0


def _summary(objects: int, size: int, problems: int) -> None:
    from portabl.report import size_text

    bad = f", {problems:,} that cannot be carried" if problems else ""
    print(f"{objects:,} objects, {size_text(size)}{bad}", file=sys.stderr)


def _print_json(session: Session, storage: Storage, entries: Iterator[Entry]) -> int:
    """One document, written as it comes: a listing may be larger than memory. It ends with whether it is complete."""
    from portabl.errors import PortablError
    from portabl.keys import plain

    session.printed = True
    head = json.dumps({"document": "portabl listing", "version": 1, "location": plain(storage.name)})
    sys.stdout.write(head[:-1] + ', "entries": [')
    comma = problems = 0
    failure: PortablError | None = None
    try:
        for entry in entries:
            sys.stdout.write((",\n" if comma else "\n") + json.dumps(_entry_document(entry)))
            comma, problems = 1, problems + bool(entry.problem)
    except PortablError as error:
        failure = error
    code = failure.exit_code if failure else 3 if problems else 0
    tail = {"complete": failure is None, "error": error_document(failure) if failure else None, "exit_code": code}
    sys.stdout.write("\n], " + json.dumps(tail)[1:] + "\n")
    sys.stdout.flush()
    if failure:
        raise failure
    return code


def _entry_document(entry: Entry) -> dict[str, object]:
    from portabl.keys import to_json

    document: dict[str, object] = {"key": to_json(entry.key), "size": entry.size}
    optional = ("etag", "modified", "version", "ordinal", "delete_marker", "storage_class", "problem")
    return document | {name: getattr(entry, name) for name in optional if getattr(entry, name)}
