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
    """Notes in ``folder``, a file an upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
        self._path(key).unlink(missing_ok=True)

    def open_upload(self, key: bytes) -> OpenUpload | None:
        """As `Journal.open_upload`, without parts."""
        return _read_note(self._path(key))

    def open_keys(self) -> list[bytes]:
        """As `Journal.open_keys`."""
        notes = [_read_note(path) for path in sorted(self._folder.glob("*.json"))]
        return [note.key for note in notes if note is not None]

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{hashlib.sha256(key).hexdigest()}.json"

    def _write(self, row: OpenUpload) -> None:
        said = {"key": keys.to_json(row.key), "token": row.token, "source": row.source, "part_size": row.part_size}
        text = json.dumps(said | {"foreign": sorted(row.foreign)})
        path = self._path(row.key)
        with disk_errors(path):
            write_synced(path.with_suffix(".new"), text.encode())
            path.with_suffix(".new").replace(path)


def _read_note(path: Path) -> OpenUpload | None:
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    key = keys.from_json(said["key"])
    return OpenUpload(key, said["token"], said["source"], said["part_size"], frozenset(said["foreign"]), {})
