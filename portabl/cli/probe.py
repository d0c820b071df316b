"""``portabl probe``."""

from __future__ import annotations

from pathlib import Path

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals

_HELP = """Find out by trying what the provider of LOCATION really does.

About 700 small requests are made in a prefix of its own below LOCATION (`portabl-probe-...`), and everything is
removed again: at the end, after an error, on Ctrl-C; what a killed probe left behind is removed by the next one of
the same LOCATION. No setting of the bucket is changed. Credentials must be allowed to write and delete there.

What is found out (which keys, headers, metadata and tags come back as they were, which checksums are verified, limits,
conditions, paging) is the provider's capability card. It is kept in the user's state directory; `portabl plan` and
`portabl migrate` go by it.

\b
Examples
  portabl probe new:photos
  portabl probe new:photos --output new.json --json
"""


@click.command("probe", help=_HELP)
@click.argument("location", metavar="LOCATION", shell_complete=complete_location)
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Put the card here too."
)
@click.option("--server", default="", metavar="TEXT", help="Name and version of the server, for the card.")
@as_json
@common
@click.pass_obj
def command(session: Session, /, location: str, output: Path | None, server: str) -> int:
    """See _HELP."""
    from portabl import capability
    from portabl.capability_text import card_text
    from portabl.keys import show
    from portabl.probe import examine
    from portabl.probe.scratch import scratch
    from portabl.state import default_root

    config, left, root = session.config(), list[bytes](), default_root()
    say = (lambda _: None) if session.quiet else (lambda section: session.tell(f"trying {section}"))
    with stop_on_signals() as stop, scratch(location, config, root, left) as prefix:
        card = examine(prefix, server=server, say=say, stop=stop)
    capability.write(card, capability.place_of(card.service, root))
    if output is not None:
        capability.write(card, output)
    code = 3 if left else 0
    if session.json:
        session.document({**capability.document(card), "left_behind": list(map(show, left)), "exit_code": code})
    else:
        session.say(card_text(card))
    for key in left:
        session.tell(f"warning: could not be removed again: {show(key)}")
    return code
