"""``portabl manifest show`` and ``portabl manifest views``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.manifest import Manifest
    from portabl.model import Loss, Record
    from portabl.views import View


@click.group("manifest")
@common
def command() -> None:
    """Look into a manifest, or derive other formats from it."""


_SHOW = """Print what a manifest says of itself, and name every loss, key by key and field by field.

The whole manifest is read and checked: its hashes, its order, its counts and its roots. A damaged one ends with exit
code 3.

\b
Examples
  portabl manifest show MANIFEST
  portabl manifest show MANIFEST --records
  portabl manifest show MANIFEST --json
"""


def open_manifest(session: Session, text: str) -> Manifest:
    """A manifest by its directory, or by the manifest.json in it."""
    from portabl.manifest import load
    from portabl.registry import files

    return load(files(manifest_folder(text), session.config()))


def manifest_folder(text: str) -> str:
    """The directory of a manifest that may have been named by its manifest.json."""
    head, slash, tail = text.rpartition("/")
    if tail == "manifest.json":
        return head or slash or "."
    return text


@command.command("show", help=_SHOW)
@click.argument("manifest", metavar="MANIFEST", shell_complete=complete_location)
@click.option("--records", is_flag=True, help="Print every record, not only those with losses.")
@as_json
@common
@click.pass_obj
def show(session: Session, /, manifest: str, records: bool) -> int:
    """See _SHOW."""
    opened = open_manifest(session, manifest)
    if session.json:
        return _show_json(session, opened, records=records)
    for name, value in opened.document.items():
        if name == "labels":
            session.say(_label_lines(value))
        elif name != "segments":
            session.say(f"{name:<16} {_value(value)}")
    session.say(f"{'segments':<16} {len(opened.segments)}")
    for _, record in opened.records():
        if records or record.losses:
            sys.stdout.write(_record_text(record, full=records))
    sys.stdout.flush()
    return 0


def _value(value: object) -> str:
    from portabl.keys import plain

    return plain(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _label_lines(labels: Sequence[Mapping[str, Any]]) -> str:
    """A line a label; tokens and evidence are in the file, and in the JSON document."""
    from portabl.keys import plain

    lines = []
    for label in labels:
        found = label["finding"]
        verdict = (
            f"{found['level']} by {found['issuer_name']}" if found["labelled"] else f"NOT labelled ({found['state']})"
        )
        until = f"{verdict} until {found['valid_until']}, {len(label['evidence'])} documents as evidence"
        lines.append(f"{'label':<16} {label['side']}: {plain(until)}")
    return "\n".join(lines)


def _record_text(record: Record, *, full: bool) -> str:
    from portabl.keys import plain, show

    lines = [f"{record.size:>14} {record.sha256 or '-':<64} {show(record.key)}"] if full else [show(record.key)]
    if full:
        lines += [f"    {plain(name)}: {plain(value)}" for name, value in record.metadata.fields().items()]
    lines += [f"    LOST {_loss_text(loss)}" for loss in record.losses]
    return "\n".join(lines) + "\n"


def _loss_text(loss: Loss) -> str:
    from portabl.keys import plain

    was = f", was {plain(loss.value)!r}" if loss.value is not None else ""
    became = f", became {plain(loss.became)!r}" if loss.became is not None else ""
    return f"{plain(loss.field)}: {plain(loss.reason)}{was}{became}"


def _show_json(session: Session, manifest: Manifest, *, records: bool) -> int:
    """One document, written while the records are read: a manifest may be larger than memory."""
    session.printed = True
    head = {"document": "portabl manifest", "version": 1, "manifest": dict(manifest.document)}
    sys.stdout.write(json.dumps(head)[:-1] + ', "records": [')
    comma = ""
    error: dict[str, object] | None = None
    failure: Exception | None = None
    from portabl.cli.output import error_document
    from portabl.errors import PortablError

    try:
        for line, record in manifest.records():
            if records or record.losses:
                sys.stdout.write(f"{comma}\n{json.dumps(json.loads(line))}")
                comma = ","
    except PortablError as problem:
        failure, error = problem, error_document(problem)
    code = failure.exit_code if isinstance(failure, PortablError) else 0
    tail = {"complete": failure is None, "error": error, "exit_code": code}
    sys.stdout.write("\n], " + json.dumps(tail)[1:] + "\n")
    sys.stdout.flush()
    if failure:
        raise failure
    return 0


_VIEWS = """Derive lists that other tools read from a manifest.

\b
sha256sums  SHA256SUMS, for `sha256sum -c` in a directory of the objects
bagit       manifest-sha256.txt of a BagIt bag (RFC 8493)
s3-batch    CSV for S3 Batch Operations: bucket,key

