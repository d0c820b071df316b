"""``portabl restore``."""

from __future__ import annotations

import click

from portabl.cli.options import (
    accept,
    as_json,
    card,
    common,
    complete_location,
    dry_run,
    filters,
    proof,
    state,
    threads,
    throttle,
)
from portabl.cli.output import Session
from portabl.cli.policy import policy_of, policy_options
from portabl.cli.signals import stop_on_signals

_HELP = """Put everything in a package into a place, and prove it.

Keys, bytes, headers, metadata and tags come back as they were, or are named as losses. Every body is held against the
package's manifest before it counts. Running the same command again continues an interrupted restore.

\b
Examples
  portabl restore ./photos new:photos
  portabl restore vault:exports/photos ./here --proof readback
  portabl restore ./photos new:photos --versions current   of a package of all versions, the newest
"""


@click.command("restore", help=_HELP)
@click.argument("package", metavar="PACKAGE", shell_complete=complete_location)
@click.argument("target", metavar="DST", shell_complete=complete_location)
@click.option("--identity", default="", metavar="FILE", help="File with the secret key of an encrypted package.")
@click.option(
    "--versions",
    type=click.Choice(["current", "all"]),
    help="Of a package of all versions: the newest alone, or all, if DST keeps versions. Default: all.",
)
@proof("As in `portabl migrate`.")
@filters
@dry_run
@threads
@throttle
@policy_options
@accept
@card
@state
@click.option("--manifest", metavar="LOCATION", help="Put the manifest of the restore here too.")
@click.option("--storage-class", type=click.Choice(["keep"]), help="Ask DST for the recorded storage classes.")
@as_json
@common
@click.pass_obj
def command(session: Session, /, **options: object) -> int:
    """See _HELP."""
    from portabl.model import Proof
    from portabl.package import Restore, restore
    from portabl.report import report_document, report_text

    options["policy"] = policy_of(options)
    options["proof"] = Proof(str(options["proof"]))
    options["storage_class"] = options["storage_class"] or ""
    options["versions"] = options["versions"] or ""
    job = Restore(config=session.config(), **options)  # type: ignore[arg-type]
    progress = session.progress()
    with stop_on_signals() as stop:
        try:
            report = restore(job, progress=progress, stop=stop)
        finally:
            progress.close()
    if session.json:
        session.document(report_document(report))
    else:
        session.say(report_text(report))
    return report.exit_code
