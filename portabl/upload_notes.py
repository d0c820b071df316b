"""Uploads under way, noted in small files: for workers that share a folder but no journal.

What a crash leaves in the store is found by these notes and aborted. Parts are not noted, so such an upload is never
continued: the object is sent anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from portabl import keys
from portabl.errors import NotFound
from portabl.folder import Folder, state_trouble
from portabl.journal import OpenUpload

NOTES = "uploads"
"""Folder of a job for them."""


class UploadNotes:
    """Notes in ``folder``, a file an upload. Methods raise StorageError where it is in trouble, one that
    ends the run: no object is at fault.

    ``own``: the name of one worker, who sees his own notes only: a shard may be carried out twice at once, and neither
    may take up or end what the other has open. "" sees those of all, one by one: to clean up when all have ended.
    """

    def __init__(self, folder: Folder, own: str = "") -> None:
        self._folder = folder
        self._own = own

    def intend_upload(self, key: bytes, source: str, part_size: int, foreign: Sequence[str]) -> None:
        """As `Journal.intend_upload`."""
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
        for name in self._names(key)[:1]:
            with state_trouble():
                self._folder.delete(name)

    def open_upload(self, key: bytes) -> OpenUpload | None:
        """As `Journal.open_upload`, without parts."""
        return next(filter(None, map(self._read, self._names(key))), None)

    def open_keys(self) -> list[bytes]:
        """As `Journal.open_keys`; a key for each note."""
        return [note.key for note in map(self._read, self._listed()) if note is not None]

    def rivals(self, key: bytes) -> frozenset[str] | None:
        """As `Journal.rivals`."""
        others = set(self._listed(key)) - {self._name(key)}
        tokens = frozenset(note.token for note in map(self._read, others) if note is not None)
        return None if "" in tokens else tokens

    def close(self) -> None:
        """Nothing is held open."""

    def _name(self, key: bytes) -> str:
        return f"{_hashed(key)}.{self._own}.json"

    def _names(self, key: bytes) -> list[str]:
        return [self._name(key)] if self._own else self._listed(key)

    def _listed(self, key: bytes | None = None) -> list[str]:
        start = "" if key is None else f"{_hashed(key)}."
        with state_trouble():
            return [name for name in self._folder.names(start) if name.endswith(".json")]

    def _write(self, row: OpenUpload) -> None:
        said = {"key": keys.to_json(row.key), "token": row.token, "source": row.source, "part_size": row.part_size}
        with state_trouble():
            self._folder.write(self._name(row.key), json.dumps(said | {"foreign": sorted(row.foreign)}).encode())

    def _read(self, name: str) -> OpenUpload | None:
        with state_trouble():
            try:
                said = json.loads(self._folder.read(name))
            except NotFound:
                return None
        key = keys.from_json(said["key"])
        return OpenUpload(key, said["token"], said["source"], said["part_size"], frozenset(said["foreign"]), {})


def _hashed(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
