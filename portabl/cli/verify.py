"""``portabl verify``."""

from __future__ import annotations

import click

from portabl.cli.manifest import manifest_folder
from portabl.cli.options import LOCATION, PROOFS, as_json, common, threads
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
Line signs: - missing, * different, + not in the manifest, ! unreadable
"""


@click.command("verify", help=_HELP)
@click.argument("manifest", metavar="MANIFEST", type=LOCATION)
@click.argument("location", metavar="[LOCATION]", type=LOCATION, required=False)
@click.option("--proof", type=PROOFS, help="How far to look. Default: the level in the manifest.")
@threads
@as_json
@common
@click.pass_obj
def command(session: Session, /, manifest: str, location: str | None, proof: str | None, threads: int) -> int:
    """See _HELP."""
    from portabl.model import Proof
    from portabl.report import verification_document, verification_text
    from portabl.verify import verify

    manifest = manifest_folder(manifest)
    config, progress = session.config(), session.progress()
    level = Proof(proof) if proof else None
    with stop_on_signals() as stop:
        try:
            found = verify(manifest, location, config, proof=level, threads=threads, progress=progress, stop=stop)
        finally:
            progress.close()
    if session.json:
        session.document(verification_document(found))
    else:
        session.say(verification_text(found))
    return found.exit_code
