"""Uploads under way, noted in small files: for workers that share a directory but no journal.

What a crash leaves in the store is found by these notes and aborted. Parts are not noted, so such an upload is never
continued: the object is sent anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from portabl import keys
from portabl.journal import OpenUpload
from portabl.state import disk_errors, write_synced

NOTES = "uploads"
"""Folder of a job for them."""


class UploadNotes:
    """Notes in ``folder``, a file an upload.

    ``own``: the name of one worker, who sees his own notes only: a shard may be carried out twice at once, and neither
    may take up or end what the other has open. "" sees those of all, one by one: to clean up when all have ended.
    """

    def __init__(self, folder: Path, own: str = "") -> None:
        self._folder = folder
        self._own = own

    def intend_upload(self, key: bytes, source: str, part_size: int, foreign: Sequence[str]) -> None:
        """As `Journal.intend_upload`."""
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._write(OpenUpload(key, "", source, part_size, frozenset(foreign), {}))

    def name_upload(self, key: bytes, token: str) -> None:
        """As `Journal.name_upload`."""
        row = self.open_upload(key)
        assert row is not None, "an upload is intended before it is named"
        self._write(replace(row, token=token))

    def add_part(self, key: bytes, number: int, sha256: str, tag: str) -> None:
        """Not kept."""

    def end_upload(self, key: bytes) -> None:
        """As `Journal.end_upload`."""
        for path in self._paths(key)[:1]:
            path.unlink(missing_ok=True)

    def open_upload(self, key: bytes) -> OpenUpload | None:
        """As `Journal.open_upload`, without parts."""
        return next(filter(None, map(_read_note, self._paths(key))), None)

    def open_keys(self) -> list[bytes]:
        """As `Journal.open_keys`; a key for each note."""
        return [note.key for note in map(_read_note, sorted(self._folder.glob("*.json"))) if note is not None]

    def rivals(self, key: bytes) -> frozenset[str] | None:
        """As `Journal.rivals`."""
        others = set(self._folder.glob(f"{_name(key)}.*.json")) - {self._path(key)}
        tokens = frozenset(note.token for note in map(_read_note, others) if note is not None)
        return None if "" in tokens else tokens

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{_name(key)}.{self._own}.json"

    def _paths(self, key: bytes) -> list[Path]:
        return [self._path(key)] if self._own else sorted(self._folder.glob(f"{_name(key)}.*.json"))

    def _write(self, row: OpenUpload) -> None:
        said = {"key": keys.to_json(row.key), "token": row.token, "source": row.source, "part_size": row.part_size}
        text = json.dumps(said | {"foreign": sorted(row.foreign)})
        path = self._path(row.key)
        with disk_errors(path):
            write_synced(path.with_suffix(".new"), text.encode())
            path.with_suffix(".new").replace(path)


def _name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def _read_note(path: Path) -> OpenUpload | None:
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    key = keys.from_json(said["key"])
    return OpenUpload(key, said["token"], said["source"], said["part_size"], frozenset(said["foreign"]), {})
