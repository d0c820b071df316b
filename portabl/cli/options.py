"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portabl.cli.output import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def complete_location(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Provider names, else files."""
    from click.shell_completion import CompletionItem

    from portabl.errors import ConfigError
    from portabl.providers import load

    try:
        names = [f"{name}:" for name in load().providers if f"{name}:".startswith(incomplete)]
    except ConfigError:  # completion is no place to complain
        names = []
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        session = ctx.find_object(Session)
        if session is not None and value not in (None, False):
            setattr(session, name, value)
        return value

    return callback


def common(function: F) -> F:
    """``--config``, ``-v`` and ``-q``: before or after the command's name."""
    for option in (
        click.option(
            "--config",
            metavar="FILE",
            expose_value=False,
            callback=_remember("config_path"),
            help="Providers are read from this file. Default: ./portabl.toml, then the user's configuration directory.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_remember("quiet"),
            help="No progress on stderr.",
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_remember("verbose"),
            help="Tracebacks and more.",
        ),
    ):
        function = option(function)
    return function


def as_json(function: F) -> F:
    """``--json``."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember("json"),
        help="Print exactly one JSON document on stdout, also on errors.",
    )(function)


def threads(function: F) -> F:
    """``--threads``."""
    return click.option(
        "--threads", type=click.IntRange(1, 512), default=64, show_default=True, help="Requests under way at once."
    )(function)


def throttle(function: F) -> F:
    """``--bandwidth`` and ``--requests-per-second``."""
    for option in (
        click.option(
            "--requests-per-second",
            type=click.FloatRange(0, min_open=True),
            metavar="N",
            help="At most so many requests a second, to all places together.",
        ),
        click.option(
            "--bandwidth",
            default="",
            metavar="RATE",
            help="At most so many bytes a second in each direction: 50M, or by time of day '08:00,20M 19:00,off'.",
        ),
    ):
        function = option(function)
    return function


def accept(function: F) -> F:
    """``--accept``."""
    return click.option(
        "--accept", multiple=True, metavar="NAMES", help="Losses that do not stop the run: keys,tags,expires ..."
    )(function)


def card(function: F) -> F:
    """``--card``."""
    return click.option(
        "--card", metavar="CARD", help="Go by this capability card of DST: a file, or one that comes with portabl."
    )(function)


def filters(function: F) -> F:
    """``--include`` and ``--exclude``."""
    for option in (
        click.option("--exclude", multiple=True, metavar="GLOB", help="Not keys that match; stronger than --include."),
        click.option(
            "--include", multiple=True, metavar="GLOB", help="Only keys that match; may be given several times."
        ),
    ):
        function = option(function)
    return function


def dry_run(function: F) -> F:
    """``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="List both sides and say what would be done. Writes nothing.")(
        function
    )


def state(function: F) -> F:
    """``--state``."""
    return click.option(
        "--state", metavar="LOCATION", help="Where jobs are remembered. Default: the user's state directory."
    )(function)


def proof(help_text: str, default: str = "ingest") -> Callable[[F], F]:
    """``--proof``."""
    levels = click.Choice(["size", "ingest", "readback"])
    return click.option("--proof", type=levels, default=default, show_default=True, help=help_text)


def symlinks(help_text: str) -> Callable[[F], F]:
    """``--symlinks``."""
    ways = click.Choice(["report", "follow", "keep"])
    return click.option("--symlinks", type=ways, default="report", show_default=True, help=help_text)
