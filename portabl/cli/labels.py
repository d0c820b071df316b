"""``portabl labels verify``, ``portabl labels status`` and ``portabl labels recheck``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from portabl.cli.options import as_json, common, complete_location
from portabl.cli.output import Session

if TYPE_CHECKING:
    from portabl.labels.fetch import Cache, Fetcher
    from portabl.labels.finding import Finding
    from portabl.labels.sources import Piece
    from portabl.labels.trust import Trust
    from portabl.providers import Config


@click.group("labels")
@common
def command() -> None:
    """Check the Gaia-X labels of providers, step by step."""


_VERIFY = """Hold a Gaia-X label credential (release Loire, a JWT) against the specification, step by step.

Each step passes, fails, or is not checked because something is missing. Only when every step passes is the service
labelled and the exit code 0; everything else is "NOT labelled" and 3.

What is kept beside FILE counts as evidence: for ovh.jwt every ovh.*.did.json, ovh.*.chain.pem, ovh.*.vp.jwt and
ovh.*.vc.jwt. What is missing there is fetched over HTTPS, unless --offline. FILE may be - for standard input.

\b
Examples
  portabl labels verify ovh.jwt --presentation vp.jwt --keep
  portabl labels verify ovh.jwt --offline --at 2026-04-01
  portabl labels verify ovh.jwt --provider ovh --json
"""


@command.command("verify", help=_VERIFY)
@click.argument("file", metavar="FILE|-", type=click.Path())
@click.option("--at", "moment", metavar="DATE", help="Ask about this time: 2026-04-01 or RFC 3339. Default: now.")
@click.option("--did-document", "did", multiple=True, metavar="FILE", help="A DID document; can be given again.")
@click.option("--chain", multiple=True, metavar="FILE", help="The certificates behind the issuer's key, PEM.")
@click.option("--presentation", multiple=True, metavar="FILE", help="The credentials that were labelled, a JWT.")
@click.option("--trust", metavar="FILE", help="Further clearing houses and authorities (docs/labels.md).")
@click.option("--provider", metavar="NAME", help="The label must name this provider's endpoint.")
@click.option("--offline", is_flag=True, help="Touch no network: files, and the cache of earlier answers.")
@click.option("--keep", is_flag=True, help="Write what was used beside FILE, as evidence for later.")
@as_json
@common
@click.pass_obj
def verify(session: Session, /, file: str, **options: object) -> int:
    """See _VERIFY."""
    from portabl.errors import UsageError
    from portabl.labels import evidence
    from portabl.labels.finding import finding_document, finding_text
    from portabl.labels.sources import Sources
    from portabl.labels.verify import verify as check

    if options["keep"] and file == "-":
        raise UsageError("`--keep` needs a file to keep evidence beside", hint="save the label in a file first")
    at, config = _time(options["moment"]), session.config()
    endpoint, trust = _endpoint(config, options["provider"]), _trust(session, config, options["trust"])
    text = _standard_input() if file == "-" else evidence.read(file)
    sources = Sources(_pieces(file, options), *_elsewhere(trust, offline=bool(options["offline"])))
    found = check(text, at=at, sources=sources, trust=trust, endpoint=endpoint)
    for name in evidence.keep(file, sources.used.values()) if options["keep"] else ():
        session.tell(f"kept {name}")
    code = 0 if found.labelled else 3
    if session.json:
        head = {"document": "portabl label", "version": 1, "file": file}
        session.document({**head, **finding_document(found), "exit_code": code})
    else:
        session.say(finding_text(found, file))
    return code


def _standard_input() -> str:
    from portabl.labels.credential import PRESENTATION_BYTES_MAX

    return sys.stdin.buffer.read(PRESENTATION_BYTES_MAX + 1).decode("utf-8", "replace")


def _time(text: object) -> datetime:
    from portabl.errors import UsageError

    if not isinstance(text, str):
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"`--at {text}` is no date", hint="write 2026-04-01 or 2026-04-01T12:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _endpoint(config: Config, name: object) -> str | None:
    from portabl.labels.configured import endpoint_of

    return endpoint_of(config.provider(name)) if isinstance(name, str) else None


def _trust(session: Session, config: Config, named: object) -> Trust:
    from portabl.keys import plain
    from portabl.labels.configured import trust_of

    found = trust_of(config, named if isinstance(named, str) else None)
    for line in found.warnings:
        session.tell(f"warning: {plain(line)}")
    return found


def _pieces(file: str, options: dict[str, object]) -> list[Piece]:
    from portabl.labels import evidence

    found = []
    for kind in ("did", "chain", "presentation"):
        paths = options[kind]
        assert isinstance(paths, tuple)
        found += [evidence.piece(kind, path) for path in paths]
    return [*found, *(evidence.beside(file) if file != "-" else ())]


def _elsewhere(trust: Trust, *, offline: bool) -> tuple[Fetcher | None, Cache]:
    from portabl.labels.fetch import Fetcher, default_cache

    return None if offline else Fetcher(trust.private_hosts, trust.ca_bundle), default_cache()


_STATUS = """Show the labels of all providers in portabl.toml: level, issuer, until when, and how many days are left.

