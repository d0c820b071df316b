"""What a package says of itself: package.json, written first to claim a place and last to declare it finished.

Layout below the package's location (docs/exports.md)::

    package.json            this document; `state` tells whether the package is finished
    README.txt              what this is and how to check it, in plain words
    SHA256SUMS              every payload file, for `sha256sum -c`
    names.jsonl             keys whose payload file has another name
    manifest/               manifest.json and segments (docs/manifest.md)
    verify_package.py       checks all of it with nothing but Python; needs verify_manifest.py beside it
    provider/               what is known of the provider the data came from
    data/                   the payload
    bagit.txt, bag-info.txt, manifest-sha256.txt, tagmanifest-sha256.txt      with the layout "bag"
"""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from portabl import __version__
from portabl.errors import ManifestError, NotFound
from portabl.files import Files
from portabl.journal import utc_now
from portabl.records import canonical
from portabl.report import Report

NAME = "package.json"
FORMAT = "portabl package 1"
PAYLOAD = "data"
MANIFEST = "manifest"
SUMS = "SHA256SUMS"
NAMES = "names.jsonl"
README = "README.txt"
LAYOUTS = ("mirror", "bag")
VERSIONS = ("current", "all")
DOCUMENT_BYTES_MAX = 16 * 2**20

UNFINISHED, COMPLETE, INCOMPLETE, REMOVING = "unfinished", "complete", "incomplete", "removing"
STATES = (UNFINISHED, COMPLETE, INCOMPLETE, REMOVING)


@dataclass(frozen=True, slots=True)
class Document:
    """package.json. ``objects``, ``bytes``: of the source; ``files``: SHA-256 by name, of every file here that is
    neither payload nor segment of the manifest. ``origin``: hash of the source's place and of how it was read, to
    know another package of the same source by. ``since``: the package that unchanged payload was shared with, "" for
    none. Times are UTC, RFC 3339. ``versions``: "all" when every version of each key is in it, else "current".
    ``encryption``: how payload files are encrypted, empty when they are not. ``holder``: who is making an unfinished
    package, and when that was last confirmed (see `portabl.package_claim`).
    """

    state: str
    source: str
    origin: str
    layout: str
    started: str
    finished: str = ""
    tool: str = ""
    objects: int = 0
    bytes: int = 0
    losses: int = 0
    root: str = ""
    since: str = ""
    proof: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    versions: str = "current"
    encryption: Mapping[str, Any] = field(default_factory=dict)
    holder: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_versions(self) -> bool:
        """Whether the package holds histories, not only what was current."""
        return self.versions == "all"

    @property
    def finished_package(self) -> bool:
        """Whether nothing more is written into this package."""
        return self.state in (COMPLETE, INCOMPLETE)

    def to_json(self) -> builtins.bytes:
        """Canonical JSON, protected by its own hash. Raises ManifestError for text that is no Unicode."""
        value: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        value |= {"format": FORMAT, "payload": PAYLOAD, "manifest": MANIFEST}
        try:
            value["document_sha256"] = _hash(value)
            return canonical(value).encode("utf-8") + b"\n"
        except UnicodeEncodeError as error:
            raise ManifestError(f"text for {NAME} is no valid Unicode") from error


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()


def load(files: Files) -> Document:
    """The document of the package at a place. Raises ManifestError when there is none, or it is damaged or newer."""
    try:
        data = files.read(NAME)
    except NotFound:
        hint = "name the directory that holds package.json, or export again"
        raise ManifestError(f"no package here: there is no {NAME}", storage=files.url, hint=hint) from None
    return parse(data, files.url)


def parse(data: bytes, where: str) -> Document:
    """The document in these bytes; ``where`` is named in errors. Raises ManifestError."""
    try:
        value = json.loads(data.decode("utf-8")) if len(data) <= DOCUMENT_BYTES_MAX else None
        if not isinstance(value, dict) or not isinstance(value.get("format"), str):
            raise ManifestError(f"{NAME} is not the document of a package", storage=where)
        if value["format"] != FORMAT:
            hint = "upgrade portabl, then run the same command again"
            raise ManifestError(f"{NAME} is of the format {value['format']!a}", storage=where, hint=hint)
        claimed = value.pop("document_sha256", None)
        if claimed != _hash(value):
            raise ManifestError(f"{NAME} was edited: document_sha256 does not match", storage=where)
        value = {"versions": "current", "holder": {}, **value}
        fields = {name: value[name] for name in Document.__dataclass_fields__}
    except (ValueError, KeyError, UnicodeError, RecursionError) as error:
        raise ManifestError(f"{NAME} is cut short or misshapen: {type(error).__name__}", storage=where) from error
    fields |= {name: tuple(fields[name]) for name in ("include", "exclude")}
    document = Document(**fields)
    held = isinstance(document.holder, Mapping)
    known = held and document.state in STATES and document.layout in LAYOUTS and document.versions in VERSIONS
    if not known:
        raise ManifestError(f"{NAME} has an unknown state, layout or kind of versions", storage=where)
    return document


def finished(files: Files) -> Document:
    """The document of a package that may be relied on. Raises ManifestError for one that is not finished."""
    document = load(files)
    if document.state == REMOVING:
        raise ManifestError("this package is being removed", storage=files.url, hint="use another snapshot")
    if not document.finished_package:
        hint = "run the same export again: it goes on from there"
        raise ManifestError("this package is not finished", storage=files.url, hint=hint)
    return document


def with_state(document: Document, state: str) -> Document:
    """The same document in another state."""
    return replace(document, state=state)


def finish(document: Document, report: Report, since: str = "") -> Document:
    """The document of a package whose payload is written, as the report says; its ``files`` are not known yet."""
    return replace(
        document,
        state=COMPLETE if report.exit_code == 0 else INCOMPLETE,
        finished=utc_now(),
        holder={},
        tool=f"portabl {__version__}",
        objects=report.objects,
        bytes=report.bytes,
        losses=sum(group.count for group in report.losses),
        root=report.source_root,
        since=since,
        proof=report.proof,
    )
