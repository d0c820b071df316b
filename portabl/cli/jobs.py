"""``portabl jobs``: a group of commands; those for daemons and installers are in files of their own."""

from __future__ import annotations

import importlib

import click

from portabl.cli.options import common

_HELP = """Run jobs on a schedule: list, run, watch and install them.

A job is a table `[jobs.NAME]` in portabl.toml. Any scheduler can run it with `portabl jobs run NAME`; `portabl jobs
serve` is a scheduler of its own, and `portabl jobs install` writes what systemd, cron, Kubernetes or Airflow read.

\b
Examples
  portabl jobs list              what there is, and when it runs next
  portabl jobs run nightly       run it now
  portabl jobs check             exit code 3 when a job failed or is late
"""

COMMANDS = {
    "list": "jobs_show",
    "show": "jobs_show",
    "next": "jobs_show",
    "history": "jobs_show",
    "run": "jobs_run",
    "check": "jobs_run",
    "enable": "jobs_run",
    "disable": "jobs_run",
    "test-alerts": "jobs_run",
    "serve": "jobs_serve",
    "install": "jobs_install",
}
"""Commands, and the module of `portabl.cli` each is in."""


class LazyJobs(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Names in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"portabl.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_") + "_command")
        assert isinstance(command, click.Command)
        return command


@click.group("jobs", cls=LazyJobs, help=_HELP)
@common
def command() -> None:
    """See _HELP."""