Only the evidence kept beside each label is used, as in a migration: nothing is fetched. The exit code is 3 when a
label that is named there is not proven.

\b
Examples
  portabl labels status
  portabl labels status --json
"""


@command.command("status", help=_STATUS)
@click.option("--at", "moment", metavar="DATE", help="Ask about this time: 2026-04-01 or RFC 3339. Default: now.")
@as_json
@common
@click.pass_obj
def status(session: Session, /, moment: str | None) -> int:
    """See _STATUS."""
    from portabl.labels.configured import held
    from portabl.labels.finding import finding_document, stamp

    at, config = _time(moment), session.config()
    trust = _trust(session, config, None)
    found = [(name, one) for name, provider in config.providers.items() for one in held(provider, trust, at)]
    code = 0 if all(one.finding.labelled for _, one in found) else 3
    if session.json:
        labels = [
            {"provider": name, "file": one.file, "days_left": one.finding.days_left, **finding_document(one.finding)}
            for name, one in found
        ]
        head = {"document": "portabl label status", "version": 1, "at": stamp(at)}
        session.document({**head, "labels": labels, "exit_code": code})
        return code
    for name, one in found:
        session.say(_status_line(name, one.finding))
    bare = [name for name, provider in config.providers.items() if not provider.labels]
    if bare:
        session.tell(f"no label: {', '.join(bare)}")
    return code


def _status_line(name: str, finding: Finding) -> str:
    from portabl.keys import plain

    until = "" if finding.valid_until is None else f"{finding.valid_until:%Y-%m-%d}"
    if finding.labelled:
        left = f"until {until}, {finding.days_left} days left"
        return f"{name:<16} {finding.level:<3} {plain(finding.issuer_name):<16} {left}"
    problem = finding.first_problem
    assert problem is not None
    said = f"{finding.state}: {problem.name} {problem.outcome}: {plain(problem.reason)}"
    return f"{name:<16} -   NOT labelled{', until ' + until if until else ''}, {said}"


_RECHECK = """Verify again the labels that a migration relied on, from the evidence in its manifest, for its time.

Nothing is fetched. The exit code is 3 when a label is not proven, or is said to be another than it is.

\b
Examples
  portabl labels recheck MANIFEST
  portabl labels recheck MANIFEST --trust trust.toml --json
"""


@command.command("recheck", help=_RECHECK)
@click.argument("manifest", metavar="MANIFEST", shell_complete=complete_location)
@click.option("--trust", metavar="FILE", help="Further clearing houses and authorities (docs/labels.md).")
@as_json
@common
@click.pass_obj
def recheck(session: Session, /, manifest: str, trust: str | None) -> int:
    """See _RECHECK."""
    from portabl.cli.manifest import open_manifest
    from portabl.labels.configured import recorded
    from portabl.labels.finding import finding_document, finding_text

    opened, config = open_manifest(session, manifest), session.config()
    entries = opened.document.get("labels", [])
    found = recorded(entries, _trust(session, config, trust))
    documents = [finding_document(one.finding) for one in found]
    same = all(
        document["labelled"] == said["finding"]["labelled"] for document, said in zip(documents, entries, strict=True)
    )
    code = 0 if same and all(one.finding.labelled for one in found) else 3
    if session.json:
        labels = [
            {"provider": one.provider, "file": one.file, **doc} for one, doc in zip(found, documents, strict=True)
        ]
        session.document({"document": "portabl label recheck", "version": 1, "labels": labels, "exit_code": code})
        return code
    for one in found:
        session.say(finding_text(one.finding, one.file))
    if not found:
        session.tell("the manifest holds no labels")
    return code
