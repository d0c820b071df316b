"""``portabl migrate``."""

from __future__ import annotations

from typing import cast

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
    symlinks,
    threads,
    throttle,
)
from portabl.cli.output import Session
from portabl.cli.policy import policy_of, policy_options
from portabl.cli.signals import stop_on_signals

_HELP = """Copy everything from SRC to DST, and prove it.

Every object's bytes, headers, metadata and tags are carried; what the target cannot hold is named, field by field,
and the exit code is 3. What is known beforehand to be lost (by the capability card of DST, for its size, in an
archive) stops the run before it copies anything, unless each kind of loss is accepted by name.
Running the same command again continues an interrupted run, or copies only what has changed since.
Nothing is deleted unless --mirror asks for it.

\b
Examples
  portabl migrate old:photos new:photos
  portabl migrate old:photos/2026 ./export --exclude '*.tmp'
  portabl migrate ./export new:photos --restore MANIFEST   headers and tags from the manifest
  portabl migrate old:photos new:photos --proof readback   read every byte back and compare
  portabl migrate old:photos new:photos --dry-run          what would be done
  portabl migrate old:photos new:photos --versions all     every version and delete marker, in order

\b
Proof levels
  size      the target lists every key with the right size
  ingest    and its server accepted every body under the hash of the source's bytes (default)
  readback  and every byte and every field was read back from the target

Rules of `[policy]` in portabl.toml and of the flags below are checked before anything is read; a run that breaks one
is refused with exit code 5 (docs/policy.md).
"""


@click.command("migrate", help=_HELP)
@click.argument("source", metavar="SRC", shell_complete=complete_location)
@click.argument("target", metavar="DST", shell_complete=complete_location)
@proof("What has to be shown, see above.")
@filters
@dry_run
@click.option("--mirror", is_flag=True, help="When all else is proven, delete at DST what SRC does not hold.")
@threads
@throttle
@click.option(
    "--processes",
    type=click.IntRange(0, 256),
    default=0,
    metavar="N",
    help="Processes that copy, and read large objects back; 0 decides by objects and cores.  [default: 0]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    help="Copy on this machine, or on a Dask cluster.",
)
@click.option("--scheduler", metavar="ADDRESS", default="", help="Dask's; without it, a cluster of local processes.")
@click.option(
    "--listers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Ranges of keys listed side by side, for buckets whose listing takes long.",
)
@state
@click.option("--manifest", metavar="LOCATION", help="Put the manifest here too. Default: in the state directory.")
@click.option("--restore", metavar="MANIFEST", help="Take headers, metadata and tags from this manifest.")
@click.option(
    "--storage-class",
    type=click.Choice(["keep", "map"]),
    help="Ask DST for the same storage classes, or for those its provider's table `storage_classes` gives for them.",
)
@click.option(
    "--acl",
    type=click.Choice(["none", "report", "canned", "full"]),
    default="report",
    show_default=True,
    help="Access control lists: ignore, look whether there are any, carry what a canned ACL says, carry every grant.",
)
@click.option(
    "--lock",
    type=click.Choice(["none", "report", "keep"]),
    default="report",
    show_default=True,
    help="Object locks (retention, legal hold): ignore them, name them as losses, carry them.",
)
@click.option(
    "--restore-archived",
    type=click.IntRange(1, 3650),
    metavar="DAYS",
    help="Ask SRC for readable copies of archived objects, for so many days. Otherwise they are only named.",
)
@symlinks("Links in a local SRC: name them as not carried, carry what they point to, or carry them as links.")
@policy_options
@click.option(
    "--versions",
    type=click.Choice(["current", "all"]),
    default="current",
    show_default=True,
    help="What is current, or every version and delete marker of each key from the oldest on; DST must keep versions.",
)
@accept
@card
@as_json
@common
@click.pass_obj
def command(session: Session, /, **options: object) -> int:
    """See _HELP."""
    from portabl.engines import Engine
    from portabl.migrate import migrate
    from portabl.migration import Migration
    from portabl.model import Proof
    from portabl.report import report_document, report_text

    if options["restore"]:
        from portabl.cli.manifest import manifest_folder

        options["restore"] = manifest_folder(str(options["restore"]))
    options["policy"] = policy_of(options)
    options["proof"] = Proof(str(options["proof"]))
    options["storage_class"] = options["storage_class"] or ""
    options["restore_archived"] = options["restore_archived"] or 0
    _calm_collector()
    options["engine"] = Engine(
        str(options["engine"]), cast("int", options.pop("processes")), str(options.pop("scheduler"))
    )
    job = Migration(config=session.config(), **options)  # type: ignore[arg-type]
    progress = session.progress()
    with stop_on_signals() as stop:
        try:
            report = migrate(job, progress=progress, stop=stop)
        finally:
            progress.close()
    if session.json:
        session.document(report_document(report))
    else:
        session.say(report_text(report))
    return report.exit_code


def _calm_collector() -> None:
    """What is loaded by now stays to the end: it need not be looked through for cycles again."""
    import gc

    gc.freeze()
