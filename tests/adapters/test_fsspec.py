"""fsspec filesystems as source and target: memory, local files, s3fs on moto, zip and tar archives, a web server."""

from __future__ import annotations

import functools
import http.server
import os
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from kit.servers import S3Server

from portabl.errors import (
    AccessDenied,
    Changed,
    ConfigError,
    ContainerMissing,
    Corrupt,
    ListingBroken,
    NotFound,
    PlaceFull,
    PortablError,
    Refused,
    StorageError,
    Throttled,
    Unreachable,
    UsageError,
)
from portabl.model import Entry, Metadata
from portabl.storage import Opening, Storage
from portabl.testing import MissingContainerContract, StorageContract
from portabl.testing.tools import get, names, put
from portabl_adapters.fsspec_storage import open_storage


def opened(url: str, prefix: bytes = b"", **options: Any) -> Storage:
    return open_storage(Opening("place", "", prefix, {"url": url, "options": options}, lambda _: None))


class TestMemory(StorageContract, MissingContainerContract):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        self.path = f"/{uuid.uuid4().hex}"
        with opened(f"memory:/{self.path}") as storage:
            storage.check(write=True)
            yield storage

    @pytest.fixture
    def missing(self) -> Storage:
        return opened(f"memory://{uuid.uuid4().hex}")

    def everything(self, storage: Storage) -> Collection[bytes]:
        return [path[len(self.path) + 1 :].encode() for path in fsspec.filesystem("memory").find(self.path)]


class TestFiles(StorageContract, MissingContainerContract):
    """fsspec's own local filesystem: a backend with directories and a rename of its own."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        self.root = bytes(tmp_path / "target")
        with opened(f"file://{tmp_path}/target") as storage:
            storage.check(write=True)
            yield storage

    @pytest.fixture
    def missing(self, tmp_path: Path) -> Storage:
        return opened(f"file://{tmp_path}/missing")

    def everything(self, storage: Storage) -> Collection[bytes]:
        found = []
        for directory, _, files in os.walk(self.root):
            found += [os.path.relpath(os.path.join(directory, name), self.root) for name in files]
        return found


class TestS3(StorageContract, MissingContainerContract):
    """s3fs on moto."""

    many = 1005

    def on(self, moto: S3Server, bucket: str) -> Storage:
        return opened(
            f"s3://{bucket}", key=moto.access_key, secret=moto.secret_key, client_kwargs={"endpoint_url": moto.endpoint}
        )

    @pytest.fixture
    def storage(self, moto: S3Server) -> Iterator[Storage]:
        self.server, self.bucket = moto, moto.bucket()
        with self.on(moto, self.bucket) as storage:
            storage.check(write=True)
            yield storage

    @pytest.fixture
    def missing(self, moto: S3Server) -> Storage:
        return self.on(moto, "no-such-bucket")

    def everything(self, storage: Storage) -> Collection[bytes]:
        return [key.encode() for key in self.server.keys(self.bucket)]


FILES = {
    b"plain.txt": b"hello",
    b"a dir/sp ace.txt": b"space",
    b"a dir/deep/er.bin": bytes(range(256)) * 2000,
    "ünïcode/naïve.txt".encode(): "é".encode(),
    b"pct%20lit": b"percent",
    b"h#x": b"hash",
    b"empty": b"",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "tree" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "tree"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server without ranges, validators or a log."""

    def log_message(self, *_: object) -> None:
        pass


class Broken(Quiet):
    """Fails for one directory, and now and then for everything."""

    failures = 0

    def do_GET(self) -> None:
        if "deep" in self.path:
            self.send_error(404)
        elif self.failures > 0:
            type(self).failures -= 1
            self.send_error(500)
        else:
            super().do_GET()


@pytest.fixture
def web(tree: Path) -> Iterator[Any]:
    """Starts web servers for the tree: a function from handler class to URL."""
    servers = []

    def start(handler: type[Quiet] = Quiet) -> str:
        bound = functools.partial(handler, directory=str(tree))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def packed(tree: Path, kind: str) -> Path:
    archive = tree.parent / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in FILES:
                zipped.write(tree / os.fsdecode(name), os.fsdecode(name))
            zipped.mkdir("nothing in it")
    else:
        with tarfile.open(archive, "w:gz") as tarred:
            for path in sorted(tree.iterdir()):
                tarred.add(path, path.name)
    return archive


