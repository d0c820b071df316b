"""``portabl demo``."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portabl.cli.options import common
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.demo import Demo

_HELP = """See it work: two local S3 providers, a nasty data set, a proof.

Starts two S3 servers on this machine, fills one, migrates, reads everything back, repeats the migration (nothing is
left to copy), then changes one bit at the target and shows that it is found. Needs no network and no account, and
leaves nothing behind unless --keep is given.
"""


@click.command("demo", help=_HELP)
@click.option("--keep", metavar="DIR", help="Work in this new directory and keep the manifest there.")
@common
@click.pass_obj
def command(session: Session, /, keep: str | None) -> int:
    """See _HELP."""
    if keep is not None:
        folder = _new_folder(keep)
        _play(session, folder)
        session.say(f"The manifest, the state and portabl.toml are kept in {folder}; the servers are gone.")
        return 0
    with tempfile.TemporaryDirectory(prefix="portabl-demo-") as temporary:
        _play(session, Path(temporary))
    session.say("The servers and everything they held are gone. `portabl demo --keep DIR` keeps the manifest.")
    return 0


def _new_folder(text: str) -> Path:
    from portabl.errors import UsageError

    folder = Path(text).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}") from error
    if used:
        raise UsageError(f"{folder} is not empty", hint="name a new directory")
    return folder


def _play(session: Session, folder: Path) -> None:
    from portabl.demo import BUCKET, LARGE_BYTES, NASTY, SMALL_COUNT, running

    with running(folder) as demo:
        session.say("Two S3 providers are running on this machine, `old` and `new`:")
        session.say("\n".join(f"    {name}: {endpoint}" for name, endpoint in demo.endpoints.items()))
        demo.fill()
        session.say(
            f"`old:{BUCKET}` holds {SMALL_COUNT} small objects, a multipart object of {LARGE_BYTES // 2**20} MiB,\n"
            f"one with every header and tags, and {len(NASTY)} keys that other tools lose, merge or rename.\n"
        )
        _scenes(session, demo, f"old:{BUCKET}", f"new:{BUCKET}")


def _scenes(session: Session, demo: Demo, source: str, target: str) -> None:
    manifest = str(demo.folder / "manifest")
    session.say("1. Migrate.")
    _run(session, demo, 0, "migrate", source, target, "--manifest", manifest)
    session.say("2. Read every byte, header and tag back from the target, and compare with the manifest.")
    _run(session, demo, 0, "verify", manifest, "--proof", "readback")
    session.say("3. Repeat the migration: nothing is left to copy.")
    _run(session, demo, 0, "migrate", source, target, "--manifest", manifest)
    flipped = demo.flip()
    session.say(f"4. One bit of {flipped} has been changed at the target, its size is the same. Verify again:")
    _run(session, demo, 3, "verify", manifest, "--proof", "readback")
    session.say(f"Found. The manifest is {manifest}/manifest.json\n")


def _run(session: Session, demo: Demo, expected: int, *arguments: str) -> None:
    """One command as a user would type it, in a process of its own."""
    from portabl.errors import Interrupted, PortablError

    session.say(f"\n$ portabl {shlex.join(arguments)}")
    command = [sys.executable, "-m", "portabl", *arguments, *(["--quiet"] if session.quiet else [])]
    ended = subprocess.run(command, cwd=demo.folder, env=demo.environment, check=False)  # noqa: S603 - our own program
    code = ended.returncode
    session.say("")
    if code == Interrupted.exit_code:
        raise Interrupted("the demo was interrupted", hint="nothing is left behind; run it again")
    if code != expected:
        raise PortablError(f"`portabl {arguments[0]}` ended with {code} where {expected} was expected")
