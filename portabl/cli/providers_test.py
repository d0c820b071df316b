"""``portabl providers test``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session, error_document

if TYPE_CHECKING:
    from portabl.providers import Config
    from portabl.trial import Step, Trial

_HELP = """Try a provider: list, put one scratch object, read it back, delete it.

The scratch object has a new name (`portabl-test-...`), so nothing that is there is touched. With the name of an S3
provider alone, nothing is written: the endpoint is asked which buckets these credentials may see. The exit code is
0 when everything worked, 6 when the place cannot be reached or refuses something.

\b
Examples
  portabl providers test ovh
  portabl providers test ovh:my-bucket
"""


@click.command("test", help=_HELP)
@click.argument("location", metavar="NAME[:CONTAINER/PREFIX]", shell_complete=complete_location)
@as_json
@common
@click.pass_obj
def test(session: Session, /, location: str) -> int:
    """See _HELP."""
    from portabl.keys import plain

    trial = _try(session.config(), location)
    if session.json:
        steps = [_document(step) for step in trial.steps]
        head = {"document": "portabl provider test", "version": 1, "location": plain(location), "steps": steps}
        session.document(head | {"note": trial.note, "exit_code": trial.exit_code})
    else:
        session.say(
            "\n".join(
                f"{'ok ' if not step.error else 'BAD'} {step.name:<8} {plain(step.detail)}" for step in trial.steps
            )
        )
    for step in trial.steps:
        if step.error and step.hint:
            session.tell(f"hint: {step.name}: {plain(step.hint)}")
    if trial.note and not trial.exit_code:
        session.tell(f"note: {plain(trial.note)}")
    return trial.exit_code


def _try(config: Config, location: str) -> Trial:
    from portabl.provider_types import S3Provider
    from portabl.registry import open_location
    from portabl.trial import try_location, try_provider

    name = location.removesuffix(":")
    if ":" not in name and "/" not in name:
        provider = config.provider(name)
        if isinstance(provider, S3Provider):
            return try_provider(provider)
        location = f"{name}:"
    with open_location(location, config) as storage:
        return try_location(storage)


def _document(step: Step) -> dict[str, object]:
    error = error_document(step.error) if step.error else None
    return {"step": step.name, "passed": step.error is None, "detail": step.detail, "hint": step.hint, "error": error}
