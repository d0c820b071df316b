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
    """Broad and quick."""

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestS3BelowAPrefix(S3Contract):
    """The same below a prefix: it is no part of any key, and nothing outside it is seen."""

    prefix = "/deep//pre fix+/"

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto


class TestS3OnSeaweed(S3Contract):
    """Real signatures and checksums, keys kept as paths."""

    @pytest.fixture
    def server(self, seaweed: S3Server) -> S3Server:
        return seaweed


class TestS3OnRGW(S3Contract):
    """What many European providers run."""

    @pytest.fixture
    def server(self, rgw: S3Server) -> S3Server:
        return rgw


class TestS3OnSwift(S3Contract):
    """No tags, no conditional writes."""

    @pytest.fixture
    def server(self, swift: S3Server) -> S3Server:
        return swift
