"""``portabl export``."""

from __future__ import annotations

import click

from portabl.cli.options import (
    accept,
    as_json,
    common,
    complete_location,
    dry_run,
    filters,
    proof,
    symlinks,
    threads,
    throttle,
)
from portabl.cli.output import Session
from portabl.cli.policy import policy_of, policy_options
from portabl.cli.signals import stop_on_signals

_HELP = """Export everything of SRC as a package that explains and checks itself.

DEST becomes a package that needs no portabl: the objects as files in data/, a manifest with their headers, metadata and
tags, SHA256SUMS, a README in plain words, and a verifier that needs nothing but Python. DEST is an empty directory,
bucket prefix or URL. Running the same command again continues an interrupted export. A finished package is never
changed.

\b
Examples
  portabl export old:photos ./photos                       check it with `sha256sum -c SHA256SUMS`
  portabl export old:photos ./photos --layout bag          a BagIt 1.0 bag as well
  portabl export old:photos vault:exports/photos           the package lies in a bucket
  portabl export old:photos ./tuesday --since ./monday     unchanged objects are hard links
  portabl export old:photos ./nightly --snapshot           ./nightly/20261130T020000Z, sharing with the last
  portabl export old:photos ./photos --versions all        every version and delete marker, not only what is current
  portabl restore ./photos new:photos                      everything back, into any store
"""


@click.command("export", help=_HELP)
@click.argument("source", metavar="SRC", shell_complete=complete_location)
@click.argument("target", metavar="DEST", shell_complete=complete_location)
@click.option("--layout", type=click.Choice(["mirror", "bag"]), default="mirror", show_default=True, help="Kind.")
@click.option("--since", metavar="PACKAGE", help="Take what has not changed since from this package of the same SRC.")
@click.option("--snapshot", is_flag=True, help="DEST holds dated packages (see `portabl snapshots`): add one.")
@click.option(
    "--versions",
    type=click.Choice(["current", "all"]),
    default="current",
    show_default=True,
    help="What is current, or every version and delete marker of each key; SRC must have versions.",
)
@proof("As in `portabl migrate`.")
@filters
@click.option(
    "--encrypt-to",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help="Encrypt the payload to this public key of age, or file of them; may be given several times.",
)
@click.option("--evidence", multiple=True, metavar="FILE", help="Put this file into provider/, such as a label.")
@dry_run
@threads
@throttle
@policy_options
@accept
@click.option("--state", metavar="LOCATION", help="Where unfinished exports are remembered.")
@click.option("--storage-class", type=click.Choice(["keep"]), help="Record storage classes too.")
@symlinks("Links in a local SRC, as in `portabl migrate`.")
@as_json
@common
@click.pass_obj
def command(session: Session, /, snapshot: bool, **options: object) -> int:
    """See _HELP."""
    from portabl.model import Proof
    from portabl.package import Export, export
    from portabl.report import report_document, report_text
    from portabl.snapshots import take

    options["policy"] = policy_of(options)
    options["proof"] = Proof(str(options["proof"]))
    options["storage_class"] = options["storage_class"] or ""
    job = Export(config=session.config(), **options)  # type: ignore[arg-type]
    progress = session.progress()
    with stop_on_signals() as stop:
        try:
            report = (take if snapshot else export)(job, progress=progress, stop=stop)
        finally:
            progress.close()
    if session.json:
        session.document(report_document(report))
    else:
        session.say(report_text(report))
    return report.exit_code
