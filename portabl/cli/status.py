"""``portabl status``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common, state
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.state import JobStatus

_HELP = """Show the jobs known in the state directory.

A job is found again from its source, target and options: to continue one, repeat the command that began it.

\b
Example
  portabl status --json
"""


@click.command("status", help=_HELP)
@state
@as_json
@common
@click.pass_obj
def command(session: Session, /, state: str | None) -> int:
    """See _HELP."""
    from portabl.state import default_root, jobs

    root = _folder(session, state) if state else default_root()
    found = list(jobs(root))
    if session.json:
        head = {"document": "portabl status", "version": 1, "root": str(root), "exit_code": 0}
        session.document(head | {"jobs": [dataclasses.asdict(job) for job in found]})
    elif found:
        session.say("\n".join(_text(job) for job in found))
    else:
        session.tell(f"no job is known in {root}")
    return 0


def _folder(session: Session, text: str) -> Path:
    """Where jobs with this ``--state`` are worked on: there, or, if it is not local, in the user's state directory."""
    import hashlib

    from portabl.registry import parse
    from portabl.state import default_root

    location = parse(text, session.config())
    if location.type == "file":
        return Path(location.container)
    return default_root() / "remote" / hashlib.sha256(location.name.encode()).hexdigest()[:16]


def _text(job: JobStatus) -> str:
    from portabl.keys import plain
    from portabl.report import size_text

    figures = f"{job.objects:,} objects, {size_text(job.bytes)}"
    finished = plain(job.finished) or "-"
    lines = [
        f"{plain(job.source)} -> {plain(job.target)}",
        f"  {job.id}  {plain(job.state)}, {figures}, started {plain(job.started)}, finished {finished}",
    ]
    if job.manifest:
        lines.append(f"  manifest {plain(job.manifest)}")
    return "\n".join(lines)
