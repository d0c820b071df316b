"""The contract suite over every adapter and every server: what each keeps, and what each is known to get wrong."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from kit.servers import S3Server

from portabl import providers, registry
from portabl.storage import Storage
from portabl.testing import MissingContainerContract, StorageContract


class TestLocal(StorageContract, MissingContainerContract):
    """A directory: exact keys by encoding, metadata in the manifest."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        self.place = tmp_path / "place"
        self.place.mkdir()
        with registry.open_location(str(self.place), providers.Config()) as storage:
            yield storage

    @pytest.fixture
    def missing(self, tmp_path: Path) -> Iterator[Storage]:
        with registry.open_location(str(tmp_path / "nowhere"), providers.Config()) as storage:
            yield storage

    def everything(self, storage: Storage) -> Collection[bytes]:
        root = os.fsencode(self.place)
        return [os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names]


MOTO_CHANGES = (b"nl\nkey", b"crlf\r\nkey", b"\xff\xfe", b"lone\xed\xa0\x80")
MOTO_MERGES = (("a␊b".encode(), b"a\nb"),)


class S3Contract(StorageContract, MissingContainerContract):
    """A bucket of its own for every test, at the root of which the storage is opened."""

    prefix = ""

    @pytest.fixture
    def storage(self, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
        self.server, self.bucket = server, server.bucket()
        with self._open(self.bucket + self.prefix, tmp_path, monkeypatch) as storage:
            yield storage

    @pytest.fixture
    def missing(self, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
        self.server = server
        with self._open(f"missing-{uuid.uuid4().hex}{self.prefix}", tmp_path, monkeypatch) as storage:
            yield storage

    def _open(self, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
        for name, value in self.server.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "portabl.toml").write_text(self.server.provider_toml("it"))
        return registry.open_location(f"it:{container}", providers.load(str(tmp_path / "portabl.toml")))

    def everything(self, storage: Storage) -> Collection[bytes]:
        uploads = self.server.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        held = [*self.server.keys(self.bucket), *(f"unfinished upload of {upload['Key']}" for upload in uploads)]
        return [key.removeprefix(self.prefix.lstrip("/")).encode() for key in held]


class TestS3OnMoto(S3Contract):
    """Broad and quick; its URL routing knows no line feed, and it repairs what is no UTF-8."""

    changed_keys = MOTO_CHANGES
    merged_keys = MOTO_MERGES

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestS3BelowAPrefix(S3Contract):
    """The same below a prefix: it is no part of any key, and nothing outside it is seen."""

    prefix = "/deep//pre fix+/"
    changed_keys = MOTO_CHANGES
    merged_keys = MOTO_MERGES

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestS3OnSeaweed(S3Contract):
    """Real signatures and checksums; keys are kept, and listed, as paths."""

    disordered = True
    changed_keys = (
        *(b"a//b", b"p//q//r", b"/lead", b"//two", b"end//"),  # empty segments are cleaned away
        b"trail/",  # the body is dropped
        *(b"a\\b", b"\\"),  # a backslash becomes a slash
        *(b"\xff\xfe", b"lone\xed\xa0\x80"),  # no UTF-8: its signature check sees another path
    )
    merged_keys = (*((b"a/b", b"a//b"), (b"a/b", b"a\\b"), (b"lead", b"/lead"), (b"a", b"a/", b"a//")),)
    changed_metadata = ("website-redirect-location", "empty value")

    @pytest.fixture
    def server(self, seaweed: S3Server) -> S3Server:
        return seaweed


class TestS3OnRGW(S3Contract):
    """What many European providers run: every key exact, `_` in a metadata name turned into `-`."""

    changed_metadata = ("underscore in a name",)

    @pytest.fixture
    def server(self, rgw: S3Server) -> S3Server:
        return rgw


class TestS3OnSwift(S3Contract):
    """No tags, no conditional writes; metadata: no value over 256 bytes, none that is not ASCII."""

    changed_metadata = ("long value", "non-ASCII value")

    @pytest.fixture
    def server(self, swift: S3Server) -> S3Server:
        return swift
