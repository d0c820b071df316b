"""``portabl fingerprint``."""

from __future__ import annotations

import click

from portabl.cli.options import as_json, common, complete_location, threads, throttle
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals

_HELP = """Read a location and print its root: the place in 32 bytes.

Two places with the same root hold the same keys, bytes, headers, metadata and tags. Everything is read, so this takes
as long as the place is large.

What cannot be read is named, the root then speaks of the rest only, and the exit code is 3.

\b
Example
  portabl fingerprint old:photos
"""


@click.command("fingerprint", help=_HELP)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", help="All: of every version.")
@threads
@throttle
@as_json
@common
@click.pass_obj
def command(
    session: Session,
    /,
    location: str,
    versions: str,
    threads: int,
    bandwidth: str,
    requests_per_second: float | None,
) -> int:
    """See _HELP."""
    from portabl.keys import plain, show
    from portabl.registry import safe_url
    from portabl.report import size_text
    from portabl.throttle import Throttle
    from portabl.verification import issue_documents
    from portabl.verify import fingerprint

    pacer = Throttle.of(bandwidth, requests_per_second)
    config, progress = session.config(), session.progress()
    with stop_on_signals() as stop:
        try:
            every = versions == "all"
            found = fingerprint(
                location, config, versions=every, threads=threads, progress=progress, stop=stop, pacer=pacer
            )
        finally:
            progress.close()
    code = 3 if found.issues else 0
    if session.json:
        figures = {"root": found.root, "objects": found.objects, "bytes": found.bytes}
        name = safe_url(location)
        session.document(
            {"document": "portabl fingerprint", "version": 1, "location": name, **figures, "exit_code": code}
            | {"issues": issue_documents(found.issues)}
        )
    else:
        session.say(f"{found.root}  {safe_url(location)}  {found.objects:,} objects, {size_text(found.bytes)}")
        for issue in found.issues:
            session.tell(f"! {show(issue.key)} {plain(issue.detail)}")
    return code