@pytest.mark.parametrize("kind", ["http", "zip", "tar", "file", "memory"])
def test_every_kind_of_source_gives_the_same_bytes(kind: str, tree: Path, web: Any) -> None:
    """Whole, in parts read one after the other, and from the middle."""
    if kind == "http":
        url = web()
    elif kind in ("zip", "tar"):
        url = f"{kind}://::file://{packed(tree, kind)}"
    elif kind == "memory":
        url = f"memory://{uuid.uuid4().hex}"
        with opened(url) as target:
            for key, data in FILES.items():
                put(target, key, data)
    else:
        url = f"file://{tree}"
    options = {"tar": {"compression": "gzip"}} if kind == "tar" else {}
    with opened(url, **options) as storage:
        storage.check(write=False)
        found = {entry.key: entry for entry in storage.entries()}
        extra = {b"nothing in it/"} if kind == "zip" else set()
        assert set(found) == set(FILES) | extra
        assert not [entry for entry in found.values() if entry.problem]
        for key, data in FILES.items():
            assert storage.read(found[key]).data == data
            step = max(len(data) // 7, 1)
            parts = [storage.read(found[key], at, step).data for at in range(0, len(data), step)]
            assert b"".join(parts) == data
            assert storage.read(found[key], len(data) // 2, 3).data == data[len(data) // 2 :][:3]
            assert storage.stat(key).size == len(data)
        for key in extra:
            assert storage.read(found[key]).data == b""
        with pytest.raises(NotFound):
            storage.stat(b"nothing here")


@pytest.mark.parametrize("kind", ["http", "zip", "tar"])
def test_what_cannot_be_written_says_so(kind: str, tree: Path, web: Any) -> None:
    """Before anything starts."""
    url = web() if kind == "http" else f"{kind}://::file://{packed(tree, kind)}"
    storage = opened(url)
    assert not storage.capabilities.writable
    with pytest.raises(UsageError, match="cannot be written to"):
        storage.check(write=True)


def test_a_directory_that_cannot_be_listed_is_not_empty(web: Any) -> None:
    """fsspec's own `find` goes on as if nothing were there; here the listing fails."""
    url = web(Broken)
    assert len(fsspec.filesystem("http", skip_instance_cache=True).find(url)) < len(FILES)
    with pytest.raises(ListingBroken):
        list(opened(url).entries())


def test_a_server_that_fails_twice_is_asked_again(web: Any) -> None:
    """Within the written limit."""
    storage = opened(web(Broken))
    Broken.failures = 2
    storage.check(write=False)
    Broken.failures = 0


def test_places_that_are_not_there(tmp_path: Path, web: Any) -> None:
    """An archive, a directory of a web server, a server."""
    for url in (f"zip://::file://{tmp_path}/none.zip", f"{web()}/nothing"):
        with pytest.raises(ContainerMissing):
            opened(url).check(write=False)
    with pytest.raises(Unreachable):
        opened("http://127.0.0.1:9/").check(write=False)
    (tmp_path / "damaged.zip").write_bytes(b"PK but not really")
    with pytest.raises(Corrupt):
        opened(f"zip://::file://{tmp_path}/damaged.zip").check(write=False)
    for settings in ({}, {"url": ""}, {"url": "memory://", "options": "none"}):
        with pytest.raises(ConfigError):
            open_storage(Opening("place", "", b"", settings, lambda _: None))


def test_a_damaged_member_is_no_object(tree: Path) -> None:
    """The archive's own checksum catches a flipped bit."""
    archive = tree.parent / "archive.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("k", b"some content that is stored")
    archive.write_bytes(archive.read_bytes().replace(b"content", b"cOntent"))
    with opened(f"zip://::file://{archive}") as storage:
        (entry,) = storage.entries()
        with pytest.raises(Corrupt) as caught:
            storage.read(entry)
        assert caught.value.key == b"k"


def test_an_object_store_loses_metadata_loudly(moto: S3Server) -> None:
    """Reading names the loss for each object; writing names each field."""
    storage = TestS3().on(moto, moto.bucket())
    written = put(storage, b"k", b"v", Metadata({"content-type": "text/plain"}, {"colour": "blue"}, {"team": "x"}))
    assert {loss.field for loss in written.losses} == {"content-type", "user.colour", "tag.team"}
    entry = storage.listed(b"k")
    assert entry is not None
    assert [loss.field for loss in storage.read(entry).info.losses] == ["metadata"]
    assert not storage.capabilities.metadata_in_manifest


def test_a_key_that_s3fs_takes_for_a_version(moto: S3Server) -> None:
    """Is reported by a source and refused by a target: s3fs would read and write another object."""
    bucket = moto.bucket()
    for key in ("q", "q?versionId=abc"):
        moto.client().put_object(Bucket=bucket, Key=key, Body=key.encode())
    storage = TestS3().on(moto, bucket)
    found = {entry.key: entry for entry in storage.entries()}
    assert found[b"q"].problem == ""
    assert "exactly" in found[b"q?versionId=abc"].problem
    with pytest.raises(Refused):
        put(storage, b"q?versionId=abc", b"v")
    with pytest.raises(StorageError):
        storage.read(found[b"q?versionId=abc"])
    assert get(storage, b"q") == b"q"


def test_torture_keys_of_an_s3_source(moto: S3Server) -> None:
    """What s3fs lists is read exactly, though no such key is accepted for writing."""
    bucket = moto.bucket()
    keys = [
        "a//b",
        "a/b",
        "/lead",
        "dir/",
        "end//",
        "./x",
        "a/../b",
        "back\\slash",
        " sp",
        "[x]",
        "*",
        "a::b",
        "tab\tkey",
    ]
    for key in keys:
        moto.client().put_object(Bucket=bucket, Key=key, Body=b"content of " + key.encode())
    storage = TestS3().on(moto, bucket)
    found = {entry.key: entry for entry in storage.entries()}
    assert {key.decode() for key in found} == set(keys)
    for entry in found.values():
        assert entry.problem or storage.read(entry).data == b"content of " + entry.key


def test_below_a_prefix() -> None:
    """Keys are relative to it."""
    url = f"memory://{uuid.uuid4().hex}"
    with opened(url, b"p/q/") as below, opened(url) as above:
        put(below, b"k", b"v")
        assert names(below) == [b"k"]
        assert names(above) == [b"p/q/k"]
        assert below.place[0] == above.place[0]
        assert below.place[1].startswith(above.place[1])


def test_places_overlap_only_where_they_are_the_same() -> None:
    """Endpoints tell them apart, credentials do not; a file URL is the same place as its path."""
    one = opened("s3://b", key="a", secret="x", endpoint_url="http://one").place
    assert opened("s3://b", key="b", secret="y", endpoint_url="http://one").place == one
    assert opened("s3://b", key="a", secret="x", endpoint_url="http://two").place[0] != one[0]
    assert opened("file:///tmp/../tmp/x").place == ("file", os.path.realpath(b"/tmp") + b"/x/")


def test_secrets_do_not_show(moto: S3Server) -> None:
    """Neither in errors nor in their causes, reprs or places."""
    options = {"key": "someone", "secret": "hunter2hunter2", "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    storage = opened("s3://bucket", **options)
    with pytest.raises(StorageError) as caught:
        storage.check(write=False)
    web = opened("http://user:hunter2hunter2@127.0.0.1:9/x?sig=hunter2hunter2")
    with pytest.raises(StorageError) as other:
        web.check(write=False)
    shown = [repr(storage), repr(storage.__dict__), str(storage.place), repr(web.__dict__), str(web.place[0])]
    for error in (caught.value, other.value):
        assert error.__suppress_context__
        shown += [str(error), repr(error), repr(error.__cause__)]
    assert not [text for text in shown if "hunter2" in text]


class Vendor(Exception):
    """As botocore, aiohttp and azure shape theirs."""

    def __init__(self, **fields: Any) -> None:
        super().__init__("https://host/?signature=hunter2")
        self.__dict__.update(fields)


def boto(status: int, code: str) -> dict[str, Any]:
    return {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FileNotFoundError("x"), NotFound),
        (PermissionError("x"), AccessDenied),
        (OSError(28, "No space left on device"), PlaceFull),
        (OSError(36, "File name too long"), Refused),
        (OSError(5, "Input/output error"), StorageError),
        (TimeoutError(), Unreachable),
        (ConnectionResetError(), Unreachable),
        (Vendor(response=boto(503, "SlowDown")), Throttled),
        (Vendor(response=boto(403, "AccessDenied")), AccessDenied),
        (Vendor(response=boto(404, "NoSuchKey")), NotFound),
        (Vendor(response=boto(400, "KeyTooLongError")), Refused),
        (Vendor(status=502), Unreachable),
        (Vendor(status=507), PlaceFull),
        (Vendor(status_code=401), AccessDenied),
        (zipfile.BadZipFile("x"), Corrupt),
        (NotImplementedError(), Refused),
        (ImportError(name="paramiko"), ConfigError),
        (RuntimeError("?"), StorageError),
    ],
)
def test_what_backends_raise(raised: Exception, expected: type[PortablError]) -> None:
    """Each becomes one of ours, with the key and without the vendor's text."""
    from portabl_adapters.fsspec_errors import translated

    error = translated(raised, b"k", "place")
    assert type(error) is expected
    assert error.key == b"k"
    assert "hunter2" not in str(error)


def test_a_file_that_grows_under_a_reader(tmp_path: Path) -> None:
    """Is not the one that was listed."""
    (tmp_path / "k").write_bytes(b"old")
    with opened(f"file://{tmp_path}") as storage:
        (entry,) = storage.entries()
        (tmp_path / "k").write_bytes(b"newer")
        with pytest.raises(Changed):
            storage.read(entry)
        with pytest.raises(NotFound):
            storage.read(Entry(b"gone", 3))


def test_a_file_waiting_for_its_rename_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run that writes it; one that a killed run left is listed, never hidden."""
    from fsspec.implementations.local import LocalFileSystem

    real, seen = LocalFileSystem.mv, []
    with opened(f"file://{tmp_path}") as storage:

        def watched(self: Any, *args: Any, **options: Any) -> Any:
            seen.append((len(os.listdir(tmp_path)), names(storage)))
            return real(self, *args, **options)

        monkeypatch.setattr(LocalFileSystem, "mv", watched)
        put(storage, b"k", b"v")
        assert seen == [(1, [])]
        (tmp_path / ".portabl-0123456789abcdef.part").write_bytes(b"left")
        assert sorted(names(storage)) == [b".portabl-0123456789abcdef.part", b"k"]
