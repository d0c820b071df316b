"""``portabl verify``."""

from __future__ import annotations

import dataclasses
import random
import re
from typing import TYPE_CHECKING, Any

import click

from portabl.cli.manifest import manifest_folder
from portabl.cli.options import as_json, common, complete_location, proof, threads, throttle
from portabl.cli.output import Session
from portabl.cli.signals import stop_on_signals
from portabl.errors import UsageError
from portabl.model import Proof

if TYPE_CHECKING:
    from portabl.checker import Sample
    from portabl.providers import Config
    from portabl.verification import Verification

_HELP = """Compare a location with a manifest, or a package with itself.

LOCATION defaults to the target the manifest was written for. Every object that is missing or different is named; exit
code 0 says that everything the manifest names is there. A package made by `portabl export` is named alone: its payload
and every other file in it are checked, and nothing else may lie there.

\b
Examples
  portabl verify ~/.local/state/portabl/jobs/ID/manifests/0001
  portabl verify MANIFEST ./export --proof readback
  portabl verify ./package
  portabl verify ./package --sample 5%        reads a part; reported as a sample, not as verified

\b
Levels
  size      the listing: every key is there with its size
  ingest    and with the identity that the store gave it when it was written
  readback  everything is read: bytes, headers, metadata, tags

\b
Line signs: - missing, * different, + not in the manifest, ! unreadable
"""


@click.command("verify", help=_HELP)
@click.argument("manifest", metavar="MANIFEST", shell_complete=complete_location)
@click.argument("location", metavar="[LOCATION]", shell_complete=complete_location, required=False)
@proof("How far to look.", "readback")
@click.option("--sample", metavar="PERCENT", help="Of a package: list all, read so much, chosen anew.")
@click.option("--identity", default="", metavar="FILE", help="File with the secret key of an encrypted package.")
@threads
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that read large objects back, besides this one.",
)
@throttle
@as_json
@common
@click.pass_obj
def command(
    session: Session,
    /,
    manifest: str,
    location: str | None,
    sample: str | None,
    **options: object,
) -> int:
    """See _HELP."""
    from portabl.registry import safe_url
    from portabl.verification import verification_document, verification_text

    part = sample_of(sample) if sample is not None else None
    options["proof"] = Proof(str(options["proof"]))
    config, progress = session.config(), session.progress()
    with stop_on_signals() as stop:
        try:
            found = _verify(manifest, location, config, part, progress=progress, stop=stop, **options)
        finally:
            progress.close()
    found = dataclasses.replace(found, manifest=safe_url(found.manifest), location=safe_url(found.location))
    if session.json:
        session.document(verification_document(found))
    else:
        session.say(verification_text(found))
    return found.exit_code


def _verify(manifest: str, location: str | None, config: Config, sample: Sample | None, **options: Any) -> Verification:
    from portabl import package
    from portabl.throttle import Throttle
    from portabl.verify import verify

    options["pacer"] = Throttle.of(options.pop("bandwidth"), options.pop("requests_per_second"))
    if location is None and package.is_package(manifest, config):
        if options.pop("processes") > 1:
            raise UsageError("`--processes` is not for packages", hint="leave it out")
        return package.verify(manifest, config, sample=sample, **options)
    if sample is not None:
        raise UsageError("`--sample` is for packages", hint="a manifest is held against a place with `--proof`")
    if options.pop("identity"):
        raise UsageError("`--identity` is for packages", hint="leave it out")
    return verify(manifest_folder(manifest), location, config, **options)


def sample_of(text: str) -> Sample:
    """A part of all objects that is another one each time."""
    from portabl.checker import Sample

    number = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%?", text)
    if not number or not 0 < float(number[1]) < 100:
        raise UsageError(f"`--sample {text}` is no percentage", hint="write a number between 0 and 100, such as `5%`")
    return Sample(float(number[1]) / 100, random.SystemRandom().random())