What a format cannot say is counted on stderr, and the exit code is 3: such a list is not complete.

\b
Examples
  portabl manifest views MANIFEST ./lists
  portabl manifest views MANIFEST --as sha256sums > SHA256SUMS
"""
_FILES = {"sha256sums": "SHA256SUMS", "bagit": "manifest-sha256.txt", "s3-batch": "s3-batch.csv"}


@command.command("views", help=_VIEWS)
@click.argument("manifest", metavar="MANIFEST", shell_complete=complete_location)
@click.argument("directory", metavar="[DIRECTORY]", required=False, type=click.Path(file_okay=False))
@click.option("--as", "kind", type=click.Choice(list(_FILES)), help="Print this one list on stdout.")
@click.option("--bucket", help="Bucket for s3-batch. Default: the one of the manifest's target.")
@as_json
@common
@click.pass_obj
def views(session: Session, /, manifest: str, directory: str | None, kind: str | None, bucket: str | None) -> int:
    """See _VIEWS."""
    from portabl.errors import UsageError

    if (directory is None) == (kind is None):
        raise UsageError("name either a DIRECTORY for all lists or one list with `--as`")
    if kind is not None and session.json:
        raise UsageError("`--as` prints a list, so it cannot be combined with `--json`")
    opened = open_manifest(session, manifest)
    where = _bucket(session, opened, bucket)
    if kind is not None:
        return _print_view(session, opened, kind, where)
    made = {name: _write_view(session, opened, name, where, str(directory)) for name in _kinds(session, where)}
    if session.json:
        session.document({"document": "portabl views", "version": 1, "views": made, "exit_code": _worst(made)})
    return _worst(made)


def _worst(made: dict[str, dict[str, object]]) -> int:
    return 3 if any(view["left_out"] for view in made.values()) else 0


def _kinds(session: Session, bucket: tuple[str, bytes] | None) -> list[str]:
    if bucket is None:
        session.tell("note: the manifest's target is no bucket, so there is no s3-batch list; `--bucket` names one")
    return [kind for kind in _FILES if kind != "s3-batch" or bucket is not None]


def _bucket(session: Session, manifest: Manifest, given: str | None) -> tuple[str, bytes] | None:
    """Bucket and prefix of the s3-batch list: as given, else those of the manifest's own target."""
    from portabl.errors import UsageError
    from portabl.registry import parse

    try:
        location = parse(str(manifest.document.get("target", "")), session.config())
    except UsageError:  # a target whose provider is not configured here is no reason to refuse the other lists
        return (given, b"") if given else None
    if given or location.type == "s3":
        return given or location.container, location.prefix
    return None


def _make(manifest: Manifest, kind: str, bucket: tuple[str, bytes] | None, out: BinaryIO) -> View:
    from portabl import views as make
    from portabl.errors import UsageError

    records = (record for _, record in manifest.records())
    if kind == "sha256sums":
        return make.sha256sums(records, out)
    if kind == "bagit":
        return make.bagit_manifest(records, out)
    if bucket is None:
        raise UsageError("the manifest's target is no bucket", hint="name one with `--bucket`")
    return make.s3_batch_csv(records, out, *bucket)


def _print_view(session: Session, manifest: Manifest, kind: str, bucket: tuple[str, bytes] | None) -> int:
    """Printed only when the whole manifest was read and proven: half a list looks like a whole one."""
    import shutil
    import tempfile

    with tempfile.SpooledTemporaryFile(max_size=8 * 2**20) as spool:
        view = _make(manifest, kind, bucket, cast("BinaryIO", spool))
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout.buffer)
        sys.stdout.flush()
    return 3 if _tell_left_out(session, kind, view) else 0


def _write_view(
    session: Session, manifest: Manifest, kind: str, bucket: tuple[str, bytes] | None, directory: str
) -> dict[str, object]:
    from portabl.files import Files

    with Files.at(directory).writer(_FILES[kind]) as out:
        view = _make(manifest, kind, bucket, out)
    _tell_left_out(session, kind, view)
    if not session.json:
        session.say(f"{directory}/{_FILES[kind]}: {view.written:,} objects")
    return {"file": f"{directory}/{_FILES[kind]}", "written": view.written, "left_out": dict(view.left_out)}


def _tell_left_out(session: Session, kind: str, view: View) -> bool:
    from portabl.keys import show

    for reason, count in view.left_out.items():
        session.tell(f"{kind}: {count:,} left out: {reason}")
    for key in view.examples[:5]:
        session.tell(f"    {show(key)}")
    return bool(view.left_out)
