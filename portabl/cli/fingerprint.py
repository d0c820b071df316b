"""``portabl fingerprint``."""

from __future__ import annotations

import click

from portabl.cli.options import LOCATION, as_json, common, threads
from portabl.cli.output import Session

_HELP = """Read a location and print its root: the place in 32 bytes.

Two places with the same root hold the same keys, bytes, headers, metadata and tags. Everything is read, so this takes
as long as the place is large.

\b
Example
  portabl fingerprint old:photos
"""


@click.command("fingerprint", help=_HELP)
@click.argument("location", metavar="LOCATION", type=LOCATION)
@threads
@as_json
@common
@click.pass_obj
def command(session: Session, /, location: str, threads: int) -> int:
    """See _HELP."""
    from portabl.registry import safe_url
    from portabl.report import size_text
    from portabl.verify import fingerprint

    config, progress = session.config(), session.progress()
    try:
        found = fingerprint(location, config, threads=threads, progress=progress)
    finally:
        progress.close()
    if session.json:
        figures = {"root": found.root, "objects": found.objects, "bytes": found.bytes}
        name = safe_url(location)
        session.document({"document": "portabl fingerprint", "version": 1, "location": name, **figures, "exit_code": 0})
    else:
        session.say(f"{found.root}  {safe_url(location)}  {found.objects:,} objects, {size_text(found.bytes)}")
    return 0
