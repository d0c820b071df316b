"""The questions of ``portabl providers add``, one a step; whatever the options said already is not asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from portabl.cli.output import Session
from portabl.keys import plain

if TYPE_CHECKING:
    from portabl.catalogue import Entry
    from portabl.providers_file import ProvidersFile

_SOURCES = """Where are the credentials kept?
  1  environment variables
  2  files
  3  the system's keyring
  4  a profile of the AWS configuration
  5  where AWS tools find them: environment, web identity, container or instance role"""
_CREDENTIALS = ("access_key_id", "secret_access_key", "profile")


def ask(session: Session, file: ProvidersFile, name: str, texts: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Name and fields of a new provider. Raises click.Abort at the end of input."""
    from portabl import catalogue

    texts = dict(texts)
    name = name or _name(session, file)
    if not texts.get("catalogue") and not texts.get("type") and not texts.get("endpoint"):
        texts |= _kind(session)
    if texts.get("endpoint") and not texts.get("catalogue"):
        texts.setdefault("type", "s3")
    kind = texts.get("type", "s3")
    if kind == "file" and "path" not in texts:
        texts["path"] = _prompt("Directory")
    elif kind == "fsspec" and "url" not in texts:
        texts["url"] = _prompt("URL, such as sftp://host/path")
    elif kind == "s3":
        entry = catalogue.entry(texts["catalogue"]) if texts.get("catalogue") else None
        texts |= _place(session, entry, texts)
        if not any(texts.get(field) for field in _CREDENTIALS):
            texts |= _credentials(session, name)
    _confirm(session, file, name, texts)
    return name, texts


def _prompt(text: str, default: str | None = None) -> str:
    answer: str = click.prompt(text, default=default, err=True)
    return answer.strip()


def _name(session: Session, file: ProvidersFile) -> str:
    taken = file.tables()
    while True:
        name = _prompt("Name of the provider, as in NAME:bucket")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            session.tell("a name consists of letters, digits, `_`, `.` and `-`")
        elif name in taken:
            session.tell(f"`{name}` is there already; known: {', '.join(taken)}")
        else:
            return name


def _kind(session: Session) -> dict[str, str]:
    """An entry of the catalogue, by its id or any part of its name; or one of the plain types."""
    from portabl import catalogue

    while True:
        text = _prompt("Provider (part of its name; `?` for all; `s3`, `file` or `fsspec` for any other)")
        if text in ("s3", "file", "fsspec"):
            return {"type": text}
        word = "" if text == "?" else text.casefold()
        found = [one for one in map(catalogue.entry, catalogue.names()) if word in f"{one.id} {one.name}".casefold()]
        exact = [one for one in found if one.id == text] or found
        if len(exact) != 1:
            session.tell("\n".join(f"  {one.id:<24} {one.name}" for one in exact) or "  none of that name")
        elif exact[0].api != "s3":
            session.tell(f"{exact[0].name} {exact[0].why_not_s3}: {exact[0].advice or exact[0].history}")
        else:
            session.tell(f"{exact[0].name} ({exact[0].id})")
            return {"catalogue": exact[0].id}


def _place(session: Session, entry: Entry | None, texts: dict[str, str]) -> dict[str, str]:
    """Region and endpoint, as far as they are open."""
    found: dict[str, str] = {}
    if entry is not None and entry.regions:
        if "endpoint" not in texts and "region" not in texts:
            found["region"] = _region(session, entry)
        return found
    if "endpoint" not in texts:
        shape = f", such as {entry.endpoint_template}" if entry and entry.endpoint_template else ""
        found["endpoint"] = _prompt(f"Endpoint: URL of scheme and host{shape}")
    if "region" not in texts:
        found["region"] = _prompt("Region for signatures", "us-east-1")
    return found


def _region(session: Session, entry: Entry) -> str:
    if len(entry.regions) == 1:
        return next(iter(entry.regions))
    session.tell("\n".join(f"  {one.name:<24} {one.country:<3} {one.place}" for one in entry.regions.values()))
    while True:
        region = entry.region(_prompt("Region"))
        if region is not None:
            return region.name
        session.tell("one of the list, please; for any other, leave and use `--region` with `--endpoint`")


def _credentials(session: Session, name: str) -> dict[str, str]:
    session.tell(_SOURCES)
    stem = re.sub(r"[^A-Z0-9]", "_", name.upper())
    while True:
        choice = _prompt("Number", "1")
        if choice == "1":
            return _references("env:", "Variable that holds", f"{stem}_ACCESS_KEY_ID", f"{stem}_SECRET_ACCESS_KEY")
        if choice == "2":
            return _references("file:", "File that holds", None, None)
        if choice == "3" and (found := _keyring(session, name)):
            return found
        if choice == "4":
            return {"profile": _prompt("Profile", "default")}
        if choice == "5":
            return {}
        session.tell("a number from 1 to 5")


def _references(scheme: str, question: str, access: str | None, secret: str | None) -> dict[str, str]:
    return {
        "access_key_id": scheme + _prompt(f"{question} the access key id", access),
        "secret_access_key": scheme + _prompt(f"{question} the secret access key", secret),
    }


def _keyring(session: Session, name: str) -> dict[str, str]:
    """The access key in the file, the secret in the keyring; typed unseen, or there already."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        session.tell("the keyring package is not installed: `pip install 'portabl[keyring]'`; choose another")
        return {}
    access = _prompt("Access key id")
    secret = click.prompt(
        "Secret access key (unseen; empty: it is there already)",
        default="",
        hide_input=True,
        show_default=False,
        err=True,
    )
    service = f"portabl-{name}"
    if secret:
        try:
            keyring.set_password(service, access, secret)
        except keyring.errors.KeyringError as error:
            session.tell(f"the keyring refuses ({type(error).__name__}); choose another")
            return {}
    return {"access_key_id": access, "secret_access_key": f"keyring:{service}/{access}"}


def _confirm(session: Session, file: ProvidersFile, name: str, texts: dict[str, str]) -> None:
    session.tell(f"\n[providers.{name}]")
    for field, value in texts.items():
        session.tell(f"{field} = {plain(value)}")
    if not click.confirm(f"Write this to {file.path}?", default=True, err=True):
        raise click.Abort
