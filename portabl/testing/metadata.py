"""Promises about what an object carries besides its bytes."""

from __future__ import annotations

from portabl.errors import Refused, StorageError
from portabl.model import Metadata
from portabl.storage import Storage
from portabl.testing.data import METADATA
from portabl.testing.tools import Declarations, get, put


class MetadataContract(Declarations):
    """Exactly what was given, or named as lost; never something that was not given."""

    def test_metadata_comes_back_or_is_named_as_lost(self, storage: Storage) -> None:
        """One object for each kind of metadata."""
        wrong = {label: why for label in METADATA if (why := self._difference(storage, label))}
        assert set(wrong) == set(self.changed_metadata), wrong

    def _difference(self, storage: Storage, label: str) -> str:
        key, metadata = b"m-" + label.replace(" ", "-").encode(), METADATA[label]
        try:
            written = put(storage, key, b"not really gzip", metadata)
        except Refused as error:
            return "" if error.key == key and storage.listed(key) is None else f"half refused: {error}"
        except StorageError as error:
            return f"neither stored nor refused: {error}"
        if get(storage, key) != b"not really gzip":
            return "the bytes changed"
        if storage.capabilities.metadata_in_manifest:
            return f"claims losses: {written.losses}" if written.losses else ""
        lost = {loss.field for loss in written.losses}
        if not self._impossible(storage, metadata) <= lost:
            return f"cannot be kept according to the capabilities, yet only these are named as lost: {lost}"
        expected = {name: value for name, value in metadata.fields().items() if name not in lost}
        kept = storage.stat(key).metadata.fields()
        return "" if kept == expected else f"became {kept}"

    def _impossible(self, storage: Storage, metadata: Metadata) -> set[str]:
        able = storage.capabilities
        found = {name for name in metadata.headers if name not in able.headers}
        found |= set() if able.user_metadata else {f"user.{name}" for name in metadata.user}
        return found | (set() if able.tags else {f"tag.{name}" for name in metadata.tags})

    def test_reading_and_stat_tell_the_same(self, storage: Storage) -> None:
        """Metadata comes with the first bytes, tags included."""
        put(storage, b"k", b"content", METADATA["all"])
        entry = storage.listed(b"k")
        assert entry is not None
        assert storage.read(entry).info.metadata == storage.stat(b"k").metadata
        assert storage.read(entry, 0, 3).info.metadata == storage.stat(b"k").metadata
