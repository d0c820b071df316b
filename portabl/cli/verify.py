"""``portabl verify``."""

from __future__ import annotations

import dataclasses

import click

from portabl.cli.manifest import manifest_folder
from portabl.cli.options import PROOFS, as_json, common, complete_location, threads, throttle
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals

_HELP = """Compare a location with a manifest.

LOCATION defaults to the target the manifest was written for. Every object that is missing or different is named; exit
code 0 says that everything the manifest names is there.

\b
Examples
  portabl verify ~/.local/state/portabl/jobs/ID/manifests/0001
  portabl verify MANIFEST ./export --proof readback

\b
Levels
  size      the listing: every key is there with its size
  ingest    and with the identity that the store gave it when it was written
  readback  everything is read: bytes, headers, metadata, tags

\b
Line signs: - missing, * different, + not in the manifest, ! unreadable
"""


@click.command("verify", help=_HELP)
@click.argument("manifest", metavar="MANIFEST", shell_complete=complete_location)
@click.argument("location", metavar="[LOCATION]", shell_complete=complete_location, required=False)
@click.option("--proof", type=PROOFS, default="readback", show_default=True, help="How far to look.")
@threads
@throttle
@as_json
@common
@click.pass_obj
def command(
    session: Session,
    /,
    manifest: str,
    location: str | None,
    proof: str,
    threads: int,
    bandwidth: str,
    requests_per_second: float | None,
) -> int:
    """See _HELP."""
    from portabl.model import Proof
    from portabl.registry import safe_url
    from portabl.report import verification_document, verification_text
    from portabl.throttle import Throttle
    from portabl.verify import verify

    manifest = manifest_folder(manifest)
    pacer = Throttle.of(bandwidth, requests_per_second)
    config, progress = session.config(), session.progress()
    with stop_on_signals() as stop:
        try:
            found = verify(
                manifest,
                location,
                config,
                proof=Proof(proof),
                threads=threads,
                progress=progress,
                stop=stop,
                pacer=pacer,
            )
        finally:
            progress.close()
    found = dataclasses.replace(found, manifest=safe_url(found.manifest), location=safe_url(found.location))
    if session.json:
        session.document(verification_document(found))
    else:
        session.say(verification_text(found))
    return found.exit_code
