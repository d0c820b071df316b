"""``portabl completion``."""

from __future__ import annotations

import click

from portabl.cli.options import common
from portabl.cli.output import Session

_HELP = """Print a completion script for your shell.

\b
Examples
  portabl completion bash > ~/.local/share/bash-completion/completions/portabl
  portabl completion zsh > ~/.zfunc/_portabl
  portabl completion fish > ~/.config/fish/completions/portabl.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@click.pass_obj
def command(session: Session, /, shell: str) -> int:
    """See _HELP."""
    from click.shell_completion import get_completion_class

    from portabl.cli.app import cli

    script = get_completion_class(shell)
    assert script is not None
    session.say(script(cli, {}, "portabl", "_PORTABL_COMPLETE").source())
    return 0
