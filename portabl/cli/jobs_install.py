"""``portabl jobs install``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common
from portabl.cli.output import Session
from portabl.errors import UsageError

if TYPE_CHECKING:
    from portabl.jobs.install.common import Artifact

_INSTALL = """Print what another scheduler needs to run a job, or write it with --write.

\b
Examples
  portabl jobs install nightly --systemd               a service and a timer
  portabl jobs install nightly --systemd --write       into ~/.config/systemd/user, or /etc/systemd/system for root
  portabl jobs install nightly --cron --write          into the user's crontab
  portabl jobs install nightly --kubernetes --image registry.example.org/portabl:1
  portabl jobs install nightly --airflow --into ~/airflow/dags
"""


@click.command("install", help=_INSTALL)
@click.argument("name", metavar="NAME")
@click.option("--systemd", "kind", flag_value="systemd", help="A service and a timer for systemd.")
@click.option("--cron", "kind", flag_value="cron", help="A line for a crontab.")
@click.option("--kubernetes", "kind", flag_value="kubernetes", help="A CronJob manifest.")
@click.option("--airflow", "kind", flag_value="airflow", help="A DAG file.")
@click.option("--write", is_flag=True, help="Write it where that scheduler looks; Kubernetes: into this directory.")
@click.option("--into", metavar="DIRECTORY", help="Write it there instead.")
@click.option("--program", metavar="COMMAND", help="How portabl is called there. Default: this installation.")
@click.option("--image", default="portabl", show_default=True, help="The image for Kubernetes.")
@as_json
@common
@click.pass_obj
def install_command(
    session: Session,
    /,
    name: str,
    kind: str | None,
    write: bool,
    into: str | None,
    program: str | None,
    image: str,
) -> int:
    """See _INSTALL."""
    if kind is None:
        raise UsageError("no scheduler is named", hint="give `--systemd`, `--cron`, `--kubernetes` or `--airflow`")
    made = _made(session, name, kind, shlex.split(program) if program else None, image)
    written: list[str] = []
    if kind == "cron" and write and not into:
        written = [_into_crontab(made[0], name)]
    elif write or into:
        folder = Path(into).expanduser() if into else _folder(kind)
        written = [_written(folder, one) for one in made]
    if session.json:
        files = [{"name": one.name, "text": one.text, "note": one.note} for one in made]
        document = {"document": "portabl jobs install", "version": 1, "files": files, "written": written}
        session.document(document | {"exit_code": 0})
        return 0
    for one in made if not written else ():
        session.say(f"# --- {one.name}" if len(made) > 1 else "")
        session.say(one.text)
    for path in written:
        session.tell(f"written: {path}")
    if not (kind == "cron" and written):
        session.tell(f"next: {made[-1].note}")
    return 0


def _made(session: Session, name: str, kind: str, program: list[str] | None, image: str) -> list[Artifact]:
    from portabl.jobs import clock
    from portabl.jobs.config import load

    jobs = load(session.config())
    job = jobs.job(name)
    now = clock.now()
    if kind == "systemd":
        from portabl.jobs.install import systemd

        return systemd.units(jobs, job, now, system=_is_root(), program=program)
    if kind == "cron":
        from portabl.jobs.install import cron

        return [cron.line(jobs, job, program=program)]
    if kind == "kubernetes":
        from portabl.jobs.install import kubernetes

        return [kubernetes.cronjob(jobs, job, now, image=image, program=program)]
    from portabl.jobs.install import airflow

    return [airflow.dag(jobs, job, now, program=program)]


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _folder(kind: str) -> Path:
    """Where a scheduler looks for files by itself; the working directory where it does not."""
    if kind == "systemd":
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return Path("/etc/systemd/system") if _is_root() else home / "systemd" / "user"
    if kind == "airflow" and os.environ.get("AIRFLOW_HOME"):
        return Path(os.environ["AIRFLOW_HOME"]) / "dags"
    return Path()


def _written(folder: Path, one: Artifact) -> str:
    path = folder / one.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(one.text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        hint = "name another directory with `--into`"
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
    return str(path)


def _into_crontab(made: Artifact, name: str) -> str:
    """Replace the job's block in the user's crontab, or add it; everything else in there stays."""
    from portabl.jobs.install.cron import merged

    program = shutil.which("crontab")
    if program is None:
        hint = "print the line and put it where your cron reads it, or use `--into DIRECTORY`"
        raise UsageError("there is no `crontab` program here", hint=hint)
    there = subprocess.run([program, "-l"], capture_output=True, text=True, check=False)  # noqa: S603
    if there.returncode and "no crontab" not in there.stderr:
        raise UsageError(f"`crontab -l` fails: {there.stderr.strip()[:200]}", hint="see crontab(1)")
    text = merged(there.stdout if not there.returncode else "", made.text, name)
    done = subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UsageError(f"`crontab -` refuses: {done.stderr.strip()[:200]}", hint="see crontab(1)")
    return "the user's crontab"
