"""``portabl bucket-config``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.bucket_config import Change

_HELP = """Compare and carry the configuration of buckets.

Versioning, default encryption, tags, CORS, policy, website, lifecycle, object-lock default and notifications. `migrate`
carries objects and leaves these alone.
"""
_SHOW = """Show the configuration of SRC, or how it would travel to DST.

With DST each setting is classed: carried, needs adaptation (and why), or cannot be carried; what would be written is
shown as a diff, and the exit code is 3 when something cannot be carried as it is. Nothing is written.

\b
Examples
  portabl bucket-config show old:photos
  portabl bucket-config show old:photos new:photos --json
"""
_APPLY = """Write the configuration of SRC to DST.

Without --yes nothing is written: the diff is shown. With it, every setting that can be carried is written and
read back. What needs adaptation is written only from a document of yours. Settings that DST alone has stay.

\b
Examples
  portabl bucket-config apply old:photos new:photos
  portabl bucket-config apply old:photos new:photos --yes --only versioning --only cors
  portabl bucket-config apply old:photos new:photos --yes --use policy=policy.json
"""
_NAMES = (
    *("versioning", "encryption", "tags", "cors", "policy", "website", "lifecycle"),
    *("object-lock", "notifications"),
)


@click.group("bucket-config", help=_HELP)
def command() -> None:
    """See _HELP."""


@command.command("show", help=_SHOW)
@click.argument("source", metavar="SRC", shell_complete=complete_location)
@click.argument("target", metavar="[DST]", shell_complete=complete_location, required=False)
@as_json
@common
@click.pass_obj
def show(session: Session, /, source: str, target: str | None) -> int:
    """See _SHOW."""
    from portabl import bucket_config
    from portabl.registry import open_location

    config = session.config()
    with open_location(source, config) as place:
        if target is None:
            return _tell_one(session, bucket_config.settings(place))
        with open_location(target, config) as other:
            return _tell(session, bucket_config.compare(place, other))


@command.command("apply", help=_APPLY)
@click.argument("source", metavar="SRC", shell_complete=complete_location)
@click.argument("target", metavar="DST", shell_complete=complete_location)
@click.option("--only", multiple=True, type=click.Choice(_NAMES), help="Only this setting; may be given several times.")
@click.option("--use", multiple=True, metavar="NAME=FILE", help="Use this JSON document instead of the source's.")
@click.option("--yes", is_flag=True, help="Write; without it, only the diff is shown.")
@as_json
@common
@click.pass_obj
def apply(session: Session, /, source: str, target: str, only: tuple[str, ...], use: tuple[str, ...], yes: bool) -> int:
    """See _APPLY."""
    from portabl import bucket_config
    from portabl.registry import open_location

    config, given = session.config(), _given(use)
    with open_location(source, config) as place, open_location(target, config) as other:
        changes = [c for c in bucket_config.compare(place, other, given) if not only or c.name in only]
        if not yes:
            code = _tell(session, changes)
            session.tell("nothing was written: add `--yes` to write what the diff shows")
            return code
        done = {change.name: problem for change, problem in bucket_config.apply(other, changes)}
        return _tell(session, changes, done)


def _given(use: tuple[str, ...]) -> dict[str, Any]:
    from portabl.errors import UsageError

    found: dict[str, Any] = {}
    for text in use:
        name, _, path = text.partition("=")
        if name not in _NAMES or not path:
            raise UsageError(f"`--use {text}`: write NAME=FILE", hint=f"names: {', '.join(_NAMES)}")
        try:
            with open(path, encoding="utf-8") as file:
                found[name] = json.load(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"`{path}` cannot be used: {error}", hint="it must hold one JSON document") from None
    return found


def _tell_one(session: Session, found: dict[str, Any]) -> int:
    unknown = [setting for setting in found.values() if setting.problem]
    if session.json:
        rows = {name: {"document": one.value, "problem": one.problem} for name, one in found.items()}
        session.document({"document": "portabl bucket-config", "version": 1, "settings": rows, "exit_code": 0})
        return 0
    for name, one in found.items():
        if not one.problem:
            session.say(f"{name}: {'not set' if one.value is None else json.dumps(one.value, indent=2)}")
    for one in unknown:
        session.say(f"{one.name}: the store does not tell ({one.problem})")
    return 0


def _tell(session: Session, changes: list[Change], done: dict[str, str] | None = None) -> int:
    from portabl.bucket_config import Class

    failed = any((done or {}).values())
    lost = any(change.kind in (Class.ADAPT, Class.NOT) for change in changes)
    code = 3 if failed or lost else 0
    if session.json:
        rows = [_row(change, done) for change in changes]
        session.document({"document": "portabl bucket-config", "version": 1, "changes": rows, "exit_code": code})
        return code
    for change in changes:
        session.say(f"{change.name}: {change.kind}{_outcome(change, done)}")
        for line in (*change.reasons, *(change.notes if change.diff else ())):
            session.say(f"  {line}")
        if change.diff:
            session.say("\n".join(f"  {line}" for line in change.diff.splitlines()))
    return code


def _outcome(change: Change, done: dict[str, str] | None) -> str:
    if done is None or change.name not in done:
        return ""
    return f", NOT applied: {done[change.name]}" if done[change.name] else ", applied and read back"


def _row(change: Change, done: dict[str, str] | None) -> dict[str, object]:
    applied = None if done is None or change.name not in done else not done[change.name]
    return {
        "name": change.name,
        "class": str(change.kind),
        "reasons": list(change.reasons),
        "notes": list(change.notes),
        "source": change.source,
        "target": change.target,
        "proposed": change.proposed,
        "applied": applied,
        "problem": (done or {}).get(change.name, ""),
    }
