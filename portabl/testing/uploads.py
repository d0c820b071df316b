"""Promises about objects written in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from portabl.errors import NotFound
from portabl.model import Metadata, Written
from portabl.storage import Storage, Upload
from portabl.testing.data import METADATA
from portabl.testing.tools import NO_METADATA, Declarations, body, get, names, noise, put, raises


class UploadContract(Declarations):
    """Invisible until finished; given up without a trace; continued where that is possible."""

    def parts(self, storage: Storage) -> list[bytes]:
        """Three parts, the last one shorter."""
        size = max(storage.capabilities.part_size_min, 65_536)
        return [noise(size, 1), noise(size, 2), noise(1000, 3)]

    def begin(
        self, storage: Storage, key: bytes, parts: Sequence[bytes], metadata: Metadata = NO_METADATA, token: str = ""
    ) -> Upload:
        """Begin or continue an upload of these parts."""
        return storage.upload(key, sum(map(len, parts)), metadata, len(parts[0]), token)

    def send(self, upload: Upload, parts: Sequence[bytes], *numbers: int) -> dict[int, str]:
        """Send the parts of these numbers (all of them when none is given), in this order; their tags."""
        return {
            number: upload.part(number, body(parts[number - 1]), sum(map(len, parts[: number - 1])))
            for number in numbers or range(1, len(parts) + 1)
        }

    def finish(self, upload: Upload, parts: Sequence[bytes], tags: dict[int, str]) -> Written:
        """Finish with the tags in the order of their parts."""
        return upload.finish([tags[number] for number in sorted(tags)], hashlib.sha256(b"".join(parts)).hexdigest())

    def test_an_upload_is_invisible_until_it_is_finished(self, storage: Storage) -> None:
        """Neither the listing nor `stat` shows it; then everything is there at once."""
        parts = self.parts(storage)
        upload = self.begin(storage, b"big", parts, METADATA["all"])
        tags = self.send(upload, parts)
        assert names(storage) == []
        with raises(NotFound, b"big"):
            storage.stat(b"big")
        written = self.finish(upload, parts, tags)
        entry = storage.listed(b"big")
        assert entry is not None
        assert (entry.etag, entry.size) == (written.etag, sum(map(len, parts)))
        assert get(storage, b"big") == b"".join(parts)
        self.check_metadata(storage, b"big", METADATA["all"], written)

    def check_metadata(self, storage: Storage, key: bytes, metadata: Metadata, written: Written) -> None:
        """What is not named as lost is there."""
        lost = {loss.field for loss in written.losses}
        kept = {} if storage.capabilities.metadata_in_manifest else storage.stat(key).metadata.fields()
        wanted = {} if storage.capabilities.metadata_in_manifest else metadata.fields()
        assert kept == {name: value for name, value in wanted.items() if name not in lost}

    def test_an_upload_replaces_only_when_it_is_finished(self, storage: Storage) -> None:
        """Until then the old object is whole."""
        put(storage, b"big", b"old")
        parts = self.parts(storage)
        upload = self.begin(storage, b"big", parts)
        tags = self.send(upload, parts)
        assert get(storage, b"big") == b"old"
        self.finish(upload, parts, tags)
        assert get(storage, b"big") == b"".join(parts)

    def test_parts_may_come_in_any_order(self, storage: Storage) -> None:
        """Where the capabilities say so; and one sent twice counts once."""
        parts = self.parts(storage)
        upload = self.begin(storage, b"big", parts)
        order = (3, 1, 2, 1) if storage.capabilities.parallel_parts else (1, 2, 3)
        self.finish(upload, parts, self.send(upload, parts, *order))
        assert get(storage, b"big") == b"".join(parts)

    def test_aborting_leaves_nothing(self, storage: Storage) -> None:
        """No object, no unfinished upload, no file."""
        parts = self.parts(storage)
        upload = self.begin(storage, b"big", parts)
        self.send(upload, parts, 1)
        upload.abort()
        assert names(storage) == []
        assert list(storage.abandoned(b"big")) == []
        assert not self.everything(storage)

    def test_an_upload_goes_on_after_a_crash(self, storage: Storage) -> None:
        """Where the capabilities say so: a token finds the parts that are there. Else there is no token to keep."""
        parts = self.parts(storage)
        first = self.begin(storage, b"big", parts)
        if not storage.capabilities.resumable:
            assert first.token == ""
            first.abort()
            return
        sent = self.send(first, parts, 1)
        assert first.token
        again = self.begin(storage, b"big", parts, token=first.token)
        assert dict(again.done) == sent
        self.finish(again, parts, sent | self.send(again, parts, 2, 3))
        assert get(storage, b"big") == b"".join(parts)

    def test_a_token_that_is_no_longer_good_begins_anew(self, storage: Storage) -> None:
        """And does so with no part taken for done."""
        parts = self.parts(storage)
        dead = self.begin(storage, b"big", parts)
        self.send(dead, parts, 1)
        dead.abort()
        upload = self.begin(storage, b"big", parts, token=dead.token)
        assert dict(upload.done) == {}
        self.finish(upload, parts, self.send(upload, parts))
        assert get(storage, b"big") == b"".join(parts)

    def test_abandoned_uploads_are_found_under_exactly_their_key(self, storage: Storage) -> None:
        """So that they can be continued or given up; those of other keys are not touched."""
        parts = self.parts(storage)
        mine, other = self.begin(storage, b"big", parts), self.begin(storage, b"bigger", parts)
        self.send(mine, parts, 1)
        assert mine.token == "" or not storage.capabilities.resumable or other.token not in storage.abandoned(b"big")
        assert set(storage.abandoned(b"big")) <= {mine.token}
        mine.abort()
        other.abort()
        assert not storage.abandoned(b"big")
