"""The group of commands, and the one place where errors become text and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from portabl import __version__
from portabl.cli.output import Session
from portabl.errors import Interrupted, PortablError, UsageError

COMMANDS = {
    "plan": "Say what a migration from SRC to DST would carry, lose, take and cost. Writes nothing.",
    "migrate": "Copy everything from SRC to DST, and prove it.",
    "export": "Export everything of SRC as a package that explains and checks itself.",
    "restore": "Put everything in a package into a place, and prove it.",
    "snapshots": "Look after packages of one source side by side: list, prune, verify.",
    "probe": "Find out by trying what the provider of LOCATION really does.",
    "verify": "Compare a location with a manifest, or a package with itself.",
    "ls": "List every object of a location, exactly.",
    "manifest": "Look into a manifest, or derive other formats from it.",
    "fingerprint": "Read a location and print its root: the place in 32 bytes.",
    "labels": "Check the Gaia-X labels of providers, step by step.",
    "jobs": "Run jobs on a schedule: list, run, watch and install them.",
    "bucket-config": "Compare and carry the configuration of buckets.",
    "providers": "Name the places you move between: list, show, add, edit, remove and test them.",
    "status": "Show the jobs known in the state directory.",
    "demo": "See it work: two local S3 providers, a nasty data set, a proof.",
    "completion": "Print a completion script for your shell.",
}
_AGAIN = "run the same command again to go on from here"
_REPORT = "this is a mistake in portabl: please report it with the output of the same command and `-v`"


class LazyGroup(click.Group):
    """Imports a command's module when the command is called; the overview needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Names in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"portabl.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what the known commands are when one is unknown."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(COMMANDS)}"
            raise UsageError(f"no command `{args[0]}`", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The overview, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _cli() -> click.Group:
    from portabl.cli.options import common

    @click.group(
        cls=LazyGroup,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        help=__doc__,
    )
    @click.version_option(__version__, "--version", message="%(prog)s %(version)s")
    @common
    def cli() -> None:
        pass

    cli.help = HELP
    return cli


HELP = """Leave any cloud, lose nothing, prove it.

portabl moves objects between S3-compatible stores, local directories and any fsspec filesystem. Every key, byte,
header, metadata field and tag arrives as it was, or is named as a loss. A run can be killed at any instant and
continued by repeating the command. It leaves a manifest that anybody can check later.

\b
A location is one of
  NAME:bucket/prefix   a provider named in portabl.toml
  ./path               a local directory
  s3://bucket/prefix   AWS S3 with the credentials of the environment
  any://url            whatever fsspec understands

\b
Examples
  portabl demo                                 see it work, on this machine only
  portabl migrate old:photos new:photos        copy, and prove what arrived
  portabl migrate old:photos ./export          take it home
  portabl verify MANIFEST --proof readback     read everything back and compare

Exit codes: 0 all proven, 1 unexpected error, 2 usage, 3 losses or differences are listed, 4 interrupted,
5 refused by policy, 6 a place cannot be reached or refuses the credentials.
"""
cli = _cli()


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code. Nothing but SystemExit of Click's completion gets out."""
    session = Session(json=_asks_for_json(arguments))
    session.prepare_streams()
    try:
        return _guarded(session, arguments)
    except BrokenPipeError:  # the reader has gone, as with `| head`; there is nobody to tell
        _silence_stdout()
        return 1


def _guarded(session: Session, arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one return a kind of error
    try:
        result: Any = cli.main(list(arguments), prog_name="portabl", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else HELP, err=True)
        return 2
    except click.ClickException as error:
        return session.fail(_from_click(error))
    except PortablError as error:
        return session.fail(error)
    except (KeyboardInterrupt, click.Abort):
        return session.fail(Interrupted("interrupted", hint=_AGAIN))
    except BrokenPipeError:
        raise
    except Exception as error:  # the last line of defence
        return session.fail_unexpectedly(error, _REPORT)


def _from_click(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "portabl"
    return UsageError(error.format_message().rstrip("."), hint=f"`{command} --help` explains it")


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Known before parsing, because a mistake in the command line is answered in JSON too."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


def _silence_stdout() -> None:
    """Keep the interpreter from complaining at exit that it cannot flush."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
