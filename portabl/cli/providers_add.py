"""``portabl providers add``."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from portabl.cli.options import as_json, common
from portabl.cli.output import Session, is_terminal
from portabl.cli.providers_fields import field_options, given, typed
from portabl.errors import UsageError

_HELP = """Add a provider to portabl.toml.

On a terminal, whatever the options leave open is asked for, step by step: provider, region, where the credentials
are kept. Elsewhere the options have to say it all. The file is the one in use, or a new one in the user's
configuration directory; only its owner may read it, and its comments stay.

\b
Examples
  portabl providers add
  portabl providers add ovh --catalogue ovhcloud --region gra \\
      --access-key-id env:OVH_KEY --secret-access-key env:OVH_SECRET
  portabl providers add disk --type file --path ~/export
"""


@click.command("add", help=_HELP)
@click.argument("name", metavar="[NAME]", required=False, default="")
@field_options
@click.option("--no-input", is_flag=True, help="Ask nothing, even on a terminal.")
@as_json
@common
@click.pass_obj
def add(session: Session, /, name: str, no_input: bool, settings: tuple[str, ...], **flags: str | None) -> int:
    """See _HELP."""
    from portabl.providers_file import ProvidersFile

    texts = given(flags, settings)
    file = ProvidersFile(_path(session))
    if not no_input and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        from portabl.cli.providers_ask import ask

        name, texts = ask(session, file, name, texts)
    values = table_of(texts)
    if not name:
        raise UsageError(
            "the provider has no name", hint="`portabl providers add NAME --catalogue ENTRY --region REGION`"
        )
    file.add(name, values)
    report(session, file.path, name, f"added provider `{name}`")
    return 0


def _path(session: Session) -> str:
    """The file to write to: with ``--config``, one that need not exist yet."""
    from portabl.providers_file import default_path

    asked = os.path.abspath(os.path.expanduser(session.config_path)) if session.config_path else ""
    return asked if asked and not os.path.lexists(asked) else default_path(session.config())


def table_of(texts: dict[str, str]) -> dict[str, Any]:
    """The table to write. Raises UsageError."""
    if not texts.get("type") and not texts.get("catalogue"):
        hint = "`--catalogue ENTRY` (`portabl providers list --catalogue` shows all), or `--type s3 --endpoint URL`"
        raise UsageError("neither --catalogue nor --type says what kind of place it is", hint=hint)
    kind = texts.get("type") or "s3"
    values = typed(kind, texts)
    return values if "catalogue" in values and kind == "s3" else {"type": kind, **values}


def report(session: Session, path: str, name: str, what: str) -> None:
    """Say what was done, and what may come next."""
    from portabl.keys import plain

    if session.json:
        session.document(
            {"document": "portabl provider change", "version": 1, "name": name, "file": path, "exit_code": 0}
        )
    session.tell(f"{plain(what)} in {plain(path)}")
    session.tell(f"next: portabl providers test {plain(name)}")
