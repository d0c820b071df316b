"""``portabl snapshots list``, ``prune`` and ``verify``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common, complete_location, proof, threads
from portabl.cli.output import Session, error_document
from portabl.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from portabl.errors import ManifestError
    from portabl.snapshots import Pruned, Snapshot
    from portabl.verification import Verification


@click.group("snapshots")
@common
def command() -> None:
    """Look after packages of one source side by side: list, prune, verify.

    `portabl export SRC LOCATION --snapshot` makes them. Each is whole by itself; removing one never harms another.
    """


_LIST = """Print every snapshot below LOCATION, oldest first.

\b
Examples
  portabl snapshots list ./nightly
  portabl snapshots list vault:backups/photos --json
"""


@command.command("list", help=_LIST)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@as_json
@common
@click.pass_obj
def list_(session: Session, /, location: str) -> int:
    """See _LIST."""
    from portabl.snapshots import snapshots

    found = snapshots(location, session.config())
    if session.json:
        session.document({"document": "portabl snapshots", "version": 1, "snapshots": [_document(s) for s in found]})
        return 0
    for one in found:
        session.say(_line(one))
    if not found:
        session.tell("no snapshots here")
    return 0


def _line(one: Snapshot) -> str:
    from portabl.report import size_text

    document = one.document
    what = f"{document.objects:>12,} objects {size_text(document.bytes):>12}" if document else ""
    return f"{one.name:<20} {one.state:<11}{what}"


def _document(one: Snapshot) -> dict[str, object]:
    document = one.document
    facts = {name: getattr(document, name) for name in ("objects", "bytes", "losses", "root", "source", "finished")}
    return {"name": one.name, "state": one.state, "taken": one.taken.isoformat(), **(facts if document else {})}


_PRUNE = """Remove the snapshots that no rule keeps. A dry run unless --apply is given.

Before anything is removed, every snapshot that stays is proven; if one is not as it should be, nothing is removed and
the exit code is 3. A snapshot stays if any rule keeps it; the newest complete one, and any newer, always stays.

\b
Examples
  portabl snapshots prune ./nightly --keep-last 3 --keep-daily 7 --keep-monthly 12
  portabl snapshots prune ./nightly --keep-daily 7 --apply
"""


@command.command("prune", help=_PRUNE)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@click.option("--keep-last", "last", type=click.IntRange(0), default=0, help="The newest N.")
@click.option("--keep-daily", "daily", type=click.IntRange(0), default=0, help="The newest of each of N days.")
@click.option("--keep-weekly", "weekly", type=click.IntRange(0), default=0, help="The newest of each of N weeks.")
@click.option("--keep-monthly", "monthly", type=click.IntRange(0), default=0, help="The newest of each of N months.")
@click.option("--timezone", "zone", default="UTC", show_default=True, help="Where days begin, such as Europe/Berlin.")
@click.option("--apply", is_flag=True, help="Really remove.")
@click.option(
    "--proof",
    type=click.Choice(["size", "readback"]),
    default="size",
    show_default=True,
    help="How far to look at what stays: list it, or read it.",
)
@threads
@as_json
@common
@click.pass_obj
def prune(session: Session, /, location: str, apply: bool, proof: str, threads: int, **rules: object) -> int:
    """See _PRUNE."""
    from portabl import snapshots
    from portabl.model import Proof

    config, progress = session.config(), session.progress()
    retention = snapshots.Retention(**rules)  # type: ignore[arg-type]
    with stop_on_signals() as stop:
        try:
            done = snapshots.prune(
                location,
                config,
                retention,
                apply=apply,
                proof=Proof(proof),
                threads=threads,
                progress=progress,
                stop=stop,
            )
        finally:
            progress.close()
    if session.json:
        session.document(_pruned_document(done))
    else:
        _tell_pruned(session, done)
    return done.exit_code


def _tell_pruned(session: Session, done: Pruned) -> None:
    from portabl.keys import plain

    for decision in done.decisions:
        verb = "keep" if decision.keep else "would remove" if done.dry_run or done.refused else "removed"
        session.say(f"{decision.snapshot.name:<20} {verb:<13} {decision.reason}")
    if done.refused:
        session.tell(f"error: nothing was removed: {plain(done.refused)}")
        session.tell("hint: look at that snapshot, or export a new one, then prune again")
    elif done.dry_run and any(not decision.keep for decision in done.decisions):
        session.tell("a dry run: nothing was removed; `--apply` removes")


def _pruned_document(done: Pruned) -> dict[str, object]:
    return {
        "document": "portabl prune",
        "version": 1,
        "decisions": [
            {"name": d.snapshot.name, "state": d.snapshot.state, "keep": d.keep, "reason": d.reason}
            for d in done.decisions
        ],
        "removed": list(done.removed),
        "dry_run": done.dry_run,
        "refused": done.refused,
        "exit_code": done.exit_code,
    }


_VERIFY = """Hold every finished snapshot below LOCATION against itself, as `portabl verify` does with one.

\b
Examples
  portabl snapshots verify ./nightly
  portabl snapshots verify ./nightly 20261130T020000Z
  portabl snapshots verify ./nightly --sample 5%      reads a part of each; reported as a sample, not as verified
"""


@command.command("verify", help=_VERIFY)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@proof("How far to look.", "readback")
@click.option("--identity", default="", metavar="FILE", help="File with the secret key of an encrypted package.")
@click.option("--sample", metavar="PERCENT", help="List all, but read only so much, chosen anew each time.")
@threads
@as_json
@common
@click.pass_obj
def verify(
    session: Session,
    /,
    location: str,
    names: tuple[str, ...],
    proof: str,
    sample: str | None,
    identity: str,
    threads: int,
) -> int:
    """See _VERIFY."""
    from portabl import snapshots
    from portabl.cli.verify import sample_of
    from portabl.errors import UsageError
    from portabl.model import Proof

    part = sample_of(sample) if sample is not None else None
    config, progress = session.config(), session.progress()
    results = []
    with stop_on_signals() as stop:
        try:
            for one, found in snapshots.verify(
                location,
                config,
                names=names,
                proof=Proof(proof),
                sample=part,
                identity=identity,
                threads=threads,
                progress=progress,
                stop=stop,
            ):
                results.append((one, found))
                if not session.json:
                    _tell_verified(session, one, found)
        finally:
            progress.close()
    if not results:
        raise UsageError("no finished snapshots here", hint="`portabl export SRC LOCATION --snapshot` makes one")
    code = max(found.exit_code for _, found in results)
    if session.json:
        session.document(
            {
                "document": "portabl snapshots verification",
                "version": 1,
                "snapshots": [_verified_document(one, found) for one, found in results],
                "exit_code": code,
            }
        )
    return code


def _tell_verified(session: Session, one: Snapshot, found: Verification | ManifestError) -> None:
    from portabl.keys import plain
    from portabl.verification import Verification, verification_text

    if isinstance(found, Verification):
        session.say(verification_text(dataclasses.replace(found, manifest=one.name, location=one.name)))
    else:
        session.say(f"{one.name}: DAMAGED: {plain(str(found))}")


def _verified_document(one: Snapshot, found: Verification | ManifestError) -> dict[str, object]:
    from portabl.verification import Verification, verification_document

    if isinstance(found, Verification):
        return {"name": one.name, "verification": verification_document(found)}
    return {"name": one.name, "error": error_document(found)}
