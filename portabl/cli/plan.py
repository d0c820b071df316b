"""``portabl plan``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portabl.cli.manifest import manifest_folder
from portabl.cli.options import as_json, common, complete_location, filters, threads
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from portabl.judge import Foreseen

_HELP = """Say what a migration from SRC to DST would carry, lose, take and cost. Writes nothing.

SRC is listed once. Metadata is in no listing: it is looked at for 1,000 objects drawn evenly, or for all with --deep,
and the result says which of the two. What DST keeps is taken from its capability card (`portabl probe`); without one,
most of it is unknown, and said to be.

What a migration loses depends on what it is asked for: give the options that it will be given. Older versions that
`--versions current` leaves behind, and unfinished uploads, are counted and are no losses.

Losses come in classes: core (carried as it is), needs adaptation (a key to rename, an object to restore), not
portable. Exit code 3: something would be lost. 0: nothing that is known would be; only a migration proves it.

\b
Examples
  portabl plan old:photos new:photos
  portabl plan old:photos new:photos --deep --list losses.jsonl
  portabl plan old:photos new:photos --card swift          as if DST were a Swift
  portabl plan old:photos new:photos --bandwidth 50M --prices prices.toml
"""
_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command("plan", help=_HELP)
@click.argument("source", metavar="SRC", shell_complete=complete_location)
@click.argument("target", metavar="DST", shell_complete=complete_location)
@filters
@click.option("--manifest", metavar="MANIFEST", help="Go by this manifest of SRC instead of listing it.")
@click.option("--deep", is_flag=True, help="Look at the metadata of every object: a request for each.")
@click.option("--list", "losses", type=_PATH, metavar="FILE", help="Write every loss of every key here, JSON lines.")
@click.option("--card", metavar="CARD", help="Go by this capability card: a file, or one that comes with portabl.")
@click.option("--bandwidth", default="", metavar="RATE", help="Bytes a second to reckon with, as for `migrate`.")
@click.option("--prices", type=_PATH, metavar="FILE", help="Your prices, to estimate the cost with.")
@click.option("--versions", type=click.Choice(["current", "all"]), default="current", help="As for `migrate`.")
@click.option(
    "--acl", type=click.Choice(["none", "report", "canned", "full"]), default="report", help="As for `migrate`."
)
@click.option("--lock", type=click.Choice(["none", "report", "keep"]), default="report", help="As for `migrate`.")
@click.option("--storage-class", type=click.Choice(["keep", "map"]), help="As for `migrate`.")
@click.option("--symlinks", type=click.Choice(["report", "follow", "keep"]), default="report", help="As for `migrate`.")
@threads
@as_json
@common
@click.pass_obj
def command(session: Session, /, deep: bool, losses: Path | None, **options: object) -> int:
    """See _HELP."""
    from portabl.outlook import Wanted, foresee
    from portabl.outlook_text import outlook_document, outlook_text

    if options["manifest"]:
        options["manifest"] = manifest_folder(str(options["manifest"]))
    options["storage_class"] = options["storage_class"] or ""
    if deep:
        options["heads"] = None
    wanted = Wanted(config=session.config(), **options)  # type: ignore[arg-type]
    progress = session.progress()
    with stop_on_signals() as stop, _listed(losses) as hear:
        try:
            outlook = foresee(wanted, hear=hear, progress=progress, stop=stop)
        finally:
            progress.close()
    if session.json:
        session.document(outlook_document(outlook))
    else:
        session.say(outlook_text(outlook))
    return outlook.exit_code


@contextlib.contextmanager
def _listed(path: Path | None) -> Iterator[Callable[[bytes, Foreseen], None]]:
    """Writes losses into a file, one a line; to nowhere without one."""
    from portabl.errors import UsageError
    from portabl.keys import to_json

    if path is None:
        yield lambda _key, _foreseen: None
        return
    try:
        with path.open("w", encoding="utf-8") as file:

            def hear(key: bytes, foreseen: Foreseen) -> None:
                line = {"key": to_json(key), "class": str(foreseen.portability), "accept": foreseen.accept}
                file.write(json.dumps({**line, "field": foreseen.field, "reason": foreseen.reason}) + "\n")

            yield hear
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
