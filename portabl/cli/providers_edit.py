"""``portabl providers edit`` and ``portabl providers remove``."""

from __future__ import annotations

import sys

import click

from portabl.cli.options import as_json, common
from portabl.cli.output import Session, is_terminal
from portabl.cli.providers_add import report
from portabl.cli.providers_fields import field_options, given, typed
from portabl.errors import ConfigError, UsageError

_EDIT = """Change a provider in portabl.toml: set fields, or take them away.

Without any option, on a terminal, the whole file opens in your editor ($VISUAL, $EDITOR); what you save becomes the
file only if it is a valid configuration.

\b
Examples
  portabl providers edit ovh --region rbx
  portabl providers edit ovh --unset session_token --set parts_max=1000
"""
_REMOVE = """Remove a provider from portabl.toml. Nothing at the provider is touched, and nothing in a keyring.

\b
Examples
  portabl providers remove ovh
  portabl providers remove ovh --yes
"""


@click.command("edit", help=_EDIT)
@click.argument("name", metavar="[NAME]", required=False, default="")
@field_options
@click.option("--unset", metavar="FIELD", multiple=True, help="Take a field away.")
@as_json
@common
@click.pass_obj
def edit(session: Session, /, name: str, settings: tuple[str, ...], unset: tuple[str, ...], **flags: str | None) -> int:
    """See _EDIT."""
    from portabl.providers_file import ProvidersFile, default_path

    texts = given(flags, settings)
    if not texts and not unset:
        return _in_editor(session)
    config = session.config()
    if not name:
        raise UsageError("the options name no provider", hint="`portabl providers edit NAME --set FIELD=VALUE`")
    kind = texts.get("type") or config.provider(name).type
    values = typed(kind, texts) | ({"type": kind} if "type" in texts else {})
    file = ProvidersFile(default_path(config))
    file.edit(name, values, unset)
    report(session, file.path, name, f"changed provider `{name}`")
    return 0


def _in_editor(session: Session) -> int:
    """The file itself may be broken: that is what an editor is for."""
    from portabl import providers
    from portabl.providers_file import ProvidersFile, default_path

    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError("nothing says what to change", hint="`portabl providers edit NAME --set FIELD=VALUE`")
    path = session.config_path or providers.find() or default_path(providers.Config())
    file = ProvidersFile(path)
    before = text = file.text()
    while True:
        edited = click.edit(text, extension=".toml")
        if edited is None or edited == before:
            session.tell("nothing changed")
            return 0
        try:
            file.replace(before, edited)
        except ConfigError as error:
            session.tell(f"{error}\n{error.hint}")
            if not click.confirm("Edit again? (Otherwise nothing is changed)", default=True, err=True):
                raise
            text = edited
            continue
        session.tell(f"changed {path}")
        return 0


@click.command("remove", help=_REMOVE)
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@common
@click.pass_obj
def remove(session: Session, /, name: str, yes: bool) -> int:
    """See _REMOVE."""
    from portabl.providers_file import ProvidersFile, default_path

    config = session.config()
    config.provider(name)
    file = ProvidersFile(default_path(config))
    if not yes:
        if not is_terminal(sys.stdin):
            raise UsageError(f"removing `{name}` needs `--yes` where nobody can be asked")
        if not click.confirm(f"Remove provider `{name}` from {file.path}?", err=True):
            raise click.Abort
    file.remove(name)
    session.tell(f"removed provider `{name}` from {file.path}")
    if session.json:
        session.document(
            {"document": "portabl provider change", "version": 1, "name": name, "file": file.path, "exit_code": 0}
        )
    return 0
