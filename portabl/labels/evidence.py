"""A label's file, and the evidence kept beside it: labels live 90 days, and keys change; files stay.

Beside ``ovh.jwt`` everything that begins with ``ovh.`` and ends in one of `SUFFIXES` belongs to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from portabl.errors import UsageError
from portabl.files import Files
from portabl.keys import plain
from portabl.labels.credential import PRESENTATION_BYTES_MAX
from portabl.labels.sources import Piece

SUFFIXES = {
    ".did.json": "did",
    ".chain.pem": "chain",
    ".vp.jwt": "presentation",
    ".vc.jwt": "credential",
}
PIECES_MAX = 100


def read(path: str, limit: int = PRESENTATION_BYTES_MAX) -> str:
    """A file's text; of one that is too long, one character more than is accepted. Raises UsageError."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        hint = "name a file that exists, or `-` for standard input"
        raise UsageError(f"{plain(path)}: cannot be read: {error.strerror}", hint=hint) from error


def piece(kind: str, path: str) -> Piece:
    """One document from a file. Raises UsageError."""
    return Piece(kind, os.path.basename(path), read(path), f"file {os.path.basename(path)}")


def beside(path: str) -> tuple[Piece, ...]:
    """The documents kept beside a label's file, by name. Raises UsageError."""
    folder, stem = os.path.dirname(path) or ".", _stem(path)
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(f"{stem}."))
    except OSError as error:
        raise UsageError(f"{plain(folder)}: cannot be listed: {error.strerror}") from error
    found = [(kind, name) for name in names if (kind := _kind(name)) and name != os.path.basename(path)]
    if len(found) > PIECES_MAX:
        raise UsageError(f"{plain(folder)}: more than {PIECES_MAX} documents beside {stem}")
    return tuple(piece(kind, os.path.join(folder, name)) for kind, name in found)


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".jwt")


def _kind(name: str) -> str:
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), "")


def keep(path: str, used: Iterable[Piece]) -> list[str]:
    """Write what a verification used beside the label, and answer the new names. Raises StorageError."""
    folder, stem = os.path.dirname(path) or ".", _stem(path)
    there = {one.text for one in beside(path)}
    endings = {kind: suffix for suffix, kind in SUFFIXES.items()}
    files, written = Files.at(folder), []
    for one in used:
        if one.text in there:
            continue
        name = f"{stem}.{_slug(one.name)}{endings[one.kind]}"
        files.write(name, one.text.encode("utf-8"))
        written.append(name)
    return written


def _slug(name: str) -> str:
    bare = re.sub(r"^https://|^did:web:|(?:\.(?:did|vp|vc|chain))?\.(?:json|jwt|pem)$", "", name)
    return re.sub("[^A-Za-z0-9.]+", "-", bare).strip("-.")[:100] or "document"
